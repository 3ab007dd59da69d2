"""`Gateway`: what WSGI requests are answered with, and what handlers see of them."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from typing import Any

import pytest

from fallback_transport import origins
from fallback_transport.answers import LINGER, WEIGH_FROM
from fallback_transport.application import MalformedPacket, Unit
from fallback_transport.conversation import Conversation
from fallback_transport.drivers import HELLO_WAIT
from fallback_transport.files import DOCTOR_FILES, FILES, SCRIPT, folder, load
from fallback_transport.gateway import UNSUITABLE, Gateway
from fallback_transport.options import Options
from fallback_transport.origins import Origins
from fallback_transport.polling import WELCOME_WAIT
from fallback_transport.protocol.codec import decode_body, encode_body
from fallback_transport.protocol.codes import CloseCode
from fallback_transport.protocol.envelope import End, Envelope, Grant, Hello, PollRequest, Welcome
from fallback_transport.protocol.message import Message
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.registry import Capacity, Registry
from fallback_transport.runtime import UnsuitableServer
from fallback_transport.testing.links import Wire
from tests.fakes import FakeRuntime
from tests.integration.raw import TEXT, frame, hello

HELLO = encode_body(Hello(1, nonce="nonce", envelope=Envelope(0, 0, 1, (Message("0"),))))


class Response:
    """What one request was answered with."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    @property
    def unit(self) -> Any:
        """The body's envelope, hello, welcome or end."""
        return decode_body(self.body)


class Layer:
    """A layer above that keeps what comes, and says "bad" is malformed."""

    def __init__(self, conversation: Conversation) -> None:
        self.log: list[Any] = []

    def unit(self, seq: int, data: str | bytes) -> Unit:
        if data == "bad":
            raise MalformedPacket("no packet")
        return Unit((seq,), lambda: self.log.append(data))

    def resumed(self, environ: dict[str, Any]) -> None:
        pass

    def over(self, code: int, reason: str, by_client: bool, gone: Callable[[], None]) -> None:
        gone()


class Doors:
    """A gateway, and requests to it."""

    def __init__(
        self,
        *,
        sessions: int = 10,
        grant: Grant | None = None,
        mounts: Any = None,
        subprotocols: tuple[str, ...] = (),
        origins: Origins | None = None,
        stock_path: str | None = "/socket.io",
        **options: Any,
    ) -> None:
        given = Options(**options)
        self.runtime = FakeRuntime()
        self.layers: list[Layer] = []
        self.behind: list[str] = []
        #: What the server is given, and is to close.
        self.answers: list[Any] = []
        self.stock: list[dict[str, Any]] = []
        self.registry = Registry(
            self.runtime,
            self._layer,
            grant=grant or Grant(),
            bounds=Bounds(),
            capacity=Capacity(sessions),
            subprotocols=subprotocols,
        )
        self.gateway = Gateway(
            self._app,
            self.registry,
            given,
            origins=origins or Origins(),
            stock=self._stock,
            stock_path=stock_path,
            extra={"flask.app": "the app"},
            mounts=mounts or given.paths,
        )
        self.attempt = 0

    def _layer(self, conversation: Conversation) -> Layer:
        self.layers.append(Layer(conversation))
        return self.layers[-1]

    def _app(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.behind.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b"the app"]

    def _stock(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.stock.append(environ)
        start_response("200 OK", [])
        return [b"the stock engine"]

    def start(self, path: str, body: bytes = b"", method: str = "POST", **headers: Any) -> Response:
        """Begin a request as a task; its response is filled once it is answered."""
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "example.com",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
        }
        environ.update(headers)
        environ = {name: value for name, value in environ.items() if value is not None}
        response = Response()

        def start_response(status: str, fields: list[tuple[str, str]]) -> None:
            response.status = int(status[:3])
            response.headers = dict(fields)
            assert len(response.headers) == len(fields), "each header once"

        def run() -> None:
            answer = self.gateway(environ, start_response)
            self.answers.append(answer)
            response.body = b"".join(answer)

        self.runtime.spawn(run)
        self.runtime.run()
        return response

    def ask(self, path: str, body: bytes = b"", method: str = "POST", **headers: Any) -> Response:
        """Make a request that is answered at once; a hello, as soon as it may be."""
        response = self.start(path, body, method, **headers)
        if not response.status:
            self.runtime.advance(WELCOME_WAIT)
        assert self.runtime.errors == []
        assert response.status, "answered at once"
        return response

    def hello(self, **headers: Any) -> Response:
        return self.ask("/fallback/poll", HELLO, **headers)

    def poll(
        self,
        welcome: Welcome,
        number: int,
        wait: float | None,
        *texts: str,
        attempt: int = 1,
        commit: int = 1,
    ) -> Response:
        """A request of a session; the first one commits its connection."""
        messages = tuple(Message(text) for text in texts)
        assert welcome.key is not None
        envelope = Envelope(0, 0, 2 if texts else None, messages, commit=commit)
        request = PollRequest(welcome.id, welcome.key, attempt, number, wait, None, envelope)
        return self.start("/fallback/poll", encode_body(request))


@pytest.fixture
def doors() -> Doors:
    return Doors()


# -- dispatch -------------------------------------------------------------------------


def test_what_is_not_ours_goes_on(doors: Doors) -> None:
    for path in ("/", "/fallback", "/fallbackery/poll", "/socket.iox", "/a/fallback/poll"):
        assert doors.ask(path, method="GET").body == b"the app"
    assert len(doors.behind) == 5


def test_stock_clients_go_to_the_stock_engine(doors: Doors) -> None:
    assert doors.ask("/socket.io/", method="GET").body == b"the stock engine"
    assert doors.stock[0]["flask.app"] == "the app"
    assert doors.behind == []


def test_stock_clients_of_a_handed_in_server_go_on() -> None:
    assert Doors(stock_path=None).ask("/socket.io/", method="GET").body == b"the app"


def test_another_mount() -> None:
    doors = Doors(path=("/deep/er",))
    assert isinstance(doors.ask("/deep/er/poll", HELLO).unit, Welcome)
    assert doors.ask("/fallback/poll", HELLO).body == b"the app"


def test_what_is_no_door_below_a_mount_goes_on() -> None:
    doors = Doors(path=("/chat", "/"))
    for path in ("/chat", "/chat/", "/chat/room", "/chat/wss", "/chat/pol", "/", "/x"):
        for method in ("GET", "POST"):
            assert doors.ask(path, b"body", method).body == b"the app", path
    assert len(doors.behind) == 14


def test_several_mounts_lead_to_the_same_sessions() -> None:
    doors = Doors(path=("/", "/chat", "/fallback"))
    welcome = doors.ask("/chat/poll", HELLO).unit
    for door in ("/poll", "/chat/poll", "/fallback/poll"):
        again = doors.ask(door, HELLO).unit
        assert (again.id, again.key) == (welcome.id, welcome.key)
    for door in ("/ws", "/chat/ws", "/fallback/ws"):
        assert doors.ask(door, method="GET").status == 426
    for door in ("/fallback_transport.js", "/chat/fallback_transport.js"):
        assert doors.ask(door, method="GET").status == 200
    assert doors.behind == []


def test_below_a_mount_only_a_sessions_requests_are_taken() -> None:
    doors = Doors(path=("/chat", "/"), grant=Grant(body=20_000))
    for place in ("/chat/room/5", "/other", "/chat/"):
        assert isinstance(doors.ask(place + "/poll", HELLO).unit, Welcome)
        headers = {"HTTP_SEC_WEBSOCKET_PROTOCOL": "fallback.v1"}
        assert doors.ask(place + "/ws", b"", "GET", **headers).status == 426
    assert doors.behind == []
    others: list[tuple[str, str, bytes, dict[str, Any]]] = [
        ("POST", "poll", b"my=form", {}),
        ("POST", "poll", HELLO[:-1], {}),
        ("POST", "poll", HELLO, {"CONTENT_LENGTH": None}),
        ("POST", "poll", HELLO, {"CONTENT_LENGTH": "many"}),
        ("POST", "poll", HELLO, {"HTTP_TRANSFER_ENCODING": "chunked"}),
        ("POST", "poll", HELLO + b"." * 20_000, {}),
        ("GET", "poll", HELLO, {}),
        ("GET", "ws", b"", {}),
        ("GET", "ws", b"", {"HTTP_SEC_WEBSOCKET_PROTOCOL": "chat"}),
        ("GET", "fallback_transport.js", b"", {}),
    ]
    for method, name, body, headers in others:
        answer = doors.ask(f"/chat/room/5/{name}", body, method, **headers)
        assert answer.body == b"the app", (method, name, body)


def test_the_application_can_still_read_what_was_looked_at() -> None:
    doors = Doors(path=("/chat",))
    read: list[bytes] = []
    before = doors._app

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        read.append(environ["wsgi.input"].read())
        return before(environ, start_response)

    doors.gateway.app = application
    doors.ask("/chat/room/poll", b"vote=yes")
    assert read == [b"vote=yes"]


def test_the_longest_mount_of_the_application_gets_the_request() -> None:
    """Two gateways, one behind the other, which know each other's mounts."""
    doors = Doors(path=("/",), mounts={"/": 1, "/deep": 2})
    assert isinstance(doors.ask("/shallow/poll", HELLO).unit, Welcome)
    assert doors.ask("/deep/poll", HELLO).body == b"the app"
    assert doors.ask("/deep/er/poll", HELLO).body == b"the app"
    assert isinstance(doors.ask("/deeper/poll", HELLO).unit, Welcome)


@pytest.mark.parametrize("mount", ["/chat", "/news"])
def test_the_log_says_once_where_pages_look_for_sessions_in_vain(
    mount: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the gateways of an application one does, and only of what is no other's mount."""
    doors = Doors(path=(mount,), mounts={"/chat": 1, "/news": 2})
    ours = {"HTTP_SEC_WEBSOCKET_PROTOCOL": "fallback.v1"}
    for place in ("/chat", "/chat/5", "/news", "/news/5"):
        doors.ask(place + "/ws", method="GET", **ours)
    doors.ask("/fallback/ws", method="GET", HTTP_SEC_WEBSOCKET_PROTOCOL="chat")
    assert "looks for sessions" not in caplog.text
    caplog.clear()
    for _ in range(2):
        assert doors.ask("/app/chat/ws", method="GET", **ours).body == b"the app"
        doors.ask("/fallback/ws", method="GET", **ours)
    told = [
        "a page looks for sessions at '/app/chat', and they are at /chat, /news: the URL of its "
        "connect(), the option path, or the prefix that a proxy strips or adds is another"
    ]
    assert caplog.messages == (told if mount == "/chat" else [])


# -- polls ----------------------------------------------------------------------------


def test_a_hello_is_welcomed_and_never_cached(doors: Doors) -> None:
    response = doors.hello()
    assert response.status == 200
    assert isinstance(response.unit, Welcome)
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Type"].lower().startswith("text/plain")
    assert response.headers["Content-Length"] == str(len(response.body))
    assert "Set-Cookie" not in response.headers
    assert doors.layers[0].log == ["0"]


def test_a_welcome_waits_a_little_for_the_first_messages(doors: Doors) -> None:
    response = doors.start("/fallback/poll", HELLO)
    (conversation,) = doors.registry.all()
    doors.runtime.advance(WELCOME_WAIT / 2)
    assert not response.status
    conversation.send([Message("at once")])
    doors.runtime.run()
    assert isinstance(response.unit, Welcome)
    assert [message.data for message in response.unit.envelope.messages] == ["at once"]
    # Repeated, it has them from the start; nothing is held for one who has to prove the key.
    again = doors.start("/fallback/poll", HELLO)
    assert again.unit == response.unit
    doors.poll(response.unit, 1, 0.0)
    keyless = doors.start("/fallback/poll", HELLO)
    assert keyless.unit.key is None


def test_a_welcome_does_not_wait_for_long(doors: Doors) -> None:
    response = doors.start("/fallback/poll", HELLO)
    doors.runtime.advance(WELCOME_WAIT)
    assert isinstance(response.unit, Welcome)
    assert response.unit.envelope.messages == ()


def test_a_welcome_that_waits_is_given_when_its_session_ends(doors: Doors) -> None:
    response = doors.start("/fallback/poll", HELLO)
    (conversation,) = doors.registry.all()
    conversation.abort(4000, "over")
    doors.runtime.run()
    assert (response.unit.code, response.unit.session) == (4000, True)


def test_a_welcome_that_waits_is_given_when_others_take_its_place(doors: Doors) -> None:
    hellos = [
        encode_body(Hello(n, nonce="nonce", envelope=Envelope(0, 0, 1, (Message("0"),))))
        for n in range(1, 5)
    ]
    responses = [doors.start("/fallback/poll", hello) for hello in hellos]
    assert [bool(response.status) for response in responses] == [True, False, False, False]
    assert isinstance(responses[0].unit, Welcome)
    doors.runtime.advance(WELCOME_WAIT)
    assert all(isinstance(response.unit, Welcome) for response in responses)


def test_messages_go_up_at_once_and_come_down_when_there_are_some(doors: Doors) -> None:
    welcome = doors.hello().unit
    held = doors.poll(welcome, 1, 20.0)
    assert held.status == 0
    sent = doors.poll(welcome, 2, None, "one", "two")
    assert (sent.status, sent.unit.received) == (200, 3)
    assert doors.layers[0].log == ["0", "one", "two"]
    conversation = doors.registry.find(welcome.id)
    assert conversation is not None
    conversation.send([Message("down")])
    doors.runtime.run()
    assert held.status == 200
    assert [message.data for message in held.unit.messages] == ["down"]


def test_a_held_poll_is_answered_when_its_time_is_over(doors: Doors) -> None:
    welcome = doors.hello().unit
    held = doors.poll(welcome, 1, 20.0)
    doors.runtime.advance(19)
    assert held.status == 0
    doors.runtime.advance(1.5)
    assert held.status == 200
    assert held.unit.messages == ()


def test_a_newer_poll_releases_the_held_one_and_its_twins_share_the_answer(doors: Doors) -> None:
    welcome = doors.hello().unit
    older = doors.poll(welcome, 1, 20.0)
    assert older.status == 0
    newer, twin = doors.poll(welcome, 2, 20.0), doors.poll(welcome, 2, 20.0)
    assert (older.status, older.unit.messages) == (200, ())
    assert (newer.status, twin.status) == (0, 0)
    doors.poll(welcome, 3, None, "up")
    doors.registry.find(welcome.id).send([Message("down")])
    doors.runtime.run()
    for response in (newer, twin):
        assert [message.data for message in response.unit.messages] == ["down"]


def test_a_poll_is_let_go_when_another_connection_carries_and_held_again_when_its_own_does(
    doors: Doors,
) -> None:
    welcome = doors.hello().unit
    first = doors.poll(welcome, 1, 20.0)
    resume = Hello(2, id=welcome.id, key=welcome.key)
    doors.ask("/fallback/poll", encode_body(resume))
    second = doors.poll(welcome, 2, 20.0, attempt=2, commit=2)
    assert (first.unit.code, first.unit.session) == (CloseCode.SUPERSEDED, False)
    third = doors.poll(welcome, 3, 20.0, commit=3)
    assert (second.unit.code, second.unit.session) == (CloseCode.SUPERSEDED, False)
    assert third.status == 0
    doors.registry.find(welcome.id).send([Message("down")])
    doors.runtime.run()
    assert [message.data for message in third.unit.messages] == ["down"]


def test_of_many_twins_the_oldest_is_let_go(doors: Doors) -> None:
    welcome = doors.hello().unit
    oldest, *others = [doors.poll(welcome, 1, 20.0) for _ in range(5)]
    assert (oldest.unit.code, oldest.unit.session) == (CloseCode.SUPERSEDED, False)
    assert [response.status for response in others] == [0] * 4


def test_beyond_the_limit_polls_are_not_held() -> None:
    doors = Doors(max_held_polls=1)
    welcomes = []
    for nonce in ("one", "two"):
        hello = Hello(1, nonce=nonce, envelope=Envelope(0, 0, 1, (Message("0"),)))
        welcomes.append(doors.ask("/fallback/poll", encode_body(hello)).unit)
    held = doors.poll(welcomes[0], 1, 20.0)
    assert doors.poll(welcomes[1], 1, 20.0).status == 200
    assert held.status == 0
    doors.runtime.advance(21)
    assert held.status == 200
    assert doors.poll(welcomes[1], 2, 20.0).status == 0


def test_an_ended_session_is_news_with_status_200(doors: Doors) -> None:
    """Proxies replace the bodies of errors."""
    welcome = doors.hello().unit
    held = doors.poll(welcome, 1, 20.0)
    doors.poll(welcome, 2, None, "bad")
    for response in (held, doors.poll(welcome, 3, 20.0)):
        assert (response.status, response.unit.code) == (200, 4400)
        assert response.unit.session


def test_an_unknown_session_is_gone_with_status_200(doors: Doors) -> None:
    welcome = Welcome(doors.registry.tag + ".unknown", 1, "key")
    response = doors.poll(welcome, 1, 20.0)
    assert (response.status, response.unit.code, response.unit.session) == (200, 4404, True)


def test_another_processs_session_is_misdirected(doors: Doors) -> None:
    response = doors.poll(Welcome("ffffff.unknown", 1, "key"), 1, 20.0)
    assert (response.status, response.unit.code, response.unit.session) == (421, 4421, False)


def test_a_full_server_says_when_to_come_again() -> None:
    response = Doors(sessions=0).hello()
    assert (response.status, response.unit.code) == (503, 1013)
    assert int(response.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, 4400),
        (b"<html>login</html>", 400, 4400),
        (HELLO[:-2], 400, 4400),
        (b"\xff\x1e.", 400, 4400),
        (HELLO.replace(b'"hello":1', b'"hello":2'), 426, 4426),
        (b"a0\x1e.", 400, 4400),
        (b'{"end":1000,"reason":""}\x1e.', 400, 4400),
    ],
)
def test_what_is_no_request_is_answered_in_kind(
    doors: Doors, body: bytes, status: int, code: int
) -> None:
    response = doors.ask("/fallback/poll", body)
    assert (response.status, response.unit.code, response.unit.session) == (status, code, False)
    assert len(doors.registry) == 0


@pytest.mark.parametrize("version", [0, 2, 10])
@pytest.mark.parametrize("resume", [False, True])
def test_an_older_and_a_newer_script_hear_which_version_is_spoken(
    doors: Doors, version: int, resume: bool
) -> None:
    hello = encode_body(Hello(2, id="id", key="key")) if resume else HELLO
    response = doors.ask("/fallback/poll", hello.replace(b'"hello":1', b'"hello":%d' % version))
    end = response.unit
    assert (response.status, end.code, end.session) == (426, 4426, False)
    assert end.reason == f"protocol version {version} is not spoken here, version 1 is"


def test_only_post_polls(doors: Doors) -> None:
    response = doors.ask("/fallback/poll", method="GET")
    assert response.status == 405
    assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize("length", [None, "", "-1", "+5", "1e3", "٣", "5 ", "0x10", "chunked"])
def test_a_body_of_unstated_length_is_refused(doors: Doors, length: str | None) -> None:
    # One that is stated twice is, too.
    name = "HTTP_TRANSFER_ENCODING" if length == "chunked" else "CONTENT_LENGTH"
    response = doors.ask("/fallback/poll", HELLO, **{name: length})
    assert (response.status, response.unit.code) == (411, 4400)
    assert len(doors.registry) == 0


def test_a_body_that_is_too_large_is_not_read() -> None:
    doors = Doors(grant=Grant(body=len(HELLO)))
    assert doors.hello().status == 200
    for length in (str(len(HELLO) + 1), "9" * 5000):
        response = doors.ask("/fallback/poll", CONTENT_LENGTH=length, **{"wsgi.input": None})
        assert (response.status, response.unit.code) == (413, 4413)
        assert response.unit.reason == f"at most {len(HELLO)} bytes"


def test_a_body_that_ends_early_is_refused(doors: Doors) -> None:
    response = doors.ask("/fallback/poll", HELLO, CONTENT_LENGTH=str(len(HELLO) + 1))
    assert (response.status, response.unit.code) == (400, 4400)


def test_a_body_that_cannot_be_read_is_refused(doors: Doors) -> None:
    class Broken:
        def read(self, size: int) -> bytes:
            raise ConnectionResetError

    response = doors.ask("/fallback/poll", HELLO, **{"wsgi.input": Broken()})
    assert (response.status, response.unit.code) == (400, 4400)


def test_long_answers_are_compressed_for_who_can_read_it(doors: Doors) -> None:
    welcome = doors.hello().unit
    doors.poll(welcome, 1, None)
    conversation = doors.registry.find(welcome.id)
    assert conversation is not None
    conversation.send([Message("x" * 5000)])
    assert welcome.key is not None
    request = PollRequest(welcome.id, welcome.key, 1, 2, 20.0, None, Envelope(commit=1))
    body = encode_body(request)
    plain = doors.ask("/fallback/poll", body)
    packed = doors.ask(
        "/fallback/poll", body.replace(b" n2", b" n3"), HTTP_ACCEPT_ENCODING="gzip, deflate"
    )
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Vary"] == "Accept-Encoding"
    assert packed.headers["Content-Length"] == str(len(packed.body))
    assert gzip.decompress(packed.body) == plain.body
    assert "Content-Encoding" not in doors.hello(HTTP_ACCEPT_ENCODING="gzip").headers


def test_a_long_answer_counts_for_its_session_until_its_server_has_closed_it(doors: Doors) -> None:
    welcome = doors.hello().unit
    conversation = doors.registry.find(welcome.id)
    assert conversation is not None
    for number, size in ((1, WEIGH_FROM - 100), (2, WEIGH_FROM)):
        conversation.send([Message("x" * size)])
        response = doors.poll(welcome, number, 20.0)
        answered = doors.answers[-1]
        assert len(answered) == 1
        assert len(response.body) > size
        if number == 2:
            assert conversation.weight == len(response.body)
            answered.close()
            answered.close()
        assert conversation.weight == 0


@pytest.mark.parametrize("headers", [{"CONTENT_LENGTH": "100000"}, {"HTTP_TRANSFER_ENCODING": "x"}])
@pytest.mark.parametrize("ends", [False, True])
def test_who_is_turned_away_is_read_for_a_while_and_not_to_the_end(
    doors: Doors, ends: bool, headers: dict[str, str]
) -> None:
    sent: list[bytes] = []
    wire = Wire(doors.runtime.tasks, sent.append)
    given = {"fallback_transport.socket": wire, "wsgi.input": object()}
    doors.start("/fallback/poll", **headers, **given, HTTP_ORIGIN="http://evil.test")
    head, _, body = b"".join(sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain")
    assert head.endswith(b"\r\nConnection: close")
    assert decode_body(body) == End(CloseCode.ORIGIN, "this origin is not allowed")
    # Which is the end of what it is sent, though it goes on.
    assert sent[-1] == b""
    for _ in range(3):
        wire.feed(b"x" * 70_000)
        doors.runtime.advance(LINGER / 4)
        assert doors.answers == []
    wire.feed(b"" if ends else b"x")
    doors.runtime.run()
    assert doors.runtime.errors == []
    assert len(doors.answers) == ends
    doors.runtime.advance(LINGER / 4)
    wire.feed(b"x")
    doors.runtime.run()
    assert len(doors.answers) == 1
    assert doors.runtime.errors == []


def test_a_server_that_does_not_suit_says_so_to_the_page(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(environ: dict[str, Any]) -> None:
        raise UnsuitableServer("serve otherwise")

    monkeypatch.setattr(doors.runtime, "check", check)
    # No body is read. A page of another origin may read why.
    headers = {"HTTP_ORIGIN": "http://friend.test", "wsgi.input": None}
    told = doors.ask("/fallback/poll", **headers)
    assert (told.status, told.unit.code, told.unit.reason) == (501, 1011, UNSUITABLE)
    assert told.headers["Access-Control-Allow-Origin"] == "*"
    shaken = doors.ask("/fallback/ws", method="GET", **headers)
    assert (shaken.status, shaken.body) == (501, b"serve otherwise\n")
    assert doors.ask("/fallback/fallback_transport.js", method="GET").status == 200


# -- origins --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "host", "scheme", "fine"),
    [
        ("http://example.com", "example.com", "http", True),
        ("http://example.com:80", "example.com", "http", True),
        ("http://example.com:8000", "example.com:8000", "http", True),
        ("https://example.com", "example.com", "https", True),
        # Behind a proxy that ends TLS.
        ("https://example.com", "example.com", "http", True),
        ("https://EXAMPLE.com", "example.COM", "http", True),
        ("http://[::1]:5000", "[::1]:5000", "http", True),
        ("http://example.com", "example.com", "https", False),
        ("http://example.com:8000", "example.com", "http", False),
        ("http://example.com.evil.com", "example.com", "http", False),
        ("http://evil.com", "example.com", "http", False),
        ("http://evil.com#example.com", "example.com", "http", False),
        ("http://example.com@evil.com", "example.com", "http", False),
        ("null", "example.com", "http", False),
        ("null", "null", "http", False),
        ("http://", "", "http", False),
        ("file://", "", "http", False),
        # What no web server serves, an extension's or an app's page, has no port either.
        ("app://example.com", "example.com", "http", False),
        ("http://example.com:x", "example.com", "http", False),
        ("http://example.com:99999", "example.com", "http", False),
        ("http://[", "example.com", "http", False),
    ],
)
@pytest.mark.parametrize("door", ["poll", "ws"])
def test_only_the_pages_own_origin(
    doors: Doors, origin: str, host: str, scheme: str, fine: bool, door: str
) -> None:
    headers = {"HTTP_ORIGIN": origin, "HTTP_HOST": host, "wsgi.url_scheme": scheme}
    if door == "poll":
        response = doors.hello(**headers)
        assert response.status == (200 if fine else 403)
        assert isinstance(response.unit, Welcome) == fine
        if not fine:
            assert response.unit == End(4403, response.unit.reason, False)
    else:
        # No handshake, so it gets no further than that.
        response = doors.ask("/fallback/ws", method="GET", **headers)
        assert response.status == (426 if fine else 403)
    assert len(doors.registry) == (fine and door == "poll")


def test_further_origins_are_named() -> None:
    doors = Doors(origins=Origins(("https://shop.example", "null")))
    assert doors.hello(HTTP_ORIGIN="https://shop.example").status == 200
    assert Doors(origins=Origins(("null",))).hello(HTTP_ORIGIN="null").status == 200
    assert doors.hello(HTTP_ORIGIN="https://other.example").status == 403
    assert Doors(origins=Origins(("*",))).hello(HTTP_ORIGIN="https://other.example").status == 200


def test_the_last_words_of_a_page_that_states_no_referrer_are_its_own() -> None:
    """Firefox's, whose browser knows better; of a host that is trusted."""
    own = {"HTTP_ORIGIN": "null", "HTTP_SEC_FETCH_SITE": "same-origin"}
    for site in ("same-site", "cross-site", "none"):
        assert Doors().hello(**{**own, "HTTP_SEC_FETCH_SITE": site}).status == 403
    assert Doors().hello(**own).status == 200
    assert Doors().hello(HTTP_ORIGIN="null").status == 403
    doors = Doors(origins=Origins((), lambda environ: ["site.test"]))
    assert doors.hello(**own, HTTP_HOST="site.test").status == 200
    assert doors.hello(**own, HTTP_HOST="other.test").status == 403


def test_a_host_that_werkzeug_cannot_read_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 3.1.7 it raised, of whatever a stranger had stated: on a hub, a traceback each."""

    def host_is_trusted(host: str, trusted: Any) -> bool:
        raise UnicodeError("label empty or too long")

    monkeypatch.setattr(origins, "host_is_trusted", host_is_trusted)
    doors = Doors(origins=Origins((), lambda environ: ["site.test"]))
    assert doors.hello(HTTP_HOST="a..b", HTTP_ORIGIN="http://a..b").status == 403


NAMED = "where it may, the option origins names it, or a proxy is to pass on its Host"


@pytest.mark.parametrize(
    ("forwarded", "cure"),
    [
        ({}, NAMED),
        ({"HTTP_X_FORWARDED_HOST": "other.example"}, NAMED),
        (
            {"HTTP_X_FORWARDED_HOST": "shop.example", "HTTP_X_FORWARDED_PROTO": "https"},
            "by X-Forwarded-Host and -Proto it would be: see ProxyFix",
        ),
    ],
)
def test_the_log_says_what_an_origin_was_compared_with(
    doors: Doors, caplog: pytest.LogCaptureFixture, forwarded: dict[str, str], cure: str
) -> None:
    assert doors.hello(HTTP_ORIGIN=SHOP, HTTP_HOST="127.0.0.1:5000", **forwarded).status == 403
    asked = "origin 'https://shop.example' is not allowed to ask 'http://127.0.0.1:5000'; "
    assert caplog.messages == [asked + cure]


@pytest.mark.parametrize(
    ("body", "length", "problem"),
    [
        (b"", "", "a body of unstated length"),
        (b"", "9999999", "a body of 9999999 bytes; at most 1000000"),
        (b"a0", "3", "the body ended early"),
        (b"a0", "2", "a body without its end mark"),
        (b"a0\x1e.", "4", "not what a client sends here"),
        (
            encode_body(Hello(1, envelope=Envelope(1, 1))),
            None,
            "mark 1 of 0 sent",
        ),
    ],
)
def test_the_log_says_whose_poll_is_refused(
    body: bytes, length: str | None, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"HTTP_X_FORWARDED_FOR": "10.9.9.9, 198.51.100.7", "REMOTE_ADDR": "127.0.0.1"}
    if length is not None:
        headers["CONTENT_LENGTH"] = length
    Doors(trusted_proxies=1).ask("/fallback/poll", body, **headers)
    [told] = caplog.messages
    assert problem in told
    assert "from 198.51.100.7" in told


def test_no_origin_is_no_browser(doors: Doors) -> None:
    assert doors.hello().status == 200


def test_the_origin_is_checked_on_every_request(doors: Doors) -> None:
    welcome = doors.hello().unit
    request = PollRequest(welcome.id, welcome.key, 1, 1, 20.0, None, Envelope(commit=1))
    response = doors.ask("/fallback/poll", encode_body(request), HTTP_ORIGIN="http://evil.com")
    assert (response.status, response.unit.code) == (403, 4403)


ALLOW, CREDENTIALS = "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"
SHOP = "https://shop.example"


@pytest.mark.parametrize(
    ("origins", "origin", "status", "allow", "credentials"),
    [
        ((), "http://example.com", 200, None, None),
        ((), None, 200, None, None),
        ((SHOP,), SHOP, 200, SHOP, "true"),
        (("*", SHOP), SHOP, 200, SHOP, "true"),
        (("*",), SHOP, 200, "*", None),
        (("null",), "null", 200, "*", None),
        # Whose page hears no more than that.
        ((), SHOP, 403, "*", None),
        ((SHOP,), "https://evil.example", 403, "*", None),
    ],
)
def test_a_page_of_another_origin_can_read_its_answer(
    origins: tuple[str, ...],
    origin: str | None,
    status: int,
    allow: str | None,
    credentials: str | None,
) -> None:
    doors = Doors(origins=Origins(origins))
    headers = doors.hello(HTTP_ORIGIN=origin).headers
    assert (headers.get(ALLOW), headers.get(CREDENTIALS)) == (allow, credentials)
    assert ("Access-Control-Expose-Headers" in headers) == (allow is not None)
    for body in (b"no envelope", b"x" * 2_000_000):
        response = doors.ask("/fallback/poll", body, HTTP_ORIGIN=origin)
        assert response.status in (400, 413, 403)
        assert response.headers.get(ALLOW) == allow
    # A WebSocket needs none of it, and nobody else reads it.
    answers = [doors.ask(path, method="GET", HTTP_ORIGIN=origin) for path in ("/", "/fallback/ws")]
    assert [ALLOW in answer.headers for answer in answers] == [False, False]


# -- WebSocket ------------------------------------------------------------------------


def test_what_is_no_handshake_is_told_what_is_expected(doors: Doors) -> None:
    response = doors.ask("/fallback/ws", method="GET")
    assert response.status == 426
    assert response.headers["Upgrade"] == "websocket"


HANDSHAKE = {
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_UPGRADE": "websocket",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_SEC_WEBSOCKET_KEY": "AAAAAAAAAAAAAAAAAAAAAA==",
    "HTTP_SEC_WEBSOCKET_PROTOCOL": "fallback.v1",
}


def test_a_server_without_sockets_says_what_to_do(doors: Doors) -> None:
    response = doors.ask("/fallback/ws", method="GET", **HANDSHAKE, SERVER_SOFTWARE="toy/1")
    assert response.status == 501
    assert b"toy/1" in response.body
    assert b"FallbackTransport.run()" in response.body


def test_a_handshake_counts_until_its_hello_or_its_end() -> None:
    doors = Doors(max_ungreeted_per_address=1)
    sent: list[bytes] = []

    def ask(**headers: Any) -> tuple[Wire, Response]:
        wire = Wire(doors.runtime.tasks, sent.append)
        headers = {**HANDSHAKE, "fallback_transport.socket": wire, **headers}
        return wire, doors.start("/fallback/ws", method="GET", **headers)

    odd: list[tuple[dict[str, Any], int]] = [
        ({"HTTP_SEC_WEBSOCKET_VERSION": "12"}, 426),
        ({"fallback_transport.socket": None}, 501),
        ({"HTTP_ORIGIN": "http://evil.test"}, 403),
    ]
    for headers, status in odd:
        assert ask(**headers)[1].status == status
    assert sent == []
    greets, _ = ask()
    for address, status in (("", 503), ("192.0.2.7", 0)):
        refused = ask(REMOTE_ADDR=address)[1]
        assert refused.status == status
        assert ("Retry-After" in refused.headers) == (status == 503)
    greets.feed(frame(TEXT, hello().encode()))
    doors.runtime.run()
    leaves, _ = ask()
    assert ask()[1].status == 503
    leaves.feed(b"")
    doors.runtime.run()
    assert ask()[1].status == 0
    assert ask()[1].status == 503
    doors.runtime.advance(HELLO_WAIT)
    assert ask()[1].status == 0
    assert [data[:13] for data in sent].count(b"HTTP/1.1 101 ") == 5
    assert doors.runtime.errors == []


def test_what_gevent_raises_of_tls_is_the_end_of_the_stream() -> None:
    doors = Doors()

    class Shut(Wire):
        def recv(self, most: int) -> bytes:
            if super().recv(most):
                raise ValueError("Read on closed or unwrapped SSL socket.")
            return b""

    wire = Shut(doors.runtime.tasks, lambda data: None)
    headers = {**HANDSHAKE, "fallback_transport.socket": wire}
    doors.start("/fallback/ws", method="GET", **headers)
    wire.feed(b"-")
    doors.runtime.run()
    assert doors.runtime.errors == []


# -- what handlers see ----------------------------------------------------------------


def seen(doors: Doors, **headers: Any) -> dict[str, Any]:
    assert doors.hello(**headers).status == 200
    (conversation,) = doors.registry.all()
    return conversation.environ


def test_handlers_see_a_plain_request(doors: Doors) -> None:
    environ = seen(
        doors,
        REMOTE_ADDR="1.2.3.4",
        QUERY_STRING="a=1",
        HTTP_USER_AGENT="browser",
        CONTENT_TYPE="text/plain",
        HTTP_SEC_WEBSOCKET_KEY="secret",
        HTTP_CONNECTION="Upgrade",
        HTTP_UPGRADE="websocket",
        **{"eventlet.input": object(), "werkzeug.socket": object()},
    )
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["REMOTE_ADDR"] == "1.2.3.4"
    assert environ["QUERY_STRING"] == "a=1"
    assert environ["HTTP_USER_AGENT"] == "browser"
    assert environ["flask.app"] == "the app"
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["wsgi.input"].read() == b""
    # No stream or socket is kept for the session's life, and nothing of the transport's.
    others = ("CONTENT_TYPE", "HTTP_SEC_WEBSOCKET_KEY", "HTTP_CONNECTION", "HTTP_UPGRADE")
    for name in ("eventlet.input", "werkzeug.socket", *others):
        assert name not in environ


def hello_for(url: str | None = None, protocols: str | None = None) -> bytes:
    facts = {"url": url, "protocols": protocols}
    client = tuple((name, fact) for name, fact in facts.items() if fact is not None)
    return encode_body(
        Hello(1, "nonce", client=client, envelope=Envelope(0, 0, 1, (Message("0"),)))
    )


@pytest.mark.parametrize(
    ("door", "url", "script", "path", "query", "told"),
    [
        ("/chat/poll", "/chat?room=1", "", "/chat", "room=1", "/chat?room=1"),
        ("/chat/poll", "/chat", "", "/chat", "", "/chat"),
        ("/chat/poll", "/chat/", "", "/chat/", "", "/chat/"),
        ("/chat/poll", "/chat/5/%C3%A9?a=%20", "", "/chat/5/\xc3\xa9", "a=%20", None),
        ("/chat/5/poll", "/chat/5?a", "", "/chat/5", "a", "/chat/5?a"),
        ("/poll", "/?a", "", "/", "a", "/?a"),
        ("/poll", "/any/where", "", "/any/where", "", "/any/where"),
        ("/chat/poll", "/app/chat?a", "/app", "/chat", "a", "/app/chat?a"),
        ("/chat/poll", "/app/chat/5", "/app", "/chat/5", "", "/app/chat/5"),
        ("/poll", "/app?a", "/app", "/", "a", "/app?a"),
        # A proxy in front has rewritten the path: what the server sees counts.
        ("/chat/poll", "/app/chat?a=1", "", "/chat", "a=1", "/chat?a=1"),
        ("/chat/poll", "/app/chat?a=1", "/srv", "/chat", "a=1", "/srv/chat?a=1"),
        ("/poll", "/elsewhere", "/app", "/", "", "/app"),
        # And what somebody makes up does not.
        ("/chat/poll", "/chatter", "", "/chat", "", "/chat"),
        ("/chat/poll", "/admin?a=1", "", "/chat", "a=1", "/chat?a=1"),
        ("/chat/poll", "/chat/../admin", "", "/chat", "", "/chat"),
        ("/chat/poll", "/chat/%2e%2e/admin", "", "/chat", "", "/chat"),
        ("/chat/poll", "/chat%2f..%2fadmin", "", "/chat", "", "/chat"),
    ],
)
def test_handlers_see_a_request_for_what_the_page_has_connected_to(
    door: str, url: str, script: str, path: str, query: str, told: str | None
) -> None:
    doors = Doors(path=("/", "/chat"))
    raw = {"RAW_URI": door, "REQUEST_URI": door, "RAW_PATH_INFO": door, "QUERY_STRING": "x"}
    assert doors.ask(door, hello_for(url), SCRIPT_NAME=script, **raw).status == 200
    (conversation,) = doors.registry.all()
    seen = conversation.environ
    assert (seen["PATH_INFO"], seen["QUERY_STRING"], seen["SCRIPT_NAME"]) == (path, query, script)
    assert seen["fallback_transport.url"] == (told or url)
    assert not seen.keys() & {"RAW_URI", "REQUEST_URI", "RAW_PATH_INFO"}


def test_without_a_url_it_is_the_mount(doors: Doors) -> None:
    environ = seen(doors, SCRIPT_NAME="/a b\xc3\xa9")
    assert environ["fallback_transport.url"] == "/a%20b%C3%A9/fallback"
    assert environ["PATH_INFO"] == "/fallback/poll"
    root = Doors(path=("/",))
    root.ask("/poll", HELLO)
    assert root.registry.all()[0].environ["fallback_transport.url"] == "/"


@pytest.mark.parametrize("url", ["chat", "/a#b", "/a b", "/\x00", "/" + "a" * 2048])
def test_a_url_that_cannot_be_is_refused(doors: Doors, url: str) -> None:
    response = doors.ask("/fallback/poll", hello_for(url))
    assert (response.status, response.unit.code) == (400, 4400)
    assert doors.registry.all() == []


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ("v1", "v1"),
        ("v2, v1", "v2"),
        ("v1,v2", "v1"),
        ("v3, v2", "v2"),
        ("v3", ""),
        ("V1", ""),
        (None, ""),
    ],
)
def test_the_first_offered_subprotocol_that_is_there_is_taken(
    offered: str | None, chosen: str
) -> None:
    doors = Doors(subprotocols=("v1", "v2"))
    welcome = doors.ask("/fallback/poll", hello_for(protocols=offered)).unit
    assert welcome.protocol == chosen
    (conversation,) = doors.registry.all()
    assert conversation.subprotocol == chosen
    seen = conversation.environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL")
    assert seen == (offered and offered.replace("v1,v2", "v1, v2"))
    # The same hello again hears the same; a resume has heard it.
    assert doors.ask("/fallback/poll", hello_for(protocols=offered)).unit.protocol == chosen
    resume = encode_body(Hello(3, id=welcome.id, key=welcome.key, envelope=Envelope(0, 0)))
    assert doors.ask("/fallback/poll", resume).unit.protocol == ""


@pytest.mark.parametrize(
    ("origins", "headers", "cookie"),
    [
        ((), {"HTTP_ORIGIN": "http://example.com"}, True),
        ((), {"HTTP_SEC_FETCH_SITE": "same-origin"}, True),
        ((), {"HTTP_SEC_FETCH_SITE": "cross-site"}, False),
        ((), {}, False),
        ((SHOP,), {"HTTP_ORIGIN": SHOP}, True),
        (("*", SHOP), {"HTTP_ORIGIN": SHOP}, True),
        (("*",), {"HTTP_ORIGIN": "http://example.com"}, True),
        (("*",), {"HTTP_ORIGIN": SHOP}, False),
        (("*",), {"HTTP_ORIGIN": SHOP, "HTTP_SEC_FETCH_SITE": "same-origin"}, False),
        (("*",), {"HTTP_ORIGIN": "*"}, False),
        # Every sandbox's.
        (("null",), {"HTTP_ORIGIN": "null"}, False),
        (("null",), {"HTTP_ORIGIN": "null", "HTTP_SEC_FETCH_SITE": "cross-site"}, False),
        ((), {"HTTP_ORIGIN": "null", "HTTP_SEC_FETCH_SITE": "same-origin"}, True),
    ],
)
def test_credentials_are_seen_only_from_a_known_page(
    origins: tuple[str, ...], headers: dict[str, str], cookie: bool
) -> None:
    credentials = {"HTTP_COOKIE": "session=1", "HTTP_AUTHORIZATION": "Basic eDp5"}
    environ = seen(Doors(origins=Origins(origins)), **credentials, **headers)
    assert [name in environ for name in credentials] == [cookie] * 2


# -- the browser's files --------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_the_browsers_files_are_served_and_revalidated(doors: Doors, name: str) -> None:
    path = f"/fallback/{name}"
    response = doors.ask(path, method="GET")
    assert (response.status, response.body) == (200, (folder() / name).read_bytes())
    kind = "text/plain" if ".d." in name else "text/javascript"
    assert response.headers["Content-Type"] == f"{kind}; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-cache"
    etag = response.headers["ETag"]
    again = doors.ask(path, method="GET", HTTP_IF_NONE_MATCH=etag)
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", etag)
    other = doors.ask(path, method="GET", HTTP_IF_NONE_MATCH='"x"')
    assert other.status == 200
    packed = doors.ask(path, method="GET", HTTP_ACCEPT_ENCODING="gzip, br")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == response.body
    assert packed.headers["ETag"] == f"W/{etag}"
    assert packed.headers["Vary"] == response.headers["Vary"] == "Accept-Encoding"
    assert doors.ask(path, method="HEAD").body == b""
    assert doors.ask(path).status == 405


def test_any_page_may_have_a_file_and_see_what_it_is(doors: Doors) -> None:
    given = doors.ask(f"/fallback/{SCRIPT}", method="GET", HTTP_ORIGIN="https://any.test").headers
    assert given["Access-Control-Allow-Origin"] == "*"
    # Without, a page with `Cross-Origin-Embedder-Policy: require-corp` does not get it.
    assert given["Cross-Origin-Resource-Policy"] == "cross-origin"


def test_a_versioned_url_is_kept_for_long(doors: Doors) -> None:
    version = load(SCRIPT).version
    now = doors.ask(f"/fallback/{SCRIPT}", method="GET", QUERY_STRING=f"v={version}")
    assert now.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    # An older page's: what it gets is not what it asked for.
    older = doors.ask(f"/fallback/{SCRIPT}", method="GET", QUERY_STRING="v=0123456789abcdef")
    assert (older.status, older.headers["Cache-Control"]) == (200, "no-cache")


def test_while_another_release_is_installed_the_files_are_those_of_this_one(
    doors: Doors, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from fallback_transport import files

    path = f"/fallback/{SCRIPT}"
    script = doors.ask(path, method="GET").body
    # Its own are gone, and then there are others, of which one is not written to its end.
    monkeypatch.setattr(files, "__file__", str(tmp_path / "package" / "files.py"))
    assert doors.ask(path, method="GET").body == script
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / SCRIPT).write_text("(function () {")
    assert doors.ask(path, method="GET").body == script


def test_a_file_that_nobody_has_asked_for_yet_is_of_this_release_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """As in a worker that is forked of a process which was there before."""
    from fallback_transport import files

    def forget() -> None:
        files.load.cache_clear()
        files._read.cache_clear()

    body = (folder() / SCRIPT).read_bytes()
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / SCRIPT).write_text("another release's")
    forget()
    doors = Doors()
    with monkeypatch.context() as installed:
        installed.setattr(files, "__file__", str(tmp_path / "package" / "files.py"))
        found = doors.ask(f"/fallback/{SCRIPT}", method="GET").body
    forget()
    assert found == body
    # Without any, a program that serves no page goes on.
    (tmp_path / "static" / SCRIPT).unlink()
    with monkeypatch.context() as installed:
        installed.setattr(files, "__file__", str(tmp_path / "package" / "files.py"))
        assert Doors().hello().status == 200


def test_every_file_of_the_folder_is_served() -> None:
    found = {path.name for path in folder().iterdir()}
    assert set(FILES) <= found <= {*FILES, *DOCTOR_FILES}


def test_a_missing_browsers_file_is_an_incomplete_installation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from fallback_transport import files

    monkeypatch.setattr(files, "__file__", str(tmp_path / "package" / "files.py"))
    with pytest.raises(FileNotFoundError, match="incomplete"):
        folder()
