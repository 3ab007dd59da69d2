"""`Flusher`: one task flushes what became dirty, and writes it together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import pytest

from fallback_transport.runtime.flusher import IDLE, Flusher
from fallback_transport.runtime.hub import MAX_WRITES
from tests.fakes import FakeRuntime


class Spawned:
    """A flusher, and how many tasks it has started."""

    def __init__(self) -> None:
        self.runtime = FakeRuntime()
        self.tasks = 0
        self.flusher = Flusher(self._submit, self.runtime.event)

    def _submit(self, function: object) -> None:
        self.tasks += 1
        self.runtime.submit(function)  # type: ignore[arg-type]


def test_all_that_came_meanwhile_is_flushed_by_one_task() -> None:
    spawned, done = Spawned(), []
    for number in range(3):
        spawned.flusher.at_end_of_turn(lambda number=number: done.append(number))
    assert done == []
    spawned.runtime.run()
    assert done == [0, 1, 2]
    spawned.flusher.at_end_of_turn(lambda: done.append(3))
    spawned.runtime.run()
    assert (done, spawned.tasks) == ([0, 1, 2, 3], 1)


def test_the_task_ends_when_idle_and_another_begins() -> None:
    spawned, done = Spawned(), []
    spawned.flusher.at_end_of_turn(lambda: done.append("one"))
    spawned.runtime.advance(IDLE / 2)
    assert spawned.flusher._alive
    spawned.runtime.advance(IDLE)
    assert not spawned.flusher._alive
    spawned.flusher.at_end_of_turn(lambda: done.append("two"))
    spawned.runtime.run()
    assert (done, spawned.tasks) == (["one", "two"], 2)


def test_what_a_flush_makes_dirty_is_flushed_and_one_that_fails_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    spawned, done = Spawned(), []

    def fails() -> None:
        spawned.flusher.at_end_of_turn(lambda: done.append("behind"))
        raise RuntimeError("told to")

    spawned.flusher.at_end_of_turn(fails)
    spawned.flusher.at_end_of_turn(lambda: done.append("beside"))
    spawned.runtime.run()
    assert done == ["beside", "behind"]
    assert caplog.messages == ["a flush failed"]


def test_writes_come_behind_the_flushes_but_not_behind_too_many() -> None:
    spawned, done = Spawned(), []

    def flush(number: int) -> None:
        done.append(("flush", number))
        spawned.flusher.at_writes(lambda: done.append(("write", number)))

    for number in range(MAX_WRITES + 1):
        spawned.flusher.at_end_of_turn(lambda number=number: flush(number))
    spawned.runtime.run()
    kinds = [kind for kind, _ in done]
    assert kinds == ["flush"] * MAX_WRITES + ["write"] * MAX_WRITES + ["flush", "write"]


def test_who_comes_as_the_task_looks_for_the_last_time_is_not_left_out() -> None:
    """The task ends with its time, in which who has told it was held up, before it was woken."""
    tasks: list[Callable[[], None]] = []
    done: list[str] = []

    class Over:
        """Never set in time."""

        def set(self) -> None: ...

        def clear(self) -> None: ...

        def wait(self, seconds: float) -> bool:
            return False

    class Watched(deque[Callable[[], None]]):
        """Another thread comes as soon as it was found to be empty."""

        def __bool__(self) -> bool:
            found = len(self) > 0
            if not found and not done:
                done.append("came")
                comer.start()
                if flusher._told:
                    # Nor does that thread tell; else it waits for the lock, which the task has.
                    comer.join()
            return found

    flusher = Flusher(tasks.append, Over)
    comer = threading.Thread(target=flusher.at_end_of_turn, args=(lambda: done.append("late"),))
    flusher._flushes = Watched()
    flusher.at_end_of_turn(lambda: None)
    # Its flush went with those before it.
    flusher._flushes.popleft()
    tasks.pop()()
    comer.join()
    while tasks:
        tasks.pop()()
    assert done == ["came", "late"]


def test_no_thread_is_left_out() -> None:
    """Real threads, of which each asks for a flush that counts, over and over."""
    threads, rounds = 8, 500
    flusher = Flusher(
        lambda run: threading.Thread(target=run, daemon=True).start(), threading.Event
    )
    counts = [0] * threads

    def flush(number: int) -> None:
        counts[number] += 1

    def ask(number: int) -> None:
        for _ in range(rounds):
            flusher.at_end_of_turn(lambda: flush(number))

    asking = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    until = time.monotonic() + 10
    while counts != [rounds] * threads and time.monotonic() < until:
        threading.Event().wait(0.01)
    assert counts == [rounds] * threads
