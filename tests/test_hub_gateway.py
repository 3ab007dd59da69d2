"""The hub's binding in virtual time, over streams that are only bytes."""

from __future__ import annotations

import heapq
import itertools
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from fallback_transport import hub_gateway
from fallback_transport.binding import hub_binding
from fallback_transport.gateway import Gateway, GatewayOptions
from fallback_transport.heads import read_head
from fallback_transport.hub_gateway import (
    BODY_STEP,
    BODY_WAIT,
    HEAD_WAIT,
    MAX_HEAD,
    MAX_REMEMBERED,
    MAX_UNFINISHED_PER_ADDRESS,
    REMEMBERED,
    HubGateway,
)
from fallback_transport.polling import HOLD_MARGIN
from fallback_transport.protocol.envelope import Grant
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.protocol.server import ServerMachine
from fallback_transport.registry import Capacity, Registry

from .fakes import FakeRuntime
from .integration.raw import SEPARATOR, handshake, hello, request

END = SEPARATOR + "."


class Timer:
    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.function, self.args = function, args

    def cancel(self) -> None:
        self.function = lambda *args: None


class FakeHub:
    """Timers on a runtime's clock."""

    def __init__(self, runtime: FakeRuntime) -> None:
        self._runtime = runtime
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._runtime.now()

    def call_later(self, seconds: float, function: Callable[..., Any], *args: Any) -> Timer:
        timer = Timer(function, args)
        heapq.heappush(self._timers, (self.now() + seconds, next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        until = self.now() + seconds
        while self._timers and self._timers[0][0] <= until:
            when, _, timer = heapq.heappop(self._timers)
            self._runtime.advance(max(0.0, when - self.now()))
            timer.function(*timer.args)
            self._runtime.run()
        self._runtime.advance(until - self.now())


class FakeStream:
    """What `runtime.Stream` is to whoever serves it."""

    def __init__(self, address: str = "192.0.2.1") -> None:
        self.address = address, 4711
        self.own_address = "192.0.2.9", "80"
        self.received: Callable[[bytes], None] = lambda data: None
        self.drained: Callable[[], None] = lambda: None
        self.pending = 0
        self.closed = False
        self.paused = False
        self.sent = b""
        #: What `eventlet.wsgi` was given.
        self.handed_over: bytes | None = None
        #: Whether the peer reads.
        self.reads = True
        #: What came that nobody was told of.
        self.there = b""

    def read(self, most: int) -> bytes:
        data, self.there = self.there[:most], self.there[most:]
        return data

    def send(self, data: bytes) -> None:
        self.sent += data
        if not self.reads:
            self.pending += len(data)

    queue = send

    def drain(self) -> None:
        self.pending, self.reads = 0, True
        self.drained()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def feed(self, data: bytes) -> None:
        self.received(data)

    def send_end(self) -> None:
        self.sent += b"<end>"

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.drained()

    def hand_over(self, head: bytes) -> None:
        self.closed = True
        self.handed_over = head

    @property
    def statuses(self) -> list[int]:
        return [int(part[:3]) for part in self.sent.split(b"HTTP/1.1 ")[1:]]


class Layer:
    """The layer above, which takes nothing."""

    def unit(self, seq: int, data: Any) -> None:
        return None

    def resumed(self, environ: dict[str, Any]) -> None:
        pass

    def over(self, code: int, reason: str, by_client: bool) -> None:
        pass


class Place:
    """Gateways on a hub whose time is a test's."""

    def __init__(self, *, grant: Grant | None = None, fix: Any = None, **options: Any) -> None:
        self.runtime = FakeRuntime()
        self.hub = FakeHub(self.runtime)
        self.runtime._hub = self.hub  # type: ignore[assignment]
        # Where a test calls its mode eventlet, the real one is not to begin.
        self.runtime.settle = lambda: None  # type: ignore[method-assign]
        self.runtime.at_end_of_turn = lambda flush: flush()  # type: ignore[method-assign]
        self.runtime.submit = self.runtime.spawn  # type: ignore[method-assign]
        self.environs: list[dict[str, Any]] = []
        self.registry = Registry(
            self.runtime,
            self._layer,
            grant=grant or Grant(),
            bounds=Bounds(),
            capacity=Capacity(),
        )
        self.gateway = Gateway(
            lambda environ, start_response: [],
            self.registry,
            self.runtime,
            lambda environ, start_response: [],
            GatewayOptions(**options),
            {"flask.app": "the app"},
        )
        self.front = HubGateway([self.gateway], fix, self.runtime)

    def _layer(self, conversation: Any) -> Layer:
        self.environs.append(conversation.environ)
        return Layer()

    def stream(self, address: str = "192.0.2.1") -> FakeStream:
        stream = FakeStream(address)
        self.front(stream)  # type: ignore[arg-type]
        return stream

    def session(self, **headers: str) -> tuple[FakeStream, dict[str, Any]]:
        """A new session by polling, and its welcome."""
        stream = self.stream()
        stream.received(hello_request(headers))
        self.hub.advance(0.1)
        welcome = stream.sent.partition(b"\r\n\r\n")[2].decode().split(SEPARATOR)[0]
        return stream, json.loads(welcome)


def hello_request(headers: dict[str, str] | None = None, path: str = "/fallback/poll") -> bytes:
    return request("POST", path, (hello() + END).encode(), headers)


def waiting(welcome: dict[str, Any], number: int, wait: int = 20_000) -> bytes:
    line = f"i{welcome['id']} k{welcome['key']} t1 n{number} w{wait} c1 a0"
    return request("POST", "/fallback/poll", (line + END).encode())


# -- heads ------------------------------------------------------------------------------


def test_a_head_is_the_environ_that_wsgi_would_have() -> None:
    environ = read_head(
        b"POST /fallback/poll HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\nX_A: 3\r\n"
        b"Content-Type: text/plain\r\nContent-Length: 5\r\nCookie:  a=\xe9 \r\n\r\n"
    )
    assert environ == {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/fallback/poll",
        "RAW_PATH_INFO": "/fallback/poll",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "5",
        "SERVER_PROTOCOL": "HTTP/1.0",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "h",
        "HTTP_X_A": "1,2",
        "HTTP_COOKIE": "a=\xe9",
    }


@pytest.mark.parametrize(
    "head",
    [
        b"POST /fallback/poll HTTP/1.0\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\nHost: h\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nA: b\rc\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nA: b\0\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nA : b\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nA\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\n: b\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nContent-Length: 1,1\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nContent-Length: 1 \r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nContent-Length:\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nContent-Length: 1234567890123\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nTransfer-Encoding: x\r\nContent-Length: 1\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
        b"POST /fallback/poll?a HTTP/1.1\r\n\r\n",
        b"POST /fallback/%70oll HTTP/1.1\r\n\r\n",
        b"POST http://h/fallback/poll HTTP/1.1\r\n\r\n",
        b"POST * HTTP/1.1\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nHost: h",
        b"",
    ],
)
def test_what_is_not_plainly_a_head_is_none(head: bytes) -> None:
    assert read_head(head) is None


@pytest.mark.parametrize(
    ("begin", "ours"),
    [
        (b"P", True),
        (b"G", True),
        (b"H", False),
        (b"POST /", True),
        (b"POST /fall", True),
        (b"POST /falling", False),
        (b"GET /fallback/w", True),
        (b"PUT /fallback/poll", False),
        (b"POST /fallback/poll HTTP/1.1\r\nHost", True),
        (b"POST /fallback/deeper/poll HTTP/1.1\r\n", True),
        (b"GET /fallback/ws HTTP/1.1\r\n", True),
        (b"GET /fallback/poll HTTP/1.1\r\n", False),
        (b"POST /fallback/ws HTTP/1.1\r\n", False),
        (b"POST /fallback/poll HTTP/1.0\r\n", False),
        (b"POST /fallback/poll HTTP/1.1\n", False),
        (b"POST /poll HTTP/1.1\r\n", False),
    ],
)
def test_how_a_session_request_begins(begin: bytes, ours: bool) -> None:
    assert Place().front.may_be_ours(begin) is ours


def test_at_the_root_every_path_may_be_ours() -> None:
    front = Place(paths=("/",)).front
    assert front.may_be_ours(b"POST /any/where")
    assert front.may_be_ours(b"POST /poll HTTP/1.1\r\n")
    assert not front.may_be_ours(b"POST /socket.io/poll HTTP/1.1\r\n")


def test_remembered_heads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    read: list[bytes] = []

    def reading(text: bytes) -> Any:
        read.append(text)
        return read_head(text)

    monkeypatch.setattr(hub_gateway, "read_head", reading)
    for number in range(3):
        # Whatever the length, they are one.
        head = request("POST", "/fallback/poll", b"x" * number)[: -number or None]
        found = place.front.head(head)
        assert found is not None
        assert found[1] == number
    assert len(read) == 1
    for number in range(2 * REMEMBERED):
        head = request("POST", "/fallback/poll", b"", {"Cookie": f"a={number}"})
        assert place.front.head(head) is not None
        assert len(place.front._heads) <= REMEMBERED
    before = dict(place.front._heads)
    long = request("POST", "/fallback/poll", b"", {"Cookie": "a" * MAX_REMEMBERED})
    assert place.front.head(long) is not None
    assert place.front.head(handshake()[:-2] + b"X: y\r\n\r\n") is not None
    assert place.front._heads == before


# -- time ----------------------------------------------------------------------------------


def test_half_a_head_has_its_time() -> None:
    place = Place()
    stream, idle = place.stream(), place.stream()
    stream.received(b"POST /fallb")
    place.hub.advance(HEAD_WAIT - 0.1)
    # A byte now and then does not help.
    stream.received(b"a")
    assert not stream.closed
    place.hub.advance(0.2)
    assert stream.closed
    assert stream.statuses == [408]
    # One that has not begun may wait.
    assert not idle.closed


def test_a_whole_head_stops_its_time() -> None:
    place = Place()
    stream = place.stream()
    data = hello_request()
    stream.received(data[:30])
    place.hub.advance(HEAD_WAIT - 0.1)
    stream.received(data[30:-10])
    place.hub.advance(BODY_WAIT - 0.1)
    stream.received(data[-10:])
    place.hub.advance(HEAD_WAIT + BODY_WAIT)
    assert stream.statuses == [200]
    assert not stream.closed
    assert not place.front._unproven


def test_a_body_has_its_time_too_and_a_long_one_more_of_it() -> None:
    place = Place()
    stream = place.stream()
    data = request("POST", "/fallback/poll", b"x" * 3 * BODY_STEP)
    for at in range(0, len(data) - BODY_STEP, BODY_STEP):
        stream.received(data[at : at + BODY_STEP])
        place.hub.advance(BODY_WAIT - 0.1)
    # A byte now and then is not enough.
    stream.received(data[-9:-8])
    place.hub.advance(0.2)
    assert stream.statuses == [408]
    assert stream.closed


def test_of_a_long_body_is_read_what_is_there() -> None:
    place = Place()
    stream = place.stream()
    data = request("POST", "/fallback/poll", b"x" * 3 * BODY_STEP)
    stream.there = data[BODY_STEP:] + data
    stream.received(data[:BODY_STEP])
    # Not a byte of the next request: that has its turn when this one has its answer.
    assert stream.there == data
    assert stream.statuses == [400]
    # Of what is short, nothing is read before it is told of.
    data = request("POST", "/fallback/poll", b"x" * BODY_STEP)
    stream.there = data[9:]
    stream.received(data[:9])
    assert stream.there == data[9:]
    stream.received(data[9:])
    assert stream.statuses == [400, 400]


def test_only_so_many_heads_of_one_address_are_waited_for() -> None:
    place = Place()
    other = place.stream("192.0.2.2")
    other.received(b"POST /f")
    streams = [place.stream() for _ in range(MAX_UNFINISHED_PER_ADDRESS + 3)]
    for stream in streams:
        stream.received(b"POST /f")
    assert [stream.closed for stream in streams[:4]] == [True, True, True, False]
    assert not any(stream.closed for stream in (other, *streams[4:]))
    # Whoever leaves makes room.
    streams[5].received(b"")
    last = place.stream()
    last.received(b"POST /f")
    assert not streams[3].closed


def test_an_oversized_head_is_the_servers() -> None:
    place = Place()
    stream = place.stream()
    begin = b"POST /fallback/poll HTTP/1.1\r\nX: "
    stream.received(begin)
    stream.received(b"x" * MAX_HEAD)
    assert stream.handed_over == begin + b"x" * MAX_HEAD
    place.hub.advance(HEAD_WAIT)
    assert stream.statuses == []


def test_a_held_poll_is_answered_when_its_time_is_over_whatever_its_session_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = Place(grant=Grant(wait=20.0))
    stream, welcome = place.session()
    conversation = place.registry.find(welcome["id"])
    assert conversation is not None
    stream.received(waiting(welcome, 1))
    # A defect, for a test: it is never due.
    monkeypatch.setattr(ServerMachine, "due", lambda machine, attempt, now: None)
    place.hub.advance(20 + HOLD_MARGIN - 0.1)
    assert stream.statuses == [200]
    place.hub.advance(0.2)
    assert stream.statuses == [200, 200]
    assert b"held for too long" in stream.sent
    assert place.gateway.door._held == 0
    assert [len(table) for table in place.front._held.values()] == [0, 0]


# -- one connection --------------------------------------------------------------------------


def test_an_answer_that_is_not_read_holds_up_the_next_and_counts_for_its_session() -> None:
    place = Place()
    stream, welcome = place.session()
    conversation = place.registry.find(welcome["id"])
    assert conversation is not None
    stream.reads = False
    stream.received(waiting(welcome, 1, 0) + waiting(welcome, 2, 0))
    assert stream.statuses == [200, 200]
    assert conversation.weight == stream.pending
    assert conversation.weight > 0
    stream.drain()
    assert stream.statuses == [200, 200, 200]
    assert conversation.weight == 0


def test_one_who_does_not_wait_for_answers_is_not_read_for_ever() -> None:
    place = Place()
    stream, welcome = place.session()
    stream.received(waiting(welcome, 1))
    stream.received(b"GET /page HTTP/1.1\r\n\r\n" * 100)
    assert not stream.paused
    stream.received(b"x" * MAX_HEAD)
    assert stream.paused
    conversation = place.registry.find(welcome["id"])
    assert conversation is not None
    conversation.close(1000, "")
    assert stream.statuses == [200, 200]
    assert stream.handed_over is not None
    assert stream.handed_over.startswith(b"GET /page")


def test_an_end_behind_a_held_poll() -> None:
    place = Place()
    stream, welcome = place.session()
    stream.received(waiting(welcome, 1))
    stream.received(b"")
    assert not stream.closed
    conversation = place.registry.find(welcome["id"])
    assert conversation is not None
    conversation.close(1000, "")
    assert stream.statuses == [200, 200]
    assert stream.closed


def test_a_request_that_ends_early_is_the_servers() -> None:
    place = Place()
    stream = place.stream()
    data = hello_request()[:-5]
    stream.received(data)
    stream.received(b"")
    assert stream.handed_over == data


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
    stream = Place().stream()
    data = hello_request(headers)
    stream.received(data)
    assert stream.handed_over == data


def test_a_page_of_another_origin_may_read_its_answer() -> None:
    stream, _ = Place(origins=("http://friend.test",)).session(Origin="http://friend.test")
    assert b"\r\nAccess-Control-Allow-Origin: http://friend.test\r\n" in stream.sent
    assert b"\r\nAccess-Control-Allow-Credentials: true\r\n" in stream.sent


def test_a_door_below_a_mount_is_ours_for_who_speaks_our_protocol() -> None:
    place = Place()
    stream = place.stream()
    stream.received(hello_request(path="/fallback/deeper/poll"))
    place.hub.advance(0.1)
    assert stream.statuses == [200]
    other = request("POST", "/fallback/deeper/poll", b"what it likes")
    stream.received(other + b"more")
    assert stream.handed_over == other + b"more"


def test_a_websocket_that_never_says_hello_is_closed() -> None:
    place = Place()
    stream = place.stream()
    stream.received(handshake())
    assert stream.statuses == [101]
    place.hub.advance(10.1)
    assert b"no hello" in stream.sent
    assert stream.closed
    assert not place.gateway._ungreeted


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
    stream = FakeStream()
    head = front.head(
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
    environ = front.environ(head[0], stream)  # type: ignore[arg-type]
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

    for outermost in (lambda e, s: gateway(e, s), Changed(gateway), Changed(ProxyFix(gateway))):
        with caplog.at_level(logging.WARNING):
            assert bound(outermost, [gateway]) is None
        assert "stands in front of them" in caplog.messages[-1]
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
    other = Place(paths=("/other",)).gateway
    other.runtime.mode = "eventlet"
    gateway.app = other
    mounts = gateway._mounts = other._mounts = ("/fallback", "/other")
    assert mounts
    front = bound(gateway, [other, gateway])
    assert front is not None
    assert front.may_be_ours(b"POST /other/poll HTTP/1.1\r\n")
    assert front.may_be_ours(b"POST /fallback/poll HTTP/1.1\r\n")
