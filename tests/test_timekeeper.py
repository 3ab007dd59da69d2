"""`Timekeeper`: every session's deadline, on both kinds of alarm."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from fallback_transport.runtime import Alarm, TaskAlarm
from fallback_transport.timekeeper import RETRY, Timekeeper
from tests.fakes import FakeRuntime


class Timed:
    """A conversation, as far as the timekeeper knows it."""

    def __init__(self, runtime: FakeRuntime, name: str = "") -> None:
        self.id = name or str(id(self))
        self.calls: list[float] = []
        self.then: Any = None
        self._runtime = runtime

    def timeout(self) -> None:
        self.calls.append(self._runtime.now() - 1000)
        if self.then is not None:
            self.then()


class Clock:
    def __init__(self, kind: str) -> None:
        self.runtime = FakeRuntime()
        #: For when the alarm was set.
        self.set_to: list[float | None] = []
        make = self.runtime.alarm
        if kind == "task":
            make = functools.partial(TaskAlarm, self.runtime)
        self.runtime.alarm = lambda ring: self.watched(make(ring))
        self.keeper = Timekeeper(self.runtime)

    def watched(self, alarm: Alarm) -> Alarm:
        set_it = alarm.set

        def note(when: float | None) -> None:
            self.set_to.append(None if when is None else when - 1000)
            set_it(when)

        alarm.set = note
        return alarm

    def timed(self) -> Any:
        return Timed(self.runtime)

    def schedule(self, timed: Any, seconds: float | None) -> None:
        self.keeper.schedule(timed, None if seconds is None else 1000 + seconds)


@pytest.fixture(params=["timer", "task"])
def clock(request: pytest.FixtureRequest) -> Clock:
    return Clock(request.param)


def test_each_is_called_at_its_time(clock: Clock) -> None:
    one, two, three = clock.timed(), clock.timed(), clock.timed()
    clock.schedule(one, 5)
    clock.schedule(two, 3)
    clock.runtime.run()
    clock.schedule(three, 1)
    clock.runtime.advance(10)
    assert (one.calls, two.calls, three.calls) == ([5], [3], [1])


def test_an_earlier_time_replaces_and_a_later_one_waits(clock: Clock) -> None:
    timed = clock.timed()
    clock.schedule(timed, 5)
    clock.schedule(timed, 9)
    clock.schedule(timed, 2)
    timed.then = lambda: clock.schedule(timed, 9) if len(timed.calls) == 1 else None
    clock.runtime.advance(20)
    assert timed.calls == [2, 9]


def test_none_takes_it_back(clock: Clock) -> None:
    timed = clock.timed()
    clock.schedule(timed, 2)
    clock.schedule(timed, None)
    clock.runtime.advance(5)
    assert timed.calls == []
    clock.schedule(timed, None)
    clock.schedule(timed, 7)
    clock.runtime.advance(5)
    assert timed.calls == [7]


def test_a_time_that_was_taken_back_is_good_again(clock: Clock) -> None:
    """Whether all that was due is taken back, or an earlier one made it void."""
    one, two = clock.timed(), clock.timed()
    clock.schedule(one, 2)
    clock.schedule(one, None)
    clock.schedule(one, 2)
    clock.schedule(two, 8)
    clock.schedule(two, 3)
    two.then = lambda: clock.schedule(two, 8) if len(two.calls) == 2 else None
    clock.runtime.advance(4)
    assert (one.calls, two.calls) == ([2], [3])
    clock.schedule(two, 7)
    clock.runtime.advance(6)
    assert two.calls == [3, 7, 8]
    assert (clock.keeper._count, clock.keeper._times, clock.keeper._ids) == (0, [], {})


def test_what_was_taken_back_while_it_was_late_leaves_nothing(clock: Clock) -> None:
    gone, other = clock.timed(), clock.timed()
    driver = clock.runtime.driver
    clock.schedule(gone, 1)
    clock.runtime.run()
    driver.time += 2
    # It rings, is late, and waits a moment.
    driver.at(1002.01, lambda: clock.schedule(gone, None))
    clock.runtime.advance(0.02)
    clock.schedule(other, 3)
    clock.runtime.run()
    driver.time += 2
    clock.runtime.run()
    assert other.calls == []
    clock.runtime.advance(1)
    assert gone.calls == []
    assert other.calls == [pytest.approx(4.02 + RETRY)]


def test_what_stays_due_does_not_keep_the_others_out(clock: Clock) -> None:
    """An ack to a peer that does not read stays due: on a hub, a loop would stop everything."""
    timed, other = clock.timed(), clock.timed()
    timed.then = lambda: clock.schedule(timed, 1)
    clock.schedule(timed, 1)
    clock.schedule(other, 1.5)
    clock.runtime.advance(2)
    assert other.calls == [1.5]
    assert 5 <= len(timed.calls) <= 1 / RETRY + 2


def test_what_is_asked_for_again_and_again_still_comes(clock: Clock) -> None:
    timed = clock.timed()
    for _ in range(100):
        clock.schedule(timed, 0)
        clock.runtime.advance(0.01)
    assert len(timed.calls) >= 10


def test_nor_does_one_that_the_whole_process_is_to_hear_of(clock: Clock) -> None:
    one, two = clock.timed(), clock.timed()

    def fail() -> None:
        raise KeyboardInterrupt

    one.then = fail
    clock.schedule(one, 1)
    clock.schedule(two, 2)
    with pytest.raises(KeyboardInterrupt):
        clock.runtime.advance(1)
    clock.runtime.advance(2)
    assert (one.calls, two.calls) == ([1], [2])


def test_a_timer_that_fails_stops_nobody(clock: Clock) -> None:
    one, two = clock.timed(), clock.timed()

    def fail() -> None:
        raise RuntimeError("a defect")

    one.then = fail
    clock.schedule(one, 1)
    clock.schedule(two, 1)
    clock.runtime.advance(2)
    clock.schedule(one, 3)
    clock.runtime.advance(2)
    assert (one.calls, two.calls) == ([1, 3], [1])


def test_what_came_while_the_process_was_busy_is_read_first(clock: Clock) -> None:
    busy, other, near = clock.timed(), clock.timed(), clock.timed()
    waiting, read = ["an answer"], []
    driver = clock.runtime.driver

    def work() -> None:
        # A handler that never waits; the socket's reader has its turn behind it.
        driver.time += 3

    def reader() -> None:
        read.append(waiting.pop())

    busy.then = work
    other.then = lambda: read.append("missed" if waiting else "there")
    near.then = lambda: clock.schedule(near, clock.runtime.now() - 1000 + 1)
    clock.schedule(near, 9)
    # And the next time.
    for start in (0, 10, 20):
        waiting[:] = ["an answer"]
        read.clear()
        clock.schedule(busy, start + 1)
        clock.schedule(other, start + 2)
        driver.at(1000 + start + 3.9, reader)
        clock.runtime.advance(10)
        assert read == ["an answer", "there"]
    assert near.calls[0] == 9


def test_nobody_waits_for_nothing(clock: Clock) -> None:
    one, two = clock.timed(), clock.timed()
    clock.schedule(one, 1)
    clock.schedule(two, 2)
    clock.schedule(one, None)
    clock.runtime.run()
    assert clock.set_to == [1]
    clock.schedule(two, None)
    assert clock.set_to == [1, None]
    clock.schedule(one, 3)
    clock.runtime.advance(4)
    assert (one.calls, two.calls) == ([3], [])
    assert clock.set_to == [1, None, 3, None]


def test_nobody_wakes_for_a_time_that_was_replaced(clock: Clock) -> None:
    """Each keepalive's answer replaces the time at which the silence would be too long."""
    timed = clock.timed()
    clock.schedule(timed, 55)
    clock.schedule(timed, 25)
    timed.then = lambda: clock.schedule(timed, 80)
    clock.runtime.advance(70)
    assert timed.calls == [25]
    assert clock.set_to == [55, 25, 80]


def test_times_that_were_replaced_do_not_pile_up(clock: Clock) -> None:
    """A session's next ack is earlier than its keepalive, again and again."""
    timed, other = clock.timed(), clock.timed()
    timed.then = lambda: clock.schedule(timed, clock.runtime.now() - 1000 + 25)
    # What is replaced lies behind this one's time, so that no alarm comes to it.
    other.then = lambda: clock.schedule(other, clock.runtime.now() - 1000 + 1)
    other.then()
    for _ in range(2000):
        clock.schedule(timed, clock.runtime.now() - 1000 + 0.2)
        clock.runtime.advance(0.2)
        assert clock.keeper._count < 100
        assert len(clock.keeper._times) < 100
    assert len(timed.calls) == 2000
    assert len(other.calls) >= 390


def test_the_alarm_is_set_once_for_all_that_was_due(clock: Clock) -> None:
    one, two = clock.timed(), clock.timed()
    one.then = lambda: clock.schedule(one, 6)
    two.then = lambda: clock.schedule(two, 5)
    clock.schedule(one, 1)
    clock.schedule(two, 1)
    clock.runtime.advance(2)
    assert clock.set_to == [1, 5]


def test_what_is_far_away_is_done_with_others(clock: Clock) -> None:
    """Keepalives wake a quiet process sixteen times a second at most, and late by no more."""
    clock.runtime.grain = 1 / 16
    near, exact, *far = [clock.timed() for _ in range(5)]
    clock.schedule(near, 0.49)
    clock.schedule(exact, 25)
    for seconds, timed in zip((1.01, 25.06, 25.07), far, strict=True):
        clock.schedule(timed, seconds)
    clock.runtime.advance(30)
    assert (near.calls, exact.calls) == ([pytest.approx(0.49)], [25])
    assert [timed.calls for timed in far] == [[1.0625], [25.0625], [25.125]]
    assert clock.set_to[-5:] == [1.0625, 25, 25.0625, 25.125, None]


def test_one_that_comes_back_to_a_time_that_it_had_is_called_once(clock: Clock) -> None:
    timed, other = clock.timed(), clock.timed()
    timed.then = lambda: clock.schedule(timed, 25) if len(timed.calls) == 1 else None
    clock.schedule(timed, 25)
    clock.schedule(other, 25)
    clock.schedule(timed, 3)
    clock.runtime.advance(30)
    assert (timed.calls, other.calls) == ([3, 25], [25])
    assert (clock.keeper._count, clock.keeper._times) == (0, [])
