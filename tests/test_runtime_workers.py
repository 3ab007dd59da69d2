"""`Workers`: threads that are kept for the next task."""

from __future__ import annotations

import contextvars
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fallback_transport.runtime import Runtime
from fallback_transport.runtime import workers as module
from fallback_transport.runtime.workers import Workers

PATIENCE = 10.0


class Threads:
    """Workers, and the threads that they have started."""

    def __init__(self) -> None:
        self.started: list[threading.Thread] = []
        self.workers = Workers(self._spawn)
        #: The one that tries again.
        self.watch: threading.Thread | None = None
        #: Whether there is no room for another; called as one is refused.
        self.full = self.over = False
        self.refused: Callable[[], None] = lambda: None

    def _spawn(self, function: Callable[..., None], *args: Any) -> None:
        if self.full:
            self.refused()
            raise RuntimeError("can't start new thread")
        thread = threading.Thread(target=function, args=args, daemon=True)
        if function is module._try_again:
            known, short = args
            args = (lambda: None if self.over else known()), short
            thread = self.watch = threading.Thread(target=function, args=args, daemon=True)
        else:
            self.started.append(thread)
        thread.start()

    def run(self, function: Callable[[], object]) -> None:
        """Run it, and return when its thread waits for the next."""
        self.workers.submit(function)
        self.idle(len(self.started))

    def idle(self, count: int) -> None:
        """Return when so many threads wait."""
        while len(self.workers._idle) < count:
            assert any(thread.is_alive() for thread in self.started)

    def end(self) -> None:
        for thread in self.started:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def end_watch(self) -> None:
        """It ends as if the workers were gone."""
        self.over = True
        while self.watch is not None and self.watch.is_alive():
            # Again, for it may just have seen that there is nothing to do.
            self.workers._short.set()
            self.watch.join(0.01)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Threads()
    yield made
    # There is no room for them any more.
    monkeypatch.setattr(module, "MAX_IDLE", 0)
    while made.workers._idle:
        made.workers.submit(len, ())
    made.end()
    made.end_watch()


def test_a_thread_is_used_again(threads: Threads) -> None:
    seen: list[int] = []
    for _ in range(3):
        threads.run(lambda: seen.append(threading.get_ident()))
    assert len(threads.started) == 1
    assert len(seen) == 3
    assert len(set(seen)) == 1


def test_tasks_that_wait_have_a_thread_each(threads: Threads) -> None:
    together = threading.Barrier(3, timeout=PATIENCE)
    done: list[int] = []
    for number in range(3):
        threads.workers.submit(lambda number=number: (together.wait(), done.append(number)))
    threads.idle(3)
    assert sorted(done) == [0, 1, 2]
    # The last to come back is the first to be asked.
    newest = threads.workers._idle[-1]
    threads.run(lambda: None)
    assert threads.workers._idle[-1] is newest
    assert len(threads.started) == 3


def test_a_task_that_fails_is_logged_and_its_thread_goes_on(
    threads: Threads, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise RuntimeError("told to")

    threads.run(fails)
    assert "told to" in caplog.text
    threads.run(lambda: None)
    assert len(threads.started) == 1


def test_context_variables_are_not_the_next_ones(threads: Threads) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []
    for name in ("one", "two"):
        threads.run(lambda name=name: (seen.append(variable.get()), variable.set(name)))
    assert seen == ["none", "none"]


def test_nothing_of_a_task_is_kept(threads: Threads) -> None:
    class Task:
        def __call__(self) -> None:
            pass

    task = Task()
    gone = weakref.ref(task)
    threads.run(task)
    del task
    assert gone() is None


def test_a_thread_without_tasks_ends(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE", 0.01)
    threads.workers.submit(lambda: None)
    threads.end()
    assert threads.workers._idle == []
    monkeypatch.undo()
    threads.workers.submit(lambda: None)
    threads.idle(1)
    assert len(threads.started) == 2


def test_one_that_is_about_to_end_takes_the_task_it_was_given(threads: Threads) -> None:
    done: list[str] = []
    idle = module._Idle()
    # It was taken off the list, and its wait has ended before it was woken.
    assert idle.wait(0) is None
    idle.wake((done.append, ("one",)))
    task = threads.workers._leave(idle)
    assert task is not None
    assert task[1] == ("one",)


def test_few_are_kept(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IDLE", 1)
    # Or the other might end, too, for want of a task.
    monkeypatch.setattr(module, "IDLE", PATIENCE)
    together = threading.Barrier(2, timeout=PATIENCE)
    for _ in range(2):
        threads.workers.submit(together.wait)
    threads.idle(1)
    while all(thread.is_alive() for thread in threads.started):
        pass
    assert len(threads.workers._idle) == 1


# -- where no thread can be started ------------------------------------------------------


class Waiting:
    """A task that waits until it may go on."""

    def __init__(self, threads: Threads) -> None:
        self._begun, self._go = threading.Event(), threading.Event()
        threads.workers.submit(self._wait)
        assert self._begun.wait(PATIENCE)

    def _wait(self) -> None:
        self._begun.set()
        assert self._go.wait(PATIENCE)

    def go(self) -> None:
        self._go.set()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0.001)


def submitted(threads: Threads) -> threading.Event:
    """What tells that a task, submitted now, was run."""
    done = threading.Event()
    threads.workers.submit(done.set)
    return done


@pytest.mark.parametrize("tried", [False, True])
def test_the_thread_that_tries_again_keeps_nobody(
    tried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE", 0.001)
    started: list[threading.Thread] = []

    def spawn(function: Callable[..., None], *args: Any) -> None:
        started.append(threading.Thread(target=function, args=args, daemon=True))
        started[-1].start()

    workers = Workers(spawn)
    done = threading.Event()
    workers.submit(done.set)
    assert done.wait(PATIENCE)
    assert len(started) == 2
    if tried:
        workers._short.set()
        while workers._short.is_set():
            pass
    known = weakref.ref(workers)
    del workers
    for thread in started:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert known() is None


def test_a_task_waits_for_a_thread_that_comes_back(threads: Threads) -> None:
    task = Waiting(threads)
    threads.full = True
    done = [submitted(threads) for _ in range(3)]
    assert not any(each.is_set() for each in done)
    task.go()
    assert all(each.wait(PATIENCE) for each in done)
    assert len(threads.started) == 1


def test_or_for_one_that_can_be_started_again(
    threads: Threads, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, pauses = threading.Semaphore(0), list[float]()
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append)
    monkeypatch.setattr(module, "time", clock)
    task = Waiting(threads)
    threads.full, threads.refused = True, tried.release
    done = [submitted(threads) for _ in range(3)]
    # As often as it takes.
    assert all(tried.acquire(timeout=PATIENCE) for _ in range(10))
    assert not any(each.is_set() for each in done)
    # But not without end: the first three are those that have submitted, one may be at it.
    assert set(pauses) == {module.RETRY}
    assert len(pauses) >= 6
    threads.full = False
    assert all(each.wait(PATIENCE) for each in done)
    task.go()
    assert len(threads.started) > 1
    # The one that tries again waits until there is something to try.
    threads.workers._start_waiting()
    assert not threads.workers._short.is_set()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_thread_that_comes_back_at_that_moment_is_asked(threads: Threads) -> None:
    task = Waiting(threads)

    def comes_back() -> None:
        task.go()
        threads.idle(1)

    threads.full, threads.refused = True, comes_back
    assert submitted(threads).wait(PATIENCE)
    assert not threads.workers._waiting


@pytest.mark.usefixtures("soon")
def test_the_thread_that_tries_again_begins_with_the_next_one(threads: Threads) -> None:
    threads.full = True
    first = submitted(threads)
    assert threads.watch is None
    threads.full = False
    assert submitted(threads).wait(PATIENCE)
    assert first.wait(PATIENCE)
    assert threads.watch is not None


def test_the_thread_that_tries_again_waits_for_each_lack(threads: Threads) -> None:
    waits: list[None] = []
    short: Any = SimpleNamespace(wait=lambda: waits.append(None))
    known: Any = iter([threads.workers, None]).__next__
    module._try_again(known, short)
    assert len(waits) == 2


def test_what_may_be_refused_does_not_wait(threads: Threads) -> None:
    threads.full = True
    with pytest.raises(RuntimeError, match="can't start"):
        threads.workers.start(len, ())
    assert not threads.workers._waiting
    threads.full = False
    done = threading.Event()
    threads.workers.start(done.set)
    assert done.wait(PATIENCE)


class Driver:
    """An async mode of threads, which there may be too many of."""

    async_mode = "threading"
    create_event = threading.Event

    def __init__(self) -> None:
        self.threads = Threads()

    def start_background_task(self, target: Any, *args: Any, **kwargs: Any) -> None:
        self.threads._spawn(target, *args)

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody sleeps here")


@pytest.mark.usefixtures("soon")
def test_flushes_and_alarms_outlive_a_lack_of_threads() -> None:
    """Whoever has asked does not ask again: it would never be flushed, and never ring, again."""
    driver = Driver()
    runtime, threads = Runtime(driver), driver.threads
    assert runtime._workers is not None
    threads.workers = runtime._workers
    task = Waiting(threads)
    threads.full = True
    flushed, rang = threading.Event(), threading.Event()
    runtime.at_end_of_turn(flushed.set)
    alarm = runtime.alarm(rang.set)
    alarm.set(runtime.now())
    threads.full = False
    assert flushed.wait(PATIENCE)
    assert rang.wait(PATIENCE)
    task.go()
    threads.end_watch()


def test_the_end_of_a_process_is_no_lack_of_threads() -> None:
    program = (
        "import atexit\n"
        "made = []\n"
        # Behind all that is registered later.
        "atexit.register(lambda: print('told:', made[0]._short.is_set()))\n"
        "from fallback_transport.runtime.workers import Workers\n"
        "made.append(Workers(lambda *_: None))\n"
        "made[0].submit(print)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout == "told: False\n"
