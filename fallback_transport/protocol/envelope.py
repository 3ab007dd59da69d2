"""What goes over the wire: envelopes, hellos, welcomes, ends, polls.

All are frozen and valid by construction. ``codec.py`` turns them into bytes
and back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .errors import MalformedEnvelope
from .message import Carried


class _Envelope(NamedTuple):
    ack: int
    received: int
    seq: int | None
    messages: tuple[Carried, ...]
    commit: int | None
    key: str | None
    ask: int | None
    answer: int | None
    got: int


class Envelope(_Envelope):
    """The wire unit on both transports.

    A tuple, because one is made for each message on a quiet session: a frozen dataclass of nine
    fields takes four times as long to make.

    Args:
        ack: the highest message of the other direction that was handled.
        received: the highest that was received; at least `ack`.
        seq: the number of the first message; None if there are no messages.
        messages: the messages, in order.
        commit: the client's counter: from now on this connection carries the session.
        key: proves a commit on a connection whose welcome yielded no key.
        ask: a number that the peer answers at once: is this connection alive?
        answer: the number that the peer asked.
        got: how many units of message `received` + 1 have come, in parts.

    Raises:
        MalformedEnvelope: they do not go together.
    """

    __slots__ = ()

    def __new__(
        cls,
        ack: int = 0,
        received: int = 0,
        seq: int | None = None,
        messages: tuple[Carried, ...] = (),
        commit: int | None = None,
        key: str | None = None,
        ask: int | None = None,
        answer: int | None = None,
        got: int = 0,
    ) -> Envelope:
        if (seq is None) != (not messages):
            raise MalformedEnvelope("messages are numbered, and only messages are")
        if received < ack:
            raise MalformedEnvelope("handled more than was received")
        if seq == 0:
            raise MalformedEnvelope("messages are numbered from 1")
        fields = (ack, received, seq, messages, commit, key, ask, answer, got)
        return tuple.__new__(cls, fields)


@dataclass(frozen=True, slots=True)
class Hello:
    """The first text of a connection, from the client.

    A new session has a `nonce` (or None where no good random source is to be
    had) and no `id`; a resume has `id`, `key` and its marks in `envelope`.
    """

    attempt: int
    nonce: str | None = None
    id: str | None = None
    key: str | None = None
    client: tuple[tuple[str, str], ...] = ()
    envelope: Envelope = field(default_factory=Envelope)

    @property
    def url(self) -> str:
        """Path and query of what the page connects to, "" if it does not say."""
        return dict(self.client).get("url", "")

    @property
    def protocols(self) -> list[str]:
        """The subprotocols that the page offers, the one that it likes best first."""
        offered = dict(self.client).get("protocols", "")
        return [name.strip() for name in offered.split(",")] if offered else []


@dataclass(frozen=True, slots=True)
class Grant:
    """What the server allows one session, and the times that it keeps.

    Args:
        messages, bytes: the credit: how much may be sent and not yet handled.
        message: the largest single message, in bytes.
        body: the largest envelope, in bytes, on either transport.
        wait, keepalive, inactivity: seconds; on the wire, milliseconds.
    """

    messages: int = 1000
    bytes: int = 4_000_000
    message: int = 16_000_000
    body: int = 1_000_000
    wait: float = 25.0
    keepalive: float = 25.0
    inactivity: float = 120.0


@dataclass(frozen=True, slots=True)
class Welcome:
    """The server's answer to a hello: the proof that the connection works both ways.

    `key` is None where the client has it already, or must prove that it does.
    `protocol` is the subprotocol chosen for a new session, "" if there is none.
    """

    id: str
    attempt: int
    key: str | None = None
    grant: Grant = field(default_factory=Grant)
    envelope: Envelope = field(default_factory=Envelope)
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """The end of a connection, or (`session`) of the session, outside the numbering."""

    code: int
    reason: str = ""
    session: bool = False
    ack: int = 0
    received: int = 0


class PollRequest(NamedTuple):
    """One request of a polling connection.

    With `wait` (seconds) it is the *waiting* request: the server may hold it
    so long, and answers with at most `limit` bytes of messages. Without, it is
    a *sending* request, answered at once.
    """

    id: str
    key: str
    attempt: int
    number: int
    wait: float | None = None
    limit: int | None = None
    envelope: Envelope = Envelope()


Unit = Hello | Welcome | End | PollRequest | Envelope
