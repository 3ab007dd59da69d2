"""The audit finds what it looks for: each test spoils one thing of a run that was perfect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.engines.audit import audit
from tests.engines.contents import ASKS, content, digest, reply_to

NUMBER = 20


def received(direction: int) -> list[list[Any]]:
    return [[each, *digest(content(direction, each))] for each in range(NUMBER)]


def replies() -> list[list[Any]]:
    return [[each, reply_to(each)] for each in range(0, NUMBER, ASKS)]


def record() -> dict[str, Any]:
    return {
        "sessions": ["one"],
        "received": received(1),
        "replies": replies(),
        "report": {
            "received": received(2),
            "replies": replies(),
            "errors": [],
            "complete": True,
            "transport": "polling",
            "opened": 12,
        },
    }


def test_perfect() -> None:
    outcome = audit(record(), NUMBER)
    assert outcome.exact
    assert (outcome.transport, outcome.opened) == ("polling", 12)


def test_nothing_reported() -> None:
    outcome = audit({**record(), "report": None}, NUMBER)
    assert (outcome.lost, outcome.exact) == (NUMBER, False)


def spoil(list_: list[Any], how: str) -> None:
    match how:
        case "lost":
            del list_[7]
        case "repeated":
            list_.append(list_[7])
        case "reordered":
            list_[7], list_[8] = list_[8], list_[7]
        case "altered":
            list_[7][3] += 1


@pytest.mark.parametrize("how", ["lost", "repeated", "reordered", "altered"])
@pytest.mark.parametrize(
    "log", [lambda each: each["received"], lambda each: each["report"]["received"]]
)
def test_each_kind(how: str, log: Callable[[dict[str, Any]], list[Any]]) -> None:
    spoiled = record()
    spoil(log(spoiled), how)
    outcome = audit(spoiled, NUMBER)
    counts = {each: getattr(outcome, each) for each in ("lost", "repeated", "reordered", "altered")}
    assert {each: count for each, count in counts.items() if count} == {how: 1}
    assert not outcome.exact


@pytest.mark.parametrize(
    "change", [{"sessions": []}, {"sessions": ["one", "two"]}, {"replies": []}]
)
def test_the_rest(change: dict[str, Any]) -> None:
    outcome = audit({**record(), **change}, NUMBER)
    assert len(outcome.errors) == 1
    assert not outcome.exact


def test_a_reply_twice() -> None:
    spoiled = record()
    spoiled["report"]["replies"].append([0, 1])
    assert len(audit(spoiled, NUMBER).errors) == 1
