"""eventlet's hub, for what need not be a greenlet: callbacks, and the end of a turn.

A turn of the hub reads what has come on every socket. What follows of it is
done once, at the end of the turn: first the tasks, on worker greenlets that are
kept for the next ones (a greenlet for each costs more than the rest of an
echo), then what is to be written.

It uses what `eventlet.wsgi` and `eventlet.greenio` use of the hub: `add`,
`remove`, `mark_as_reopened`, `schedule_call_global`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    import greenlet

logger = logging.getLogger("fallback_transport.runtime")

#: Seconds of work after which a task, or a turn, that never waits gives way to the others.
TURN = 0.005
#: How many workers are kept while there is nothing to do.
MAX_IDLE = 64

#: How many connections are written to together: a thousandth of a second, by which the first waits.
MAX_WRITES: Final = 100

#: Seconds for which eventlet's hub may wait at once: `epoll` takes no more than 24.8 days, and
#: where that is more, the hub fails, and everything with it.
MAX_WAIT: Final = 1e6

T = TypeVar("T")


class Hub:
    """The hub of the thread that makes it. All of it is called in that thread.

    Args:
        hub: eventlet's; by default that of this thread.
    """

    def __init__(self, hub: Any = None) -> None:
        # Here, because it comes with eventlet, which the other modes do without.
        import greenlet

        if hub is None:
            from eventlet import hubs

            hub = hubs.get_hub()
        self._greenlet = greenlet
        self._hub = hub
        #: Seconds on a clock that never goes back, which is that of the timers.
        self.now: Callable[[], float] = hub.clock
        self._tasks: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._idle: list[greenlet.greenlet] = []
        self._flushes: list[Callable[[], None]] = []
        self._writes: list[Callable[[], None]] = []
        self._scheduled = False
        self._until = 0.0
        _wake_up(hub)

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Run `function`, which may wait, at the end of the turn."""
        self._tasks.append((function, args))
        if not self._scheduled:
            self._schedule()

    def at_end_of_turn(self, flush: Callable[[], None]) -> None:
        """Call `flush`, which must not wait, behind the tasks of this turn."""
        self._flushes.append(flush)
        if not self._scheduled:
            self._schedule()

    def at_writes(self, write: Callable[[], None]) -> None:
        """Call `write`, which must neither wait nor raise, with those of other connections."""
        self._writes.append(write)
        if len(self._writes) >= MAX_WRITES:
            self._write()
        elif not self._scheduled:
            self._schedule()

    def call_later(self, seconds: float, function: Callable[..., Any], *args: Any) -> Any:
        """Call `function`, which must not wait, after a time; what is returned has `cancel`."""
        return self._hub.schedule_call_global(seconds, function, *args)

    def watch_readable(self, fileno: int, callback: Callable[[int], None]) -> Any:
        """Call `callback`, which must not wait, whenever there is something to read."""
        return self._hub.add(self._hub.READ, fileno, callback, _ignore, _nothing)

    def watch_writable(self, fileno: int, callback: Callable[[int], None]) -> Any:
        """Call `callback`, which must not wait, whenever there is room to write."""
        return self._hub.add(self._hub.WRITE, fileno, callback, _ignore, _nothing)

    def opened(self, fileno: int) -> None:
        """This descriptor is a new one, whoever may still wait for the one before."""
        self._hub.mark_as_reopened(fileno)

    def unwatch(self, watcher: Any) -> None:
        """Stop watching, before the descriptor is closed or given away."""
        self._hub.remove(watcher)

    def _schedule(self) -> None:
        self._scheduled = True
        self._hub.schedule_call_global(0, self._end_turn)

    def _end_turn(self) -> None:
        self._until = time.monotonic() + TURN
        try:
            while self._tasks and time.monotonic() < self._until:
                worker = self._idle.pop() if self._idle else self._worker()
                # Back here when there are no more tasks, or the one that runs waits.
                worker.switch()
            while self._flushes:
                flushes, self._flushes = self._flushes, []
                for flush in flushes:
                    try:
                        flush()
                    except Exception:
                        # One connection's defect must not keep the others from their flush.
                        logger.exception("a flush failed")
            self._write()
        finally:
            self._scheduled = False
            if self._tasks or self._flushes or self._writes:
                self._schedule()

    def _write(self) -> None:
        writes, self._writes = self._writes, []
        for write in writes:
            write()

    def _worker(self) -> greenlet.greenlet:
        return self._greenlet.greenlet(self._work, self._hub.greenlet)

    def _work(self) -> None:
        while True:
            while self._tasks:
                function, args = self._tasks.popleft()
                try:
                    # What one task leaves in context variables is not the next one's.
                    Context().run(function, *args)
                except Exception:
                    logger.exception("a task failed")
                # Nor is it kept for that.
                del function, args
                if time.monotonic() > self._until:
                    break
            if len(self._idle) >= MAX_IDLE:
                return
            self._idle.append(self._greenlet.getcurrent())
            self._hub.greenlet.switch()


class Deadlines(Generic[T]):
    """Things that each may wait for the same time: one timer for all of them.

    Args:
        hub: the timer's.
        seconds: how long each may wait.
        late: called with one that has.
    """

    def __init__(self, hub: Hub, seconds: float, late: Callable[[T], None]) -> None:
        self._hub = hub
        self._seconds = seconds
        self._late = late
        #: In the order in which they are due.
        self._due: dict[T, float] = {}
        self._running = False

    def __len__(self) -> int:
        return len(self._due)

    def start(self, item: T) -> None:
        """Its time begins now, or begins anew."""
        self._due.pop(item, None)
        self._due[item] = self._hub.now() + self._seconds
        if not self._running:
            self._running = True
            self._hub.call_later(self._seconds, self._look)

    def stop(self, item: T) -> None:
        """It waits no more."""
        self._due.pop(item, None)

    def _look(self) -> None:
        now = self._hub.now()
        try:
            while self._due:
                item, when = next(iter(self._due.items()))
                if when > now:
                    break
                del self._due[item]
                self._late(item)
        except Exception:
            # One thing's defect must not stop everybody's clock.
            logger.exception("a deadline failed")
        finally:
            self._running = bool(self._due)
            if self._due:
                self._hub.call_later(max(0.0, next(iter(self._due.values())) - now), self._look)


def _wake_up(hub: Any) -> None:
    """See `MAX_WAIT`; whoever's timer is the next."""
    hub.schedule_call_global(MAX_WAIT, _wake_up, hub)


def _ignore(*_: Any) -> None:
    """A descriptor was opened anew that is still watched: `unwatch` comes before any close."""


def _nothing() -> None:
    """There is no object to tell that its descriptor was closed."""
