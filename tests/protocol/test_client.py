"""The client's end: hellos, welcomes, commits, numbered polls, and ends."""

from __future__ import annotations

import pytest

from fallback_transport.protocol.client import HELLO_BYTES, REQUEST_MESSAGES, ClientMachine
from fallback_transport.protocol.codec import decode, encode
from fallback_transport.protocol.envelope import End, Envelope, Grant, PollRequest, Welcome
from fallback_transport.protocol.errors import LocalProtocolError, MessageRefused, SequenceGap
from fallback_transport.protocol.events import (
    Event,
    MessageReceived,
    SessionClosed,
    Switched,
    Transport,
)
from fallback_transport.protocol.message import Message
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.protocol.state import State

WEBSOCKET, POLLING = Transport.WEBSOCKET, Transport.POLLING


def opening(*texts: str) -> ClientMachine:
    """A client whose application sent some messages before anything else."""
    client = ClientMachine(grant=Grant(), bounds=Bounds(), now=0.0)
    send(client, *texts)
    return client


def attached(transport: Transport = WEBSOCKET, **grant: float) -> ClientMachine:
    """A client whose message 1 was received in the hello of connection 1, which it committed."""
    client = opening("0")
    client.hello(1, transport, "n1", 0.0)
    welcome(client, 1, received=1, key="k1", **grant)
    client.commit(1)
    if transport is WEBSOCKET:
        assert say(client) == "a0 c1"
    return client


def send(client: ClientMachine, *texts: str, urgent: bool = False) -> None:
    for text in texts:
        client.send([Message(text)], urgent=urgent)


def welcome(
    client: ClientMachine,
    attempt: int,
    ack: int = 0,
    received: int = 0,
    key: str | None = None,
    **grant: float,
) -> list[Event]:
    terms = Grant(**grant)  # type: ignore[arg-type]
    return client.welcomed(Welcome("s1", attempt, key, terms, Envelope(ack, received)), 0.0)


def hello(client: ClientMachine, attempt: int, transport: Transport = WEBSOCKET) -> str:
    return encode(client.hello(attempt, transport, "n1", 0.0)).replace("\x1e", "|")


def hear(client: ClientMachine, text: str, attempt: int = 1) -> list[Event]:
    unit = decode(text.replace("|", "\x1e"))
    assert isinstance(unit, Envelope)
    return client.receive(attempt, unit, 0.0)


def say(client: ClientMachine, attempt: int = 1) -> str | None:
    envelope = client.pull(attempt, 0.0)
    return None if envelope is None else encode(envelope).replace("\x1e", "|")


def poll(client: ClientMachine, wait: float | None = None, limit: int | None = None) -> str:
    return encode(client.poll(wait=wait, limit=limit)).replace("\x1e", "|")


# -- hellos --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "rest"),
    [
        ([], "}"),
        (["0"], ',"seq":1}|m0'),
        (["0", "a", "b"], ',"seq":1}|m0'),
    ],
)
def test_a_new_sessions_hello_has_the_nonce_and_the_first_message(
    texts: list[str], rest: str
) -> None:
    expected = '{"hello":1,"attempt":1,"nonce":"n1","ack":0,"received":0' + rest
    assert hello(opening(*texts), 1) == expected


def test_a_hedge_says_the_same() -> None:
    client = opening("0", "a")
    first, second = hello(client, 1), hello(client, 2, POLLING)
    assert second == first.replace('"attempt":1', '"attempt":2')


def test_without_a_nonce_there_is_none() -> None:
    hello = opening("0").hello(1, WEBSOCKET, None, 0.0)
    assert hello.nonce is None
    # Whoever repeats it makes a second session, in which nothing may happen.
    assert hello.envelope.messages == ()


def test_a_resume_has_the_key_its_marks_and_what_was_not_received() -> None:
    client = attached()
    send(client, "a", "b", "c")
    say(client)
    hear(client, "a1 r2 s1|mx|my")
    client.handled(1, 0.0)
    expected = '{"hello":1,"attempt":2,"id":"s1","key":"k1","ack":1,"received":2,"seq":3}|mb|mc'
    assert hello(client, 2) == expected


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ([HELLO_BYTES, 1], 1),
        ([HELLO_BYTES - 1, 1, 1], 2),
        ([HELLO_BYTES + 1, 1], 0),
        ([0] * (REQUEST_MESSAGES + 1), REQUEST_MESSAGES),
    ],
)
def test_a_resume_carries_so_much(sizes: list[int], count: int) -> None:
    client = attached()
    send(client, *["x" * size for size in sizes])
    assert len(client.hello(2, WEBSOCKET, None, 0.0).envelope.messages) == count


def test_what_belongs_together_must_fit_the_credit_together() -> None:
    client = attached(POLLING, bytes=10, message=8)
    send(client, "x" * 8)
    with pytest.raises(MessageRefused, match=r"^19 bytes that belong together exceed .* 18$"):
        client.send([Message("x" * 8), Message("x" * 8), Message("xxx")])
    client.send([Message("x" * 8), Message("x" * 8), Message("xx")])
    assert len(client.outbox) == 5


def test_an_event_has_as_many_attachments_as_messages_are_granted() -> None:
    client = attached(POLLING, messages=2)
    with pytest.raises(MessageRefused, match=r"^4 that belong together exceed .* 3$"):
        client.send([Message("52-"), *[Message(b"")] * 3])
    assert len(client.outbox) == 1
    client.send([Message("52-"), *[Message(b"")] * 2])
    assert len(client.outbox) == 4


# -- welcomes and commits ------------------------------------------------------------------


def test_a_welcome_brings_the_key_and_the_grant() -> None:
    client = opening("0")
    hello(client, 1)
    assert welcome(client, 1, received=1, key="k1", messages=7) == []
    assert (client.id, client.key, client.grant.messages) == ("s1", "k1", 7)
    # One without a key takes none away.
    assert welcome(client, 1, received=1) == []
    assert client.key == "k1"
    assert client.state is State.OPENING


def test_only_the_first_message_goes_before_the_welcome() -> None:
    client = opening("0", "a", "b")
    hello(client, 1)
    assert client.outbox.last == 1
    welcome(client, 1, received=1, key="k1", messages=2)
    assert client.outbox.last == 2
    client.commit(1)
    assert say(client) == "a0 s2 c1|ma"


def test_not_even_nothing_goes_before_the_welcome() -> None:
    assert opening("", "").outbox.last == 1


def test_a_welcome_may_bring_messages_and_marks() -> None:
    client = attached(POLLING)
    hello(client, 2, POLLING)
    envelope = Envelope(1, 1, 1, (Message("x"),))
    assert client.welcomed(Welcome("s1", 2, envelope=envelope), 0.0) == [MessageReceived(1, "x")]
    assert client.outbox.confirmed == 1


def test_a_welcome_with_a_gap_is_one() -> None:
    client = attached()
    hello(client, 2)
    with pytest.raises(SequenceGap):
        client.welcomed(Welcome("s1", 2, envelope=Envelope(0, 0, 2, (Message("x"),))), 0.0)


def test_a_welcome_for_a_closed_session_is_late() -> None:
    client = attached()
    hello(client, 2)
    client.abort(1000, "")
    assert welcome(client, 2, ack=9, received=9, key="k2") == []
    assert client.key == "k1"


def test_a_welcome_of_what_was_given_up_is_no_connection() -> None:
    client = attached()
    hello(client, 2)
    client.detach(2, 0.0)
    assert welcome(client, 2, received=1) == []
    with pytest.raises(KeyError):
        client.commit(2)


def test_the_first_envelope_after_the_commit_states_it_once() -> None:
    client = opening("0")
    hello(client, 1)
    welcome(client, 1, received=1, key="k1")
    assert say(client) is None
    assert client.commit(1) == [Switched(1, WEBSOCKET)]
    assert client.state is State.ATTACHED
    assert say(client) == "a0 c1"
    assert say(client) is None


def test_a_commit_replays_from_the_received_mark() -> None:
    client = attached()
    send(client, "a", "b", "c")
    say(client)
    hello(client, 2)
    welcome(client, 2, received=2)
    hear(client, "a0 r3")
    client.commit(2)
    assert say(client, 2) == "a0 s4 c2|mc"
    # And again, back on the first.
    client.commit(1)
    assert say(client, 1) == "a0 s4 c3|mc"


def test_an_answer_on_the_connection_before_announces_nothing() -> None:
    client = attached()
    client.hello(2, WEBSOCKET, "n2", 0.0)
    welcome(client, 2, received=1)
    client.commit(2)
    hear(client, "a0 r1 q7", attempt=1)
    assert say(client, 1) == "a0 p7"
    assert say(client, 2) == "a0 c2"


def test_a_commit_that_was_overtaken_is_not_stated() -> None:
    client = attached()
    for attempt in (2, 3):
        hello(client, attempt)
        welcome(client, attempt, received=1)
    client.commit(2)
    client.commit(3)
    assert say(client, 2) is None
    assert say(client, 3) == "a0 c3"
    client.ask(2)
    assert say(client, 2) == "a0 q1"


@pytest.mark.parametrize(
    ("resume", "keys", "announced"),
    [
        # By nonce, and the welcome yields no key: somebody else may have the nonce.
        (False, [None], "a0 c2 kk1"),
        (False, ["k1"], "a0 c2"),
        (False, ["k1", None], "a0 c2"),
        # A resume has proved the key.
        (True, [None], "a0 c2"),
    ],
)
def test_a_commit_proves_the_key_where_nothing_else_has(
    resume: bool, keys: list[str | None], announced: str
) -> None:
    client = opening("0")
    hello(client, 1)
    if not resume:
        hello(client, 2)
    welcome(client, 1, received=1, key="k1")
    client.commit(1)
    if resume:
        hello(client, 2)
    for key in keys:
        welcome(client, 2, received=1, key=key)
    client.commit(2)
    assert say(client, 2) == announced


def test_nothing_carries_a_closed_session() -> None:
    client = attached()
    hello(client, 2)
    client.abort(1000, "")
    with pytest.raises(LocalProtocolError, match="attach on a closed session"):
        client.commit(2)


# -- polls ------------------------------------------------------------------------------------


def test_requests_are_numbered_through_the_session_and_state_the_commit() -> None:
    client = attached(POLLING)
    assert poll(client, wait=25) == "is1 kk1 t1 n1 w25000 a0 c1"
    assert poll(client) == "is1 kk1 t1 n2 a0 c1"
    hello(client, 2, POLLING)
    welcome(client, 2, received=1)
    client.commit(2)
    assert poll(client, wait=1.5, limit=64) == "is1 kk1 t2 n3 w1500 b64 a0 c2"


def test_messages_go_up_on_sending_requests_from_the_received_mark() -> None:
    client = attached(POLLING)
    send(client, "a", "b")
    assert poll(client, wait=25) == "is1 kk1 t1 n1 w25000 a0 c1"
    assert poll(client) == "is1 kk1 t1 n2 a0 s2 c1|ma|mb"
    hear(client, "a1 r2 s1|mx")
    send(client, "c")
    assert poll(client) == "is1 kk1 t1 n3 a0 r1 s3 c1|mb|mc"
    assert say(client) is None


@pytest.mark.parametrize(
    ("body", "sizes", "count"),
    [
        (1_000_000, [255_999, 1, 1], 2),
        (1_000_000, [256_001, 1], 1),
        (1_000_000, [0] * (REQUEST_MESSAGES + 1), REQUEST_MESSAGES),
        # Half of the server's limit: base64 and heads need room.
        (100, [49, 1, 1], 2),
        (100, [51, 1], 1),
    ],
)
def test_a_request_carries_so_much(body: int, sizes: list[int], count: int) -> None:
    client = attached(POLLING, body=body)
    send(client, *["x" * size for size in sizes])
    request = client.poll(wait=None)
    assert isinstance(request, PollRequest)
    assert len(request.envelope.messages) == count


def test_a_commit_by_polling_leaves_nothing_to_announce() -> None:
    client = attached()
    hello(client, 2, POLLING)
    welcome(client, 2, received=1)
    client.commit(2)
    poll(client)
    assert say(client, 1) is None
    assert poll(client) == "is1 kk1 t2 n2 a0 c2"


@pytest.mark.parametrize("broken", ["carrier", "id", "key"])
def test_polls_need_a_committed_connection(broken: str) -> None:
    client = attached(POLLING)
    setattr(client, broken, None)
    with pytest.raises(AssertionError):
        client.poll(wait=None)


# -- ends ------------------------------------------------------------------------------------


def ended(client: ClientMachine, code: int, ack: int = 0, received: int = 0) -> list[Event]:
    return client.ended(End(code, "why", True, ack, received))


@pytest.mark.parametrize(
    ("marks", "unconfirmed"),
    [((0, 0), "0ab"), ((1, 3), "ab"), ((2, 2), "b"), ((3, 3), ""), ((9, 9), ""), ((0, 9), "0ab")],
)
def test_an_end_reports_what_is_unconfirmed(marks: tuple[int, int], unconfirmed: str) -> None:
    client = attached()
    send(client, "a", "b")
    expected = SessionClosed(4404, "why", tuple(Message(letter) for letter in unconfirmed))
    assert ended(client, 4404, *marks) == [expected]
    assert client.state is State.CLOSED
    assert ended(client, 4404) == []


def test_an_end_that_confirms_the_close_is_what_was_asked_for() -> None:
    client = attached()
    client.close(4000, "mine", 0.0)
    assert ended(client, 4999, 2, 2) == [SessionClosed(4000, "mine", ())]


@pytest.mark.parametrize(("ack", "left"), [(0, "0"), (1, "")])
def test_an_end_that_does_not_confirm_the_close_counts(ack: int, left: str) -> None:
    client = attached()
    client.close(4000, "mine", 0.0)
    unconfirmed = tuple(Message(letter) for letter in left)
    assert ended(client, 4001, ack, 2) == [SessionClosed(4001, "why", unconfirmed)]


def test_an_end_that_confirms_everything_is_no_close_of_ours() -> None:
    client = attached()
    assert ended(client, 4408, 1, 1) == [SessionClosed(4408, "why", ())]


def test_of_crossed_closes_the_servers_counts() -> None:
    client = attached()
    client.close(4000, "mine", 0.0)
    assert hear(client, 'a1 r2 s1|c[4001,"theirs"]') == [SessionClosed(4001, "theirs", ())]
    assert client.closure == (4001, "theirs")


def test_the_subprotocol_is_the_first_welcomes() -> None:
    client = opening("0")
    client.hello(1, POLLING, "n1", 0.0)
    assert client.protocol == ""
    client.welcomed(Welcome("s1", 1, "k1", protocol="v1"), 0.0)
    client.commit(1)
    client.hello(2, WEBSOCKET, None, 0.0)
    client.welcomed(Welcome("s1", 2), 0.0)
    assert client.protocol == "v1"
