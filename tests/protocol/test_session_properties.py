"""Random lives of one session on a hostile network: nothing lost, repeated or reordered.

Hypothesis looks for the shortest failing life; a longer run, by the suite's
seed, goes further than it does. What must hold is in `session_pair.py`: after
each step (`audit`) and once the network is healed (`settle`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fallback_transport.protocol.events import Transport
from tests.protocol.network import Pipe, Socket
from tests.protocol.session_pair import GRANT, NARROW, SessionPair
from tests.protocol.sides import messages

Action = Callable[[SessionPair, int], None]

#: Each with how often it is to be chosen. `pick` decides among what it may act on.
ACTIONS: dict[str, tuple[int, Action]] = {}


def action(weight: int) -> Callable[[Action], Action]:
    def register(function: Action) -> Action:
        ACTIONS[function.__name__] = (weight, function)
        return function

    return register


def choose(things: Any, pick: int) -> Any:
    """One of some things, or None."""
    found = list(things)
    return found[pick % len(found)] if found else None


# -- what both applications do -------------------------------------------------------


def group(sent: list[str], pick: int) -> tuple[list[Any], bool]:
    """A message, or two that belong together; one of five calls is urgent."""
    urgent = pick % 5 == 4
    first = len(sent)
    count = 2 if pick % 7 == 6 else 1
    letter = "u" if urgent else "n"
    return messages(f"{letter}{first + number}" for number in range(count)), urgent


@action(14)
def client_sends(pair: SessionPair, pick: int) -> None:
    items, urgent = group(pair.client.application.sent, pick)
    pair.client.send(items, urgent=urgent)


@action(14)
def server_sends(pair: SessionPair, pick: int) -> None:
    items, urgent = group(pair.server.application.sent, pick)
    if pair.server.exists:
        pair.server.send(items, urgent=urgent)


@action(12)
def client_returns(pair: SessionPair, pick: int) -> None:
    if pair.client.application.running:
        pair.client.handler_returns(late(pick, len(pair.client.application.running)))


@action(12)
def server_returns(pair: SessionPair, pick: int) -> None:
    if pair.server.application.running:
        pair.server.handler_returns(late(pick, len(pair.server.application.running)))


def late(pick: int, count: int) -> int:
    """Handlers return in order, mostly."""
    return pick % count if pick % 3 == 0 else 0


@action(1)
def client_closes(pair: SessionPair, pick: int) -> None:
    if pick % 4 == 0:
        pair.client.close(4000 + pick // 4 % 2, "client")


@action(1)
def server_closes(pair: SessionPair, pick: int) -> None:
    if pick % 4 == 0 and pair.server.exists:
        pair.server.close(4100 + pick // 4 % 2, "server")


# -- connections ---------------------------------------------------------------------


@action(4)
def open_websocket(pair: SessionPair, pick: int) -> None:
    if pair.client.alive and len(pair.client.machine.connections) < 4:
        pair.client.open_websocket()


@action(4)
def open_polling(pair: SessionPair, pick: int) -> None:
    if pair.client.alive and len(pair.client.machine.connections) < 4:
        pair.client.open_polling()


@action(10)
def client_commits(pair: SessionPair, pick: int) -> None:
    carrier, welcomed = pair.client.machine.carrier, sorted(pair.client.welcomed)
    others = [attempt for attempt in welcomed if carrier is None or attempt != carrier.attempt]
    # The carrier may be committed again too, rarely.
    attempt = choose(others or (welcomed if pick % 4 == 0 else []), pick)
    if attempt is not None and pair.client.alive:
        pair.client.commit(attempt)


@action(2)
def client_gives_up(pair: SessionPair, pick: int) -> None:
    attempt = choose(pair.client.machine.connections, pick)
    if attempt is not None:
        pair.client.drop(attempt, None)


# -- WebSockets ------------------------------------------------------------------------


def sockets(pair: SessionPair, which: Callable[[Socket], object]) -> list[Socket]:
    return [socket for socket in pair.network.sockets.values() if which(socket)]


@action(20)
def client_writes(pair: SessionPair, pick: int) -> None:
    socket = choose(sockets(pair, lambda socket: socket.client_open), pick)
    if socket:
        pair.client.write(socket.attempt)


@action(20)
def server_writes(pair: SessionPair, pick: int) -> None:
    socket = choose(sockets(pair, lambda socket: socket.server_open and socket.greeted), pick)
    if socket:
        pair.server.write(socket.attempt)


@action(30)
def server_reads(pair: SessionPair, pick: int) -> None:
    socket = choose(sockets(pair, lambda socket: socket.up.frames), pick)
    if socket:
        pair.server.read(socket.attempt)


@action(30)
def client_reads(pair: SessionPair, pick: int) -> None:
    socket = choose(sockets(pair, lambda socket: socket.down.frames), pick)
    if socket:
        pair.client.read(socket.attempt)


@action(2)
def client_asks(pair: SessionPair, pick: int) -> None:
    socket = choose(sockets(pair, lambda socket: socket.welcomed), pick)
    if socket:
        pair.client.machine.ask(socket.attempt)


@action(2)
def server_asks(pair: SessionPair, pick: int) -> None:
    socket = choose(sockets(pair, lambda socket: socket.greeted), pick)
    if socket:
        pair.server.machine.ask(socket.attempt)


# -- polls ---------------------------------------------------------------------------


@action(15)
def client_waits(pair: SessionPair, pick: int) -> None:
    limit = (None, 1, 12)[pick % 3]
    pair.client.poll(wait=(25.0, 2.0, 0.0)[pick % 5 % 3], limit=limit)


@action(15)
def client_posts(pair: SessionPair, pick: int) -> None:
    # Empty ones too: they state the marks.
    if pick % 4 == 0 or pair.client.machine.outbox.last > pair.client.machine.outbox.received:
        pair.client.poll(wait=None)


@action(25)
def server_takes(pair: SessionPair, pick: int) -> None:
    if pair.network.requests:
        pair.server.take(pick % len(pair.network.requests))


@action(15)
def server_answers(pair: SessionPair, pick: int) -> None:
    pair.server.answer_held()


@action(25)
def client_takes(pair: SessionPair, pick: int) -> None:
    if pair.network.answers:
        pair.client.take(pick % len(pair.network.answers))


# -- what goes well ----------------------------------------------------------------------


@action(8)
def all_flows(pair: SessionPair, pick: int) -> None:
    pair.flow()


@action(5)
def the_client_connects(pair: SessionPair, pick: int) -> None:
    if pair.client.alive and len(pair.client.machine.connections) < 4:
        pair.connect((Transport.WEBSOCKET, Transport.POLLING)[pick % 2])


# -- faults ----------------------------------------------------------------------------


def pipe(pair: SessionPair, pick: int) -> Pipe | None:
    socket = choose(pair.network.sockets.values(), pick)
    return socket and (socket.up, socket.down)[pick // 16 % 2]


@action(2)
def a_request_is_repeated(pair: SessionPair, pick: int) -> None:
    if pair.network.requests:
        pair.server.take(pick % len(pair.network.requests), copy=True)


@action(2)
def a_request_is_lost(pair: SessionPair, pick: int) -> None:
    if pair.network.requests:
        # The client is told (a refused connection) or is not.
        lost = pair.network.requests.pop(pick // 2 % len(pair.network.requests))
        lost.live = bool(pick % 2) and lost in pair.network.requests


@action(2)
def an_answer_is_lost(pair: SessionPair, pick: int) -> None:
    if pair.network.answers:
        request, _ = pair.network.answers.pop(pick % len(pair.network.answers))
        request.live = False


@action(1)
def an_answer_is_cut(pair: SessionPair, pick: int) -> None:
    if pair.network.answers:
        index = pick % len(pair.network.answers)
        pair.client.take(index, keep=pick % len(pair.network.answers[index][1]))


@action(1)
def an_answer_is_replaced(pair: SessionPair, pick: int) -> None:
    if pair.network.answers:
        page = b"<!DOCTYPE html><title>504 Gateway Time-out</title>\x1e."
        pair.client.take(pick % len(pair.network.answers), page=page)


@action(2)
def requests_are_abandoned(pair: SessionPair, pick: int) -> None:
    pair.client.abandon(("hello", "wait", "send")[pick % 3])


@action(1)
def a_websocket_is_cut(pair: SessionPair, pick: int) -> None:
    """After the write and before the read: each reader gets a part and the end."""
    socket = choose(pair.network.sockets.values(), pick)
    if socket:
        for number, one in enumerate((socket.up, socket.down)):
            one.reset(keep=(pick >> 3 * number) % (len(one.frames) + 1))


@action(1)
def a_websocket_goes_black(pair: SessionPair, pick: int) -> None:
    one = pipe(pair, pick)
    if one:
        one.go_black(keep=pick % (len(one.frames) + 1))


@action(1)
def a_frame_is_swallowed(pair: SessionPair, pick: int) -> None:
    one = pipe(pair, pick)
    if one and one.frames:
        one.swallow(pick % len(one.frames))


@action(1)
def a_frame_is_repeated(pair: SessionPair, pick: int) -> None:
    """Not the first text: nobody says hello twice on one WebSocket."""
    socket = choose(sockets(pair, lambda socket: socket.greeted), pick)
    if socket and socket.welcomed:
        one = (socket.up, socket.down)[pick // 16 % 2]
        if one.frames:
            one.repeat(pick % len(one.frames))


# -- time --------------------------------------------------------------------------------


@action(5)
def time_passes(pair: SessionPair, pick: int) -> None:
    seconds = (0.01, 0.1, 0.2, 0.3, 1.0, 1.7, 5.1, 10.0, 26.3)[pick % 9]
    pair.pass_time(pair.clock.now + seconds)


@action(4)
def the_deadline_comes(pair: SessionPair, pick: int) -> None:
    deadline = pair.deadline()
    # Mostly soon: the end by inactivity is seen often enough.
    if deadline is not None and (deadline < pair.clock.now + 30 or pick % 8 == 0):
        pair.pass_time(deadline)


# -- the two runs ------------------------------------------------------------------------

FRESH = (None, Transport.WEBSOCKET, Transport.POLLING)


class SessionMachine(RuleBasedStateMachine):
    """A life of one session, chosen by Hypothesis."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = SessionPair(now=86399.7)
        self.fresh = 0

    @initialize(narrow=st.booleans())
    def choose_the_path(self, narrow: bool) -> None:
        self.pair = SessionPair(grant=NARROW if narrow else GRANT, now=86399.7)

    @rule(fresh=st.integers(0, 2))
    @precondition(lambda self: not self.fresh)
    def heal_with(self, fresh: int) -> None:
        self.fresh = fresh

    @invariant()
    def nothing_is_broken(self) -> None:
        self.pair.audit()

    def teardown(self) -> None:
        self.pair.settle(FRESH[self.fresh])


def rule_of(name: str, weight: int, function: Action) -> None:
    def act(self: SessionMachine, pick: int) -> None:
        function(self.pair, pick)

    act.__name__ = name
    setattr(SessionMachine, name, rule(pick=st.integers(0, 255))(act))


for _name, (_weight, _function) in ACTIONS.items():
    rule_of(_name, _weight, _function)

SessionMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestSession = SessionMachine.TestCase


def live(rng: random.Random, steps: int) -> tuple[SessionPair, list[str]]:
    """One random life, healed at its end; with what was done, for whoever must find out why."""
    names = list(ACTIONS)
    weights = [weight for weight, _ in ACTIONS.values()]
    pair = SessionPair(grant=rng.choice((GRANT, NARROW)), now=86399.7)
    # Lives differ in what happens to them: some are quiet, some are not.
    harm = rng.choice((0, 1, 5))
    for number, name in enumerate(names):
        if name.startswith(("a_", "an_", "requests_are")):
            weights[number] *= harm
    log = []
    try:
        for name in rng.choices(names, weights, k=steps):
            pick = rng.randrange(256)
            log.append(f"{name}({pick})")
            ACTIONS[name][1](pair, pick)
            pair.audit()
        log.append("settle")
        pair.settle(rng.choice(FRESH))
    except BaseException:
        print("\n".join(log[-400:]))
        raise
    return pair, log


@pytest.mark.parametrize("part", range(4))
def test_many_long_lives(rng: random.Random, part: int) -> None:
    seen: Counter[str] = Counter()
    for _ in range(400):
        pair, _ = live(rng, rng.choice((40, 150, 400)))
        seen["delivered up"] += len(pair.server.application.delivered)
        seen["delivered down"] += len(pair.client.application.delivered)
        closed = pair.client.application.closed
        seen[f"closed {closed.code}" if closed else "open"] += 1
    # Not vacuous: messages got through, and sessions ended in every way.
    assert min(seen["delivered up"], seen["delivered down"]) > 1000, seen
    assert min(seen[how] for how in ("open", "closed 4000", "closed 4100", "closed 4408")) > 0, seen
