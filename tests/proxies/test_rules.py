"""When a rule strikes, and what a rule may not be."""

from __future__ import annotations

import pytest

from .fault_process import FaultProxy
from .faults import Cut, Latency, LostReply, Pause, Refuse, RuleError
from .rules import Rule, RuleBook


def chosen(rule: Rule, requests: int = 20, seed: int = 1) -> list[int]:
    """Return which of a row of requests a rule strikes, from 1."""
    book = RuleBook(seed, [rule])
    plans = [book.plan("http", "GET", f"/{number}") for number in range(1, requests + 1)]
    return [number for number, plan in enumerate(plans, 1) if plan.get(Refuse)]


def test_selectors() -> None:
    refuse = Refuse()
    assert chosen(Rule(refuse, every=5)) == [5, 10, 15, 20]
    assert chosen(Rule(refuse, skip=17)) == [18, 19, 20]
    assert chosen(Rule(refuse, first=2)) == [1, 2]
    assert chosen(Rule(refuse, skip=1, every=3, first=2)) == [4, 7]
    assert chosen(Rule(refuse, path="[37]$")) == [3, 7, 13, 17]
    assert chosen(Rule(refuse, method="GE")) == []
    assert chosen(Rule(refuse, on="ws")) == []


def test_dice_fall_the_same_way_again() -> None:
    rule = Rule(Refuse(), probability=0.3)
    first = chosen(rule, 1000)
    assert first == chosen(rule, 1000)
    assert 200 < len(first) < 400
    assert first != chosen(rule, 1000, seed=2)
    fixed = Rule(Refuse(), probability=0.3, seed=5)
    assert chosen(fixed, seed=1) == chosen(fixed, seed=2)
    assert len(chosen(Rule(Refuse(), probability=0.3, first=4), 1000)) == 4
    assert chosen(Rule(Refuse(), probability=0.0)) == []


def test_of_two_rules_with_the_same_fault_the_first_wins_and_both_count() -> None:
    book = RuleBook(1, [Rule(Refuse(401), every=2), Rule(Refuse(402))])
    plans = [book.plan("http", "GET", "/") for _ in range(4)]
    refusals = [plan.get(Refuse) for plan in plans]
    assert [refusal.status for refusal in refusals if refusal] == [402, 401, 402, 401]
    assert [entry["matched"] for entry in book.tally()] == [4, 4]


@pytest.mark.parametrize(
    "rule",
    [
        {"fault": "gremlin"},
        {"status": 403},
        {"fault": "refuse", "status": "403"},
        {"fault": "refuse", "status": True},
        {"fault": "cut"},
        {"fault": "cut", "after": -1},
        {"fault": "cut", "after": 1, "how": "gently"},
        {"fault": "strip", "on": "http"},
        {"fault": "strip", "path": "("},
        {"fault": "latency", "path": "/x"},
        {"fault": "pause", "every": 2},
        {"fault": "refuse", "every": 0},
        {"fault": "refuse", "probability": 1.5},
        {"fault": "truncate", "fraction": 1.0},
        {"fault": "throttle", "rate": 0},
        "refuse",
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(proxy: FaultProxy, rule: object) -> None:
    with pytest.raises(RuleError):
        proxy.rules(rule)  # type: ignore[arg-type]


def test_the_json_of_a_rule_is_flat_and_complete(proxy: FaultProxy) -> None:
    rules = [
        Rule(Cut(after=2), on="ws", path="^/ws", every=3, skip=1, first=2, probability=0.5, seed=9),
        Rule(LostReply("hang"), method="POST"),
        Rule(Latency(1)),
        Rule(Pause("refuse")),
    ]
    assert rules[0].to_json() == {
        **{"fault": "cut", "after": 2, "after_bytes": None, "how": "rst", "on": "ws"},
        **{"path": "^/ws", "every": 3, "skip": 1, "first": 2, "probability": 0.5, "seed": 9},
    }
    proxy.rules(*rules)
    assert [entry["rule"] for entry in proxy.statistics().rules] == [r.to_json() for r in rules]
