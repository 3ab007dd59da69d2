"""Every life of a small session: the rules of PROTOCOL.md, checked by going everywhere.

A breadth-first walk over copies of the real machines on the simulated network:
two connections, a message or two each way, one fault, and every order in which
their steps can happen. In each state `SessionPair.audit` holds, nothing was a
gap or an impossible mark, and the session can still be settled: everything is
delivered once the network works again.

The design was checked so before it was written; what has changed since (every
envelope states its numbers, replays and answers start at the received mark,
late polls are answered empty) is checked here, on what is shipped.
"""

from __future__ import annotations

import hashlib
import pickle
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from fallback_transport.protocol.events import Transport
from tests.protocol.session_pair import NARROW, SessionPair
from tests.protocol.sides import messages

WEBSOCKET, POLLING = Transport.WEBSOCKET, Transport.POLLING

#: The name of a method of `World`, and its arguments.
Move = tuple[str, tuple[int, ...]]


@dataclass
class World:
    """A session, and what may still happen to it."""

    opens: tuple[Transport, ...]
    """The connections that the client has still to open, in this order."""
    up: int
    down: int
    """Messages that are still to be sent."""
    commits: int
    polls: int
    faults: int
    pair: SessionPair = field(default_factory=SessionPair)

    def moves(self) -> Iterator[Move]:
        """All that can happen next."""
        client, network = self.pair.client, self.pair.network
        outbox, carrier = client.machine.outbox, client.machine.carrier
        if self.up:
            yield "client_sends", ()
        if self.down and self.pair.server.exists:
            yield "server_sends", ()
        if self.opens and outbox.last:
            yield "client_opens", ()
        for attempt in sorted(client.welcomed) if self.commits else ():
            if carrier is None or carrier.attempt != attempt:
                yield "client_commits", (attempt,)
        if self.polls and carrier is not None and carrier.transport is POLLING:
            yield "client_waits", ()
            if outbox.last > outbox.received:
                yield "client_posts", ()
        for attempt, socket in network.sockets.items():
            yield "client_writes", (attempt,)
            yield "server_writes", (attempt,)
            if socket.up.frames:
                yield "server_reads", (attempt,)
            if socket.down.frames:
                yield "client_reads", (attempt,)
        if network.held:
            yield "server_answers", ()
        for index in range(len(network.requests)):
            yield "server_takes", (index,)
        for index in range(len(network.answers)):
            yield "client_takes", (index,)
        if self.faults:
            yield from self._faults()

    def _faults(self) -> Iterator[Move]:
        network = self.pair.network
        for attempt, socket in network.sockets.items():
            for which, pipe in enumerate((socket.up, socket.down)):
                if not pipe.deaf:
                    yield "goes_black", (attempt, which, 0)
                    if pipe.frames:
                        yield "goes_black", (attempt, which, len(pipe.frames))
            if not (socket.up.deaf and socket.down.deaf):
                yield "is_cut", (attempt, 0, len(socket.down.frames))
                yield "is_cut", (attempt, len(socket.up.frames), 0)
        for index in range(len(network.requests)):
            yield "comes_twice", (index,)
            yield "request_is_lost", (index,)
        for index in range(len(network.answers)):
            yield "answer_is_lost", (index,)
        for which, kind in enumerate(("wait", "send")):
            if network.waited_for(kind):
                yield "gives_up", (which,)

    def make(self, move: Move) -> bool:
        """Let one thing happen, and handlers return at once; False if it was nothing."""
        name, arguments = move
        if getattr(self, name)(*arguments) is False:
            return False
        for side in self.pair.sides:
            while side.application.running:
                side.handler_returns(0)
        return True

    def client_sends(self) -> None:
        self.up -= 1
        assert self.pair.client.send(messages([f"n{self.up}"]))

    def server_sends(self) -> None:
        self.down -= 1
        assert self.pair.server.send(messages([f"n{self.down}"]))

    def client_opens(self) -> None:
        transport, *rest = self.opens
        self.opens = tuple(rest)
        client = self.pair.client
        client.open_websocket() if transport is WEBSOCKET else client.open_polling()

    def client_commits(self, attempt: int) -> None:
        self.commits -= 1
        self.pair.client.commit(attempt)

    def client_waits(self) -> bool:
        posted = self.pair.client.poll(wait=25.0)
        self.polls -= posted
        return posted

    def client_posts(self) -> bool:
        posted = self.pair.client.poll(wait=None)
        self.polls -= posted
        return posted

    def client_writes(self, attempt: int) -> bool:
        return self.pair.client.write(attempt)

    def server_writes(self, attempt: int) -> bool:
        return self.pair.server.write(attempt)

    def client_reads(self, attempt: int) -> None:
        self.pair.client.read(attempt)

    def server_reads(self, attempt: int) -> None:
        self.pair.server.read(attempt)

    def server_answers(self) -> bool:
        return self.pair.server.answer_held()

    def server_takes(self, index: int) -> None:
        self.pair.server.take(index)

    def client_takes(self, index: int) -> None:
        self.pair.client.take(index)

    def goes_black(self, attempt: int, which: int, keep: int) -> None:
        self.faults -= 1
        socket = self.pair.network.sockets[attempt]
        (socket.up, socket.down)[which].go_black(keep)

    def is_cut(self, attempt: int, keep_up: int, keep_down: int) -> None:
        self.faults -= 1
        socket = self.pair.network.sockets[attempt]
        socket.up.reset(keep_up)
        socket.down.reset(keep_down)

    def comes_twice(self, index: int) -> None:
        self.faults -= 1
        self.pair.server.take(index, copy=True)

    def request_is_lost(self, index: int) -> None:
        self.faults -= 1
        self.pair.network.requests.pop(index).live = False

    def answer_is_lost(self, index: int) -> None:
        self.faults -= 1
        self.pair.network.answers.pop(index)[0].live = False

    def gives_up(self, which: int) -> None:
        self.faults -= 1
        self.pair.client.abandon(("wait", "send")[which])


def explore(start: World) -> int:
    """Go everywhere from `start`; how many states there are."""
    state = pickle.dumps(start)
    before: dict[bytes, tuple[bytes, Move] | None] = {name(state): None}
    frontier = deque([state])
    while frontier:
        state = frontier.popleft()
        here = name(state)
        # A copy is a large part of what a state costs: each is used to its end.
        world = pickle.loads(state)
        move: Move = ("moves", ())
        try:
            for move in list(world.moves()):
                if world.make(move):
                    world.pair.audit()
                    after = pickle.dumps(world)
                    there = name(after)
                    if there not in before:
                        before[there] = here, move
                        frontier.append(after)
                    world = pickle.loads(state)
            move = "settle", ()
            # One of three ways to go on for each state: by chance, but always the same.
            world.pair.settle((None, WEBSOCKET, POLLING)[here[0] % 3])
        except Exception as error:
            way = [move]
            while (step := before[here]) is not None:
                here, move = step
                way.append(move)
            raise AssertionError(f"by {way[::-1]}") from error
    return len(before)


def name(state: bytes) -> bytes:
    """A short name for a state."""
    return hashlib.blake2b(state, digest_size=12).digest()


def narrow(opens: tuple[Transport, ...], down: int, polls: int, faults: int = 1) -> World:
    """A session whose second message goes in parts; the first rides in the hello."""
    pair = SessionPair(grant=NARROW)
    return World(opens, 2, down, commits=len(opens), polls=polls, faults=faults, pair=pair)


#: Where each begins, and how many states there are at least; the longest first, for two share them.
LIVES = {
    "parts through a change down": (narrow((WEBSOCKET, POLLING), down=0, polls=1), 14_000),
    "down": (World((WEBSOCKET, POLLING), up=1, down=1, commits=2, polls=1, faults=1), 12_000),
    "parts on polls": (narrow((POLLING,), down=1, polls=3), 6_000),
    "polls": (World((POLLING,), up=2, down=1, commits=1, polls=3, faults=1), 3_000),
    "parts on a WebSocket": (narrow((WEBSOCKET,), down=1, polls=0), 3_000),
    "a WebSocket": (World((WEBSOCKET,), up=2, down=2, commits=1, polls=0, faults=1), 1_500),
    "cut hedge": (World((WEBSOCKET, WEBSOCKET), up=1, down=0, commits=2, polls=0, faults=1), 1_400),
    "hedge": (World((WEBSOCKET, WEBSOCKET), up=1, down=1, commits=2, polls=0, faults=0), 1_300),
    "cut up": (World((POLLING, WEBSOCKET), up=1, down=0, commits=2, polls=1, faults=1), 1_200),
    "parts through a change up": (narrow((POLLING, WEBSOCKET), down=0, polls=1, faults=0), 900),
    "up": (World((POLLING, WEBSOCKET), up=1, down=1, commits=2, polls=1, faults=0), 700),
}


@pytest.mark.parametrize("life", LIVES)
def test_every_life_can_be_settled(life: str) -> None:
    start, floor = LIVES[life]
    count = explore(start)
    print(f"{life}: {count} states")
    assert count >= floor, "this walk has become shorter: it checks less than it did"
