"""Threads for short tasks, kept for the next ones: to start one costs more than an echo."""

from __future__ import annotations

import _thread
import logging
import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any

from .hub import MAX_IDLE

logger = logging.getLogger("fallback_transport.runtime")

#: Seconds without a task after which a thread ends: it must not keep what its last one has used.
IDLE = 1.0

_Task = tuple[Callable[..., Any], tuple[Any, ...]]


class Workers:
    """As many threads as there are tasks at once.

    Args:
        spawn: starts a thread.
    """

    def __init__(self, spawn: Callable[[Callable[[list[_Task]], None], list[_Task]], Any]) -> None:
        self._spawn = spawn
        self._lock = threading.Lock()
        #: The last to have become idle is the first to be woken: its memory is warm.
        self._idle: list[_Idle] = []

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Run `function`, which may wait, in a thread of its own until it returns."""
        with self._lock:
            idle = self._idle.pop() if self._idle else None
        if idle is None:
            self._spawn(self._work, [(function, args)])
        else:
            idle.wake((function, args))

    def _work(self, first: list[_Task]) -> None:
        # Taken out: the thread keeps what it was begun with until it ends.
        task: _Task | None = first.pop()
        idle = _Idle()
        while task is not None:
            function, args = task
            try:
                # What one task leaves in context variables is not the next one's.
                Context().run(function, *args)
            except Exception:
                logger.exception("a task failed")
            # Nor is it kept for that.
            del function, args, task
            with self._lock:
                if len(self._idle) >= MAX_IDLE:
                    return
                self._idle.append(idle)
            task = idle.wait(IDLE) or self._leave(idle)

    def _leave(self, idle: _Idle) -> _Task | None:
        """Be idle no more; but one that was woken meanwhile has a task."""
        with self._lock:
            if idle in self._idle:
                self._idle.remove(idle)
                return None
        return idle.wait(-1)


class _Idle:
    """Where a thread waits for a task."""

    __slots__ = ("_lock", "_task")

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._lock.acquire()
        self._task: _Task | None = None

    def wake(self, task: _Task) -> None:
        self._task = task
        self._lock.release()

    def wait(self, seconds: float) -> _Task | None:
        """The task, or None if none has come in that time; less than 0 is as long as it takes."""
        if not self._lock.acquire(timeout=seconds):
            return None
        task, self._task = self._task, None
        return task
