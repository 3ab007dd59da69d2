"""The faults that act on a stream of bytes, whatever the bytes mean."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .faults import Cut, Throttle
from .rules import Plan
from .wire import Wire


class Outlet:
    """Where bytes leave towards one side: throttled, and cut after so many of them.

    Args:
        wire: the connection they leave on.
        plan: the faults of the exchange.
        direction: "up" or "down"; only what goes down is cut.
        cut: called, once, to cut the connection.
        struck: called with the name of a fault that takes effect.
    """

    def __init__(
        self,
        wire: Wire,
        plan: Plan,
        direction: str,
        cut: Callable[[], None],
        struck: Callable[[str], None],
    ) -> None:
        self.wire = wire
        self._cut = cut
        self._struck = struck
        throttle = plan.get(Throttle)
        self._rate = (
            throttle.rate if throttle and throttle.direction in (direction, "both") else None
        )
        limit = plan.get(Cut)
        self._left = limit.after_bytes if limit and direction == "down" else None
        self._free_at = 0.0

    async def write(self, data: bytes) -> None:
        """Send, at the pace and up to the length that the faults allow.

        Raises:
            ConnectionError: the connection is gone, perhaps because this cut it.
        """
        if self._rate is None:
            await self._send(data)
            return
        loop = asyncio.get_running_loop()
        if not self._free_at:
            self._struck(Throttle.name)
        # Twenty portions a second look like a slow link, and not like a stutter.
        portion = max(1, int(self._rate / 20))
        for start in range(0, len(data), portion):
            piece = data[start : start + portion]
            await asyncio.sleep(self._free_at - loop.time())
            await self._send(piece)
            self._free_at = max(self._free_at, loop.time()) + len(piece) / self._rate

    async def _send(self, data: bytes) -> None:
        if self._left is not None:
            if len(data) >= self._left:
                self.wire.write(data[: self._left])
                self._cut()
            else:
                self._left -= len(data)
        self.wire.write(data)
        await self.wire.drain()
