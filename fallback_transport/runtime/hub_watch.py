"""Who blocks eventlet's hub."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from .home import original

logger = logging.getLogger("fallback_transport.runtime")

#: Seconds for which a handler may hold up eventlet's hub before it is named in the log.
BLOCKED_AFTER = 1.0
#: How often the watch looks, while handlers run.
WATCH_INTERVAL = 0.25


class HubWatch:
    """Names the handler that blocks eventlet's hub.

    While handlers run, a real thread looks at the stack of the hub's thread. One that shows the
    same handler at every look for a second, in which the hub has had no turn, does: a handler that
    waits cooperatively is not on that stack, and one that works and gives way lets the hub count.
    """

    def __init__(self) -> None:
        from eventlet import patcher

        self._thread_module = patcher.original("threading")
        self._time_module = patcher.original("time")
        self._running = 0
        self._wanted = self._thread_module.Event()
        self._hub_thread: int | None = None
        self._hub: Any = None
        #: How often the hub has had a turn, and whether it is counting.
        self._turns, self._counting = 0, False

    def call(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        self._running += 1
        if not self._wanted.is_set():
            self._start()
        try:
            return function(*args)
        finally:
            self._running -= 1

    def _start(self) -> None:
        if self._hub_thread is None:
            from eventlet import hubs

            self._hub = hubs.get_hub()
            self._hub_thread = original("eventlet", "get_ident")()
            thread = self._thread_module.Thread(target=self._look, daemon=True)
            thread.name = "fallback_transport hub watch"
            thread.start()
        self._wanted.set()
        if not self._counting:
            self._count()

    def _count(self) -> None:
        """In the hub, every now and then while the thread looks."""
        self._turns += 1
        self._counting = self._wanted.is_set()
        if self._counting:
            self._hub.schedule_call_global(WATCH_INTERVAL, self._count)

    def _look(self) -> None:
        seen: FrameType | None = None
        since, turns, told = 0.0, 0, False
        while True:
            if not self._running:
                seen = None
                self._wanted.clear()
            self._wanted.wait()
            self._time_module.sleep(WATCH_INTERVAL)
            frame, now = self._frame(), self._time_module.monotonic()
            if frame is not seen:
                seen, told = frame, False
            elif self._turns == turns and frame is not None:
                if not told and now - since >= BLOCKED_AFTER:
                    told = True
                    logger.warning(
                        "handler %s blocks eventlet's hub for over %.0f s: every client waits; "
                        "use cooperative calls, or eventlet.tpool",
                        frame.f_locals["name"],
                        BLOCKED_AFTER,
                    )
                continue
            since, turns = now, self._turns

    def _frame(self) -> FrameType | None:
        """The `call` frame that the hub's thread is in just now, if it runs a handler."""
        frame = sys._current_frames().get(self._hub_thread or 0)
        while frame is not None and frame.f_code is not HubWatch.call.__code__:
            frame = frame.f_back
        return frame
