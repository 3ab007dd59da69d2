"""What this package is to reach, as ratios within one run, and whether it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .measures import (
    BESIDE,
    CONNECT,
    CPU,
    IDLE,
    LOST,
    P99,
    RATE,
    REQUESTS,
    TRIPS,
    UPSTREAM,
    USS,
    Cell,
    Metric,
    Results,
)

OURS = "fallback_transport (eventlet)"
COMPILED = "fallback_transport (eventlet, compiled)"
FLASK = "Flask-SocketIO (eventlet)"
NODE = "Socket.IO (Node.js)"
ECHO = "echo-50x4-32B"


class Asked(Results):
    """Results that remember what they were asked for."""

    def __init__(self, results: Results) -> None:
        super().__init__(results)
        self.keys: set[tuple[str, str, str]] = set()
        self.cells: list[Cell] = []

    def get(self, row: str, transport: str, subject: str) -> Cell | None:
        """See `Results`."""
        cell = super().get(row, transport, subject)
        self.keys.add((row, transport, subject))
        if cell is not None:
            self.cells.append(cell)
        return cell


@dataclass(frozen=True, slots=True)
class Target:
    """One figure and its bound.

    Args:
        text: what it is.
        limit: the bound.
        measured: the figure of a run; None if the run has not what it takes.
        least: whether the bound is the least, not the most.
        unit: behind both.
    """

    text: str
    limit: float
    measured: Callable[[Results], float | None]
    least: bool = False
    unit: str = "x"

    def met(self, results: Results) -> bool | None:
        """Whether it is; None if it was not measured."""
        value = self.measured(results)
        if value is None:
            return None
        return value >= self.limit if self.least else value <= self.limit

    def line(self, results: Results) -> str:
        """The target, what was measured, the verdict, and what makes it doubtful."""
        asked = Asked(results)
        value, met = self.measured(asked), self.met(results)
        doubts = {f"{cell.subject}: {note}" for cell in asked.cells for note in cell.notes}
        doubt = f" ({'; '.join(sorted(doubts))})" if doubts else ""
        word = "at least" if self.least else "at most"
        bound = f"{self.text}: {word} {self.limit:g} {self.unit}".rstrip()
        if value is None:
            return f"{bound} | not measured | -"
        measured = f"{value:.3g} {self.unit}".rstrip()
        return f"{bound} | {measured} | {'ok' if met else 'missed'}{doubt}"


def ratio(
    row: str, transport: str, metric: Metric, over: str, ours: str = OURS
) -> Callable[[Results], float | None]:
    """Ours in relation to a peer's."""

    def measured(results: Results) -> float | None:
        mine = results.value(row, transport, ours, metric)
        theirs = results.value(row, transport, over, metric)
        return mine / theirs if mine is not None and theirs else None

    return measured


def above_floor(
    transport: str, mode: str, results: Results, name: str, row: str = ECHO
) -> float | None:
    """CPU per message, less that of the empty echo on the same server.

    By polling a message takes some requests, each of which costs at least an empty one; by
    WebSocket the empty echo is a loop that gives back what it reads.
    """
    floor = ("socket loop" if transport == "websocket" else "empty WSGI") + f" ({mode})"
    cpu = results.value(row, transport, f"{name} ({mode})", CPU)
    empty = results.value(ECHO, transport, floor, CPU)
    if cpu is None or empty is None:
        return None
    if transport == "polling":
        empty *= results.value(row, transport, f"{name} ({mode})", REQUESTS) or 0.0
    return cpu - empty


def _less_floor(transport: str, mode: str) -> Callable[[Results], float | None]:
    def measured(results: Results) -> float | None:
        ours = above_floor(transport, mode, results, "fallback_transport")
        theirs = above_floor(transport, mode, results, "python-socketio")
        # Where the peer costs hardly more than nothing, there is no half of it.
        return ours / theirs if ours is not None and theirs and theirs > 0 else None

    return measured


def _growth(transport: str, ours: str) -> Callable[[Results], float | None]:
    def measured(results: Results) -> float | None:
        few = results.value("fan-100", transport, ours, CPU)
        many = results.value("fan-5000", transport, ours, CPU)
        return many / few if few and many is not None else None

    return measured


def _unsound(results: Results) -> float | None:
    """All that our clients sent or were sent and that did not come, once, as it was."""
    outcomes = [
        outcome
        for cell in results
        if cell.subject.startswith("fallback_transport ")
        for outcome in cell.outcomes
    ]
    wrong = [outcome.missing + outcome.mismatched + outcome.failed for outcome in outcomes]
    return float(sum(wrong)) if outcomes else None


def _own(row: str, transport: str, metric: Metric, ours: str) -> Callable[[Results], float | None]:
    return lambda results: results.value(row, transport, ours, metric)


def _on_eventlet(ours: str) -> Iterator[Target]:
    cpu = "server CPU per"
    for transport, name, node, flask in (
        ("websocket", "WebSocket", 1.2, 0.12),
        ("polling", "polling", 1.0, 0.1),
    ):
        text = f"{name} echo, 50 clients x 4, {cpu} message, by"
        yield Target(f"{text} Node's Socket.IO", node, ratio(ECHO, transport, CPU, NODE, ours))
        yield Target(f"{text} Flask-SocketIO", flask, ratio(ECHO, transport, CPU, FLASK, ours))
    for transport, name, node, flask in (
        ("websocket", "WebSocket", 0.65, 0.25),
        ("polling", "polling", 0.4, 0.08),
    ):
        text = f"{name} fan-out to 500, one at a time, {cpu} delivery, by"
        yield Target(f"{text} Node's Socket.IO", node, ratio("fan-500", transport, CPU, NODE, ours))
        yield Target(f"{text} Flask-SocketIO", flask, ratio("fan-500", transport, CPU, FLASK, ours))
    for name, peer, limit in (("Node's Socket.IO", NODE, 8), ("Flask-SocketIO", FLASK, 30)):
        measured = ratio("burst-500", "websocket", RATE, peer, ours)
        text = f"WebSocket fan-out to 500, a burst, deliveries a second, by {name}"
        yield Target(text, limit, measured, least=True)
    for transport, name in (("websocket", "WebSocket"), ("polling", "polling")):
        for row, count in (("idle-1000", "1,000"), ("idle-10000", "10,000")):
            text = f"memory of an idle session (USS), {count} on {name}"
            yield Target(text, 8, _own(row, transport, USS, ours), unit="kB")
        text = f"CPU of a core, 10,000 idle on {name}"
        yield Target(text, 5, _own("idle-10000", transport, IDLE, ours), unit="%")
    for transport, name, trips in (("websocket", "WebSocket", 2), ("polling", "polling", 1)):
        text = f"{cpu} connect on {name}, by Node's Socket.IO"
        yield Target(text, 1, ratio("connect", transport, CONNECT, NODE, ours))
        # The relay's and the server's own time is in it: less than half a trip.
        text = f"round trips from TCP to the first message, {name}"
        yield Target(text, trips + 0.49, _own("connect-far", transport, TRIPS, ours), unit="")
    for transport, name in (("websocket", "WebSocket"), ("polling", "polling")):
        text = f"p99 of the others beside a client that sends 1 MB messages, {name}"
        yield Target(text, 20, _own(BESIDE.key, transport, P99, ours), unit="ms")
        text = f"1 MB messages upstream, {name}, by Flask-SocketIO"
        yield Target(text, 100, ratio("large", transport, UPSTREAM, FLASK, ours), least=True)
        text = f"{cpu} delivery on {name}, 5,000 clients by 100"
        yield Target(text, 1.3, _growth(transport, ours))
    for transport, name in (("websocket", "WebSocket"), ("polling", "polling")):
        text = f"messages lost when the connection is cut, {name}"
        yield Target(text, 0, _own("recovery", transport, LOST, ours), unit="")


def _in_every_mode() -> Iterator[Target]:
    text = "messages lost, altered or repeated and clients that failed, in all rows and modes"
    yield Target(text, 0, _unsound, unit="")
    for mode in ("gevent", "threading"):
        ours, peer = f"fallback_transport ({mode})", f"python-socketio ({mode})"
        for transport, name in (("websocket", "WebSocket"), ("polling", "polling")):
            for row, what in ((ECHO, "echo"), ("fan-500", "fan-out to 500")):
                text = f"{mode}, {name} {what}, server CPU per message, by python-socketio"
                yield Target(text, 1, ratio(row, transport, CPU, peer, ours))
            text = f"{mode}, {name} echo, the same less an empty echo's"
            yield Target(text, 0.5, _less_floor(transport, mode))


TARGETS = (
    *_on_eventlet(OURS),
    *_in_every_mode(),
    *(replace(target, text=f"compiled: {target.text}") for target in _on_eventlet(COMPILED)),
)


def asked_for() -> set[tuple[str, str, str]]:
    """The rows, transports and subjects that it takes to say whether all are met."""
    nothing = Asked(Results())
    for target in TARGETS:
        target.measured(nothing)
    return nothing.keys
