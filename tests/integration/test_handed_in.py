"""Apps written for Flask-SocketIO and python-socketio, handed in: over sessions of ours they
do what they do for stock clients, and for those nothing changes."""

from __future__ import annotations

import hashlib
import http.cookiejar
import re
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fallback_transport.protocol.message import Message
from tests.client.fixtures import MODE_PARAMS
from tests.client.packets import Packet, PacketReader
from tests.client.session import ClientSession, RequestFailed
from tests.client.waiting import eventually
from tests.integration.served import Served
from tests.integration.stock_clients import NodeClients, PythonClient, our_tracebacks

# python-socketio's client has threads of its own, which may outlive its server, and complain.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

FLASK_APP = "tests.integration.flask_socketio_app"
PLAIN_APP = "tests.integration.python_socketio_app"

NESTED = {"name": "ü", "parts": [b"one", b"", {"deep": b"\x00\x1e\xff"}], "n": [1, 2.5, None]}


def served_app(**options: Any) -> Any:
    """A fixture: an app's process in each async mode."""

    @pytest.fixture(scope="module", params=MODE_PARAMS)
    def served(request: pytest.FixtureRequest) -> Iterator[Served]:
        with Served(request.param, **options) as server:
            yield server
            assert our_tracebacks(server.log()) == []

    return served


flask_app = served_app(module=FLASK_APP)
inner_app = served_app(module=PLAIN_APP)
outer_app = served_app(module=PLAIN_APP, outer=True)


class Namespaced(ClientSession):
    """A session of another namespace than the default one: it names it in every packet."""

    def __init__(self, port: int, namespace: str, **options: Any) -> None:
        self._prefix = "" if namespace == "/" else namespace + ","
        super().__init__(port, **options)
        prefix = self._prefix

        class Reader(PacketReader):
            def feed(self, message: str | bytes) -> Packet | None:
                if isinstance(message, str):
                    head = _head(message)
                    assert message[len(head) :].startswith(prefix), message
                    message = head + message[len(head) + len(prefix) :]
                return super().feed(message)

        self._reader = Reader()

    def _messages(self, packet: Packet) -> list[Message]:
        first, *rest = super()._messages(packet)
        assert isinstance(first.data, str)
        head = _head(first.data)
        return [Message(head + self._prefix + first.data[len(head) :]), *rest]


def _head(text: str) -> str:
    found = re.match(r"[0-7](?:[0-9]+-)?", text)
    assert found is not None, text
    return found.group()


class OurClient:
    """A session of ours, driven like the stock clients."""

    def __init__(
        self,
        served: Served,
        transport: str,
        auth: Any = None,
        headers: dict[str, str] | None = None,
        namespace: str = "/",
    ) -> None:
        # A page's requests say whose page it is; without, handlers would see no cookie.
        headers = {"Origin": served.url, **(headers or {})}
        self.session = Namespaced(served.port, namespace, auth=auth, headers=headers)
        self.session.handlers["question"] = lambda *data: data[0] if data else None
        self.session.switch(transport)
        self.session.wait_for(
            lambda: self.session.accepted or self.session.refused or self.session.closure
        )

    @property
    def sid(self) -> str:
        return self.session.id

    @property
    def events(self) -> list[list[Any]]:
        session = self.session
        if session.refused is not None:
            return [["connect_error", session.refused], *session.received]
        ended = [["disconnect", session.closure]] if session.closure else []
        return [["connect", session.id], *session.received, *ended]

    def named(self, name: str) -> list[Any]:
        found = [event[1:] for event in self.events if event[0] == name]
        return [data[0] if len(data) == 1 else data for data in found]

    def wait_named(self, name: str, count: int = 1) -> list[Any]:
        self.session.wait_for(lambda: len(self.named(name)) >= count)
        return self.named(name)

    def emit(self, name: str, *data: Any) -> None:
        self.session.emit(name, *data)

    def call(self, name: str, *data: Any) -> Any:
        answer = self.session.request(name, *data)
        # As a stock client gives what came: the first of several values.
        return answer[0] if isinstance(answer, list) and name == "my_event_with_ack" else answer

    def transport(self) -> str:
        assert self.session.transport is not None
        return self.session.transport

    def disconnect(self) -> None:
        self.session.close()
        self.session.wait_closed()

    def drop(self) -> None:
        self.session.stop()
        assert self.session.breaches == []


Client = Any
Open = Callable[..., Client]
KINDS = [
    "ours by websocket",
    "ours by polling",
    "python by polling",
    "python by websocket",
    pytest.param("javascript by default", marks=pytest.mark.requires("npm")),
]


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest) -> Iterator[NodeClients]:
    from tests.needs import find

    with NodeClients(find("node")) as clients:
        yield clients


def opened(request: pytest.FixtureRequest, served: Served, kind: str, **more: Any) -> Client:
    who, transport = kind.split(" by ")
    if who == "ours":
        return OurClient(served, transport, **more)
    transports = None if transport == "default" else (transport,)
    if who == "python":
        return PythonClient(served.url, transports, **more)
    return request.getfixturevalue("node").open(served.url, transports, **more)


@pytest.fixture
def open_client(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens clients of any kind: ``open_client(served, kind, auth=…, headers=…, namespace=…)``."""
    made: list[Client] = []

    def open(served: Served, kind: str, **more: Any) -> Client:
        made.append(opened(request, served, kind, **more))
        return made[-1]

    yield open
    for client in made:
        client.drop()


def cookies(served: Served, *paths: str) -> dict[str, str]:
    """The headers of a browser that has visited these pages."""
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    for path in paths:
        browser.open(served.url + path, timeout=10).close()
    return {
        "Cookie": "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar),
        "User-Agent": "Python-urllib",
    }


def seen(served: Served, client: Client, event: str) -> list[list[Any]]:
    return [entry[1:] for entry in served.seen(client.sid) if entry[0] == event]


each_kind = pytest.mark.parametrize("kind", KINDS)


# -- Flask-SocketIO -------------------------------------------------------------------


@each_kind
def test_the_chat(flask_app: Served, open_client: Open, kind: str) -> None:
    the_chat(flask_app, open_client, kind)


@pytest.fixture(scope="module")
def plain_app() -> Iterator[Served]:
    with Served("threading", module=FLASK_APP, plain=True) as server:
        yield server


@pytest.mark.parametrize("kind", KINDS[2:])
def test_the_chat_as_it_is_without_us(plain_app: Served, open_client: Open, kind: str) -> None:
    """What the test above asserts is Flask-SocketIO's own behaviour."""
    the_chat(plain_app, open_client, kind)


def the_chat(served: Served, open_client: Open, kind: str) -> None:
    client = open_client(served, kind, auth={"token": 1})
    assert client.wait_named("my_response") == [{"data": "Connected", "count": 0}]
    assert seen(served, client, "connect") == [[{"token": 1}]]
    # The session that Flask-SocketIO manages.
    client.emit("my_event", {"data": "one"})
    if not kind.startswith("ours"):
        # One after the other: python-socketio has a task for each event of a stock client.
        client.wait_named("my_response", 2)
    client.emit("my_event", {"data": NESTED})
    assert client.wait_named("my_response", 3)[1:] == [
        {"data": "one", "count": 1},
        {"data": NESTED, "count": 2},
    ]
    # message, json, an event without data, and a catch-all.
    client.emit("message", "text")
    client.emit("json", {"a": 1})
    client.emit("my_ping")
    assert client.wait_named("message") == ["text"]
    assert client.wait_named("json") == [{"a": 1}]
    assert client.wait_named("my_pong") == [[]]
    assert client.call("nobody handles it", 1) == {
        "event": "nobody handles it",
        "data": [1],
    }
    # Acknowledgements, one value or several, in both directions.
    assert client.call("my_event_with_ack", 1, b"two") == "received"
    client.emit("ask", NESTED)
    assert client.wait_named("answered") == [{"values": [NESTED], "sid": client.sid}]
    assert client.call("call", NESTED) == {"answer": NESTED}
    # A file.
    content = bytes(range(256)) * 200
    assert client.call("upload", "ü.bin", content) == hashlib.sha256(content).hexdigest()
    parts = [content[:3], {"rest": content[3:]}]
    assert client.wait_named("uploaded") == [{"name": "ü.bin", "parts": parts}]
    # An error, by the app's own error handler.
    assert client.call("crash", "told to") == {"error": "told to"}
    assert seen(served, client, "error") == [["told to"]]
    # The user session that python-socketio keeps.
    assert client.call("user_session", {"a": 1}) is None
    assert client.call("user_session", 2) == {"a": 1}


@each_kind
def test_rooms_and_broadcasts(flask_app: Served, open_client: Open, kind: str) -> None:
    """Between each kind of client and a session of ours."""
    client = open_client(flask_app, kind)
    other = open_client(flask_app, "ours by polling")
    room = f"room of {client.sid}"
    for each in (client, other):
        each.wait_named("my_response")
        assert sorted(each.call("join", {"room": room})) == sorted([each.sid, room])
    client.emit("my_room_event", {"room": room, "data": b"to the room"})
    for each in (client, other):
        assert each.wait_named("my_response", 2)[1:] == [{"data": b"to the room"}]
    other.emit("my_broadcast_event", {"data": "to everybody"})
    for each in (client, other):
        assert each.wait_named("my_response", 3)[2:] == [{"data": "to everybody"}]
    other.emit("others_event", {"data": "to the others"})
    assert client.wait_named("my_response", 4)[3:] == [{"data": "to the others"}]
    assert client.call("leave", {"room": room}) == [client.sid]
    other.emit("my_room_event", {"room": room, "data": "to who is left"})
    assert other.wait_named("my_response", 4)[3:] == [{"data": "to who is left"}]
    other.emit("close_room", {"room": room})
    assert other.wait_named("my_response", 5)[4:] == [{"data": f"Room {room} is closing."}]
    assert other.call("leave", {"room": "none"}) == [other.sid]
    # From a view, and from a background task.
    assert flask_app.get("/announce/hello") == {"announced": "hello"}
    for each in (client, other):
        assert each.wait_named("announcement") == [{"text": "hello"}]
        each.call("join", {"room": "ticks"})
    for each in (client, other):
        ticks = [tick["count"] for tick in each.wait_named("tick", 3)]
        assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))
    assert len(client.named("my_response")) == 4


@each_kind
def test_the_request_of_a_handler(flask_app: Served, open_client: Open, kind: str) -> None:
    headers = cookies(flask_app, "/login/ann")
    client = open_client(flask_app, kind, headers=headers)
    found = client.call("whoami")
    assert found == {
        "sid": client.sid,
        "namespace": "/",
        "event": "whoami",
        "agent": "Python-urllib",
        "user": "ann",
        "session": {"from the view": "ann"},
        "same request": True,
    }
    assert client.call("transport") in (client.transport(), "polling")
    stranger = open_client(flask_app, kind)
    found = stranger.call("whoami")
    assert (found["user"], found["session"]) == (None, {})


@each_kind
def test_a_namespace(flask_app: Served, open_client: Open, kind: str) -> None:
    headers = cookies(flask_app, "/login/ann")
    admin = open_client(flask_app, kind, headers=headers, namespace="/admin")
    other = open_client(flask_app, "ours by websocket", headers=headers, namespace="/admin")
    chatter = open_client(flask_app, "ours by polling")
    assert seen(flask_app, admin, "admin connect") == [["ann"]]
    assert admin.call("announce", "news") == "/admin"
    for each in (admin, other):
        assert each.wait_named("announced") == [{"text": "news", "by": "ann"}]
    assert chatter.wait_named("announced") == [{"text": "news"}]
    flask_app.get("/announce/hello")
    assert admin.wait_named("announcement") == [{"text": "hello", "to": "admins"}]
    assert admin.call("crash", "told to") == {"default": "told to"}
    admin.disconnect()
    (reason,) = eventually(lambda: seen(flask_app, admin, "admin disconnect"))
    assert reason[0] in ("client disconnect", "transport close")


@each_kind
def test_who_is_refused(flask_app: Served, open_client: Open, kind: str) -> None:
    """By an exception with data, by False, and in a namespace that there is not."""
    client = open_client(flask_app, kind, auth={"refuse": True})
    (told,) = client.wait_named("connect_error")
    data = {"code": 4010}
    assert told in ({"message": "unauthorized!", "data": data}, ["unauthorized!", data])
    stranger = open_client(flask_app, kind, namespace="/admin")
    (told,) = stranger.wait_named("connect_error")
    assert "Connection rejected by server" in str(told)
    nowhere = open_client(flask_app, kind, namespace="/nowhere")
    (told,) = nowhere.wait_named("connect_error")
    # npm's client looks for an object, and python-socketio sends a text.
    assert "Unable to connect" in str(told) or "javascript" in kind
    if kind.startswith("ours"):
        closures = [each.session.wait_closed() for each in (client, stranger, nowhere)]
        assert closures == [
            (4010, "unauthorized!"),
            (4401, "Connection rejected by server"),
            (4401, "Unable to connect"),
        ]


@each_kind
def test_the_end_by_either_side(flask_app: Served, open_client: Open, kind: str) -> None:
    client = open_client(flask_app, kind)
    client.wait_named("my_response")
    client.emit("disconnect_request")
    (told,) = client.wait_named("disconnect")
    assert told in (
        "io server disconnect",
        "server disconnect",
        (1000, "disconnected by the server"),
    )
    assert client.named("my_response")[1:] == [{"data": "Disconnected!"}]
    assert eventually(lambda: seen(flask_app, client, "disconnect")) == [["server disconnect", 0]]
    client = open_client(flask_app, kind)
    client.emit("my_event", {"data": "one"})
    client.wait_named("my_response", 2)
    client.disconnect()
    ((reason, count),) = eventually(lambda: seen(flask_app, client, "disconnect"))
    assert count == 1
    assert reason == "client disconnect" or (reason == "transport close" and "python" in kind)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_one_sessions_handlers_keep_their_order(
    flask_app: Served, open_client: Open, kind: str
) -> None:
    """Although async_handlers is on, as it is by default: stock clients' run side by side."""
    client = open_client(flask_app, kind)
    for number in range(6):
        client.emit("step", number, 0.05 * (6 - number) / 6)
    client.call("my_event_with_ack", 1)
    assert seen(flask_app, client, "step") == [[number] for number in range(6)]


@pytest.mark.parametrize("kind", KINDS[:2])
def test_what_is_sent_meanwhile_is_not_lost(
    flask_app: Served, open_client: Open, kind: str
) -> None:
    """What a handed-in app gains: a connection that breaks is no disconnect."""
    client = open_client(flask_app, kind)
    client.call("join", {"room": client.sid + " too"})
    client.wait_named("my_response")
    client.session.cut()
    client.emit("my_event", {"data": "while it was cut"})
    client.session.open("polling")
    assert client.wait_named("my_response", 2)[1:] == [{"data": "while it was cut", "count": 1}]
    client.session.open("websocket")
    client.emit("my_room_event", {"room": client.sid + " too", "data": "still in the room"})
    assert client.wait_named("my_response", 3)[2:] == [{"data": "still in the room"}]
    assert seen(flask_app, client, "disconnect") == []
    assert len(seen(flask_app, client, "connect")) == 1


def test_one_session_has_one_namespace(flask_app: Served, open_client: Open) -> None:
    """A stock client opens several over one connection; here each is a session."""
    client = open_client(flask_app, "ours by websocket")
    client.wait_named("my_response")
    client.session.machine.send([Message("0/admin,")])
    client.session.emit("wake the writer")
    code, _ = client.session.wait_closed()
    assert code == 4400


def test_flask_socketios_test_client_still_works() -> None:
    from tests.integration.flask_socketio_app import make_app

    app, socketio = make_app("threading", plain=False, socketio_options={})
    visitor = app.test_client()
    visitor.get("/login/ann")
    client = socketio.test_client(app, flask_test_client=visitor, auth={"token": 1})
    try:
        assert client.is_connected()
        assert client.get_received()[0]["args"] == [{"data": "Connected", "count": 0}]
        assert client.emit("upload", "x", b"bytes", callback=True)
        assert client.emit("whoami", callback=True)["user"] == "ann"
    finally:
        client.disconnect()


def test_a_session_handler_without_manage_session(open_client: Open) -> None:
    """Flask's session as it was at the hello, which is what Flask-SocketIO's option is about."""
    with Served("threading", module=FLASK_APP, manage_session=False) as served:
        headers = cookies(served, "/login/ann")
        client = open_client(served, "ours by websocket", headers=headers)
        assert client.call("whoami")["session"] == {"from the view": "ann"}
        client.emit("my_event", {"data": "one"})
        client.emit("my_event", {"data": "two"})
        # Each handler begins again with the hello's.
        assert client.wait_named("my_response", 3)[1:] == [
            {"data": "one", "count": 1},
            {"data": "two", "count": 1},
        ]


def test_handlers_in_the_order_that_they_come_for_all(open_client: Open) -> None:
    """async_handlers=False: the handlers of each client run in its own order, stock or ours."""
    with Served("threading", module=FLASK_APP, async_handlers=False) as served:
        for kind in ("ours by websocket", "python by websocket"):
            client = open_client(served, kind)
            for number in range(4):
                client.emit("step", number, 0.02 * (4 - number) / 4)
            assert client.call("my_event_with_ack", 1) == "received"
            assert seen(served, client, "step") == [[number] for number in range(4)]


# -- python-socketio ------------------------------------------------------------------


@each_kind
def test_a_namespace_class(inner_app: Served, open_client: Open, kind: str) -> None:
    a_namespace_class(inner_app, open_client, kind)


@each_kind
def test_a_namespace_class_in_an_outer_wsgi_app(
    outer_app: Served, open_client: Open, kind: str
) -> None:
    a_namespace_class(outer_app, open_client, kind)


def a_namespace_class(served: Served, open_client: Open, kind: str) -> None:
    ann = open_client(served, kind, auth={"name": "ann"}, namespace="/chat")
    bob = open_client(served, "ours by polling", auth={"name": "bob"}, namespace="/chat")
    assert seen(served, ann, "connect") == [[{"name": "ann"}, "127.0.0.1"]]
    about = ann.call("about")
    assert (about["sid"], about["session"]) == (ann.sid, "ann")
    assert about["transport"] in ("polling", "websocket")
    assert about["path"].startswith("/fallback/" if kind.startswith("ours") else "/socket.io/")
    assert ann.call("say", NESTED) >= 2
    for each in (ann, bob):
        assert each.wait_named("said") == [{"name": "ann", "text": NESTED}]
    bob.emit("say_to_others", "hello")
    assert ann.wait_named("said", 2)[1:] == [{"text": "hello"}]
    assert ann.call("ask", NESTED) == {"answer": NESTED}
    assert bob.call("ask_other", ann.sid, NESTED) == {"answer": NESTED}
    assert ann.call("ask_other", bob.sid, b"bytes") == {"answer": b"bytes"}
    room = f"room of {ann.sid}"
    assert sorted(ann.call("move", room)) == sorted([ann.sid, room])
    assert ann.call("say", "alone", room) == 1
    assert ann.wait_named("said", 3)[2:] == [{"name": "ann", "text": "alone"}]
    assert ann.call("close_room", room) in (None, [])
    assert ann.call("say", "nobody", room) == 0
    ann.emit("leave")
    (told,) = ann.wait_named("disconnect")
    assert told in (
        "io server disconnect",
        "server disconnect",
        (1000, "disconnected by the server"),
    )
    assert eventually(lambda: seen(served, ann, "disconnect")) == [["server disconnect", "ann"]]
    assert len(bob.named("said")) == 1
    bob.disconnect()
    assert eventually(lambda: seen(served, bob, "disconnect")) == [["client disconnect", "bob"]]


@each_kind
def test_our_handlers_on_a_handed_in_server(
    outer_app: Served, open_client: Open, kind: str
) -> None:
    client = open_client(outer_app, kind)
    other = open_client(outer_app, "ours by websocket")
    ours = kind.startswith("ours")
    assert client.call("hello", NESTED) == ["handed in", ours]
    for each in (client, other):
        assert each.wait_named("greeted") == [{"by": client.sid, "data": NESTED}]


@each_kind
def test_who_is_refused_by_a_namespace_class(
    outer_app: Served, open_client: Open, kind: str
) -> None:
    for auth, text in (({"refuse": True}, "no"), ({"reject": True}, "Connection rejected")):
        client = open_client(outer_app, kind, auth=auth, namespace="/chat")
        (told,) = client.wait_named("connect_error")
        assert text in str(told)


def test_a_namespace_class_that_has_no_such_handler(outer_app: Served, open_client: Open) -> None:
    client = open_client(outer_app, "ours by websocket", namespace="/chat")
    assert client.call("unknown") is None
    default = open_client(outer_app, "ours by websocket")
    with pytest.raises(RequestFailed, match="no handler takes this event"):
        default.call("unknown")
