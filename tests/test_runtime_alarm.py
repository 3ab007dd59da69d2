"""One timer that is set anew: by a hub's timers, and by a task that waits."""

from __future__ import annotations

from typing import Any

import pytest

from fallback_transport.runtime import Alarm, Runtime, TaskAlarm, TimerAlarm

from .fakes import FakeRuntime


class Bell:
    """An alarm, and when it rang."""

    def __init__(self, runtime: FakeRuntime, kind: str) -> None:
        self.runtime = runtime
        self.rang: list[float] = []
        self.then: Any = None
        self.alarm: Alarm
        if kind == "task":
            self.alarm = TaskAlarm(runtime, self.ring)
        else:
            self.alarm = TimerAlarm(runtime.tasks.later, runtime.now, self.ring)

    def set(self, seconds: float | None) -> None:
        self.alarm.set(None if seconds is None else 1000 + seconds)

    def ring(self) -> None:
        self.rang.append(self.runtime.now() - 1000)
        if self.then is not None:
            self.then()


@pytest.fixture(params=["timer", "task"])
def bell(request: pytest.FixtureRequest) -> Bell:
    return Bell(FakeRuntime(), request.param)


def test_it_rings_once(bell: Bell) -> None:
    bell.set(3)
    bell.runtime.advance(100)
    assert bell.rang == [3]


@pytest.mark.parametrize("other", [2, 7])
def test_the_last_time_counts(bell: Bell, other: float) -> None:
    bell.set(5)
    bell.runtime.advance(1)
    bell.set(other)
    bell.runtime.advance(100)
    assert bell.rang == [other]


def test_it_can_be_set_to_none_and_anew(bell: Bell) -> None:
    bell.set(None)
    bell.set(5)
    bell.set(None)
    bell.runtime.advance(10)
    assert bell.rang == []
    bell.set(15)
    bell.runtime.advance(10)
    assert bell.rang == [15]


def test_it_can_be_set_while_it_rings(bell: Bell) -> None:
    bell.then = lambda: bell.set(20 if len(bell.rang) == 1 else None)
    bell.set(10)
    bell.runtime.advance(100)
    assert bell.rang == [10, 20]


def test_what_is_past_rings_soon(bell: Bell) -> None:
    bell.runtime.advance(10)
    bell.set(4)
    assert bell.rang == []
    bell.runtime.run()
    assert bell.rang == [10]


def test_a_task_is_there_only_while_it_is_set() -> None:
    bell = Bell(FakeRuntime(), "task")
    started: list[Any] = []
    driver = bell.runtime.driver
    bell.runtime.submit = lambda *task: started.append(  # type: ignore[method-assign]
        driver.start_background_task(*task)
    )
    bell.set(None)
    assert started == []
    bell.set(1)
    bell.set(2)
    bell.runtime.run()
    assert [task.is_alive() for task in started] == [True]
    bell.set(None)
    bell.runtime.run()
    assert [task.is_alive() for task in started] == [False]
    bell.set(3)
    bell.runtime.advance(4)
    assert [task.is_alive() for task in started] == [False, False]
    assert bell.rang == [3]


@pytest.mark.parametrize("turns", [False, True])
def test_a_hubs_timer_rings_where_there_is_a_hub(turns: bool) -> None:
    runtime, rang = FakeRuntime(turns=turns), []
    alarm = Runtime.alarm(runtime, lambda: rang.append(runtime.now() - 1000))
    assert type(alarm) is (TimerAlarm if turns else TaskAlarm)
    alarm.set(1005)
    alarm.set(1003)
    runtime.advance(10)
    assert rang == [3]
