"""The server's end: candidates, commits, and polls that wait."""

from __future__ import annotations

import pytest

from fallback_transport.protocol.codec import decode, encode
from fallback_transport.protocol.envelope import Envelope, Grant, PollRequest
from fallback_transport.protocol.errors import (
    ImpossibleMark,
    MalformedEnvelope,
    RemoteProtocolError,
    SequenceGap,
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
from fallback_transport.protocol.message import Message
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.protocol.server import (
    DOUBT,
    GREETING_BYTES,
    LONGEST_ROUND_TRIP,
    SLOW,
    UNCOMMITTED_WAIT,
    ServerMachine,
)
from fallback_transport.protocol.state import State

WEBSOCKET, POLLING = Transport.WEBSOCKET, Transport.POLLING


def opening(**grant: float) -> ServerMachine:
    terms = Grant(**grant)  # type: ignore[arg-type]
    return ServerMachine(key="k1", grant=terms, bounds=Bounds(), now=0.0)


def attached(transport: Transport = POLLING, **grant: float) -> ServerMachine:
    """A server whose connection 1 carries; on polling, by a sending request."""
    server = opening(**grant)
    greet(server, 1, transport)
    if transport is POLLING:
        assert request(server, "n1 a0 c1") == ([Switched(1, POLLING)], "answer", None)
    else:
        assert hear(server, 1, "a0 c1") == [Switched(1, WEBSOCKET)]
    return server


def greet(
    server: ServerMachine,
    attempt: int,
    transport: Transport = WEBSOCKET,
    marks: str = "",
    *,
    now: float = 0.0,
    keyless: bool = False,
) -> list[Event]:
    """Take a hello; `marks` is what its envelope would be as tokens."""
    envelope = decode((marks or "a0").replace("|", "\x1e"))
    assert isinstance(envelope, Envelope)
    return server.welcome(attempt, transport, envelope, now, keyless=keyless)


def hear(server: ServerMachine, attempt: int, text: str, now: float = 0.0) -> list[Event]:
    unit = decode(text.replace("|", "\x1e"))
    assert isinstance(unit, Envelope)
    return server.receive(attempt, unit, now)


def say(server: ServerMachine, attempt: int = 1, now: float = 0.0) -> str | None:
    envelope = server.pull(attempt, now)
    return None if envelope is None else encode(envelope).replace("\x1e", "|")


def request(
    server: ServerMachine, text: str, now: float = 0.0, attempt: int = 1
) -> tuple[list[Event], str, int | None]:
    """Take a request of connection `attempt`; its session and key are left out of `text`."""
    unit = decode(f"is1 kk1 t{attempt} {text}".replace("|", "\x1e"))
    assert isinstance(unit, PollRequest)
    events, verdict = server.request(unit, now)
    return events, verdict.poll.value, verdict.releases


def answer(
    server: ServerMachine,
    attempt: int = 1,
    *,
    waiting: bool = True,
    limit: int | None = None,
    now: float = 0.0,
) -> str:
    envelope = server.answer(attempt, now, waiting=waiting, limit=limit)
    return encode(envelope).replace("\x1e", "|")


def greeting(server: ServerMachine, attempt: int) -> str:
    return encode(server.greeting(attempt)).replace("\x1e", "|")


def send(server: ServerMachine, *texts: str) -> None:
    for text in texts:
        server.send([Message(text)])


# -- candidates -------------------------------------------------------------------------


def test_a_hello_makes_a_candidate_and_delivers() -> None:
    server = opening()
    assert greet(server, 1, WEBSOCKET, "a0 s1|m0") == [MessageReceived(1, "0")]
    assert greeting(server, 1) == "a0 r1"
    assert server.state is State.OPENING
    assert server.committed is False
    assert server.transport is None


def test_the_same_hello_again_delivers_nothing() -> None:
    server = opening()
    greet(server, 1, WEBSOCKET, "a0 s1|m0")
    assert greet(server, 2, POLLING, "a0 s1|m0") == []
    assert list(server.connections) == [1, 2]


def test_the_fourth_candidate_drops_the_oldest() -> None:
    server = attached(WEBSOCKET)
    for attempt in (2, 3, 4):
        assert greet(server, attempt) == []
    assert greet(server, 5) == [ConnectionDropped(2, 4429, "too many candidates")]
    # What carries is no candidate.
    assert list(server.connections) == [1, 3, 4, 5]


def test_a_websocket_that_greets_again_is_another() -> None:
    server = opening()
    for attempt in (1, 2, 3):
        greet(server, attempt)
    assert greet(server, 2) == [ConnectionDropped(2, 4409, "greeted again")]
    assert list(server.connections) == [1, 3, 2]


@pytest.mark.parametrize(
    ("first", "second"), [(POLLING, WEBSOCKET), (WEBSOCKET, POLLING), (WEBSOCKET, WEBSOCKET)]
)
def test_an_attempt_names_one_connection(first: Transport, second: Transport) -> None:
    server = opening()
    greet(server, 1, first)
    assert greet(server, 1, second) == [ConnectionDropped(1, 4409, "greeted again")]
    assert server.connections[1].transport is second


def test_polls_that_greet_again_are_the_same() -> None:
    server = attached(POLLING)
    request(server, "n2 w25000 a0 c1")
    assert greet(server, 1, POLLING, "a0 s1|m0", keyless=True) == [MessageReceived(1, "0")]
    send(server, "a")
    assert greeting(server, 1) == "a0 r1"
    assert server.due(1, 0.0) == 2
    assert request(server, "n3 w0 a0 c1") == ([], "answer", 2)


def test_a_hello_of_a_stranger_keeps_no_polls_alive() -> None:
    server = attached(POLLING)
    greet(server, 1, POLLING, now=50.0, keyless=True)
    reason = "silent for 55 s"
    assert server.timeout(55.0) == [ConnectionDropped(1, 4408, reason)]
    # Who proves the key does.
    server = attached(POLLING)
    greet(server, 1, POLLING, now=50.0)
    assert server.timeout(55.0) == []


def test_a_hello_of_a_stranger_yields_no_messages_on_known_polls() -> None:
    server = opening()
    greet(server, 1, POLLING)
    greet(server, 1, POLLING, keyless=True)
    send(server, "secret")
    assert greeting(server, 1) == "a0"


@pytest.mark.parametrize("marks", ["a0 s2|mx", "a1"])
def test_a_broken_hello_changes_no_connection(marks: str) -> None:
    server = opening()
    for attempt in (1, 2, 3):
        greet(server, attempt)
    for attempt in (2, 4):
        with pytest.raises((SequenceGap, ImpossibleMark)):
            greet(server, attempt, WEBSOCKET, marks)
    assert list(server.connections) == [1, 2, 3]


def test_a_closed_session_greets_nobody() -> None:
    server = attached()
    server.abort(1000, "")
    assert greet(server, 2, WEBSOCKET, "a9 s9|mx") == []
    assert list(server.connections) == [1]


def test_a_welcome_says_the_marks() -> None:
    server = attached(WEBSOCKET)
    hear(server, 1, "a0 s1|ma|mb")
    server.handled(1, 0.0)
    greet(server, 2)
    assert greeting(server, 2) == "a1 r2"


@pytest.mark.parametrize(
    ("transport", "carried", "keyless", "replay"),
    [
        (POLLING, False, False, "a0 s2|mb|mc"),
        (POLLING, True, False, "a0"),
        (POLLING, False, True, "a0"),
        (WEBSOCKET, False, False, "a0"),
        (WEBSOCKET, True, False, "a0"),
    ],
)
def test_a_welcome_replays_on_polling_where_nothing_carries(
    transport: Transport, carried: bool, keyless: bool, replay: str
) -> None:
    server = attached(WEBSOCKET)
    send(server, "a", "b", "c")
    say(server)
    if not carried:
        server.detach(1, 0.0)
    greet(server, 2, transport, "a0 r1", keyless=keyless)
    assert greeting(server, 2) == replay


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ([GREETING_BYTES, 1], 1),
        ([GREETING_BYTES - 1, 1, 1], 2),
        # A request can say that the path cuts what is long; a hello cannot.
        ([GREETING_BYTES + 1, 1], 0),
    ],
)
def test_a_welcome_replays_little(sizes: list[int], count: int) -> None:
    server = opening()
    greet(server, 1, POLLING)
    send(server, *["x" * size for size in sizes])
    assert len(server.greeting(1).messages) == count


def test_before_the_first_commit_the_newest_websocket_sends() -> None:
    server = opening()
    greet(server, 1)
    greet(server, 2)
    greet(server, 3, POLLING)
    send(server, "a")
    assert say(server, 1) is None
    assert say(server, 2) == "a0 s1|ma"
    assert say(server, 3) is None
    greet(server, 4)
    assert say(server, 4) == "a0 s1|ma"
    server.detach(4, 0.0)
    assert say(server, 2) is None
    send(server, "b")
    assert say(server, 2) == "a0 s2|mb"


def test_once_one_carries_no_candidate_sends() -> None:
    server = attached(WEBSOCKET)
    greet(server, 2)
    send(server, "a")
    assert say(server, 2) is None
    assert say(server, 1) == "a0 s1|ma"


@pytest.mark.parametrize("transport", Transport)
def test_a_session_that_is_never_committed_lives_shortly(transport: Transport) -> None:
    server = opening()
    greet(server, 1, transport, now=5.0)
    server.timeout(15.0)
    assert server.connections == {}
    assert server.deadline() == 5 + UNCOMMITTED_WAIT
    greet(server, 2, transport, now=20.0)
    greet(server, 2, transport, now=21.0)
    server.detach(2, 21.0)
    assert server.deadline() == 21 + UNCOMMITTED_WAIT
    assert server.timeout(51.0) == [SessionClosed(4408, "no connection for 30 s", ())]


def test_one_that_was_committed_lives_for_the_grant() -> None:
    server = attached(WEBSOCKET)
    server.detach(1, 1.0)
    greet(server, 2, now=100.0)
    server.detach(2, 100.0)
    assert server.deadline() == 121


def test_no_session_lives_longer_than_the_grant() -> None:
    assert opening(inactivity=7).deadline() == 7


# -- commits ------------------------------------------------------------------------------


def test_a_commit_carries_and_drops_what_carried() -> None:
    server = attached(WEBSOCKET)
    greet(server, 2)
    assert hear(server, 2, "a0 c2") == [
        Switched(2, WEBSOCKET),
        ConnectionDropped(1, 4409, "another connection carries"),
    ]
    assert server.committed is True
    assert list(server.connections) == [2]


def test_only_a_commit_commits() -> None:
    server = opening()
    greet(server, 1)
    assert hear(server, 1, "a0 q1") == []
    assert server.carrier is None
    assert hear(server, 1, "a0 c0") == []
    assert server.carrier is None


def test_a_commit_replays_what_was_not_received() -> None:
    server = attached(WEBSOCKET)
    send(server, "a", "b", "c")
    say(server)
    greet(server, 2, WEBSOCKET, "a0 r1")
    hear(server, 2, "a1 r2 c2")
    assert say(server, 2) == "a0 s3|mc"


def test_the_same_commit_again_is_none() -> None:
    server = attached(WEBSOCKET)
    assert hear(server, 1, "a0 c1") == []
    assert server.state is State.ATTACHED


def test_a_connection_may_be_committed_again() -> None:
    server = attached(WEBSOCKET)
    assert hear(server, 1, "a0 c5") == [Switched(1, WEBSOCKET)]
    assert list(server.connections) == [1]
    # Older ones are late news, and no reason to drop it.
    assert hear(server, 1, "a0 c3") == []
    greet(server, 2)
    assert hear(server, 2, "a0 c4") == [ConnectionDropped(2, 4409, "committed too late")]


def test_no_two_connections_have_the_same_commit() -> None:
    server = attached(WEBSOCKET)
    greet(server, 2)
    assert hear(server, 2, "a0 c1") == [ConnectionDropped(2, 4409, "committed too late")]
    assert list(server.connections) == [1]


def test_the_messages_of_a_late_commit_count() -> None:
    server = attached(WEBSOCKET)
    greet(server, 2)
    hear(server, 1, "a0 c3")
    assert hear(server, 2, "a0 s1 c2|ma") == [
        ConnectionDropped(2, 4409, "committed too late"),
        MessageReceived(1, "a"),
    ]


def test_a_commit_on_a_connection_that_is_gone_is_none() -> None:
    server = attached(WEBSOCKET)
    assert hear(server, 7, "a0 s1 c9|ma") == [MessageReceived(1, "a")]
    assert server.carrier is server.connections[1]


@pytest.mark.parametrize(
    ("commit", "events"),
    [
        ("a0 c2", [ConnectionDropped(2, 4404, "the commit proves no key")]),
        ("a0 c2 kk2", [ConnectionDropped(2, 4404, "the commit proves no key")]),
        (
            "a0 c2 kk1",
            [Switched(2, WEBSOCKET), ConnectionDropped(1, 4409, "another connection carries")],
        ),
        ("a0 kk1", []),
    ],
)
def test_a_commit_proves_the_key_where_the_hello_did_not(commit: str, events: list[Event]) -> None:
    server = attached(WEBSOCKET)
    greet(server, 2, keyless=True)
    assert hear(server, 2, commit) == events


@pytest.mark.parametrize(
    "text", ["a1", "a0 g1", "a9", "a0 s1|ma", "a0 s9|ma", 'a0 c9 s1|c[4000,""]']
)
def test_who_proved_no_key_brings_neither_messages_nor_marks(text: str) -> None:
    server = attached(WEBSOCKET)
    send(server, "ours")
    greet(server, 2, keyless=True)
    assert not [e for e in hear(server, 2, text) if not isinstance(e, ConnectionDropped)]
    assert server.inbox.received == server.outbox.received == server.outbox.got == 0


def test_who_proved_no_key_is_answered() -> None:
    server = attached(WEBSOCKET)
    greet(server, 2, keyless=True)
    server.ask(2)
    assert say(server, 2) == "a0 q1"
    assert hear(server, 2, "a0 q7 p1", now=0.5) == [Answered(2, 0.5)]
    assert say(server, 2) == "a0 p7"


def test_messages_come_with_the_proof() -> None:
    server = attached(WEBSOCKET)
    greet(server, 2, keyless=True)
    assert MessageReceived(1, "a") in hear(server, 2, "a0 c2 kk1 s1|ma")
    assert hear(server, 2, "a0 s2|mb") == [MessageReceived(2, "b")]


@pytest.mark.parametrize("transport", list(Transport))
def test_a_hello_without_a_key_takes_nobodys_place(transport: Transport) -> None:
    server = attached(WEBSOCKET)
    with pytest.raises(MalformedEnvelope):
        greet(server, 1, transport, keyless=True)
    assert server.carrier is server.connections[1]


@pytest.mark.parametrize("transport", list(Transport))
def test_hellos_without_a_key_push_out_no_candidate_that_proved_it(transport: Transport) -> None:
    server = attached(WEBSOCKET)
    greet(server, 2)
    dropped = [greet(server, attempt, transport, keyless=True) for attempt in range(3, 6)]
    assert dropped == [[], [], [ConnectionDropped(3, 4429, "too many candidates")]]
    assert list(server.connections) == [1, 2, 4, 5]


def test_nothing_is_sent_to_who_proved_no_key() -> None:
    server = attached(WEBSOCKET)
    server.detach(1, 0.0)
    send(server, "secret")
    greet(server, 2, keyless=True)
    assert say(server, 2) is None


@pytest.mark.parametrize(("key", "known"), [("k1", True), ("k2", False), ("", False), ("é", False)])
def test_the_key_is_known(key: str, known: bool) -> None:
    assert opening().knows(key) is known


# -- requests -------------------------------------------------------------------------------


def test_a_sending_request_is_answered_at_once_without_messages() -> None:
    server = attached()
    send(server, "x")
    assert request(server, "n2 a0 s1 c1|ma") == ([MessageReceived(1, "a")], "answer", None)
    assert answer(server, waiting=False) == "a0 r1"


def test_a_waiting_request_is_answered_at_once_where_there_is_something_to_say() -> None:
    server = attached()
    send(server, "x")
    assert request(server, "n2 w25000 a0 c1") == ([], "answer", None)
    assert answer(server) == "a0 s1|mx"


def test_each_answer_starts_at_the_received_mark() -> None:
    server = attached()
    send(server, "x", "y", "z")
    assert answer(server, limit=2) == "a0 s1|mx|my"
    assert answer(server, limit=2) == "a0 s1|mx|my"
    request(server, "n2 a0 r1 c1")
    assert answer(server) == "a0 s2|my|mz"


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (None, "a0 s1|maaa|mbbb|mccc"),
        (9, "a0 s1|maaa|mbbb|mccc"),
        (8, "a0 s1|maaa|mbbb"),
        (5, "a0 s1|maaa"),
        (2, "a0 s1|p0/3,maa"),
        # As much as a surrogate pair, whatever is wanted.
        (1, "a0 s1|p0/3,maa"),
        (0, "a0 s1|p0/3,maa"),
    ],
)
def test_an_answer_has_as_many_bytes_as_are_wanted(limit: int | None, text: str) -> None:
    server = attached()
    send(server, "aaa", "bbb", "ccc")
    assert answer(server, limit=limit) == text


@pytest.mark.parametrize("limit", [0, 1])
def test_an_answer_to_who_wants_nothing_has_one_message(limit: int) -> None:
    server = attached()
    send(server, "a", "b")
    assert answer(server, limit=limit) == "a0 s1|ma"


@pytest.mark.parametrize("limit", [None, 10**9])
def test_an_answer_has_half_a_million_bytes_or_a_thousand_messages(limit: int | None) -> None:
    server = attached()
    send(server, "x" * 499_999, "x", "x")
    assert len(server.answer(1, 0.0, waiting=True, limit=limit).messages) == 2
    server = attached()
    send(server, *[""] * 1001)
    assert len(server.answer(1, 0.0, waiting=True, limit=None).messages) == 1000


def test_a_request_is_held_until_there_is_something_to_say() -> None:
    server = attached()
    assert request(server, "n2 w25000 b7 a0 c1") == ([], "park", None)
    assert server.due(1, 24.9) is None
    assert server.limit(1) == 7
    send(server, "x")
    assert server.due(1, 1.0) == 2
    assert answer(server, now=1.0) == "a0 s1|mx"
    assert server.due(1, 99.0) is None


@pytest.mark.parametrize(
    ("wait", "grant", "until"), [(2.0, 25, 2.0), (25.0, 25, 25.0), (60.0, 25, 25.0), (9.0, 5, 5.0)]
)
def test_a_request_is_held_no_longer_than_either_wants(
    wait: float, grant: float, until: float
) -> None:
    server = attached(wait=grant)
    request(server, f"n2 w{wait * 1000:.0f} a0 c1")
    assert server.deadline() == until
    assert server.due(1, until - 0.1) is None
    assert server.due(1, until) == 2
    assert answer(server, now=until) == "a0"


def test_a_request_that_may_not_wait_does_not() -> None:
    assert request(attached(), "n2 w0 a0 c1") == ([], "answer", None)


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ([5, 5], ("join", None)),
        ([5, 4], ("empty", None)),
        ([5, 6], ("park", 5)),
        ([5, 6, 5], ("empty", None)),
        ([5, 6, 6], ("join", None)),
        ([5, 4, 5], ("join", None)),
        ([5, 4, 6], ("park", 5)),
    ],
)
def test_numbers_tell_twins_and_late_requests_from_new_ones(
    numbers: list[int], verdict: tuple[str, int | None]
) -> None:
    server = attached()
    for number in numbers:
        found = request(server, f"n{number} w25000 a0 c1")[1:]
    assert found == verdict


def test_a_held_request_that_comes_again_late_was_cut_and_is_let_go() -> None:
    server = attached()
    request(server, "n2 w25000 a0 c1", now=10.0)
    assert request(server, "n2 w25000 a0 c1", now=11.9) == ([], "join", None)
    assert server.due(1, 11.9) is None
    assert request(server, "n2 w25000 a0 c1", now=15.0) == ([], "join", None)
    assert server.due(1, 15.0) == 2
    assert answer(server, now=15.0) == "a0"
    # Its silence is counted from then on.
    assert server.deadline() == 15.0 + 55.0


def test_a_request_that_is_answered_at_once_releases_the_held_one_too() -> None:
    server = attached()
    request(server, "n2 w25000 a0 c1")
    send(server, "x")
    assert request(server, "n3 w25000 a0 c1") == ([], "answer", 2)
    assert answer(server, waiting=False) == "a0"
    assert answer(server) == "a0 s1|mx"
    assert server.due(1, 99.0) is None


def test_late_requests_get_nothing_though_there_is_something() -> None:
    server = attached()
    request(server, "n5 w25000 a0 c1")
    send(server, "x")
    assert request(server, "n4 w25000 a0 c1") == ([], "empty", None)
    assert answer(server, waiting=False) == "a0"
    assert server.due(1, 0.0) == 5


def test_a_request_repeated_after_its_answer_is_held_like_any() -> None:
    server = attached()
    assert request(server, "n2 w1000 a0 c1") == ([], "park", None)
    answer(server, now=1.0)
    assert request(server, "n2 w25000 a0 c1", now=2.0) == ([], "park", None)
    assert request(server, "n3 w25000 a0 c1", now=3.0) == ([], "park", 2)


@pytest.mark.parametrize(
    ("handled", "due"),
    [(0, None), (1, None), (2, 2)],
)
def test_half_of_the_credit_ends_a_held_request(handled: int, due: int | None) -> None:
    server = attached(messages=4)
    request(server, "n2 w25000 a0 c1")
    request(server, "n3 a0 s1 c1|ma|mb|mc")
    answer(server, waiting=False)
    for seq in range(1, handled + 1):
        server.handled(seq, 0.0)
    assert server.due(1, 0.0) == due
    assert request(server, "n4 w25000 a0 c1")[1] == ("answer" if due else "park")
    assert answer(server) == (f"a{handled} r3")


def test_a_request_keeps_a_connection_alive_until_it_ends() -> None:
    server = attached()
    request(server, "n2 w25000 a0 c1", now=10.0)
    request(server, "n3 a0 c1", now=11.0)
    answer(server, now=20.0)
    assert server.deadline() == 20 + 55
    request(server, "n4 w25000 a0 c1", now=20.0)
    server.detach(1, 21.0)
    assert server.unattached_since == 45


def test_the_doubt_of_what_is_sent_on_a_websocket_is_a_deadline() -> None:
    server = attached(WEBSOCKET)
    assert server.deadline() == 25
    send(server, "a")
    assert say(server) == "a0 s1|ma"
    assert server.deadline() == DOUBT + 1 / SLOW
    hear(server, 1, "a0 r1", now=0.5)
    assert server.deadline() == 0.5 + 25


def test_what_was_sent_before_the_commit_is_waited_for_from_the_commit_on() -> None:
    """The page asks now and then, and is answered: else nothing would ever miss the first news."""
    server = opening()
    greet(server, 1)
    send(server, "a")
    assert say(server) == "a0 s1|ma"
    # It was sent to a candidate; and how long a round trip takes is known with the commit.
    hear(server, 1, "a0 c1", now=0.5)
    patience = 4 * 0.5 + 1 / SLOW
    assert server.deadline() == 0.5 + patience
    assert server.timeout(0.5 + patience) == []
    assert say(server, now=3.0) == "a0 q1"
    assert hear(server, 1, "a0 p1", now=3.1)[1:] == [
        ConnectionDropped(1, 4408, "what was sent does not arrive")
    ]


def test_what_is_received_by_the_commit_is_not_waited_for() -> None:
    server = opening()
    greet(server, 1)
    send(server, "a")
    say(server)
    hear(server, 1, "a0 r1 c1", now=0.5)
    assert server.connections[1].doubt_at is None
    assert server.deadline() == 0.5 + 25


def test_a_doubt_is_put_off_by_progress_alone() -> None:
    """Where one direction is swallowed, the other may bring ever so much."""
    server = attached(WEBSOCKET)
    send(server, "a", "b")
    say(server)
    doubt = DOUBT + 2 / SLOW
    for number in range(1, 10):
        assert hear(server, 1, f"a0 s{number}|mx", now=number / 10)
    assert server.timeout(doubt) == []
    assert say(server, now=doubt) == "a0 r9 q1"
    hear(server, 1, "a0 s10|mx", now=1.1)
    assert server.timeout(2 * doubt) == [
        ConnectionDropped(1, 4408, "what was sent is not received")
    ]


def test_what_is_received_is_not_waited_for_though_it_is_not_handled() -> None:
    server = attached(WEBSOCKET)
    send(server, "x" * 60_000)
    say(server)
    hear(server, 1, "a0 r1", now=0.1)
    for text in "yz":
        send(server, text)
        say(server, now=0.1)
    hear(server, 1, "a0 r2", now=0.3)
    assert server.connections[1].doubt_at == 0.3 + DOUBT + 2 / SLOW


def test_the_doubt_waits_for_four_round_trips() -> None:
    """Each is what an ack took, but for the 0.2 s for which it may have waited."""
    server = attached(WEBSOCKET)
    for number, (took, round_trip) in enumerate([(1.2, 1.0), (1.2, 1.0), (0.1, 0.875)], 1):
        now = 10.0 * number
        send(server, "x")
        say(server, now=now)
        hear(server, 1, f"a{number}", now=now + took)
        assert server.round_trip == pytest.approx(round_trip)
    send(server, "x" * 800)
    say(server, now=50.0)
    assert server.connections[1].doubt_at == pytest.approx(50 + 4 * 0.875 + 800 / 8000)


def test_a_round_trip_amid_which_a_page_slept_is_no_such_long_one() -> None:
    server = attached(WEBSOCKET)
    send(server, "x")
    say(server, now=10.0)
    hear(server, 1, "a1", now=10.2 + 50.0)
    assert server.round_trip == LONGEST_ROUND_TRIP
    server.ask(1)
    say(server, now=70.0)
    hear(server, 1, "a1 p1", now=71.0)
    assert server.round_trip == pytest.approx(0.875 * LONGEST_ROUND_TRIP + 0.125)


def under_traffic(seconds: int) -> tuple[ServerMachine, float]:
    """A server that has sent 50 kB a second, in 20 messages; two of them are under way."""
    server = attached(WEBSOCKET)
    for number in range(1, 20 * seconds + 1):
        now = number / 20
        send(server, "x" * 2500)
        assert server.pull(1, now) is not None
        assert number < 4 or hear(server, 1, f"a{number - 2} r{number - 2}", now) == []
        assert server.timeout(now) == []
    return server, now


@pytest.mark.parametrize("seconds", [1, 600])
def test_the_doubt_comes_as_soon_where_messages_never_pause(seconds: int) -> None:
    server, last = under_traffic(seconds)
    patience = DOUBT + 2 * 2500 / SLOW
    asked_at, events = None, []
    for number in range(1, 200):
        now = last + number / 20
        send(server, "x" * 2500)
        said = say(server, now=now)
        assert said is not None
        events += server.timeout(now)
        if "q1" in (say(server, now=now) or "") and asked_at is None:
            asked_at = now
        if events:
            break
    assert events == [ConnectionDropped(1, 4408, "what was sent is not received")]
    assert asked_at == pytest.approx(last + patience, abs=0.06)
    # As long again, though more was sent all the time.
    assert now == pytest.approx(asked_at + patience, abs=0.06)


@pytest.mark.parametrize("size", [1000, 20_000, 60_000])
def test_a_slow_path_that_is_full_is_not_doubted(size: int) -> None:
    """10 kB a second, and 2 MB under way: each envelope that comes shows that it goes on."""
    server = attached(WEBSOCKET)
    send(server, *["x" * size] * (2_000_000 // size))
    now = 0.0
    envelopes = []
    while (envelope := server.pull(1, now)) is not None:
        envelopes.append(envelope)
    for envelope in envelopes:
        last = (envelope.seq or 0) + len(envelope.messages) - 1
        arrived = now + sum(item.size for item in envelope.messages) / 10_000
        assert (server.deadline() or 0.0) > arrived
        now = arrived
        hear(server, 1, f"a{last} r{last}", now)
    assert server.connections[1].doubt_at is None


def test_nothing_is_due_where_nothing_is_held() -> None:
    server = attached(WEBSOCKET)
    send(server, "x")
    greet(server, 2, POLLING)
    assert [server.due(attempt, 99.0) for attempt in (1, 2, 3)] == [None, None, None]
    assert [server.limit(attempt) for attempt in (1, 2, 3)] == [None, None, None]


def test_an_answer_on_a_websocket_is_none() -> None:
    server = attached(WEBSOCKET)
    send(server, "x")
    assert answer(server, waiting=True) == "a0"


# -- requests of other connections ---------------------------------------------------------------


def test_a_request_commits() -> None:
    server = attached(WEBSOCKET)
    greet(server, 2, POLLING)
    assert request(server, "n1 w25000 a0 c2", attempt=2) == (
        [Switched(2, POLLING), ConnectionDropped(1, 4409, "another connection carries")],
        "park",
        None,
    )


def test_a_request_proves_the_key() -> None:
    server = attached(WEBSOCKET)
    greet(server, 2, POLLING, keyless=True)
    assert request(server, "n1 a0 c2", attempt=2)[1] == "answer"


def test_a_request_that_a_switch_overtook_has_delivered() -> None:
    server = attached()
    greet(server, 2)
    hear(server, 2, "a0 c2")
    assert request(server, "n2 a0 s1 c1|ma") == ([MessageReceived(1, "a")], "refuse", None)
    assert server.carrier is server.connections[2]
    end = server.superseded()
    assert (end.code, end.session, end.ack, end.received) == (4409, False, 0, 1)


def test_a_request_of_a_candidate_is_refused() -> None:
    server = attached(WEBSOCKET)
    greet(server, 2, POLLING)
    assert request(server, "n1 w25000 a0", attempt=2) == ([], "refuse", None)
    assert request(server, "n1 w25000 a0", attempt=1) == ([], "refuse", None)


def test_a_request_with_a_commit_that_is_too_low_is_refused() -> None:
    server = attached(WEBSOCKET)
    hear(server, 1, "a0 c3")
    greet(server, 2, POLLING)
    assert request(server, "n1 a0 s1 c2|ma", attempt=2) == (
        [ConnectionDropped(2, 4409, "committed too late"), MessageReceived(1, "a")],
        "refuse",
        None,
    )


@pytest.mark.parametrize(
    ("text", "verdict"), [("n2 a0 c9", "answer"), ("n2 a0 c1", "refuse"), ("n2 a0", "refuse")]
)
def test_a_connection_that_was_given_up_comes_back_by_a_commit(text: str, verdict: str) -> None:
    server = attached()
    server.detach(1, 0.0)
    back = [Switched(1, POLLING)] if verdict == "answer" else []
    assert request(server, text) == (back, verdict, None)
    assert (1 in server.connections) is (verdict == "answer")


def test_a_commit_needs_no_hello_on_polling() -> None:
    """So a page says goodbye whose WebSocket its browser has closed."""
    server = attached(WEBSOCKET)
    assert request(server, 'n1 a0 s1 c2|ma|c[1001,"gone"]', attempt=2) == (
        [
            Switched(2, POLLING),
            ConnectionDropped(1, 4409, "another connection carries"),
            MessageReceived(1, "a"),
            CloseReceived(2, 1001, "gone"),
        ],
        "answer",
        None,
    )


def test_a_request_without_a_commit_makes_no_connection() -> None:
    server = opening()
    assert request(server, "n1 a0", attempt=7) == ([], "refuse", None)
    assert server.connections == {}


def test_a_request_from_before_the_commit_is_late() -> None:
    server = attached()
    request(server, "n5 w25000 a0 c7")
    assert request(server, "n2 w25000 a0 c1") == ([], "empty", None)
    assert request(server, "n3 a0 s1 c1|ma") == ([MessageReceived(1, "a")], "answer", None)
    assert server.due(1, 25.0) == 5


def test_a_gap_in_a_request_commits_nothing() -> None:
    server = attached(WEBSOCKET)
    greet(server, 2, POLLING)
    with pytest.raises(SequenceGap):
        request(server, "n1 a0 s2 c2|mb", attempt=2)
    assert server.carrier is server.connections[1]


@pytest.mark.parametrize("marks", ["a0 s2 c9|mb", "a9 c9"])
def test_a_broken_request_brings_no_connection_back(marks: str) -> None:
    server = attached()
    for attempt in range(2, 7):
        with pytest.raises(RemoteProtocolError):
            request(server, f"n1 {marks}", attempt=attempt)
    assert list(server.connections) == [1]


@pytest.mark.parametrize(("attempt", "verdict"), [(1, "answer"), (2, "refuse")])
def test_a_request_to_a_closed_session(attempt: int, verdict: str) -> None:
    server = attached()
    server.abort(1011, "failed")
    assert request(server, "n9 w25000 a9 s9 c9|mx", attempt=attempt) == ([], verdict, None)
    assert 2 not in server.connections


# -- ends and credit ------------------------------------------------------------------------------


def test_the_end_says_how_and_how_far() -> None:
    server = attached(WEBSOCKET)
    hear(server, 1, "a0 s1|ma|mb")
    server.handled(1, 0.0)
    server.abort(1011, "failed")
    end = server.end()
    assert (end.code, end.reason, end.session) == (1011, "failed", True)
    assert (end.ack, end.received) == (1, 2)
    # A handler that returned late has handled.
    server.handled(2, 0.0)
    assert server.end().ack == 2


def test_of_crossed_closes_the_servers_counts() -> None:
    server = attached(WEBSOCKET)
    server.close(4001, "mine", 0.0)
    assert hear(server, 1, 'a0 s1|c[4000,"theirs"]') == [SessionClosed(4001, "mine", ())]


@pytest.mark.parametrize(
    ("grant", "texts", "outside", "over"),
    [
        ({"messages": 2}, ["a", "b"], (0, 0), False),
        ({"messages": 2}, ["a", "b", "c"], (0, 0), True),
        ({"messages": 2}, ["a", "b", "c"], (1, 1), False),
        # An event alone may have as many bytes more as a message.
        ({"bytes": 4, "message": 5}, ["aaaa", "bbbbb"], (0, 0), False),
        ({"bytes": 4, "message": 5}, ["aaaa", "bbbbb", "c"], (0, 0), True),
        ({"bytes": 4, "message": 5}, ["aaaa", "bbbbb", "c"], (1, 0), True),
        ({"bytes": 4, "message": 5}, ["aaaa", "bbbbb", "c"], (1, 1), False),
    ],
)
def test_more_than_was_granted_is_too_much(
    grant: dict[str, float], texts: list[str], outside: tuple[int, int], over: bool
) -> None:
    server = attached(WEBSOCKET, **grant)
    hear(server, 1, "a0 s1" + "".join(f"|m{text}" for text in texts))
    assert server.over_credit(*outside) is over
    for seq in range(1, len(texts)):
        server.handled(seq, 0.0)
    assert server.over_credit() is False


def test_a_close_is_outside_the_credit() -> None:
    server = attached(WEBSOCKET, messages=1, bytes=1)
    events = hear(server, 1, 'a0 s1|ma|c[4000,""]')
    assert events == [MessageReceived(1, "a"), CloseReceived(2, 4000, "")]
    assert server.over_credit() is False
