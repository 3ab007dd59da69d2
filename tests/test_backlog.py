"""`Backlog` and `Emission`: what waits until a session has room, by itself and in a session."""

from __future__ import annotations

from typing import Any

import pytest

from fallback_transport.backlog import Backlog, Waiter
from fallback_transport.emission import Emission, latest_key, only_latest
from fallback_transport.protocol.codes import CloseCode
from fallback_transport.protocol.envelope import End
from fallback_transport.protocol.errors import MessageRefused, OutboxFull
from fallback_transport.protocol.message import Close, Message
from fallback_transport.protocol.reliability import Bounds
from tests.fakes import FakeRuntime
from tests.test_conversation import Room

#: Seconds for which the sessions here let messages wait.
PATIENCE = 10.0


class Waiting:
    """A backlog without a session."""

    def __init__(self, bounds: Bounds) -> None:
        self.runtime = FakeRuntime()
        self.backlog = Backlog(bounds)

    def add(self, *texts: str, latest: str | None = None) -> Waiter:
        holder: Any = None
        messages = [Message(text) for text in texts]
        waiter = Waiter(holder, messages, latest, 0.0, self.runtime.event())
        self.backlog.append(waiter)
        return waiter

    def drained(self) -> list[str]:
        """The texts of all that wait, in order; they wait no longer."""
        texts = []
        while self.backlog:
            first = self.backlog.first
            texts += [str(message.data) for message in first.messages]
            self.backlog.remove(first)
            assert first.done.is_set()
        return texts


# -- a backlog ------------------------------------------------------------------------


def test_the_first_who_came_is_the_first_to_go() -> None:
    waiting = Waiting(Bounds())
    first, second = waiting.add("1"), waiting.add("2", "3")
    assert first in waiting.backlog
    assert len(waiting.backlog) == 2
    waiting.add("4")
    waiting.backlog.remove(second)
    assert second not in waiting.backlog
    assert waiting.drained() == ["1", "4"]


@pytest.mark.parametrize("bounds", [Bounds(messages=3), Bounds(bytes=6)])
def test_what_waits_has_a_bound(bounds: Bounds) -> None:
    waiting = Waiting(bounds)
    waiting.add("aa", "bb")
    waiting.add("cc")
    with pytest.raises(OutboxFull, match="3 messages, 6 bytes wait for room"):
        waiting.add("d")
    waiting.backlog.remove(waiting.backlog.first)
    waiting.add("ee")
    assert waiting.drained() == ["cc", "ee"]
    # What comes alone has room, as it has in the outbox.
    waiting.add(*["a lot"] * 10)


def test_a_message_that_is_too_large_does_not_wait() -> None:
    waiting = Waiting(Bounds(message=3))
    with pytest.raises(MessageRefused, match="a message of 4 bytes exceeds the limit of 3"):
        waiting.add("1234")
    assert not waiting.backlog
    waiting.add("123")
    assert waiting.drained() == ["123"]


def test_the_latest_of_a_key_waits_in_the_place_of_the_one_before() -> None:
    waiting = Waiting(Bounds(bytes=12))
    old = waiting.add("old", latest="key")
    waiting.add("else")
    assert waiting.backlog.has_key("key")
    assert not waiting.backlog.has_key("another")
    assert not waiting.backlog.has_key(None)
    new = waiting.add("newer", latest="key")
    assert old.done.is_set()
    assert not new.done.is_set()
    waiting.add("abc")
    with pytest.raises(OutboxFull, match="3 messages, 12 bytes"):
        waiting.add("d", latest="another")
    assert waiting.drained() == ["newer", "else", "abc"]


def test_messages_that_belong_together_replace_nothing() -> None:
    waiting = Waiting(Bounds())
    waiting.add("1", latest="key")
    waiting.add("2", "3", latest="key")
    assert waiting.drained() == ["1", "2", "3"]


def test_messages_that_belong_together_are_not_replaced() -> None:
    """As an event and its bytes: they were lost, and the bound was one message less for each."""
    waiting = Waiting(Bounds(messages=4))
    together = waiting.add("1", "2", latest="key")
    assert not waiting.backlog.has_key("key")
    waiting.add("3", latest="key")
    new = waiting.add("4", latest="key")
    assert not together.done.is_set()
    assert waiting.backlog.has_key("key")
    waiting.add("5")
    with pytest.raises(OutboxFull, match="4 messages, 4 bytes wait for room"):
        waiting.add("6")
    waiting.backlog.remove(together)
    assert waiting.backlog.first is new
    assert waiting.drained() == ["4", "5"]


def test_what_replaces_another_has_the_same_bound() -> None:
    waiting = Waiting(Bounds(bytes=6))
    waiting.add("1", latest="a")
    # Alone, it has room whatever its size.
    waiting.add("a lot more", latest="a")
    waiting.add("123", latest="a")
    waiting.add("4", latest="b")
    waiting.add("456", latest="b")
    with pytest.raises(OutboxFull, match="2 messages, 6 bytes wait for room"):
        waiting.add("4567", latest="b")
    assert waiting.drained() == ["123", "456"]


# -- in a session ---------------------------------------------------------------------


@pytest.fixture
def room() -> Room:
    """A session whose outbox has room for two messages."""
    return Room(bounds=Bounds(messages=2), patience=PATIENCE)


class Emitter:
    """A task that emits, each text with an `emit` of its own."""

    def __init__(self, room: Room, *texts: str, latest: str | None = None) -> None:
        self.returned: list[str] = []
        self.error: BaseException | None = None
        self.took = 0.0

        def run() -> None:
            began = room.runtime.now()
            try:
                for text in texts:
                    emission = Emission()
                    emission.offer(room.conversation, [Message(text)], latest)
                    emission.wait(room.runtime.now)
                    self.returned.append(text)
            except BaseException as error:
                self.error = error
            self.took = room.runtime.now() - began

        room.runtime.spawn(run)
        room.runtime.run()


def ended(room: Room) -> End:
    [end] = [each for each in room.attached.log if isinstance(each, End)]
    return end


def test_an_emit_returns_when_there_is_room(room: Room) -> None:
    emitter = Emitter(room, "1", "2", "3", "4")
    assert emitter.returned == ["1", "2"]
    assert room.pulled() == ["1", "2"]
    room.receive(ack=1, received=2)
    assert emitter.returned == ["1", "2", "3"]
    assert room.pulled() == ["3"]
    room.receive(ack=3, received=3)
    assert emitter.returned == ["1", "2", "3", "4"]
    assert room.pulled() == ["4"]
    assert room.conversation.open


def test_several_who_wait_are_let_in_in_order() -> None:
    room = Room(bounds=Bounds(messages=3), patience=PATIENCE)
    Emitter(room, "1", "2", "3")
    emitters = [Emitter(room, f"{name}1", f"{name}2") for name in "abc"]
    sent = room.pulled()
    for ack in range(1, 10):
        room.receive(ack=ack, received=len(sent))
        sent += room.pulled()
    assert sent == ["1", "2", "3", "a1", "b1", "c1", "a2", "b2", "c2"]
    assert [each.returned for each in emitters] == [[f"{n}1", f"{n}2"] for n in "abc"]


def test_what_is_small_does_not_overtake_what_is_large() -> None:
    room = Room(bounds=Bounds(bytes=10), patience=PATIENCE)
    Emitter(room, "12345")
    large, small = Emitter(room, "12345678"), Emitter(room, "1")
    assert room.pulled() == ["12345"]
    assert (large.returned, small.returned) == ([], [])
    room.receive(ack=1, received=1)
    assert room.pulled() == ["12345678", "1"]


def test_after_its_patience_the_session_ends(room: Room) -> None:
    emitter = Emitter(room, "1", "2", "3")
    room.runtime.advance(5)
    behind = Emitter(room, "4")
    room.runtime.advance(4.9)
    assert room.conversation.open
    room.runtime.advance(0.2)
    reason = "2 messages, 2 bytes are unconfirmed after a wait of 10 s"
    assert (ended(room).code, ended(room).reason) == (CloseCode.TOO_MANY, reason)
    assert (emitter.returned, behind.returned) == (["1", "2", "3"], ["4"])
    assert (emitter.took, behind.took) == (PATIENCE, 5.0)
    assert room.layer.log == [(CloseCode.TOO_MANY, reason, False)]


def test_too_much_that_waits_ends_the_session_at_once(room: Room) -> None:
    emitters = [Emitter(room, str(number)) for number in range(5)]
    reason = "2 messages, 2 bytes wait for room"
    assert (ended(room).code, ended(room).reason) == (CloseCode.TOO_MANY, reason)
    assert [each.took for each in emitters] == [0.0] * 5


@pytest.mark.parametrize("who", ["server", "client", "abort", "retired"])
def test_whoever_waits_returns_when_the_session_ends(room: Room, who: str) -> None:
    emitter = Emitter(room, "1", "2", "3")
    if who == "server":
        room.conversation.close(1000, "enough")
    elif who == "client":
        room.receive(Close(1000, ""))
    elif who == "abort":
        room.conversation.abort(1011, "a defect")
    else:
        room.conversation.retire(CloseCode.SERVICE_RESTART, "the server restarts")
    room.runtime.run()
    assert emitter.returned == ["1", "2", "3"]
    assert emitter.took == 0.0
    assert "3" not in room.pulled()
    assert Emitter(room, "4").returned == ["4"], "ignored, as by every session that is over"


def test_who_is_away_is_waited_for_as_well(room: Room) -> None:
    emitter = Emitter(room, "1", "2", "3")
    room.conversation.detach(1, room.attached)
    room.runtime.advance(9)
    room.resume(2)
    room.receive(attempt=2, commit=2, ack=2, received=2)
    assert emitter.returned == ["1", "2", "3"]
    assert room.pulled(2) == ["3"]


def test_what_may_not_wait_ends_the_session(room: Room) -> None:
    """As from a callback of the hub, and from a client manager's task."""
    Emitter(room, "1", "2")
    room.conversation.send([Message("3")])
    assert ended(room).reason == "2 messages, 2 bytes are unconfirmed"


def test_a_session_without_patience_never_waits() -> None:
    room = Room(bounds=Bounds(messages=2))
    emitter = Emitter(room, "1", "2", "3")
    assert emitter.took == 0.0
    assert ended(room).reason == "2 messages, 2 bytes are unconfirmed"


@pytest.mark.parametrize("full", [False, True])
def test_a_message_that_is_too_large_is_refused_at_the_call(full: bool) -> None:
    room = Room(bounds=Bounds(messages=1, message=3), patience=PATIENCE)
    if full:
        Emitter(room, "1")
        Emitter(room, "2")
    assert isinstance(Emitter(room, "1234").error, MessageRefused)
    assert room.conversation.open


def test_the_latest_waits_for_nobody_if_it_can_replace(room: Room) -> None:
    Emitter(room, "1")
    Emitter(room, "old", latest="key")
    waiting = Emitter(room, "3")
    assert Emitter(room, "new", latest="key").returned == ["new"]
    first, second = Emitter(room, "x", latest="other"), Emitter(room, "y", latest="other")
    assert (first.returned, second.returned) == (["x"], [])
    assert room.pulled() == ["1", "new"]
    room.receive(ack=2, received=2)
    assert room.pulled() == ["3", "y"]
    assert (waiting.returned, second.returned) == (["3"], ["y"])


def test_the_latest_that_replaces_nothing_waits_behind_the_others() -> None:
    room = Room(bounds=Bounds(bytes=12), patience=PATIENCE)
    Emitter(room, "1234567")
    Emitter(room, "old", latest="sent")
    assert room.pulled() == ["1234567", "old"]
    waiting = Emitter(room, "12345")
    # There would be room for these, but what they replace is on its way, or there is none.
    behind = [Emitter(room, "s", latest="sent"), Emitter(room, "n", latest="new")]
    assert room.pulled() == []
    assert [each.returned for each in (waiting, *behind)] == [[], [], []]
    room.receive(ack=1, received=2)
    assert room.pulled() == ["12345", "s", "n"]
    assert [each.returned for each in (waiting, *behind)] == [["12345"], ["s"], ["n"]]


def test_who_is_interrupted_sends_nothing_more(room: Room) -> None:
    """As by the time-outs of eventlet and gevent."""

    class Interrupted(BaseException):
        pass

    Emitter(room, "1", "2")
    emission = Emission()
    emission.offer(room.conversation, [Message("3")], None)
    behind = Emitter(room, "4")

    def interrupt() -> float:
        raise Interrupted

    with pytest.raises(Interrupted):
        emission.wait(interrupt)
    room.pulled()
    room.receive(ack=1, received=2)
    assert behind.returned == ["4"]
    assert room.pulled() == ["4"]


def test_what_is_emitted_behind_the_latest_has_no_key() -> None:
    with only_latest("a"):
        with only_latest("b"):
            assert latest_key.get() == "b"
        assert latest_key.get() == "a"
    assert latest_key.get() is None


def test_a_withdrawal_lets_in_who_is_behind() -> None:
    room = Room(bounds=Bounds(bytes=10), patience=PATIENCE)
    Emitter(room, "12345")
    waiter = room.conversation.offer([Message("12345678")])
    assert waiter is not None
    small = Emitter(room, "1")
    room.conversation.withdraw(waiter)
    room.runtime.run()
    assert small.returned == ["1"]
    room.conversation.withdraw(waiter)
    room.conversation.expire(waiter)
    assert room.conversation.open


# -- an emission ----------------------------------------------------------------------


def test_a_broadcast_reaches_who_has_room_before_it_waits() -> None:
    runtime = FakeRuntime()
    rooms = [Room(bounds=Bounds(messages=1), patience=PATIENCE) for _ in range(4)]
    for room in rooms:
        room.runtime = room.conversation.runtime = runtime
    for slow in (rooms[0], rooms[2]):
        slow.conversation.send([Message("before")])
        slow.pulled()
    returned: list[float] = []

    def run() -> None:
        emission = Emission()
        for room in rooms:
            emission.offer(room.conversation, [Message("news")], None)
        emission.wait(runtime.now)
        returned.append(runtime.now())

    began = runtime.now()
    runtime.spawn(run)
    runtime.run()
    assert [room.pulled() for room in rooms] == [[], ["news"], [], ["news"]]
    runtime.advance(3)
    rooms[0].receive(ack=1, received=1)
    assert rooms[0].pulled() == ["news"]
    runtime.advance(20)
    # It waits for all of them at the same time, not for one after the other.
    assert returned == [began + PATIENCE]
    assert [room.conversation.open for room in rooms] == [True, True, False, True]
