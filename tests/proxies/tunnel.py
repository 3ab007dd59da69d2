"""What follows a 101: bytes both ways, and the faults of a WebSocket that seemed to work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from .faults import AcceptClose, AcceptSilent, CutIdle, DropDown, DropUp, HalfClose
from .outlet import Outlet
from .rules import Plan
from .wire import End, Wire


@dataclass
class _Flow:
    """One direction of a tunnel."""

    source: Wire
    outlet: Outlet
    #: From when on (the event loop's time) what comes from the source vanishes.
    vanishes_at: float | None = None
    #: Whether the end of the source is passed on all the same.
    relays_end: bool = True
    #: The fault that makes it vanish.
    fault: str | None = None


class Tunnel:
    """Two connections joined.

    Args:
        client: the client's connection.
        upstream: the upstream's; None if the proxy itself has accepted the WebSocket.
        plan: the faults.
        cut: called to cut both connections.
        struck: called with the name of each fault that takes effect.
    """

    def __init__(
        self,
        client: Wire,
        upstream: Wire | None,
        plan: Plan,
        cut: Callable[[], None],
        struck: Callable[[str], None],
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._plan = plan
        self._cut = cut
        self._struck = struck
        self._reported: set[str] = set()
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()

    async def run(self) -> None:
        """Carry bytes until both directions have ended, or a fault has ended the tunnel."""
        timers = self._timers()
        try:
            if self._upstream is None:
                if self._plan.get(AcceptSilent):
                    self._struck(AcceptSilent.name)
                await self._client.wait_until_gone()
                return
            up = _Flow(self._client, self._outlet(self._upstream, "up"))
            down = _Flow(self._upstream, self._outlet(self._client, "down"))
            self._let_vanish(up, down)
            await asyncio.gather(self._carry(up), self._carry(down))
        finally:
            for timer in timers:
                timer.cancel()

    def _outlet(self, wire: Wire, direction: str) -> Outlet:
        return Outlet(wire, self._plan, direction, self._cut, self._struck)

    def _let_vanish(self, up: _Flow, down: _Flow) -> None:
        now = self._loop.time()
        for kind, flows in ((AcceptSilent, (up, down)), (DropUp, (up,)), (DropDown, (down,))):
            fault = self._plan.get(kind)
            if isinstance(fault, (AcceptSilent, DropUp, DropDown)):
                for flow in flows:
                    flow.vanishes_at = now + fault.after
                    flow.relays_end = fault.relay_end
                    flow.fault = fault.name
        if self._plan.get(AcceptClose):
            for flow in (up, down):
                flow.vanishes_at = now
        half = self._plan.get(HalfClose)
        if half:
            # What was said to be finished cannot go on.
            (down if half.toward == "client" else up).vanishes_at = now + half.after

    def _timers(self) -> list[asyncio.TimerHandle]:
        timers = []
        if close := self._plan.get(AcceptClose):
            how = End(close.how)

            def end() -> None:
                self._struck(AcceptClose.name)
                self._client.end(how)
                if self._upstream is not None:
                    self._upstream.end(how)

            timers.append(self._loop.call_later(close.after, end))
        if half := self._plan.get(HalfClose):
            wire = self._client if half.toward == "client" else self._upstream

            def finish() -> None:
                self._struck(HalfClose.name)
                if wire is not None:
                    wire.finish()

            timers.append(self._loop.call_later(half.after, finish))
        if idle := self._plan.get(CutIdle):
            self._cut_if_idle(idle, timers)
        return timers

    def _cut_if_idle(self, idle: CutIdle, timers: list[asyncio.TimerHandle]) -> None:
        """End the tunnel if it has been silent for long enough, else look again when it may be."""
        left = self._heard_at + idle.after - self._loop.time()
        if left > 0:
            timers.append(self._loop.call_later(left, self._cut_if_idle, idle, timers))
            return
        self._struck(CutIdle.name)
        self._client.end(End(idle.how))
        if self._upstream is not None:
            self._upstream.end(End(idle.how))

    async def _carry(self, flow: _Flow) -> None:
        sink = flow.outlet.wire
        reachable = True
        try:
            while data := await flow.source.read():
                self._heard_at = self._loop.time()
                if self._vanishes(flow) or not reachable:
                    continue
                try:
                    await flow.outlet.write(data)
                except ConnectionError:
                    # The opposite direction sees why, and ends this one,
                    # unless that news is to vanish as well.
                    reachable = False
            if not self._hides_end(flow):
                sink.finish()
        except ConnectionError:
            if not self._hides_end(flow):
                sink.reset()

    def _vanishes(self, flow: _Flow) -> bool:
        if flow.vanishes_at is None or self._loop.time() < flow.vanishes_at:
            return False
        if flow.fault is not None and flow.fault not in self._reported:
            self._reported.add(flow.fault)
            self._struck(flow.fault)
        return True

    def _hides_end(self, flow: _Flow) -> bool:
        return not flow.relays_end and self._vanishes(flow)
