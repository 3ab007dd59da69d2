"""Threads for short tasks, kept for the next ones: to start one costs more than an echo."""

from __future__ import annotations

import _thread
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any

from .hub import MAX_IDLE

logger = logging.getLogger("fallback_transport.runtime")

#: Seconds without a task after which a thread ends: it must not keep what its last one has used.
IDLE = 1.0
#: Seconds after which it is tried again to start one, where none could be.
RETRY = 0.05
#: Seconds between two lines in the log about that.
QUIET = 10.0

_Task = tuple[Callable[..., Any], tuple[Any, ...]]


class Workers:
    """As many threads as there are tasks at once.

    There are only so many to be had. What was submitted runs all the same, sooner or later: it
    waits for one that comes back, or for another try to start one. Those tries have a thread of
    their own from the first task on: when they count, it could not be started.

    Args:
        spawn: starts a thread.
    """

    def __init__(self, spawn: Callable[..., Any]) -> None:
        self._spawn = spawn
        self._lock = threading.Lock()
        #: The last to have become idle is the first to be woken: its memory is warm.
        self._idle: list[_Idle] = []
        #: What no thread could be started for; while there is something, nobody is idle.
        self._waiting: deque[_Task] = deque()
        #: Whether there is the thread that tries again; tells it that there is something to try.
        self._watched = False
        self._short = threading.Event()

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Run `function`, which may wait, in a thread of its own until it returns.

        Whoever asks may have locks, and notes that it is done: this does not fail.
        """
        self._begin((function, args))

    def start(self, function: Callable[..., Any], *args: Any) -> None:
        """Do as `submit`, or nothing at all: for what is better refused than kept waiting.

        Raises:
            RuntimeError: no thread can be started.
        """
        with self._lock:
            idle = self._idle.pop() if self._idle else None
        if idle is not None:
            idle.wake((function, args))
            return
        if not self._watched:
            self._watch()
        self._spawn(self._work, [(function, args)])

    def _begin(self, task: _Task) -> bool:
        """Run a task, or let it wait; whether it need not."""
        function, args = task
        try:
            self.start(function, *args)
        except Exception:
            with self._lock:
                # One may have come back since.
                idle = self._idle.pop() if self._idle else None
                if idle is None:
                    self._waiting.append(task)
                    self._short.set()
                    return False
            idle.wake(task)
        return True

    def _watch(self) -> None:
        with self._lock:
            begins, self._watched = not self._watched, True
        if begins:
            try:
                # It keeps nobody: an application may be made, served and dropped, many times.
                dropped = weakref.finalize(self, self._short.set)
                # At the end of the process it would look for what waits, and complain.
                dropped.atexit = False
                self._spawn(_try_again, weakref.ref(self), self._short)
            except BaseException:
                # With the next thread, then.
                self._watched = False
                raise

    def _start_waiting(self) -> None:
        """Begin what waits, as soon as that can be."""
        while (task := self._next()) is not None:
            if not self._begin(task):
                time.sleep(RETRY)
            # See `_work`.
            del task

    def _next(self) -> _Task | None:
        """What has waited longest, if anything waits."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._short.clear()
            return None

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
                task = self._waiting.popleft() if self._waiting else None
                if task is None:
                    if len(self._idle) >= MAX_IDLE:
                        return
                    self._idle.append(idle)
            task = task or idle.wait(IDLE) or self._leave(idle)

    def _leave(self, idle: _Idle) -> _Task | None:
        """Be idle no more; but one that was woken meanwhile has a task."""
        with self._lock:
            if idle in self._idle:
                self._idle.remove(idle)
                return None
        return idle.wait(-1)


def _try_again(known: weakref.ref[Workers], short: threading.Event) -> None:
    """Start what threads could not be started for, until there are no `Workers` any more."""
    quiet_until = 0.0
    while True:
        short.wait()
        workers = known()
        if workers is None:
            return
        if time.monotonic() >= quiet_until:
            quiet_until = time.monotonic() + QUIET
            logger.error("no thread can be started just now: what is to be done waits for one")
        workers._start_waiting()
        del workers


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
