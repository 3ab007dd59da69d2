"""What the proxy saw and did: counters, and a log of the requests."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field

# Requests that the log keeps; 50 a second for more than half an hour.
_LOG_LENGTH = 100_000


@dataclass
class RequestRecord:
    """One request. Times are ``time.monotonic()``, which on one machine all processes share.

    Args:
        at: when its head had arrived.
        connection: the number of the client connection, from 1.
        method: as in the request.
        target: as in the request, query included.
        websocket: whether it asked for an upgrade.
        faults: the names of the faults that struck it, in order.
        status: what the client was answered; None: nothing, or not yet.
        answered_at: when the answer's head was passed on.
    """

    at: float
    connection: int
    method: str
    target: str
    websocket: bool
    faults: list[str] = field(default_factory=list)
    status: int | None = None
    answered_at: float | None = None


@dataclass(frozen=True)
class Statistics:
    """The counters at one moment.

    Args:
        at: that moment, as ``time.monotonic()``.
        seed: of the dice of all rules without a seed of their own.
        connections: client connections accepted.
        live: client connections that are open.
        live_upstream: connections to the upstream that are open.
        live_websockets: client connections that carry bytes both ways: after a 101, or no HTTP.
        websockets: upgrade requests.
        websockets_accepted: answers 101 that clients got.
        requests: other requests, by "METHOD /path" without the query.
        faults: by name, how often each took effect.
        rules: each rule in force, with how many requests it matched and chose.
        bytes_up: received from clients.
        bytes_down: sent to clients.
        upstream_refused: connects that the upstream did not take.
    """

    at: float
    seed: int
    connections: int
    live: int
    live_upstream: int
    live_websockets: int
    websockets: int
    websockets_accepted: int
    requests: dict[str, int]
    faults: dict[str, int]
    rules: list[dict[str, object]]
    bytes_up: int
    bytes_down: int
    upstream_refused: int

    def requests_to(self, path: str) -> int:
        """Return the number of requests, of any method, to exactly this path."""
        return sum(count for key, count in self.requests.items() if key.split(" ")[1] == path)


class Journal:
    """Counts what happens in the proxy."""

    def __init__(self) -> None:
        self.connections = 0
        self.live_websockets = 0
        self.websockets = 0
        self.websockets_accepted = 0
        self.upstream_refused = 0
        self.requests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.log: deque[RequestRecord] = deque(maxlen=_LOG_LENGTH)

    def request(self, connection: int, method: str, target: str, websocket: bool) -> RequestRecord:
        """Note a request; the record is completed as it is dealt with."""
        record = RequestRecord(time.monotonic(), connection, method, target, websocket)
        self.log.append(record)
        if websocket:
            self.websockets += 1
        else:
            self.requests[f"{method} {target.partition('?')[0]}"] += 1
        return record

    def struck(self, name: str, record: RequestRecord | None = None) -> None:
        """Note that a fault took effect."""
        self.faults[name] += 1
        if record is not None:
            record.faults.append(name)

    def answered(self, record: RequestRecord, status: int) -> None:
        """Note that the client is being given an answer."""
        record.status = status
        record.answered_at = time.monotonic()
        if status == 101:
            self.websockets_accepted += 1


def busiest(records: list[RequestRecord], window: float = 1.0) -> int:
    """Return the most requests that began within any ``window`` seconds."""
    times = sorted(record.at for record in records)
    most = start = 0
    for index, at in enumerate(times):
        while at - times[start] >= window:
            start += 1
        most = max(most, index - start + 1)
    return most
