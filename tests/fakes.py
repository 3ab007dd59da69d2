"""Time, tasks and a client for tests of one process: no socket, no thread, no sleep.

`FakeRuntime` stands for an async mode: that of `fallback_transport.testing`. `Peer`
is the browser's half over a registry, with the envelopes handed across directly.
`FakeHub` is what eventlet's hub is to `runtime.Hub`, and `FakeSocket` an accepted one.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import greenlet
from socketio import packet as sio

from fallback_transport.protocol.client import ClientMachine
from fallback_transport.protocol.envelope import End, Grant, Welcome
from fallback_transport.protocol.events import (
    CloseReceived,
    MessageReceived,
    SessionClosed,
    Transport,
)
from fallback_transport.protocol.message import Message
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.registry import Registry
from fallback_transport.runtime import Hub, make_lock
from fallback_transport.testing.tasks import VirtualRuntime


class FakeRuntime(VirtualRuntime):
    """An async mode whose tasks and clock a test drives.

    Args:
        turns: whether it has them, as on eventlet's hub.
    """

    def __init__(self, *, turns: bool = False) -> None:
        super().__init__(make_lock)
        if turns:
            self._hub = Hub(FakeHub(self))
            self._take_turns(self._hub)

    def check(self, environ: dict[str, Any]) -> None:
        """Whatever server a test makes up suits."""

    def run(self) -> None:
        """Run every task until all of them wait or are done, to the end of the turn."""
        self.tasks.advance(0)

    def advance(self, seconds: float) -> None:
        """Let time go by, waking each task at its time."""
        self.tasks.advance(seconds)

    @property
    def errors(self) -> list[Exception]:
        """What tasks died of."""
        return self.tasks.errors


class Timer:
    """What `FakeHub` calls later, unless it is cancelled."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call

    def cancel(self) -> None:
        self.call = lambda: None


class FakeHub:
    """What `runtime.Hub` uses of eventlet's hub, on the clock of a runtime."""

    READ, WRITE = "read", "write"

    def __init__(self, runtime: FakeRuntime) -> None:
        self._runtime = runtime
        self.clock = runtime.now
        self.greenlet = greenlet.getcurrent()
        #: Who waits for a descriptor.
        self.watched: dict[tuple[str, int], Callable[[int], None]] = {}

    def schedule_call_global(self, seconds: float, call: Callable[..., Any], *args: Any) -> Timer:
        timer = Timer(lambda: call(*args))
        self._runtime.tasks.at(self.clock() + seconds, lambda: timer.call())
        return timer

    def add(self, kind: str, fileno: int, call: Callable[[int], None], *_: Any) -> tuple[str, int]:
        self.watched[kind, fileno] = call
        return kind, fileno

    def remove(self, watcher: tuple[str, int]) -> None:
        del self.watched[watcher]

    def tell(self, kind: str, fileno: int) -> bool:
        """Let the one who waits know, and the turn end; whether anybody waits."""
        watching = self.watched.get((kind, fileno))
        if watching is not None:
            watching(fileno)
            self._runtime.advance(0)
        return watching is not None


class FakeSocket:
    """An accepted socket that does not block, and its other end."""

    _numbers = itertools.count(100)

    def __init__(self) -> None:
        self._fileno = next(self._numbers)
        #: What has come and was not received yet, and whether nothing follows.
        self.there = b""
        self.ended = False
        #: Whether the peer reads, and what it has read.
        self.reads = True
        self.sent = b""

    def fileno(self) -> int:
        return self._fileno

    def getsockname(self) -> tuple[str, int]:
        return "192.0.2.9", 80

    def recv(self, most: int) -> bytes:
        if not self.there and not self.ended:
            raise BlockingIOError
        data, self.there = self.there[:most], self.there[most:]
        return data

    def send(self, data: bytes) -> int:
        if not self.reads:
            raise BlockingIOError
        self.sent += data
        return len(data)

    def shutdown(self, how: int) -> None:
        if how == socket.SHUT_WR:
            self.sent += b"<end>"

    def close(self) -> None:
        pass


class Peer:
    """A client's half in memory, over a WebSocket that loses nothing.

    Args:
        registry: the server's sessions.
        runtime: whose clock and tasks both halves share.
        environ: the hello's request, as handlers see it.
    """

    def __init__(
        self,
        registry: Registry,
        runtime: FakeRuntime,
        environ: dict[str, Any] | None = None,
        *,
        nonce: str | None = "nonce",
        origin: str = "",
        facts: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.machine = ClientMachine(grant=Grant(), bounds=Bounds(), now=runtime.now())
        self.texts: list[str | bytes] = []
        """Every message that came, in order."""
        self.closed: tuple[int, str] | None = None
        self.end_seen: End | None = None
        self.dropped: tuple[int, str] | None = None
        self._registry = registry
        self._runtime = runtime
        self._environ = {} if environ is None else environ
        self._nonce = nonce
        self._origin = origin
        self._facts = facts
        self._attempt = 0
        self.conversation: Any = None
        self.handle = True
        """Whether messages count as handled when they come."""

    @property
    def id(self) -> str:
        assert self.machine.id is not None, "welcomed"
        return self.machine.id

    # -- what the server does to the connection (`conversation.Attachment`) --

    def wake(self) -> None:
        pass

    def drop(self, code: int, reason: str) -> None:
        self.dropped = code, reason

    def end(self, end: End) -> None:
        self.end_seen = end
        self._act(self.machine.ended(end))

    # -- what a test does ----------------------------------------------------

    def open(self, *messages: str) -> Welcome | End:
        """Say hello with the first of `messages`, commit if welcomed, send the rest."""
        self.send(*messages)
        now = self._runtime.now()
        self._attempt += 1
        hello = self.machine.hello(self._attempt, Transport.WEBSOCKET, self._nonce, now)
        hello = replace(hello, client=self._facts)
        self.conversation, answer = self._registry.greet(
            hello, Transport.WEBSOCKET, self, lambda hello: self._environ, self._origin
        )
        if isinstance(answer, Welcome):
            self._act(self.machine.welcomed(answer, now))
            self.machine.commit(self._attempt)
            self.exchange()
        return answer

    def connect(self, auth: Any = None, namespace: str = "/") -> Welcome | End:
        """Open, with the Socket.IO CONNECT."""
        return self.open(sio.Packet(sio.CONNECT, auth, namespace=namespace).encode())

    def send(self, *messages: str | bytes) -> None:
        for message in messages:
            self.machine.send([Message(message)])

    def emit(self, *data: Any, id: int | None = None, namespace: str = "/") -> None:
        """Emit an event, and let everything happen that follows."""
        self.packet(sio.Packet(sio.EVENT, list(data), namespace=namespace, id=id))

    def packet(self, packet: sio.Packet, *, urgent: bool = False) -> None:
        """Send a packet, and let everything happen that follows."""
        encoded = packet.encode()
        parts = encoded if isinstance(encoded, list) else [encoded]
        self.machine.send([Message(part) for part in parts], urgent=urgent)
        self.exchange()

    def exchange(self) -> None:
        """Carry envelopes both ways, and run the server's tasks, until nothing moves."""
        moved = True
        while moved:
            moved = False
            now = self._runtime.now()
            while (envelope := self.machine.pull(self._attempt, now)) is not None:
                moved = True
                end = self.conversation.receive(self._attempt, envelope)
                if end is not None:
                    self.end(end)
            self._runtime.run()
            while (envelope := self.conversation.pull(self._attempt)) is not None:
                moved = True
                self._act(self.machine.receive(self._attempt, envelope, now))
            self._runtime.run()

    def settle(self) -> None:
        """Exchange, and again after the time that a lone ack may wait."""
        self.exchange()
        self._runtime.advance(0.3)
        self.exchange()

    def detach(self) -> None:
        """The connection breaks."""
        self.machine.detach(self._attempt, self._runtime.now())
        self.conversation.detach(self._attempt, self)

    @property
    def packets(self) -> list[Any]:
        """The Socket.IO packets that came: [kind, id, data], bytes in their places."""
        found: list[Any] = []
        open_packet: Any = None
        for text in self.texts:
            if isinstance(text, bytes):
                open_packet.add_attachment(text)
                complete = open_packet.attachment_count == len(open_packet.attachments)
                if complete:
                    found[-1][2] = open_packet.data
                continue
            open_packet = sio.Packet(encoded_packet=text)
            found.append([open_packet.packet_type, open_packet.id, open_packet.data])
        return found

    @property
    def events(self) -> list[Any]:
        """The events that came: [name, …]."""
        return [data for kind, _, data in self.packets if kind in (sio.EVENT, sio.BINARY_EVENT)]

    @property
    def replies(self) -> dict[int, Any]:
        """The acknowledgements that came."""
        return {id: data for kind, id, data in self.packets if kind in (sio.ACK, sio.BINARY_ACK)}

    def _act(self, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, MessageReceived):
                self.texts.append(event.data)
                if self.handle:
                    self._act(self.machine.handled(event.seq, self._runtime.now()))
            elif isinstance(event, CloseReceived):
                self._act(self.machine.handled(event.seq, self._runtime.now()))
            elif isinstance(event, SessionClosed):
                self.closed = event.code, event.reason
