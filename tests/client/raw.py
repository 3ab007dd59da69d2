"""Single requests and single WebSocket messages: what no sane client sends, too."""

from __future__ import annotations

import gzip
import http.client
import itertools
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message as Headers
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from fallback_transport.protocol import codec
from fallback_transport.protocol.envelope import End, Envelope, Hello, PollRequest, Unit, Welcome
from fallback_transport.protocol.errors import MalformedEnvelope
from fallback_transport.protocol.message import Message

from .packets import CONNECT, Packet, encode

#: Seconds within which a loopback answer is there, on a busy machine.
TIMEOUT = 15.0


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request; `unit` is None where the body is no envelope."""

    status: int
    headers: Headers
    body: bytes
    unit: Unit | None

    def envelope(self) -> Envelope:
        """The envelope that it must be."""
        assert isinstance(self.unit, Envelope), self
        return self.unit

    def welcome(self) -> Welcome:
        """The welcome that it must be."""
        assert isinstance(self.unit, Welcome), self
        return self.unit

    def end(self) -> End:
        """The end that it must be."""
        assert isinstance(self.unit, End), self
        return self.unit


def read_reply(response: http.client.HTTPResponse) -> Reply:
    """An answer at the polling door, or somebody else's on the way there."""
    body = response.read()
    if response.headers["Content-Encoding"] == "gzip":
        body = gzip.decompress(body)
    try:
        unit = codec.decode_body(body)
    except MalformedEnvelope:
        return Reply(response.status, response.headers, body, None)
    return Reply(response.status, response.headers, body, unit)


def post(
    port: int,
    content: Unit | bytes,
    headers: Mapping[str, str] | None = None,
    *,
    path: str = "/fallback/poll",
    method: str = "POST",
    timeout: float = TIMEOUT,
) -> Reply:
    """One request to the polling door, on a connection of its own, without a proxy."""
    body = content if isinstance(content, bytes) else codec.encode_body(content)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, polling_headers(headers))
        reply = read_reply(connection.getresponse())
    finally:
        connection.close()
    # As every answer of ours must have.
    assert reply.headers["Cache-Control"] == "no-store", reply
    assert reply.headers["X-Content-Type-Options"] == "nosniff", reply
    return reply


def polling_headers(headers: Mapping[str, str] | None = None) -> dict[str, str]:
    """What every polling request has, and more."""
    return {"Content-Type": "text/plain;charset=UTF-8", **(headers or {})}


def new_nonce() -> str:
    """128 random bits."""
    return secrets.token_urlsafe(16)


def connect_message(auth: Any = None) -> Message:
    """The first message of a session."""
    return Message(encode(Packet(CONNECT, auth))[0])


def new_hello(auth: Any = None, *, nonce: str | None = None, attempt: int = 1) -> Hello:
    """The hello of a new session."""
    first = Envelope(seq=1, messages=(connect_message(auth),))
    return Hello(attempt, nonce=nonce or new_nonce(), envelope=first)


def event(name: str, *data: Any, id: int | None = None) -> Message:
    """An event without bytes, as a message."""
    return Message(json_packet(2, [name, *data], id))


def json_packet(kind: int, data: Any, id: int | None = None) -> str:
    """A packet's text."""
    number = "" if id is None else id
    return f"{kind}{number}{json.dumps(data, separators=(',', ':'))}"


def texts(envelope: Envelope) -> list[str]:
    """The texts that an envelope carries."""
    return [str(m.data) for m in envelope.messages if isinstance(m, Message)]


@dataclass
class RawPolling:
    """A committed run of polls, request by request.

    Sending and receiving marks are kept here, so that a request may be made
    again as it was, or with other numbers.
    """

    port: int
    welcome: Welcome
    attempt: int = 1
    commit: int | None = 1
    sent: int = 1
    received: int = 0
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @classmethod
    def open(
        cls,
        port: int,
        auth: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        hello: Hello | None = None,
    ) -> RawPolling:
        """Say hello, commit, and wait for the session's CONNECT."""
        hello = hello or new_hello(auth)
        reply = post(port, hello, headers)
        polling = cls(port, reply.welcome(), hello.attempt)
        polling.take(polling.welcome.envelope)
        # Also where CONNECT came with the welcome: it is the first poll that commits.
        polling.poll(0.0)
        while polling.received == 0:
            polling.poll(5.0)
        return polling

    @property
    def id(self) -> str:
        """The session's."""
        return self.welcome.id

    @property
    def key(self) -> str:
        """The session's."""
        assert self.welcome.key is not None
        return self.welcome.key

    def take(self, envelope: Envelope) -> list[str]:
        """Take an answer's messages, as far as they are new."""
        if envelope.seq is None:
            return []
        fresh = [m for n, m in enumerate(envelope.messages, envelope.seq) if n > self.received]
        self.received += len(fresh)
        return [str(m.data) if isinstance(m, Message) else m.segment for m in fresh]

    def marks(self) -> Envelope:
        """An envelope with nothing but the marks and the commit."""
        return Envelope(ack=self.received, received=self.received, commit=self.commit)

    def waiting(self, wait: float, *, limit: int | None = None) -> PollRequest:
        """The next waiting request."""
        number = next(self.numbers)
        return PollRequest(self.id, self.key, self.attempt, number, wait, limit, self.marks())

    def sending(self, messages: Iterable[Message]) -> PollRequest:
        """The next sending request, with the next messages."""
        items = tuple(messages)
        envelope = self.marks()._replace(seq=self.sent + 1 if items else None, messages=items)
        self.sent += len(items)
        return PollRequest(self.id, self.key, self.attempt, next(self.numbers), envelope=envelope)

    def poll(self, wait: float, *, limit: int | None = None) -> list[str]:
        """Wait for messages, and take them."""
        return self.take(post(self.port, self.waiting(wait, limit=limit)).envelope())

    def send(self, *messages: Message) -> Reply:
        """Send messages."""
        return post(self.port, self.sending(messages))

    def until(self, count: int) -> list[str]:
        """The next `count` messages, or more."""
        found: list[str] = []
        while len(found) < count:
            fresh = self.poll(TIMEOUT)
            assert fresh, f"{len(found)} of {count} messages came: {found}"
            found += fresh
        return found


class RawWebSocket:
    """One WebSocket, message by message; `raw_websocket` makes one."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def send(self, unit: Unit) -> None:
        """Send a unit as the client does."""
        if isinstance(unit, Envelope):
            for frame in codec.encode_frames(unit):
                self.connection.send(frame)
        else:
            self.connection.send(codec.encode(unit))

    def receive(self, timeout: float = TIMEOUT) -> Unit:
        """The next unit.

        Raises:
            TimeoutError: none came in time.
            ConnectionClosed: the server closed.
        """
        data = self.connection.recv(timeout)
        return codec.decode(data) if isinstance(data, str) else codec.decode_binary(data)

    def envelope(self) -> Envelope:
        """The next unit, an envelope."""
        unit = self.receive()
        assert isinstance(unit, Envelope), unit
        return unit

    def until_messages(self, count: int) -> list[str]:
        """The texts of the next envelopes, at least `count`."""
        found: list[str] = []
        while len(found) < count:
            found += texts(self.envelope())
        return found

    def greet(self, hello: Hello) -> Welcome:
        """Say hello; the welcome."""
        self.send(hello)
        welcome = self.receive()
        assert isinstance(welcome, Welcome), welcome
        return welcome

    def open(self, auth: Any = None) -> Welcome:
        """Say hello, commit, and wait for the session's CONNECT, which is acknowledged."""
        welcome = self.greet(new_hello(auth))
        self.send(Envelope(commit=1))
        self.until_messages(1)
        self.send(Envelope(ack=1, received=1))
        return welcome

    def ended(self) -> tuple[End | None, int, str]:
        """Read until the server closes: the end that it sent, its close code and reason."""
        end: End | None = None
        try:
            while True:
                unit = self.receive()
                end = unit if isinstance(unit, End) else end
        except ConnectionClosed:
            # 1006 if the stream ended without a close.
            return end, self.connection.close_code or 0, self.connection.close_reason or ""


def websocket_connection(
    port: int,
    headers: Mapping[str, str] | None = None,
    *,
    path: str = "/fallback/ws",
    subprotocol: str | None = "fallback.v1",
) -> ClientConnection:
    """A WebSocket to the server, on which nothing was said yet; the caller closes it."""
    opened = connect(
        f"ws://127.0.0.1:{port}{path}",
        subprotocols=None if subprotocol is None else [Subprotocol(subprotocol)],
        additional_headers=dict(headers or {}),
        compression=None,
        ping_interval=None,
        max_size=None,
        proxy=None,
        open_timeout=TIMEOUT,
        close_timeout=2,
    )
    # `websockets` 17 wants it used as a context manager.
    return opened.__enter__()


@contextmanager
def raw_websocket(
    port: int,
    headers: Mapping[str, str] | None = None,
    *,
    path: str = "/fallback/ws",
    subprotocol: str | None = "fallback.v1",
) -> Iterator[RawWebSocket]:
    """A WebSocket for a `with` statement."""
    connection = websocket_connection(port, headers, path=path, subprotocol=subprotocol)
    try:
        yield RawWebSocket(connection)
    finally:
        connection.close()
