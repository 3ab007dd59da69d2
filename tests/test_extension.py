"""`FallbackTransport`: options, registering, and what handlers are given. No sockets."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextvars import copy_context
from dataclasses import fields
from typing import Any

import click
import flask
import flask_socketio
import pytest
import socketio
from click.testing import CliRunner
from flask.cli import FlaskGroup
from werkzeug.test import EnvironBuilder

from fallback_transport import ConnectionRefused, FallbackTransport, Session, assembly
from fallback_transport.engine import Engine
from fallback_transport.gateway import Gateway
from fallback_transport.options import WHOLE_NUMBERS, Options
from fallback_transport.packets import Packet
from fallback_transport.protocol.codec import MAX_NUMBER
from fallback_transport.protocol.envelope import Grant
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.registry import Capacity, Registry
from fallback_transport.testing import ConnectionFailed, TestClient
from tests.fakes import FakeRuntime, Peer


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    """Every transport that is made runs on this."""
    fake = FakeRuntime()
    monkeypatch.setattr(assembly, "Runtime", lambda driver: fake)
    return fake


@pytest.fixture
def app(runtime: FakeRuntime) -> Iterator[flask.Flask]:
    app = flask.Flask(__name__)
    app.secret_key = "only for tests"
    yield app
    assert runtime.errors == []


def made(app: flask.Flask | None = None, **options: Any) -> FallbackTransport:
    return FallbackTransport(app, **{"async_mode": "threading", **options})


def gateway(app: flask.Flask) -> Gateway:
    assert isinstance(app.wsgi_app, Gateway)
    return app.wsgi_app


def registry(app: flask.Flask) -> Registry:
    return gateway(app).registry


def peer(app: flask.Flask, runtime: FakeRuntime, auth: Any = None, **headers: Any) -> Peer:
    """A client that has connected, or was refused."""
    environ = EnvironBuilder("/fallback/poll", headers=headers).get_environ()
    environ = {**environ, **gateway(app).extra}
    found = Peer(registry(app), runtime, environ, nonce=None)
    found.connect(auth)
    return found


# -- options --------------------------------------------------------------------------


def test_every_option_is_documented_once_in_its_class() -> None:
    assert Options.__doc__ is not None
    for field in fields(Options):
        assert field.name in Options.__doc__


def test_the_defaults_are_the_protocols() -> None:
    assert Options().grant == Grant()
    assert Options().bounds == Bounds()


def test_a_poll_is_held_for_at_most_half_of_the_time_for_which_a_session_lives_unheard() -> None:
    assert [Options(inactivity=seconds).grant.wait for seconds in (49, 51)] == [24.5, 25.0]


def test_options_reach_their_places(app: flask.Flask) -> None:
    transport = made(
        app,
        path="/deep",
        origins="https://shop.example",
        subprotocols=["a", "b"],
        socketio_path=None,
        wait=1.5,
        keepalive=2,
        inactivity=3,
        max_message=4000,
        max_body=50_000,
        credit_messages=6,
        credit_bytes=7,
        max_unconfirmed_messages=8,
        max_unconfirmed_bytes=9,
        when_full="wait",
        emit_timeout=1.25,
        max_sessions=10,
        max_uncommitted=11,
        max_uncommitted_per_address=15,
        max_held_polls=12,
        max_ungreeted=13,
        max_ungreeted_per_address=14,
        trusted_proxies=2,
    )
    its, sessions = gateway(app), registry(app)
    assert (its.mounts, its._stock_path, its.door._max_held) == (("/deep",), None, 12)
    assert its.origins._allowed == ("https://shop.example",)
    assert sessions.grant == Grant(6, 7, 4000, 50_000, 1.5, 2, 3)
    assert sessions._subprotocols == ("a", "b")
    assert sessions._bounds == Bounds(8, 9, 4000)
    assert sessions.patience == 1.25
    assert sessions._capacity == Capacity(10, 11, 15)
    assert (its._ungreeted._total, its._ungreeted._per_address) == (13, 14)
    assert its._trusted_proxies == 2
    assert transport.server.packet_class is Packet
    assert its._doctor is not None
    assert (its._doctor._options.max_body, its._doctor._options.trusted_proxies) == (50_000, 2)


def test_options_come_from_the_configuration_and_the_call_wins(app: flask.Flask) -> None:
    app.config["FALLBACK_TRANSPORT_ASYNC_MODE"] = "threading"
    app.config["FALLBACK_TRANSPORT_WAIT"] = 5
    app.config["FALLBACK_TRANSPORT_KEEPALIVE"] = 6
    app.config["FALLBACK_TRANSPORTER"] = "somebody else's"
    transport = FallbackTransport(app, keepalive=7)
    assert transport.server.async_mode == "threading"
    assert (registry(app).grant.wait, registry(app).grant.keepalive) == (5, 7)


def test_the_configuration_is_read_late(app: flask.Flask) -> None:
    transport = made()
    app.config["FALLBACK_TRANSPORT_WAIT"] = 5
    transport.init_app(app)
    assert registry(app).grant.wait == 5


def test_an_unknown_option_names_those_there_are() -> None:
    with pytest.raises(TypeError, match=r"unknown option 'pth'; there are async_mode, .*path"):
        FallbackTransport(pth="/x")


def test_an_unknown_configuration_key_names_those_there_are(app: flask.Flask) -> None:
    app.config["FALLBACK_TRANSPORT_PTH"] = "/x"
    with pytest.raises(ValueError, match=r"FALLBACK_TRANSPORT_PTH; .*FALLBACK_TRANSPORT_PATH"):
        made(app)


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("async_mode", "asgi", "async_mode is one of eventlet, gevent, threading: 'asgi'"),
        ("async_mode", None, "async_mode is one of"),
        ("path", "fallback", "path must begin with a slash"),
        ("path", "/fallback/", "not end with one"),
        ("path", "", "path must begin"),
        ("path", None, "path must begin"),
        ("path", "/socket.io", "must differ"),
        ("path", ("/a", "/socket.io"), "must differ"),
        ("path", ("/a", "b"), "path must begin with a slash and not end with one: 'b'"),
        ("path", ["/a", 1], "path must begin"),
        ("path", "/p\u00e4th", "path must be a path that requests can have"),
        ("path", "/a%20path", "as it is written: .*: '/a%20path'"),
        ("path", "/chat?room=1", "without [?]"),
        ("path", "/chat#1", "without [?], #"),
        ("path", "/a\\b", "path must be a path"),
        ("path", "/a/../b", "path must be a path"),
        ("path", "/.", "path must be a path"),
        # A page would ask the host "chat" for it.
        ("path", "//chat", "with one slash first: '//chat'"),
        ("socketio_path", "/p\u00e4th", "socketio_path must be a path"),
        ("path", (), "one mount, or several different ones"),
        ("path", ("/a", "/a"), "one mount, or several different ones"),
        ("origins", "https://shop.example/", "without a path, .*: 'https://shop.example/'"),
        ("origins", ["https://a.example", "shop.example"], "origins are .*: 'shop.example'"),
        ("origins", "https://Shop.example", "all in lower case"),
        ("origins", "https://*.example", "a wildcard"),
        ("origins", "https://shop.example:443", "the port that goes without saying"),
        ("origins", "http://shop.example:", "origins are"),
        (
            "client_manager",
            "redis://:secret@host",
            r"socketio.RedisManager\(url\), and not its URL$",
        ),
        ("client_manager", socketio.AsyncManager(), "is not async, .*class AsyncManager$"),
        ("client_manager", socketio.RedisManager, "and not of class type$"),
        ("client_manager", 1, "of class int$"),
        ("path", 1, "path must begin with a slash and not end with one: 1"),
        ("origins", True, "origins are .*: True"),
        ("subprotocols", 1, "1 is no name of a subprotocol"),
        ("subprotocols", "a b", "'a b' is no name of a subprotocol"),
        ("subprotocols", ("a", ""), "'' is no name of a subprotocol"),
        ("subprotocols", (1,), "1 is no name"),
        ("socketio_path", "socket.io", "socketio_path must begin"),
        ("wait", 0, "wait must be a number of seconds above 0"),
        ("wait", "25", "wait must be a number of seconds above 0: '25'"),
        ("keepalive", -1, "keepalive must"),
        ("inactivity", float("nan"), "inactivity must"),
        ("inactivity", float("inf"), "inactivity must"),
        ("emit_timeout", 0, "emit_timeout must be a number of seconds above 0"),
        ("when_full", "drop", "when_full is one of close, wait: 'drop'"),
        ("max_message", 0, "max_message must be a whole number above 0"),
        ("max_message", "1000", "max_message must be a whole number"),
        ("credit_messages", 1.5, "credit_messages must be a whole number"),
        ("max_sessions", -1, "max_sessions must"),
        ("max_sessions", True, "max_sessions must be a whole number above 0: True"),
        ("credit_bytes", True, "credit_bytes must be a whole number"),
        ("max_held_polls", 0, "max_held_polls must"),
        ("max_message", 10**15, "max_message must be at most 999999999999999: 1000000000000000"),
        ("max_body", 10**15, "max_body must be at most"),
        ("credit_messages", 10**15, "credit_messages must be at most"),
        ("credit_bytes", sys.maxsize, "credit_bytes must be at most"),
        ("max_body", 16_383, "max_body must be at least 16384 bytes: 16383"),
        ("max_uncommitted_per_address", 0, "max_uncommitted_per_address must"),
        ("max_ungreeted", None, "max_ungreeted must"),
        ("max_ungreeted_per_address", 0.5, "max_ungreeted_per_address must"),
        ("trusted_proxies", -1, "trusted_proxies must be a whole number, 0 or more: -1"),
        ("trusted_proxies", "1", "trusted_proxies must"),
        ("trusted_proxies", True, "trusted_proxies must"),
        ("drain", -1, "drain must be a number of seconds, 0 or more: -1"),
        ("drain", float("nan"), "drain must"),
        ("drain", None, "drain must"),
    ],
)
def test_an_impossible_option_says_what_is_possible(
    app: flask.Flask, option: str, value: Any, text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        made(app, **{option: value})
    assert "fallback_transport" not in app.extensions
    assert not isinstance(app.wsgi_app, Gateway)


@pytest.mark.parametrize("name", WHOLE_NUMBERS)
def test_as_good_as_no_limit_is_one_that_a_page_can_read(name: str) -> None:
    transport = made(flask.Flask(__name__), **{name: MAX_NUMBER})
    with TestClient(transport) as client:
        assert client.connected


@pytest.mark.parametrize("path", ["/a path", "/a//b", "/.well-known/...", '/"(a)":[b];c', "/"])
def test_what_requests_can_have_as_it_is_written_is_a_path(path: str) -> None:
    assert Options(path=path).paths == (path,)


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "http://localhost:5000",
        "https://shop.example:80",
        "http://[::1]:8080",
        "https://xn--bcher-kva.example",
        "chrome-extension://abcdefghijklmnop",
        "http://my_host",
    ],
)
def test_what_browsers_state_is_an_origin(origin: str) -> None:
    assert Options(origins=origin).origins == (origin,)


def test_what_is_no_app_or_group_says_what_is(app: flask.Flask) -> None:
    with pytest.raises(TypeError, match=r"as Flask\(__name__\) is: 'app'"):
        made("app")  # type: ignore[arg-type]
    blueprint: Any = flask.Blueprint("chat", __name__)
    with pytest.raises(TypeError, match=r"as Handlers\(\) is: <.*chat"):
        made(app).register(blueprint)


# -- apps and servers -----------------------------------------------------------------


@pytest.mark.parametrize("over", ["websocket", "polling"])
@pytest.mark.parametrize("by", ["the configuration", "the class", "the request"])
def test_a_page_of_a_host_that_the_app_does_not_trust_is_refused(over: str, by: str) -> None:
    class Request(flask.Request):
        trusted_hosts = ("localhost", ".site.test")  # type: ignore[assignment]

    class Asked(flask.Request):
        @property
        def trusted_hosts(self) -> list[str]:  # type: ignore[override]
            return ["localhost", *([".site.test"] if self.path.startswith("/fallback/") else [])]

    app = flask.Flask("app")
    if by != "the configuration":
        app.request_class = Request if by == "the class" else Asked
    transport = FallbackTransport(app, async_mode="threading", origins=["https://other.test"])
    if by == "the configuration":
        app.config["TRUSTED_HOSTS"] = ["localhost", ".site.test"]

    def welcome(host: str, origin: str) -> bool:
        headers = {"Host": host, "Origin": origin}
        try:
            with TestClient(transport, over=over, headers=headers) as client:
                return client.connected
        except ConnectionFailed:
            return False

    assert welcome("localhost:5000", "http://localhost:5000")
    assert welcome("a.site.test", "https://a.site.test")
    assert welcome("localhost", "https://other.test")
    # A name that was made to lead here, and a page that came from there by the same one.
    assert not welcome("evil.test", "http://evil.test")


def test_an_app_is_one_whatever_is_put_in_its_classs_place() -> None:
    """As OpenTelemetry's instrumentation does, between the imports of two modules."""
    program = """
import flask
app = flask.Flask("app")
flask.Flask = type("Instrumented", (flask.Flask,), {})
from fallback_transport import FallbackTransport
FallbackTransport(app, async_mode="threading")
FallbackTransport(flask.Flask("later"), async_mode="threading")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_an_app_is_a_flask_application() -> None:
    transport = FallbackTransport()
    given: Any
    for given in (None, "app", lambda environ, start_response: []):
        for call in (transport.init_app, transport.run):
            with pytest.raises(TypeError, match="the app must be a Flask application"):
                call(given)


def test_before_init_app_there_is_no_server() -> None:
    with pytest.raises(RuntimeError, match=r"init_app\(app\) first"):
        _ = made().server
    with pytest.raises(RuntimeError, match=r"init_app\(app\) first"):
        made().emit("event")


def test_a_server_that_was_handed_in_serves_one_app(app: flask.Flask) -> None:
    transport = FallbackTransport(app, server=socketio.Server(async_mode="threading"))
    with pytest.raises(RuntimeError, match="make a server and a FallbackTransport for each app"):
        transport.init_app(flask.Flask("other"))


def test_a_client_manager_serves_one_app(app: flask.Flask) -> None:
    transport = made(app, client_manager=socketio.Manager())
    with pytest.raises(RuntimeError, match="FALLBACK_TRANSPORT_CLIENT_MANAGER"):
        transport.init_app(flask.Flask("other"))


def test_an_app_has_one_transport_at_a_path(app: flask.Flask) -> None:
    first = made(app)
    with pytest.raises(RuntimeError, match="at /fallback already"):
        made(app)
    second = made(app, path="/second", socketio_path="/second.io")
    assert app.extensions["fallback_transport"] == {"/fallback": first, "/second": second}


def test_stock_clients_find_the_transport_that_came_first(
    app: flask.Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that comes later would stand in front of it, and take what it has not been meant for."""
    asked: list[Any] = []

    def answer(server: Any, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        asked.append(server)
        start_response("200 OK", [])
        return []

    monkeypatch.setattr(socketio.Server, "handle_request", answer)
    first, _, third = (
        made(app),
        made(app, path="/second"),
        made(app, path="/third", socketio_path="/third.io"),
    )
    for path in ("/socket.io/", "/third.io/"):
        app.test_client().get(path)
    assert asked == [first.server, third.server]


def test_one_transport_at_several_paths(app: flask.Flask, runtime: FakeRuntime) -> None:
    app.config["FALLBACK_TRANSPORT_PATH"] = ["/", "/chat"]
    first = made(app)
    with pytest.raises(RuntimeError, match="at /chat already"):
        made(app, path=("/other", "/chat"))
    deep = made(app, path="/deep", socketio_path=None)
    assert app.extensions["fallback_transport"] == {"/": first, "/chat": first, "/deep": deep}
    inner = gateway(app).app
    assert isinstance(inner, Gateway)
    # Each knows the other's mounts, though it was made first.
    assert list(inner._all_mounts) == list(gateway(app)._all_mounts) == ["/", "/chat", "/deep"]


def test_several_apps_do_not_mix(app: flask.Flask, runtime: FakeRuntime) -> None:
    other = flask.Flask("other")
    seen: list[Any] = []
    for each in (app, other):
        transport = made(each)
        transport.on_connect(lambda client: seen.append((flask.current_app.name, client.id)))
    one, two = peer(app, runtime), peer(other, runtime)
    assert seen == [(app.name, one.id), ("other", two.id)]
    app.extensions["fallback_transport"]["/fallback"].emit("news")
    one.exchange()
    two.exchange()
    assert (one.events, two.events) == ([["news"]], [])


def test_a_server_that_is_handed_in(app: flask.Flask) -> None:
    server = socketio.Server(async_mode="threading")
    transport = FallbackTransport(app, server=server)
    assert transport.server is server
    assert isinstance(server.eio, Engine)
    assert gateway(app)._stock_path is None


def test_a_flask_socketio_that_is_handed_in(app: flask.Flask) -> None:
    extension = flask_socketio.SocketIO(app, async_mode="threading")
    transport = FallbackTransport(app, server=extension)
    assert transport.server is extension.server


@pytest.mark.parametrize(
    "server",
    [flask_socketio.SocketIO(), socketio.AsyncServer(async_mode="asgi"), object(), "server"],
)
def test_what_is_no_server_says_what_is(app: flask.Flask, server: Any) -> None:
    with pytest.raises(RuntimeError, match=r"socketio\.Server, or a flask_socketio\.SocketIO"):
        FallbackTransport(app, server=server)


def test_one_server_under_two_apps(app: flask.Flask, runtime: FakeRuntime) -> None:
    server = socketio.Server(async_mode="threading")
    server.on("connect", lambda sid, environ: None)
    other = flask.Flask("other")
    for each in (app, other):
        FallbackTransport(each, server=server)
    one, two = peer(app, runtime), peer(other, runtime)
    server.emit("news")
    one.exchange()
    two.exchange()
    assert one.events == two.events == [["news"]]


# -- handlers -------------------------------------------------------------------------


def test_without_a_connect_handler_everybody_is_welcome(
    app: flask.Flask, runtime: FakeRuntime
) -> None:
    made(app)
    client = peer(app, runtime)
    assert client.packets == [[0, None, {"sid": client.id}]]


@pytest.mark.parametrize("late", [False, True])
def test_handlers_are_registered_before_or_after_init_app(
    app: flask.Flask, runtime: FakeRuntime, late: bool
) -> None:
    transport = made()
    if late:
        transport.init_app(app)
    seen: list[Any] = []

    @transport.on_connect
    def connected(client: Session) -> None:
        seen.append(("connect", client.id, client.auth))

    @transport.on_message
    def unnamed(client: Session, data: Any) -> None:
        seen.append(("unnamed", client.id, data))

    @transport.on_message("chat")
    def chat(client: Session, data: Any) -> str:
        seen.append(("chat", client.id, data))
        return "reply"

    @transport.on_disconnect
    def disconnected(client: Session, code: int, reason: str) -> None:
        seen.append(("disconnect", client.id, code, reason))

    if not late:
        transport.init_app(app)
    client = peer(app, runtime, {"token": 1})
    client.emit("message", b"bytes")
    client.emit("chat", {"a": 1}, id=1)
    client.emit("chat")
    client.machine.close(4007, "enough", runtime.now())
    client.settle()
    assert seen == [
        ("connect", client.id, {"token": 1}),
        ("unnamed", client.id, b"bytes"),
        ("chat", client.id, {"a": 1}),
        ("chat", client.id, None),
        ("disconnect", client.id, 4007, "enough"),
    ]
    assert client.replies == {1: ["reply"]}


def test_registering_gives_the_handler_back() -> None:
    transport = made()

    def handler(*args: Any) -> None:
        pass

    assert transport.on_connect(handler) is handler
    assert transport.on_message(handler) is handler
    assert transport.on_message("chat")(handler) is handler
    assert transport.on_disconnect(handler) is handler


def test_a_second_handler_is_refused() -> None:
    transport = made()
    register: Any
    for register in (
        transport.on_connect,
        transport.on_disconnect,
        transport.on_message,
        transport.on_message("chat"),
    ):
        register(print)
        with pytest.raises(ValueError, match="already; only one would be called"):
            register(max)
    with pytest.raises(ValueError, match="'message' already"):
        transport.on_message("message")(print)


def test_on_message_takes_a_name_or_a_handler() -> None:
    for wrong in (1, None, b"chat"):
        with pytest.raises(TypeError, match="takes the name of an event, or a handler"):
            made().on_message(wrong)
    for name, cure in (
        ("connect", "use on_connect"),
        ("disconnect", "on_disconnect"),
        ("", "a name"),
    ):
        with pytest.raises(ValueError, match=cure):
            made().on_message(name)


def test_a_handler_of_the_server_that_was_handed_in_is_not_replaced(app: flask.Flask) -> None:
    server = socketio.Server(async_mode="threading")
    server.on("connect", print)
    server.on("chat", print)
    transport = FallbackTransport(app, server=server)
    transport.on_message("other")(print)
    with pytest.raises(ValueError, match="handed in has a handler for 'connect' already"):
        transport.on_connect(print)
    with pytest.raises(ValueError, match="'chat' already"):
        transport.on_message("chat")(print)
    assert server.handlers["/"]["connect"] is print


def test_handlers_of_both_kinds_share_a_client(app: flask.Flask, runtime: FakeRuntime) -> None:
    server = socketio.Server(async_mode="threading")
    server.on("connect", lambda sid, environ, auth: server.enter_room(sid, "room"))
    server.on("theirs", lambda sid, data: [*server.rooms(sid), data])
    transport = FallbackTransport(app, server=server)
    transport.on_message("ours")(lambda client, data: [client.rooms, client.id, data])
    client = peer(app, runtime)
    client.emit("theirs", 1, id=1)
    client.emit("ours", 2, id=2)
    assert client.replies == {
        1: [[client.id, "room", 1]],
        2: [[[client.id, "room"], client.id, 2]],
    }


def test_a_handler_is_given_the_same_session_each_time(
    app: flask.Flask, runtime: FakeRuntime
) -> None:
    transport = made(app)
    seen: list[Session] = []
    transport.on_connect(lambda client: client.data.update(user="ann") or seen.append(client))
    transport.on_message(lambda client, data: seen.append(client))
    transport.on_disconnect(lambda client, code, reason: seen.append(client))
    client = peer(app, runtime)
    client.emit("message", "x")
    client.machine.close(1000, "", runtime.now())
    client.settle()
    assert len(seen) == 3
    assert seen[0] is seen[1] is seen[2]
    assert seen[0].data == {"user": "ann"}


def test_handlers_have_their_request_and_app(app: flask.Flask, runtime: FakeRuntime) -> None:
    transport = made(app)
    transport.on_message("agent")(
        lambda client, data: [flask.request.headers["User-Agent"], flask.current_app.name]
    )
    client = peer(app, runtime, **{"User-Agent": "browser"})
    client.emit("agent", None, id=1)
    assert client.replies == {1: [["browser", app.name]]}


@pytest.mark.parametrize("auth", [None, {"token": 1}])
def test_a_refused_client_is_closed_with_code_and_reason(
    app: flask.Flask, runtime: FakeRuntime, auth: Any
) -> None:
    transport = made(app)
    calls: list[Any] = []

    @transport.on_connect
    def refuse(client: Session) -> None:
        calls.append(client.auth)
        raise ConnectionRefused(4003, "no, no")

    transport.on_disconnect(lambda *args: calls.append(args))
    client = peer(app, runtime, auth)
    client.settle()
    data = {"message": "no, no", "data": {"code": 4003, "reason": "no, no"}}
    assert client.packets == [[4, None, data]]
    assert client.closed == (4003, "no, no")
    assert calls == [auth]


@pytest.mark.parametrize("error", [TypeError, ValueError, KeyError])
def test_a_connect_handler_that_raises_is_called_once(
    app: flask.Flask, runtime: FakeRuntime, error: type[Exception]
) -> None:
    transport = made(app)
    calls: list[int] = []

    @transport.on_connect
    def crash(client: Session) -> None:
        calls.append(1)
        raise error("a defect")

    client = peer(app, runtime)
    client.settle()
    assert calls == [1]
    assert client.closed == (1011, "the connect handler raised")


def test_a_disconnect_handler_that_raises_is_called_once(
    app: flask.Flask, runtime: FakeRuntime
) -> None:
    transport = made(app)
    calls: list[int] = []

    @transport.on_disconnect
    def crash(client: Session, code: int, reason: str) -> None:
        calls.append(1)
        raise TypeError("a defect")

    client = peer(app, runtime)
    client.machine.close(1000, "", runtime.now())
    client.settle()
    assert calls == [1]
    assert client.closed == (1000, "")


def test_a_handler_that_wants_several_arguments_gets_them(
    app: flask.Flask, runtime: FakeRuntime
) -> None:
    transport = made(app)
    transport.on_message("two")(lambda client, a, b: [a, b])
    transport.on_message("one")(lambda client, a: [a])
    transport.on_message("any")(lambda client, *rest: [*rest])
    client = peer(app, runtime)
    client.emit("two", 1, 2, id=1)
    client.emit("any", 1, 2, 3, id=2)
    client.emit("one", 1, 2, id=3)
    assert client.replies == {1: [[1, 2]], 2: [[1, 2, 3]]}
    assert client.texts[-1].startswith("73{")


# -- sending --------------------------------------------------------------------------


def test_emit_to_everybody_a_room_a_session_or_several(
    app: flask.Flask, runtime: FakeRuntime
) -> None:
    transport = made(app)
    clients: dict[str, Session] = {}
    transport.on_connect(lambda client: clients.update({client.auth["name"]: client}))
    peers = {name: peer(app, runtime, {"name": name}) for name in "abc"}
    a, b, c = (clients[name] for name in "abc")
    a.join("room")
    b.join("room")
    transport.emit("all", 1)
    transport.emit("room", 2, to="room")
    transport.emit("one", 3, to=c)
    transport.emit("id", 4, to=c.id)
    transport.emit("several", 5, to=[a, c.id])
    transport.emit("skip", 6, skip=a)
    transport.emit("skips", 7, to="room", skip=(a.id, b))
    transport.emit("nobody", 8, to=[])
    transport.emit("nothing")
    transport.emit("arguments", (1, 2))
    transport.send("unnamed", to=a)
    transport.send(b"bytes", to="room", skip={b})
    for each in peers.values():
        each.exchange()
    common = [["nothing"], ["arguments", 1, 2]]
    assert peers["a"].events == [
        ["all", 1],
        ["room", 2],
        ["several", 5],
        *common,
        ["message", "unnamed"],
        ["message", b"bytes"],
    ]
    assert peers["b"].events == [["all", 1], ["room", 2], ["skip", 6], *common]
    assert peers["c"].events == [
        ["all", 1],
        ["one", 3],
        ["id", 4],
        ["several", 5],
        ["skip", 6],
        *common,
    ]


@pytest.mark.parametrize("to", ["", 0, False, [None], ("room", None), {""}])
def test_an_empty_target_is_not_everybody(app: flask.Flask, runtime: FakeRuntime, to: Any) -> None:
    transport = made(app)
    client = peer(app, runtime)
    with pytest.raises(ValueError, match="names nobody"):
        transport.emit("secret", 1, to=to)
    client.exchange()
    assert client.events == []


@pytest.mark.parametrize("to", [callable, [lambda client: True]])
def test_a_function_is_no_target_of_an_event(app: flask.Flask, to: Any) -> None:
    transport = made(app)
    with pytest.raises(TypeError, match="only disconnect takes one"):
        transport.emit("secret", 1, to=to)


def test_draining_takes_its_time_from_the_option(
    app: flask.Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(Registry, "drain", lambda self, timeout: asked.append(timeout))
    transport = made(drain=3)
    with pytest.raises(RuntimeError, match="init_app"):
        transport.drain()
    transport.init_app(app)
    transport.drain()
    transport.drain(0)
    transport.drain(timeout=1.5)
    assert asked == [3, 0, 1.5]


def test_a_sigterm_that_is_ignored_stays_so(app: flask.Flask, runtime: FakeRuntime) -> None:
    transport = made()
    with pytest.raises(RuntimeError, match="init_app"):
        transport.drain_on_sigterm()
    transport.init_app(app)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        transport.drain_on_sigterm()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_run_serves_and_sets_up_if_need_be(app: flask.Flask, runtime: FakeRuntime) -> None:
    served: list[Any] = []
    runtime.serve = lambda *args: served.append(args)  # type: ignore[method-assign]
    transport = made()
    transport.run(app)
    transport.run(app, host="::1", port=80)
    assert served == [
        (app, "127.0.0.1", 5000, transport._made().drain_all, 17.0, None),
        (app, "::1", 80, transport._made().drain_all, 17.0, None),
    ]
    assert isinstance(app.wsgi_app, Gateway)


def test_run_serves_in_a_command_and_not_where_flask_imports_the_application(
    app: flask.Flask,
    runtime: FakeRuntime,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Flask's command line sets it, and Flask-SocketIO reads it.
    monkeypatch.setenv("FLASK_RUN_FROM_CLI", "false")
    served: list[Any] = []
    runtime.serve = lambda *args: served.append(args)  # type: ignore[method-assign]
    transport = made()

    def imported() -> flask.Flask:
        transport.run(app)
        return app

    app.cli.command("serve")(lambda: transport.run(app))
    for command, times in (("routes", 0), ("serve", 1)):
        caplog.clear()
        done = CliRunner().invoke(FlaskGroup(create_app=imported), [command])
        assert done.exit_code == 0, done.output
        assert len(served) == times
        assert caplog.messages == [
            "transport.run(app) does nothing where Flask's command line imports the "
            'application: put it under  if __name__ == "__main__":'
        ]
    # A shell completes with the names of its commands what somebody types.
    monkeypatch.setenv("_FLASK_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "flask serv")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit):
        # It leaves the application's context where it has come to.
        copy_context().run(FlaskGroup(create_app=imported).main, prog_name="flask")
    assert capsys.readouterr().out == "plain,serve\n"
    assert len(served) == 1
    monkeypatch.delenv("_FLASK_COMPLETE")
    # A command line of the application's own is another's.
    assert CliRunner().invoke(click.command(lambda: transport.run(app)), []).exit_code == 0
    assert len(served) == 2


@pytest.mark.parametrize(
    ("mode", "patch"),
    [
        ("eventlet", "eventlet.monkey_patch()"),
        pytest.param("gevent", "gevent.monkey.patch_all()", marks=[pytest.mark.requires("gevent")]),
    ],
)
def test_a_manager_that_would_hold_up_everybody_is_not_begun_with(mode: str, patch: str) -> None:
    app = flask.Flask(__name__)
    transport = made(app, async_mode=mode, client_manager=socketio.RedisManager())
    told = f"RedisManager holds up the whole server .*: call {re.escape(patch)} before any other"
    with pytest.raises(RuntimeError, match=told):
        transport.run(app, port=0)
    # Nor with another server; the rest of the application is as it was.
    answer = app.test_client().get("/fallback/ws")
    assert answer.status_code == 501
    assert re.search(told, answer.text)
    assert app.test_client().get("/").status_code == 404


@pytest.mark.parametrize(
    ("mode", "manager"),
    [
        ("threading", socketio.RedisManager()),
        ("eventlet", socketio.RedisManager(write_only=True)),
        ("eventlet", socketio.PubSubManager()),
        ("eventlet", None),
    ],
)
def test_others_need_no_patch(mode: str, manager: Any) -> None:
    transport = made(flask.Flask(__name__), async_mode=mode, client_manager=manager)
    assert transport._made().engine.runtime.unpatched() is None


# -- ending sessions --------------------------------------------------------------------


@pytest.fixture
def clients(app: flask.Flask, runtime: FakeRuntime) -> list[Session]:
    """Four, the last in a namespace of its own; they are in rooms "0" and "1" in turn."""
    transport = made(app)
    connected: list[Session] = []
    transport.on_connect(connected.append)
    transport.on_connect(connected.append, namespace="/admin")
    for _ in range(3):
        peer(app, runtime)
    Peer(registry(app), runtime).open("0/admin,")
    for number, client in enumerate(connected):
        client.join(str(number % 2))
    return connected


@pytest.mark.parametrize(
    ("to", "namespace", "ended"),
    [
        ("0", None, [0, 2]),
        ("1", None, [1, 3]),
        ("1", "/", [1]),
        ("1", "/admin", [3]),
        ("nobody", None, []),
        (["0", "1"], "/", [0, 1, 2]),
        ([], None, []),
        (0, None, [0]),
        ([3, "0"], None, [0, 2, 3]),
        (lambda client: "1" in client.rooms, None, [1, 3]),
        (lambda client: True, "/admin", [3]),
        (lambda client: False, None, []),
    ],
)
@pytest.mark.parametrize("known", [lambda client: client, lambda client: client.id])
def test_sessions_end_by_id_room_or_function(
    app: flask.Flask,
    clients: list[Session],
    known: Any,
    to: Any,
    namespace: str | None,
    ended: list[int],
) -> None:
    def named(to: Any) -> Any:
        if isinstance(to, list):
            return [named(each) for each in to]
        return known(clients[to]) if isinstance(to, int) else to

    transport = app.extensions["fallback_transport"]["/fallback"]
    transport.disconnect(named(to), 4001, "logged out", namespace)
    closures = [client.closure for client in clients]
    assert [number for number, closure in enumerate(closures) if closure] == ended
    assert {closure for closure in closures if closure} <= {(4001, "logged out")}


@pytest.mark.parametrize("to", [None, "", 0])
def test_nobody_named_is_not_everybody(app: flask.Flask, clients: list[Session], to: Any) -> None:
    transport = app.extensions["fallback_transport"]["/fallback"]
    with pytest.raises(ValueError, match="names nobody"):
        transport.disconnect(to)
    with pytest.raises(ValueError, match="3 is not a close code"):
        transport.disconnect("0", 3)
    assert [client.closure for client in clients] == [None] * 4


def test_ids_of_other_processes_are_passed_on(app: flask.Flask) -> None:
    class Manager(socketio.PubSubManager):
        name = "test"

        def __init__(self) -> None:
            super().__init__(write_only=True)
            self.published: list[Any] = []

        def _publish(self, data: Any) -> None:
            self.published.append(data)

    manager = Manager()
    transport = made(app, client_manager=manager)
    transport.on_connect(lambda client: None)
    transport.disconnect("somebody's id")
    told = [(each["method"], each["sid"], each["namespace"]) for each in manager.published]
    assert told == [("disconnect", "somebody's id", "/")]
