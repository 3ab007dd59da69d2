"""The table says what the records say."""

from __future__ import annotations

import pytest

from tests.soak.records import Record

from .plan import CASES, MIXED_SECONDS, messages, mixed
from .table import Result, figures, summary


def records() -> list[Record]:
    """Two sessions; the second never opens, and what it sends is lost."""
    a, b = "c0.0", "c0.1"
    return [
        *(Record(0.0, name, "start") for name in (a, b)),
        Record(0.5, a, "open"),
        *(Record(at, a, "connect") for at in (0.4, 2.0)),
        *(Record(number, a, "sent", "up", number, 1, "t1") for number in range(4)),
        *(Record(number + 0.1, a, "got", "up", number, 1, "t1") for number in (0, 2, 1, 1)),
        Record(1.0, a, "sent", "down", 0, 1, "t1"),
        Record(1.5, a, "got", "down", 0, 1, "t2"),
        Record(1.0, b, "sent", "up", 0, 1, "t1"),
    ]


def test_all_is_counted() -> None:
    result = Result.of(records(), ["c0.0", "c0.1"], 10.0)
    # Of "up" 3 and all of the second session's; the one down came altered.
    assert (result.sent, result.lost, result.repeated, result.reordered) == (6, 3, 1, 1)
    assert (result.opened, result.connects) == (None, 2)
    assert result.silence == pytest.approx(10.0)
    alone = Result.of([r for r in records() if r.session == "c0.0"], ["c0.0"], 10.0)
    assert alone.opened == pytest.approx(0.5)
    # The last that came up says 1.1.
    assert alone.silence == pytest.approx(10.0 - 1.1)


def test_the_tables_have_a_row_for_each_network_and_every_figure() -> None:
    fine = Result(0.02, 100, 0, 0, 0, 1, 0.31)
    bad = Result(None, 1_200, 7, 2, 1, 3, 20.0)
    results = {"sound": {"ours": fine, "other": bad}}
    text = summary(results, "How.")
    assert "| network | ours | other |\n|---|---|---|\n" in text
    assert (
        "| sound | all | 7 lost, 2 repeated, 1 reordered, not opened before the end, 3 connects |"
        in text
    )
    assert text.endswith("\n\nHow.\n")
    text = figures(results)
    assert "| sound | ours | 0.0 s | 100 | 0 | 0 | 0 | 1 | 0.3 s |" in text
    assert "| sound | other | not | 1,200 | 7 | 2 | 1 | 3 | 20.0 s |" in text
    slow = Result(9.0, 100, 0, 0, 0, 1, 8.7)
    assert slow.cell() == "all, silent for 9 s"


def test_what_opens_once_the_network_is_mended_has_not_opened() -> None:
    late = [record._replace(at=10.5) if record.event == "open" else record for record in records()]
    assert Result.of(late, ["c0.0"], 10.0).opened is None


def test_the_same_seed_is_the_same_plan() -> None:
    assert messages("x") == messages("x")
    assert messages("x") != messages("y")
    assert mixed("x") == mixed("x")


def test_the_networks_strike_everybody() -> None:
    for case in (*CASES, mixed("x")):
        assert list(case.steps) == sorted(case.steps, key=lambda step: step.at)
        assert all(step.at <= max(case.seconds, MIXED_SECONDS) for step in case.steps)
        # A path would spare those who poll elsewhere.
        assert all(rule.path is None for step in case.steps for rule in step.rules or ())
