"""Who is told of as one that blocks eventlet's hub, where the test says what each look finds."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from fallback_transport.runtime.hub_watch import WATCH_INTERVAL, HubWatch

pytest.importorskip("eventlet")

A, B = (SimpleNamespace(f_locals={"name": name}) for name in "AB")


class Over(BaseException):
    """There are no more looks."""


class Watch(HubWatch):
    """Looks at what it is given, in no time.

    Args:
        looks: what each finds, and how often the hub has had a turn until then.
    """

    def __init__(self, looks: list[tuple[Any, int]]) -> None:
        super().__init__()
        self._looks = iter(looks)
        self._found: Any = None
        self._now = 1000.0
        self._time_module = self
        self._running = 1
        self._wanted.set()

    def sleep(self, seconds: float) -> None:
        self._now += seconds
        try:
            self._found, self._turns = next(self._looks)
        except StopIteration:
            raise Over from None

    def monotonic(self) -> float:
        return self._now

    def _frame(self) -> Any:
        return self._found


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        # For a second, which the first of these looks begins.
        ([(A, 1)] * 5, "A"),
        ([(A, 1)] * 4, ""),
        # Once, however long it goes on, and though it gave way amid it.
        ([(A, 1)] * 50, "A"),
        ([*[(A, 1)] * 5, *[(A, 2)] * 50], "A"),
        # Another one, or again after nobody.
        ([*[(A, 1)] * 4, *[(B, 1)] * 5], "B"),
        ([*[(A, 1)] * 5, *[(B, 1)] * 5, *[(A, 1)] * 5], "ABA"),
        ([*[(A, 1)] * 4, (None, 1), *[(A, 1)] * 4], ""),
        ([(None, 1)] * 50, ""),
        # It works for long and gives way: each time its second begins anew.
        ([(A, turns) for turns in range(50)], ""),
        ([(A, turns // 4) for turns in range(50)], ""),
        ([(A, turns // 5) for turns in range(50)], "A"),
    ],
)
def test_who_is_told_of(
    looks: list[tuple[Any, int]], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Over):
        Watch(looks)._look()
    assert [record.args[0] for record in caplog.records if record.args] == list(told)  # type: ignore[index]
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_the_hub_counts_while_the_thread_looks() -> None:
    watch, timers = Watch([]), []
    watch._hub = SimpleNamespace(schedule_call_global=lambda *timer: timers.append(timer))
    watch._hub_thread = 1
    watch._wanted.clear()
    assert watch.call("A", len, "abc") == 3
    assert watch._wanted.is_set()
    assert timers == [(WATCH_INTERVAL, watch._count)]
    watch._count()
    # What begins meanwhile, or once nobody looks any more, needs no second timer.
    watch.call("A", len, "")
    watch._wanted.clear()
    watch.call("A", len, "")
    assert (len(timers), watch._turns) == (2, 2)
    watch._wanted.clear()
    watch._count()
    assert (len(timers), watch._turns) == (2, 3)
    watch.call("A", len, "")
    assert (len(timers), watch._turns) == (3, 4)
    assert watch._running == 1


def test_what_raises_is_over() -> None:
    watch = Watch([])
    with pytest.raises(ZeroDivisionError):
        watch.call("A", divmod, 1, 0)
    assert watch._running == 1


def test_it_looks_only_while_handlers_run() -> None:
    watch = Watch([(A, 1)] * 9)
    watch._running = 0

    def wait() -> None:
        assert not watch._wanted.is_set()
        raise Over

    watch._wanted.wait = wait
    with pytest.raises(Over):
        watch._look()
    assert watch.monotonic() == 1000.0


def test_the_handler_that_the_hubs_thread_is_in() -> None:
    watch = HubWatch()
    watch._hub_thread, watch._counting = threading.get_ident(), True
    frame = watch.call("A", lambda: watch.call("B", watch._frame))
    assert frame.f_locals["name"] == "B"
    assert watch._frame() is None
    assert watch._running == 0
