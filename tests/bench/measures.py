"""What is measured: the rows of the table, each a load and what is read off it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from .generator import SILENCE, Load, Outcome, finish, generate, start
from .recovery import PROTOCOLS, recover
from .relay import Relay
from .subject import Running, Subject
from .subjects import BURST

TRANSPORTS = ("websocket", "polling")
#: A thread or more for each client: there the large rows would measure the kernel.
MOST_THREADED = 1000
#: Seconds of round trip, beside none, with which connecting is timed.
FAR = 0.1
#: The clients beside the one that sends 1 MB, and the seconds between their messages.
OTHERS, PACE = 50, 0.1
LARGE = 1_000_000
#: Descriptors of a process that has no clients.
SPARE = 200


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of an outcome; None where it has none."""

    name: str
    unit: str
    read: Callable[[Outcome], float | None]
    digits: int = 1


def _per_session(kilobytes: Callable[[Outcome], int]) -> Callable[[Outcome], float | None]:
    return lambda o: kilobytes(o) / o.ready if o.ready else None


def _per_message(read: Callable[[Outcome], int]) -> Callable[[Outcome], float | None]:
    return lambda o: read(o) / o.messages if o.messages else None


CPU = Metric("server CPU per message", "µs", lambda o: o.cpu)
RATE = Metric("messages a second", "", lambda o: o.rate, 0)
P50 = Metric("p50", "ms", lambda o: o.p50 if o.samples else None, 2)
P99 = Metric("p99", "ms", lambda o: o.p99 if o.samples else None, 2)
UP = Metric("bytes up per message", "B", _per_message(lambda o: o.bytes_out), 0)
DOWN = Metric("bytes down per message", "B", _per_message(lambda o: o.bytes_in), 0)
REQUESTS = Metric("requests per message", "", _per_message(lambda o: o.requests), 2)
CONNECT = Metric(
    "server CPU per connect",
    "µs",
    lambda o: o.starting_cpu / o.connects * 1e6 if o.connects else None,
    0,
)
TRIPS = Metric(
    "round trips to the first message", "", lambda o: o.p50 / FAR / 1e3 if o.samples else None
)
USS = Metric("memory per session (USS)", "kB", _per_session(lambda o: o.uss - o.uss_before))
PSS = Metric("memory per session (PSS)", "kB", _per_session(lambda o: o.pss - o.pss_before))
IDLE = Metric("CPU of a core, idle", "%", lambda o: o.server_cpu / o.seconds * 100, 2)
GAP = Metric("longest gap", "ms", lambda o: o.max, 0)
LOST = Metric("messages lost", "", lambda o: o.missing, 0)
UPSTREAM = Metric("upstream", "MB/s", lambda o: o.rate * LARGE / 1e6)


@dataclass(frozen=True, slots=True)
class Row:
    """One load, and the metrics that are read off it.

    Args:
        key: its name on the command line.
        text: its name in the table.
        metrics: the first is the one that is plotted.
        load: what differs from `Load`'s defaults.
        seconds: how long at least, whatever was asked for.
        delay: of a relay between; half a round trip.
        cuts: how often a relay cuts the connection.
        others: whether other clients are there, whose outcome is a row of its own.
        floors: whether floors are measured.
        quick: what `--quick` changes in `load`; None to leave the row out.
    """

    key: str
    text: str
    metrics: tuple[Metric, ...]
    load: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    delay: float = 0.0
    cuts: int = 0
    others: bool = False
    floors: bool = False
    quick: dict[str, Any] | None = None

    @property
    def clients(self) -> int:
        """How many there are."""
        return int(self.load.get("clients", 1)) + (OTHERS if self.others else 0)

    @property
    def descriptors(self) -> int:
        """How many of them a process may need."""
        return self.clients * (1 if self.load.get("mode") == "idle" else 2) + SPARE


def _echo(clients: int, window: int, size: int, text: str, **more: Any) -> Row:
    load = {"clients": clients, "window": window, "size": size}
    key = f"echo-{clients}x{window}-{text.replace(' ', '')}"
    described = f"echo, {clients} clients x {window}, {text}".replace("1 clients", "1 client")
    metrics = (CPU, RATE, P50, P99, UP, DOWN, REQUESTS)
    return Row(key, described, metrics, load, **more)


def _fan(clients: int, **more: Any) -> Row:
    load = {"mode": "fanout", "clients": clients}
    return Row(f"fan-{clients}", f"fan-out to {clients:,}", (CPU, RATE, P50, P99), load, **more)


def _burst(clients: int, **more: Any) -> Row:
    load = {"mode": "fanout", "clients": clients, "burst": BURST}
    text = f"burst of {BURST} to {clients:,}"
    return Row(f"burst-{clients}", text, (RATE, CPU, P50), load, **more)


def _idle(clients: int, **more: Any) -> Row:
    load = {"mode": "idle", "clients": clients}
    return Row(f"idle-{clients}", f"{clients:,} idle", (USS, PSS, IDLE), load, **more)


#: Longer than the keepalives of all (25 s), so that each has had one.
_IDLE_SECONDS = 30.0

ROWS = (
    _echo(1, 1, 32, "32 B", floors=True),
    _echo(50, 4, 32, "32 B", floors=True, quick={}),
    _echo(500, 1, 32, "32 B"),
    _echo(50, 1, 1, "1 B"),
    _echo(50, 1, 1000, "1 kB"),
    _echo(10, 1, 100_000, "100 kB"),
    _echo(4, 1, LARGE, "1 MB"),
    _fan(100, quick={}),
    _fan(500, quick={}),
    _fan(1000),
    _fan(5000, quick={}),
    _burst(100),
    _burst(500, quick={}),
    _burst(1000),
    _burst(5000),
    Row(
        "connect",
        "connect",
        (CONNECT, P50),
        {"mode": "connect", "clients": 1000},
        quick={"clients": 100},
    ),
    Row(
        "connect-near",
        "connect, nothing else to do",
        (P50, P99),
        {"mode": "connect", "clients": 50, "ramp": 1},
    ),
    Row(
        "connect-far",
        "connect, 100 ms away",
        (TRIPS, P50),
        {"mode": "connect", "clients": 20, "ramp": 10},
        delay=FAR / 2,
        quick={"clients": 10},
    ),
    _idle(1000, seconds=_IDLE_SECONDS, quick={}),
    # What the targets say of it is its CPU, of which there is none between keepalives.
    _idle(10_000, seconds=_IDLE_SECONDS, quick={"seconds": _IDLE_SECONDS}),
    Row(
        "recovery", "a connection that is cut, 50 messages a second", (GAP, LOST), cuts=2, quick={}
    ),
    Row(
        "large",
        "one client sends 1 MB messages",
        (UPSTREAM, CPU),
        {"clients": 1, "size": LARGE, "event": "sink"},
        others=True,
        quick={},
    ),
)
#: The other clients of the row "large".
BESIDE = Row("beside", f"{OTHERS} others echo beside it", (P99, P50))


@dataclass(frozen=True, slots=True)
class Cell:
    """What was measured of a subject on a transport, in one row, each time."""

    row: str
    transport: str
    subject: str
    outcomes: tuple[Outcome, ...]

    def values(self, metric: Metric) -> list[float]:
        """The figures, of the repetitions that have one."""
        found = (metric.read(outcome) for outcome in self.outcomes)
        return [value for value in found if value is not None]

    def median(self, metric: Metric) -> float | None:
        """The middle one."""
        values = self.values(metric)
        return statistics.median(values) if values else None

    @property
    def notes(self) -> list[str]:
        """What a reader must know of it."""
        notes = []
        if any(outcome.bound for outcome in self.outcomes):
            notes.append("generator bound")
        # Of a connection that is cut, it is the figure.
        here = [outcome for outcome in self.outcomes if outcome.mode != "recovery"]
        if missing := sum(outcome.missing for outcome in here):
            notes.append(f"{missing:,} messages missing after {SILENCE} s of silence")
        if wrong := sum(outcome.mismatched for outcome in self.outcomes):
            notes.append(f"{wrong:,} messages altered or repeated")
        if failed := sum(outcome.failed for outcome in self.outcomes):
            notes.append(f"{failed:,} clients failed")
        return notes


class Results:
    """All cells, by row, transport and subject."""

    def __init__(self, cells: Iterable[Cell] = ()) -> None:
        self._cells = {(cell.row, cell.transport, cell.subject): cell for cell in cells}

    def add(self, row: str, transport: str, subject: str, outcome: Outcome) -> None:
        """One more repetition."""
        key = (row, transport, subject)
        cell = self._cells.get(key, Cell(*key, ()))
        self._cells[key] = replace(cell, outcomes=(*cell.outcomes, outcome))

    def get(self, row: str, transport: str, subject: str) -> Cell | None:
        """What was measured, if it was."""
        return self._cells.get((row, transport, subject))

    def value(self, row: str, transport: str, subject: str, metric: Metric) -> float | None:
        """The median, if it was measured."""
        cell = self.get(row, transport, subject)
        return cell.median(metric) if cell else None

    def __iter__(self) -> Any:
        return iter(self._cells.values())


def applies(row: Row, transport: str, subject: Subject) -> bool:
    """Whether that subject is measured in that row."""
    if transport not in subject.transports or (subject.floor and not row.floors):
        # Node's ws has all that a fan-out needs; the other floors only give back.
        bare = subject.protocol == "websocket" and transport == "websocket"
        if not (bare and row.load.get("mode") in (None, "fanout")):
            return False
    if row.cuts and subject.protocol not in PROTOCOLS:
        return False
    return not (subject.mode == "threading" and row.clients > MOST_THREADED)


def measure(row: Row, transport: str, subject: Subject, seconds: float) -> dict[str, Outcome]:
    """One repetition, on a server of its own; by the row's key."""
    if row.cuts:
        with Running(subject) as running:
            return {row.key: recover(running, transport, row.cuts)}
    options = dict(row.load)
    options["seconds"] = options.get("seconds", max(seconds, row.seconds))
    if subject.protocol == "http":
        # One request at a time on a connection: nobody pipelines.
        options["window"] = 1
    with Running(subject) as running, Relay(running.port, row.delay) as relay:
        load = Load(
            subject.protocol,
            relay.port if row.delay else running.port,
            running.pid,
            transport,
            **options,
        )
        if not row.others:
            return {row.key: generate(load)}
        beside = replace(
            load, clients=OTHERS, size=32, event="echo", interval=PACE, seconds=load.seconds + 1
        )
        large = start(load)
        others = generate(beside)
        return {row.key: finish(large, load), BESIDE.key: others}
