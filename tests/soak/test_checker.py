"""The checker finds every breach of the contract, one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .checker import Clock, check, compare
from .records import Record, Recorder, checksum, read

Change = Callable[[list[Record]], list[Record]]


def flawless() -> list[Record]:
    """What both ends write down of two sessions in which nothing is wrong."""
    records = []
    for name in ("p0.a", "p0.b"):
        records += [Record(0.0, name, "connect"), Record(0.1, name, "open")]
        for way in ("up", "down"):
            for number in range(4):
                content = f"{name} {way} {number}"
                at = 1.0 + number
                records += [
                    Record(at, name, "sent", way, number, len(content), checksum(content)),
                    Record(at + 0.5, name, "got", way, number, len(content), checksum(content)),
                ]
            records += [
                Record(3.0, name, "asked", way, 2),
                Record(3.6, name, "answered", way, 2, value="2"),
            ]
        records += [
            Record(4.0, name, "asked", "question", 7),
            Record(4.1, name, "heard", "question", 7),
            Record(4.2, name, "answered", "question", 7, value="7"),
            Record(5.0, name, "close", "", 1000),
            Record(5.0, name, "disconnect", "", 1000),
        ]
    return records


def of(event: str, way: str = "", number: int = 0) -> Callable[[Record], bool]:
    return lambda record: record[1:5] == ("p0.a", event, way, number)


def without(chosen: Callable[[Record], bool]) -> Change:
    return lambda records: [record for record in records if not chosen(record)]


def twice(chosen: Callable[[Record], bool]) -> Change:
    return lambda records: [r for record in records for r in [record] * (1 + chosen(record))]


def changed(chosen: Callable[[Record], bool], **fields: object) -> Change:
    return lambda records: [
        record._replace(**fields) if chosen(record) else record for record in records
    ]


def swapped(records: list[Record]) -> list[Record]:
    """Messages 1 and 2 come in the wrong order."""
    places = [i for i, record in enumerate(records) if record[1:4] == ("p0.a", "got", "up")]
    first, second = places[1:3]
    records[first], records[second] = records[second], records[first]
    return records


def test_nothing_is_wrong_with_what_is_right() -> None:
    report = check(flawless())
    assert report.violations == []
    assert report.count == 0
    assert (report.total("sent"), report.total("got"), report.total("sent", "up")) == (16, 16, 8)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without(of("got", "up", 3)), "p0.a up: 3 was lost"),
        (without(of("got", "down", 0)), "p0.a down: 0 was lost"),
        (twice(of("got", "down", 1)), "p0.a down: 1 came again"),
        (swapped, "p0.a up: 1 came behind 2"),
        (changed(of("got", "up", 2), value="t00000000"), "p0.a up: 2 was "),
        (changed(of("got", "up", 2), value=checksum(b"p0.a up 2")), "p0.a up: 2 was "),
        (changed(of("got", "up", 3), number=9), "p0.a up: 9 came, and was never sent"),
        (changed(of("got", "up", 3), session="p0.b"), "p0.b up: 3 came again"),
        (without(of("connect")), "p0.a: 0 times connect"),
        (twice(of("connect")), "p0.a: 2 times connect"),
        (without(of("disconnect", "", 1000)), "p0.a: 0 times disconnect"),
        (twice(of("disconnect", "", 1000)), "p0.a: 2 times disconnect"),
        (changed(of("disconnect", "", 1000), number=4408), "p0.a: 0 times disconnect 1000"),
        (without(of("open")), "p0.a: 0 times open"),
        (twice(of("open")), "p0.a: 2 times open"),
        (without(of("close", "", 1000)), "p0.a: 0 times close"),
        (changed(of("close", "", 1000), number=4429), "p0.a: 0 times close 1000"),
        (lambda r: [*r, Record(9.0, "p0.a", "reset", "", 4404)], "p0.a: 1 times reset"),
        (lambda r: [*r, Record(9.0, "p0.a", "error", "", 1002)], "p0.a: 1 times error"),
        (without(of("answered", "up", 2)), "p0.a up: 2 asked 1 times, answers []"),
        (twice(of("answered", "down", 2)), "p0.a down: 2 asked 1 times, answers ['2', '2']"),
        (changed(of("answered", "up", 2), value="3"), "p0.a up: 2 asked 1 times, answers ['3']"),
        (changed(of("answered", "up", 2), event="failed"), "answers ['failed: 2']"),
        (without(of("answered", "question", 7)), "p0.a question: 7 asked 1 times, answers []"),
        (without(of("heard", "question", 7)), "p0.a: 0 questions heard"),
        (twice(of("heard", "question", 7)), "p0.a: 2 questions heard"),
        # A session of which one end knows nothing.
        (lambda r: [*r, Record(9.0, "p0.c", "connect")], "p0.c: 0 times open"),
    ],
)
def test_a_breach_is_found(change: Change, told: str) -> None:
    report = check(change(flawless()))
    assert report.count > 0
    assert any(told in text for text in report.violations), report.violations


def test_a_close_that_met_a_broken_path_may_stay_unconfirmed() -> None:
    unconfirmed = [*flawless(), Record(9.0, "p0.a", "error", "", 1000)]
    for records in (unconfirmed, without(of("disconnect", "", 1000))(unconfirmed)):
        report = check(records)
        assert (report.violations, report.unconfirmed) == ([], 1)
    assert check(twice(of("disconnect", "", 1000))(unconfirmed)).count > 0
    assert check(without(of("close", "", 1000))(unconfirmed)).count > 0


def test_the_delay_counts_while_the_path_is_sound() -> None:
    # 1 is under way from 2.0 to 2.5; the path is broken from 2.1 to 2.4.
    report = check(flawless(), lambda session: Clock(0.0, [(2.1, 2.4)]))
    assert report.slowest == pytest.approx(0.5)
    report = check(flawless(), lambda session: Clock(0.0, [(1.2, 10.0)]))
    assert report.slowest == pytest.approx(0.2)


def test_the_clock_stands_still_while_the_path_is_broken() -> None:
    clock = Clock(10.0, [(12.0, 15.0), (16.0, 17.0)])
    read = [clock.read(at) for at in (9.0, 10.0, 11.0, 12.0, 13.0, 15.0, 15.5, 16.5, 20.0)]
    assert read == pytest.approx([0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 2.5, 3.0, 6.0])


def test_what_is_only_compared_is_counted() -> None:
    records = without(of("got", "up", 3))(twice(of("got", "up", 0))(swapped(flawless())))
    report, _ = compare(records)
    tally = report.ways["p0.a", "up"]
    assert (tally.sent, tally.lost, tally.repeated, tally.reordered) == (4, 1, 1, 1)
    assert report.ways["p0.b", "up"].wrong == 0


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "records"
    recorder = Recorder(str(path))
    recorder.message("p0.a", "sent", "up", 3, "漢\t\n")
    recorder.write("p0.a", "close", number=1000, value="a\tb\nc")
    recorder.close()
    sent, closed = read(path)
    assert sent[1:] == ("p0.a", "sent", "up", 3, 5, checksum("漢\t\n"))
    assert closed[1:] == ("p0.a", "close", "", 1000, 0, "a b c")
    assert abs(closed.at - sent.at) < 60
