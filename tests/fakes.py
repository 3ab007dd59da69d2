"""Time, tasks and a client for tests of one process: no socket, no thread, no sleep.

`FakeRuntime` stands for an async mode. Its tasks are greenlets that run when a
test says so, and its clock moves when a test moves it. `Peer` is the browser's
half over a registry, with the envelopes handed across directly.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import greenlet
from socketio import packet as sio

from fallback_transport.protocol.client import ClientMachine
from fallback_transport.protocol.envelope import End, Grant, Message, Welcome
from fallback_transport.protocol.events import (
    CloseReceived,
    MessageReceived,
    SessionClosed,
    Transport,
)
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.registry import Registry
from fallback_transport.runtime import Runtime


class FakeRuntime(Runtime):
    """An async mode whose tasks and clock a test drives."""

    def __init__(self) -> None:
        self.tasks = FakeDriver()
        super().__init__(self.tasks)

    def check(self, environ: dict[str, Any]) -> None:
        """Every server suits."""

    def now(self) -> float:  # type: ignore[override]
        return self.tasks.time

    def run(self) -> None:
        """Run every task until all of them wait or are done."""
        self.tasks.run()

    def advance(self, seconds: float) -> None:
        """Let time go by, waking each task at its time."""
        self.tasks.advance(seconds)

    @property
    def errors(self) -> list[BaseException]:
        """What tasks died of."""
        return self.tasks.errors


class FakeDriver:
    """What an Engine.IO server has of an async mode; its tasks are greenlets."""

    async_mode = "fake"

    def __init__(self) -> None:
        self.time = 1000.0
        self.errors: list[BaseException] = []
        self.started = 0
        self._ready: deque[greenlet.greenlet] = deque()
        self._timers: list[tuple[float, int, greenlet.greenlet]] = []
        self._order = itertools.count()
        self._main = greenlet.getcurrent()

    def start_background_task(self, target: Callable[..., Any], *args: Any) -> None:
        self.started += 1
        self._ready.append(greenlet.greenlet(lambda: target(*args), self._main))

    def create_event(self) -> FakeEvent:
        return FakeEvent(self)

    def sleep(self, seconds: float = 0) -> None:
        if seconds > 0:
            self.create_event().wait(seconds)
        else:
            self._ready.append(greenlet.getcurrent())
            self._main.switch()

    def run(self) -> None:
        while self._ready:
            task = self._ready.popleft()
            if not task.dead:
                try:
                    task.switch()
                except Exception as error:
                    # Like a thread that dies of it.
                    self.errors.append(error)

    def advance(self, seconds: float) -> None:
        until = self.time + seconds
        self.run()
        while self._timers and self._timers[0][0] <= until:
            self.time = max(self.time, self._timers[0][0])
            self._ready.append(heapq.heappop(self._timers)[2])
            self.run()
        self.time = until

    def pause(self, timeout: float | None) -> None:
        """Let the others run; come back after a time, or when woken."""
        current = greenlet.getcurrent()
        assert current is not self._main, "only tasks wait; start one with spawn()"
        if timeout is not None:
            heapq.heappush(self._timers, (self.time + timeout, next(self._order), current))
        self._main.switch()

    def wake(self, task: greenlet.greenlet) -> None:
        """A task that pauses is to run again."""
        self._timers = [timer for timer in self._timers if timer[2] is not task]
        heapq.heapify(self._timers)
        self._ready.append(task)


class FakeEvent:
    """A `runtime.Event` of a `FakeDriver`."""

    def __init__(self, driver: FakeDriver) -> None:
        self._driver = driver
        self._set = False
        self._waiting: list[greenlet.greenlet] = []

    def set(self) -> None:
        self._set = True
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            self._driver.wake(task)

    def clear(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set:
            task = greenlet.getcurrent()
            self._waiting.append(task)
            self._driver.pause(timeout)
            if task in self._waiting:
                self._waiting.remove(task)
                return False
        return True


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
            self.machine.send([Message(message)], self._runtime.now())

    def emit(self, *data: Any, id: int | None = None, namespace: str = "/") -> None:
        """Emit an event, and let everything happen that follows."""
        self.packet(sio.Packet(sio.EVENT, list(data), namespace=namespace, id=id))

    def packet(self, packet: sio.Packet, *, urgent: bool = False) -> None:
        """Send a packet, and let everything happen that follows."""
        encoded = packet.encode()
        parts = encoded if isinstance(encoded, list) else [encoded]
        self.machine.send([Message(part) for part in parts], self._runtime.now(), urgent=urgent)
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
