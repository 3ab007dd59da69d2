"""`Workers`: threads that are kept for the next task."""

from __future__ import annotations

import contextvars
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from fallback_transport.runtime import workers as module
from fallback_transport.runtime.workers import Workers

PATIENCE = 10.0


class Threads:
    """Workers, and the threads that they have started."""

    def __init__(self) -> None:
        self.started: list[threading.Thread] = []
        self.workers = Workers(self._spawn)

    def _spawn(self, function: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=function, args=args, daemon=True)
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


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Threads()
    yield made
    # There is no room for them any more.
    monkeypatch.setattr(module, "MAX_IDLE", 0)
    while made.workers._idle:
        made.workers.submit(len, ())
    made.end()


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
    together = threading.Barrier(2, timeout=PATIENCE)
    for _ in range(2):
        threads.workers.submit(together.wait)
    threads.idle(1)
    for thread in threads.started:
        thread.join(0.0)
    assert len(threads.workers._idle) == 1
