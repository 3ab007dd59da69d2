"""A TCP relay that makes the way longer, and cuts it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any


class _Pipe(asyncio.Protocol):
    """One end of a relayed connection; what it reads goes out of the other end, later."""

    def __init__(self, relay: Relay, other: _Pipe | None = None) -> None:
        self.relay = relay
        self.other = other
        self.transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.relay.pipes.add(self)
        for data in self._waiting:
            transport.write(data)
        if self.other is None:
            self.other = _Pipe(self.relay, self)
            loop = asyncio.get_running_loop()
            other = self.other
            task = loop.create_task(
                loop.create_connection(lambda: other, "127.0.0.1", self.relay.target)
            )
            self.relay.tasks.add(task)
            task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[Any]) -> None:
        self.relay.tasks.discard(task)
        if (task.cancelled() or task.exception()) and self.transport:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        assert self.other is not None, "from connection_made on"
        self.relay.loop.call_later(self.relay.delay, self.other.write, data)

    def write(self, data: bytes) -> None:
        """Send on, once there is a connection."""
        if self.transport is None:
            self._waiting.append(data)
        elif not self.transport.is_closing():
            self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.relay.pipes.discard(self)
        if self.other is not None and self.other.transport is not None:
            self.relay.loop.call_later(self.relay.delay, self.other.transport.close)


class Relay:
    """Relays to a port of this host; each direction takes `delay` seconds.

    Args:
        target: the server's port.
        delay: half of the round trip that it adds.
    """

    def __init__(self, target: int, delay: float = 0.0) -> None:
        self.target = target
        self.delay = delay
        self.port = 0
        self.loop = asyncio.new_event_loop()
        self.pipes: set[_Pipe] = set()
        self.tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Relay:
        listening = self.loop.create_server(lambda: _Pipe(self), "127.0.0.1", 0, backlog=1024)
        self._server = self.loop.run_until_complete(listening)
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._end)
        self._thread.join()
        with contextlib.suppress(RuntimeError):
            self.loop.close()

    def cut(self) -> None:
        """Reset every connection."""
        self.loop.call_soon_threadsafe(self._abort)

    def _run(self) -> None:
        self.loop.run_forever()

    def _abort(self) -> None:
        for pipe in list(self.pipes):
            if pipe.transport is not None:
                pipe.transport.abort()

    def _end(self) -> None:
        self._server.close()
        for task in self.tasks:
            task.cancel()
        self._abort()
        # Behind what the aborted connections have to tell.
        self.loop.call_later(0.02, self.loop.stop)
