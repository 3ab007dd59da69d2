"""Connections to the server behind the proxy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine

from .http_messages import Answer, Request, whole_body
from .journal import Journal
from .wire import EndedEarly, Wire


class Upstream:
    """The server behind the proxy, on a loopback port."""

    def __init__(self, port: int, journal: Journal) -> None:
        self.port = port
        self.live: set[Wire] = set()
        self._journal = journal
        self._strays: set[asyncio.Task[None]] = set()

    async def connect(self) -> Wire:
        """Open a connection.

        Raises:
            ConnectionError: the upstream does not take it.
        """
        loop = asyncio.get_running_loop()
        wire = Wire(on_lost=self.live.discard)
        try:
            await loop.create_connection(lambda: wire, "127.0.0.1", self.port)
        except OSError as error:
            self._journal.upstream_refused += 1
            raise ConnectionRefusedError(str(error)) from error
        self.live.add(wire)
        return wire

    async def send_copy(self, request: Request, content: bytes) -> Wire:
        """Send a complete request on a connection of its own."""
        wire = await self.connect()
        wire.write(request.head.raw + content)
        await wire.drain()
        return wire

    def deliver_stray(
        self, request: Request, content: bytes, gap: float = 0.0, after: asyncio.Event | None = None
    ) -> None:
        """Deliver a request whose answer nobody waits for, in the background.

        Args:
            request: its head.
            content: its body, complete.
            gap: seconds to wait before.
            after: to wait for before that.
        """

        async def deliver() -> None:
            if after is not None:
                await after.wait()
            await asyncio.sleep(gap)
            # If it fails, nobody is there to be told.
            with contextlib.suppress(ConnectionError, EndedEarly):
                await read_answer(await self.send_copy(request, content), request)

        self._in_background(deliver())

    def discard_answer(self, wire: Wire, request: Request) -> None:
        """Read an answer that nobody waits for, in the background."""

        async def discard() -> None:
            with contextlib.suppress(ConnectionError, EndedEarly):
                await read_answer(wire, request)

        self._in_background(discard())

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        # The event loop itself keeps only a weak reference to a task.
        task = asyncio.ensure_future(work)
        self._strays.add(task)
        task.add_done_callback(self._strays.discard)


async def read_answer(wire: Wire, request: Request) -> None:
    """Read one answer to its end, and close the connection."""
    try:
        while (raw := await wire.read_head()) is not None:
            answer = Answer.parse(raw, request)
            if answer is None:
                return
            await whole_body(wire, answer.framing)
            if answer.status >= 200:
                return
    finally:
        wire.close()
