"""Which requests a fault strikes: rules, and the book that the proxy consults.

The JSON of a rule is flat: the fault's name and fields, and beside them
``on``, ``method``, ``path``, ``every``, ``skip``, ``first``, ``probability``
and ``seed``. For example::

    {"fault": "gateway", "status": 504, "after": 5, "method": "POST", "every": 3}
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal, TypeVar

from .faults import FAULTS, Fault, Pause, RuleError, Traffic, build

FaultT = TypeVar("FaultT", bound=Fault)


@dataclass(frozen=True)
class Rule:
    """One fault, and when it strikes.

    A rule counts the requests that it matches. It passes over the first
    ``skip``, takes every ``every``-th of the rest (with 5: the fifth, the
    tenth, …), each with ``probability``, and stops after ``first`` strikes.

    Args:
        fault: what happens.
        on: "ws" (upgrades), "http" (the rest) or "any"; what the fault can act on anyway.
        method: a regular expression that the whole method must match.
        path: a regular expression to be found in the request's target.
        seed: of this rule's dice; None: derived from the proxy's seed and the rule's place.
    """

    fault: Fault
    on: Literal["any", "ws", "http"] = "any"
    method: str | None = None
    path: str | None = None
    every: int = 1
    skip: int = 0
    first: int | None = None
    probability: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        """Refuse what could never strike, or not as it was meant."""
        name, acts_on = self.fault.name, self.fault.acts_on
        if self.on != "any" and self.on not in acts_on:
            raise RuleError(f"{name} does not act on {self.on}")
        if "connection" in acts_on and (self.method is not None or self.path is not None):
            raise RuleError(f"{name} acts on connections, which have no method and no path")
        if isinstance(self.fault, Pause) and self._selectors():
            raise RuleError("pause acts on the door itself: it takes no selectors")
        if self.every < 1 or self.skip < 0 or (self.first is not None and self.first < 1):
            raise RuleError(f"{name}: every and first are at least 1, skip at least 0")
        if not 0 <= self.probability <= 1:
            raise RuleError(f"{name}: probability is between 0 and 1")
        for pattern in (self.method, self.path):
            try:
                re.compile(pattern or "")
            except re.error as error:
                raise RuleError(f"{name}: {pattern!r} is no regular expression: {error}") from error

    def to_json(self) -> dict[str, object]:
        """Return the rule as flat JSON, with what differs from the defaults."""
        return {"fault": self.fault.name, **asdict(self.fault), **self._selectors()}

    def _selectors(self) -> dict[str, object]:
        values = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        return {name: value for name, value in values.items() if value != _DEFAULTS[name]}


_DEFAULTS = {field.name: field.default for field in fields(Rule)[1:]}

#: A rule as tests write it: a ``Rule``, a bare fault that always strikes, or decoded JSON.
RuleLike = Rule | Fault | Mapping[str, object]


def as_rule(given: object) -> Rule:
    """Make a rule of whatever form it was given in.

    Raises:
        RuleError: it is none; the message says what would be right.
    """
    if isinstance(given, Rule):
        return given
    if isinstance(given, Fault):
        return Rule(given)
    if not isinstance(given, Mapping):
        raise RuleError(f"a rule is an object, not {given!r}")
    name = given.get("fault")
    if not isinstance(name, str) or name not in FAULTS:
        raise RuleError(f"fault is {name!r}, and must be one of {', '.join(FAULTS)}")
    rest = {key: value for key, value in given.items() if key != "fault"}
    selectors = {key: rest.pop(key) for key in _DEFAULTS.keys() & rest.keys()}
    fault = build(FAULTS[name], rest, name)
    return build(Rule, {"fault": fault, **selectors}, name)


@dataclass(frozen=True)
class Plan:
    """The faults chosen for one request or connection, at most one of each kind."""

    faults: Mapping[type[Fault], Fault]

    def get(self, kind: type[FaultT]) -> FaultT | None:
        """Return the chosen fault of this kind, if any."""
        fault = self.faults.get(kind)
        return fault if isinstance(fault, kind) else None


class _Entry:
    """A rule in force, with its counters and dice."""

    def __init__(self, rule: Rule, seed: int, place: int) -> None:
        self.rule = rule
        self.matched = 0
        self.chosen = 0
        # Text seeds are hashed by SHA-512, the same on every machine and version.
        self._dice = random.Random(f"{seed}/{place}" if rule.seed is None else f"{rule.seed}")
        self._method = re.compile(rule.method) if rule.method is not None else None
        self._path = re.compile(rule.path) if rule.path is not None else None

    def chooses(self, traffic: Traffic, method: str, target: str) -> bool:
        rule = self.rule
        if (
            traffic not in rule.fault.acts_on
            or (rule.on not in ("any", traffic))
            or (self._method is not None and not self._method.fullmatch(method))
            or (self._path is not None and not self._path.search(target))
        ):
            return False
        self.matched += 1
        place = self.matched - rule.skip
        if place < 1 or place % rule.every:
            return False
        if rule.first is not None and self.chosen >= rule.first:
            return False
        if rule.probability < 1 and self._dice.random() >= rule.probability:
            return False
        self.chosen += 1
        return True


class RuleBook:
    """The rules in force. Replacing them starts every counter and every die anew.

    Args:
        seed: of the dice of every rule that has no seed of its own.
    """

    def __init__(self, seed: int, rules: Iterable[Rule] = ()) -> None:
        self.seed = seed
        #: Rises with every replacement, so that live connections notice.
        self.edition = 0
        self._entries: list[_Entry] = []
        self.replace(rules)

    def replace(self, rules: Iterable[Rule]) -> None:
        """Put these rules in force, instead of all others."""
        self._entries = [_Entry(rule, self.seed, place) for place, rule in enumerate(rules)]
        self.edition += 1

    @property
    def rules(self) -> Sequence[Rule]:
        """The rules in force, in order."""
        return [entry.rule for entry in self._entries]

    @property
    def pause(self) -> Pause | None:
        """Whether, and how, new connections are to be kept out."""
        pauses = (entry.rule.fault for entry in self._entries)
        return next((fault for fault in pauses if isinstance(fault, Pause)), None)

    def plan(self, traffic: Traffic, method: str = "", target: str = "") -> Plan:
        """Choose the faults for one request or connection.

        Every rule counts what it matches, whatever the others do; of two rules
        with the same fault the first one that strikes wins.
        """
        faults: dict[type[Fault], Fault] = {}
        for entry in self._entries:
            if entry.chooses(traffic, method, target):
                faults.setdefault(type(entry.rule.fault), entry.rule.fault)
        return Plan(faults)

    def tally(self) -> list[dict[str, object]]:
        """Return every rule with the number of its matches, and of those it chose."""
        return [
            {"rule": entry.rule.to_json(), "matched": entry.matched, "chosen": entry.chosen}
            for entry in self._entries
        ]
