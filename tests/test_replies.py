"""`Replies`: who is begun next, and how much of what has come is outside the credit."""

from __future__ import annotations

from fallback_transport.application import REPLY_PART, Unit
from fallback_transport.protocol.envelope import Grant
from fallback_transport.replies import Replies

GRANT = Grant(messages=4, bytes=100)


def reply(*seqs: int) -> Unit:
    return Unit(seqs, lambda: None, urgent=True)


def test_a_task_is_called_for_when_the_first_waits_and_as_each_begins() -> None:
    replies = Replies()
    one, two, three = reply(1), reply(2), reply(3)
    assert [replies.add(each, 10) for each in (one, two, three)] == [True, False, False]
    assert replies.begin() == ((one, 1, 10), True)
    assert replies.begin() == ((two, 1, 10), True)
    assert replies.begin() == ((three, 1, 10), False)
    four = reply(4)
    assert replies.add(four, 10)
    assert [replies.handled(1, 10) for _ in range(4)] == [False, False, False, True]


def test_what_comes_in_parts_is_one_reply_of_as_many_messages() -> None:
    replies = Replies()
    assert [replies.add(REPLY_PART, size) for size in (10, 20)] == [False, False]
    # Also before it is whole.
    assert replies.outside(GRANT) == (2, 30)
    whole, next_one = reply(1, 2, 3), reply(4)
    assert replies.add(whole, 5)
    assert not replies.add(next_one, 1)
    assert replies.begin() == ((whole, 3, 35), True)
    assert replies.begin() == ((next_one, 1, 1), False)
    assert not replies.handled(3, 35)
    assert replies.outside(GRANT) == (1, 1)
    assert replies.handled(1, 1)


def test_as_much_as_the_credit_is_outside_it_and_no_more() -> None:
    replies = Replies()
    assert replies.outside(GRANT) == (0, 0)
    for number, outside in enumerate([(1, 40), (2, 80), (3, 100), (4, 100), (4, 100)], 1):
        replies.add(reply(number), 40)
        assert replies.outside(GRANT) == outside
    assert [replies.handled(1, 40) for _ in range(4)] == [False] * 4
    assert replies.outside(GRANT) == (1, 40)
