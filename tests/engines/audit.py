"""Both ends' logs of a run, compared with what was to come: independent of either end's code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.engines.contents import ASKS, content, digest, reply_to

DIRECTIONS = {1: "up", 2: "down"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One page's run.

    Args:
        number: messages each way.
        transport: that the session rode on in the end; None: on none.
        reason, why: the client's word for it, and its sentence.
        opened: milliseconds from connect() to onopen; None: never.
        lost, repeated, reordered, altered: messages of both directions.
        errors: everything else that is wrong.
        agent: how the engine calls itself.
    """

    number: int
    transport: str | None
    reason: str | None
    why: str | None
    opened: int | None
    lost: int
    repeated: int
    reordered: int
    altered: int
    errors: tuple[str, ...]
    agent: str

    @property
    def exact(self) -> bool:
        """Each message came once, in order and unchanged, and nothing else is wrong."""
        return not (self.lost or self.repeated or self.reordered or self.altered or self.errors)


def audit(record: Mapping[str, Any], number: int) -> Outcome:
    """Judge what the server gives at ``/record`` of a run with `number` messages each way."""
    report = record["report"]
    if report is None:
        report = {"received": [], "replies": [], "errors": ["the page has not reported"]}
    errors = list(report["errors"])
    counts: Counter[str] = Counter()
    for direction, received, replies in (
        (1, record["received"], report["replies"]),
        (2, report["received"], record["replies"]),
    ):
        counts.update(_compare(direction, received, number))
        wanted = [[each, reply_to(each)] for each in range(0, number, ASKS)]
        if sorted(replies, key=str) != sorted(wanted, key=str):
            missing = [each for each in wanted if each not in replies]
            excess = [each for each in replies if each not in wanted]
            errors.append(
                f"replies to messages {DIRECTIONS[direction]}: missing {missing}, "
                f"wrong {excess}, {len(replies)} of {len(wanted)}"
            )
    if len(record["sessions"]) != 1:
        errors.append(f"{len(record['sessions'])} sessions: on_connect ran for each")
    if not report.get("complete"):
        errors.append("the page gave up waiting")
    return Outcome(
        number=number,
        transport=report.get("transport"),
        reason=report.get("reason"),
        why=report.get("why"),
        opened=report.get("opened"),
        lost=counts["lost"],
        repeated=counts["repeated"],
        reordered=counts["reordered"],
        altered=counts["altered"],
        errors=tuple(errors),
        agent=report.get("agent", ""),
    )


def _compare(direction: int, received: Sequence[Sequence[Any]], number: int) -> Counter[str]:
    """Count what is wrong with one direction's log: [number, kind, length, checksum] each."""
    counts: Counter[str] = Counter()
    seen: set[int] = set()
    highest = -1
    for each, *fingerprint in received:
        if each in seen:
            counts["repeated"] += 1
            continue
        seen.add(each)
        if each < highest:
            counts["reordered"] += 1
        highest = max(highest, each)
        if not 0 <= each < number or fingerprint != list(digest(content(direction, each))):
            counts["altered"] += 1
    counts["lost"] = number - len(seen & set(range(number)))
    return counts
