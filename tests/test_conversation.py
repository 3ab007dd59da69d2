"""`Conversation`: one session's messages, in order, to a layer above that takes them in units."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from fallback_transport import application_side
from fallback_transport.application import MalformedPacket, Unit
from fallback_transport.conversation import Conversation
from fallback_transport.protocol.codes import CloseCode
from fallback_transport.protocol.envelope import End, Envelope, Grant, Hello, PollRequest, Welcome
from fallback_transport.protocol.errors import MessageRefused, SequenceGap
from fallback_transport.protocol.events import Transport
from fallback_transport.protocol.message import Close, Message
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.protocol.server import DOUBT, Poll, ServerMachine, Verdict
from tests.fakes import FakeRuntime

WEBSOCKET, POLLING = Transport.WEBSOCKET, Transport.POLLING


def seen_of(hello: Hello) -> dict[str, Any]:
    """The request of a hello, as handlers see it."""
    return {"attempt": hello.attempt}


class Attached:
    """A connection that notes what is done to it."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1

    def drop(self, code: int, reason: str) -> None:
        self.log.append((int(code), reason))

    def end(self, end: End) -> None:
        self.log.append(end)


class Layer:
    """A layer above: each text is a unit, named by itself.

    A text "urgent…" is urgent, "wait…" waits until `go` is set, "crash" raises,
    "bad" is malformed, and "part" waits for the message behind it.
    """

    def __init__(self, runtime: FakeRuntime) -> None:
        self.runtime = runtime
        self.log: list[Any] = []
        self.go = runtime.event()
        self._parts: list[int] = []
        self.running = 0

    def unit(self, seq: int, data: str | bytes) -> Unit | None:
        if data == "bad":
            raise MalformedPacket("no packet")
        self._parts.append(seq)
        if data == "part":
            return None
        seqs, self._parts = tuple(self._parts), []
        return Unit(seqs, lambda: self.handle(data), urgent=str(data).startswith("urgent"))

    def handle(self, data: str | bytes) -> None:
        self.log.append(data)
        if str(data).startswith("wait"):
            self.running += 1
            assert self.running == 1, "one at a time"
            self.go.wait()
            self.running -= 1
            self.log.append(f"done {data}")
        if data == "crash":
            raise RuntimeError("a defect of the application")

    def resumed(self, environ: dict[str, Any]) -> None:
        self.log.append(("resumed", environ))

    def over(self, code: int, reason: str, by_client: bool, gone: Callable[[], None]) -> None:
        self.log.append((int(code), reason, by_client))
        gone()


class Keeper:
    """Notes what an owner is told."""

    def __init__(self, patience: float | None) -> None:
        self.patience = patience
        self.scheduled: list[float | None] = []
        self.committed: list[Conversation] = []
        self.forgotten: list[Conversation] = []
        self.departed: list[Conversation] = []

    def schedule(self, conversation: Conversation, when: float | None) -> None:
        self.scheduled.append(when)

    def proven(self, conversation: Conversation) -> None:
        self.committed.append(conversation)

    def carried(self, before: Transport | None, now: Transport, why: str | None) -> None:
        pass

    def forget(self, conversation: Conversation) -> None:
        self.forgotten.append(conversation)

    def gone(self, conversation: Conversation) -> None:
        self.departed.append(conversation)


class Room:
    """A conversation with one WebSocket, committed."""

    def __init__(
        self,
        grant: Grant | None = None,
        bounds: Bounds | None = None,
        patience: float | None = None,
    ) -> None:
        self.runtime = FakeRuntime()
        self.layer = Layer(self.runtime)
        self.owner = Keeper(patience)
        machine = ServerMachine(
            key="key", grant=grant or Grant(), bounds=bounds or Bounds(), now=self.runtime.now()
        )
        self.conversation = Conversation(
            "id",
            machine,
            {},
            runtime=self.runtime,
            application=lambda conversation: self.layer,
            owner=self.owner,
        )
        self.attached = Attached()
        self.seq = 1
        answer = self.greet(1, WEBSOCKET, self.attached)
        assert isinstance(answer, Welcome)
        self.receive(commit=1)

    def greet(self, attempt: int, transport: Transport, attached: Any) -> Welcome | End:
        hello = Hello(attempt, nonce="nonce")
        return self.conversation.greet(hello, transport, attached, key="key", environ=seen_of)

    def resume(
        self, attempt: int, transport: Transport = WEBSOCKET, *texts: str, keyless: bool = False
    ) -> Welcome | End:
        """A hello that resumes, with messages; or, keyless, the first one again."""
        messages = tuple(Message(text) for text in texts)
        envelope = Envelope(seq=self.seq if texts else None, messages=messages)
        self.seq += len(texts)
        named = {"nonce": "nonce"} if keyless else {"id": "id", "key": "key"}
        hello = Hello(attempt, envelope=envelope, **named)
        return self.conversation.greet(hello, transport, Attached(), key=None, environ=seen_of)

    def receive(self, *texts: Any, attempt: int = 1, **more: Any) -> End | None:
        """An envelope from the client, with messages; then every task runs."""
        items = tuple(text if isinstance(text, Close) else Message(text) for text in texts)
        seq, self.seq = self.seq, self.seq + len(items)
        envelope = Envelope(seq=seq if items else None, messages=items, **more)
        end = self.conversation.receive(attempt, envelope)
        self.runtime.run()
        return end

    @property
    def handled(self) -> int:
        return self.conversation.machine.inbox.handled

    def pulled(self, attempt: int = 1) -> list[Any]:
        """What goes out on a WebSocket now."""
        found: list[Any] = []
        while (envelope := self.conversation.pull(attempt)) is not None:
            found += [getattr(item, "data", item) for item in envelope.messages]
        return found


@pytest.fixture
def room() -> Room:
    return Room()


# -- in -------------------------------------------------------------------------------


def test_units_run_in_order_one_at_a_time(room: Room) -> None:
    room.receive("one", "wait two", "three")
    room.receive("four")
    assert room.layer.log == ["one", "wait two"]
    room.layer.go.set()
    room.runtime.run()
    assert room.layer.log == ["one", "wait two", "done wait two", "three", "four"]


class Timeout(BaseException):
    """As eventlet's and gevent's: no `Exception`."""


def test_a_time_out_between_two_handlers_does_not_stop_the_session(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_way() -> None:
        monkeypatch.undo()
        raise Timeout

    monkeypatch.setattr(application_side, "TURN", -1.0)
    monkeypatch.setattr(room.runtime, "give_way", give_way)
    with pytest.raises(Timeout):
        room.receive("one", "two")
    room.runtime.run()
    room.receive("three")
    assert room.layer.log == ["one", "two", "three"]


def test_an_ack_follows_the_handler(room: Room) -> None:
    room.receive("one", "wait two", "three")
    assert (room.handled, room.conversation.machine.inbox.received) == (1, 3)
    room.layer.go.set()
    room.runtime.run()
    assert room.handled == 3


def test_a_unit_of_several_messages_is_acknowledged_whole(room: Room) -> None:
    room.receive("part", "part")
    assert room.handled == 0
    room.receive("wait")
    assert room.handled == 0
    room.layer.go.set()
    room.runtime.run()
    assert room.handled == 3


def test_a_handler_that_raises_is_logged_and_counts_as_handled(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    room.receive("crash", "next")
    assert room.layer.log == ["crash", "next"]
    assert room.handled == 2
    assert "session id: a handler raised" in caplog.text
    assert "a defect of the application" in caplog.text
    assert room.conversation.open


def test_what_reports_an_error_finds_what_its_handler_has_noted(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    user: ContextVar[str] = ContextVar("user", default="nobody")
    reported: list[tuple[str, str]] = []

    def handle(data: str | bytes) -> None:
        user.set(str(data))
        raise ValueError

    def report(record: logging.LogRecord) -> bool:
        reported.append((record.getMessage(), user.get()))
        return True

    monkeypatch.setattr(room.layer, "handle", handle)
    logger = logging.getLogger("fallback_transport.session")
    logger.addFilter(report)
    try:
        room.receive("ann", "bob")
    finally:
        logger.removeFilter(report)
    line = "session id: a handler raised"
    assert reported == [(line, "ann"), (line, "bob")]


def test_what_a_handler_leaves_in_context_variables_is_not_the_next_ones(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    place: ContextVar[str] = ContextVar("place", default="nowhere")
    found: list[str] = []

    def handle(data: str | bytes) -> None:
        found.append(place.get())
        place.set(str(data))

    monkeypatch.setattr(room.layer, "handle", handle)
    room.receive("here", "there", "urgent")
    assert found == ["nowhere"] * 3


def test_urgent_units_overtake(room: Room) -> None:
    room.receive("wait one", "two", "urgent")
    assert room.layer.log == ["wait one", "urgent"]
    # The mark is cumulative: it waits for what is before.
    assert room.handled == 0
    room.layer.go.set()
    room.runtime.run()
    assert room.handled == 3


def test_urgent_units_are_outside_the_credit() -> None:
    room = Room(grant=Grant(messages=3))
    room.receive("wait", "two", "three")
    room.conversation._application.handle = lambda data: room.layer.go.wait()  # type: ignore[attr-defined]
    room.receive("urgent", "urgent", "urgent")
    assert room.conversation.open
    room.receive("four")
    assert not room.conversation.open
    assert room.conversation.machine.closure[0] == CloseCode.TOO_MANY


def test_as_many_replies_begin_at_once_as_wait(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []
    submit = room.runtime.submit
    monkeypatch.setattr(room.runtime, "submit", lambda *task: (begun.append(task), submit(*task)))
    go, handle = room.runtime.event(), room.layer.handle

    def waits(data: Any) -> None:
        handle(data)
        if data == "urgent waits":
            go.wait()

    monkeypatch.setattr(room.layer, "handle", waits)
    seq = room.seq
    messages = tuple(Message("urgent") for _ in range(99))
    room.seq += 99
    room.conversation.receive(1, Envelope(seq=seq, messages=messages))
    assert len(begun) == 1
    room.runtime.run()
    assert room.layer.log == ["urgent"] * 99
    # One that waits, even for the one behind it, holds up nobody.
    room.receive("urgent waits", "urgent waits", "urgent")
    assert room.layer.log[99:] == ["urgent waits", "urgent waits", "urgent"]
    assert room.handled == 99
    go.set()
    room.runtime.run()
    assert room.handled == 102
    assert room.conversation._replies is None


def test_more_than_the_credit_ends_the_session() -> None:
    room = Room(grant=Grant(messages=2))
    room.receive("wait", "two")
    assert room.conversation.open
    room.receive("three")
    (end,) = room.attached.log
    assert (end.code, end.reason) == (CloseCode.TOO_MANY, "more than the granted credit")


def test_one_message_is_always_within_the_credit() -> None:
    room = Room(grant=Grant(messages=1, bytes=10))
    room.receive("x" * 100)
    assert room.handled == 1
    room.receive("y" * 100)
    assert room.handled == 2


def test_malformed_messages_end_the_session(room: Room) -> None:
    room.receive("one", "bad", "three")
    (end,) = room.attached.log
    assert (end.code, end.reason, end.session) == (CloseCode.MALFORMED, "no packet", True)
    assert "three" not in room.layer.log
    assert room.layer.log[-1] == (CloseCode.MALFORMED, "no packet", False)


def test_what_comes_again_is_handled_once(room: Room) -> None:
    room.receive("one", "two")
    room.seq = 1
    room.receive("one", "two", "three")
    assert room.layer.log == ["one", "two", "three"]


# -- broken rules ---------------------------------------------------------------------


def test_a_gap_ends_the_connection_alone(room: Room) -> None:
    room.seq = 5
    end = room.receive("late")
    assert end is not None
    assert (end.code, end.session, end.received) == (CloseCode.PROTOCOL_ERROR, False, 0)
    assert room.conversation.open
    assert room.owner.forgotten == []


def test_an_impossible_mark_ends_the_session(room: Room) -> None:
    end = room.receive(ack=7, received=7)
    assert end is not None
    assert (end.code, end.session) == (CloseCode.PROTOCOL_ERROR, True)
    assert room.owner.forgotten == [room.conversation]
    room.runtime.run()
    assert room.layer.log == [(CloseCode.PROTOCOL_ERROR, end.reason, False)]


def test_what_never_follows_ends_the_session_whatever_else_goes_on(room: Room) -> None:
    behind = Envelope(seq=room.seq + 1, messages=(Message("z"),))
    reason = f"again and again: expected {room.seq}, got {behind.seq}"
    for _ in range(9):
        end = room.conversation.receive(1, behind)
        assert end is not None
        assert (end.code, end.session) == (CloseCode.PROTOCOL_ERROR, False)
        # The other direction works all the while.
        assert room.receive() is None
    end = room.conversation.receive(1, behind)
    assert end is not None
    assert (end.code, end.reason, end.session) == (CloseCode.PROTOCOL_ERROR, reason, True)
    room.runtime.run()
    assert room.layer.log == [(CloseCode.PROTOCOL_ERROR, reason, False)]


def test_refusals_have_short_reasons(room: Room) -> None:
    end = room.conversation.refused(SequenceGap("x" * 500))
    assert len(end.reason) <= 123


# -- out ------------------------------------------------------------------------------


def test_messages_go_out_on_the_carrier(room: Room) -> None:
    room.conversation.send([Message("one"), Message(b"two")])
    assert room.pulled() == ["one", b"two"]
    assert room.pulled() == []
    room.receive(ack=1, received=2)
    assert [m.data for m in room.conversation.machine.outbox.unconfirmed()] == [b"two"]


@pytest.mark.parametrize(
    ("more", "woken"),
    [
        ({}, 0),
        ({"ask": 1}, 1),
        # What came before is to be acknowledged again.
        ({"seq": 1, "messages": (Message("one"),)}, 1),
    ],
)
def test_what_asks_for_an_answer_wakes_its_connection(
    room: Room, more: dict[str, Any], woken: int
) -> None:
    room.receive("one")
    before = room.attached.woken
    room.conversation.receive(1, Envelope(**more))
    room.runtime.run()
    assert room.attached.woken - before == woken


@pytest.mark.parametrize(
    "say",
    [
        lambda conversation: conversation.send([Message("one")]),
        lambda conversation: conversation.send_each(
            [Message("one"), Message("two")], 6, ends=False
        ),
        lambda conversation: conversation.send_each([Message("one"), Message("two")], 6, ends=True),
        lambda conversation: conversation.offer([Message("one")]),
        lambda conversation: conversation.close(4000, "bye"),
    ],
    ids=["send", "send_each", "send_each at the end", "offer", "close"],
)
@pytest.mark.parametrize("patience", [None, 10.0])
def test_what_is_sent_wakes_the_connection_once(
    say: Callable[[Conversation], None], patience: float | None
) -> None:
    room = Room(patience=patience)
    before = room.attached.woken
    say(room.conversation)
    room.runtime.run()
    assert room.attached.woken - before == 1


def test_what_comes_as_the_turn_ends_goes_with_what_was_sent_in_it(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushes: list[Callable[[], None]] = []
    monkeypatch.setattr(room.runtime, "at_end_of_turn", flushes.append)
    before = room.attached.woken
    room.conversation.send([Message("to one")])
    room.conversation.send_each([Message("to all")], 6, ends=True)
    assert room.attached.woken == before
    [flush] = flushes
    flush()
    assert room.attached.woken - before == 1


def test_what_is_sent_while_connections_pull_wakes_them_again(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another thread does, behind what this one pulls."""
    conversation = room.conversation
    outbox, seen = conversation.machine.outbox, [0]

    def wake() -> None:
        seen.append(outbox.last)
        if outbox.last == 1:
            conversation.send([Message("two")])

    monkeypatch.setattr(room.attached, "wake", wake)
    conversation.send([Message("one")])
    room.runtime.run()
    assert seen[-1] == outbox.last == 2


def test_a_connection_that_ends_as_it_is_woken_keeps_the_others_from_nothing(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does whose stream is found closed."""
    conversation, other = room.conversation, Attached()
    room.greet(2, WEBSOCKET, other)
    monkeypatch.setattr(room.attached, "wake", lambda: conversation.detach(1, room.attached))
    other.woken = 0
    conversation.send([Message("news")])
    room.runtime.run()
    assert other.woken
    assert conversation.open
    assert conversation.machine.transport is None


def test_who_has_committed_by_now_is_not_given_up(room: Room) -> None:
    room.conversation.give_up(CloseCode.TRY_AGAIN_LATER, "never committed")
    assert room.conversation.open


def test_a_message_too_large_is_refused_and_nothing_changed(room: Room) -> None:
    with pytest.raises(MessageRefused, match="16000000"):
        room.conversation.send([Message("small"), Message("x" * 16_000_001)])
    assert room.pulled() == []
    assert room.conversation.open


def test_a_full_outbox_ends_the_session_with_its_count(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    room = Room(bounds=Bounds(messages=2))
    room.conversation.send([Message("one"), Message("two")])
    room.conversation.send([Message("three")])
    (end,) = room.attached.log
    assert (end.code, end.reason) == (CloseCode.TOO_MANY, "2 messages, 6 bytes are unconfirmed")
    # The application is told, and no exception hits who happened to send.
    room.conversation.send([Message("four")])
    room.runtime.run()
    assert room.layer.log == [(CloseCode.TOO_MANY, end.reason, False)]
    assert "2 messages unconfirmed" in caplog.text


def test_nothing_is_sent_behind_a_close(room: Room) -> None:
    room.conversation.send([Message("one")])
    room.conversation.close(4000, "bye")
    room.conversation.send([Message("two")])
    room.conversation.close(4001, "again")
    assert room.pulled() == ["one", Close(4000, "bye")]


def test_retiring_begins_no_more_handlers_and_says_what_is_confirmed(room: Room) -> None:
    room.receive("wait", "two", "three")
    room.conversation.send([Message("before")])
    room.conversation.rest()
    assert room.conversation.busy
    room.receive("four", "urgent five")
    assert room.layer.log == ["wait", "urgent five"]
    room.layer.go.set()
    room.runtime.run()
    assert not room.conversation.busy
    assert room.layer.log == ["wait", "urgent five", "done wait"]
    assert room.handled == 1
    room.layer.log[:] = ["wait", "done wait"]
    room.conversation.retire(1012, "bye")
    room.conversation.send([Message("behind")])
    assert room.pulled() == ["before", Close(1012, "bye")]
    room.receive(ack=2, received=2)
    assert room.layer.log == ["wait", "done wait", (1012, "bye", False)]


def test_what_runs_when_it_retires_is_not_confirmed(room: Room) -> None:
    """Its handler may have more to say, and that nobody will hear."""
    room.receive("wait")
    room.conversation.retire(1012, "bye")
    room.layer.go.set()
    room.runtime.run()
    assert room.layer.log == ["wait", "done wait"]
    assert room.handled == 0
    room.receive(ack=1, received=1)
    assert room.layer.log == ["wait", "done wait", (1012, "bye", False)]
    assert room.owner.departed == [room.conversation]


def test_retiring_lets_a_client_that_closes_have_its_end(room: Room) -> None:
    room.receive("wait", Close(4000, "bye"))
    room.conversation.retire(1012, "restart")
    room.layer.go.set()
    room.runtime.run()
    assert room.layer.log == ["wait", "done wait", (4000, "bye", True)]
    assert room.owner.departed == [room.conversation]


def test_the_first_commit_proves_it(room: Room) -> None:
    assert room.owner.committed == [room.conversation]
    room.greet(2, WEBSOCKET, Attached())
    room.receive(commit=2, attempt=2)
    assert room.conversation._carriage.connections == 2
    assert room.owner.committed == [room.conversation]


def test_it_is_gone_once_its_handlers_have_returned(room: Room) -> None:
    room.receive("wait")
    room.conversation.abort(4000, "bye")
    room.runtime.run()
    assert room.owner.forgotten == [room.conversation]
    assert room.owner.departed == []
    room.layer.go.set()
    room.runtime.run()
    assert room.owner.departed == [room.conversation]


@pytest.mark.parametrize("code", [0, 1006, 2999, 5000])
def test_an_impossible_close_is_refused(room: Room, code: int) -> None:
    with pytest.raises(ValueError, match="close code"):
        room.conversation.close(code, "")
    with pytest.raises(ValueError, match="123"):
        room.conversation.close(1000, "x" * 124)
    assert room.conversation.open


# -- the end --------------------------------------------------------------------------


def test_a_close_is_over_when_it_is_confirmed(room: Room) -> None:
    room.conversation.close(4000, "bye")
    assert room.pulled() == [Close(4000, "bye")]
    assert room.owner.forgotten == []
    room.receive(ack=1, received=1)
    assert room.owner.forgotten == [room.conversation]
    assert room.layer.log == [(4000, "bye", False)]
    assert room.owner.scheduled[-1] is None


def test_a_close_that_is_not_confirmed_is_over_too(room: Room) -> None:
    room.conversation.close(4000, "bye")
    room.runtime.advance(5)
    room.conversation.timeout()
    room.runtime.run()
    assert room.layer.log == [(4000, "bye", False)]


def test_the_clients_close_comes_behind_its_messages(room: Room) -> None:
    room.receive("wait", "two", Close(4000, "bye"), "ignored")
    assert room.layer.log == ["wait"]
    assert room.conversation.transport == "websocket"
    room.layer.go.set()
    room.runtime.run()
    assert room.layer.log == ["wait", "done wait", "two", (4000, "bye", True)]
    assert room.owner.forgotten == [room.conversation]
    (end,) = room.attached.log
    assert (end.code, end.ack, end.received) == (4000, 3, 3)


def test_an_abort_leaves_what_was_not_begun(room: Room) -> None:
    room.receive("wait", "two")
    room.conversation.abort(4000, "enough")
    (end,) = room.attached.log
    assert (end.ack, end.received) == (0, 2)
    room.layer.go.set()
    room.runtime.run()
    assert room.layer.log == ["wait", "done wait", (4000, "enough", False)]
    room.conversation.abort(4001, "again")
    room.runtime.run()
    assert len(room.layer.log) == 3


def test_crossed_closes_tell_once(room: Room) -> None:
    room.conversation.close(4000, "server")
    room.receive(Close(4001, "client"))
    room.runtime.run()
    assert room.layer.log == [(4000, "server", False)]


def test_who_waits_is_told_of_the_end(room: Room) -> None:
    told: list[str] = []
    room.conversation.when_over(lambda: told.append("one"))
    room.conversation.when_over(lambda: told.append("two"))()
    room.conversation.abort(4000, "enough")
    assert told == ["one"]
    room.conversation.when_over(lambda: told.append("late"))
    assert told == ["one", "late"]


def test_a_connection_that_fails_at_the_end_does_not_keep_it(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(end: End) -> None:
        raise RuntimeError("a defect of a connection")

    monkeypatch.setattr(room.attached, "end", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        room.conversation.abort(4000, "enough")
    room.runtime.run()
    assert room.layer.log == [(4000, "enough", False)]
    assert room.owner.departed == [room.conversation]


def test_who_waits_is_told_of_the_clients_close_at_once(room: Room) -> None:
    """A handler that asks the client would wait for ever: nothing comes behind a close."""
    told: list[str] = []
    room.receive("wait")
    room.conversation.when_over(lambda: told.append("one"))
    room.receive(Close(1000, ""))
    assert told == ["one"]
    assert room.layer.log == ["wait"]


# -- connections ----------------------------------------------------------------------


def test_a_switch_drops_the_connection_before(room: Room) -> None:
    second = Attached()
    room.greet(2, WEBSOCKET, second)
    assert room.attached.log == []
    room.receive(attempt=2, commit=2)
    assert [code for code, _ in room.attached.log] == [CloseCode.SUPERSEDED]
    room.conversation.send([Message("one")])
    assert room.pulled(1) == []
    assert room.pulled(2) == ["one"]
    assert room.conversation._carriage.connections == 2


def test_only_its_own_connection_can_detach(room: Room) -> None:
    room.conversation.detach(1, Attached())
    assert room.conversation.transport == "websocket"
    room.conversation.detach(1, room.attached)
    assert room.conversation.transport is None
    room.conversation.detach(1, room.attached)


def test_until_a_commit_it_has_the_transport_that_it_was_welcomed_on_last(room: Room) -> None:
    conversation = room.conversation
    room.resume(2, POLLING)
    assert conversation.transport == "websocket"
    conversation.detach(1, room.attached)
    assert conversation.transport == "polling"
    # Of somebody who is not known to be the client.
    room.resume(3, keyless=True)
    assert conversation.transport == "polling"


def test_hellos_and_envelopes_after_the_end_get_it(room: Room) -> None:
    room.conversation.abort(4000, "enough")
    answer = room.greet(2, WEBSOCKET, Attached())
    assert isinstance(answer, End)
    assert (answer.code, answer.session) == (4000, True)
    request = PollRequest("id", "key", 1, 1, 20.0, envelope=Envelope(commit=9))
    assert room.conversation.request(request, _never, seen_of) == answer


def _never(request: PollRequest, verdict: Verdict) -> None:
    raise AssertionError("nothing is held here")


def polled(room: Room, number: int, parked: Callable[..., None] = _never, **more: Any) -> Any:
    commit = more.pop("commit", 2)
    envelope = Envelope(commit=commit, **more.pop("envelope", {}))
    request = PollRequest("id", "key", 2, number, more.pop("wait", None), None, envelope)
    return room.conversation.request(request, parked, seen_of)


def test_a_waiting_request_is_held_until_there_is_something(room: Room) -> None:
    room.greet(2, POLLING, Attached())
    held: list[Verdict] = []
    assert polled(room, 1, lambda _, verdict: held.append(verdict), wait=20.0) is None
    assert [verdict.poll for verdict in held] == [Poll.PARK]
    assert room.conversation.transport == "polling"
    room.conversation.send([Message("one")])
    answer = polled(room, 2, lambda _, verdict: held.append(verdict), wait=20.0)
    assert [m.data for m in answer.messages] == ["one"]
    assert held[1].releases == 1


def test_a_sending_request_is_answered_at_once_with_the_marks(room: Room) -> None:
    room.greet(2, POLLING, Attached())
    answer = polled(room, 1, envelope={"seq": 1, "messages": (Message("wait"),)})
    assert (answer.ack, answer.received, answer.messages) == (0, 1, ())


def test_only_the_answer_to_the_newest_waiting_request_has_messages(room: Room) -> None:
    room.greet(2, POLLING, Attached())
    polled(room, 2, wait=0.0)
    room.conversation.send([Message("one")])
    # One that sends, and one that waited and comes late.
    assert [polled(room, 3).messages, polled(room, 1, wait=20.0).messages] == [(), ()]
    assert [m.data for m in polled(room, 4, wait=20.0).messages] == ["one"]


def test_a_request_on_a_superseded_connection_still_delivers(room: Room) -> None:
    answer = polled(room, 1, commit=0, envelope={"seq": 1, "messages": (Message("one"),)})
    assert (answer.code, answer.session, answer.received) == (CloseCode.SUPERSEDED, False, 1)
    room.runtime.run()
    assert room.layer.log == ["one"]


def test_one_attachment_for_each_polling_connection(room: Room) -> None:
    made: list[tuple[int, Attached]] = []

    def make(attempt: int) -> Attached:
        made.append((attempt, Attached()))
        return made[-1][1]

    for _ in range(2):
        assert room.conversation.adopt(5, make) is made[0][1]
    assert [attempt for attempt, _ in made] == [5]


def resumed(room: Room) -> list[int]:
    """The attempts whose requests the layer above has seen."""
    room.runtime.run()
    return [each[1]["attempt"] for each in room.layer.log if each[0] == "resumed"]


@pytest.mark.parametrize("transport", [WEBSOCKET, POLLING])
def test_a_resume_is_looked_at_before_what_it_brings(room: Room, transport: Transport) -> None:
    room.receive("wait")
    room.resume(2, transport, "one")
    room.runtime.run()
    assert room.layer.log == ["wait"]
    room.layer.go.set()
    room.runtime.run()
    assert room.layer.log == ["wait", "done wait", ("resumed", {"attempt": 2}), "one"]


def test_many_resumes_are_looked_at_once_and_the_newest_counts(room: Room) -> None:
    room.receive("wait")
    for attempt in range(2, 50):
        room.resume(attempt)
    assert len(room.conversation._units) == 1
    room.layer.go.set()
    assert resumed(room) == [49]
    room.resume(50)
    assert resumed(room) == [49, 50]


def test_a_look_takes_the_place_of_no_message(room: Room) -> None:
    room.receive("wait", "one", "two")
    room.resume(2, WEBSOCKET, "three")
    room.resume(3, WEBSOCKET, "four")
    room.layer.go.set()
    room.runtime.run()
    look = ("resumed", {"attempt": 3})
    assert room.layer.log == ["wait", "done wait", "one", "two", look, "three", "four"]


def test_a_repeated_polling_hello_is_looked_at_once(room: Room) -> None:
    for _ in range(2):
        room.resume(2, POLLING)
        room.runtime.run()
    assert resumed(room) == [2]


def test_of_a_request_that_is_refused_nothing_is_kept(room: Room) -> None:
    messages = {"seq": 9, "messages": (Message("one"),)}
    assert polled(room, 1, envelope=messages).code == CloseCode.PROTOCOL_ERROR
    assert room.conversation._unseen is None
    assert list(room.conversation.machine.connections) == [1]
    # It may still come back.
    polled(room, 2)
    room.runtime.run()
    assert resumed(room) == [2]


def test_a_first_connection_is_not_resumed(room: Room) -> None:
    room.greet(2, POLLING, Attached())
    polled(room, 1)
    assert resumed(room) == []


def test_the_first_hello_again_is_looked_at_once_it_has_proved_the_key(room: Room) -> None:
    room.resume(2, keyless=True)
    room.resume(3, keyless=True)
    room.conversation.receive(2, Envelope(commit=2, key="wrong"))
    assert resumed(room) == []
    room.receive("one", attempt=3, commit=2, key="key")
    assert room.layer.log == [("resumed", {"attempt": 3}), "one"]
    assert room.conversation._unseen is None


def test_a_polling_connection_that_was_given_up_and_comes_back_is_looked_at(room: Room) -> None:
    polled(room, 1, envelope={"seq": 1, "messages": (Message("one"),)})
    room.runtime.run()
    assert room.layer.log == [("resumed", {"attempt": 2}), "one"]
    polled(room, 2)
    assert resumed(room) == [2]


def test_of_polls_the_application_sees_who_has_proved_the_key(room: Room) -> None:
    def of(who: str) -> Callable[[Hello], dict[str, Any]]:
        return lambda hello: {"who": who, "PATH_INFO": "/poll", "QUERY_STRING": ""}

    def greet(attempt: int, who: str, **named: str) -> None:
        hello = Hello(attempt, **named)  # type: ignore[arg-type]
        room.conversation.greet(hello, POLLING, Attached(), key=None, environ=of(who))
        room.runtime.run()

    def poll(attempt: int, number: int, commit: int, who: str) -> None:
        request = PollRequest("id", "key", attempt, number, None, None, Envelope(commit=commit))
        room.conversation.request(request, _never, of(who))
        room.runtime.run()

    room.conversation.environ = {"PATH_INFO": "/chat", "QUERY_STRING": "room=1"}
    # Somebody has seen the first hello, and is there before the client.
    greet(5, "stranger", nonce="nonce")
    greet(6, "stranger", nonce="nonce")
    greet(5, "client", id="id", key="key")
    poll(6, 1, 2, "client again")
    page = {"PATH_INFO": "/chat", "QUERY_STRING": "room=1"}
    looks = [
        ("resumed", {"who": "client", "PATH_INFO": "/poll", "QUERY_STRING": ""}),
        ("resumed", {"who": "client again", **page}),
    ]
    assert room.layer.log == looks
    # Nothing is left of them, nor comes with a hello to polls that carry.
    greet(6, "stranger", nonce="nonce")
    poll(6, 2, 3, "client")
    assert room.layer.log == looks
    assert room.conversation._unseen is None


def test_a_refused_resume_begins_no_more_handlers(room: Room) -> None:
    room.receive("wait")
    room.resume(2, WEBSOCKET, "one")
    room.conversation.refuse(4001, "expired")
    room.layer.go.set()
    room.runtime.run()
    assert room.layer.log == ["wait", "done wait"]
    room.resume(3)
    assert resumed(room) == []
    assert room.handled == 1


def test_what_is_not_committed_any_more_is_forgotten(room: Room) -> None:
    room.resume(2, keyless=True)
    attached = room.conversation._attachments[2]
    room.conversation.detach(2, attached)
    room.resume(3, keyless=True)
    room.conversation.abort(4000, "enough")
    assert room.conversation._unseen is None


def test_a_hello_that_is_refused_leaves_no_session_without_a_deadline(room: Room) -> None:
    conversation = Conversation(
        "id",
        ServerMachine(key="key", grant=Grant(), bounds=Bounds(), now=room.runtime.now()),
        {},
        runtime=room.runtime,
        application=lambda conversation: room.layer,
        owner=room.owner,
    )
    room.owner.scheduled.clear()
    hello = Hello(1, nonce="nonce", envelope=Envelope(seq=2, messages=(Message("0"),)))
    end = conversation.greet(hello, WEBSOCKET, Attached(), key="key", environ=seen_of)
    assert end == End(SequenceGap.code, "expected 1, got 2")
    assert room.owner.scheduled == [conversation.machine.deadline()]


def test_it_asks_for_its_next_deadline(room: Room) -> None:
    now = room.runtime.now()
    assert room.owner.scheduled[-1] == now + 25.0
    room.receive("one")
    # The ack of it may wait that long.
    assert room.owner.scheduled[-1] == pytest.approx(now + 0.2)


def test_it_waits_for_what_it_has_just_sent(room: Room) -> None:
    room.conversation.send([Message("news")])
    room.runtime.run()
    room.owner.scheduled.clear()
    assert room.pulled() == ["news"]
    assert room.owner.scheduled == [pytest.approx(room.runtime.now() + DOUBT, abs=0.01)]


# -- the log ----------------------------------------------------------------------------


def test_one_line_tells_of_a_session_that_is_over(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    room.receive("one", "two")
    room.runtime.advance(2.0)
    room.conversation.detach(1, room.attached)
    room.runtime.advance(1.0)
    room.greet(2, POLLING, Attached())
    room.receive(commit=2, attempt=2)
    room.conversation.send([Message("down")])
    room.runtime.advance(4.0)
    room.conversation.receive(2, Envelope(seq=1, messages=(Message("one"),)))
    room.conversation.abort(4000, "bye\nnow")
    room.runtime.run()
    [line] = [each for each in caplog.records if each.name == "fallback_transport.session.end"]
    assert line.levelno == logging.INFO
    assert line.getMessage() == (
        "session id ended after 7.0 s: 4000 'bye\\nnow'; websocket 2.0 s, polling 4.0 s, "
        "2 connections, 1 switches; 2 messages up, 0 down, 0 replays, 1 duplicates, "
        "1 messages unconfirmed"
    )


def test_an_offence_is_worth_more_than_a_note(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    room.conversation.abort(CloseCode.TOO_MANY, "too many")
    assert [each.levelname for each in caplog.records if each.name.endswith(".end")] == ["WARNING"]


@pytest.mark.parametrize("part", ["receive", "pull", "timeout", "wake"])
def test_a_defect_ends_its_session_and_stalls_nobody(
    room: Room, part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(Attached if part == "wake" else ServerMachine, part, fail)
    if part == "pull":
        assert room.pulled() == []
    elif part == "timeout":
        room.conversation.timeout()
    end = room.receive("one")
    assert (end is not None and end.session) == (part == "receive")
    assert room.layer.log[-1] == (CloseCode.INTERNAL_ERROR, "a defect of the server", False)
    [told] = room.attached.log
    assert (told.code, told.session) == (CloseCode.INTERNAL_ERROR, True)
    assert room.owner.departed == [room.conversation]
    assert "session id: a defect" in caplog.messages
    assert "KeyError: 'a defect'" in caplog.text


def test_a_defect_in_a_polling_request_ends_its_session(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(ServerMachine, "request", fail)
    request = PollRequest("id", "key", 2, 1)
    end = room.conversation.request(request, lambda *_: None, seen_of)
    assert isinstance(end, End)
    assert (end.code, end.session) == (CloseCode.INTERNAL_ERROR, True)


# -- in a fork ------------------------------------------------------------------------


def test_a_fork_does_not_wait_for_a_thread_that_only_its_parent_has(room: Room) -> None:
    conversation = room.conversation
    has, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        with conversation.lock:
            has.set()
            may_go.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    has.wait()
    conversation.mute()
    got = conversation.lock.acquire(blocking=False)
    may_go.set()
    thread.join()
    assert got
