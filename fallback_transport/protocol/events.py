"""What a session machine reports to the layer above, one frozen class each.

What there is one of for each message or request, here and elsewhere, is a named tuple: it takes
two thirds of the time to make that a frozen dataclass does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from .message import Item


class Transport(Enum):
    """The kind of carrying mechanism."""

    WEBSOCKET = "websocket"
    POLLING = "polling"


#: See `state.CLOSED`.
WEBSOCKET: Final = Transport.WEBSOCKET
POLLING: Final = Transport.POLLING


class MessageReceived(NamedTuple):
    """A message, in order, for the first and only time. Call `handled(seq)` after its handler."""

    seq: int
    data: str | bytes


@dataclass(frozen=True, slots=True)
class CloseReceived:
    """The peer closed the session, behind its messages. Call `handled(seq)` when it is told."""

    seq: int
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Switched:
    """Another connection carries the session from now on."""

    attempt: int
    transport: Transport


@dataclass(frozen=True, slots=True)
class Answered:
    """The peer answered what was asked on a connection, after so many seconds."""

    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ConnectionDropped:
    """A connection no longer belongs to the session: close it with this code."""

    attempt: int
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The session is over. `unconfirmed` may have been handled by the peer, or not."""

    code: int
    reason: str
    unconfirmed: tuple[Item, ...]


Event = MessageReceived | CloseReceived | Switched | Answered | ConnectionDropped | SessionClosed
