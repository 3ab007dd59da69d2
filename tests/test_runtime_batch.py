"""`Batch`: what the same many are sent within a turn, handed to each of them once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fallback_transport.protocol.message import Message
from fallback_transport.runtime.batch import MAX_BYTES, MAX_ITEMS, Batch


class Target:
    """Who is sent something."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        #: Whether the turn ended with the last.
        self.ended = False

    def send_each(self, items: list[Any], size: int, *, ends: bool) -> None:
        assert size == sum(item.size for item in items)
        self.calls.append(items)
        self.ended = ends


class Turn:
    """A batch, and what is to be done at the end of the turn."""

    def __init__(self) -> None:
        self.flushes: list[Callable[[], None]] = []
        self.batch = Batch[Target](self.flushes.append)

    def end(self) -> None:
        flushes, self.flushes[:] = list(self.flushes), []
        for flush in flushes:
            flush()


def message(number: int, size: int = 10) -> Message:
    return Message(str(number).ljust(size))


def test_what_the_same_are_sent_is_handed_over_once() -> None:
    turn, targets = Turn(), [Target(), Target()]
    sent = [message(number) for number in range(5)]
    for each in sent:
        turn.batch.add(list(targets), [each])
    assert [target.calls for target in targets] == [[], []]
    assert len(turn.flushes) == 1
    turn.end()
    assert [target.calls for target in targets] == [[sent], [sent]]
    assert all(target.ended for target in targets)
    # The next turn is another.
    turn.batch.add(targets, sent[:1])
    turn.end()
    assert [len(target.calls) for target in targets] == [2, 2]
    turn.end()
    turn.batch.hand_over()
    assert [len(target.calls) for target in targets] == [2, 2]


def test_others_are_sent_something_behind_it() -> None:
    turn, one, two = Turn(), Target(), Target()
    first, second, third = (message(number) for number in range(3))
    turn.batch.add([one, two], [first])
    turn.batch.add([one], [second])
    assert (one.calls, two.calls) == ([[first]], [[first]])
    turn.batch.add([one, two], [third])
    assert one.calls == [[first], [second]]
    turn.end()
    assert (one.calls, two.calls) == ([[first], [second], [third]], [[first], [third]])


def test_whoever_must_not_wait_has_it_handed_over() -> None:
    turn, target = Turn(), Target()
    turn.batch.add([target], [message(1)])
    assert turn.batch.items
    turn.batch.hand_over()
    assert not turn.batch.items
    assert target.calls == [[message(1)]]
    assert not target.ended


@pytest.mark.parametrize(("count", "size"), [(MAX_ITEMS, 10), (8, MAX_BYTES // 8)])
def test_only_so_much_is_put_off(count: int, size: int) -> None:
    turn, target = Turn(), Target()
    for number in range(count - 1):
        turn.batch.add([target], [message(number, size)])
    assert target.calls == []
    turn.batch.add([target], [message(count, size)])
    assert [len(items) for items in target.calls] == [count]
    assert not turn.batch.items


def test_where_there_are_no_turns_it_is_handed_over_at_once() -> None:
    target = Target()
    batch = Batch[Target](lambda flush: flush())
    batch.add([target], [message(1)])
    assert target.calls == [[message(1)]]


def test_ones_defect_is_logged_and_the_others_get_theirs(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Target):
        def send_each(self, items: list[Any], size: int, *, ends: bool) -> None:
            raise RuntimeError("told to")

    turn, target = Turn(), Target()
    turn.batch.add([Broken(), target], [message(1)])
    turn.end()
    assert target.calls == [[message(1)]]
    assert "told to" in caplog.text
