"""`Tasks`: turns, events and the clock. Nothing here waits for real."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from fallback_transport.testing.tasks import RESTLESS, Tasks


@pytest.fixture
def tasks() -> Tasks:
    return Tasks()


def test_time_stands_until_it_is_let_go(tasks: Tasks) -> None:
    woken: list[float] = []

    def sleeper() -> None:
        for seconds in (1, 2, 3):
            tasks.sleep(seconds)
            woken.append(tasks.time)

    began = tasks.time
    tasks.start_background_task(sleeper)
    tasks.settle()
    assert woken == []
    tasks.advance(3)
    assert woken == [began + 1, began + 3]
    tasks.advance(100)
    assert woken == [began + 1, began + 3, began + 6]
    assert tasks.time == began + 103


def test_tasks_take_turns_in_order(tasks: Tasks) -> None:
    order: list[str] = []

    def task(name: str) -> None:
        for number in range(3):
            order.append(f"{name}{number}")
            tasks.sleep()

    for name in "ab":
        tasks.start_background_task(task, name)
    tasks.settle()
    assert order == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_an_event_wakes_all_who_wait_and_a_time_out_only_one(tasks: Tasks) -> None:
    event, seen = tasks.create_event(), []
    for timeout in (None, 1, 100):
        tasks.start_background_task(lambda t=timeout: seen.append((t, event.wait(t))))
    tasks.advance(2)
    assert seen == [(1, False)]
    event.set()
    tasks.settle()
    assert seen == [(1, False), (None, True), (100, True)]
    tasks.advance(200)
    assert len(seen) == 3
    event.clear()
    assert not event.is_set()


def test_a_wait_ends_once_and_what_is_cancelled_is_not_called(tasks: Tasks) -> None:
    event, woken = tasks.create_event(), []

    def task() -> None:
        for wait in (lambda: event.wait(1), lambda: tasks.sleep(10)):
            wait()
            woken.append(tasks.time)

    began = tasks.time
    tasks.start_background_task(task)
    tasks.settle()
    event.set()
    tasks.later(2, lambda: woken.append(0)).cancel()
    tasks.advance(20)
    assert woken == [began, began + 10]


def test_the_test_itself_waits_by_letting_time_go(tasks: Tasks) -> None:
    event = tasks.create_event()

    def later() -> None:
        tasks.sleep(5)
        event.set()

    began = tasks.time
    tasks.start_background_task(later)
    assert not event.wait(4)
    assert event.wait(4)
    assert tasks.time == began + 5
    tasks.sleep(1)
    assert tasks.time == began + 6


def test_to_wait_for_what_never_comes_ends(tasks: Tasks) -> None:
    assert not tasks.create_event().wait()


def test_several_can_join_a_task(tasks: Tasks) -> None:
    joined: list[int] = []

    def join(number: int) -> None:
        task.join()
        joined.append(number)

    task = tasks.start_background_task(tasks.sleep, 1)
    for number in range(3):
        tasks.start_background_task(join, number)
    tasks.advance(1)
    assert joined == [0, 1, 2]


def test_a_task_can_be_joined(tasks: Tasks) -> None:
    task = tasks.start_background_task(tasks.sleep, 3)
    assert task.is_alive()
    task.join(1)
    assert task.is_alive()
    task.join()
    assert not task.is_alive()
    task.join()


def test_what_a_task_dies_of_is_kept(tasks: Tasks) -> None:
    tasks.start_background_task(lambda: 1 / 0)
    tasks.settle()
    assert [type(error) for error in tasks.errors] == [ZeroDivisionError]


def test_a_task_may_start_tasks_and_let_them_run(tasks: Tasks) -> None:
    done: list[str] = []

    def outer() -> None:
        inner = tasks.start_background_task(lambda: (tasks.sleep(1), done.append("inner")))
        inner.join()
        done.append("outer")

    tasks.start_background_task(outer)
    tasks.advance(2)
    assert done == ["inner", "outer"]


def test_a_thread_may_set_an_event_but_not_wait(tasks: Tasks) -> None:
    event, seen, refused = tasks.create_event(), [], []

    def wait() -> None:
        try:
            tasks.create_event().wait(1)
        except RuntimeError as error:
            refused.append(str(error))

    tasks.start_background_task(lambda: seen.append(event.wait()))
    tasks.settle()
    for run in (event.set, wait):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    tasks.settle()
    assert seen == [True]
    assert "start_background_task" in refused[0]


def test_an_endless_loop_is_named(tasks: Tasks) -> None:
    turns = 0

    def restless() -> None:
        nonlocal turns
        while turns <= 2 * RESTLESS:
            turns += 1
            tasks.sleep()

    tasks.start_background_task(restless)
    with pytest.raises(RuntimeError, match="does not come to rest"):
        tasks.settle()


def test_tasks_that_are_done_are_forgotten(tasks: Tasks) -> None:
    gone = weakref.ref(tasks.start_background_task(tasks.sleep, 1))
    tasks.advance(2)
    gc.collect()
    assert gone() is None
