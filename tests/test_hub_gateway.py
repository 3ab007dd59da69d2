"""`hub_gateway` and `binding`, in virtual time, over streams that are only bytes."""

from __future__ import annotations

import gzip
import logging
import re
from typing import Any

import pytest

from fallback_transport import hub_gateway
from fallback_transport.binding import hub_binding
from fallback_transport.conversation import Conversation
from fallback_transport.gateway import Gateway
from fallback_transport.hub_gateway import (
    BODY_STEP,
    BODY_WAIT,
    HEAD_WAIT,
    MAX_HEAD,
    MAX_UNFINISHED_PER_ADDRESS,
    HubGateway,
)
from fallback_transport.origins import Origins
from fallback_transport.polling import HOLD_MARGIN
from fallback_transport.protocol.envelope import Grant
from fallback_transport.protocol.message import Message
from fallback_transport.protocol.server import REPEATED, ServerMachine
from fallback_transport.runtime import CLIENT_WAIT
from fallback_transport.runtime.stream import READ_BYTES

from .hub import END, Layer, Place, hello_request, waiting
from .integration.raw import TEXT, frame, handshake, hello, request

# -- time ----------------------------------------------------------------------------------


def test_half_a_head_has_its_time() -> None:
    place = Place()
    client, idle = place.client(), place.client()
    client.send(b"POST /fallb")
    place.advance(HEAD_WAIT - 0.1)
    # A byte now and then does not help.
    client.send(b"a")
    assert not client.closed
    place.advance(0.2)
    assert client.closed
    assert client.statuses == [408]
    # One that has not begun may wait for longer.
    assert not idle.closed


def test_a_whole_head_stops_its_time() -> None:
    place = Place()
    client = place.client()
    data = hello_request()
    client.send(data[:30])
    place.advance(HEAD_WAIT - 0.1)
    client.send(data[30:-10])
    place.advance(BODY_WAIT - 0.1)
    client.send(data[-10:])
    place.advance(HEAD_WAIT + BODY_WAIT)
    assert client.statuses == [200]
    assert not client.closed
    assert not place.front._unproven


def test_a_body_has_its_time_too_and_a_long_one_more_of_it() -> None:
    place = Place()
    client = place.client()
    data = request("POST", "/fallback/poll", b"x" * 3 * BODY_STEP)
    for at in range(0, len(data) - BODY_STEP, BODY_STEP):
        client.send(data[at : at + BODY_STEP])
        place.advance(BODY_WAIT - 0.1)
    # A byte now and then is not enough.
    client.send(data[-9:-8])
    place.advance(0.2)
    assert client.statuses == [408]
    assert client.closed


@pytest.mark.parametrize("headers", [{}, {"X": "x"}])
def test_each_request_of_a_connection_has_the_same_time(headers: dict[str, str]) -> None:
    data, bad = hello_request(headers), request("POST", "/fallback/poll", b"x" * 3 * BODY_STEP)
    for rest, wait in ((data[:30], HEAD_WAIT), (bad[: -BODY_STEP - 9], BODY_WAIT)):
        place = Place()
        client = place.client()
        for each in (hello_request(), data, bad):
            # The second may have the head of the first.
            client.send(each[:30])
            client.send(each[30:])
            place.advance(0.1)
        place.advance(HEAD_WAIT + BODY_WAIT)
        assert client.statuses == [200, 200, 400]
        client.send(rest)
        place.advance(wait - 0.1)
        assert not client.closed
        place.advance(0.2)
        assert client.statuses == [200, 200, 400, 408]
        assert client.closed


def test_of_a_long_body_is_read_what_is_there() -> None:
    place = Place()
    client = place.client()
    data = request("POST", "/fallback/poll", b"x" * 3 * BODY_STEP)
    client.socket.there = 2 * data
    client.tell("read")
    # Not a byte of the next request: that has its turn when this one has its answer.
    assert client.socket.there == data
    assert client.statuses == [400]
    client.tell("read")
    assert client.statuses == [400, 400]
    # Of what is short, nothing is read before it is told of.
    client.socket.there = data = request("POST", "/fallback/poll", b"x" * BODY_STEP)
    client.tell("read")
    assert client.socket.there == data[READ_BYTES:] != b""
    client.tell("read")
    assert client.statuses == [400] * 3


def test_only_so_many_heads_of_one_address_are_waited_for() -> None:
    place = Place()
    other = place.client("192.0.2.2")
    other.send(b"POST /f")
    clients = [place.client() for _ in range(MAX_UNFINISHED_PER_ADDRESS + 3)]
    for client in clients:
        client.send(b"POST /f")
    assert [client.closed for client in clients[:4]] == [True, True, True, False]
    assert not any(client.closed for client in (other, *clients[4:]))
    # Whoever leaves makes room.
    clients[5].end()
    last = place.client()
    last.send(b"POST /f")
    assert not clients[3].closed


def test_an_oversized_head_is_the_servers() -> None:
    place = Place()
    client = place.client()
    begin = b"POST /fallback/poll HTTP/1.1\r\nX: "
    client.send(begin)
    client.send(b"x" * MAX_HEAD)
    assert client.handed_over == begin + b"x" * MAX_HEAD
    place.advance(HEAD_WAIT)
    assert client.statuses == []


def test_a_held_poll_is_answered_when_its_time_is_over_whatever_its_session_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = Place(grant=Grant(wait=20.0))
    client, welcome = place.session()
    conversation = place.registry.find(welcome["id"])
    assert conversation is not None
    client.send(waiting(welcome, 1))
    # A defect, for a test: it is never due.
    monkeypatch.setattr(ServerMachine, "due", lambda machine, attempt, now: None)
    place.advance(20 + HOLD_MARGIN - 0.1)
    assert client.statuses == [200]
    place.advance(0.2)
    assert client.statuses == [200, 200]
    assert b"held for too long" in client.received
    assert place.gateway.door._held == 0
    assert [len(table) for table in place.front._held.values()] == [0, 0]


def test_a_connection_without_a_request_is_closed_after_a_while() -> None:
    place = Place()
    silent = place.client()
    client, _ = place.session()
    place.advance(CLIENT_WAIT - 0.2)
    assert not silent.closed
    client.send(hello_request())
    place.advance(0.2)
    assert silent.closed
    # Without a word: a request may be under way.
    assert silent.statuses == []
    place.advance(CLIENT_WAIT - 0.3)
    assert not client.closed
    client.send(hello_request())
    place.advance(CLIENT_WAIT - 0.1)
    assert client.statuses == [200, 200, 200]
    assert not client.closed
    place.advance(0.2)
    assert client.closed
    assert len(place.front.idle) == 0


def test_whoever_is_waited_for_is_not_idle() -> None:
    place = Place(grant=Grant(wait=3 * CLIENT_WAIT))
    held, welcome = place.session()
    held.send(waiting(welcome, 1, round(2000 * CLIENT_WAIT)))
    websocket, elsewhere = place.client(), place.client()
    websocket.send(handshake())
    elsewhere.send(b"GET /page HTTP/1.1\r\n\r\n")
    assert elsewhere.handed_over is not None
    assert len(place.front.idle) == 0
    place.advance(CLIENT_WAIT + 1)
    assert not held.closed


def deaf(place: Place) -> tuple[Any, Any, Conversation]:
    """Who does not read what is written to him, his welcome, and his session."""
    client, welcome = place.session()
    conversation = place.registry.find(welcome["id"])
    assert conversation is not None
    client.socket.reads = False
    return client, welcome, conversation


def test_whoever_does_not_read_his_answer_has_his_time() -> None:
    place = Place()
    client, welcome, conversation = deaf(place)
    client.send(b"".join(waiting(welcome, number, 0) for number in (1, 2)))
    assert len(client.stream.rest) > 100
    for _ in range(3):
        # He reads, if slowly.
        place.advance(CLIENT_WAIT - 0.1)
        client.stream.rest = client.stream.rest[10:]
        place.advance(0.1)
        assert not client.closed
    # A request does not help.
    client.send(waiting(welcome, 3, 0))
    place.advance(2 * CLIENT_WAIT)
    assert client.closed
    assert conversation.weight == 0
    assert len(place.front.idle) == 0


def test_whoever_is_waited_for_once_he_has_read_is_not_idle() -> None:
    place = Place()
    client, welcome, conversation = deaf(place)
    client.send(b"".join(waiting(welcome, number, 0) for number in (1, 2)) + waiting(welcome, 3))
    assert len(place.front.idle) == 1
    client.read()
    assert client.statuses == [200] * 3
    assert len(place.front.idle) == 0
    conversation.close(1000, "")
    assert client.statuses == [200] * 4
    assert not any(place.front._held.values())


def test_what_is_to_be_read_before_a_request_is_handed_over_has_its_time() -> None:
    place = Place()
    client, welcome = place.session()
    client.socket.reads = False
    client.send(waiting(welcome, 1, 0) + b"GET /page HTTP/1.1\r\n\r\n")
    place.advance(2 * CLIENT_WAIT)
    assert client.handed_over is None
    assert client.closed


# -- one connection --------------------------------------------------------------------------


def test_an_answer_that_is_not_read_holds_up_the_next_and_counts_for_its_session() -> None:
    place = Place()
    client, welcome, conversation = deaf(place)
    # The first answer still waits for those of other connections when the second comes.
    client.send(b"".join(waiting(welcome, number, 0) for number in (1, 2, 3)))
    assert client.statuses == [200]
    waits = len(client.stream.rest)
    assert conversation.weight == waits > 0
    client.read()
    assert client.statuses == [200] * 4
    # The last of them was written at once.
    assert conversation.weight == len(client.stream.rest) == 0
    # Each is taken off once.
    for number in (4, 6):
        client.socket.reads = False
        client.send(waiting(welcome, number, 0) + waiting(welcome, number + 1, 0))
        assert conversation.weight == len(client.stream.rest) > 0
        client.read()
        assert conversation.weight == 0
    client.stream.close()
    assert conversation.weight == 0


def test_an_end_that_is_not_read_holds_up_the_next_and_counts_for_nobody() -> None:
    place = Place()
    client, welcome, conversation = deaf(place)
    bad = request("POST", "/fallback/poll", b"bad")
    client.send(waiting(welcome, 1, 0) + bad * 3)
    assert conversation.weight == 0
    client.read()
    assert client.statuses == [200, 200, 400, 400, 400]


def test_a_held_poll_is_answered_before_what_comes_behind_it_whenever_the_last_answer_goes() -> (
    None
):
    place = Place()
    client, welcome, conversation = deaf(place)
    client.send(waiting(welcome, 1, 0))
    client.send(waiting(welcome, 2))
    client.send(b"GET /page HTTP/1.1\r\n\r\n")
    client.read()
    assert client.statuses == [200, 200]
    assert client.handed_over is None
    conversation.close(1000, "")
    assert client.statuses == [200, 200, 200]
    assert client.handed_over is not None


def test_one_who_does_not_wait_for_answers_is_not_read_for_ever() -> None:
    place = Place()
    client, welcome = place.session()
    client.send(waiting(welcome, 1))
    client.send(b"GET /page HTTP/1.1\r\n\r\n" * 100)
    assert not client.paused
    client.send(b"x" * MAX_HEAD)
    assert client.paused
    conversation = place.registry.find(welcome["id"])
    assert conversation is not None
    conversation.close(1000, "")
    assert client.statuses == [200, 200]
    assert client.handed_over is not None
    assert client.handed_over.startswith(b"GET /page")


def test_one_who_does_not_wait_for_answers_gets_all_of_them() -> None:
    place = Place()
    client, welcome = place.session()
    client.send(waiting(welcome, 1))
    many = [waiting(welcome, 1 + number, 0) for number in range(1, 301)]
    assert len(b"".join(many)) > 2 * MAX_HEAD
    client.send(b"".join(many))
    assert client.paused
    place.advance(30)
    while client.socket.there:
        assert client.tell("read")
    assert client.statuses == [200] * 302


def test_an_end_behind_a_held_poll() -> None:
    place = Place()
    client, welcome = place.session()
    client.send(waiting(welcome, 1))
    client.end()
    assert not client.closed
    conversation = place.registry.find(welcome["id"])
    assert conversation is not None
    conversation.close(1000, "")
    assert client.statuses == [200, 200]
    assert client.closed


@pytest.mark.parametrize("when", ["before the answer", "as it waits for the end of the turn"])
def test_who_says_no_more_gets_an_answer_that_does_not_go_at_once(when: str) -> None:
    place = Place()
    client, welcome = place.session()
    client.send(waiting(welcome, 1))
    if when == "before the answer":
        client.end()
    client.socket.reads = False
    conversation = place.registry.find(welcome["id"])
    assert conversation is not None
    conversation.close(1000, "")
    client.end()
    assert not client.closed
    client.read()
    assert client.statuses == [200, 200]
    assert client.closed


def test_an_end_behind_a_request_that_is_handed_over_once_the_answer_has_gone() -> None:
    place = Place()
    client, welcome = place.session()
    client.send(waiting(welcome, 1))
    client.send(b"GET /page HTTP/1.1\r\n\r\n")
    client.end()
    client.socket.reads = False
    conversation = place.registry.find(welcome["id"])
    assert conversation is not None
    conversation.close(1000, "")
    assert client.stream.rest
    assert not client.closed
    client.read()
    assert client.statuses == [200, 200]
    assert client.handed_over == b"GET /page HTTP/1.1\r\n\r\n"


class Looks:
    """A pattern that counts the bytes in which it was looked for."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern
        self.bytes = 0

    def search(self, text: bytes, begin: int = 0) -> re.Match[bytes] | None:
        self.bytes += len(text) - begin
        return self._pattern.search(text, begin)


def test_a_head_that_comes_byte_by_byte_is_looked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a few kilobytes, each byte in a packet, would take the hub for seconds."""
    looks = Looks(hub_gateway.AMBIGUOUS)
    monkeypatch.setattr(hub_gateway, "AMBIGUOUS", looks)
    place = Place()
    client = place.client()
    for headers in ({"X": "x" * 2000}, {"X": "y" * 2000}):
        data = hello_request(headers)
        looks.bytes = 0
        for byte in data:
            client.send(bytes([byte]))
        place.advance(0.1)
        assert looks.bytes < 3 * len(data)
    assert client.statuses == [200, 200]


def test_a_head_is_looked_at_from_its_beginning_whatever_came_before_it() -> None:
    place = Place()
    client = place.client()
    for headers in ({"X": "x" * 2000}, {"Y": "y" * 1000}, {"Z": "z"}):
        client.send(hello_request(headers))
        place.advance(0.1)
    assert client.statuses == [200, 200, 200]


@pytest.mark.parametrize(
    "odd", [b"\n", b"X: a\rb", b"X: \0", b" folded", b"X: a\r\r\n", b"\nX: a", b"X: a\n\n"]
)
def test_an_ambiguous_head_is_the_servers_however_it_comes(odd: bytes) -> None:
    data = b"POST /fallback/poll HTTP/1.1\r\nX: " + b"x" * 100 + b"\r\n" + odd + b"\r\nY: y"
    whole, pieces = Place().client(), Place().client()
    whole.send(data)
    assert whole.handed_over == data
    for byte in data:
        if pieces.handed_over is None:
            pieces.send(bytes([byte]))
    assert pieces.handed_over is not None
    assert pieces.handed_over.startswith(data[: data.index(odd)])


def test_a_request_that_ends_early_is_the_servers() -> None:
    place = Place()
    client = place.client()
    data = hello_request()[:-5]
    client.send(data)
    client.end()
    assert client.handed_over == data


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.test"},
        {"Connection": "close"},
        {"Content-Length": "2000000"},
        {"Transfer-Encoding": "chunked"},
        {"Expect": "100-continue"},
    ],
)
def test_what_is_unusual_or_refused_is_the_servers(headers: dict[str, str]) -> None:
    client = Place().client()
    data = hello_request(headers)
    client.send(data)
    assert client.handed_over == data


def test_a_page_of_another_origin_may_read_its_answer() -> None:
    client, _ = Place(origins=Origins(("http://friend.test",))).session(Origin="http://friend.test")
    assert b"\r\nAccess-Control-Allow-Origin: http://friend.test\r\n" in client.received
    assert b"\r\nAccess-Control-Allow-Credentials: true\r\n" in client.received


def test_a_door_below_a_mount_is_ours_for_who_speaks_our_protocol() -> None:
    place = Place()
    client = place.client()
    client.send(hello_request(path="/fallback/deeper/poll"))
    place.advance(0.1)
    assert client.statuses == [200]
    other = request("POST", "/fallback/deeper/poll", b"what it likes")
    client.send(other + b"more")
    assert client.handed_over == other + b"more"


@pytest.mark.parametrize("when", ["begins", "takes"])
def test_the_welcome_has_what_was_sent_at_once_and_does_not_wait(when: str) -> None:
    place = Place()

    class Ready(Layer):
        def __init__(self, conversation: Conversation) -> None:
            self._conversation = conversation
            if when == "begins":
                conversation.send([Message("0{}")])

        def unit(self, seq: int, data: Any) -> None:
            if when == "takes":
                self._conversation.send([Message("0{}")])

    place.registry._application = Ready
    client = place.client()
    client.send(hello_request())
    assert client.statuses == [200]
    assert b"m0{}" in client.received
    assert place.gateway.door._held == 0


def test_a_poll_that_is_answered_as_it_comes_is_not_held() -> None:
    place = Place()
    client, welcome = place.session()
    client.send(waiting(welcome, 1))
    place.advance(REPEATED)
    again = place.client()
    again.send(waiting(welcome, 1))
    assert client.statuses == [200, 200]
    assert again.statuses == [200]
    assert place.gateway.door._held == 0
    assert not any(place.front._held.values())


def test_answers_are_whole_whichever_way_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000_000.5
    monkeypatch.setattr(hub_gateway.time, "time", lambda: now)
    friendly = {"Origin": "http://friend.test"}
    place = Place(origins=Origins(("http://friend.test",)))
    client, welcome = place.session(**friendly)
    conversation = place.registry.find(welcome["id"])
    assert conversation is not None
    conversation.send([Message("2" + "x" * 2000)])
    client.send(request("POST", "/fallback/poll", b"bad", friendly))
    client.send(waiting(welcome, 1, 0, {"Accept-Encoding": "br, gzip", **friendly}))
    now += 1
    client.send(waiting(welcome, 2, 0))

    found, rest = [], client.received
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = dict(each.split(": ") for each in lines)
        size = int(headers.pop("Content-Length"))
        body, rest = rest[:size], rest[size:]
        packed = "Content-Encoding" in headers
        assert (gzip.decompress(body) if packed else body).endswith(END.encode())
        found.append((line, headers))
    usual = {
        "Content-Type": "text/plain; charset=utf-8",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Date": "Sun, 09 Sep 2001 01:46:40 GMT",
    }
    readable = usual | {
        "Access-Control-Allow-Origin": "http://friend.test",
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": "Retry-After",
    }
    assert found == [
        ("HTTP/1.1 200 OK", readable),
        ("HTTP/1.1 400 Bad Request", readable),
        ("HTTP/1.1 200 OK", readable | {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}),
        ("HTTP/1.1 200 OK", usual | {"Date": "Sun, 09 Sep 2001 01:46:41 GMT"}),
    ]


@pytest.mark.parametrize("crowd", [0, 2])
def test_a_handshake_that_is_refused_is_the_servers(crowd: int) -> None:
    place = Place(max_ungreeted_per_address=2)
    for _ in range(crowd):
        place.client().send(handshake())
    data = handshake({} if crowd else {"Sec-WebSocket-Version": "12"}) + b"more"
    client = place.client()
    client.send(data)
    assert client.handed_over == data
    assert client.statuses == []


def test_what_comes_right_behind_a_handshake_is_the_websockets() -> None:
    place = Place()
    client = place.client()
    before = request("POST", "/fallback/poll", b"bad")
    client.send(before + handshake() + frame(TEXT, hello().encode()))
    client.end()
    assert client.statuses == [400, 101]
    assert b'{"welcome":1,' in client.received
    assert client.closed
    assert not place.gateway._ungreeted


def test_an_end_right_behind_a_handshake_is_the_websockets() -> None:
    place = Place(grant=Grant(wait=20.0))
    client, welcome = place.session()
    client.send(waiting(welcome, 1))
    client.send(handshake() + frame(TEXT, hello().encode()))
    client.end()
    place.advance(25)
    assert client.statuses == [200, 200, 101]
    assert client.closed


def test_a_websocket_that_never_says_hello_is_closed() -> None:
    place = Place()
    client = place.client()
    client.send(handshake())
    assert client.statuses == [101]
    place.advance(10.1)
    assert b"no hello" in client.received
    assert client.closed
    assert not place.gateway._ungreeted


def test_a_websocket_that_swallows_the_first_message_in_a_while_is_left_within_seconds() -> None:
    place = Place()
    place.runtime.at_end_of_turn = place.hub.at_end_of_turn
    client = place.client()
    client.send(handshake() + frame(TEXT, hello().encode()))
    client.send(frame(TEXT, b"a0 c1"))
    place.advance(15.0)
    [conversation] = place.registry.all()
    conversation.send([Message("news")])
    place.advance(1.1)
    assert client.received.endswith(b" q1")
    place.advance(1.1)
    assert b"what was sent is not received" in client.received
    assert client.closed


# -- who serves ------------------------------------------------------------------------------


def bound(outermost: Any, gateways: list[Gateway], binding: str = "auto") -> HubGateway | None:
    runtime = gateways[0].runtime
    return hub_binding(outermost, gateways, runtime, binding)


@pytest.fixture
def gateway() -> Gateway:
    place = Place()
    place.runtime.mode = "eventlet"
    place.runtime._home = object()  # type: ignore[assignment]
    return place.gateway


def test_what_proxy_fix_makes_of_a_request_counts_on_the_hub(gateway: Gateway) -> None:
    from werkzeug.middleware.proxy_fix import ProxyFix

    inner = ProxyFix(gateway, x_for=1, x_proto=0, x_host=1, x_prefix=1)
    outer = ProxyFix(inner, x_for=0, x_proto=1, x_host=0)
    front = bound(outer, [gateway])
    assert front is not None
    client = Place().client()
    head = front.heads.find(
        hello_request(
            {
                "X-Forwarded-For": "198.51.100.7, 203.0.113.9",
                "X-Forwarded-Proto": "https",
                "X-Forwarded-Host": "site.test",
                "X-Forwarded-Prefix": "/app",
                "Origin": "https://site.test",
            }
        ).partition(b"\r\n\r\n")[0]
        + b"\r\n\r\n"
    )
    assert head is not None
    environ = front.heads.environ(head[0], client.stream)
    found = [environ[n] for n in ("REMOTE_ADDR", "wsgi.url_scheme", "HTTP_HOST", "SCRIPT_NAME")]
    assert found == ["203.0.113.9", "https", "site.test", "/app"]
    assert outer.app is inner
    assert inner.app is gateway


def test_other_middleware_in_front_is_not_passed_by(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    from werkzeug.middleware.proxy_fix import ProxyFix

    class Changed(ProxyFix):
        pass

    def monitor(environ: Any, start_response: Any) -> Any:
        return gateway(environ, start_response)

    for outermost in (monitor, Changed(gateway), Changed(ProxyFix(gateway))):
        with caplog.at_level(logging.WARNING):
            assert bound(outermost, [gateway]) is None
        name = f"<locals>.{'monitor' if outermost is monitor else 'Changed'}"
        assert f"{name} stands in front of them" in caplog.messages[-1]
        with pytest.raises(RuntimeError, match="stands in front of them"):
            bound(outermost, [gateway], "hub")
        assert bound(outermost, [gateway], "wsgi") is None
    assert len(caplog.messages) == 3


def test_where_the_hub_is_not_to_be_had(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fallback_transport.heads.httptools", None)
    assert bound(gateway, [gateway]) is None
    assert "httptools" in caplog.messages[-1]
    gateway.runtime.mode = "gevent"
    assert bound(gateway, [gateway]) is None
    assert len(caplog.messages) == 1
    with pytest.raises(RuntimeError, match="gevent"):
        bound(gateway, [gateway], "hub")


def test_several_gateways_of_one_app_are_all_served(gateway: Gateway) -> None:
    other = Place(path=("/other",)).gateway
    other.runtime.mode = "eventlet"
    gateway.app = other
    mounts = gateway._all_mounts = other._all_mounts = ("/fallback", "/other")
    assert mounts
    front = bound(gateway, [other, gateway])
    assert front is not None
    assert front.heads.may_be_ours(b"POST /other/poll HTTP/1.1\r\n")
    assert front.heads.may_be_ours(b"POST /fallback/poll HTTP/1.1\r\n")
