"""The gateways in front of `eventlet.wsgi`: session requests never pay for WSGI.

What is plainly a session request is answered from callbacks on the hub; a held poll is an
entry in a table. Whatever is not, or is in any way unusual, is handed over whole to
`eventlet.wsgi`, and there to the same gateways: it is refused there, if it is to be refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from .admission import Unproven
from .answers import COMPRESS_FROM, PLAIN, Answer, encoded
from .drivers import HELLO_WAIT, CallbackDriver
from .gateway import Gateway
from .handshake import BadHandshake, handshake
from .heads import AMBIGUOUS, HEAD_END
from .polling import HeldPoll
from .protocol.codec import END_MARK
from .protocol.envelope import Hello
from .request import plain_request
from .runtime import CLIENT_WAIT, Deadlines, Runtime, Stream
from .session_heads import REMEMBERED, Head, SessionHeads
from .websocket import WebSocketConnection

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

_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


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
        self.heads = SessionHeads(gateways, fix)
        self._hub = runtime.hub
        self._date = (0, "")
        #: See `_begin`.
        self._begins: dict[tuple[tuple[str, str], ...], bytes] = {}
        self._held: dict[float, Deadlines[HubConnection]] = {}
        self._unproven = Unproven[HubConnection](MAX_UNFINISHED, MAX_UNFINISHED_PER_ADDRESS)
        self.unfinished = Deadlines[HubConnection](self._hub, HEAD_WAIT, HubConnection.late)
        self.bodies = Deadlines[HubConnection](self._hub, BODY_WAIT, HubConnection.late)
        self.idle = Deadlines[HubConnection](self._hub, CLIENT_WAIT, HubConnection.idle)
        self.ungreeted = Deadlines[CallbackDriver](self._hub, HELLO_WAIT, CallbackDriver.impatient)

    def __call__(self, stream: Stream) -> None:
        """Serve a connection."""
        HubConnection(self, stream)

    def response(self, answer: Answer, head: Head) -> bytes:
        """An answer to a request, as bytes."""
        if answer.status == 200 and not answer.headers:
            body = answer.body
            if not head.gzip or len(body) < COMPRESS_FROM:
                return b"%b%d\r\n\r\n%b" % (self._begin(head.readable), len(body), body)
        headers, body = encoded(answer, head.gzip)
        lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in (*headers, *head.readable)]
        lines.append(f"Date: {self._now()}\r\n\r\n")
        return "\r\n".join(lines).encode("latin-1") + body

    def _begin(self, readable: tuple[tuple[str, str], ...]) -> bytes:
        """What nearly every answer of this second begins with, up to its length."""
        now = self._now()
        begin = self._begins.get(readable)
        if begin is None:
            headers = [("Date", now), *PLAIN, *readable]
            lines = ["HTTP/1.1 200 OK", *[f"{name}: {value}" for name, value in headers]]
            begin = "\r\n".join([*lines, "Content-Length: "]).encode("latin-1")
            if len(self._begins) >= REMEMBERED:
                self._begins.clear()
            self._begins[readable] = begin
        return begin

    def _now(self) -> str:
        second = int(time.time())
        if self._date[0] != second:
            self._date = second, formatdate(second, usegmt=True)
            self._begins.clear()
        return self._date[1]

    def held(self, patience: float) -> Deadlines[HubConnection]:
        """The polls that are held for so long: a hello's, or a poll's own."""
        if patience not in self._held:
            self._held[patience] = Deadlines[HubConnection](
                self._hub, patience, HubConnection.overdue
            )
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
        "_asks",
        "_begun",
        "_body",
        "_buffer",
        "_busy",
        "_due",
        "_ended",
        "_head",
        "_held",
        "_hub",
        "_last",
        "_looked",
        "_size",
        "_stream",
        "_taking",
        "_unread",
        "_waits",
        "_weighs",
    )

    def __init__(self, hub: HubGateway, stream: Stream) -> None:
        self._hub = hub
        self._stream = stream
        self._buffer: bytes | bytearray = b""
        self._head: Head | None = None
        #: The one before: the next is mostly the same.
        self._last: Head | None = None
        #: That of the request which is being answered, and that one if it is held.
        self._asks: Head | None = None
        self._held: HeldPoll | None = None
        #: Where the body of `_head` begins, and the bytes of the whole request.
        self._body = self._size = 0
        #: How much of it is to be there in time.
        self._due = 0
        #: How much of an unfinished head was looked at: of what comes byte by byte, each once.
        self._looked = 0
        #: Whether a head is unfinished; whether a request is being answered.
        self._begun = False
        self._busy = False
        #: Whether the last answer is to be gone before the next request is taken.
        self._waits = False
        self._taking = False
        self._ended = False
        self._weighs: tuple[Callable[[int], None], int] | None = None
        #: How much waited for the peer when we last looked.
        self._unread = 0
        stream.received = self._received
        stream.drained = self._drained
        hub.idle.start(self)

    def late(self) -> None:
        """The rest of a request has not come in its time."""
        self._stream.send(_TOO_LATE)
        self._stream.close()

    def idle(self) -> None:
        """The client has asked for nothing in its time, and waits for nothing but to read."""
        unread = len(self._stream.rest)
        if unread and unread != self._unread:
            # It reads; or it may, as far as we have looked.
            self._unread = unread
            self._hub.idle.start(self)
        else:
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
            self._hub.idle.stop(self)
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
            return
        # The last answer may wait for the end of the turn.
        self._stream.send(b"")
        if self._stream.rest:
            self._busy = self._waits = True
            self._hub.idle.start(self)
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
            if not self._buffer:
                self._hub.idle.start(self)

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
        if self._due:
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
        size = self._size
        body = (
            whole[self._body : size]
            if type(whole) is bytes
            else bytes(memoryview(whole)[self._body : size])
        )
        if head.below and not body.endswith(END_MARK.encode()):
            # The application's own.
            self._buffer = whole
            self._hand_over()
            return False
        self._poll(head, body)
        return True

    def _find_head(self) -> bool:
        """Whether a session request's head is there; if there never will be, it is handed over."""
        last = self._last
        if last is not None and (again := last.again(self._buffer)) is not None:
            self._whole_head()
            self._head = last
            self._body, self._size = again
            return True
        buffer = bytes(self._buffer[: MAX_HEAD + 1])
        looked, self._looked = self._looked, len(buffer)
        end = buffer.find(HEAD_END, max(0, looked - 3)) + len(HEAD_END)
        if end >= len(HEAD_END):
            found = self._hub.heads.find(buffer[:end])
            if found is not None:
                self._whole_head()
                self._head, length = found
                self._last = self._head
                self._body, self._size = end, end + length
                return True
        elif (
            len(buffer) <= MAX_HEAD
            # Which its first line says.
            and (buffer.find(b"\n", 0, looked) >= 0 or self._hub.heads.may_be_ours(buffer))
            # A line feed may still follow. (Once it is whole, all of it is looked at again.)
            and not AMBIGUOUS.search(buffer.removesuffix(b"\r"), max(0, looked - 1))
        ):
            if not self._begun:
                self._begun = True
                self._hub.begun(self, str(self._stream.address[0]))
            return False
        self._hand_over()
        return False

    def _whole_head(self) -> None:
        self._looked = 0
        if self._begun:
            self._begun = False
            self._hub.finished(self)

    def _hand_over(self) -> None:
        self._leave()
        buffer, self._buffer = bytes(self._buffer), b""
        # It is ours no more, though it may still wait for what is to be written before.
        self._busy = True
        self._stream.hand_over(buffer)
        if not self._stream.closed:
            # What is to be read before that is still there.
            self._hub.idle.start(self)

    def _leave(self) -> None:
        self._whole_head()
        self._hub.bodies.stop(self)
        self._hub.idle.stop(self)

    # -- polling -----------------------------------------------------------------

    def _poll(self, head: Head, body: bytes) -> None:
        self._busy = True
        self._asks = head
        taken = head.gateway.door.take(
            body, self._request, head.origin, self._answered, self._address
        )
        if not isinstance(taken, HeldPoll):
            self._answer(taken)
            return
        self._held = taken
        self._hub.held(taken.patience).start(self)
        if taken.answer is not None:
            self._answered()

    def _request(self, hello: Hello) -> dict[str, Any]:
        """The request that is being answered, as handlers see it."""
        head = self._asks
        assert head is not None, "there is one"
        environ = self._hub.heads.environ(head, self._stream)
        return plain_request(environ, head.place, hello, head.gateway.extra, trusted=head.trusted)

    def _address(self) -> str:
        """Whom it counts for."""
        head = self._asks
        assert head is not None, "there is one"
        return head.gateway.address(self._hub.heads.environ(head, self._stream))

    def _answered(self) -> None:
        """Called once a held request has its answer, under its session's lock."""
        if self._held is not None and self._asks is not None:
            self._asks.gateway.runtime.at_end_of_turn(self._answer_held)

    def overdue(self) -> None:
        """A request was held for as long as may be."""
        assert self._held is not None, "it was in the table"
        self._held.settle()

    def _answer_held(self) -> None:
        held, head = self._held, self._asks
        assert held is not None, "held"
        assert held.answer is not None, "told of it"
        assert head is not None, "asked for"
        self._held = None
        self._hub.held(held.patience).stop(self)
        head.gateway.door.left()
        self._answer(held.answer)

    def _answer(self, answer: Answer) -> None:
        """Answer the request that was taken, and go on with the next."""
        stream, head = self._stream, self._asks
        self._busy, self._asks = False, None
        if stream.closed or head is None:
            return
        stream.queue(self._hub.response(answer, head))
        if stream.rest:
            # One answer at a time: the next request has its turn when this one's has gone.
            self._busy = self._waits = True
            self._hub.idle.start(self)
            if answer.weighs is not None:
                # What waits for the peer counts for its session.
                self._weighs = answer.weighs, len(stream.rest)
                answer.weighs(len(stream.rest))
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
            self._hub.idle.stop(self)
            self._take()

    # -- WebSocket ---------------------------------------------------------------

    def _websocket(self, head: Head) -> bool:
        """Whether the connection is a WebSocket from now on; if not, WSGI has the answer."""
        gateway, stream = head.gateway, self._stream
        environ = self._hub.heads.environ(head, stream)
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
            driver,
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
