"""Outbox and inbox: numbers, credit, bounds, duplicates, gaps."""

from __future__ import annotations

import random
import tracemalloc
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallback_transport.protocol.errors import (
    ImpossibleMark,
    MalformedEnvelope,
    MessageRefused,
    MessageTooLarge,
    OutboxFull,
    OutOfStep,
    SequenceGap,
)
from fallback_transport.protocol.message import Carried, Close, Item, Message, Part
from fallback_transport.protocol.reliability import MAX_REFUSALS, Bounds, Inbox, Outbox

EVERYTHING = 10**6


def m(text: str) -> Message:
    return Message(text)


def texts(items: tuple[Carried, ...] | list[Item]) -> str:
    """``ab.`` is the messages a and b, and a close."""
    return "".join("." if isinstance(item, Close) else str(item.data) for item in items)


def outbox(sent: str = "", *, bounds: Bounds | None = None) -> Outbox:
    """An outbox that took one message for each letter."""
    made = Outbox(bounds or Bounds())
    for letter in sent:
        made.append([m(letter)])
    return made


def numbered(box: Outbox) -> str:
    return texts(box.read(box.confirmed + 1, EVERYTHING, EVERYTHING))


# -- the outbox ----------------------------------------------------------------------


def test_messages_are_numbered_from_1_and_kept_until_they_are_handled() -> None:
    box = outbox("abc")
    assert (box.last, box.confirmed, box.received, len(box), box.bytes) == (3, 0, 0, 3, 3)
    assert box.confirm(1, 2) is True
    assert (box.last, box.confirmed, box.received, len(box), box.bytes) == (3, 1, 2, 2, 2)
    assert texts(box.unconfirmed()) == "bc"
    box.append([m("dd")])
    assert (box.last, box.bytes) == (4, 4)
    assert box.confirm(4, 4) is True
    assert (box.confirmed, box.received, len(box), box.bytes) == (4, 4, 0, 0)
    assert box.unconfirmed() == []


@pytest.mark.parametrize(
    ("marks", "news"),
    [
        ((1, 2), False),
        ((0, 0), False),
        ((0, 2), False),
        ((1, 1), False),
        ((0, 3), True),
        ((2, 2), True),
        ((2, 0), True),
        ((3, 3), True),
    ],
)
def test_lower_marks_are_old_news(marks: tuple[int, int], news: bool) -> None:
    box = outbox("abc")
    box.confirm(1, 2)
    assert box.confirm(*marks) is news
    assert box.confirmed == max(1, marks[0])
    assert box.received == max(2, *marks)


@pytest.mark.parametrize("marks", [(4, 4), (0, 4), (4, 0), (3, 99)])
def test_a_mark_of_what_was_never_sent_is_impossible_and_changes_nothing(
    marks: tuple[int, int],
) -> None:
    box = outbox("abc")
    with pytest.raises(ImpossibleMark, match=f"^mark {max(marks)} of 3 sent$"):
        box.confirm(*marks)
    assert (box.confirmed, box.received, len(box)) == (0, 0, 3)


def test_what_is_held_has_not_been_sent() -> None:
    box = outbox()
    box.grant(1, 100)
    box.append([m("a")])
    box.append([m("b")])
    with pytest.raises(ImpossibleMark):
        box.confirm(0, 2)


@pytest.mark.parametrize(
    ("seq", "size", "count", "found"),
    [
        (3, EVERYTHING, EVERYTHING, "ccdddde"),
        (4, EVERYTHING, EVERYTHING, "dddde"),
        (5, EVERYTHING, EVERYTHING, "e"),
        (6, EVERYTHING, EVERYTHING, ""),
        (9, EVERYTHING, EVERYTHING, ""),
        (3, EVERYTHING, 0, ""),
        (3, EVERYTHING, 1, "cc"),
        (3, EVERYTHING, 2, "ccdddd"),
        # Something, however little is wanted: as much as a surrogate pair; then up to the limit.
        (3, 0, EVERYTHING, "cc"),
        (3, 1, EVERYTHING, "cc"),
        (3, 5, EVERYTHING, "cc"),
        (3, 6, EVERYTHING, "ccdddd"),
        (3, 7, EVERYTHING, "ccdddde"),
        (4, 1, EVERYTHING, "dd"),
    ],
)
def test_reading_stops_at_the_limits(seq: int, size: int, count: int, found: str) -> None:
    box = Outbox(Bounds())
    for text in ("a", "b", "cc", "dddd", "e"):
        box.append([m(text)])
    box.confirm(2, 2)
    assert texts(box.read(seq, size, count)) == found


def test_a_close_is_read_like_a_message() -> None:
    box = outbox("a")
    box.append([Close(1000)])
    assert numbered(box) == "a."
    assert texts(box.unconfirmed()) == "a."


# -- its bounds -----------------------------------------------------------------------

TIGHT = Bounds(messages=3, bytes=10, message=6)


def test_a_message_may_be_as_large_as_the_bound() -> None:
    box = outbox(bounds=TIGHT)
    with pytest.raises(MessageRefused, match="a message of 7 bytes exceeds the limit of 6"):
        box.append([m("a"), m("1234567")])
    assert (len(box), box.bytes) == (0, 0)
    box.append([m("123456")])


@pytest.mark.parametrize(
    ("before", "group", "full"),
    [
        (["a", "b"], ["c"], False),
        (["a", "b", "c"], ["d"], True),
        (["a", "b"], ["c", "d"], True),
        (["a"], ["b", "c"], False),
        ([], ["a", "b", "c", "d"], True),
        (["12345"], ["12345"], False),
        (["12345"], ["123456"], True),
        (["12345"], ["123", "123"], True),
        # Alone it may exceed the bytes, or it could never be sent.
        ([], ["123456", "123456"], False),
    ],
)
def test_what_exceeds_the_bounds_is_refused(
    before: list[str], group: list[str], full: bool
) -> None:
    box = outbox(bounds=TIGHT)
    for text in before:
        box.append([m(text)])
    state = len(box), box.bytes, box.last
    if full:
        text = f"^{state[0]} messages, {state[1]} bytes are unconfirmed$"
        with pytest.raises(OutboxFull, match=text):
            box.append([m(text) for text in group])
        assert (len(box), box.bytes, box.last) == state
    else:
        box.append([m(text) for text in group])
        assert len(box) == state[0] + len(group)


def test_what_is_held_counts_for_the_bounds() -> None:
    box = outbox(bounds=TIGHT)
    box.grant(1, 100)
    for letter in "abc":
        box.append([m(letter)])
    assert (box.last, box.held, len(box)) == (1, 2, 3)
    with pytest.raises(OutboxFull, match="3 messages, 3 bytes"):
        box.append([m("d")])


def test_room_comes_with_confirmation() -> None:
    box = outbox("abc", bounds=TIGHT)
    box.confirm(1, 1)
    box.append([m("d")])
    assert numbered(box) == "bcd"


def test_a_close_is_always_taken() -> None:
    box = outbox("abc", bounds=TIGHT)
    box.append([Close(4000, "larger than any message may be")])
    assert numbered(box) == "abc."


# -- credit ----------------------------------------------------------------------------


def test_without_a_grant_there_is_no_limit() -> None:
    assert numbered(outbox("abcdefgh")) == "abcdefgh"


def test_what_exceeds_the_credit_waits_without_a_number() -> None:
    box = outbox()
    box.grant(2, 100)
    for letter in "abcd":
        box.append([m(letter)])
    assert (numbered(box), box.last, box.held, len(box)) == ("ab", 2, 2, 4)
    assert texts(box.unconfirmed()) == "abcd"
    # Received is not handled: no credit comes of it.
    box.confirm(0, 2)
    assert (box.last, box.held) == (2, 2)
    box.confirm(1, 2)
    assert (numbered(box), box.held) == ("bc", 1)
    box.confirm(3, 3)
    assert (numbered(box), box.held, len(box)) == ("d", 0, 1)


@pytest.mark.parametrize(
    ("messages", "size", "number"),
    [(3, 9, 3), (2, 9, 2), (9, 9, 3), (9, 8, 2), (9, 5, 1), (9, 6, 2), (0, 0, 1), (1, 0, 1)],
)
def test_the_credit_counts_messages_and_bytes(messages: int, size: int, number: int) -> None:
    box = outbox()
    box.grant(messages, size)
    for text in ("aaa", "bbb", "ccc"):
        box.append([m(text)])
    assert box.last == number


def test_a_new_grant_releases_what_it_allows() -> None:
    box = outbox()
    box.grant(1, 0)
    for letter in "abcd":
        box.append([m(letter)])
    assert box.last == 1
    box.grant(3, 100)
    assert (numbered(box), box.held) == ("abc", 1)


def test_one_alone_is_always_allowed() -> None:
    box = outbox()
    box.grant(1, 1)
    box.append([m("aaaa")])
    box.append([m("b"), m("c")])
    assert numbered(box) == "aaaa"
    box.confirm(1, 1)
    assert numbered(box) == "bc"
    box.append([m("d")])
    box.confirm(2, 2)
    assert (numbered(box), box.held) == ("c", 1)


def test_what_belongs_together_goes_together() -> None:
    box = outbox()
    box.grant(3, 100)
    box.append([m("a")])
    box.append([m("b"), m("c"), m("d")])
    box.append([m("e")])
    # Not even the small one overtakes.
    assert (numbered(box), box.held) == ("a", 4)
    box.confirm(1, 1)
    assert (numbered(box), box.held) == ("bcd", 1)


def test_what_is_urgent_overtakes_and_takes_no_credit() -> None:
    box = outbox()
    box.grant(2, 4)
    for text in ("aa", "bb", "cc"):
        box.append([m(text)])
    box.append([m("u"), m("v")], urgent=True)
    assert (numbered(box), box.held, box.bytes) == ("aabbuv", 1, 8)
    # The credit of a and b comes back; that of u and v was never taken.
    box.confirm(1, 4)
    assert numbered(box) == "bbuvcc"
    box.append([m("dd")])
    box.confirm(4, 5)
    assert (numbered(box), box.held) == ("ccdd", 0)
    box.confirm(6, 6)
    assert box.bytes == 0


def test_a_close_waits_for_what_is_held_and_for_no_credit() -> None:
    box = outbox()
    box.grant(1, 100)
    box.append([m("a")])
    box.append([Close(1000)])
    assert numbered(box) == "a."
    box = outbox()
    box.grant(1, 100)
    for letter in "ab":
        box.append([m(letter)])
    box.append([Close(1000)])
    assert (numbered(box), box.held) == ("a", 2)
    box.confirm(1, 1)
    assert (numbered(box), box.held) == ("b.", 0)


# -- the inbox -------------------------------------------------------------------------


def take(box: Inbox, seq: int, letters: str) -> list[tuple[int, str]]:
    items = [Close(1000) if letter == "." else m(letter) for letter in letters]
    return [(number, texts([item])) for number, item in box.take(seq, items)]


def test_new_messages_are_taken_once_and_in_order() -> None:
    box = Inbox()
    assert take(box, 1, "ab") == [(1, "a"), (2, "b")]
    assert take(box, 1, "ab") == []
    assert take(box, 2, "bcd") == [(3, "c"), (4, "d")]
    assert take(box, 1, "") == []
    assert take(box, 5, "e") == [(5, "e")]
    assert (box.received, box.handled, box.pending, box.pending_bytes) == (5, 0, 5, 5)


@pytest.mark.parametrize("seq", [4, 5, 99])
def test_a_gap_takes_nothing(seq: int) -> None:
    box = Inbox()
    take(box, 1, "ab")
    with pytest.raises(SequenceGap, match=f"^expected 3, got {seq}$"):
        take(box, seq, "xyz")
    assert (box.received, box.pending) == (2, 2)
    assert take(box, 3, "c") == [(3, "c")]


def test_what_comes_behind_a_close_is_not_received() -> None:
    box = Inbox()
    assert take(box, 1, "a.bc") == [(1, "a"), (2, ".")]
    assert (box.received, box.pending) == (2, 2)


@pytest.mark.parametrize(
    ("done", "handled", "pending"),
    [
        ([], 0, 4),
        ([1], 1, 3),
        ([2], 0, 3),
        ([2, 1], 2, 2),
        ([3, 2], 0, 2),
        ([1, 3], 1, 2),
        ([3, 1, 2], 3, 1),
        ([4, 3, 2, 1], 4, 0),
        ([1, 1, 1], 1, 3),
        ([9], 0, 4),
        ([0], 0, 4),
    ],
)
def test_the_handled_mark_rises_without_gaps(done: list[int], handled: int, pending: int) -> None:
    box = Inbox()
    take(box, 1, "abcd")
    for seq in done:
        box.done(seq)
    assert (box.handled, box.pending, box.pending_bytes) == (handled, pending, pending)


def test_marks_go_on_after_everything_was_handled() -> None:
    box = Inbox()
    take(box, 1, "a")
    box.done(1)
    take(box, 2, "bc")
    box.done(3)
    assert (box.received, box.handled) == (3, 1)
    box.done(2)
    assert box.handled == 3


# -- the one against the other ------------------------------------------------------------

steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 3), st.booleans()),
        st.tuples(st.just("carry"), st.integers(0, 4), st.integers(0, 12)),
        st.tuples(st.just("handle"), st.integers(0, 5), st.none()),
        st.tuples(st.just("confirm"), st.integers(0, 5), st.none()),
    ),
    max_size=60,
)


@given(steps, st.integers(0, 4), st.integers(0, 12))
def test_an_inbox_gets_what_an_outbox_took(
    steps: list[tuple[str, int, int]], messages: int, size: int
) -> None:
    """Carried from any known mark on, in part, repeatedly; confirmed late and out of order."""
    sender, receiver = Outbox(Bounds()), Inbox()
    sender.grant(messages, size)
    sent: dict[bool, list[str]] = {False: [], True: []}
    got: list[str] = []
    running: deque[int] = deque()
    marks = [(0, 0)]
    for what, one, two in steps:
        if what == "send":
            name = f"{'u' if two else 'n'}{len(sent[bool(two)])}"
            group = [m(f"{name}.{number}") for number in range(one)]
            sender.append(group, urgent=bool(two))
            sent[bool(two)] += [str(item.data) for item in group]
        elif what == "carry":
            seq = sender.received + 1
            for number, item in receiver.take(seq, sender.read(seq, two, one)):
                assert isinstance(item, Message)
                got.append(str(item.data))
                running.append(number)
                assert len(got) == number
        elif what == "handle" and running:
            running.rotate(one)
            receiver.done(running.popleft())
            marks.append((receiver.handled, receiver.received))
        elif what == "confirm":
            sender.confirm(*marks[one % len(marks)])
        out = sender.read(sender.confirmed + 1, EVERYTHING, EVERYTHING)
        ordinary = [item for item in out if texts([item])[0] == "n"]
        within = len(ordinary) <= messages and sum(item.size for item in ordinary) <= size
        assert within or len({texts([item]).partition(".")[0] for item in ordinary}) == 1
        for kind, letter in ((False, "n"), (True, "u")):
            mine = [text for text in got if text[0] == letter]
            assert mine == sent[kind][: len(mine)]
    assert sender.confirmed <= receiver.handled <= receiver.received <= sender.last


# -- parts ---------------------------------------------------------------------------


PAIR = "\U0001f600"


@pytest.mark.parametrize(
    ("data", "units", "cuts"),
    [
        ("abcdefghij", 10, [("abcdef", 0), ("ghij", 6)]),
        (b"abcdefghij", 10, [(b"abcdef", 0), (b"ghij", 6)]),
        # Up to three bytes a unit.
        ("äöüß", 4, [("äö", 0), ("üß", 2)]),
        # A surrogate pair stays whole, and where it begins it is not cut into.
        (f"ab{PAIR}{PAIR}", 6, [("ab", 0), (PAIR, 2), (PAIR, 4)]),
        (f"a{PAIR}bc", 5, [("a", 0), (PAIR, 1), ("bc", 3)]),
        # Escaped, up to six bytes a unit.
        ("a\x1ebcdefghi", 10, [("a\x1e", 0), ("bcdefg", 2), ("hi", 8)]),
    ],
)
def test_a_message_is_cut_where_both_halves_cut(
    data: str | bytes, units: int, cuts: list[tuple[str | bytes, int]]
) -> None:
    message = Message(data)
    assert message.units == units
    found: list[tuple[str | bytes, int]] = []
    offset = 0
    while offset < units:
        part = message.part(offset, 6)
        found.append((part.data, part.offset))
        assert (part.total, part.finished) == (units, part.end == units)
        offset = part.end
    assert found == cuts


def test_a_part_that_is_to_begin_amid_a_pair_begins_with_it() -> None:
    assert Message(f"a{PAIR}b").part(2, 6) == Part(f"{PAIR}b", 1, 4)


def test_reading_goes_on_where_the_peer_is() -> None:
    box = outbox()
    for data in ("abcdefgh", "ij", "klmnopqrst"):
        box.append([m(data)])
    assert box.read(1, 6, 9) == (Part("abcdef", 0, 8),)
    assert box.confirm(0, 0, 6) is True
    assert box.confirm(0, 0, 4) is False
    assert box.got == 6
    assert box.read(1, 6, 9, offset=6) == (Part("gh", 6, 8), m("ij"))
    assert box.read(1, 6, 9, offset=6, whole=True) == ()
    assert box.read(1, 6, 9, whole=True) == ()
    assert box.read(2, 6, 9, whole=True) == (m("ij"),)
    # One part ends an envelope, and only the first message is cut.
    assert box.read(3, 6, 9) == (Part("klmnop", 0, 10),)
    # What just fits is no part.
    assert box.read(2, 2, 9) == (m("ij"),)
    assert box.confirm(0, 1) is True
    assert box.got == 0
    # Of a message that has come meanwhile, and of one that is confirmed: old news.
    assert box.confirm(0, 0, 3) is False
    box.confirm(2, 2)
    assert box.confirm(0, 1, 1) is False
    assert box.got == 0


@pytest.mark.parametrize(
    ("sent", "received", "got"), [("ab", 2, 1), ("ab", 1, 1), ("a", 0, 9), ("", 0, 1)]
)
def test_a_mark_beyond_a_message_is_impossible(sent: str, received: int, got: int) -> None:
    box = outbox(sent)
    with pytest.raises(ImpossibleMark, match=f"^{got} units of a message {received + 1}"):
        box.confirm(0, received, got)
    assert (box.received, box.got) == (0, 0)


def test_a_close_has_no_parts() -> None:
    box = outbox()
    box.append([Close(1000, "x" * 100)])
    assert box.read(1, 1, 9) == (Close(1000, "x" * 100),)
    with pytest.raises(ImpossibleMark):
        box.confirm(0, 0, 1)


def test_parts_become_a_message() -> None:
    box = Inbox(6)
    assert box.take(1, [m("a"), Part("bc", 0, 6)]) == [(1, m("a"))]
    assert (box.received, box.got, box.pending) == (1, 2, 1)
    assert box.take(2, [Part("d", 2, 6)]) == []
    assert box.take(2, [Part("bc", 0, 6)]) == []
    assert box.take(1, [m("a")]) == []
    assert box.got == 3
    assert box.take(2, [Part("cdefg", 1, 6), m("h")]) == [(2, m("bcdefg")), (3, m("h"))]
    assert (box.received, box.got, box.pending, box.pending_bytes) == (3, 0, 3, 8)
    assert box.take(4, [Part(b"\x00", 0, 2)]) == []
    assert box.take(4, [Part(b"\x01", 1, 2)]) == [(4, Message(b"\x00\x01"))]


def test_a_message_may_come_whole_after_all() -> None:
    box = Inbox()
    box.take(1, [Part("ab", 0, 4)])
    assert box.take(1, [m("abcd"), Part("ef", 0, 4)]) == [(1, m("abcd"))]
    assert box.got == 2
    # What is behind a part that does not fit is left; it comes again.
    assert box.take(2, [m("efgh"), Part("xx", 2, 4), m("no")]) == [(2, m("efgh"))]
    assert (box.received, box.got) == (2, 0)


@pytest.mark.parametrize(
    ("part", "error"),
    [
        (Part("d", 3, 6), SequenceGap),
        (Part("cd", 2, 7), MalformedEnvelope),
        (Part(b"cd", 2, 6), MalformedEnvelope),
    ],
)
def test_a_part_that_does_not_go_on_takes_nothing(part: Part, error: type[Exception]) -> None:
    box = Inbox()
    box.take(1, [Part("ab", 0, 6)])
    with pytest.raises(error):
        box.take(1, [part])
    assert (box.received, box.got) == (0, 2)
    assert box.take(1, [Part("cdef", 2, 6)]) == [(1, m("abcdef"))]


def test_what_never_follows_is_refused_for_good_unless_anything_new_comes() -> None:
    box = Inbox()
    new: list[Carried] = [m("a"), Part("ab", 0, 6), Part("cd", 2, 6), Part("ef", 4, 6), m("b")]
    for item in new:
        for _ in range(MAX_REFUSALS - 1):
            with pytest.raises(SequenceGap):
                box.take(box.received + 2, [m("z")])
        box.take(box.received + 1, [item])
    for _ in range(MAX_REFUSALS - 1):
        with pytest.raises(SequenceGap):
            box.take(box.received + 1, [Part("z", 1, 2)])
        # What is known is nothing new.
        box.take(box.received, [m("b")])
    with pytest.raises(OutOfStep, match=r"^again and again: expected unit 0, got 1$"):
        box.take(box.received + 1, [Part("z", 1, 2)])
    assert box.received == 3


@pytest.mark.parametrize("data", ["ab" * 40_000, b"ab" * 40_000])
def test_many_small_parts_take_little_more_room_than_their_message(data: str | bytes) -> None:
    box = Inbox()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for offset in range(0, len(data) - 2, 2):
            box.take(1, [Part(data[offset : offset + 2], offset, len(data))])
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2 * len(data)
    assert box.take(1, [Part(data[-2:], len(data) - 2, len(data))]) == [(1, Message(data))]


@pytest.mark.parametrize(
    "items",
    [
        [Part("a", 0, 6)],
        [m("abcdef")],
        [Part("ää", 0, 4), Part("ää", 2, 4)],
        # Its bytes say it before its last part has come.
        [Part("ää", 0, 5), Part("ä", 2, 5)],
    ],
)
def test_a_message_beyond_the_limit_is_refused_as_soon_as_it_is_known(items: list[Carried]) -> None:
    box = Inbox(5)
    box.take(1, items[:-1])
    with pytest.raises(MessageTooLarge):
        box.take(1, items[-1:])


@given(
    st.lists(st.one_of(st.text(max_size=12), st.binary(max_size=12)), max_size=6),
    st.integers(0, 20),
    st.integers(0, 2**32),
)
@settings(max_examples=1000)
def test_what_is_cut_arrives_whole(sent: list[str | bytes], size: int, seed: int) -> None:
    """However it is cut, and wherever it is begun again."""
    out, box = Outbox(Bounds()), Inbox()
    # Chance of our own: of Hypothesis's, each of so many choices takes as long as all the rest.
    chance = random.Random(seed)
    for each in sent:
        out.append([Message(each)])
    got: list[str | bytes] = []
    while box.received < len(sent):
        before = box.received, box.got
        items = out.read(out.received + 1, chance.randint(0, size), 9, offset=out.got)
        got += [
            item.data for _, item in box.take(out.received + 1, items) if isinstance(item, Message)
        ]
        assert (box.received, box.got) >= before
        if chance.random() < 0.5:
            out.confirm(0, box.received, box.got)
    assert got == sent


# -- what is counted ------------------------------------------------------------------


def test_what_is_read_once_more_is_a_replay() -> None:
    box = outbox("abc")
    box.read(1, EVERYTHING, 2)
    assert (box.sent, box.replays) == (2, 0)
    box.read(1, EVERYTHING, EVERYTHING)
    assert (box.sent, box.replays) == (3, 2)
    box.read(4, EVERYTHING, EVERYTHING)
    assert (box.sent, box.replays) == (3, 2)
    # The newest alone, too.
    box.read(3, EVERYTHING, EVERYTHING)
    assert (box.sent, box.replays) == (3, 3)


def test_the_rest_of_a_message_is_no_replay() -> None:
    box = Outbox(Bounds())
    box.append([m("abcdef"), m("b")])
    box.read(1, 4, EVERYTHING)
    box.read(1, 4, EVERYTHING, offset=4)
    assert (box.sent, box.replays) == (2, 0)
    box.read(1, 4, EVERYTHING)
    assert (box.sent, box.replays) == (2, 1)


def test_what_comes_once_more_is_a_duplicate() -> None:
    box = Inbox()
    box.take(1, [m("a"), m("b")])
    assert box.duplicates == 0
    box.take(1, [m("a"), m("b"), m("c")])
    assert (box.received, box.duplicates) == (3, 2)


# -- only the latest of a key ---------------------------------------------------------------


def keyed(*sent: str, bounds: Bounds | None = None) -> Outbox:
    """An outbox that took these; "x=1" has the key "x"."""
    made = Outbox(bounds or Bounds())
    for text in sent:
        key, equals, _ = text.partition("=")
        made.append([m(text)], latest=key if equals else None)
    return made


def test_the_latest_of_a_key_takes_the_others_place() -> None:
    box = keyed("a", "x=1", "b", "y=1", "x=22", "x=333", "c")
    assert [item.data for item in box.unconfirmed()] == ["a", "x=333", "b", "y=1", "c"]
    assert (len(box), box.last, box.bytes, box.replaced) == (5, 5, 11, 2)


def test_what_has_been_read_is_replaced_by_nothing() -> None:
    box = keyed("x=1", "y=1")
    assert len(box.read(1, EVERYTHING, 1)) == 1
    box.append([m("x=2")], latest="x")
    box.append([m("x=3")], latest="x")
    box.append([m("y=2")], latest="y")
    assert [item.data for item in box.unconfirmed()] == ["x=1", "y=2", "x=3"]
    # Also where it is confirmed since, or where only a part of it was read.
    box.confirm(1, 1)
    box.read(2, 1, 1)
    box.append([m("y=3")], latest="y")
    box.append([m("x=4")], latest="x")
    assert [item.data for item in box.unconfirmed()] == ["y=2", "x=4", "y=3"]


@pytest.mark.parametrize(
    ("marks", "left"),
    [
        ((2, 2), ["a", "x=2"]),
        ((0, 2), ["b", "x=1", "a", "x=2"]),
        # Of that which takes its place there may be less.
        ((1, 1, 2), ["x=1", "a", "x=2"]),
    ],
)
def test_what_a_peer_claims_before_it_was_read_is_replaced_by_nothing(
    marks: tuple[int, ...], left: list[str]
) -> None:
    box = keyed("b", "x=1", "a")
    box.confirm(*marks)
    assert not box.awaits("x")
    box.append([m("x=2")], latest="x")
    assert [item.data for item in box.unconfirmed()] == left


def test_what_belongs_together_is_not_replaced() -> None:
    box = keyed("x=1")
    box.append([m("x=2"), m("attached")], latest="x")
    box.append([m("x=3")], latest="x")
    assert [item.data for item in box.unconfirmed()] == ["x=3", "x=2", "attached"]


def test_what_was_read_awaits_no_other_of_its_key() -> None:
    assert not keyed("a").awaits("x")
    box = keyed("x=1", "y=1")
    assert [box.awaits(key) for key in "xyz"] == [True, True, False]
    box.read(1, 100, 1)
    assert [box.awaits(key) for key in "xyz"] == [False, True, False]


def test_the_latest_fits_where_nothing_else_does() -> None:
    box = keyed("x=1", "a", bounds=Bounds(messages=2, bytes=6, message=5))
    for text, why in (("a", "2 messages, 4 bytes"), ("x=1234", "exceeds the limit of 5")):
        with pytest.raises((OutboxFull, MessageRefused), match=why):
            box.append([m(text)], latest="x" if "=" in text else None)
    box.append([m("x=234")], latest="x")
    assert box.bytes == 6
    box.append([m("x=5")], latest="x")
    box.append([m("x=7")], latest="x")
    assert [item.data for item in box.unconfirmed()] == ["x=7", "a"]
    tight = keyed("x=1", "abc", bounds=Bounds(messages=2, bytes=6, message=5))
    with pytest.raises(OutboxFull):
        tight.append([m("x=12")], latest="x")
    # One that is alone may be beyond the bounds; a smaller one in its place, too.
    large = keyed("x=34567", "x=3456", bounds=Bounds(bytes=4))
    assert [item.data for item in large.unconfirmed()] == ["x=3456"]


def test_under_credit_the_latest_is_no_larger_and_what_is_held_waits() -> None:
    box = Outbox(Bounds())
    box.grant(2, 100)
    for text in ("x=1", "a", "x=2", "y=1", "y=2"):
        box.append([m(text)], latest=text[0] if "=" in text else None)
    assert (box.last, box.held) == (2, 2)
    box.append([m("x=33")], latest="x")
    assert [item.data for item in box.unconfirmed()] == ["x=2", "a", "y=1", "y=2", "x=33"]
    # A reply is outside the credit, whatever takes its place.
    box.append([m("z=1")], urgent=True, latest="z")
    box.append([m("z=2")], urgent=True, latest="z")
    assert texts(box.read(1, EVERYTHING, 9)) == "x=2az=2"
    box.confirm(3, 3)
    assert [item.data for item in box.unconfirmed()] == ["y=1", "y=2", "x=33"]
    assert box.last == 5


def test_keys_are_forgotten() -> None:
    box = Outbox(Bounds())
    for number in range(1000):
        box.append([m("x")], latest=str(number))
        box.read(number + 1, EVERYTHING, 1)
        box.confirm(number + 1, number + 1)
    assert len(box._latest) <= 18
    for number in range(1000):
        box.append([m("x")], latest=str(number))
    # None of what waits.
    assert len([key for key, n in box._latest.items() if n > box.sent]) == 1000


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "x", "y", "z"]), st.integers(1, 30))
        | st.tuples(st.just("cut"), st.integers(0, 3))
        | st.tuples(st.just("read"), st.integers(1, 4)),
        max_size=60,
    )
)
def test_all_else_comes_once_in_order_and_of_each_key_the_last(
    steps: list[tuple[str, int]],
) -> None:
    """However much is read at a time, and read again on another connection."""
    box, inbox = Outbox(Bounds()), Inbox()
    wire: dict[int, str] = {}
    came: list[str] = []
    emitted: list[str] = []

    def read(count: int) -> None:
        items = box.read(box.received + 1, EVERYTHING, count)
        for number, item in enumerate(items, box.received + 1):
            assert isinstance(item, Message)
            # What has a number on the wire is the same for ever.
            assert wire.setdefault(number, str(item.data)) == item.data
        came.extend(str(item.data) for _, item in inbox.take(box.received + 1, items))

    for number, (kind, size) in enumerate(steps):
        if kind == "read":
            read(size)
            box.confirm(inbox.received, inbox.received)
        elif kind == "cut":
            # It has come, but nobody here knows.
            read(size + 1)
        else:
            emitted.append(f"{kind}{number}" + "." * size)
            box.append([m(emitted[-1])], latest=kind or None)
    read(EVERYTHING)
    box.confirm(inbox.received, inbox.received)
    assert (len(box), box.bytes) == (0, 0)
    plain = [text for text in emitted if text[0].isdigit()]
    assert [text for text in came if text[0].isdigit()] == plain
    for key in "xyz":
        mine = [text for text in emitted if text[0] == key]
        there = [text for text in came if text[0] == key]
        assert [text for text in mine if text in there] == there, "once, in order"
        assert there[-1:] == mine[-1:]
    assert len(came) + box.replaced == len(emitted)
