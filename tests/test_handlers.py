"""Handlers: their arguments, errors, limits, namespaces and groups, and what mypy says of them."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
import socketio
from mypy import api as mypy
from werkzeug.exceptions import Unauthorized

from fallback_transport import (
    ConnectionRefused,
    FallbackTransport,
    Handlers,
    RequestFailed,
    Session,
)
from fallback_transport.handlers import size
from fallback_transport.testing import TestClient


@pytest.fixture
def transport() -> FallbackTransport:
    return FallbackTransport(flask.Flask(__name__), async_mode="threading")


# -- resuming -------------------------------------------------------------------------


def test_on_resume_is_told_of_each_new_connection_of_its_namespace(
    transport: FallbackTransport,
) -> None:
    told: list[Any] = []
    admin = Handlers(namespace="/admin")
    admin.on_resume(lambda client: told.append(("admin", client.id, flask.request.method)))
    transport.on_resume(namespace="/other")(lambda client: told.append("other"))
    transport.register(admin)
    with TestClient(transport, namespace="/admin") as client, TestClient(transport) as bystander:
        assert told == []
        client.cut()
        bystander.cut()
        assert told == []
        client.reconnect()
        bystander.reconnect()
        client.advance(100)
        client.switch("polling")
        client.advance(100)
        assert told == [("admin", client.id, "GET")] * 2


def test_who_is_refused_when_it_resumes_hears_why(transport: FallbackTransport) -> None:
    handled: list[Any] = []
    ends: list[Any] = []

    @transport.on_resume
    def resumed(client: Session) -> None:
        raise ConnectionRefused(4002, "expired")

    transport.on_message("chat")(lambda client, data: handled.append(data))
    transport.on_disconnect(lambda client, *end: ends.append(end))
    with TestClient(transport) as client:
        client.cut()
        client.emit("chat", 1)
        client.reconnect()
        assert client.closed == (4002, "expired")
    assert (handled, ends) == ([], [(4002, "expired")])


def test_false_refuses_as_it_does_in_python_socketio(transport: FallbackTransport) -> None:
    """Who comes from there must not let everybody in."""
    welcome = iter([True, True, None, False])
    transport.on_connect(lambda client: next(welcome))
    transport.on_resume(lambda client: next(welcome))
    with TestClient(transport) as client:
        client.cut()
        client.reconnect()
        assert client.closed is None
    with TestClient(transport) as client:
        client.cut()
        client.reconnect()
        assert client.closed == (4401, "refused")
    welcome = iter([False])
    with TestClient(transport) as client:
        assert client.closed == (4401, "refused")


@pytest.mark.parametrize("with_on_error", [True, False])
@pytest.mark.parametrize(
    "refuse",
    [
        lambda: flask.redirect("/login"),
        lambda: ("log in", 401),
        lambda: "log in",
        lambda: b"no",
        lambda: flask.abort(401),
        lambda: flask.abort(403),
        lambda: flask.abort(flask.redirect("/login")),
        lambda: flask.abort(flask.Response("log in", 401)),
        lambda: Unauthorized(),
    ],
)
def test_a_views_decorator_keeps_out_whom_it_refuses(
    transport: FallbackTransport, refuse: Callable[[], Any], with_on_error: bool
) -> None:
    """It calls no handler, and answers, as Flask-HTTPAuth's does, or aborts, as Flask-Login's."""
    logged_in = iter([True, True, False, False])

    def login_required(handler: Any) -> Any:
        return lambda *arguments: handler(*arguments) if next(logged_in) else refuse()

    transport.on_connect(login_required(lambda client: client.join("members")))
    transport.on_resume(login_required(lambda client: None))
    if with_on_error:
        transport.on_error(lambda client, error, name: pytest.fail("no error"))
    with TestClient(transport) as client:
        client.cut()
        client.reconnect()
        assert client.closed is None
        client.cut()
        client.reconnect()
        assert client.closed == (4401, "refused")
    with TestClient(transport) as client:
        assert client.closed == (4401, "refused")


def test_what_else_aborts_is_an_error(transport: FallbackTransport) -> None:
    transport.on_connect(lambda client: flask.abort(404))
    with TestClient(transport, raise_server_exceptions=False) as client:
        assert client.closed == (1011, "the connect handler raised")


def test_a_resume_handler_that_raises_is_told_to_the_handler_of_errors(
    transport: FallbackTransport, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []

    @transport.on_resume
    def resumed(client: Session) -> None:
        raise KeyError("no such user")

    transport.on_error(lambda client, error, name: told.append((repr(error), name)))
    with TestClient(transport) as client:
        client.cut()
        client.reconnect()
        assert client.closed == (1011, "the resume handler raised")
    assert told == [("KeyError('no such user')", "resume")]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_client_that_was_refused_before_is_not_resumed(transport: FallbackTransport) -> None:
    told: list[Any] = []

    @transport.on_connect
    def connected(client: Session) -> None:
        raise ConnectionRefused(4001, "no")

    transport.on_resume(told.append)
    with TestClient(transport) as client:
        assert client.closed == (4001, "no")
    assert told == []


def test_one_handler_of_resumes(transport: FallbackTransport) -> None:
    transport.on_resume(lambda client: None)
    with pytest.raises(ValueError, match="there is a handler for resumes already"):
        transport.on_resume(lambda client: None)


# -- only the latest ------------------------------------------------------------------


@pytest.mark.parametrize("over", ["websocket", "polling"])
def test_only_the_latest_of_a_key_waits_for_who_is_away(
    transport: FallbackTransport, over: str
) -> None:
    clients: list[Session] = []
    transport.on_connect(clients.append)
    with TestClient(transport, over=over) as there, TestClient(transport, over=over) as away:
        away.cut()
        # The answer to a poll that was cut: it is on its way, nobody knows whereto.
        transport.emit("chat", "first")
        for number in range(3):
            transport.emit("cursor", number, latest="cursor:7")
            transport.emit("cursor", number, latest="cursor:8")
            clients[1].emit("price", number, latest="price")
            transport.emit("chat", number)
            there.advance(0.1)
        # Bytes travel with their event.
        transport.emit("cursor", b"\x00", latest="cursor:7")
        away.reconnect()
        away.advance(1)
        assert there.received("cursor") == [0, 0, 1, 1, 2, 2, b"\x00"]
        assert away.received() == [
            *[("chat", "first"), ("cursor", 2), ("cursor", 2), ("price", 2)],
            *[("chat", number) for number in range(3)],
            ("cursor", b"\x00"),
        ]


def test_the_latest_of_a_key_never_fills_a_session() -> None:
    app = flask.Flask(__name__)
    transport = FallbackTransport(app, async_mode="threading", max_unconfirmed_messages=5)
    with TestClient(transport) as client:
        client.cut()
        for number in range(1000):
            transport.emit("cursor", number, latest="cursor:7")
        client.reconnect()
        assert client.received() == [("cursor", 999)]
        client.cut()
        for number in range(1000):
            transport.emit("cursor", number)
        client.reconnect()
        assert client.closed is not None
        assert client.closed[0] == 4429


# -- arguments ------------------------------------------------------------------------


def test_as_many_arguments_as_the_page_has_given(transport: FallbackTransport) -> None:
    seen: list[Any] = []
    transport.on_message("move")(lambda client, x, y: seen.append((x, y)))
    transport.on_message("one")(lambda client, data: seen.append(data))
    transport.on_message("many")(lambda client, *data: seen.append(data))
    transport.on_message("default")(lambda client, x, y=7: seen.append((x, y)))
    with TestClient(transport) as client:
        client.emit("move", 1, 2)
        client.emit("one", [1, 2])
        client.emit("one")
        client.emit("many", 1, b"\x00", None)
        client.emit("many")
        client.emit("default", 1)
        client.emit("default", 1, 2)
    assert seen == [(1, 2), [1, 2], None, (1, b"\x00", None), (None,), (1, 7), (1, 2)]


def test_too_many_or_too_few_arguments_are_an_error(transport: FallbackTransport) -> None:
    transport.on_message("move")(lambda client, x, y: "moved")
    with TestClient(transport, raise_server_exceptions=False) as client:
        for data in ((), (1,), (1, 2, 3)):
            with pytest.raises(RequestFailed, match="the handler raised"):
                client.request("move", *data)
        assert client.request("move", 1, 2) == "moved"


def test_several_values_go_back_as_several(transport: FallbackTransport) -> None:
    transport.on_message("swap")(lambda client, a, b: (b, a))
    transport.on_connect(lambda client: client.emit("pair", (1, 2)))
    with TestClient(transport) as client:
        assert client.request("swap", 1, 2) == (2, 1)
        assert client.received("pair") == [(1, 2)]


# -- all that nobody else takes ---------------------------------------------------------


def test_the_catch_all_takes_what_nobody_else_takes(transport: FallbackTransport) -> None:
    seen: list[Any] = []

    @transport.on_message("*")
    def anything(client: Session, name: str, *data: Any) -> str:
        seen.append((name, *data))
        return "caught"

    transport.on_message("chat")(lambda client, data: "chatted")
    with TestClient(transport) as client:
        assert client.request("chat", 1) == "chatted"
        assert client.request("other", 1, 2) == "caught"
        assert client.request("*") == "caught"
        client.send("unnamed")
    assert seen == [("other", 1, 2), ("*",), ("message", "unnamed")]


def test_a_catch_all_of_few_arguments_takes_no_more(transport: FallbackTransport) -> None:
    transport.on_message("*")(lambda client, name, data: [name, data])
    with TestClient(transport, raise_server_exceptions=False) as client:
        assert client.request("one", 1) == ["one", 1]
        for data in ((), (1, 2)):
            with pytest.raises(RequestFailed):
                client.request("other", *data)


def test_a_class_of_the_servers_takes_all_already(transport: FallbackTransport) -> None:
    transport.server.register_namespace(socketio.Namespace("/"))
    with pytest.raises(ValueError, match="a class for /, which takes all"):
        transport.on_message("*")(print)


def test_nobody_acts_for_another_by_a_name(transport: FallbackTransport) -> None:
    transport.on_message("*")(lambda client, name, *data: client.id)
    with TestClient(transport) as one, TestClient(transport) as two:
        for name, data in ((two.id, one.id), ("*", two.id), (two.id, two.id)):
            assert one.request(name, data) == one.id


# -- errors -------------------------------------------------------------------------------


def test_errors_go_to_their_handler(
    transport: FallbackTransport, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []

    @transport.on_error
    def failed(client: Session, error: Exception, name: str) -> str | None:
        seen.append((client.id, type(error), name, flask.request.path))
        return "try again" if name == "chat" else None

    transport.on_message("chat")(lambda client, data: data["missing"])
    transport.on_message("*")(lambda client, name, data: 1 / 0)
    transport.on_disconnect(lambda client, code, reason: [][0])
    with TestClient(transport) as client:
        with pytest.raises(RequestFailed, match="try again"):
            client.request("chat", {})
        with pytest.raises(RequestFailed, match="the handler raised"):
            client.request("other", 1)
        client.emit("chat", {})
        assert client.connected
    path = "/fallback/ws"
    assert seen == [
        (client.id, KeyError, "chat", path),
        (client.id, ZeroDivisionError, "other", path),
        (client.id, KeyError, "chat", path),
        (client.id, IndexError, "disconnect", path),
    ]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_connect_handler_that_raises_still_ends_the_session(
    transport: FallbackTransport, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    transport.on_error(lambda client, error, name: seen.append(name))
    transport.on_connect(lambda client: 1 / 0)
    with TestClient(transport) as client:
        assert client.closed == (1011, "the connect handler raised")
    assert seen == ["connect"]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    "refusal",
    [
        ConnectionRefused(4003, "closed on Sundays"),
        socketio.exceptions.ConnectionRefusedError("closed on Sundays", {"code": 4003}),
    ],
)
def test_to_refuse_is_no_error(transport: FallbackTransport, refusal: Exception) -> None:
    @transport.on_connect
    def connected(client: Session) -> None:
        raise refusal

    transport.on_error(lambda client, error, name: pytest.fail("no error"))
    with TestClient(transport) as client:
        assert client.closed == (4003, "closed on Sundays")


def test_what_the_error_handler_raises_is_logged(transport: FallbackTransport) -> None:
    @transport.on_error
    def failed(client: Session, error: Exception, name: str) -> None:
        raise error

    transport.on_message("chat")(lambda client, data: 1 / 0)
    with TestClient(transport) as client, pytest.raises(ZeroDivisionError):
        client.emit("chat", 1)


@pytest.mark.parametrize("where", ["connect", "disconnect"])
def test_a_type_error_of_a_handlers_own_is_logged_as_it_is(
    transport: FallbackTransport, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    calls: list[str] = []

    @transport.on_connect
    def connected(client: Session) -> None:
        calls.append("connect")
        if where == "connect":
            raise TypeError("a defect")

    @transport.on_disconnect
    def disconnected(client: Session, code: int, reason: str) -> None:
        calls.append("disconnect")
        raise TypeError("a defect")

    with TestClient(transport, raise_server_exceptions=False):
        pass
    assert calls == (["connect"] if where == "connect" else ["connect", "disconnect"])
    [record] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "a defect"
    # Only that: python-socketio, which calls again without an argument, is not what is wrong.
    assert caplog.text.count("TypeError: ") == 1


@pytest.mark.parametrize("reply", [object(), {("a", "b"): 1}, [float, 1]])
def test_a_reply_that_is_no_json_is_told_by_its_event(
    transport: FallbackTransport, caplog: pytest.LogCaptureFixture, reply: Any
) -> None:
    transport.on_message("ask")(lambda client, data: reply)
    transport.on_message("tell")(lambda client, data: client.emit("told", reply))
    with TestClient(transport, raise_server_exceptions=False) as client:
        with pytest.raises(RequestFailed, match="the handler raised"):
            client.request("ask", 1)
        assert "TypeError: the reply to 'ask' cannot be written as JSON: " in caplog.text
        # Nothing of how it was tried, which is no fault of anybody's.
        assert caplog.text.count("Traceback") == 1
        assert "json/encoder" not in caplog.text
        # That is where a handler has to be looked for.
        with pytest.raises(RequestFailed, match="the handler raised"):
            client.request("tell", 1)
        assert caplog.text.count("the reply to") == 1


def test_of_a_long_name_it_is_told_by_the_beginning(
    transport: FallbackTransport, caplog: pytest.LogCaptureFixture
) -> None:
    transport.on_message("*")(lambda client, name, data: object())
    with TestClient(transport, raise_server_exceptions=False) as client:
        with pytest.raises(RequestFailed, match="the handler raised"):
            client.request("n" * 5000, 1)
        assert "TypeError: the reply to 'nnn" in caplog.text
        assert "n" * 101 not in caplog.text


# -- the size of one event ------------------------------------------------------------------


@pytest.mark.parametrize("over", ["websocket", "polling"])
def test_what_is_too_large_is_an_error_and_not_handled(
    transport: FallbackTransport, over: str
) -> None:
    seen: list[Any] = []
    transport.on_message("chat", max_bytes=10)(lambda client, *data: seen.append(data))
    transport.on_error(lambda client, error, name: pytest.fail("no handler has raised"))
    with TestClient(transport, over=over) as client:
        client.emit("chat", "12345678")
        for data in (("123456789",), ("ééééé",), (b"12345678901",), ("123", "4567")):
            with pytest.raises(RequestFailed, match="'chat' takes 10 bytes at most"):
                client.request("chat", *data)
        client.emit("chat", "a page that does not ask is not told")
        client.emit("chat", "1")
        assert client.connected
    assert seen == [("12345678",), ("1",)]


def test_the_size_is_that_of_the_pages_json() -> None:
    assert size(()) == 0
    assert size(("é",)) == 4
    assert size(({"a": [1, b"xyz"]}, None)) == len('{"a":[1,null]},null') + 3
    assert size(("\ud800",)) == 5


@pytest.mark.parametrize("wrong", [-1, 1.5, "10", True])
def test_an_impossible_size_says_so(transport: FallbackTransport, wrong: Any) -> None:
    with pytest.raises(ValueError, match="max_bytes must be a whole number, 0 or more"):
        transport.on_message("chat", max_bytes=wrong)(print)


def test_a_stock_client_is_held_to_it_too(transport: FallbackTransport) -> None:
    seen: list[Any] = []
    transport.on_message("chat", max_bytes=10)(lambda client, data: seen.append(data))
    server = transport.server
    server.eio.stock.send = lambda sid, data: sent.append(data)
    sent: list[str] = []
    server.eio.stock.handlers["connect"]("stock", {})
    server.eio.stock.get_session = lambda sid, known={}: known
    server.eio.stock.handlers["message"]("stock", "0")
    sid = server.manager.sid_from_eio_sid("stock", "/")
    for text in ("short", "far too long"):
        server._handle_event_internal(server, sid, "stock", ["chat", text], "/", 1)
    assert seen == ["short"]
    assert sent[1:] == ["31[]"]


# -- namespaces -----------------------------------------------------------------------------


def test_a_namespace_has_handlers_of_its_own(transport: FallbackTransport) -> None:
    ends: list[Any] = []

    @transport.on_connect(namespace="/admin")
    def connected(client: Session) -> None:
        if client.auth != {"admin": True}:
            raise ConnectionRefused(reason="admins only")
        client.join("admins")

    transport.on_message("who")(lambda client, data: "user")
    transport.on_message("who", namespace="/admin")(lambda client, data: "admin")
    transport.on_message(namespace="/admin")(lambda client, data: client.send(data))
    transport.on_disconnect(namespace="/admin")(lambda client, *end: ends.append(end))
    with TestClient(transport) as user:
        with TestClient(transport, namespace="/admin") as stranger:
            assert stranger.closed == (4401, "admins only")
        with TestClient(transport, namespace="/admin", auth={"admin": True}) as admin:
            assert (user.request("who"), admin.request("who")) == ("user", "admin")
            admin.send("echo")
            transport.emit("news", 1)
            transport.emit("news", 2, namespace="/admin")
            transport.send("hush", to="admins", namespace="/admin")
            assert user.received() == [("news", 1)]
            assert admin.received() == [("message", "echo"), ("news", 2), ("message", "hush")]
    assert ends == [(1001, "the page is leaving")]


def test_a_session_names_its_namespace(transport: FallbackTransport) -> None:
    transport.on_message("hello", namespace="/deep")(
        lambda client, data: transport.emit("hello", data, to=client)
    )

    @transport.on_message("rooms", namespace="/deep")
    def rooms(client: Session, data: None) -> Any:
        client.join("room")
        inside = client.rooms
        client.leave("room")
        return set(inside) == {client.id, "room"}, client.rooms == [client.id]

    transport.on_message("ask", namespace="/deep")(lambda client, data: client.request("who"))
    with TestClient(transport, namespace="/deep") as client:
        client.on("who", lambda: "a page")
        client.emit("hello", 1)
        assert client.received("hello") == [1]
        assert client.request("rooms") == (True, True)
        assert client.request("ask") == "a page"


def test_errors_of_a_namespace_go_to_its_own_handler(transport: FallbackTransport) -> None:
    transport.on_error(namespace="/one")(lambda client, error, name: "one")
    for namespace in ("/one", "/two"):
        transport.on_message("boom", namespace=namespace)(lambda client, data: 1 / 0)
    for namespace, text in (("/one", "one"), ("/two", "the handler raised")):
        with (
            TestClient(transport, namespace=namespace, raise_server_exceptions=False) as client,
            pytest.raises(RequestFailed, match=text),
        ):
            client.request("boom")


def test_a_namespace_that_nobody_has_refuses(transport: FallbackTransport) -> None:
    with TestClient(transport, namespace="/nowhere") as client:
        assert client.closed == (4401, "Unable to connect")


def test_among_several_each_session_is_found_in_its_namespace(
    transport: FallbackTransport,
) -> None:
    clients: list[Session] = []
    transport.on_connect(clients.append)
    transport.on_connect(namespace="/admin")(clients.append)
    with TestClient(transport) as plain, TestClient(transport, namespace="/admin") as admin:
        there, inside = clients
        there.join("room")
        transport.emit("one", to=[inside])
        transport.emit("two", to=(inside, "room", there), latest="key")
        transport.emit("three", to={inside, there}, namespace="/")
        transport.send("four", to=[there, inside], skip=there)
        transport.emit("five", to=[])
        assert plain.received() == [("two",), ("three",)]
        assert admin.received() == [("one",), ("two",), ("message", "four")]


@pytest.mark.parametrize("more", [{}, {"latest": "key"}, {"skip": "nobody"}])
def test_of_several_nobody_waits_for_one_of_another_namespace(more: dict[str, Any]) -> None:
    app = flask.Flask("full")
    transport = FallbackTransport(
        app, async_mode="threading", when_full="wait", max_unconfirmed_messages=1
    )
    clients: list[Session] = []
    transport.on_connect(clients.append)
    transport.on_connect(namespace="/admin")(clients.append)
    done: list[float] = []

    def emit() -> None:
        transport.emit("note", 1, to=clients, **more)
        done.append(full._tasks.time)

    with TestClient(transport) as full, TestClient(transport, namespace="/admin") as other:
        full.cut()
        clients[0].emit("first")
        transport.server.start_background_task(emit)
        full.advance(3)
        assert (other.received("note"), done) == ([1], [])
        full.reconnect()
        assert full.received() == [("first",), ("note", 1)]
        # But no longer than it may.
        full.cut()
        clients[0].emit("second")
        transport.server.start_background_task(emit)
        full.advance(11)
        assert len(done) == 2
        assert full.closed is None
        assert clients[0].closure is not None


@pytest.mark.parametrize(
    "several",
    [
        list,
        set,
        lambda clients: dict(enumerate(clients)).values(),
        lambda clients: dict.fromkeys(clients),
        lambda clients: (each.id for each in clients),
        iter,
    ],
)
def test_several_are_whatever_gives_one_after_the_other(
    transport: FallbackTransport, several: Callable[[list[Session]], Any]
) -> None:
    clients: list[Session] = []
    transport.on_connect(clients.append)
    transport.on_connect(namespace="/admin")(clients.append)
    one, two, admin = (TestClient(transport, namespace=place) for place in ("/", "/", "/admin"))
    with one, two, admin:
        transport.emit("note", 1, to=several(clients))
        transport.emit("note", 2, skip=several(clients[:1]))
        # For the clients of each namespace in turn.
        transport.emit("note", 3, to=clients, skip=several(clients[1:]))
        told = [each.received("note") for each in (one, two, admin)]
        transport.disconnect(several(clients[1:]))
        assert [each.closed for each in (one, two, admin)] == [None, (1000, ""), (1000, "")]
    by_id = told[2] == []
    assert told == [[1, 3], [1, 2], [] if by_id else [1]]


def test_a_namespace_begins_with_a_slash(transport: FallbackTransport) -> None:
    with pytest.raises(ValueError, match="begins with a slash: 'admin'"):
        transport.on_message("chat", namespace="admin")(print)


# -- what is no handler ---------------------------------------------------------------------


async def later(*args: Any) -> None: ...


async def each_later(*args: Any) -> AsyncIterator[int]:
    yield 1


def each(*args: Any) -> Iterator[int]:
    yield 1


EVENTS = ["on_connect", "on_resume", "on_message", "on_disconnect", "on_error"]


class Later:
    async def __call__(self, *args: Any) -> None: ...


def test_a_decorator_says_what_it_takes(transport: FallbackTransport) -> None:
    """And not what it decorates: it may have more to give, or take less."""

    def with_database(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def inner(client: Any) -> Any:
            return function(client, "database")

        return inner

    def alone(function: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(function)(lambda client, *_: function(client))

    seen: list[Any] = []
    transport.on_connect(with_database(lambda client, database: seen.append(database)))
    transport.on_disconnect(alone(lambda client: seen.append("gone")))
    with TestClient(transport):
        pass
    assert seen == ["database", "gone"]


@pytest.mark.parametrize("decorator", EVENTS)
def test_what_would_not_run_is_refused(transport: FallbackTransport, decorator: str) -> None:
    register = getattr(transport, decorator)()
    for function, what in ((later, "async"), (each_later, "async"), (each, "a generator")):
        told = rf"test_handlers\.{function.__name__} is {what}: handlers are plain functions"
        with pytest.raises(TypeError, match=told):
            register(function)
    with pytest.raises(TypeError, match="is async"):
        register(Later())
    with pytest.raises(TypeError, match="'chat' is no function"):
        register("chat")


@pytest.mark.parametrize(
    ("decorator", "handler", "arguments"),
    [
        ("on_connect", lambda client, auth: None, "client"),
        ("on_resume", lambda: None, "client"),
        ("on_message", lambda: None, "client, data"),
        ("on_disconnect", lambda client: None, "client, code, reason"),
        ("on_disconnect", lambda client, *, code, reason: None, "client, code, reason"),
        ("on_error", lambda client, error: None, "client, error, name"),
        ("on_message", lambda client, data, *, room: None, "client, data"),
        ("on_connect", lambda client, *, auth: None, "client"),
    ],
)
def test_what_cannot_be_called_is_refused(
    transport: FallbackTransport, decorator: str, handler: Any, arguments: str
) -> None:
    told = re.escape(f"<lambda> cannot be called as f({arguments})")
    with pytest.raises(TypeError, match=told):
        getattr(transport, decorator)()(handler)


def test_what_can_be_left_out_is_no_obstacle(transport: FallbackTransport) -> None:
    def sum_up(client: Session, number: int, *, sign: int = 1) -> int:
        return sign * number

    transport.on_message("plus")(sum_up)
    transport.on_message("minus")(functools.partial(sum_up, sign=-1))
    with TestClient(transport) as client:
        assert (client.request("plus", 1), client.request("minus", 1)) == (1, -1)


@pytest.mark.parametrize("namespace", [1, b"/admin"])
def test_a_namespace_is_a_text(transport: FallbackTransport, namespace: Any) -> None:
    with pytest.raises(ValueError, match="a namespace begins with a slash: "):
        transport.on_message("chat", namespace=namespace)(lambda client, data: None)


def test_the_one_for_all_takes_a_name(transport: FallbackTransport) -> None:
    with pytest.raises(TypeError, match=r"cannot be called as f\(client, name, \*data\)"):
        transport.on_message("*")(lambda client: None)


def test_an_async_function_chooses_nobody(transport: FallbackTransport) -> None:
    with TestClient(transport) as client:
        with pytest.raises(TypeError, match="later is async"):
            transport.disconnect(later)
        assert client.connected


# -- groups ---------------------------------------------------------------------------------


def test_a_group_is_registered_later(transport: FallbackTransport) -> None:
    chat = Handlers()
    chat.on_message("before")(lambda client, data: "before")
    transport.register(chat)
    chat.on_message("after")(lambda client, data: "after")
    with TestClient(transport) as client:
        assert [client.request("before"), client.request("after")] == ["before", "after"]


def test_a_group_has_a_namespace_and_several_transports() -> None:
    admin = Handlers(namespace="/admin")
    admin.on_connect(lambda client: client.emit("welcome"))
    admin.on_message("who")(lambda client, data: flask.current_app.name)
    admin.on_message("who", namespace="/")(lambda client, data: "elsewhere")
    for name in ("one", "two"):
        early = FallbackTransport(async_mode="threading")
        early.register(admin)
        early.init_app(flask.Flask(name))
        with TestClient(early, namespace="/admin") as client, TestClient(early) as other:
            assert client.received() == [("welcome",)]
            assert (client.request("who"), other.request("who")) == (name, "elsewhere")


def test_a_group_may_have_groups(transport: FallbackTransport) -> None:
    inner, outer = Handlers(), Handlers()
    outer.register(inner)
    transport.register(outer)
    inner.on_message("deep")(lambda client, data: "deep")
    with TestClient(transport) as client:
        assert client.request("deep") == "deep"


def test_of_two_handlers_only_one_would_be_called(transport: FallbackTransport) -> None:
    chat = Handlers()
    chat.on_message("chat")(print)
    transport.on_message("chat")(print)
    with pytest.raises(ValueError, match="a handler for 'chat' already; only one"):
        transport.register(chat)
    transport.on_error(print)
    with pytest.raises(ValueError, match="a handler for errors already"):
        transport.on_error(print)
    transport.on_message("x", namespace="/a")(print)
    with pytest.raises(ValueError, match="'x' in /a already"):
        transport.on_message("x", namespace="/a")(print)


def test_what_the_server_that_was_handed_in_has_stays() -> None:
    server = socketio.Server(async_mode="threading")
    server.on("chat", lambda sid, data: "the server's", namespace="/a")
    transport = FallbackTransport(flask.Flask(__name__), server=server)
    with pytest.raises(ValueError, match="has a handler for 'chat' already"):
        transport.on_message("chat", namespace="/a")(print)
    transport.on_message("chat")(lambda client, data: "ours")
    # Nor is there one that nobody has registered.
    transport.on_connect(lambda client: None)
    assert set(server.handlers["/a"]) == {"chat"}
    with TestClient(transport) as one, TestClient(transport, namespace="/a") as two:
        assert (one.request("chat", 1), two.request("chat", 1)) == ("ours", "the server's")


# -- what mypy says ---------------------------------------------------------------------------

SAMPLE = """
from collections.abc import Callable
from typing import Any
from fallback_transport import FallbackTransport, Handlers, Session

transport = FallbackTransport()
group = Handlers(namespace="/admin")
transport.register(group)

@transport.on_connect
def connected(client: Session) -> None: ...
@transport.on_connect(namespace="/a")
def connected_there(client: Session) -> bool: return True
@transport.on_message
def unnamed(client: Session, data: str | bytes) -> None: ...
@transport.on_message("chat")
def chat(client: Session, text: str) -> str: return text
@transport.on_message("move", max_bytes=100)
def move(client: Session, x: int, y: int = 0) -> tuple[int, int]: return x, y
@transport.on_message("refresh")
def refresh(client: Session) -> None: ...
@transport.on_message("many", namespace="/a")
def many(client: Session, *data: Any) -> None: ...
@transport.on_message(max_bytes=10)
def small(client: Session, data: bytes) -> None: ...
@transport.on_message("*")
def anything(client: Session, name: str, *data: Any) -> None: ...
@transport.on_disconnect
def disconnected(client: Session, code: int, reason: str) -> None: ...
@transport.on_resume
def resumed(client: Session) -> None: ...
@group.on_resume(namespace="/a")
def resumed_there(client: Session) -> None: ...
@transport.on_error
def failed(client: Session, error: Exception, name: str) -> str: return name
@group.on_error(namespace="/a")
def failed_there(client: Session, error: Exception, name: str) -> None: ...
text: str = chat(Session.__new__(Session), "a handler keeps its own type")

@transport.on_connect
def wrong_1(client: Session, auth: dict[str, Any]) -> None: ...
@transport.on_connect(namespace="/a")
def wrong_2() -> None: ...
@transport.on_message
def wrong_3(data: bytes) -> None: ...
@transport.on_message("chat")
def wrong_4() -> None: ...
@transport.on_message("chat")
def wrong_5(sid: str, data: Any) -> None: ...
@transport.on_message("*")
def wrong_6(client: Session, number: int) -> None: ...
@transport.on_disconnect
def wrong_7(client: Session) -> None: ...
@group.on_error
def wrong_8(error: Exception) -> None: ...
@group.on_error()
def wrong_9(client: Session, error: Exception, name: str) -> int: return 1
transport.on_message(7)  # wrong_10
transport.on_message("chat", max_bytes="10")  # wrong_11
@transport.on_resume
def wrong_12(client: Session, auth: Any) -> None: ...
@group.on_resume(namespace="/a")
def wrong_13() -> None: ...
"""


def test_mypy_checks_a_handlers_signature(tmp_path: Path) -> None:
    sample = tmp_path / "sample.py"
    sample.write_text(SAMPLE)
    said, trouble, _ = mypy.run(["--strict", "--no-error-summary", str(sample)])
    assert trouble == ""
    lines = SAMPLE.splitlines()
    found = set()
    for number in re.findall(r"sample\.py:(\d+): error", said):
        # At the decorator, or at the line itself.
        there = " ".join(lines[int(number) - 1 : int(number) + 1])
        found |= set(re.findall(r"wrong_\d+", there)) or {f"line {number}: {there}"}
    assert found == {f"wrong_{number}" for number in range(1, 14)}, said
