"""One thing is due in a session at rest, and nothing else happens before: it is done at its time.

Elsewhere there mostly is another message, or another timer, that lets a session look at its clock.
Here nobody has anything to do but the alarm that was set for the one thing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fallback_transport.polling import HeldPoll, PollingDoor
from fallback_transport.protocol.codec import decode_body, encode, encode_body
from fallback_transport.protocol.envelope import End, Envelope, Grant, Hello, PollRequest, Welcome
from fallback_transport.protocol.events import Transport
from fallback_transport.protocol.machine import ACK_DELAY, CANDIDATE_WAIT, CLOSE_WAIT
from fallback_transport.protocol.message import Message
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.protocol.server import DOUBT, UNCOMMITTED_WAIT
from fallback_transport.registry import Capacity, Registry
from tests.fakes import FakeRuntime
from tests.test_conversation import Layer

GRANT = Grant()
SILENCE = 2 * GRANT.keepalive + 5
#: More than the time that a byte takes on a slow path, which a doubt is later for.
SLACK = 0.001


class World:
    """A server, one client and what it hears: of a WebSocket as of one whose socket takes all."""

    def __init__(self, *, turns: bool) -> None:
        self.runtime = FakeRuntime(turns=turns)
        self.registry = Registry(
            self.runtime,
            lambda conversation: Layer(self.runtime),
            grant=GRANT,
            bounds=Bounds(),
            capacity=Capacity(),
        )
        self.door = PollingDoor(self.registry, None)
        #: What the client hears, as text.
        self.heard: list[str] = []
        self.attempt = self.number = 0
        #: Its session; None until the welcome to it is made.
        self.conversation: Any = None

    # -- by WebSocket (see `conversation.Attachment`)

    def wake(self) -> None:
        while self.conversation and (envelope := self.conversation.pull(self.attempt)) is not None:
            self.heard.append(encode(envelope).replace("\x1e", "|"))

    def drop(self, code: int, reason: str) -> None:
        self.heard.append(f"dropped {code} {reason}")

    def end(self, end: End) -> None:
        self.heard.append(f"over {end.code} {end.reason}")

    def greeted(self) -> None:
        self.attempt += 1
        hello = Hello(self.attempt, nonce="nonce")
        found, answer = self.registry.greet(hello, Transport.WEBSOCKET, self, lambda hello: {}, "")
        assert isinstance(answer, Welcome)
        self.conversation = found

    def attached(self) -> None:
        self.greeted()
        self.say(commit=1)

    def say(self, *texts: str, seq: int | None = None, **more: Any) -> None:
        messages = tuple(map(Message, texts))
        self.conversation.receive(self.attempt, Envelope(seq=seq, messages=messages, **more))

    def send(self, text: str) -> None:
        self.conversation.send([Message(text)])

    # -- by polls

    def polls(self) -> None:
        self.attempt += 1
        taken = self._post(encode_body(Hello(self.attempt, nonce="nonce")))
        self.advance(0.01)
        welcome = decode_body(taken.settle().body)
        assert isinstance(welcome, Welcome)
        self.conversation = self.registry.find(welcome.id)
        self.poll(0.0)

    def poll(self, wait: float) -> None:
        self.number += 1
        machine = self.conversation.machine
        names = self.conversation.id, machine.key, self.attempt, self.number
        self._post(encode_body(PollRequest(*names, wait, envelope=Envelope(commit=1))))

    def _post(self, body: bytes) -> Any:
        def done() -> None:
            answer = taken.settle()
            self.heard.append(answer.body.decode().replace("\x1e", "|"))

        taken = self.door.take(body, lambda hello: {}, "", done)
        assert isinstance(taken, HeldPoll) or taken.status == 200
        return taken

    # -- time

    def advance(self, seconds: float) -> None:
        self.runtime.advance(seconds)


def acknowledged(world: World) -> None:
    world.attached()
    world.say("a", seq=1)


def doubted(world: World) -> None:
    world.attached()
    world.send("a")


def doubted_before(world: World) -> None:
    world.greeted()
    world.send("a")
    world.runtime.run()
    world.say(commit=1)


def doubted_again(world: World) -> None:
    doubted(world)
    world.advance(DOUBT + SLACK)


def doubted_later(world: World) -> None:
    """The alarm for what was received meanwhile must not hide the next one."""
    doubted(world)
    world.advance(0.1)
    world.say(ack=1, received=1)
    world.advance(0.1)
    world.send("b")


def silent(world: World) -> None:
    world.attached()
    world.advance(GRANT.keepalive + SLACK)
    assert world.heard.pop() == "a0 q1"


def answered(world: World) -> None:
    silent(world)
    world.say(answer=1)


def detached(world: World) -> None:
    world.attached()
    world.conversation.detach(world.attempt, world)


def closing(world: World) -> None:
    """What is to confirm it is gone, so that nobody doubts it before."""
    detached(world)
    world.conversation.close(4000, "bye")


def held(world: World) -> None:
    world.polls()
    world.poll(20.0)


def held_less(world: World) -> None:
    """One that is to be held for less long releases the one before."""
    held(world)
    world.advance(1.0)
    world.poll(2.0)


def polled(world: World) -> None:
    """The last poll was answered, and none follows."""
    held(world)
    world.send("a")


def left(world: World) -> None:
    """So its time began with that answer, not when that was noticed."""
    polled(world)
    world.advance(SILENCE + SLACK)


#: What is due, after how many seconds, and what the client hears then, nothing else meanwhile;
#: None: the session is over, and there is nobody to hear it.
DUE: dict[str, tuple[Callable[[World], None], float, str | None]] = {
    "an ack": (acknowledged, ACK_DELAY, "a1"),
    "a doubt": (doubted, DOUBT, "a0 q1"),
    "a doubt of what came before the commit": (doubted_before, DOUBT, "a0 q1"),
    "the end of a doubt": (doubted_again, DOUBT, "dropped 4408 what was sent is not received"),
    "a doubt behind one that was lifted": (doubted_later, DOUBT, "a0 q1"),
    "a question": (World.attached, GRANT.keepalive, "a0 q1"),
    "a question behind an answer": (answered, GRANT.keepalive, "a0 q2"),
    "the end of a silence": (silent, SILENCE - GRANT.keepalive, "dropped 4408 silent for 55 s"),
    "the end of a candidate": (World.greeted, CANDIDATE_WAIT, "dropped 4408 never committed"),
    "the end of a wait": (held, 20.0, "a0|."),
    "the end of a shorter wait": (held_less, 2.0, "a0|."),
    "the end of an unconfirmed close": (closing, CLOSE_WAIT, None),
    "the end of a session without a connection": (detached, GRANT.inactivity, None),
    "the end of one that polled": (left, GRANT.inactivity - SILENCE, None),
}


@pytest.mark.parametrize("turns", [False, True], ids=["at once", "in turns"])
@pytest.mark.parametrize("due", DUE)
def test_the_one_thing_that_is_due_is_done_at_its_time(due: str, turns: bool) -> None:
    world = World(turns=turns)
    arrange, seconds, expected = DUE[due]
    arrange(world)
    world.runtime.run()
    world.heard.clear()
    world.advance(seconds - 2 * SLACK)
    assert world.heard == []
    assert len(world.registry) == 1
    world.advance(3 * SLACK)
    assert world.heard == ([] if expected is None else [expected])
    assert len(world.registry) == (expected is not None)


@pytest.mark.parametrize("turns", [False, True], ids=["at once", "in turns"])
def test_a_session_that_nobody_commits_is_given_up_in_its_time(turns: bool) -> None:
    world = World(turns=turns)
    world.greeted()
    world.advance(UNCOMMITTED_WAIT - SLACK)
    assert len(world.registry) == 1
    world.advance(2 * SLACK)
    assert len(world.registry) == 0
