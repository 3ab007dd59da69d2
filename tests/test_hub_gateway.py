"""The hub's binding in virtual time, over streams that are only bytes."""

from __future__ import annotations

import json
import logging
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
from fallback_transport.runtime import Stream
from fallback_transport.runtime.hub import Hub
from fallback_transport.runtime.stream import READ_BYTES

from .fakes import FakeHub, FakeRuntime, FakeSocket
from .integration.raw import SEPARATOR, handshake, hello, request

END = SEPARATOR + "."


class Client:
    """The other end of an accepted connection, which its gateway serves."""

    def __init__(self, place: Place, address: str) -> None:
        self._place = place
        self.socket = FakeSocket()
        #: What `eventlet.wsgi` was given.
        self.handed_over: bytes | None = None
        accepted = address, 4711
        self.stream = Stream(place.hub, self.socket, accepted, self._wsgi, lambda stream: None)
        place.front(self.stream)
        self.stream.resume()

    def _wsgi(self, stream: Stream, sock: Any, head: bytes) -> None:
        self.handed_over = head

    def send(self, data: bytes) -> None:
        """Let `data` arrive, and be read as far as it is."""
        self.socket.there += data
        while self.socket.there and self.tell("read"):
            pass

    def end(self) -> None:
        """Nothing more is sent."""
        self.socket.ended = True
        self.tell("read")

    def read(self) -> None:
        """Read what waits, and from now on what comes."""
        self.socket.reads = True
        self.tell("write")

    def tell(self, kind: str) -> bool:
        return self._place.fake.tell(kind, self.socket.fileno())

    @property
    def paused(self) -> bool:
        """Whether nobody reads what it sends."""
        return ("read", self.socket.fileno()) not in self._place.fake.watched

    @property
    def closed(self) -> bool:
        return self.stream.closed

    @property
    def received(self) -> bytes:
        """What it has read."""
        self._place.advance(0)
        return self.socket.sent

    @property
    def statuses(self) -> list[int]:
        return [int(part[:3]) for part in self.received.split(b"HTTP/1.1 ")[1:]]


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
        self.fake = FakeHub(self.runtime)
        self.runtime._hub = self.hub = Hub(self.fake)
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

    def client(self, address: str = "192.0.2.1") -> Client:
        return Client(self, address)

    def session(self, **headers: str) -> tuple[Client, dict[str, Any]]:
        """A new session by polling, and its welcome."""
        client = self.client()
        client.send(hello_request(headers))
        self.advance(0.1)
        welcome = client.received.partition(b"\r\n\r\n")[2].decode().split(SEPARATOR)[0]
        return client, json.loads(welcome)

    def advance(self, seconds: float) -> None:
        """Let time go by."""
        self.runtime.advance(seconds)


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
    client, idle = place.client(), place.client()
    client.send(b"POST /fallb")
    place.advance(HEAD_WAIT - 0.1)
    # A byte now and then does not help.
    client.send(b"a")
    assert not client.closed
    place.advance(0.2)
    assert client.closed
    assert client.statuses == [408]
    # One that has not begun may wait.
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


# -- one connection --------------------------------------------------------------------------


def test_an_answer_that_is_not_read_holds_up_the_next_and_counts_for_its_session() -> None:
    place = Place()
    client, welcome = place.session()
    conversation = place.registry.find(welcome["id"])
    assert conversation is not None
    client.socket.reads = False
    # The first answer still waits for those of other connections when the second comes.
    client.send(b"".join(waiting(welcome, number, 0) for number in (1, 2, 3)))
    assert client.statuses == [200]
    waits = client.stream.pending
    assert conversation.weight == waits > 0
    client.read()
    assert client.statuses == [200] * 4
    # The last of them was written at once.
    assert conversation.weight == client.stream.pending == 0


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
    client, _ = Place(origins=("http://friend.test",)).session(Origin="http://friend.test")
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


def test_a_websocket_that_never_says_hello_is_closed() -> None:
    place = Place()
    client = place.client()
    client.send(handshake())
    assert client.statuses == [101]
    place.advance(10.1)
    assert b"no hello" in client.received
    assert client.closed
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
    client = Place().client()
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
    environ = front.environ(head[0], client.stream)
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
