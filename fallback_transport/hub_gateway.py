"""The gateways in front of `eventlet.wsgi`: session requests never pay for WSGI.

What is plainly a session request is answered from callbacks on the hub; a held poll is an
entry in a table. Whatever is not, or is in any way unusual, is handed over whole to
`eventlet.wsgi`, and there to the same gateways: it is refused there, if it is to be refused.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from .admission import Unproven
from .answers import encoded
from .drivers import HELLO_WAIT, CallbackDriver
from .gateway import Gateway, Nearness
from .heads import AMBIGUOUS, HEAD_END, read_head
from .polling import Answer, HeldPoll
from .protocol.codec import END_MARK
from .protocol.envelope import Hello
from .request import plain_request
from .runtime import Deadlines, Runtime, Stream
from .websocket import SUBPROTOCOL, BadHandshake, WebSocketConnection, handshake

#: A longer head is none of ours: `eventlet.wsgi` has bounds of its own.
MAX_HEAD = 16_384
#: Seconds for the whole of a head, from its first byte.
HEAD_WAIT = 10.0
#: Seconds for each so many bytes of a body, or its rest; a telephone in a tunnel is slow.
BODY_WAIT = 30.0
BODY_STEP = 16_384
#: How many heads may be unfinished, in all and from one address; beyond, the oldest of the
#: address that has the most is closed.
MAX_UNFINISHED = 1000
MAX_UNFINISHED_PER_ADDRESS = 200
#: How many heads are remembered with what they mean, and how long: browsers repeat theirs to
#: the byte, but for the length. A MB at most.
REMEMBERED = 512
MAX_REMEMBERED = 2048

_LINE = re.compile(rb"(?:(POST)|GET) ((?:/[!-~]*)?/(?(1)poll|ws)) HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]{1,12})\r\n")
_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a session request.

    Args:
        gateway: whose door it is for.
        place: the path that the door is in.
        below: whether that is below a mount, so that a poll's body has to show whose it is.
        environ: as WSGI has it, but for the addresses.
        origin: the request's, which is allowed; "" if it states none.
        trusted: see `plain_request`.
        readable: what lets a page of another origin read the answer.
        gzip: whether that may be compressed.
    """

    gateway: Gateway
    place: str
    below: bool
    environ: dict[str, Any]
    origin: str
    trusted: bool
    readable: tuple[tuple[str, str], ...]
    gzip: bool


class HubGateway:
    """Serves the session requests of accepted connections.

    Args:
        gateways: what serves them over WSGI, in that order.
        fix: does to an environ what stands in front of them there.
        runtime: eventlet's.
    """

    def __init__(
        self,
        gateways: Sequence[Gateway],
        fix: Callable[[dict[str, Any]], object] | None,
        runtime: Runtime,
    ) -> None:
        self._gateways = gateways
        self._fix = fix
        self._hub = runtime.hub
        self._heads: dict[bytes, Head] = {}
        self._date = (0, "")
        self._held: dict[float, Deadlines[HubPoll]] = {}
        self._unproven = Unproven[HubConnection](MAX_UNFINISHED, MAX_UNFINISHED_PER_ADDRESS)
        self.unfinished = Deadlines[HubConnection](self._hub, HEAD_WAIT, HubConnection.late)
        self.bodies = Deadlines[HubConnection](self._hub, BODY_WAIT, HubConnection.late)
        self.ungreeted = Deadlines[CallbackDriver](self._hub, HELLO_WAIT, CallbackDriver.impatient)

    def __call__(self, stream: Stream) -> None:
        """Serve a connection."""
        HubConnection(self, stream)

    def may_be_ours(self, begin: bytes) -> bool:
        """Whether a request that begins so may be for one of the doors."""
        if b"\n" in begin:
            line = _LINE.match(begin)
            return line is not None and self._door(line[2].decode("ascii")) is not None
        # Of a door elsewhere not even the path is of interest.
        method, _, path = begin.partition(b" ")
        if not path:
            return b"POST ".startswith(begin) or b"GET ".startswith(begin)
        return method in (b"POST", b"GET") and self._leads(path)

    def _leads(self, path: bytes) -> bool:
        """Whether a path that begins so may lead to a mount."""
        for gateway in self._gateways:
            for mount in gateway.mounts:
                place = mount.rstrip("/").encode("latin-1", "replace") + b"/"
                if path.startswith(place) or place.startswith(path):
                    return True
        return False

    def _door(self, path: str) -> tuple[Gateway, str, bool] | None:
        """The gateway of the door, the path that the door is in, and whether below a mount."""
        if any(gateway.is_beside(path) for gateway in self._gateways):
            return None
        place = path.rpartition("/")[0]
        for gateway in self._gateways:
            near = gateway.nearness(place)
            if near is not Nearness.ELSEWHERE:
                return gateway, place, near is Nearness.BELOW
        return None

    def head(self, text: bytes) -> tuple[Head, int] | None:
        """A session request's head, and its body's length; None if it is not plainly one."""
        stated = _LENGTH.search(text)
        if stated is None or len(text) > MAX_REMEMBERED:
            # Also a handshake, which has a key of its own.
            head = self._read(text)
            length = 0 if head is None else int(head.environ.get("CONTENT_LENGTH", 0))
        else:
            key = text[: stated.start(1)] + text[stated.end(1) :]
            head, length = self._heads.get(key), int(stated[1])
            if head is None:
                head = self._read(text)
                if head is None:
                    return None
                if len(self._heads) >= REMEMBERED:
                    self._heads.clear()
                self._heads[key] = head
        if head is None or length > head.gateway.registry.grant.body:
            return None
        return head, length

    def _read(self, text: bytes) -> Head | None:
        environ = read_head(text) if self.may_be_ours(text) else None
        if environ is None:
            return None
        door = self._door(environ["PATH_INFO"])
        if door is None:
            return None
        gateway, place, below = door
        name = environ["PATH_INFO"].rpartition("/")[2]
        asked = environ["REQUEST_METHOD"], name, "CONTENT_LENGTH" in environ
        if asked == ("GET", "ws", False):
            said = SUBPROTOCOL in environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", "")
            fits = said or not below
        else:
            kept = environ.get("HTTP_CONNECTION", "keep-alive").lower() == "keep-alive"
            fits = asked == ("POST", "poll", True) and kept
        seen = self._fixed(dict(environ))
        origin = gateway.origins.of(seen, told=False) if fits else None
        if origin is None:
            return None
        return Head(
            gateway,
            place,
            below,
            environ,
            origin,
            gateway.origins.trusts(seen),
            gateway.origins.readable(seen),
            "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""),
        )

    def _fixed(self, environ: dict[str, Any]) -> dict[str, Any]:
        if self._fix is not None:
            self._fix(environ)
        return environ

    def environ(self, head: Head, stream: Stream) -> dict[str, Any]:
        """A request's environ, as the gateway would see it behind WSGI."""
        host, port = stream.own_address
        peer = stream.address
        return self._fixed(
            {
                **head.environ,
                "SERVER_NAME": host,
                "SERVER_PORT": port,
                "REMOTE_ADDR": str(peer[0]),
                "REMOTE_PORT": str(peer[1]),
            }
        )

    def response(self, answer: Answer, head: Head) -> bytes:
        """An answer to a request, as bytes."""
        headers, body = encoded(answer, head.gzip)
        lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in (*headers, *head.readable)]
        lines.append(f"Date: {self._now()}\r\n\r\n")
        return "\r\n".join(lines).encode("latin-1") + body

    def _now(self) -> str:
        second = int(time.time())
        if self._date[0] != second:
            self._date = second, formatdate(second, usegmt=True)
        return self._date[1]

    def held(self, patience: float) -> Deadlines[HubPoll]:
        """The polls that are held for so long: a hello's, or a poll's own."""
        if patience not in self._held:
            self._held[patience] = Deadlines[HubPoll](self._hub, patience, HubPoll.late)
        return self._held[patience]

    def begun(self, connection: HubConnection, address: str) -> None:
        """A head is unfinished; it has its time, and there are only so many."""
        crowd = self._unproven.obstacle(address)
        if crowd is not None:
            crowd.late()
        self._unproven.add(address, str(id(connection)), connection)
        self.unfinished.start(connection)

    def finished(self, connection: HubConnection) -> None:
        """Its head is whole, or of no interest any more."""
        self._unproven.remove(str(id(connection)))
        self.unfinished.stop(connection)


class HubConnection:
    """One HTTP connection, from request to request, until it changes hands.

    Args:
        hub: the gateways.
        stream: the accepted connection.
    """

    __slots__ = (
        "_begun",
        "_body",
        "_buffer",
        "_busy",
        "_due",
        "_ended",
        "_head",
        "_hub",
        "_size",
        "_stream",
        "_taking",
        "_waits",
        "_weighs",
    )

    def __init__(self, hub: HubGateway, stream: Stream) -> None:
        self._hub = hub
        self._stream = stream
        self._buffer: bytes | bytearray = b""
        self._head: Head | None = None
        #: Where the body of that begins, and the bytes of the whole request.
        self._body = self._size = 0
        #: How much of it is to be there in time.
        self._due = 0
        #: Whether a head is unfinished; whether a request is being answered.
        self._begun = False
        self._busy = False
        #: Whether the last answer is to be gone before the next request is taken.
        self._waits = False
        self._taking = False
        self._ended = False
        self._weighs: tuple[Callable[[int], None], int] | None = None
        stream.received = self._received
        stream.drained = self._drained

    def late(self) -> None:
        """The rest of a request has not come in its time."""
        self._stream.send(_TOO_LATE)
        self._stream.close()

    # -- requests ----------------------------------------------------------------

    def _received(self, data: bytes) -> None:
        if not data:
            self._ended = True
            if not self._busy:
                self._finish()
            return
        self._append(data)
        if not self._busy:
            self._take()
        elif len(self._buffer) > MAX_HEAD:
            # It goes on without waiting for the answer; no more of that.
            self._stream.pause()

    def _append(self, data: bytes) -> None:
        if not self._buffer:
            self._buffer = data
        else:
            if type(self._buffer) is bytes:
                self._buffer = bytearray(self._buffer)
            self._buffer += data

    def _finish(self) -> None:
        """Nothing more comes."""
        if self._buffer:
            # Cut short: `eventlet.wsgi` has the answer to that.
            self._hand_over()
        else:
            self._stream.close()

    def _take(self) -> None:
        """Serve what is there, as far as it is there."""
        if self._taking:
            return
        self._taking = True
        try:
            while self._buffer and not self._busy and not self._stream.closed:
                if not self._one():
                    break
        finally:
            self._taking = False
        if self._stream.closed or self._busy:
            return
        if self._ended:
            self._finish()
        else:
            self._stream.resume()

    def _one(self) -> bool:
        """Serve one request; whether it was there, and there may be another one."""
        if self._head is None and not self._find_head():
            return False
        head = self._head
        assert head is not None, "found"
        if self._size - len(self._buffer) > BODY_STEP:
            # There is nothing to take apart before all of it is there.
            self._append(self._stream.read(self._size - len(self._buffer)))
        if len(self._buffer) < self._size:
            if len(self._buffer) >= self._due:
                self._due = len(self._buffer) + BODY_STEP
                self._hub.bodies.start(self)
            return False
        self._due = 0
        self._hub.bodies.stop(self)
        whole, self._buffer = self._buffer, self._buffer[self._size :]
        self._head = None
        if head.environ["REQUEST_METHOD"] == "GET":
            if not self._websocket(head):
                self._buffer = whole
                self._hand_over()
            return False
        # Copied once: it may be large.
        body = bytes(memoryview(whole)[self._body : self._size])
        if head.below and not body.endswith(END_MARK.encode()):
            # The application's own.
            self._buffer = whole
            self._hand_over()
            return False
        self._poll(head, body)
        return True

    def _find_head(self) -> bool:
        """Whether a session request's head is there; if there never will be, it is handed over."""
        buffer = bytes(self._buffer[: MAX_HEAD + 1])
        end = buffer.find(HEAD_END) + len(HEAD_END)
        if end >= len(HEAD_END):
            found = self._hub.head(buffer[:end])
            if found is not None:
                self._whole_head()
                self._head, length = found
                self._body, self._size = end, end + length
                return True
        elif (
            len(buffer) <= MAX_HEAD
            and self._hub.may_be_ours(buffer)
            # A line feed may still follow.
            and not AMBIGUOUS.search(buffer.removesuffix(b"\r"))
        ):
            if not self._begun:
                self._begun = True
                self._hub.begun(self, str(self._stream.address[0]))
            return False
        self._hand_over()
        return False

    def _whole_head(self) -> None:
        if self._begun:
            self._begun = False
            self._hub.finished(self)

    def _hand_over(self) -> None:
        self._leave()
        buffer, self._buffer = bytes(self._buffer), b""
        self._stream.hand_over(buffer)

    def _leave(self) -> None:
        self._whole_head()
        self._hub.bodies.stop(self)

    # -- polling -----------------------------------------------------------------

    def _poll(self, head: Head, body: bytes) -> None:
        gateway = head.gateway
        environ = self._hub.environ(head, self._stream)

        def request(hello: Hello) -> dict[str, Any]:
            return plain_request(environ, head.place, hello, gateway.extra, trusted=head.trusted)

        self._busy = True
        poll = HubPoll(self, head)
        taken = gateway.door.take(
            body, request, head.origin, poll.answered, gateway.address(environ)
        )
        if isinstance(taken, HeldPoll):
            poll.hold(taken, self._hub.held(taken.patience))
        else:
            self.answer(taken, head)

    def answer(self, answer: Answer, head: Head) -> None:
        """Answer the request that was taken, and go on with the next."""
        stream = self._stream
        self._busy = False
        if stream.closed:
            return
        stream.queue(self._hub.response(answer, head))
        if stream.pending:
            # One answer at a time: the next request has its turn when this one's has gone.
            self._busy = self._waits = True
            if answer.weighs is not None:
                # What waits for the peer counts for its session.
                self._weighs = answer.weighs, stream.pending
                answer.weighs(stream.pending)
            return
        self._take()

    def _drained(self) -> None:
        """The answer has gone, or the stream."""
        if self._weighs is not None:
            weighs, size = self._weighs
            self._weighs = None
            weighs(-size)
        if self._stream.closed:
            self._leave()
            return
        if self._waits:
            self._busy = self._waits = False
            self._take()

    # -- WebSocket ---------------------------------------------------------------

    def _websocket(self, head: Head) -> bool:
        """Whether the connection is a WebSocket from now on; if not, WSGI has the answer."""
        gateway, stream = head.gateway, self._stream
        environ = self._hub.environ(head, stream)
        try:
            opening = handshake(environ)
        except BadHandshake:
            return False
        address = gateway.address(environ)
        key = gateway.admit(address)
        if key is None:
            return False

        def request(hello: Hello) -> dict[str, Any]:
            return plain_request(environ, head.place, hello, gateway.extra, trusted=head.trusted)

        def greeted() -> None:
            gateway.greeted(key)
            # Which is all that was to be told: this function is not kept.
            driver.gone = _nothing

        # It is no HTTP connection any more.
        self._busy = True
        rest, self._buffer = bytes(self._buffer), b""
        driver = CallbackDriver(stream, gateway.runtime, self._hub.ungreeted, greeted)
        driver.connection = WebSocketConnection(
            gateway.registry,
            request,
            head.origin,
            driver.wake,
            driver.closing,
            address=address,
            greeted=greeted,
        )
        driver.start(opening)
        if rest:
            stream.feed(rest)
        if self._ended:
            stream.feed(b"")
        return True


def _nothing() -> None:
    """It was told before."""


class HubPoll:
    """A request that may be held, and its connection."""

    __slots__ = ("_connection", "_head", "_held", "_table", "_told")

    def __init__(self, connection: HubConnection, head: Head) -> None:
        self._connection = connection
        self._head = head
        self._held: HeldPoll | None = None
        self._table: Deadlines[HubPoll] | None = None
        self._told = False

    def hold(self, held: HeldPoll, table: Deadlines[HubPoll]) -> None:
        """It is held, in `table`, for the time that it may be."""
        self._held = held
        self._table = table
        table.start(self)
        if held.answer is not None:
            self.answered()

    def answered(self) -> None:
        """Called once it has its answer, under its session's lock."""
        if self._held is not None and not self._told:
            self._told = True
            self._head.gateway.runtime.at_end_of_turn(self._answer)

    def late(self) -> None:
        """It was held for as long as may be."""
        assert self._held is not None, "it was in the table"
        self._held.settle()

    def _answer(self) -> None:
        held, table = self._held, self._table
        assert held is not None, "told"
        assert held.answer is not None, "told of it"
        assert table is not None, "held"
        table.stop(self)
        self._head.gateway.door.left()
        self._connection.answer(held.answer, self._head)
