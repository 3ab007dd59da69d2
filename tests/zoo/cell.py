"""One engine behind one proxy: what is measured, and what is asked of it."""

from __future__ import annotations

import statistics
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tests.engines import Engine, EngineError
from tests.engines.audit import Outcome, audit
from tests.integration.served import Served
from tests.proxies.zoo import Entry
from tests.proxies.zoo.program import ProxyFailed

#: Seconds from connect() to onopen: the contract's, and for a proxy that is slow itself.
OPEN_WITHIN, SLOW_WITHIN = 2.5, 5.0
#: Milliseconds after which a page gives up: behind a proxy that takes 1 kB at a time it is busy for
#: minutes, and edbrowse hears of no request that failed, and waits for the client's
#: own time-outs, seconds each.
LIMIT = 480_000
#: Seconds for a page to report, then.
TIMEOUT = 510.0

#: What cannot be had, whatever runs in the engine: patterns of engine and proxy, and why. Each was
#: tried.
_IMPOSSIBLE = (
    ("qt4-webkit", "mitmproxy-*", "this engine's TLS needs OpenSSL 1.0, which nobody ships"),
    (
        "edbrowse",
        "mitmproxy-*",
        "by CONNECT this engine puts the headers of a response into its responseText",
    ),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """What was measured.

    Args:
        row: the proxy's name.
        column: the engine's.
        impossible: why nothing can be; then nothing else is said.
        runs: pages that were opened.
        number: messages of each run, both directions together.
        transport, reason, why: of the last run.
        opened: milliseconds from connect() to onopen, the median; None: a page never opened.
        lost, repeated, reordered, altered: messages, all runs together.
        errors: whatever else was wrong.
        agent: how the engine calls itself.
    """

    row: str
    column: str
    impossible: str | None = None
    runs: int = 0
    number: int = 0
    transport: str | None = None
    reason: str | None = None
    why: str | None = None
    opened: int | None = None
    lost: int = 0
    repeated: int = 0
    reordered: int = 0
    altered: int = 0
    errors: tuple[str, ...] = ()
    agent: str = ""

    def problem(self, slow: float) -> str | None:
        """What is not as it should be; `slow`: the entry's."""
        if self.impossible:
            return None
        if self.errors:
            return self.errors[0]
        for word in ("lost", "repeated", "reordered", "altered"):
            if count := getattr(self, word):
                return f"{count} {word}"
        within = SLOW_WITHIN if slow else OPEN_WITHIN
        if self.opened is None or self.opened > within * 1000:
            return f"open after {self.opened} ms, not {within} s"
        return None


def impossible(entry: Entry, engine: Engine) -> str | None:
    """Why this engine cannot be expected to get through this proxy."""
    if entry.impossible:
        return entry.impossible
    for column, row, reason in _IMPOSSIBLE:
        if fnmatchcase(engine.name, column) and fnmatchcase(entry.name, row):
            return reason
    return None


def measure(
    entry: Entry, engine: Engine, server: Served, *, number: int, pause: int, repeat: int
) -> Cell:
    """Open pages of `number` messages each way, half of them `pause` ms after the other half."""
    reason = impossible(entry, engine)
    if reason:
        return Cell(entry.name, engine.name, impossible=reason)
    outcomes: list[Outcome] = []
    errors: list[str] = []
    for _ in range(repeat):
        run = uuid.uuid4().hex
        try:
            with entry.start(server.port) as hop:
                engine.run(
                    f"{hop.url}/run/{run}/?number={number}&pause={pause}&limit={LIMIT}",
                    proxy=hop.proxy,
                    credentials=hop.credentials,
                    insecure=hop.insecure,
                    timeout=TIMEOUT,
                )
        except (EngineError, ProxyFailed) as error:
            errors.append(str(error))
        outcomes.append(audit(server.get(f"/record?run={run}"), number))
    return _summary(entry, engine, outcomes, errors)


def _summary(entry: Entry, engine: Engine, outcomes: list[Outcome], errors: Iterable[str]) -> Cell:
    last = outcomes[-1]
    times = [outcome.opened for outcome in outcomes if outcome.opened is not None]
    return Cell(
        row=entry.name,
        column=engine.name,
        runs=len(outcomes),
        number=2 * last.number,
        transport=last.transport,
        reason=last.reason,
        why=last.why,
        opened=round(statistics.median(times)) if len(times) == len(outcomes) else None,
        lost=sum(outcome.lost for outcome in outcomes),
        repeated=sum(outcome.repeated for outcome in outcomes),
        reordered=sum(outcome.reordered for outcome in outcomes),
        altered=sum(outcome.altered for outcome in outcomes),
        errors=(*errors, *(error for outcome in outcomes for error in outcome.errors)),
        agent=last.agent,
    )
