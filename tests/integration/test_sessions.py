"""A session's life: opened, resumed, switched, closed and forgotten, over both transports."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from fallback_transport.protocol.codes import CloseCode
from fallback_transport.protocol.envelope import End, Envelope, Hello, PollRequest
from fallback_transport.protocol.message import Close
from tests.client.fixtures import BINDING_PARAMS, MODE_PARAMS, TRANSPORTS, served_fixture
from tests.client.flow import carry
from tests.client.links import PollingLink, WebSocketLink
from tests.client.raw import (
    RawPolling,
    connect_message,
    event,
    new_hello,
    new_nonce,
    post,
    raw_websocket,
)
from tests.client.session import ClientSession, Ended
from tests.client.waiting import eventually
from tests.integration.served import Served

#: Another origin whose pages are welcome.
FRIEND = "https://friend.test"
served = served_fixture(BINDING_PARAMS, origins=[FRIEND])
#: Small bounds and short times.
tight = served_fixture(
    inactivity=1.0, wait=0.3, credit_messages=20, max_unconfirmed_messages=50, max_message=100_000
)

both = pytest.mark.parametrize("transport", TRANSPORTS)


def ends(server: Served, session_id: str) -> list[list[Any]]:
    """The disconnects that the handlers saw."""
    return [seen for seen in server.seen(session_id) if seen[0] == "disconnect"]


def end_by(port: int, transport: str, hello: Hello) -> End:
    """The end that answers a hello."""
    if transport == "polling":
        return post(port, hello).end()
    with raw_websocket(port) as socket:
        socket.send(hello)
        end, _, _ = socket.ended()
    assert end is not None
    return end


# -- opening ---------------------------------------------------------------------------


@both
def test_a_session_opens(served: Served, transport: str) -> None:
    with ClientSession(served.port, auth={"who": "me"}) as client:
        client.open(transport)
        assert client.accepted == {"sid": client.id}
        assert client.transport == transport
        assert client.machine.key
        assert client.machine.key not in served.log()
        assert served.seen(client.id) == [["connect", {"who": "me"}]]
        grant = client.machine.grant
        assert (grant.messages, grant.message, grant.inactivity) == (1000, 16_000_000, 120.0)


@both
def test_a_session_without_auth_opens(served: Served, transport: str) -> None:
    with ClientSession(served.port) as client:
        client.open(transport)
        assert served.seen(client.id) == [["connect", None]]


def test_the_same_hello_on_both_transports_is_one_session(served: Served) -> None:
    hello = new_hello({"hedge": 1})
    with raw_websocket(served.port) as socket:
        upper = socket.greet(hello)
        polling = RawPolling.open(served.port, hello=replace(hello, attempt=2))
        assert (polling.id, polling.key) == (upper.id, upper.key)
        polling.send(event("count", 1))
        # The WebSocket, welcomed too, is committed over it.
        socket.send(Envelope(ack=1, received=1, commit=2, seq=3, messages=(event("count", 2),)))
        eventually(lambda: len(served.seen(upper.id)) == 3)
        assert post(served.port, polling.waiting(1.0)).end().code == CloseCode.SUPERSEDED
    assert served.seen(upper.id) == [["connect", {"hedge": 1}], ["count", 1], ["count", 2]]


@both
def test_a_hello_that_is_sent_twice_is_one_session(served: Served, transport: str) -> None:
    hello = new_hello()
    welcomes = []
    for _ in range(2):
        if transport == "polling":
            welcomes.append(post(served.port, hello).welcome())
        else:
            with raw_websocket(served.port) as socket:
                welcomes.append(socket.greet(hello))
    first, second = welcomes
    assert (first.id, first.key) == (second.id, second.key)
    assert served.seen(first.id) == [["connect", None]]


def test_another_nonce_is_another_session(served: Served) -> None:
    first, second, bare, barer = (
        post(served.port, hello).welcome()
        for hello in (
            new_hello(),
            new_hello(),
            *[replace(new_hello(), nonce=None) for _ in range(2)],
        )
    )
    assert len({first.id, second.id, bare.id, barer.id}) == 4
    assert len({first.key, second.key, bare.key, barer.key}) == 4


@both
def test_a_nonce_with_another_hello_is_refused(served: Served, transport: str) -> None:
    nonce = new_nonce()
    welcome = post(served.port, new_hello({"who": "me"}, nonce=nonce)).welcome()
    end = end_by(served.port, transport, new_hello({"who": "you"}, nonce=nonce, attempt=2))
    assert (end.code, end.session) == (CloseCode.MALFORMED, False)
    assert served.seen(welcome.id) == [["connect", {"who": "me"}]]


def test_a_nonce_from_another_origin_is_refused(served: Served) -> None:
    hello = new_hello()
    here = {"Origin": served.url}
    post(served.port, hello, here).welcome()
    again = replace(hello, attempt=2)
    assert post(served.port, again, {"Origin": FRIEND}).end().code == CloseCode.MALFORMED
    # Old browsers state none with a request to their own server, but with a WebSocket.
    assert post(served.port, again).welcome().key
    assert post(served.port, again, here).welcome().key


def test_after_the_first_commit_a_repeated_hello_yields_no_key(served: Served) -> None:
    hello = new_hello()
    polling = RawPolling.open(served.port, hello=hello)
    marks = Envelope(ack=1, received=1, commit=9)
    assert post(served.port, replace(hello, attempt=2)).welcome().key is None
    for key in (None, "wrong", polling.key[:-1]):
        with raw_websocket(served.port) as socket:
            assert socket.greet(replace(hello, attempt=3)).key is None
            socket.send(marks._replace(key=key))
            assert socket.ended()[1] == CloseCode.GONE
        # The session goes on where it was.
        polling.send(event("count", key))
    with raw_websocket(served.port) as socket:
        assert socket.greet(replace(hello, attempt=4)).key is None
        socket.send(marks._replace(key=polling.key, seq=5, messages=(event("count", "proved"),)))
        eventually(lambda: ["count", "proved"] in served.seen(polling.id))
    assert [number for _, number in served.seen(polling.id)[1:]] == [
        None,
        "wrong",
        polling.key[:-1],
        "proved",
    ]


def test_until_its_commit_nothing_is_sent_on_a_connection_without_key(served: Served) -> None:
    hello = new_hello()
    polling = RawPolling.open(served.port, hello=hello)
    # Leave the polling connection without a carrier: the WebSocket takes over, and ends.
    with raw_websocket(served.port) as socket:
        socket.greet(replace(hello, attempt=2))
        socket.send(Envelope(ack=1, received=1, commit=2, key=polling.key))
        socket.send(Envelope(ack=1, received=1, seq=2, messages=(event("echo", "secret", id=1),)))
        socket.until_messages(1)
    with raw_websocket(served.port) as socket:
        assert socket.greet(replace(hello, attempt=3)).key is None
        with pytest.raises(TimeoutError):
            socket.receive(0.5)


def test_on_connect_that_takes_long_does_not_delay_the_welcome(served: Served) -> None:
    for transport in TRANSPORTS:
        before = time.monotonic()
        with ClientSession(served.port, auth={"slow": 5}) as client:
            client.greet(transport)
            assert time.monotonic() - before < 1.0
            assert client.accepted is None


@both
def test_what_is_sent_before_on_connect_has_returned_is_handled_after_it(
    served: Served, transport: str
) -> None:
    with ClientSession(served.port, auth={"slow": 0.3}) as client:
        client.switch(transport)
        client.emit("count", 1)
        assert client.request("echo", 2) == 2
        assert client.accepted
        assert served.seen(client.id) == [["connect", {"slow": 0.3}], ["count", 1]]


@both
def test_on_connect_may_send(served: Served, transport: str) -> None:
    with ClientSession(served.port, auth={"emit": 7}) as client:
        client.open(transport)
        assert client.named("early") == [7]


@both
@pytest.mark.parametrize(
    ("told", "code", "reason"),
    [
        ([4003, "not you"], 4003, "not you"),
        ([], 4401, "refused"),
        ([4000, "ü" * 61], 4000, "ü" * 61),
    ],
    ids=["code", "default", "long"],
)
def test_on_connect_refuses(
    served: Served, transport: str, told: list[Any], code: int, reason: str
) -> None:
    with ClientSession(served.port, auth={"refuse": told}) as client:
        client.switch(transport)
        assert client.wait_closed() == (code, reason)
        assert client.accepted is None
        assert client.refused == {"message": reason, "data": {"code": code, "reason": reason}}
        # Nobody was connected, so nobody is disconnected.
        eventually(lambda: f"session {client.id} ended" in served.log())
        assert ends(served, client.id) == []


@both
def test_on_connect_that_raises_ends_the_session(served: Served, transport: str) -> None:
    before = served.log().count("RuntimeError: the connect handler was told to raise")
    with ClientSession(served.port, auth={"crash": 1}) as client:
        client.switch(transport)
        assert client.wait_closed() == (CloseCode.INTERNAL_ERROR, "the connect handler raised")
        assert served.seen(client.id)[0] == ["connect", {"crash": 1}]
    # The client may hear of it before the log does.
    text = "RuntimeError: the connect handler was told to raise"
    eventually(lambda: served.log().count(text) > before)
    assert served.log().count(text) == before + 1


def test_on_connect_that_raises_a_type_error_runs_once(served: Served) -> None:
    # python-socketio takes that for a handler of an older kind, and calls it again.
    with ClientSession(served.port, headers={"X-Connect": "TypeError"}) as client:
        client.switch("websocket")
        assert client.wait_closed()[0] == CloseCode.INTERNAL_ERROR
        assert [seen for seen in served.seen(client.id) if seen[0] == "connect"] == [
            ["connect", None]
        ]


# -- ids and keys ----------------------------------------------------------------------


@both
def test_a_wrong_key_and_an_unknown_id_are_answered_alike(served: Served, transport: str) -> None:
    polling = RawPolling.open(served.port)
    unknown = polling.id[:-1] + ("x" if polling.id[-1] != "x" else "y")
    hellos = [
        Hello(2, id=polling.id, key="wrong"),
        Hello(2, id=unknown, key=polling.key),
        Hello(2, id=unknown, key="wrong"),
    ]
    gone = End(CloseCode.GONE, "no such session", True)
    assert [end_by(served.port, transport, hello) for hello in hellos] == [gone] * 3
    for id, key in ((polling.id, "wrong"), (unknown, polling.key)):
        reply = post(served.port, PollRequest(id, key, 1, 99, envelope=polling.marks()))
        assert (reply.status, reply.end()) == (200, gone)
    # And it has touched nothing.
    polling.send(event("count", 1))
    eventually(lambda: len(served.seen(polling.id)) >= 2)
    assert served.seen(polling.id) == [["connect", None], ["count", 1]]


@both
def test_another_processs_session_is_misdirected(served: Served, transport: str) -> None:
    hello = Hello(1, id="abcdef.0123456789", key="key")
    end = end_by(served.port, transport, hello)
    assert (end.code, end.session) == (CloseCode.MISDIRECTED, False)
    if transport == "polling":
        assert post(served.port, hello).status == 421


def test_a_server_that_was_restarted_says_so() -> None:
    with Served("eventlet") as server, ClientSession(server.port) as client:
        client.open()
        server.end()
        client.wait_for(lambda: client.transport is None)
        server.start()
        with pytest.raises(Ended) as ended:
            client.open("polling")
        # At the same address: it knows that it is alone there.
        assert (ended.value.end.code, ended.value.end.session) == (CloseCode.GONE, True)


# -- resuming and switching ------------------------------------------------------------


@pytest.mark.parametrize("after", TRANSPORTS)
@pytest.mark.parametrize("before", TRANSPORTS)
def test_a_session_is_resumed(served: Served, before: str, after: str) -> None:
    with ClientSession(served.port) as client, ClientSession(served.port) as other:
        other.open()
        client.open(before)
        client.emit("count", 1)
        client.cut()
        # While nothing carries it, both sides go on.
        for number in range(2, 52):
            client.emit("count", number)
            other.emit("broadcast", {"data": number, "to": client.id})
        other.request("nothing", None)
        client.open(after)
        client.wait_for(lambda: len(client.named("broadcast")) == 50)
        client.request("nothing", None)
        assert client.named("broadcast") == list(range(2, 52))
        assert served.seen(client.id) == [
            ["connect", None],
            *[["count", number] for number in range(1, 52)],
            ["nothing", None],
        ]
        assert client.breaches == []


def test_on_connect_and_on_disconnect_run_once_over_many_reconnects(
    served: Served, rng: random.Random
) -> None:
    with ClientSession(served.port) as client:
        client.open()
        for number in range(15):
            client.emit("count", number)
            client.cut()
            client.open(rng.choice(TRANSPORTS))
        client.close(4001, "enough")
        client.wait_closed()
        kinds = [seen[0] for seen in served.seen(client.id)]
        assert kinds == ["connect", *["count"] * 15, "disconnect"]


def test_switches_while_messages_flow_lose_nothing(served: Served, rng: random.Random) -> None:
    with ClientSession(served.port) as client:

        def switch() -> None:
            client.switch("polling" if client.transport == "websocket" else "websocket")

        client.open()
        moments = sorted(rng.sample(range(1, 600), 14))
        carry(served, client, 600, moments, switch)
        # Each connection was ended because another carries, and for nothing else.
        links = [link for link in client._links.values() if link is not client.link]
        client.wait_for(lambda: all(link.over for link in links))
        for link in links:
            if isinstance(link, PollingLink):
                assert link.close_code in (None, CloseCode.SUPERSEDED)
                assert link.failures == []
            else:
                assert link.close_code == CloseCode.SUPERSEDED


def test_a_websocket_that_is_killed_at_random_loses_nothing(
    served: Served, rng: random.Random
) -> None:
    with ClientSession(served.port) as client:

        def kill() -> None:
            client.cut()
            client.open("websocket")

        client.open()
        carry(served, client, 2000, sorted(rng.sample(range(1, 2000), 20)), kill)


def test_polls_that_are_cut_at_random_lose_nothing(served: Served, rng: random.Random) -> None:
    with ClientSession(served.port) as client:

        def kill() -> None:
            client.cut()
            client.open(rng.choice(["polling", "polling", "websocket"]))

        client.open("polling")
        carry(served, client, 500, sorted(rng.sample(range(1, 500), 20)), kill)


# -- closing ---------------------------------------------------------------------------


@both
def test_the_client_closes(served: Served, transport: str) -> None:
    with ClientSession(served.port) as client:
        client.open(transport)
        for number in range(10):
            client.emit("count", number)
        client.close(4001, "bye — ü")
        assert client.wait_closed() == (4001, "bye — ü")
        assert client.unconfirmed == ()
        # Behind all messages, and told by the time the client hears of it.
        assert served.seen(client.id) == [
            ["connect", None],
            *[["count", number] for number in range(10)],
            ["disconnect", 4001, "bye — ü"],
        ]


@both
def test_the_server_closes(served: Served, transport: str) -> None:
    with ClientSession(served.port) as client:
        client.open(transport)
        client.emit("broadcast", {"data": 1, "to": client.id})
        client.emit("close", [4002, "the server is tired"])
        assert client.wait_closed() == (4002, "the server is tired")
        assert client.named("broadcast") == [1]
        assert eventually(lambda: ends(served, client.id)) == [
            ["disconnect", 4002, "the server is tired"]
        ]
        client.wait_for(lambda: all(link.over for link in client._links.values()))


#: The first and last of what a browser's `close()` takes, what it means without an argument, and
#: the longest reasons: 123 bytes, of characters of one to four bytes.
CLOSES = [
    (1000, ""),
    (1005, ""),
    (3000, ""),
    (3000, "x" * 123),
    (4999, "é" * 61 + "x"),
    (4000, "\u20ac" * 41),
    (4001, "\U0001f600" * 30 + "abc"),
    (4002, '\0\x1e\n"\\\u2028'),
]


@both
def test_code_and_reason_reach_the_other_side_whole(served: Served, transport: str) -> None:
    for closure in CLOSES:
        with ClientSession(served.port) as by_client, ClientSession(served.port) as by_server:
            by_client.open(transport)
            by_server.open(transport)
            by_client.close(*closure)
            by_server.emit("close", closure)
            for client in (by_client, by_server):
                assert client.wait_closed() == closure
                eventually(lambda client=client: ends(served, client.id))
                assert ends(served, client.id) == [["disconnect", *closure]]


@both
def test_a_close_arrives_over_a_resumed_connection(served: Served, transport: str) -> None:
    with ClientSession(served.port) as client:
        client.open()
        client.emit("close later", [4002, "while you were away"])
        client.wait_for(lambda: client.machine.outbox.received == 2)
        client.cut()
        eventually(lambda: ["closing"] in served.seen(client.id))
        client.open(transport)
        assert client.wait_closed() == (4002, "while you were away")
        assert eventually(lambda: ends(served, client.id)) == [
            ["disconnect", 4002, "while you were away"]
        ]


def test_of_crossed_closes_the_servers_code_counts_on_the_server(served: Served) -> None:
    with raw_websocket(served.port) as socket:
        welcome = socket.open()
        socket.send(Envelope(1, 1, seq=2, messages=(event("close", [4001, "server"]),)))
        # Its close is here, and not acknowledged: ours crosses it.
        while not any(isinstance(item, Close) for item in socket.envelope().messages):
            pass
        socket.send(Envelope(1, 1, seq=3, messages=(Close(4002, "client"),)))
        end, code, _ = socket.ended()
    assert end is not None
    assert (end.code, end.reason, end.session) == (4001, "server", True)
    assert code == CloseCode.NORMAL
    assert eventually(lambda: ends(served, welcome.id)) == [["disconnect", 4001, "server"]]


@both
def test_of_crossed_closes_the_servers_code_counts_on_the_client(
    served: Served, transport: str
) -> None:
    with ClientSession(served.port) as client:
        client.open()
        client.emit("close later", [4001, "server"])
        client.wait_for(lambda: client.machine.outbox.received == 2)
        client.cut()
        client.close(4002, "client")
        eventually(lambda: ["closing"] in served.seen(client.id))
        # Its hello carries the close, so that the answer is the session's end.
        with pytest.raises(Ended) as ended:
            client.open(transport)
        assert ended.value.end.session
        assert client.wait_closed() == (4001, "server")
        assert eventually(lambda: ends(served, client.id)) == [["disconnect", 4001, "server"]]


def test_a_close_that_nobody_confirms_ends_the_session() -> None:
    with Served() as served, ClientSession(served.port) as client:
        client.open()
        client.emit("close later", [4001, "nobody hears"])
        client.wait_for(lambda: client.machine.outbox.received == 2)
        client.cut()
        eventually(lambda: ["closing"] in served.seen(client.id))
        before = time.monotonic()
        assert eventually(lambda: ends(served, client.id)) == [["disconnect", 4001, "nobody hears"]]
        assert 4.0 < time.monotonic() - before < 7.0


def test_late_requests_get_the_end_from_the_tombstone(served: Served) -> None:
    hello = new_hello()
    polling = RawPolling.open(served.port, hello=hello)
    polling.send(event("close", [4002, "over"]))
    while (reply := post(served.port, polling.waiting(5.0))).unit and not isinstance(
        reply.unit, End
    ):
        polling.take(reply.envelope())
    expected = reply.end()
    assert (expected.code, expected.reason, expected.session) == (4002, "over", True)
    # CONNECT and the event were handled.
    assert (expected.ack, expected.received) == (2, 2)
    assert post(served.port, polling.waiting(5.0)).end() == expected
    assert polling.send(event("count", 1)).end() == expected
    resume = Hello(2, id=polling.id, key=polling.key)
    for transport in TRANSPORTS:
        assert end_by(served.port, transport, resume) == expected
        assert end_by(served.port, transport, replace(hello, attempt=3)) == expected
        assert end_by(served.port, transport, replace(resume, key="wrong")).code == CloseCode.GONE
    assert [seen[0] for seen in served.seen(polling.id)] == ["connect", "disconnect"]


# -- bounds ----------------------------------------------------------------------------


def test_an_inactive_session_ends(tight: Served) -> None:
    with ClientSession(tight.port) as upper, ClientSession(tight.port) as lower:
        clients = {"websocket": upper, "polling": lower}
        for transport, client in clients.items():
            client.open(transport)
            client.emit("count", 1)
            client.request("nothing", None)
            client.cut()
        before = time.monotonic()
        for transport, client in clients.items():
            told = eventually(partial(ends, tight, client.id))
            assert [seen[:2] for seen in told] == [["disconnect", CloseCode.INACTIVE]]
            # A poll that was held counts until its end.
            assert 0.8 < time.monotonic() - before < 4.0
            with pytest.raises(Ended) as ended:
                client.open(transport)
            assert (ended.value.end.code, ended.value.end.session) == (CloseCode.INACTIVE, True)
            assert client.wait_closed()[0] == CloseCode.INACTIVE
            assert len(ends(tight, client.id)) == 1


def test_a_connection_that_was_welcomed_and_no_more_does_not_keep_a_session(tight: Served) -> None:
    with raw_websocket(tight.port) as socket:
        welcome = socket.greet(new_hello())
        before = time.monotonic()
        end, _, _ = socket.ended()
        assert end is not None
        assert (end.code, end.session) == (CloseCode.INACTIVE, True)
        assert 0.8 < time.monotonic() - before < 4.0
    assert len(eventually(lambda: ends(tight, welcome.id))) == 1


def test_a_hello_with_a_gap_leaves_no_session_behind(tight: Served) -> None:
    eventually(lambda: tight.get("/state")["sessions"] == 0)
    gap = Hello(1, new_nonce(), envelope=Envelope(seq=2, messages=(connect_message(),)))
    reply = post(tight.port, gap)
    assert (reply.status, reply.end().code) == (400, CloseCode.PROTOCOL_ERROR)
    with raw_websocket(tight.port) as socket:
        socket.send(replace(gap, nonce=new_nonce()))
        end, code, _ = socket.ended()
        assert (end and end.code, code) == (CloseCode.PROTOCOL_ERROR, CloseCode.PROTOCOL_ERROR)
    eventually(lambda: tight.get("/state")["sessions"] == 0, 5.0)


@both
def test_a_client_that_confirms_nothing_is_told_that_it_is_too_much(
    tight: Served, transport: str
) -> None:
    with ClientSession(tight.port) as client:
        client.open(transport)
        client.holding = True
        client.emit("produce", {"number": 100})
        code, reason = client.wait_closed()
        assert code == CloseCode.TOO_MANY
        assert reason.startswith("50 messages, ")
        assert eventually(lambda: ends(tight, client.id)) == [["disconnect", code, reason]]


@both
def test_an_outbox_that_overflows_while_nothing_carries_it(tight: Served, transport: str) -> None:
    with ClientSession(tight.port) as client:
        client.open("websocket")
        client.emit("produce", {"number": 100, "pause": 0.005})
        client.wait_for(lambda: client.received)
        client.cut()
        assert eventually(lambda: ends(tight, client.id))[0][1] == CloseCode.TOO_MANY
        with pytest.raises(Ended) as ended:
            client.open(transport)
        assert ended.value.end.code == CloseCode.TOO_MANY
        assert client.wait_closed()[0] == CloseCode.TOO_MANY


@both
def test_more_than_the_credit_ends_the_session(tight: Served, transport: str) -> None:
    counts = [event("count", number) for number in range(25)]
    if transport == "polling":
        polling = RawPolling.open(tight.port)
        reply = polling.send(event("sleep", 1.0), *counts)
        end, session_id = reply.end(), polling.id
        assert reply.status == 200
    else:
        with raw_websocket(tight.port) as socket:
            session_id = socket.open().id
            socket.send(Envelope(1, 1, seq=2, messages=(event("sleep", 1.0), *counts)))
            found, _, _ = socket.ended()
            assert found is not None
            end = found
    assert (end.code, end.session) == (CloseCode.TOO_MANY, True)
    # What was not begun is not handled, and the end says so.
    assert (end.ack, end.received) == (1, 27)
    told = eventually(lambda: ends(tight, session_id))
    assert [seen[1] for seen in told] == [CloseCode.TOO_MANY]
    assert [seen[0] for seen in tight.seen(session_id)] == ["connect", "disconnect"]


@both
def test_a_client_keeps_to_its_credit(tight: Served, transport: str) -> None:
    with ClientSession(tight.port) as client:
        client.open(transport)
        assert client.machine.grant.messages == 20
        client.emit("sleep", 0.2)
        for number in range(200):
            client.emit("count", number)
        client.request("nothing", None)
        counted = [seen[1] for seen in tight.seen(client.id) if seen[0] == "count"]
        assert counted == list(range(200))


@pytest.mark.parametrize("mode", MODE_PARAMS)
def test_a_server_that_is_full_says_come_again(mode: str) -> None:
    with (
        Served(mode, max_sessions=2) as server,
        ClientSession(server.port) as first,
        ClientSession(server.port) as second,
        ClientSession(server.port) as third,
    ):
        first.open("websocket")
        second.open("polling")
        reply = post(server.port, new_hello())
        assert reply.status == 503
        assert 5 <= int(reply.headers["Retry-After"]) <= 10
        assert (reply.end().code, reply.end().session) == (CloseCode.TRY_AGAIN_LATER, False)
        with raw_websocket(server.port) as socket:
            socket.send(new_hello())
            end, code, _ = socket.ended()
            assert end == reply.end()
            assert code == CloseCode.TRY_AGAIN_LATER
        # Those that are there can resume, and one that leaves makes room.
        first.cut()
        first.open("polling")
        first.close()
        first.wait_closed()
        third.open("websocket")
        assert isinstance(third.link, WebSocketLink)


@pytest.mark.parametrize("mode", BINDING_PARAMS)
def test_a_websocket_that_is_over_is_not_left_to_the_garbage_collector(mode: str) -> None:
    """What thousands leave between two collections would have their sessions with it."""
    with Served(mode) as server:
        server.get("/state")
        assert server.get("/websockets") == {"number": 0}
        for number in range(5):
            with ClientSession(server.port).open("websocket") as client:
                assert client.request("echo", number) == number
                if number % 2:
                    client.close(1000, "")
                    client.wait_closed()
        eventually(lambda: server.get("/websockets") == {"number": 0})
