"""What both ends of a session do alike: sending, acking, asking, closing, and the time.

Most is shown on the server's machine, which sends and hears without more ado;
where the ends differ, see `test_client.py` and `test_server.py`.
"""

from __future__ import annotations

import pytest

from fallback_transport.protocol.client import ClientMachine
from fallback_transport.protocol.codec import decode, encode
from fallback_transport.protocol.connection import Connection
from fallback_transport.protocol.envelope import Envelope, Grant, Welcome
from fallback_transport.protocol.errors import (
    ImpossibleMark,
    MessageRefused,
    OutboxFull,
    SequenceGap,
    SessionOver,
)
from fallback_transport.protocol.events import (
    Answered,
    CloseReceived,
    ConnectionDropped,
    Event,
    MessageReceived,
    SessionClosed,
    Switched,
    Transport,
)
from fallback_transport.protocol.machine import (
    ENVELOPE_BYTES,
    ENVELOPE_MESSAGES,
    MAX_ANSWERS,
    SessionMachine,
)
from fallback_transport.protocol.message import Message
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.protocol.server import ServerMachine
from fallback_transport.protocol.state import State

WEBSOCKET, POLLING = Transport.WEBSOCKET, Transport.POLLING


def opening(now: float = 0.0, bounds: Bounds | None = None, **grant: float) -> ServerMachine:
    terms = Grant(**grant)  # type: ignore[arg-type]
    return ServerMachine(key="k", grant=terms, bounds=bounds or Bounds(), now=now)


def attached(
    transport: Transport = WEBSOCKET,
    now: float = 0.0,
    bounds: Bounds | None = None,
    **grant: float,
) -> ServerMachine:
    """A machine whose connection 1 carries the session."""
    machine = opening(now, bounds, **grant)
    machine.welcome(1, transport, Envelope(), now)
    machine.receive(1, Envelope(commit=1), now)
    return machine


def hear(machine: SessionMachine, text: str, now: float = 0.0, attempt: int = 1) -> list[Event]:
    """Take the envelope that a text says; ``|`` stands for U+001E."""
    unit = decode(text.replace("|", "\x1e"))
    assert isinstance(unit, Envelope)
    return machine.receive(attempt, unit, now)


def say(machine: SessionMachine, now: float = 0.0, attempt: int = 1) -> str | None:
    """What the machine has to say, as such a text."""
    envelope = machine.pull(attempt, now)
    return None if envelope is None else encode(envelope).replace("\x1e", "|")


def send(machine: SessionMachine, *texts: str, urgent: bool = False) -> None:
    for text in texts:
        machine.send([Message(text)], urgent=urgent)


# -- sending -------------------------------------------------------------------------


def test_a_session_begins_with_nothing() -> None:
    machine = opening(now=7)
    assert machine.state is State.OPENING
    assert machine.transport is None
    assert machine.unattached_since == 7
    assert machine.closure == (1000, "")
    assert say(machine) is None


def test_the_transport_is_that_of_the_connection_that_carries() -> None:
    assert attached(WEBSOCKET).transport is WEBSOCKET
    assert attached(POLLING).transport is POLLING


def test_an_envelope_that_goes_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is valid as it is; a broadcast makes one for each recipient."""
    machine = attached()
    machine.send([Message("a")])
    with monkeypatch.context() as patch:
        patch.setattr(Envelope, "__new__", None)
        pulled = machine.pull(1, 0.0)
    assert pulled is not None
    assert pulled == Envelope(*pulled)
    assert type(pulled) is Envelope


def test_messages_are_pulled_once() -> None:
    machine = attached()
    send(machine, "a", "b")
    assert say(machine) == "a0 s1|ma|mb"
    assert say(machine) is None
    send(machine, "c")
    assert say(machine) == "a0 s3|mc"


@pytest.mark.parametrize(
    ("sizes", "pulled"),
    [
        ([1] * (ENVELOPE_MESSAGES + 1), [ENVELOPE_MESSAGES, 1]),
        ([ENVELOPE_BYTES - 1, 1, 1], [2, 1]),
        ([ENVELOPE_BYTES + 1, 1], [1, 2]),
    ],
)
def test_an_envelope_carries_so_much(sizes: list[int], pulled: list[int]) -> None:
    machine = attached()
    send(machine, *["x" * size for size in sizes])
    envelopes = iter(lambda: machine.pull(1, 0.0), None)
    found = [envelope for envelope in envelopes if envelope]
    assert [len(envelope.messages) for envelope in found] == pulled
    assert [envelope.seq for envelope in found] == [1, len(sizes) + 1 - pulled[1]]


def test_what_was_received_meanwhile_is_not_sent_again() -> None:
    machine = attached()
    send(machine, *["x" * ENVELOPE_BYTES] * 3)
    assert (say(machine) or "").startswith("a0 s1|")
    machine.outbox.confirm(0, 2)
    assert (say(machine) or "").startswith("a0 s3|")


@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_only_a_websocket_that_carries_sends(attempt: int) -> None:
    machine = attached(POLLING)
    machine.welcome(2, WEBSOCKET, Envelope(), 0.0)
    send(machine, "a")
    assert say(machine, attempt=attempt) is None


def test_a_message_may_be_as_large_as_is_granted() -> None:
    machine = attached(message=3)
    with pytest.raises(MessageRefused, match="a message of 4 bytes exceeds the limit of 3"):
        machine.send([Message("ok"), Message("four")])
    assert len(machine.outbox) == 0
    send(machine, "abc")
    assert say(machine) == "a0 s1|mabc"


def test_what_is_not_taken_changes_nothing() -> None:
    machine = attached(bounds=Bounds(messages=1))
    send(machine, "a")
    with pytest.raises(OutboxFull):
        send(machine, "b")
    assert say(machine) == "a0 s1|ma"


# -- receiving and acking -----------------------------------------------------------------


def test_messages_are_delivered_once_and_in_order() -> None:
    machine = attached()
    assert hear(machine, "a0 s1|ma|bAA==") == [
        MessageReceived(1, "a"),
        MessageReceived(2, b"\0"),
    ]
    assert hear(machine, "a0 s2|bAA==|mc") == [MessageReceived(3, "c")]


def test_a_gap_takes_marks_and_nothing_else() -> None:
    machine = attached()
    send(machine, "x")
    say(machine)
    with pytest.raises(SequenceGap):
        hear(machine, "a1 s2 q9|mb")
    assert machine.outbox.confirmed == 1
    assert machine.inbox.received == 0
    assert say(machine) is None
    assert hear(machine, "a1 s1|ma") == [MessageReceived(1, "a")]


def test_a_gap_commits_nothing() -> None:
    machine = attached()
    machine.welcome(2, WEBSOCKET, Envelope(), 0.0)
    with pytest.raises(SequenceGap):
        hear(machine, "a0 s2 c2|mb", attempt=2)
    assert machine.carrier is machine.connections[1]


def test_an_impossible_mark_takes_nothing() -> None:
    machine = attached()
    with pytest.raises(ImpossibleMark):
        hear(machine, "a1 s1|ma")
    assert machine.inbox.received == 0


def test_a_message_on_a_connection_that_is_gone_counts() -> None:
    machine = attached()
    assert hear(machine, "a0 s1|ma", attempt=7) == [MessageReceived(1, "a")]


def test_an_ack_waits_for_a_message_to_ride_with() -> None:
    machine = attached(now=1)
    hear(machine, "a0 s1|ma", now=1)
    assert machine.deadline() == 1.2
    assert say(machine, now=1.1) is None
    send(machine, "x")
    assert say(machine, now=1.1) == "a0 r1 s1|mx"
    hear(machine, "a1", now=1.2)
    assert machine.deadline() == 26.2
    machine.handled(1, 2)
    assert machine.deadline() == 2.2


def test_a_lone_ack_goes_after_200_ms() -> None:
    machine = attached()
    hear(machine, "a0 s1|ma")
    machine.handled(1, 0.1)
    hear(machine, "a0 s2|mb", now=0.15)
    assert machine.deadline() == 0.2
    assert say(machine, now=0.199) is None
    assert machine.timeout(0.2) == []
    assert say(machine, now=0.2) == "a1 r2"
    assert say(machine, now=0.2) is None


def test_what_is_known_is_not_acked_again() -> None:
    machine = attached()
    hear(machine, "a0 s1|ma")
    assert say(machine, now=0.2) == "a0 r1"
    hear(machine, "a0 s1|ma", now=1)
    machine.handled(5, 1)
    assert machine.deadline() == 26


@pytest.mark.parametrize(
    ("grant", "texts", "handled", "due"),
    [
        ({"messages": 4}, "abc", 1, False),
        ({"messages": 4}, "abc", 2, True),
        ({"messages": 1}, "a", 1, True),
        ({"bytes": 6}, "abc", 2, False),
        ({"bytes": 6}, "abc", 3, True),
        ({"messages": 4}, "abc", 0, False),
    ],
)
def test_an_ack_of_half_the_credit_does_not_wait(
    grant: dict[str, float], texts: str, handled: int, due: bool
) -> None:
    machine = attached(**grant)
    hear(machine, "a0 s1" + "".join(f"|m{text}" for text in texts))
    assert say(machine) is None
    for seq in range(1, handled + 1):
        machine.handled(seq, 0.0)
    assert (say(machine) is not None) is due
    # Having been stated, it does not count again.
    assert say(machine) is None


def test_the_ack_of_bytes_counts_what_is_handled_since() -> None:
    machine = attached(bytes=6)
    hear(machine, "a0 s1|maa|mbb|mcc|mdd")
    machine.handled(1, 0.0)
    send(machine, "x")
    assert say(machine) == "a1 r4 s1|mx"
    machine.handled(2, 0.0)
    assert say(machine) is None
    machine.handled(3, 0.0)
    assert say(machine) == "a3 r4"


def test_an_ack_changes_connections() -> None:
    machine = attached()
    hear(machine, "a0 s1|ma")
    machine.welcome(2, WEBSOCKET, Envelope(), 0.0)
    machine.greeting(2)
    machine.handled(1, 0.0)
    hear(machine, "a0 c2", now=0.1, attempt=2)
    assert machine.deadline() == 0.1 + 0.2
    assert say(machine, now=0.3, attempt=2) is None
    assert say(machine, now=0.1 + 0.2, attempt=2) == "a1"


def test_an_ack_goes_over_to_the_candidate_that_is_left() -> None:
    machine = attached()
    machine.welcome(2, WEBSOCKET, Envelope(), 0.0)
    machine.greeting(2)
    hear(machine, "a0 s1|ma")
    machine.detach(1, 0.1)
    assert machine.deadline() == 0.1 + 0.2
    assert say(machine, now=1, attempt=2) == "a0 r1"


def test_a_connection_that_no_longer_carries_has_no_ack_to_wait_for() -> None:
    client = ClientMachine(grant=Grant(), bounds=Bounds(), now=0.0)
    for attempt in (1, 2):
        client.hello(attempt, WEBSOCKET, "n", 0.0)
        client.welcomed(Welcome("s", attempt, "k"), 0.0)
    client.commit(1)
    say(client)
    hear(client, "a0 s1|ma")
    assert client.deadline() == 0.2
    client.commit(2)
    assert say(client, attempt=2) == "a0 r1 c2"
    assert client.deadline() == 25
    assert client.timeout(1) == []
    assert client.deadline() == 25


# -- asking -----------------------------------------------------------------------------


def test_a_question_is_answered_at_once() -> None:
    machine = attached()
    assert hear(machine, "a0 q7") == []
    assert say(machine) == "a0 p7"
    assert say(machine) is None


def test_a_question_is_answered_on_its_connection_whoever_carries() -> None:
    machine = attached(POLLING)
    machine.welcome(2, WEBSOCKET, Envelope(), 0.0)
    send(machine, "a")
    hear(machine, "a0 q7", attempt=2)
    assert say(machine, attempt=2) == "a0 p7"


def test_questions_and_answers_go_one_by_one_with_what_is_to_be_said() -> None:
    machine = attached()
    machine.ask(1)
    machine.ask(1)
    hear(machine, "a0 q5")
    send(machine, "a")
    assert say(machine) == "a0 s1 q1 p5|ma"
    assert say(machine) == "a0 q2"
    assert hear(machine, "a1 p2", now=0.5) == [Answered(1, 0.5)]
    assert hear(machine, "a1 p1", now=2) == [Answered(1, 2.0)]


@pytest.mark.parametrize("answer", ["a0 p1", "a0 p2", "a0"])
def test_what_was_not_asked_is_not_answered(answer: str) -> None:
    machine = attached()
    machine.ask(1)
    # Not even written yet.
    assert hear(machine, answer) == []


def test_an_answer_counts_once_and_on_its_connection() -> None:
    machine = attached()
    machine.welcome(2, WEBSOCKET, Envelope(), 0.0)
    machine.ask(1)
    say(machine)
    assert hear(machine, "a0 p1", attempt=2) == []
    assert hear(machine, "a0 p1", attempt=3) == []
    assert hear(machine, "a0 p1") == [Answered(1, 0.0)]
    assert hear(machine, "a0 p1") == []


def test_nothing_can_be_asked_where_nobody_is() -> None:
    machine = attached()
    machine.ask(2)
    assert say(machine) is None


def test_a_peer_that_asks_and_does_not_read_is_not_remembered_for_ever() -> None:
    machine = attached()
    for number in range(MAX_ANSWERS + 5):
        hear(machine, f"a0 q{number}")
    answers = [say(machine) for _ in range(MAX_ANSWERS + 1)]
    assert answers == [*[f"a0 p{number}" for number in range(MAX_ANSWERS)], None]


# -- closing ---------------------------------------------------------------------------------


def test_a_close_goes_behind_what_was_sent() -> None:
    machine = attached()
    send(machine, "a")
    assert machine.close(4000, "bye", 1.0) == []
    assert machine.state is State.CLOSING
    assert machine.closure == (4000, "bye")
    assert machine.deadline() == 6
    assert say(machine) == 'a0 s1|ma|c[4000,"bye"]'
    assert hear(machine, "a1 r2") == []
    assert hear(machine, "a2") == [SessionClosed(4000, "bye", ())]
    assert machine.state is State.CLOSED
    assert machine.deadline() is None


def test_what_cannot_close_changes_nothing() -> None:
    machine = attached()
    with pytest.raises(ValueError, match="999 is not a close code"):
        machine.close(999, "", 0.0)
    assert machine.state is State.ATTACHED
    send(machine, "a")


@pytest.mark.parametrize("over", ["closing", "closed"])
def test_what_is_over_takes_nothing_more(over: str) -> None:
    machine = attached()
    machine.close(4000, "first", 0.0)
    if over == "closed":
        hear(machine, "a1")
    with pytest.raises(SessionOver, match=f"the session is {over}"):
        send(machine, "a")
    assert machine.close(4001, "second", 0.0) == []
    assert machine.closure == (4000, "first")


def test_a_close_that_is_not_confirmed_in_5_s_is_reported() -> None:
    machine = attached()
    send(machine, "a", "b")
    say(machine)
    hear(machine, "a1 r2")
    machine.close(4000, "", 1.0)
    assert machine.timeout(5.9) == []
    assert machine.timeout(6.0) == [SessionClosed(4000, "", (Message("b"),))]
    assert machine.timeout(7.0) == []


def test_a_close_needs_no_connection() -> None:
    machine = attached()
    machine.detach(1, 0.0)
    machine.close(4000, "", 1.0)
    assert machine.deadline() == 6
    assert machine.timeout(6.0) == [SessionClosed(4000, "", ())]


def test_after_a_close_nothing_more_is_delivered_or_acked() -> None:
    machine = attached()
    hear(machine, "a0 s1|ma")
    machine.close(4000, "", 0.0)
    assert hear(machine, "a0 s2|mb") == []
    machine.handled(1, 0.0)
    assert say(machine) == 'a1 r2 s1|c[4000,""]'


def test_the_peers_close_is_told_behind_its_messages_and_acked_when_told() -> None:
    machine = attached()
    send(machine, "x")
    say(machine)
    events = hear(machine, 'a0 s1|ma|c[4000,"bye"]')
    assert events == [MessageReceived(1, "a"), CloseReceived(2, 4000, "bye")]
    assert machine.state is State.CLOSING
    assert machine.closure == (4000, "bye")
    # The acks do not wait any more.
    assert say(machine) == "a0 r2"
    assert machine.handled(1, 0.0) == []
    assert say(machine) == "a1 r2"
    assert machine.handled(2, 0.0) == [SessionClosed(4000, "bye", (Message("x"),))]
    assert say(machine) == "a2"
    assert machine.handled(2, 0.0) == []


def test_the_peers_close_waits_for_the_handlers_before_it() -> None:
    machine = attached()
    hear(machine, 'a0 s1|ma|c[4000,""]')
    assert machine.handled(2, 0.0) == []
    assert machine.handled(1, 0.0) == [SessionClosed(4000, "", ())]


def test_what_comes_behind_a_close_is_ignored() -> None:
    machine = attached()
    assert hear(machine, 'a0 s1|c[4000,""]|mb') == [CloseReceived(1, 4000, "")]
    assert hear(machine, "a0 s2|mb") == []
    assert hear(machine, "a0 s9|mb") == []
    assert machine.inbox.received == 1


def test_the_peer_may_close_and_never_be_told() -> None:
    """A handler that hangs does not keep the session for ever, once its connection is gone."""
    machine = attached()
    hear(machine, 'a0 s1|ma|c[4000,""]')
    machine.detach(1, 1.0)
    assert machine.timeout(121.0) == [SessionClosed(4408, "no connection for 120 s", ())]


def test_crossed_closes_wait_for_nothing() -> None:
    machine = attached()
    send(machine, "a")
    machine.close(4000, "mine", 0.0)
    say(machine)
    assert hear(machine, 'a0 s1|c[4001,"theirs"]') == [SessionClosed(4000, "mine", (Message("a"),))]
    assert machine.state is State.CLOSED


def test_crossed_closes_end_once() -> None:
    machine = attached()
    machine.close(4000, "mine", 0.0)
    assert hear(machine, 'a1 s1|c[4001,"theirs"]') == [SessionClosed(4000, "mine", ())]


def test_an_abort_waits_for_nothing() -> None:
    machine = attached()
    send(machine, "a")
    assert machine.abort(1011, "failed") == [SessionClosed(1011, "failed", (Message("a"),))]
    assert machine.abort(1000, "again") == []
    assert machine.closure == (1011, "failed")
    assert machine.deadline() is None
    assert machine.timeout(10_000.0) == []


def test_a_closed_session_hears_nothing() -> None:
    machine = attached()
    machine.abort(1000, "")
    assert hear(machine, "a9 s9|ma") == []
    assert machine.inbox.received == 0


def test_a_closed_session_says_no_more_messages() -> None:
    machine = attached()
    send(machine, "a")
    hear(machine, "a0 q1")
    machine.abort(1000, "")
    assert say(machine) == "a0 p1"
    assert say(machine) is None


# -- connections -----------------------------------------------------------------------------


def test_a_connection_ends_and_the_session_goes_on() -> None:
    machine = attached()
    assert machine.detach(1, 5.0) == []
    assert machine.state is State.DETACHED
    assert machine.transport is None
    assert machine.unattached_since == 5
    assert machine.deadline() == 125


def test_a_poll_ends_when_it_was_last_heard_of() -> None:
    machine = attached(POLLING)
    machine.heard(1, 3.0)
    machine.detach(1, 5.0)
    assert machine.unattached_since == 3


def test_another_connection_ends_and_nothing_changes() -> None:
    machine = attached()
    machine.welcome(2, WEBSOCKET, Envelope(), 0.0)
    machine.detach(2, 5.0)
    machine.detach(7, 5.0)
    assert machine.state is State.ATTACHED
    assert machine.unattached_since is None
    assert list(machine.connections) == [1]


def test_the_connection_of_a_closed_session_ends() -> None:
    machine = attached()
    machine.abort(1000, "")
    assert machine.detach(1, 5.0) == []
    assert machine.state is State.CLOSED


def test_a_session_that_closes_may_still_change_connections() -> None:
    machine = attached()
    machine.close(4000, "", 0.0)
    machine.detach(1, 0.0)
    machine.welcome(2, WEBSOCKET, Envelope(), 1.0)
    assert hear(machine, "a0 c2", attempt=2) == [Switched(2, WEBSOCKET)]
    assert machine.state is State.CLOSING
    assert say(machine, attempt=2) == 'a0 s1|c[4000,""]'


def test_what_was_heard_later_is_not_heard_earlier() -> None:
    machine = attached()
    machine.heard(1, 5.0)
    machine.heard(1, 3.0)
    machine.heard(9, 7.0)
    assert machine.connections[1].heard_at == 5


# -- time --------------------------------------------------------------------------------------


def test_a_silent_websocket_is_asked_then_dropped() -> None:
    machine = attached(now=1)
    assert machine.deadline() == 26
    assert machine.timeout(25.9) == []
    assert say(machine) is None
    assert machine.timeout(26) == []
    assert machine.deadline() == 56
    assert machine.timeout(26) == []
    assert say(machine, now=26) == "a0 q1"
    assert say(machine, now=26) is None
    assert machine.deadline() == 56
    assert machine.timeout(55.9) == []
    assert machine.timeout(56) == [ConnectionDropped(1, 4408, "silent for 55 s")]
    assert machine.state is State.DETACHED
    assert machine.unattached_since == 56


def test_one_that_answers_is_asked_again() -> None:
    machine = attached()
    machine.timeout(25)
    say(machine, now=25)
    hear(machine, "a0 p1", now=26)
    assert machine.deadline() == 51
    machine.timeout(51)
    assert say(machine, now=51) == "a0 q2"


def test_one_that_says_something_else_is_not_asked_twice() -> None:
    machine = attached()
    machine.timeout(25)
    say(machine, now=25)
    hear(machine, "a0", now=26)
    assert machine.deadline() == 26 + 55
    machine.timeout(51)
    assert say(machine, now=51) is None


def test_a_polling_connection_is_dropped_and_not_asked() -> None:
    machine = attached(POLLING)
    assert machine.deadline() == 55
    assert machine.timeout(54) == []
    assert machine.connections[1].asks == ()
    assert machine.timeout(55) == [ConnectionDropped(1, 4408, "silent for 55 s")]


def test_a_candidate_is_dropped_after_10_s() -> None:
    machine = attached()
    machine.welcome(2, WEBSOCKET, Envelope(), 3.0)
    hear(machine, "a0", now=12, attempt=2)
    assert machine.deadline() == 13
    assert machine.timeout(13) == [ConnectionDropped(2, 4408, "never committed")]
    assert machine.state is State.ATTACHED


def test_without_a_connection_a_session_lives_so_long() -> None:
    machine = attached()
    machine.detach(1, 2.0)
    assert machine.timeout(121.9) == []
    assert machine.timeout(122.4) == [SessionClosed(4408, "no connection for 120 s", ())]
    assert machine.timeout(130) == []


def test_all_that_is_due_happens_in_one_go() -> None:
    machine = attached(POLLING, inactivity=40)
    assert machine.timeout(40) == [
        ConnectionDropped(1, 4408, "silent for 40 s"),
        SessionClosed(4408, "no connection for 40 s", ()),
    ]


@pytest.mark.parametrize("transport", Transport)
@pytest.mark.parametrize("start", [n / 10 for n in range(0, 400, 7)])
def test_no_deadline_comes_twice(transport: Transport, start: float) -> None:
    """However the numbers round: (7.3 + 25) - 7.3 is less than 25."""
    machine = attached(transport, now=start)
    machine.welcome(2, WEBSOCKET, Envelope(), start)
    steps = 0
    while (deadline := machine.deadline()) is not None:
        machine.timeout(deadline)
        for attempt in list(machine.connections):
            say(machine, deadline, attempt)
        later = machine.deadline()
        assert later is None or later > deadline
        steps += 1
    assert machine.state is State.CLOSED
    assert steps <= 5


def test_a_machine_without_a_role_carries_nothing() -> None:
    machine = SessionMachine(grant=Grant(), bounds=Bounds(), now=0.0)
    machine.connections[1] = Connection(1, WEBSOCKET, 0.0, 0.0, next=(1, 0))
    assert hear(machine, "a0 c1 q1 s1|ma") == [MessageReceived(1, "a")]
    assert machine.carrier is None
    send(machine, "b")
    assert say(machine) == "a0 r1 p1"
    assert say(machine) is None
