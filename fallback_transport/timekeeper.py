"""When each session is to look at its clock: one timer for all of them."""

from __future__ import annotations

import heapq
import logging
from typing import Protocol

from .runtime import Alarm, Runtime

logger = logging.getLogger("fallback_transport.session")

#: Seconds after which what was due and could not be done yet is tried again.
RETRY = 0.05
#: By so many seconds a timer may be late; beyond, the process was busy, and what came meanwhile is
#: still to be read.
LATENESS = 0.1


class Timed(Protocol):
    """A session, as far as its deadlines go."""

    id: str

    def timeout(self) -> None:
        """Do what the time demands."""


class Timekeeper:
    """One heap of all sessions' deadlines, and one alarm for the first."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = runtime.lock()
        #: Times and ids; an entry whose time is not the id's in `_due` is void.
        self._heap: list[tuple[float, str]] = []
        self._due: dict[str, tuple[float, Timed]] = {}
        self._alarm: Alarm | None = None
        #: Whether it rings: only when all that is due was told, it is set anew.
        self._ringing = False
        #: Whether it was late, and set anew for that.
        self._late = False

    def schedule(self, timed: Timed, when: float | None) -> None:
        """Call `timed.timeout()` at `when`; None, or an earlier time, replaces it.

        A later time is only noted: the conversation is asked again at the
        earlier one, which is cheaper than to search the heap for every message.
        """
        now = self._runtime.now()
        with self._lock:
            if when is None:
                self._due.pop(timed.id, None)
                if not self._due and self._heap:
                    self._heap.clear()
                    self._late = False
                    self._set_alarm()
                return
            if when <= now:
                # It waits for a writer (an ack to a peer that does not read): asked for
                # without a pause, nobody else would ever run on a hub.
                when = now + RETRY
            due = self._due.get(timed.id)
            if due is not None and due[0] <= when:
                return
            self._due[timed.id] = when, timed
            first = not self._heap or when < self._heap[0][0]
            heapq.heappush(self._heap, (when, timed.id))
            self._compact()
            if first:
                self._set_alarm()

    def _compact(self) -> None:
        """Drop the void entries once they are the most: each deadline moved leaves one."""
        if len(self._heap) > 4 * len(self._due) + 64:
            self._heap = [(when, session_id) for session_id, (when, _) in self._due.items()]
            heapq.heapify(self._heap)

    def _drop_void(self) -> None:
        """Whoever answers in time leaves one with each question: nobody is to wake for them."""
        while self._heap:
            when, session_id = self._heap[0]
            due = self._due.get(session_id)
            if due is not None and due[0] == when:
                return
            heapq.heappop(self._heap)

    def _set_alarm(self) -> None:
        if self._ringing:
            return
        if self._alarm is None:
            # Here, for a session's first deadline shows which thread serves.
            self._alarm = self._runtime.alarm(self._ring)
        self._alarm.set(self._heap[0][0] if self._heap else None)

    def _ring(self) -> None:
        due: list[Timed] = []
        with self._lock:
            self._drop_void()
            now = self._runtime.now()
            if self._heap and now - self._heap[0][0] > LATENESS and not self._late:
                # An answer that waits to be read must not count as missing.
                self._late = True
                assert self._alarm is not None, "it rings"
                self._alarm.set(now + RETRY)
                return
            self._late = False
            self._ringing = True
            while self._heap and self._heap[0][0] <= now:
                _, session_id = heapq.heappop(self._heap)
                due.append(self._due.pop(session_id)[1])
                self._drop_void()
        try:
            for timed in due:
                try:
                    timed.timeout()
                except Exception:
                    # One session's defect must not stop everybody's clock.
                    logger.exception("session %s: its timer failed", timed.id)
        finally:
            with self._lock:
                self._ringing = False
                self._drop_void()
                self._set_alarm()
