"""Bad input in thousands, from one thread: of a batch all is sent before any answer is read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from .outcomes import over_http, over_websocket
from .raw import Closed, Reply, WebSocket, Wire

#: How many connections a batch has.
BATCH = 50
#: And a batch of what costs the server more than its handshake.
FEW = 5
#: Requests that follow each other on one connection: few, because a server bears only so many
#: hellos of one address that wait for what follows.
PIPELINE = 2

#: Yields requests, gets their answers, returns the outcome.
Exchange = Generator[bytes, Reply, str]


@dataclass(frozen=True)
class Bad:
    """One bad input.

    Args:
        want: how it must end, as a regular expression; in the words of `outcomes`.
        send: does it to a batch: gets the port and what `make` has made, tells how each ended.
        make: makes what is sent, from a number.
        lines: how many lines it is worth in the log.
    """

    want: str
    send: Callable[[int, Sequence[Any]], list[str]]
    make: Callable[[int], Any]
    lines: int = 1


def rage(port: int, kinds: Sequence[Bad], start: int, count: int) -> int:
    """Send `count` of these in turn; how many lines they are worth in the log."""
    lines = 0
    batches: dict[tuple[Any, str], list[Any]] = {}
    for number in range(start, start + count):
        bad = kinds[number % len(kinds)]
        lines += bad.lines
        batches.setdefault((bad.send, bad.want), []).append(bad.make(number))
    for (send, want), made in batches.items():
        seen: Counter[str] = Counter()
        size = {on_shared_connections: BATCH * PIPELINE, on_few_websockets: FEW}.get(send, BATCH)
        for first in range(0, len(made), size):
            seen.update(send(port, made[first : first + size]))
        wrong = {outcome: n for outcome, n in seen.items() if not re.fullmatch(want, outcome)}
        assert not wrong, f"{wrong}, not {want}"
    return lines


def on_shared_connections(port: int, exchanges: Sequence[Exchange]) -> list[str]:
    """Requests one after the other on connections that stay open."""
    outcomes: list[str] = []
    with ExitStack() as stack:
        wires = [
            stack.enter_context(Wire(port))
            for _ in range(min(BATCH, -(-len(exchanges) // PIPELINE)))
        ]
        under_way = [(exchange, next(exchange)) for exchange in exchanges]
        while under_way:
            shares = [under_way[n :: len(wires)] for n in range(len(wires))]
            under_way = []
            for wire, share in zip(wires, shares, strict=True):
                wire.send(b"".join(data for _, data in share))
            for wire, share in zip(wires, shares, strict=True):
                for exchange, _ in share:
                    try:
                        under_way.append((exchange, exchange.send(wire.reply())))
                    except StopIteration as over:
                        outcomes.append(over.value)
    return outcomes


def on_own_connections(port: int, requests: Sequence[bytes], finish: bool = False) -> list[str]:
    """A request on each connection, which ends with it; `finish`: which says that it ends."""
    outcomes = []
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(port)) for _ in requests]
        for wire, data in zip(wires, requests, strict=True):
            wire.send(data)
            if finish:
                wire.finish()
        for wire in wires:
            try:
                outcomes.append(over_http(wire.reply()))
            except (Closed, ValueError, IndexError):
                outcomes.append("cut")
            wire.read_rest()
    return outcomes


def on_connections_cut_short(port: int, requests: Sequence[bytes]) -> list[str]:
    """Part of a request on each connection, and no more."""
    return on_own_connections(port, requests, finish=True)


def on_websockets(port: int, sent: Sequence[bytes]) -> list[str]:
    """A WebSocket for each; it is closed as soon as the server has closed it."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(WebSocket(port, later=True)) for _ in sent]
        for websocket in sockets:
            websocket.opened()
        for websocket, data in zip(sockets, sent, strict=True):
            websocket.send(data)
        return [over_websocket(websocket, ask=False) for websocket in sockets]


def on_few_websockets(port: int, sent: Sequence[bytes]) -> list[str]:
    """A WebSocket for each, but few at a time."""
    return on_websockets(port, sent)


def on_abandoned_websockets(port: int, sent: Sequence[bytes]) -> list[str]:
    """A WebSocket for each, which is left once the session's first two answers are there."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(WebSocket(port, later=True)) for _ in sent]
        for websocket in sockets:
            websocket.opened()
        for websocket, data in zip(sockets, sent, strict=True):
            websocket.send(data)
        for websocket in sockets:
            # Welcome and CONNECT: it is committed now.
            websocket.next_text()
            websocket.next_text()
    return ["left"] * len(sent)


def once(data: bytes) -> Exchange:
    """A single request."""
    return over_http((yield data))
