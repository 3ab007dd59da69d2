"""What came of it, counted from the records, and as Markdown."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.soak.checker import compare
from tests.soak.records import Record

#: Seconds from which on a silence is told in the short table.
LONG_SILENCE = 5.0


@dataclass(frozen=True)
class Result:
    """What became of one library's sessions in one network.

    Args:
        opened: seconds until the page of the last of them was told that it has a connection; None:
            one was not before the network was mended.
        sent, lost, repeated, reordered: messages, both ways; lost are also those that came altered.
        connects: how often a server was told of a new connection, of the session with the most.
        silence: the longest time, while messages were sent, in which none came, of one way of one
            session, in seconds.
    """

    opened: float | None
    sent: int
    lost: int
    repeated: int
    reordered: int
    connects: int
    silence: float

    @classmethod
    def of(cls, records: Sequence[Record], sessions: Iterable[str], stopped: float) -> Result:
        """Count.

        Args:
            records: of both ends, of one network.
            sessions: their names.
            stopped: when nothing more was sent.
        """
        report, _ = compare(records)
        waits: list[float | None] = []
        silences = [0.0]
        came: dict[tuple[str, str], list[float]] = defaultdict(list)
        moments: dict[tuple[str, str], float] = {}
        for record in records:
            if record.event == "got":
                came[record.session, record.way].append(record.at)
            elif record.event in ("start", "open"):
                moments.setdefault((record.session, record.event), record.at)
        for session in sessions:
            started = moments[session, "start"]
            opened = moments.get((session, "open"), stopped)
            waits.append(opened - started if opened < stopped else None)
            for way in ("up", "down"):
                at = [each for each in came[session, way] if each < stopped]
                edges = [started, *at, stopped]
                silences += [b - a for a, b in itertools.pairwise(edges)]
        return cls(
            opened=None if None in waits else max(wait for wait in waits if wait is not None),
            sent=report.total("sent"),
            lost=report.total("lost") + report.total("altered"),
            repeated=report.total("repeated"),
            reordered=report.total("reordered"),
            connects=max(counts["connect"] for counts in report.events.values()),
            silence=max(silences),
        )

    def cell(self) -> str:
        """The short of it."""
        wrong = [
            f"{number:,} {word}"
            for number, word in (
                (self.lost, "lost"),
                (self.repeated, "repeated"),
                (self.reordered, "reordered"),
            )
            if number
        ]
        said = ", ".join(wrong) or "all"
        if self.opened is None:
            said += ", not opened before the end"
        elif self.silence >= LONG_SILENCE:
            said += f", silent for {self.silence:.0f} s"
        if self.connects > 1:
            said += f", {self.connects} connects"
        return said

    def row(self) -> str:
        """All of it, as cells."""
        opened = "not" if self.opened is None else f"{self.opened:.1f} s"
        counts = (self.sent, self.lost, self.repeated, self.reordered, self.connects)
        return " | ".join([opened, *(f"{count:,}" for count in counts), f"{self.silence:.1f} s"])


#: Case to library to result.
Results = Mapping[str, Mapping[str, Result]]


def summary(results: Results, about: str) -> str:
    """What came of it in short.

    Args:
        about: a paragraph on how it was measured.
    """
    libraries = list(next(iter(results.values())))
    lines = [
        f"| network | {' | '.join(libraries)} |",
        "|---" * (len(libraries) + 1) + "|",
    ]
    for case, row in results.items():
        lines.append(f"| {case} | {' | '.join(row[name].cell() for name in libraries)} |")
    return "\n".join([*lines, "", about, ""])


def figures(results: Results) -> str:
    """All that was counted."""
    lines = [
        "| network | | opened after | sent | lost | repeated | reordered | connects "
        "| longest silence |",
        "|---" * 9 + "|",
    ]
    for case, row in results.items():
        lines += [f"| {case} | {name} | {row[name].row()} |" for name in row]
    return "\n".join([*lines, ""])
