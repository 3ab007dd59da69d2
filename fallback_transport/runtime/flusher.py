"""The end of a turn in the modes whose hub does not tell, and for threads, that have none."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from .hub import MAX_WRITES

logger = logging.getLogger("fallback_transport.runtime")

#: Seconds without work after which the task ends: a thread must not keep the process.
IDLE = 1.0


class Flusher:
    """A task that flushes what became dirty while it had not its turn: one wake-up for all.

    It holds no lock as it calls them, unlike whoever asked for it.

    Args:
        submit: starts a task, sooner or later: nobody asks again for what was asked for.
        event: makes an event of the async mode.
    """

    def __init__(
        self, submit: Callable[[Callable[[], None]], Any], event: Callable[[], Any]
    ) -> None:
        self._submit = submit
        self._make_event = event
        self._event: Any = None
        self._lock = threading.Lock()
        self._flushes: deque[Callable[[], None]] = deque()
        self._writes: list[Callable[[], None]] = []
        #: Whether the task knows that there is something; whether there is a task.
        self._told = self._alive = False

    def at_end_of_turn(self, flush: Callable[[], None]) -> None:
        """Call `flush`, which must not wait, soon."""
        self._flushes.append(flush)
        if self._told:
            return
        with self._lock:
            self._told = True
            if self._event is None:
                self._event = self._make_event()
            begin, self._alive = not self._alive, True
        self._event.set()
        if begin:
            self._submit(self._run)

    def at_writes(self, write: Callable[[], None]) -> None:
        """Call `write`, as with `Hub.at_writes`; only what is called by this calls it."""
        self._writes.append(write)
        if len(self._writes) >= MAX_WRITES:
            self._write()

    def _write(self) -> None:
        writes, self._writes = self._writes, []
        for write in writes:
            write()

    def _run(self) -> None:
        while True:
            told = self._event.wait(IDLE)
            with self._lock:
                # First: from here on, whoever comes tells again.
                self._told = False
                if not told and not self._flushes:
                    self._alive = False
                    return
                self._event.clear()
            while self._flushes:
                flush = self._flushes.popleft()
                try:
                    flush()
                except Exception:
                    # One connection's defect must not keep the others from their flush.
                    logger.exception("a flush failed")
            self._write()
