"""When each session is to look at its clock: one timer for all of them."""

from __future__ import annotations

import heapq
import logging
import math
from typing import Final, Protocol

from .runtime import Alarm, Runtime

logger = logging.getLogger("fallback_transport.session")

#: Seconds after which what was due and could not be done yet is tried again.
RETRY = 0.05
#: By so many seconds a timer may be late; beyond, the process was busy, and what came meanwhile is
#: still to be read.
LATENESS: Final = 0.1
#: Seconds from which on a deadline is far away. An acknowledgement's is not, a doubt's is: each
#: session begins with a doubt, and a time of its own for each of many that connect is 200 bytes.
FAR: Final = 0.5


class Timed(Protocol):
    """A session, as far as its deadlines go."""

    id: str

    def timeout(self) -> None:
        """Do what the time demands."""


class Timekeeper:
    """All sessions' deadlines, and one alarm for the first.

    What is far away is rounded up to the runtime's `grain`: most of the deadlines of a quiet
    process, keepalives, fall on one time with others, and wake it once.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = runtime.lock()
        self._due: dict[str, tuple[float, Timed]] = {}
        #: The times that there are, and whose they are: an id whose time in `_due` is another
        #: is void.
        self._times: list[float] = []
        self._ids: dict[float, list[str]] = {}
        #: How many ids there are, those that are void among them.
        self._count = 0
        self._alarm: Alarm | None = None
        #: Whether it rings: only when all that is due was told, it is set anew.
        self._ringing = False
        #: Whether it was late, and set anew for that.
        self._late = False

    def schedule(self, timed: Timed, when: float | None) -> None:
        """Call `timed.timeout()` at `when`; None, or an earlier time, replaces it.

        A later time is only noted: the session is asked again at the earlier
        one, which is cheaper than to search for it with every message.
        """
        now, grain = self._runtime.now(), self._runtime.grain
        with self._lock:
            if when is None:
                self._due.pop(timed.id, None)
                if not self._due and self._times:
                    self._clear()
                    self._late = False
                    self._set_alarm()
                return
            if when <= now:
                # It waits for a writer (an ack to a peer that does not read): asked for
                # without a pause, nobody else would ever run on a hub.
                when = now + RETRY
            elif grain and when > now + FAR:
                when = math.ceil(when / grain) * grain
            due = self._due.get(timed.id)
            if due is not None and due[0] <= when:
                return
            first = not self._times or when < self._times[0]
            self._add(when, timed)
            if self._count > 4 * len(self._due) + 64:
                self._compact()
            if first:
                self._set_alarm()

    def _add(self, when: float, timed: Timed) -> None:
        self._due[timed.id] = when, timed
        ids = self._ids.get(when)
        if ids is None:
            self._ids[when] = [timed.id]
            heapq.heappush(self._times, when)
        else:
            ids.append(timed.id)
        self._count += 1

    def _clear(self) -> None:
        self._times.clear()
        self._ids.clear()
        self._count = 0

    def _compact(self) -> None:
        """Drop what is void once it is the most: each deadline moved leaves one."""
        due = list(self._due.values())
        self._clear()
        for when, timed in due:
            self._add(when, timed)

    def _drop_void(self) -> None:
        """Whoever answers in time leaves one with each question: nobody is to wake for them."""
        while self._times:
            when = self._times[0]
            ids = self._ids[when]
            while ids:
                due = self._due.get(ids[-1])
                if due is not None and due[0] == when:
                    return
                ids.pop()
                self._count -= 1
            del self._ids[when]
            heapq.heappop(self._times)

    def _set_alarm(self) -> None:
        if self._ringing:
            return
        if self._alarm is None:
            # Here, for a session's first deadline shows which thread serves.
            self._alarm = self._runtime.alarm(self._ring)
        self._alarm.set(self._times[0] if self._times else None)

    def _ring(self) -> None:
        due: list[Timed] = []
        with self._lock:
            self._drop_void()
            now = self._runtime.now()
            if self._times and now - self._times[0] > LATENESS and not self._late:
                # An answer that waits to be read must not count as missing.
                self._late = True
                assert self._alarm is not None, "it rings"
                self._alarm.set(now + RETRY)
                return
            self._late = False
            self._ringing = True
            while self._times and self._times[0] <= now:
                due += self._take(heapq.heappop(self._times))
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

    def _take(self, when: float) -> list[Timed]:
        """Those whose time this is; they have none any more."""
        found: list[Timed] = []
        ids = self._ids.pop(when)
        self._count -= len(ids)
        for session_id in ids:
            due = self._due.get(session_id)
            if due is not None and due[0] == when:
                del self._due[session_id]
                found.append(due[1])
        return found
