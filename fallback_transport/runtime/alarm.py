"""One timer that is set anew again and again, whatever calls it in the async mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from . import Runtime


class Alarm(Protocol):
    """Rings once at the time for which it was set last."""

    def set(self, when: float | None) -> None:
        """Ring at `when`, by the runtime's clock; None: not at all."""


class TimerAlarm:
    """By a hub's timer: nothing waits, and nobody has to be woken.

    Args:
        later: makes a timer, of seconds and a call; it has `cancel`.
        now: the clock.
        ring: called at the time; it must not wait.
    """

    def __init__(
        self,
        later: Callable[[float, Callable[[], None]], Any],
        now: Callable[[], float],
        ring: Callable[[], None],
    ) -> None:
        self._later = later
        self._now = now
        self._ring = ring
        self._timer: Any = None

    def set(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None:
            self._timer = self._later(max(0.0, when - self._now()), self._due)

    def _due(self) -> None:
        self._timer = None
        self._ring()


class TaskAlarm:
    """By a task that waits, where no hub calls us; there is none while it is not set.

    Args:
        runtime: the async mode.
        ring: called at the time, in the task.
    """

    def __init__(self, runtime: Runtime, ring: Callable[[], None]) -> None:
        self._runtime = runtime
        self._ring = ring
        self._lock = runtime.lock()
        self._changed = runtime.event()
        self._when: float | None = None
        self._running = False

    def set(self, when: float | None) -> None:
        with self._lock:
            self._when = when
            if self._running:
                self._changed.set()
            elif when is not None:
                self._running = True
                self._runtime.submit(self._run)

    def _run(self) -> None:
        while True:
            with self._lock:
                when = self._when
                if when is None:
                    self._running = False
                    return
                wait = when - self._runtime.now()
                if wait <= 0:
                    self._when = None
                self._changed.clear()
            if wait > 0:
                self._changed.wait(wait)
                continue
            try:
                self._ring()
            except BaseException:
                # It may end no more than this task; the next time is not to pass with it.
                self._runtime.submit(self._run)
                raise
