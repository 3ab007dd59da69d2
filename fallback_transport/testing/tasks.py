"""The async mode of the tests: tasks that take turns, and a clock that stands until it is set.

A task is a greenlet. It runs until it waits, and goes on when what it waits for
has come; in between nothing else runs, so that a test has the same order each
time. It waits in virtual time: nothing here sleeps, and there are no threads.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import greenlet

from ..engine import server_at_work
from ..failures import EventRefused
from ..runtime import (
    Alarm,
    Driver,
    Runtime,
    TimerAlarm,
    UnsuitableServer,
    defer_nothing_here,
)
from ..runtime.handover import pywsgi_socket

logger = logging.getLogger("fallback_transport.testing")

#: What the clock says at first: not 0, which would hide who forgets to ask it.
START = 1000.0
#: After so many turns without rest at one time, it is an endless loop.
RESTLESS = 100_000
#: Seconds after which whoever could not do yet what was due is asked again.
RETRY = 0.05
#: Why a server cannot serve what a client has tested.
SERVED = (
    "a TestClient sets the clock of this app's sessions, for as long as the app lives, and no "
    "server can go by that: make another app for the server"
)


class Peer(Protocol):
    """What is outside the server, and takes turns with its tasks."""

    def exchange(self) -> bool:
        """Take what came and send what there is to send; whether there was anything."""

    def deadline(self) -> float:
        """When it has something to do by the clock, or sooner."""


#: Whom a greenlet goes to at its end.
_PARENT: Any = greenlet.greenlet.__dict__["parent"]


class Task(greenlet.greenlet):
    """A background task; `join` and `is_alive` are those of `threading.Thread`."""

    @property
    def parent(self) -> greenlet.greenlet | None:
        """Who has let it run, and goes on when it waits, or is over."""
        found: greenlet.greenlet | None = _PARENT.__get__(self)
        return found

    @parent.setter
    def parent(self, other: greenlet.greenlet | None) -> None:
        """Nobody else: eventlet's hub makes itself the parent of all that wait in it, for good."""

    def __init__(self, tasks: Tasks, run: Callable[[], object]) -> None:
        super().__init__(run)
        self._tasks = tasks
        self._done: Event | None = None

    def join(self, timeout: float | None = None) -> None:
        """Wait until it is over."""
        if not self.dead:
            self._done = self._done or self._tasks.create_event()
            self._done.wait(timeout)

    def is_alive(self) -> bool:
        """Whether it is not over."""
        return not self.dead

    def ended(self) -> None:
        """Tell those who wait for it."""
        if self._done is not None:
            self._done.set()


class Timer:
    """Something that is called at a time, unless it is over before."""

    __slots__ = ("fire", "over")

    def __init__(self, call: Callable[[], None]) -> None:
        self.fire = call
        self.over = False

    def cancel(self) -> None:
        """It is not to be called."""
        self.over = True


class Wait:
    """One task's wait, which ends once: because of what it waits for, or as a timer."""

    __slots__ = ("_tasks", "over", "task")

    def __init__(self, tasks: Tasks, task: Task) -> None:
        self._tasks = tasks
        self.task = task
        self.over = False

    def fire(self) -> None:
        """Its time is over."""
        self._tasks.wake(self)


class Event:
    """As `threading.Event`; threads may set it, tasks and the test itself may wait for it."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._set = False
        self._waits: list[Wait] = []

    def set(self) -> None:
        self._set = True
        waits, self._waits = self._waits, []
        for wait in waits:
            self._tasks.wake(wait)

    def clear(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        if self._set:
            return True
        task = self._tasks.current()
        if task is None:
            return self._tasks.drive(self.is_set, timeout)
        wait = Wait(self._tasks, task)
        self._waits.append(wait)
        self._tasks.pause(wait, timeout)
        if wait in self._waits:
            self._waits.remove(wait)
            return False
        return True


class Tasks:
    """Tasks and their clock, as a driver of `runtime.Runtime`.

    Args:
        former: the one that there was before.
    """

    async_mode = "testing"

    def __init__(self, former: Driver | None = None) -> None:
        self.time = START
        #: That of the app's own mode, by which goes on what began before.
        self._former = former
        #: What tasks died of.
        self.errors: list[Exception] = []
        self.peers: list[Peer] = []
        self._ready: deque[Task] = deque()
        #: When, in which order, and what.
        self._timers: list[tuple[float, int, Timer | Wait]] = []
        self._order = itertools.count()
        self._root = _root()
        self._settling = False

    # -- for the server: `runtime.Driver` ----------------------------------------------

    def start_background_task(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Task:
        task = Task(self, lambda: target(*args, **kwargs))
        self._ready.append(task)
        return task

    def create_event(self, *args: Any, **kwargs: Any) -> Event:
        return Event(self)

    def sleep(self, seconds: float = 0) -> None:
        if self._former is not None and self._began_before():
            self._former.sleep(seconds)
            return
        task = self.current()
        if task is None:
            self.advance(seconds)
        elif seconds > 0:
            self.pause(Wait(self, task), seconds)
        else:
            self._ready.append(task)
            self._leave(task)

    # -- for events ----------------------------------------------------------------------

    def current(self) -> Task | None:
        """The task that calls; None for the test itself.

        Raises:
            RuntimeError: it is neither, but another thread, that nobody could wake.
        """
        running = greenlet.getcurrent()
        if isinstance(running, Task):
            return running
        if _root() is not self._root:
            raise RuntimeError(
                "only the test and the server's own tasks can wait in virtual time; "
                "start this one with transport.server.start_background_task"
            )
        return None

    def pause(self, wait: Wait, timeout: float | None) -> None:
        """Let the others run, until `wait` is woken or its time is over."""
        if timeout is not None:
            self._set_timer(self.time + max(0.0, timeout), wait)
        self._leave(wait.task)

    def wake(self, wait: Wait) -> None:
        """Its task is to go on."""
        if not wait.over:
            wait.over = True
            self._ready.append(wait.task)

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        """Call something when the clock says `when`, unless it is cancelled before."""
        timer = Timer(call)
        self._set_timer(when, timer)
        return timer

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """The same, after a time."""
        return self.at(self.time + seconds, call)

    # -- for the test --------------------------------------------------------------------

    def run(self) -> bool:
        """Run the tasks until all of them wait; whether there were any."""
        ran = 0
        here = greenlet.getcurrent()
        while self._ready:
            ran += 1
            if ran > RESTLESS:
                raise RuntimeError(f"a task does not come to rest at {self.time}")
            task = self._ready.popleft()
            if task.dead:
                continue
            _PARENT.__set__(task, here)
            try:
                task.switch()
            except Exception as error:
                # Like a thread that dies of it.
                logger.exception("a task raised")
                self.errors.append(error)
            if task.dead:
                task.ended()
        return ran > 0

    def settle(self) -> None:
        """Let everything happen that can happen now."""
        if self._settling:
            # Called by a peer: whoever called it goes on anyway.
            return
        self._settling = True
        try:
            for _ in range(RESTLESS):
                moved = self.run()
                for peer in list(self.peers):
                    moved = peer.exchange() or moved
                if not moved and not self._ready:
                    return
            raise RuntimeError(f"server and clients do not come to rest at {self.time}")
        finally:
            self._settling = False

    def advance(self, seconds: float) -> None:
        """Let time go by, with all that becomes due in it."""
        self.drive(lambda: False, seconds)

    def drive(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Let time go by until `condition`, at most for `timeout`; what it is then.

        Without a time-out, it ends where nothing more will happen.
        """
        if self._settling:
            raise RuntimeError("a client's listener cannot wait: it is called between two turns")
        until = None if timeout is None else self.time + timeout
        self.settle()
        while not condition():
            when = self._next()
            if when is None or (until is not None and when > until):
                break
            self.time = max(self.time, when)
            self._fire()
            self.settle()
        else:
            return True
        if until is not None:
            self.time = until
            self.settle()
        return condition()

    # -- inside --------------------------------------------------------------------------

    def _next(self) -> float | None:
        due = [peer.deadline() for peer in self.peers]
        # What is due and was not done a moment ago is not to be asked for without a pause.
        first = max(min(due, default=math.inf), self.time + RETRY)
        timers = self._timers
        while timers:
            when, _, timer = timers[0]
            if not timer.over:
                first = min(first, when)
                break
            heapq.heappop(timers)
        return first if first < math.inf else None

    def _set_timer(self, when: float, timer: Timer | Wait) -> None:
        heapq.heappush(self._timers, (when, next(self._order), timer))

    def _fire(self) -> None:
        """Do what is due."""
        timers = self._timers
        while timers and timers[0][0] <= self.time:
            timer = heapq.heappop(timers)[2]
            if not timer.over:
                timer.fire()

    def _began_before(self) -> bool:
        """Whether the caller is a task of the server's, and none of these."""
        return server_at_work() is not None and not isinstance(greenlet.getcurrent(), Task)

    def _leave(self, task: Task) -> None:
        assert task.parent is not None, "`run` has set it"
        task.parent.switch()


class VirtualRuntime(Runtime):
    """The async mode of the tests, for all that asks a `Runtime`.

    Args:
        make_lock: `Runtime.lock` of the app's own mode. Tasks never wait in one, so it need not be
            the slow one that a patched `threading` has: it keeps out the test's own threads.
        former: the driver of that mode; see `Tasks`.
    """

    # What a test expects comes at its time.
    grain = 0.0

    def __init__(self, make_lock: Callable[[], Any], former: Driver | None = None) -> None:
        self.tasks = Tasks(former)
        #: What the application's handlers have raised.
        self.raised: list[BaseException] = []
        #: What the test's own listeners and callbacks have raised.
        self.failed: list[BaseException] = []
        super().__init__(self.tasks)
        self._make_lock = make_lock
        defer_nothing_here()
        self.call_handler = self._called

    def now(self) -> float:
        return self.tasks.time

    def check(self, environ: dict[str, Any]) -> None:
        """The test asks, and its tasks: nothing of a server's could wait in virtual time."""
        # A hub's server has the test's own thread, perhaps.
        served = "eventlet.input" in environ or pywsgi_socket(environ) is not None
        try:
            self.tasks.current()
        except RuntimeError:
            served = True
        if served:
            if not self._complained:
                logger.error("%s", SERVED)
            self._complained = True
            raise UnsuitableServer(SERVED)

    def serve(self, *args: Any, **kwargs: Any) -> None:
        """No server can go by this clock.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(SERVED)

    def share(self, environ: dict[str, Any] | None = None) -> None:
        """While one runs, time stands: nobody is held up."""

    def alarm(self, ring: Callable[[], None]) -> Alarm:
        return TimerAlarm(self.tasks.later, self.now, ring)

    def sender(self, sock: Any) -> Callable[[bytes], int]:
        send: Callable[[bytes], int] = sock.send
        return send

    def _called(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except (KeyboardInterrupt, SystemExit, EventRefused):
            raise
        except BaseException as error:
            self.raised.append(error)
            raise


def _root() -> greenlet.greenlet:
    """The greenlet that is the thread itself."""
    found = greenlet.getcurrent()
    while found.parent is not None:
        found = found.parent
    return found
