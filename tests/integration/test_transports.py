"""What both transports carry, and what each does when the network repeats, delays or loses."""

from __future__ import annotations

import http.client
import itertools
import random
import socket as sockets
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from websockets.exceptions import InvalidHandshake, InvalidStatus

from fallback_transport.protocol import codec
from fallback_transport.protocol.codes import CloseCode
from fallback_transport.protocol.envelope import End, Envelope, PollRequest
from fallback_transport.protocol.errors import MessageRefused
from fallback_transport.protocol.server import DOUBT, REPEATED
from tests.client.fixtures import BINDING_PARAMS, MODE_PARAMS, TRANSPORTS, served_fixture
from tests.client.flow import carry
from tests.client.links import PollingLink
from tests.client.raw import (
    RawPolling,
    Reply,
    event,
    new_hello,
    polling_headers,
    post,
    raw_websocket,
    texts,
)
from tests.client.session import ClientSession
from tests.client.waiting import eventually
from tests.integration.served import Served
from tests.proxies.fault_process import FaultProxy
from tests.proxies.faults import Delay, Duplicate, Gateway, LostReply, Truncate
from tests.proxies.rules import Rule

FRIEND = "https://friend.example"

served = served_fixture(BINDING_PARAMS, origins=[FRIEND])

both = pytest.mark.parametrize("transport", TRANSPORTS)


@pytest.fixture(scope="module")
def proxied(served: Served) -> Iterator[FaultProxy]:
    """A network before the server; what is wrong with it is up to each test."""
    with FaultProxy(served.port) as proxy:
        yield proxy


@pytest.fixture
def proxy(proxied: FaultProxy) -> Iterator[FaultProxy]:
    """The same, with nothing wrong."""
    yield proxied
    proxied.clear()


def held(server: Served, session_id: str) -> list[int]:
    """The numbers of the requests that the server holds."""
    numbers: list[int] = server.get(f"/held?session={session_id}")
    return numbers


@contextmanager
def beside(server: Served, *requests: PollRequest) -> Iterator[list[Future[Reply]]]:
    """Waiting requests, each made by a thread, in this order and once the one before is held."""
    with ThreadPoolExecutor(len(requests)) as threads:
        futures = []
        for request in requests:
            before = held(server, request.id)
            futures.append(threads.submit(post, server.port, request))
            eventually(partial(_holds_more, server, request.id, len(before)))
        yield futures


def _holds_more(server: Served, session_id: str, than: int) -> bool:
    return len(held(server, session_id)) > than


# -- messages --------------------------------------------------------------------------

EVERY_BYTE = bytes(range(256))
MESSAGES: dict[str, str | bytes] = {
    "text": "hello",
    "unicode": "ü € 😀 \u2028",
    "empty text": "",
    "separator": "a\x1eb\x1e",
    "control characters": "\x00\x01\r\n\x7f",
    "lone surrogate": "\ud83d and \udc00",
    "looks like a frame": '2["message","x"]\x1em2[]',
    "every byte": EVERY_BYTE,
    "no bytes": b"",
    "separators in bytes": b"\x1e\x1e.",
}


@both
def test_every_message_comes_back_as_it_went(served: Served, transport: str) -> None:
    with ClientSession(served.port) as client:
        client.open(transport)
        for data in MESSAGES.values():
            client.send(data)
        client.wait_for(lambda: len(client.received) == len(MESSAGES))
        assert client.named("message") == list(MESSAGES.values())
        for data in MESSAGES.values():
            assert client.request("echo", data) == data
        nested = {"list": [1, 2.5, None, True, {"x": EVERY_BYTE}], "bytes": [b"", b"\x00"]}
        assert client.request("echo", nested) == nested


@both
def test_large_messages_go_both_ways(served: Served, transport: str, rng: random.Random) -> None:
    text = "".join(rng.choices("abc 123", k=1000)) * 999
    data = rng.randbytes(1_000_000)
    with ClientSession(served.port) as client:
        client.open(transport)
        for each in (text, data):
            assert client.request("echo", each) == each
        # Several at once: more than one envelope holds, and more than the client's credit.
        for _ in range(6):
            client.send(data)
            client.send("between")
        client.wait_for(lambda: len(client.received) == 12)
        assert client.named("message") == [data, "between"] * 6
        with pytest.raises(MessageRefused):
            client.send("x" * 16_000_000)
        with pytest.raises(MessageRefused):
            client.send(data * 16 + b"x")
        # The largest there is, and text of pairs that must not be cut.
        for huge in (data * 16, "\N{GRINNING FACE}é" * 600_000):
            assert client.request("echo", huge, timeout=60) == huge
        assert served.seen(client.id) == [["connect", None]]


@both
def test_a_small_body_limit_makes_small_envelopes(transport: str, rng: random.Random) -> None:
    data = rng.randbytes(300_000)
    with Served("eventlet", max_body=16_384) as served, ClientSession(served.port) as client:
        client.open(transport)
        for each in (data, "x" * 300_000, "\x1e" * 3000):
            assert client.request("echo", each) == each
        assert client.losses == []
        assert "4413" not in served.log()


@both
def test_two_hundred_messages_in_one_tick(served: Served, transport: str) -> None:
    with ClientSession(served.port) as client:
        client.open(transport)
        with client.changed:
            for number in range(200):
                client.emit("count", number)
        client.request("nothing", None)
        counted = [seen[1] for seen in served.seen(client.id) if seen[0] == "count"]
        assert counted == list(range(200))


def test_a_large_answer_is_compressed_where_it_is_accepted(served: Served) -> None:
    polling = RawPolling.open(served.port)
    words = "compressible " * 2000
    for accept in ("gzip, deflate", "br", ""):
        polling.send(event("message", words), event("message", "short"))
        eventually(lambda: polling.send().envelope().ack == polling.sent)
        headers = {"Accept-Encoding": accept} if accept else {"Accept-Encoding": "identity"}
        reply = post(served.port, polling.waiting(5.0), headers)
        assert polling.take(reply.envelope()) == [
            '2["message",' + f'"{words}"]',
            '2["message","short"]',
        ]
        compressed = "gzip" in accept
        assert (reply.headers["Content-Encoding"] == "gzip") == compressed
        assert (reply.headers["Vary"] == "Accept-Encoding") == compressed
        assert (int(reply.headers["Content-Length"]) < 2000) == compressed
    polling.send(event("message", "short"))
    short = post(served.port, polling.waiting(5.0), {"Accept-Encoding": "gzip"})
    assert short.headers["Content-Encoding"] is None


# -- a WebSocket that goes nowhere -----------------------------------------------------


def test_one_message_that_does_not_arrive_is_noticed_soon(served: Served) -> None:
    """Of a page at rest, that only listens: nothing else happens in its session."""
    with raw_websocket(served.port) as mute:
        mute.open()
        # What was waited for as it began has its time, too.
        time.sleep(2 * DOUBT)
        RawPolling.open(served.port).send(event("broadcast", {"data": "news"}))
        before = time.monotonic()
        [news] = mute.until_messages(1)
        end, code, reason = mute.ended()
        assert time.monotonic() - before < 2 * DOUBT + 3.0
    assert news == '2["broadcast","news"]'
    assert (end, code, reason) == (None, 4408, "what was sent is not received")


def test_what_came_before_the_commit_and_did_not_arrive_is_noticed_as_soon(served: Served) -> None:
    """The first that a page is sent, mostly: of a session that says nothing more."""
    with raw_websocket(served.port) as mute:
        mute.greet(new_hello())
        mute.until_messages(1)
        mute.send(Envelope(commit=1))
        before = time.monotonic()
        ended = mute.ended()
        assert time.monotonic() - before < 2 * DOUBT + 3.0
    assert ended == (None, 4408, "what was sent is not received")


# -- polls that are repeated, aborted, late --------------------------------------------


def test_a_sending_request_that_is_made_twice_runs_the_handlers_once(served: Served) -> None:
    polling = RawPolling.open(served.port)
    request = polling.sending([event("step", [number, 0.01]) for number in range(5)])
    with ThreadPoolExecutor(4) as threads:
        replies = list(threads.map(partial(post, served.port), [request] * 4))
    replies.append(post(served.port, request))
    for reply in replies:
        assert reply.status == 200
        assert (reply.envelope().received, reply.envelope().messages) == (6, ())
    polling.send(event("nothing", "the last"))
    eventually(lambda: ["nothing", "the last"] in served.seen(polling.id))
    assert served.seen(polling.id) == [
        ["connect", None],
        *[["step", number] for number in range(5)],
        ["nothing", "the last"],
    ]


def test_a_waiting_request_that_is_made_twice_gets_one_answer(served: Served) -> None:
    polling = RawPolling.open(served.port)
    request = polling.waiting(10.0)
    with beside(served, request, request) as (first, second):
        polling.send(event("message", "news"))
        answers = [first.result().body, second.result().body]
    assert answers[0] == answers[1]
    assert b"news" in answers[0]
    # Once more, after its answer: the message was not received as far as the server knows.
    assert texts(post(served.port, request).envelope()) == ['2["message","news"]']


def test_a_held_request_that_comes_again_late_is_let_go(served: Served) -> None:
    """A browser repeats by itself what was cut; its page would else never know of the cut."""
    polling = RawPolling.open(served.port)
    request = polling.waiting(20.0)
    before = time.monotonic()
    with beside(served, request) as (first,):
        time.sleep(REPEATED)
        assert post(served.port, request).envelope().messages == ()
        assert first.result().envelope().messages == ()
    assert time.monotonic() - before < 10.0
    polling.send(event("message", "news"))
    assert polling.until(1) == ['2["message","news"]']


def test_a_higher_number_releases_the_held_request(served: Served) -> None:
    polling = RawPolling.open(served.port)
    lower, higher = polling.waiting(10.0), polling.waiting(10.0)
    with beside(served, lower) as (first,), ThreadPoolExecutor(1) as threads:
        second = threads.submit(post, served.port, higher)
        assert first.result().envelope().messages == ()
        eventually(lambda: held(served, polling.id) == [higher.number])
        # A late one is answered at once, empty, and releases nothing.
        before = time.monotonic()
        assert post(served.port, lower).envelope().messages == ()
        assert time.monotonic() - before < 2.0
        assert not second.done()
        polling.send(event("message", "news"))
        assert texts(second.result().envelope()) == ['2["message","news"]']


def test_a_late_request_gets_no_messages(served: Served) -> None:
    polling = RawPolling.open(served.port)
    late = polling.waiting(10.0)
    assert polling.poll(0.0) == []
    polling.send(event("message", "news"))
    eventually(lambda: polling.send().envelope().ack == 2)
    assert post(served.port, late).envelope().messages == ()
    assert polling.until(1) == ['2["message","news"]']


def test_a_request_is_held_for_the_time_that_it_names(served: Served) -> None:
    polling = RawPolling.open(served.port)
    before = time.monotonic()
    assert polling.poll(0.3) == []
    assert 0.29 < time.monotonic() - before < 2.0


def test_a_poll_that_the_client_gives_up_takes_no_message_with_it(served: Served) -> None:
    polling = RawPolling.open(served.port)
    connection = http.client.HTTPConnection("127.0.0.1", served.port)
    body = codec.encode_body(polling.waiting(10.0))
    connection.request("POST", "/fallback/poll", body, polling_headers())
    eventually(lambda: held(served, polling.id))
    connection.close()
    polling.send(event("message", "news"))
    # The server has answered the request that nobody waits for.
    eventually(lambda: not held(served, polling.id))
    assert polling.until(1) == ['2["message","news"]']


def test_an_answer_that_is_lost_costs_nothing(served: Served) -> None:
    polling = RawPolling.open(served.port)
    request = polling.sending([event("count", 1), event("message", "news")])
    with closing(http.client.HTTPConnection("127.0.0.1", served.port)) as connection:
        connection.request("POST", "/fallback/poll", codec.encode_body(request), polling_headers())
        eventually(lambda: len(served.seen(polling.id)) == 2)
    # Its client does not know: it sends the same messages again, in another request.
    again = request._replace(number=next(polling.numbers))
    assert post(served.port, again).envelope().received == 3
    lost = polling.waiting(5.0)
    assert texts(post(served.port, lost).envelope()) == ['2["message","news"]']
    assert polling.until(1) == ['2["message","news"]']
    assert served.seen(polling.id) == [["connect", None], ["count", 1]]


def test_an_answer_has_as_many_bytes_as_were_asked_for(served: Served) -> None:
    polling = RawPolling.open(served.port)
    polling.send(*[event("message", "x" * 1000) for _ in range(7)])
    eventually(lambda: polling.send().envelope().ack == polling.sent)
    counts = [len(polling.poll(5.0, limit=limit)) for limit in (2500, 1, 0, 3500)]
    assert counts == [2, 1, 1, 3]


def test_a_hello_that_comes_again_late_does_not_orphan_the_held_poll(served: Served) -> None:
    hello = new_hello()
    polling = RawPolling.open(served.port, hello=hello)
    with beside(served, polling.waiting(10.0)) as (waiting,):
        assert post(served.port, hello).welcome().key is None
        before = time.monotonic()
        polling.send(event("message", "news"))
        assert texts(waiting.result().envelope()) == ['2["message","news"]']
        assert time.monotonic() - before < 3.0


def test_a_request_that_a_switch_overtook_has_delivered(served: Served) -> None:
    polling = RawPolling.open(served.port)
    with raw_websocket(served.port) as socket:
        hello = replace(new_hello(), attempt=2, nonce=None, id=polling.id, key=polling.key)
        socket.greet(replace(hello, envelope=Envelope(1, 1)))
        socket.send(Envelope(1, 1, commit=2))
        eventually(lambda: "connection 1 ends: 4409" in served.log().split(polling.id)[-1])
        reply = polling.send(event("count", 1))
        assert (reply.status, reply.end().code, reply.end().session) == (200, 4409, False)
        assert reply.end().received == 2
        eventually(lambda: ["count", 1] in served.seen(polling.id))


def test_polls_beyond_what_may_be_held_are_answered_at_once() -> None:
    with Served("threading", max_held_polls=1) as server:
        first, second = RawPolling.open(server.port), RawPolling.open(server.port)
        with beside(server, first.waiting(10.0)) as (waiting,):
            before = time.monotonic()
            assert second.poll(10.0) == []
            assert time.monotonic() - before < 2.0
            first.send(event("message", "news"))
            assert texts(waiting.result().envelope()) == ['2["message","news"]']
        second.send(event("message", "news"))
        assert second.until(1) == ['2["message","news"]']


@pytest.mark.parametrize(
    "rule",
    [
        Rule(LostReply(), every=3, path="poll"),
        Rule(LostReply("fin"), every=3, path="poll"),
        Rule(Duplicate(), path="poll"),
        Rule(Duplicate("sequential", answer="first", gap=0.05), every=2, path="poll"),
        Rule(Truncate(0.5, visible=False), every=3, path="poll"),
        Rule(Truncate(0.9), every=3, path="poll"),
        Rule(Gateway(504), every=3, path="poll"),
        Rule(Delay(up=0.05), every=4, path="poll"),
    ],
    ids=lambda rule: rule.fault.name,
)
def test_polling_loses_nothing_on_a_network_that_does(
    served: Served, proxy: FaultProxy, rule: Rule
) -> None:
    before = proxy.statistics().faults.get(rule.fault.name, 0)
    with ClientSession(proxy.port) as client:
        client.open("polling")
        proxy.rules(rule)
        carry(served, client, 150)
        assert proxy.statistics().faults[rule.fault.name] > before + 1
        link = client.link
        assert isinstance(link, PollingLink)
        if isinstance(rule.fault, (LostReply, Truncate, Gateway)):
            assert link.failures
        else:
            assert link.failures == []


def test_websockets_that_are_reset_lose_nothing(
    served: Served, proxy: FaultProxy, rng: random.Random
) -> None:
    with ClientSession(proxy.port) as client:
        client.open()

        def reset() -> None:
            proxy.kill("rst")
            client.wait_for(lambda: client.transport is None)
            client.open()

        carry(served, client, 400, sorted(rng.sample(range(1, 400), 8)), reset)


# -- WebSockets ------------------------------------------------------------------------


def _answered(client: ClientSession, count: int) -> bool:
    return len(client.answered) == count


def test_a_question_is_answered_while_a_handler_is_busy(served: Served) -> None:
    with ClientSession(served.port) as client:
        client.open()
        busy = client.ask_for("sleep", 1.0)
        client.wait_for(lambda: client.machine.outbox.received == 2)
        for count in range(1, 4):
            client.probe()
            client.wait_for(partial(_answered, client, count))
        assert not client.replied_to(busy)
        assert client.reply_to(busy) == 1.0


def test_a_sending_request_is_answered_while_a_handler_is_busy(served: Served) -> None:
    polling = RawPolling.open(served.port)
    polling.send(event("sleep", 1.0))
    # And says that the handler of what came before is not done.
    assert polling.send(event("count", 1)).envelope().ack == 1


def test_the_server_asks_a_websocket_that_is_silent() -> None:
    with Served(keepalive=0.5) as server, raw_websocket(server.port) as socket:
        socket.open()
        times = []
        for _ in range(3):
            asked = socket.envelope()
            while asked.ask is None:
                asked = socket.envelope()
            times.append(time.monotonic())
            socket.send(Envelope(1, 1, answer=asked.ask))
        # Half a second behind each answer; were silence still waited for, it would be six.
        assert all(0.4 < later - sooner < 2 for sooner, later in itertools.pairwise(times))


def test_an_ack_waits_for_a_message_only_so_long(served: Served) -> None:
    with ClientSession(served.port) as client:
        client.open()
        # Until the ack of CONNECT is under way, whatever it rode on.
        client.request("nothing", 1)
        client.wait_for(lambda: len(client.machine.outbox) == 0)
        delays = []
        for number in range(3):
            before = time.monotonic()
            client.emit("count", number)
            client.wait_for(lambda: len(client.machine.outbox) == 0)
            delays.append(time.monotonic() - before)
        # 200 ms, and what a machine that is busy now and then adds to that.
        assert 0.1 < min(delays) < 0.3


def test_a_gap_ends_the_connection_and_not_the_session(served: Served) -> None:
    with raw_websocket(served.port) as socket:
        welcome = socket.open()
        socket.send(Envelope(1, 1, seq=9, messages=(event("count", 9),)))
        end, code, _ = socket.ended()
        assert end is not None
        assert (end.code, end.session, end.received, code) == (1002, False, 1, 1002)
    polling = RawPolling(served.port, welcome, attempt=2, commit=2, received=1)
    resume = replace(new_hello(attempt=2), id=welcome.id, key=welcome.key, nonce=None)
    post(served.port, replace(resume, envelope=Envelope(1, 1))).welcome()
    polling.send(event("count", 1))
    eventually(lambda: ["count", 1] in served.seen(welcome.id))
    reply = post(served.port, polling.sending([event("count", 2)])._replace(number=99))
    gap = polling.sending([event("count", 3), event("count", 4)])
    gap = gap._replace(envelope=gap.envelope._replace(seq=20))
    assert reply.status == 200
    reply = post(served.port, gap)
    assert (reply.status, reply.end().code, reply.end().session) == (400, 1002, False)
    seen = [["connect", None], ["count", 1], ["count", 2]]
    # A message is answered for when it is received, and not when it is handled.
    eventually(lambda: served.seen(welcome.id) == seen)


def test_a_frame_that_is_repeated_is_dropped(served: Served) -> None:
    with raw_websocket(served.port) as socket:
        welcome = socket.open()
        once = Envelope(1, 1, seq=2, messages=(event("count", 1), event("count", 2)))
        socket.send(once)
        socket.send(once)
        socket.send(Envelope(1, 1, seq=3, messages=(event("count", 2), event("count", 3))))
        eventually(lambda: ["count", 3] in served.seen(welcome.id))
    assert served.seen(welcome.id)[1:] == [["count", 1], ["count", 2], ["count", 3]]


def test_an_impossible_mark_ends_the_session(served: Served) -> None:
    with raw_websocket(served.port) as socket:
        welcome = socket.open()
        socket.send(Envelope(50, 50))
        end, code, _ = socket.ended()
        assert end is not None
        assert (end.code, end.session, code) == (CloseCode.PROTOCOL_ERROR, True, 1000)
    eventually(lambda: len(served.seen(welcome.id)) == 2)
    assert served.seen(welcome.id)[1][:2] == ["disconnect", CloseCode.PROTOCOL_ERROR]


def test_of_four_candidates_the_oldest_is_dropped(served: Served) -> None:
    polling = RawPolling.open(served.port)
    resume = replace(new_hello(), id=polling.id, key=polling.key, nonce=None)
    resume = replace(resume, envelope=Envelope(1, 1))
    with (
        raw_websocket(served.port) as first,
        raw_websocket(served.port) as second,
        raw_websocket(served.port) as third,
        raw_websocket(served.port) as fourth,
    ):
        for attempt, socket in enumerate((first, second, third, fourth), 2):
            socket.greet(replace(resume, attempt=attempt))
        assert first.ended()[1] == CloseCode.TOO_MANY
        # The highest commit carries, whatever its attempt; a lower one is too late.
        second.send(Envelope(1, 1, commit=5))
        # In threads it may still be on its way to the session.
        eventually(lambda: getattr(post(served.port, polling.waiting(0.0)).unit, "code", 0) == 4409)
        fourth.send(Envelope(1, 1, commit=4, seq=2, messages=(event("count", 1),)))
        assert fourth.ended()[1] == CloseCode.SUPERSEDED
        third.send(Envelope(1, 1, commit=6))
        assert second.ended()[1] == CloseCode.SUPERSEDED
        third.send(Envelope(1, 1, seq=3, messages=(event("echo", "x", id=1),)))
        assert third.until_messages(1) == ['31["x"]']
    assert served.seen(polling.id) == [["connect", None], ["count", 1]]


def test_a_websocket_without_our_subprotocol_is_refused(served: Served) -> None:
    for subprotocol in (None, "chat"):
        with pytest.raises(InvalidHandshake), raw_websocket(served.port, subprotocol=subprotocol):
            pass


def test_a_websocket_is_closed_without_delay(served: Served) -> None:
    with ClientSession(served.port) as client:
        client.open()
        first = client.link
        before = time.monotonic()
        client.switch("websocket")
        client.wait_for(lambda: first.over)
        assert first.close_code == CloseCode.SUPERSEDED
        # Not only the close, also the end of the stream, for which a client waits.
        first.join()
        assert time.monotonic() - before < 3.0


# -- what every request goes through ---------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://127.0.0.1:{port}", True),
        (FRIEND, True),
        ("http://localhost:{port}", False),
        ("http://127.0.0.1:1", False),
        ("http://127.0.0.1", False),
        ("https://evil.example", False),
        (FRIEND + ".evil.example", False),
        ("null", False),
        ("http://", False),
        ("nonsense", False),
    ],
)
def test_both_doors_check_the_origin(served: Served, origin: str | None, allowed: bool) -> None:
    headers = {} if origin is None else {"Origin": origin.format(port=served.port)}
    reply = post(served.port, new_hello(), headers)
    if allowed:
        with raw_websocket(served.port, headers) as socket:
            socket.greet(new_hello())
        polling = RawPolling(served.port, reply.welcome())
        assert post(served.port, polling.waiting(0.0), headers).envelope()
        # On every request, not only on the first.
        evil = post(served.port, polling.waiting(0.0), {"Origin": "https://evil.example"})
        assert (evil.status, evil.end().code) == (403, CloseCode.ORIGIN)
        return
    assert reply.status == 403
    assert reply.end() == End(CloseCode.ORIGIN, "this origin is not allowed")
    with pytest.raises(InvalidStatus) as refused, raw_websocket(served.port, headers):
        pass
    assert refused.value.response.status_code == 403


def test_null_and_everybody_are_allowed_only_where_they_are_listed() -> None:
    with Served(origins=["null"]) as server:
        assert post(server.port, new_hello(), {"Origin": "null"}).status == 200
        assert post(server.port, new_hello(), {"Origin": FRIEND}).status == 403
    with Served(origins="*") as server:
        assert post(server.port, new_hello(), {"Origin": FRIEND}).status == 200


@both
@pytest.mark.parametrize(
    ("headers", "seen"),
    [
        ({}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "http://127.0.0.1:{port}"}, True),
        ({"Origin": FRIEND}, True),
    ],
    ids=["no origin", "same origin by fetch metadata", "cross site", "same origin", "allowed"],
)
def test_without_an_origin_handlers_see_no_cookies(
    served: Served, transport: str, headers: dict[str, str], seen: bool
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port)
    with closing(connection):
        connection.request("GET", "/login?user=me")
        cookie = connection.getresponse().headers["Set-Cookie"].split(";")[0]
    sent = {name: value.format(port=served.port) for name, value in headers.items()}
    with ClientSession(served.port, headers={**sent, "Cookie": cookie}) as client:
        client.open(transport)
        context = client.request("request context")
        assert context["session"] == ({"user": "me"} if seen else {})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/fallback/poll", 405),
        ("GET", "/fallback/ws", 426),
    ],
)
def test_other_requests_are_refused(served: Served, method: str, path: str, status: int) -> None:
    reply = post(served.port, b"", path=path, method=method)
    assert (reply.status, reply.unit) == (status, None)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, CloseCode.MALFORMED),
        (b"<html><body>Please log in</body></html>", 400, CloseCode.MALFORMED),
        (b"a0", 400, CloseCode.MALFORMED),
        (b"a0\x1e.", 400, CloseCode.MALFORMED),
        (b'{"hello":2,"attempt":1}\x1e.', 426, CloseCode.VERSION),
        (b"x" * 2_000_001, 413, CloseCode.TOO_LARGE),
        (b"x" * 20_000_000, 413, CloseCode.TOO_LARGE),
    ],
    ids=["empty", "page", "cut", "envelope", "version", "large", "very large"],
)
def test_what_is_no_request_is_answered_with_an_end(
    served: Served, body: bytes, status: int, code: int
) -> None:
    reply = post(served.port, body)
    assert (reply.status, reply.end().code, reply.end().session) == (status, code, False)


@pytest.mark.parametrize("version", [0, 2])
def test_another_version_is_told_on_a_websocket_too(served: Served, version: int) -> None:
    with raw_websocket(served.port) as socket:
        socket.connection.send(f'{{"hello":{version},"attempt":1}}')
        end, code, _ = socket.ended()
    assert end is not None
    reason = f"protocol version {version} is not spoken here, version 1 is"
    assert (end.code, end.session, end.reason, code) == (4426, False, reason, 4426)


def test_a_body_of_unstated_length_is_refused(served: Served) -> None:
    with sockets.create_connection(("127.0.0.1", served.port), 10) as sock:
        sock.sendall(b"POST /fallback/poll HTTP/1.1\r\nHost: x\r\n\r\n")
        response = http.client.HTTPResponse(sock, method="POST")
        response.begin()
        assert response.status == 411
        unit = codec.decode_body(response.read())
        assert isinstance(unit, End)
        assert unit.code == CloseCode.MALFORMED


@pytest.mark.parametrize("mode", MODE_PARAMS)
def test_many_sessions_at_once(mode: str) -> None:
    with Served(mode) as server, ThreadPoolExecutor(8) as threads:

        def one(number: int) -> Any:
            with ClientSession(server.port, auth={"rooms": ["all"]}) as client:
                client.open(TRANSPORTS[number % 2])
                for each in range(20):
                    client.emit("count", each)
                client.request("nothing", None)
                client.cut()
                client.open(TRANSPORTS[(number + 1) % 2])
                answer = client.request("echo", number)
                client.close(4000, "done")
                assert client.wait_closed() == (4000, "done")
                return answer, server.seen(client.id)

        for number, (answer, seen) in enumerate(threads.map(one, range(40))):
            assert answer == number
            assert [each[0] for each in seen] == [
                "connect",
                *["count"] * 20,
                "nothing",
                "disconnect",
            ]
        eventually(lambda: server.get("/state")["sessions"] == 0)
