"""Compares what both ends have written down, and says what the contract does not allow.

Knows the records and nothing else: neither the product nor how the run was made.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .records import Record

#: Violations that are told one by one.
TOLD = 50


class Clock:
    """How long the path was sound, up to any moment.

    Args:
        began: when the time begins.
        broken: the intervals in which it was not, in order.
    """

    def __init__(self, began: float, broken: Iterable[tuple[float, float]] = ()) -> None:
        # At each of these times so much sound time had passed, and from then on it passes or not.
        self._times, self._passed, self._runs = [began], [0.0], [True]
        for start, end in broken:
            self._turn(start, False)
            self._turn(end, True)

    def _turn(self, at: float, runs: bool) -> None:
        passed = self.read(at)
        self._times.append(at)
        self._passed.append(passed)
        self._runs.append(runs)

    def read(self, at: float) -> float:
        """The sound seconds up to a time."""
        place = max(0, bisect.bisect_right(self._times, at) - 1)
        since = max(0.0, at - self._times[place]) if self._runs[place] else 0.0
        return self._passed[place] + since


@dataclass
class Tally:
    """One direction of one session."""

    sent: int = 0
    got: int = 0
    bytes: int = 0
    lost: int = 0
    repeated: int = 0
    reordered: int = 0
    altered: int = 0
    invented: int = 0

    @property
    def wrong(self) -> int:
        """How much of it the contract does not allow."""
        return self.lost + self.repeated + self.reordered + self.altered + self.invented


@dataclass
class Report:
    """What a comparison has found."""

    ways: dict[tuple[str, str], Tally] = field(default_factory=dict)
    #: How often a session had an event.
    events: dict[str, Counter[str]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    count: int = 0
    #: The most seconds of a sound path that one message was under way, and which.
    slowest: float = 0.0
    slowest_is: str = ""
    #: Sessions whose page closed them while the path was broken, for too long to be confirmed.
    unconfirmed: int = 0
    #: Numbers of connections that sessions have made.
    attempts: int = 0

    def violation(self, text: str) -> None:
        """Note one."""
        self.count += 1
        if len(self.violations) < TOLD:
            self.violations.append(text)

    def total(self, name: str, way: str | None = None) -> int:
        """The sum of one of the tallies' numbers."""
        return sum(
            getattr(tally, name)
            for (_, each), tally in self.ways.items()
            if way is None or each == way
        )

    def happened(self, event: str) -> int:
        """How often there was such an event, in all sessions."""
        return sum(counts[event] for counts in self.events.values())


@dataclass
class _Way:
    """One direction while it is read."""

    sent: dict[int, tuple[str, float]] = field(default_factory=dict)
    got: list[tuple[int, str, float]] = field(default_factory=list)
    bytes: int = 0


@dataclass
class _Question:
    """One reply that was asked for."""

    asked: int = 0
    answers: list[str] = field(default_factory=list)


def compare(
    records: Iterable[Record], clock: Callable[[str], Clock] | None = None
) -> tuple[Report, dict[tuple[str, str, int], _Question]]:
    """Match messages and count events, without a judgement on sessions and replies.

    Args:
        records: of both ends, in any mixture; each end's own in order.
        clock: of the path of a session, for the delays.
    """
    report = Report()
    ways: dict[tuple[str, str], _Way] = defaultdict(_Way)
    questions: dict[tuple[str, str, int], _Question] = defaultdict(_Question)
    events: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        way = ways[record.session, record.way] if record.event in ("sent", "got") else None
        if record.event == "sent" and way is not None:
            if record.number in way.sent:
                report.violation(f"{record.session}: the log has {record.number} sent twice")
            way.sent[record.number] = (record.value, record.at)
            way.bytes += record.size
        elif record.event == "got" and way is not None:
            way.got.append((record.number, record.value, record.at))
        elif record.event == "asked":
            questions[record.session, record.way, record.number].asked += 1
        elif record.event in ("answered", "failed"):
            text = record.value if record.event == "answered" else f"failed: {record.value}"
            questions[record.session, record.way, record.number].answers.append(text)
        elif record.event == "attempts":
            report.attempts += record.number
        events[record.session][record.event] += 1
        if record.event in ("disconnect", "close", "error"):
            events[record.session][f"{record.event} {record.number}"] += 1
    report.events = dict(events)
    for (session, name), way in ways.items():
        path = clock(session) if clock is not None else None
        report.ways[session, name] = _match(report, f"{session} {name}", way, path)
    return report, questions


def _match(report: Report, name: str, way: _Way, path: Clock | None) -> Tally:
    tally = Tally(sent=len(way.sent), got=len(way.got), bytes=way.bytes)
    seen: set[int] = set()
    highest = -1
    for number, value, at in way.got:
        if number in seen:
            tally.repeated += 1
            report.violation(f"{name}: {number} came again")
            continue
        seen.add(number)
        if number not in way.sent:
            tally.invented += 1
            report.violation(f"{name}: {number} came, and was never sent")
            continue
        if number < highest:
            tally.reordered += 1
            report.violation(f"{name}: {number} came behind {highest}")
        highest = max(highest, number)
        sent, sent_at = way.sent[number]
        if value != sent:
            tally.altered += 1
            report.violation(f"{name}: {number} was {sent}, and came as {value}")
        if path is not None:
            delay = path.read(at) - path.read(sent_at)
            if delay > report.slowest:
                report.slowest, report.slowest_is = delay, f"{name} {number}"
    for number in way.sent.keys() - seen:
        tally.lost += 1
        report.violation(f"{name}: {number} was lost")
    return tally


def check(records: Iterable[Record], clock: Callable[[str], Clock] | None = None) -> Report:
    """Judge a run by the contract; every session must have been closed by its page with 1000.

    Args:
        records, clock: see `compare`.
    """
    report, questions = compare(records, clock)
    for session, counts in report.events.items():
        once = ["connect", "disconnect 1000", "disconnect", "open", "close 1000", "close"]
        never = ["reset", "error"]
        if counts["error 1000"] == 1 and counts["error"] == 1 and counts["disconnect"] <= 1:
            # The page's own close met a broken path, and was not confirmed in 5 s; by the contract
            # the page is done then, and told so, and the server hears of it when it may.
            report.unconfirmed += 1
            once = ["connect", "open", "close 1000", "close"]
            never = ["reset"]
        for event in once:
            if counts[event] != 1:
                report.violation(f"{session}: {counts[event]} times {event}")
        for event in never:
            if counts[event]:
                report.violation(f"{session}: {counts[event]} times {event}")
        if counts["heard"] != sum(
            1 for each, way, _ in questions if (each, way) == (session, "question")
        ):
            report.violation(f"{session}: {counts['heard']} questions heard")
    for (session, way, number), question in questions.items():
        # Every end answers with the number that it was asked by.
        if question.asked != 1 or question.answers != [str(number)]:
            told = f"asked {question.asked} times, answers {question.answers}"
            report.violation(f"{session} {way}: {number} {told}")
    return report
