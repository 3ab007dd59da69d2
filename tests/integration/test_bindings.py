"""Sessions on eventlet's hub and over its WSGI server: what is in front must not show.

Over raw sockets: ordinary requests and those of sessions on one connection, in any order and
however they are cut, and requests that one of two parsers could take for two.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.client.fixtures import unexpected

from .raw import SEPARATOR, Closed, Reply, Session, WebSocket, Wire, handshake, hello, poll, request
from .served import Served

MODULE = "tests.integration.front_app"
END = SEPARATOR + "."
POST = b"POST /fallback/poll HTTP/1.1\r\nHost: server.test\r\n"
#: A whole request, for the body of another: whether it was taken for one is seen in `/hits`.
HIDDEN = b"GET /echo?mark=hidden HTTP/1.1\r\nHost: server.test\r\n\r\n"
#: Seconds for half a head, and some for a busy machine.
HEAD_WAIT = 10.0
SLACK = 5.0


class Front:
    """A server, and connections that are too slow from the beginning."""

    def __init__(self, server: Served) -> None:
        self.server = server
        self.port = server.port
        self.began = time.monotonic()
        self.slow = [Wire(server.port) for _ in range(3)]
        for wire, data in zip(self.slow, (b"POST /fallb", POST, POST + b"X: y\r\n"), strict=True):
            wire.send(data)

    def wire(self) -> Wire:
        return Wire(self.port)


@pytest.fixture(scope="module", params=["hub", "hub on asyncio", "wsgi"])
def front(request: pytest.FixtureRequest) -> Iterator[Front]:
    binding, _, loop = request.param.partition(" on ")
    with pytest.MonkeyPatch.context() as patch:
        if loop:
            patch.setenv("EVENTLET_HUB", loop)
        with Served("eventlet", module=MODULE, binding=binding, socketio_path=None) as server:
            front = Front(server)
            yield front
            for wire in front.slow:
                wire.close()
            log = server.log()
            where = "on its hub" if binding == "hub" else "over WSGI"
            assert f"sessions {where}" in log
            assert not unexpected(log), log


def new_hello() -> bytes:
    return (hello() + END).encode()


def session_request(body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
    return request("POST", "/fallback/poll", new_hello() if body is None else body, headers)


def is_welcome(reply: Reply) -> bool:
    return reply.status == 200 and "welcome" in reply.head


def echoed(reply: Reply) -> dict[str, Any]:
    assert reply.status == 200
    found: dict[str, Any] = json.loads(reply.body)
    return found


def statuses(wire: Wire) -> list[int]:
    """Those of all answers that come; -1 at the end if the connection stays open."""
    found: list[int] = []
    wire.send(request("GET", "/echo?mark=last"))
    try:
        while True:
            reply = wire.reply()
            found.append(reply.status)
            if reply.status == 200 and b'"path":"/echo"' in reply.body.replace(b" ", b""):
                return [*found[:-1], -1]
    except (Closed, ValueError, IndexError):
        return found


# -- one connection, both kinds ---------------------------------------------------------


def test_a_connection_is_shared_by_both_kinds_of_requests(front: Front) -> None:
    with front.wire() as wire:
        for _ in range(3):
            wire.send(session_request())
            assert is_welcome(wire.reply())
            wire.send(request("GET", "/echo"))
            assert echoed(wire.reply())["method"] == "GET"
            wire.send(request("POST", "/echo", b"x" * 300_000))
            assert echoed(wire.reply())["body"] == "x" * 300_000
            # Again and again, on the same side.
            wire.send(request("PUT", "/echo", b"more"))
            assert echoed(wire.reply())["body"] == "more"
            wire.send(session_request())
            assert is_welcome(wire.reply())


def test_a_body_in_chunks_is_the_last_of_its_connection(front: Front) -> None:
    chunked = request("POST", "/echo", None, {"Transfer-Encoding": "chunked"})
    with front.wire() as wire:
        wire.send(session_request() + chunked + b"4\r\nabcd\r\n3\r\nefg\r\n0\r\n\r\n" + HIDDEN)
        assert is_welcome(wire.reply())
        # Werkzeug reads none that is not said to end.
        assert echoed(reply := wire.reply())["path"] == "/echo"
        assert reply.headers["connection"] == "close"
        assert wire.read_rest() == b""


def test_an_answer_in_chunks_leaves_the_connection_in_order(front: Front) -> None:
    with front.wire() as wire:
        wire.send(request("GET", "/stream") + session_request())
        assert int(wire.read_line().split()[1]) == 200
        while wire.read_line():
            pass
        body = b""
        while size := int(wire.read_line(), 16):
            body += wire.read(size + 2)[:-2]
        wire.read_line()
        assert body == b"".join(b"part %d\n" % n * 1000 for n in range(3))
        assert is_welcome(wire.reply())


def test_a_body_that_is_waited_for_with_100_continue(front: Front) -> None:
    with front.wire() as wire:
        wire.send(session_request())
        assert is_welcome(wire.reply())
        head = {"Expect": "100-continue", "Content-Length": "4"}
        wire.send(request("POST", "/echo", None, head))
        assert wire.read_line() == b"HTTP/1.1 100 Continue"
        wire.read_line()
        wire.send(b"body")
        assert echoed(wire.reply())["body"] == "body"
        wire.send(session_request())
        assert is_welcome(wire.reply())


def test_chunks_that_are_not_asked_for_are_not_waited_for(front: Front) -> None:
    head = {"Expect": "100-continue", "Transfer-Encoding": "chunked"}
    with front.wire() as wire:
        wire.send(request("POST", "/nothing", None, head))
        assert int(wire.read_line().split()[1]) == 404
        # At once, and not after the time that a client has for its next bytes.
        wire.read_rest()


def test_pipelined_requests_are_answered_in_order(front: Front) -> None:
    body = session_request() + HIDDEN
    with front.wire() as wire:
        wire.send(
            session_request()
            + request("GET", "/echo")
            + session_request()
            + request("POST", "/echo", body)
            + session_request()
            + session_request()
            + request("POST", "/echo", b"1")
            + request("POST", "/echo", b"2")
            + session_request()
        )
        kinds: list[Any] = [is_welcome(wire.reply()), echoed(wire.reply())["body"]]
        kinds += [is_welcome(wire.reply()), echoed(wire.reply())["body"]]
        kinds += [is_welcome(wire.reply()), is_welcome(wire.reply())]
        kinds += [echoed(wire.reply())["body"] for _ in range(2)]
        kinds += [is_welcome(wire.reply())]
        assert kinds == [True, "", True, body.decode("latin-1"), True, True, "1", "2", True]
    assert "hidden" not in front.server.get("/hits")


def test_a_thousand_requests_at_once(front: Front) -> None:
    # Malformed ones, that leave nothing behind.
    line = b"x" + END.encode()
    with front.wire() as wire:
        wire.send(session_request(line) * 1000)
        assert {wire.reply().status for _ in range(1000)} == {400}


def test_bytes_that_come_one_by_one(front: Front) -> None:
    with front.wire() as wire:
        for data in (session_request(), request("POST", "/echo", b"abc"), session_request()):
            wire.drip(data, 1, 0)
            assert wire.reply().status == 200


def test_any_requests_cut_anywhere_are_answered_in_order(front: Front, rng: random.Random) -> None:
    for _ in range(20):
        with front.wire() as wire:
            data, wanted = b"", []
            for number in range(rng.randint(2, 12)):
                text = "x" * rng.choice((0, 1, 100, 5000)) + str(number)
                kind = rng.choice(("hello", "malformed", "get", "post", "below", "both"))
                if kind == "hello":
                    data += session_request()
                    wanted.append("welcome")
                elif kind == "malformed":
                    data += session_request(text.encode())
                    wanted.append("malformed")
                elif kind == "get":
                    data += request("GET", f"/echo?{number}")
                    wanted.append("GET")
                elif kind == "post":
                    data += request("POST", "/echo", text.encode())
                    wanted.append(text)
                elif kind == "below":
                    data += request("POST", "/fallback/mine/poll", text.encode())
                    wanted.append(text)
                else:
                    # One that is unusual, and so is served on the other side.
                    data += session_request(headers=dict.fromkeys("ABC", "x" * 6000))
                    wanted.append("welcome")
            at = 0
            while at < len(data):
                size = rng.choice((1, 10, 200, 3000, 100_000))
                wire.send(data[at : at + size])
                at += size
                if rng.random() < 0.3:
                    time.sleep(0.001)
            for want in wanted:
                reply = wire.reply()
                if want == "welcome":
                    assert is_welcome(reply)
                elif want == "malformed":
                    assert reply.status == 400
                elif want == "GET":
                    assert echoed(reply)["method"] == "GET"
                else:
                    assert echoed(reply)["body"] == want
    assert "hidden" not in front.server.get("/hits")


def test_a_websocket_on_a_connection_that_was_used(front: Front) -> None:
    websocket = WebSocket.__new__(WebSocket)
    Wire.__init__(websocket, front.port)
    with websocket:
        for data in (session_request(), request("GET", "/echo"), session_request()):
            websocket.send(data)
            assert websocket.reply().status == 200
        websocket.send(handshake())
        websocket.opened()
        websocket.text(hello())
        assert "welcome" in json.loads(websocket.next_text().split(SEPARATOR)[0])
        websocket.text("a0 c1")
        assert websocket.answers()


def test_a_websocket_whose_handshake_is_unusual(front: Front) -> None:
    # Served by a blocking call then, also in front of which there is the hub.
    with WebSocket(front.port, dict.fromkeys("ABC", "x" * 6000)) as websocket:
        websocket.text(hello())
        websocket.next_text()
        websocket.text(SEPARATOR.join(["a0 c1 s2", 'm21["echo","here"]']))
        while 'm31["here"]' not in websocket.next_text():
            pass
        assert websocket.answers()


def test_a_connection_that_is_to_be_closed_is(front: Front) -> None:
    for data in (session_request(), request("GET", "/echo")):
        closing = data.replace(b"Host:", b"Connection: close\r\nHost:", 1)
        with front.wire() as wire:
            wire.send(session_request() + closing + HIDDEN)
            assert wire.reply().status == wire.reply().status == 200
            assert wire.read_rest() == b""
        with front.wire() as wire:
            wire.send(data.replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            assert wire.reply().status == 200
            assert wire.read_rest() == b""
    assert "hidden" not in front.server.get("/hits")


def test_the_applications_own_door_below_a_mount(front: Front) -> None:
    with front.wire() as wire:
        wire.send(request("POST", "/fallback/mine/poll", b"what it likes") + session_request())
        assert echoed(wire.reply())["body"] == "what it likes"
        assert is_welcome(wire.reply())
        wire.send(request("POST", "/fallback/mine/poll", new_hello()) + request("GET", "/echo"))
        assert is_welcome(wire.reply())
        assert echoed(wire.reply())["path"] == "/echo"


# -- requests in requests ----------------------------------------------------------------

LONG = b"Content-Length: %d\r\n"
BODY = hello().encode() + END.encode()
CASES: dict[str, tuple[bytes, list[int]]] = {
    "a length and chunks": (
        POST + LONG % 4 + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
        [400],
    ),
    "chunks and a length": (
        POST + b"Transfer-Encoding: chunked\r\n" + LONG % 4 + b"\r\n0\r\n\r\n" + HIDDEN,
        [400],
    ),
    "two lengths": (POST + LONG % 0 + LONG % len(HIDDEN) + b"\r\n" + HIDDEN, [400]),
    "a length twice": (POST + (LONG % len(BODY)) * 2 + b"\r\n" + BODY + HIDDEN, [400]),
    "a blank behind the length": (POST + b"Content-Length: 9 \r\n\r\n" + HIDDEN, [411]),
    "two lengths in one": (POST + b"Content-Length: 0, 9\r\n\r\n" + HIDDEN, [400]),
    "a length that goes on": (POST + b"Content-Length: 0\r\n 9\r\n\r\n" + HIDDEN, [400]),
    "a length with a sign": (POST + b"Content-Length: +9\r\n\r\n" + HIDDEN, [400]),
    "a blank before the colon": (POST + b"Content-Length : 9\r\n\r\n" + HIDDEN, [400]),
    "a blank before chunks": (
        POST + LONG % 9 + b"Transfer-Encoding : chunked\r\n\r\n" + HIDDEN,
        [400],
    ),
    "chunks": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" + HIDDEN,
        [411],
    ),
    "chunks of another kind": (POST + b"Transfer-Encoding: xchunked\r\n\r\n" + HIDDEN, [400]),
    "chunks in another": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + HIDDEN, [400]),
    "chunks behind a tab": (POST + b"Transfer-Encoding:\tchunked\r\n\r\n" + HIDDEN, [411]),
    "a line that is none": (POST + LONG % 9 + b"nonsense\r\n\r\n" + HIDDEN, [400]),
    "a header without a name": (POST + LONG % 9 + b": x\r\n\r\n" + HIDDEN, [400]),
}
SAME: dict[str, tuple[bytes, list[int]]] = {
    "a header that goes on": (
        POST + b"X: a\r\n b: c\r\n" + LONG % len(BODY) + b"\r\n" + BODY,
        [200, -1],
    ),
    "line feeds alone": (
        (POST + LONG % len(BODY) + b"\r\n").replace(b"\r\n", b"\n") + BODY,
        [200, -1],
    ),
    "a small letter": (POST + b"content-length: %d\r\n\r\n" % len(BODY) + BODY, [200, -1]),
    "blanks before the length": (
        POST + b"Content-Length: \t %d\r\n\r\n" % len(BODY) + BODY,
        [200, -1],
    ),
    "a query": (request("POST", "/fallback/poll?a=b", BODY), [200, -1]),
    "an escaped letter": (request("POST", "/fallback/%70oll", BODY), [200, -1]),
    "a whole URL": (request("POST", "http://server.test/fallback/poll", BODY), [404, -1]),
    "a path with dots": (request("POST", "/fallback/../fallback/poll", BODY), [200, -1]),
    "another path": (request("POST", "/fallback/POLL", BODY), [404, -1]),
    "no length": (POST + b"\r\n" + session_request(), [411, 200, -1]),
    "a length of 0": (POST + LONG % 0 + b"\r\n" + session_request(), [400, 200, -1]),
    "an underscore": (
        POST + b"Content_Length: 3\r\n" + LONG % len(BODY) + b"\r\n" + BODY,
        [200, -1],
    ),
    "a request in the body": (session_request(HIDDEN), [400, -1]),
}


@pytest.mark.parametrize("name", [*CASES, *SAME])
def test_no_request_hides_in_another(front: Front, name: str) -> None:
    data, want = CASES[name] if name in CASES else SAME[name]
    with front.wire() as wire:
        # Also behind a request of each kind, and cut anywhere.
        wire.send(data)
        assert statuses(wire) == want
    with front.wire() as wire:
        wire.send(session_request() + request("GET", "/echo") + data[:40])
        assert is_welcome(wire.reply())
        assert echoed(wire.reply())["path"] == "/echo"
        wire.drip(data[40:], 50, 0.001)
        assert statuses(wire) == want
    assert "hidden" not in front.server.get("/hits")


# -- ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["session", "ordinary"])
def test_who_says_no_more_is_still_answered(front: Front, what: str) -> None:
    with front.wire() as wire:
        wire.send(session_request() if what == "session" else request("GET", "/echo"))
        wire.finish()
        assert wire.reply().status == 200
        assert wire.read_rest() == b""


def test_a_held_poll_of_who_says_no_more_gets_its_message(front: Front) -> None:
    session = Session(front.port, "polling")
    with front.wire() as wire:
        wire.send(session_request((session.line("a1", wait=20_000) + END).encode()))
        time.sleep(0.05)
        wire.finish()
        time.sleep(0.05)
        assert session.post("a1 s2", 'm21["echo","here"]').status == 200
        assert wire.reply().text.endswith('m31["here"]')
        assert wire.read_rest() == b""


def test_a_reset_while_a_poll_is_held_loses_nothing(front: Front) -> None:
    session = Session(front.port, "polling")
    for number in range(1, 6):
        wire = front.wire()
        wire.send(session_request((session.line(f"a{number}", wait=20_000) + END).encode()))
        time.sleep(0.02)
        wire.reset()
        time.sleep(0.02)
        session.post(f"a{number} s{number + 1}", f'm2{number}["echo",{number}]')
        # The answer that went to nobody goes to the next who asks.
        found = session.post(f"a{number}", wait=5000).text
        assert f"m3{number}[{number}]" in found.split(SEPARATOR)


def test_a_websocket_that_says_no_more(front: Front) -> None:
    with Session(front.port) as session:
        session.socket.finish()
        session.socket.read_rest()
        assert poll(front.port, session.resume()).status == 200


def test_a_poll_goes_on_while_ordinary_requests_come_behind_it(front: Front) -> None:
    session = Session(front.port, "polling")
    with front.wire() as wire:
        body = (session.line("a1", wait=20_000) + END).encode()
        wire.send(session_request(body) + request("GET", "/echo") * 3)
        # More than is kept for a client that does not wait.
        wire.send(request("POST", "/echo", b"x" * 100_000))
        time.sleep(0.05)
        session.post("a1 s2", 'm21["echo","here"]')
        assert wire.reply().text.endswith('m31["here"]')
        assert [echoed(wire.reply())["method"] for _ in range(4)] == ["GET"] * 3 + ["POST"]


# Over WSGI they are: there a head has no time.
@pytest.mark.parametrize("front", ["hub"], indirect=True)
def test_heads_that_do_not_end_are_not_waited_for(front: Front) -> None:
    for wire in front.slow:
        assert wire.reply().status == 408
        assert wire.read_rest() == b""
    assert time.monotonic() - front.began < HEAD_WAIT + SLACK
    with front.wire() as wire:
        wire.send(session_request())
        assert is_welcome(wire.reply())


# -- what handlers see, and the log --------------------------------------------------------

FORWARDED = {
    "X-Forwarded-For": "198.51.100.7, 203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "site.test:8443",
    "X-Forwarded-Prefix": "/app",
}
HEADERS = {
    "Cookie": "a=b; c=d",
    "User-Agent": "a test",
    "X-One": "1\t2",
    "x-one": "3",
    "X_One": "4",
    "Sec-Fetch-Site": "same-origin",
    "Content-Type": "text/plain;charset=UTF-8",
}
ALL_FIXED = {"x_for": 1, "x_proto": 1, "x_host": 1, "x_prefix": 1}
PLACES: dict[str, dict[str, Any]] = {
    "nothing in front": {},
    "proxy fix outside": {"fix": ALL_FIXED},
    "proxy fix inside": {"fix": ALL_FIXED, "fix_first": True},
    "other middleware": {"middleware": True},
    "a trusted proxy": {"trusted_proxies": 1},
}


def told(server: Served, transport: str) -> Any:
    """What a handler sees, but for what differs from one connection to the next."""
    headers = {**HEADERS, **FORWARDED, "Origin": "https://site.test:8443"}
    if "fix" not in server.options:
        headers["Origin"] = "http://server.test"
    asked = 'm21["request",null]'
    if transport == "websocket":
        with WebSocket(server.port, headers) as websocket:
            websocket.text(hello())
            websocket.next_text()
            websocket.text(SEPARATOR.join(["a0 c1 s2", asked]))
            while "m31" not in (text := websocket.next_text()):
                pass
    else:
        welcome = poll(server.port, hello(), headers).head
        line = f"i{welcome['id']} k{welcome['key']} t1 n%d c1 a0"
        poll(server.port, SEPARATOR.join([line % 1 + " s2", asked]), headers)
        number = 2
        while "m31" not in (text := poll(server.port, line % number + " w5000", headers).text):
            number += 1
    answer = next(part for part in text.split(SEPARATOR) if part.startswith("m31"))
    environ, url, address = json.loads(answer[3:])
    port = environ.pop("REMOTE_PORT")
    assert port.isdigit()
    assert environ.pop("SERVER_PORT") in (str(server.port), "8443")
    return environ, url, address


@pytest.mark.parametrize("place", PLACES)
def test_handlers_see_the_same_over_both(place: str) -> None:
    found = []
    for binding in ("auto", "wsgi"):
        options = {**PLACES[place], "binding": binding, "socketio_path": None}
        with Served("eventlet", module=MODULE, **options) as server:
            found.append([told(server, transport) for transport in ("websocket", "polling")])
            log = server.log()
            assert ("sessions on its hub" in log) == (binding == "auto" and "other" not in place)
            assert ("Marking stands in front" in log) == (binding == "auto" and "other" in place)
            assert "Traceback" not in log
    on_hub, over_wsgi = found
    assert on_hub == over_wsgi
    (environ, url, address), _ = on_hub
    assert environ["HTTP_COOKIE"] == "a=b; c=d"
    assert environ.get("HTTP_X_MARK") == ("seen by the middleware" if "other" in place else None)
    if "fix" in place:
        assert url == "https://site.test:8443/app/fallback/ws"
        assert address == "203.0.113.9"
    else:
        assert address == "127.0.0.1"


def test_a_log_that_is_written_cooperatively_holds_up_nobody() -> None:
    with Served("eventlet", module=MODULE, binding="hub", slow_log=True) as server:
        sessions = [Session(server.port, ("websocket", "polling")[n % 2]) for n in range(20)]
        for session in sessions:
            # Several lines each, some from within a session's lock.
            poll(server.port, "x")
            poll(server.port, session.resume(key="x" * 32))
            if session.ws is not None:
                session.ws.text("a0 s9")
                assert session.ws.closure().code == 4400
                session.ws.close()
            assert poll(server.port, session.resume('c[1000,""]', seq=2)).status == 200
        until = time.monotonic() + 10
        while server.log().count(" ended after ") < 20 and time.monotonic() < until:
            time.sleep(0.05)
        log = server.log()
        assert log.count(" ended after ") == 20
        assert "Traceback" not in log
        assert "MAINLOOP" not in log
        assert log.count("WARNING fallback_transport.polling: poll: ") == 20
