"""What lies between a `TestClient` and the application: WebSocket and polls, without a socket.

Each request goes to the application as WSGI, in a task of its own. Behind a
WebSocket's is a `Wire`, on which the server's frames meet those of the client.
"""

from __future__ import annotations

import logging
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol as Framing
from websockets.protocol import Side
from websockets.protocol import State as Stage

from ..handshake import SUBPROTOCOL
from ..protocol import codec
from ..protocol.envelope import End, Envelope, Hello, PollRequest, Unit, Welcome
from ..protocol.errors import RemoteProtocolError
from ..protocol.events import Transport
from ..protocol.state import State
from .tasks import Tasks

if TYPE_CHECKING:
    from .page import Page

_TEXT = {"Content-Type": "text/plain;charset=UTF-8"}
#: RFC 6455, section 4.1; its example's key, for no cache stands between to be told from a server.
_UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": SUBPROTOCOL,
}
#: Seconds until a poll that was answered at once, with nothing, is repeated.
PAUSE = 1.0

_quiet = logging.getLogger("fallback_transport.testing.framing")
_quiet.setLevel(logging.WARNING)


class Lane:
    """One way of a connection: what is sent comes out after the latency, in order."""

    def __init__(self, owner: Page) -> None:
        self._owner = owner
        self._under_way: deque[tuple[float, Callable[[], object]]] = deque()
        self._last = 0.0
        #: How many things were lost on it.
        self.lost = 0
        self.broken = False

    def send(self, arrive: Callable[[], object]) -> None:
        """Call `arrive` at the other end."""
        if self.broken:
            self.lost += 1
            return
        tasks = self._owner.tasks
        self._last = max(self._last, tasks.time + self._owner.latency)
        if self._last <= tasks.time and not self._under_way:
            arrive()
            return
        self._under_way.append((self._last, arrive))
        tasks.at(self._last, self._due)

    def flush(self) -> None:
        """What is under way is there now."""
        self._last = 0.0
        while self._under_way:
            self._under_way.popleft()[1]()

    def sever(self) -> None:
        """Nothing more comes out."""
        self.broken = True
        self.lost += len(self._under_way)
        self._under_way.clear()

    def _due(self) -> None:
        while self._under_way and self._under_way[0][0] <= self._owner.tasks.time:
            self._under_way.popleft()[1]()


class Link(ABC):
    """One connection of a client.

    Args:
        owner: whose it is.
        attempt: the connection's number.
    """

    transport: Transport

    def __init__(self, owner: Page, attempt: int) -> None:
        self.attempt = attempt
        #: How the hello was answered: by the protocol, or with a status and a text.
        self.answer: Welcome | End | tuple[int, str] | None = None
        self.over = False
        self.up, self.down = Lane(owner), Lane(owner)
        self._owner = owner
        #: What came and was not read: bytes, or calls that tell of an answer.
        self._inbox: deque[Any] = deque()

    @abstractmethod
    def greet(self, hello: Hello) -> None:
        """Say hello; `answer` is what comes back."""

    @abstractmethod
    def read(self) -> bool:
        """Take what came; whether there was anything."""

    @abstractmethod
    def write(self) -> bool:
        """Send what there is to send; whether there was anything."""

    def kill(self) -> None:
        """End it, under both ends."""
        self.over = True
        self.up.sever()
        self.down.sever()

    def repeat(self) -> None:
        """Send the last request again, as a proxy does.

        Raises:
            RuntimeError: there are no requests.
        """
        raise RuntimeError(
            "nothing repeats what goes over a WebSocket; switch('polling') has requests"
        )

    def _came(self, what: Any) -> None:
        self._inbox.append(what)
        self._owner.stirred = True

    def _conclude(self, answer: Unit | tuple[int, str]) -> None:
        assert not isinstance(answer, (Envelope, Hello, PollRequest)), "what a client says"
        self.answer = answer
        self._owner.answered(self)

    def _carries(self) -> bool:
        carrier = self._owner.machine.carrier
        return not self.over and carrier is not None and carrier.attempt == self.attempt

    def _lost(self) -> None:
        if not self.over:
            self.kill()
            self._owner.lost(self.attempt)


class Wire:
    """The server's end of a WebSocket: as much of a socket as a WSGI server gives it."""

    family = None

    def __init__(self, tasks: Tasks, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._came = bytearray()
        self._ended = False
        self._closed = False
        self._timeout: float | None = None
        self._news = tasks.create_event()

    def feed(self, data: bytes) -> None:
        """The client's bytes; none for the stream's end."""
        self._came += data
        self._ended = self._ended or not data
        self._news.set()

    def recv(self, size: int) -> bytes:
        while not self._came and not self._ended:
            self._news.clear()
            if not self._news.wait(self._timeout):
                raise TimeoutError("timed out")
        data = bytes(self._came[:size])
        del self._came[:size]
        return data

    def send(self, data: bytes) -> int:
        self.sendall(data)
        return len(data)

    def sendall(self, data: bytes) -> None:
        if self._closed:
            raise BrokenPipeError("the stream has ended")
        self._send(bytes(data))

    def shutdown(self, how: int) -> None:
        if how != socket.SHUT_WR:
            self.feed(b"")
        if how != socket.SHUT_RD and not self._closed:
            self._closed = True
            self._send(b"")

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds


class WebSocketLink(Link):
    """A WebSocket."""

    transport = Transport.WEBSOCKET

    def greet(self, hello: Hello) -> None:
        self._framing: Framing | None = None
        self._hello = codec.encode(hello)
        self._wire = Wire(self._owner.tasks, lambda data: self.down.send(lambda: self._came(data)))
        environ = self._owner.doors.request("ws", None, _UPGRADE)
        environ["fallback_transport.socket"] = self._wire
        start = self._owner.tasks.start_background_task
        self.up.send(lambda: start(self._serve, environ))

    def kill(self) -> None:
        super().kill()
        self._wire.feed(b"")

    def read(self) -> bool:
        moved = bool(self._inbox)
        while self._inbox and not self.over:
            data = self._inbox.popleft()
            framing = self._framing
            if framing is None:
                self._upgraded(data)
                continue
            if data:
                framing.receive_data(data)
            else:
                framing.receive_eof()
            for event in framing.events_received():
                if isinstance(event, Frame):
                    self._frame(event)
            self._flush(framing)
            if not data or framing.state is not Stage.OPEN:
                self._lost()
        return moved

    def write(self) -> bool:
        moved = False
        framing = self._framing
        while framing is not None and not self.over and isinstance(self.answer, Welcome):
            envelope = self._owner.machine.pull(self.attempt, self._owner.tasks.time)
            if envelope is None:
                break
            moved = True
            for frame in codec.encode_frames(envelope):
                if isinstance(frame, str):
                    framing.send_text(frame.encode())
                else:
                    framing.send_binary(frame)
            self._flush(framing)
        return moved

    def _upgraded(self, response: bytes) -> None:
        """The answer to the handshake has come: nothing else can be in its bytes."""
        if not response.startswith(b"HTTP/1.1 101 "):
            self._lost()
            return
        self._framing = framing = Framing(Side.CLIENT, max_size=None, logger=_quiet)
        framing.send_text(self._hello.encode())
        self._flush(framing)

    def _serve(self, environ: dict[str, Any]) -> None:
        status, body = self._owner.doors.answer(environ)
        if status:
            text = body.decode(errors="replace").strip()
            self.down.send(lambda: self._conclude((status, text)))

    def _frame(self, frame: Frame) -> None:
        if self.over or frame.opcode not in (Opcode.TEXT, Opcode.BINARY):
            return
        if frame.opcode is Opcode.BINARY:
            self._owner.arrived(self.attempt, codec.decode_binary(bytes(frame.data)))
            return
        unit = codec.decode(bytes(frame.data).decode())
        if self.answer is None:
            self._conclude(unit)
        elif isinstance(unit, (Envelope, End)):
            self._owner.arrived(self.attempt, unit)

    def _flush(self, framing: Framing) -> None:
        for data in framing.data_to_send():
            self.up.send(lambda data=data: self._wire.feed(data))  # type: ignore[misc]


class PollingLink(Link):
    """A run of polls: at most one waiting and one sending request at a time."""

    transport = Transport.POLLING

    def __init__(self, owner: Page, attempt: int) -> None:
        super().__init__(owner, attempt)
        self._last = b""
        self._waits = self._sends = self._parted = False
        self._rest_until = 0.0

    def greet(self, hello: Hello) -> None:
        self._post(codec.encode_body(hello), self._greeted, last=True)

    def repeat(self) -> None:
        self._post(self._last, lambda status, body: None)

    def read(self) -> bool:
        moved = bool(self._inbox)
        while self._inbox and not self.over:
            self._inbox.popleft()()
        return moved

    def write(self) -> bool:
        machine, now = self._owner.machine, self._owner.tasks.time
        if not isinstance(self.answer, Welcome) or self.over:
            return False
        if not self._carries():
            if not self._waits:
                self._lost()
            return False
        moved = False
        closed = machine.state is State.CLOSED
        unsent = machine.outbox.last > machine.outbox.received
        if not self._sends and (unsent if not closed else not self._parted):
            # A close of the server's is confirmed with one more request.
            self._parted = closed
            self._sends = moved = True
            body = codec.encode_body(machine.poll(wait=None))
            self._post(body, self._sent, last=True)
        if not self._waits and not closed and now >= self._rest_until:
            self._waits = moved = True
            wait = min(machine.grant.wait, 0.8 * machine.grant.keepalive)
            body = codec.encode_body(machine.poll(wait=wait))
            self._post(body, lambda status, body: self._waited(now, status, body))
        if self._parted and not self._sends and not self._waits:
            self.kill()
        return moved

    def _post(
        self, body: bytes, answered: Callable[[int, bytes], None], *, last: bool = False
    ) -> None:
        if last:
            self._last = body
        environ = self._owner.doors.request("poll", body, _TEXT)
        start = self._owner.tasks.start_background_task
        self.up.send(lambda: start(self._serve, environ, answered))

    def _serve(self, environ: dict[str, Any], answered: Callable[[int, bytes], None]) -> None:
        status, body = self._owner.doors.answer(environ)
        self.down.send(lambda: self._came(lambda: answered(status, body)))

    def _greeted(self, status: int, body: bytes) -> None:
        try:
            self._conclude(codec.decode_body(body))
        except RemoteProtocolError:
            self._conclude((status, body.decode(errors="replace").strip()))

    def _sent(self, status: int, body: bytes) -> None:
        self._sends = False
        self._answered(body)

    def _waited(self, asked: float, status: int, body: bytes) -> None:
        self._waits = False
        now = self._owner.tasks.time
        unit = self._answered(body)
        if now == asked and isinstance(unit, Envelope) and not unit.messages:
            self._rest_until = now + PAUSE
            self._owner.tasks.at(self._rest_until, self._rested)

    def _rested(self) -> None:
        self._owner.stirred = True

    def _answered(self, body: bytes) -> Unit | None:
        try:
            unit = codec.decode_body(body)
        except RemoteProtocolError:
            self._lost()
            return None
        if isinstance(unit, End) and not unit.session:
            self._lost()
        elif isinstance(unit, (Envelope, End)):
            self._owner.arrived(self.attempt, unit)
        return unit
