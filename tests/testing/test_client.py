"""`TestClient`: what each of its calls does, over both transports."""

from __future__ import annotations

import gc
import importlib
import logging
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import flask
import flask_socketio
import pytest
import socketio

from fallback_transport import ConnectionRefused, FallbackTransport, RequestFailed, Session
from fallback_transport.protocol.errors import MessageRefused, OutboxFull, SessionOver
from fallback_transport.testing import ConnectionFailed, TestClient

KINDS = ["websocket", "polling"]
OTHER = {"websocket": "polling", "polling": "websocket"}


class Application:
    """An application that notes what its handlers get."""

    def __init__(self, **options: Any) -> None:
        self.app = flask.Flask(__name__)
        self.app.secret_key = "only for tests"
        self.transport = FallbackTransport(self.app, **{"async_mode": "threading", **options})
        self.handled: list[Any] = []
        self.ends: list[tuple[int, str]] = []
        self.transport.on_message("note")(self.note)
        self.transport.on_message("everybody")(self.everybody)
        self.transport.on_disconnect(lambda client, *end: self.ends.append(end))

    def note(self, client: Session, data: Any) -> Any:
        self.handled.append(data)
        return data

    def everybody(self, client: Session, data: Any) -> None:
        self.transport.emit("news", data)

    def client(self, **options: Any) -> TestClient:
        return TestClient(self.transport, **options)


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture(params=KINDS)
def client(application: Application, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    with application.client(over=request.param) as client:
        yield client


def test_it_is_connected_at_once(application: Application, client: TestClient) -> None:
    assert client.connected
    assert client.transport in KINDS
    assert client.closed is None
    assert repr(client) == f"<TestClient {client.id} {client.transport}>"
    assert application.transport._made().registry.find(client.id) is not None


def test_a_handler_runs_within_emit(application: Application, client: TestClient) -> None:
    client.emit("note", {"deep": [1, b"\x00", bytearray(b"\x01"), "é\x1e"]})
    assert application.handled == [{"deep": [1, b"\x00", b"\x01", "é\x1e"]}]


def test_a_reply_comes_to_callback_and_request(client: TestClient) -> None:
    answers: list[Any] = []
    client.emit("note", 1, callback=lambda error, reply: answers.append((error, reply)))
    assert answers == [(None, 1)]
    assert client.request("note", b"\x01") == b"\x01"
    assert client.request("note") is None


def test_what_has_no_name_is_a_message(application: Application, client: TestClient) -> None:
    application.transport.on_message(application.note)
    client.send("text")
    client.send(b"bytes")
    assert application.handled == ["text", b"bytes"]


def test_what_came_is_kept_in_order(application: Application, client: TestClient) -> None:
    application.transport.emit("none")
    application.transport.emit("several", (1, 2))
    application.transport.send("text")
    assert client.received() == [
        ("none",),
        ("several", 1, 2),
        ("message", "text"),
    ]
    assert client.received("several") == [(1, 2)]
    assert client.received("nothing") == []


def test_what_a_page_cannot_emit_it_cannot(application: Application, client: TestClient) -> None:
    for name, error in (("connect", ValueError), ("disconnect", ValueError), (7, TypeError)):
        with pytest.raises(error, match=r"reserved|is a text"):
            client.emit(name)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not JSON serializable"):
        client.emit("note", {1, 2})
    with pytest.raises(MessageRefused):
        client.emit("note", "x" * 16_000_000)
    assert client.request("note", 1) == 1
    assert application.handled == [1]
    with pytest.raises(ValueError, match="begins with a slash: 'admin'"):
        TestClient(application.transport, namespace="admin")


def test_a_page_keeps_so_much(application: Application, client: TestClient) -> None:
    client.cut()
    for number in range(9_990):
        client.emit("note", number)
    with pytest.raises(OutboxFull, match="10000 messages"):
        list(map(client.emit, ["note"] * 11, range(9_990, 10_001)))
    client.reconnect()
    assert application.handled == list(range(len(application.handled)))
    assert 9_990 <= len(application.handled) <= 10_000


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_time_neither_stands_still_nor_goes_back(client: TestClient, seconds: float) -> None:
    before = client._tasks.time
    with pytest.raises(ValueError, match="time goes by for a number of seconds, 0 or more: "):
        client.advance(seconds)
    client.advance(0)
    assert client._tasks.time == before


def test_there_are_two_transports(application: Application, client: TestClient) -> None:
    told = "a transport is 'websocket' or 'polling': 'ws'"
    with pytest.raises(ValueError, match=told):
        TestClient(application.transport, over="ws")
    with pytest.raises(ValueError, match=told):
        client.switch("ws")
    assert client.connected


def test_what_is_given_wrongly_is_told(application: Application, client: TestClient) -> None:
    server = application.transport.server
    given: Any
    for given in (None, "app", server):
        with pytest.raises(TypeError, match="a FallbackTransport, or the Flask app that"):
            TestClient(given)
    given = None
    with pytest.raises(ValueError, match="a namespace begins with a slash: None"):
        TestClient(application.transport, namespace=given)
    with pytest.raises(TypeError, match="a listener is a function: None"):
        client.on("news", given)
    given = True
    # As to a test client of Flask-SocketIO.
    with pytest.raises(TypeError, match=r"not True; request\(\) returns the reply"):
        client.emit("note", 1, callback=given)
    assert application.handled == []


def test_what_is_no_number_is_null_as_browsers_write_it(
    application: Application, client: TestClient
) -> None:
    client.on("ask", lambda: float("nan"))
    handed: list[Any] = []
    application.transport.on_message("ask me")(lambda ours: handed.append(ours.request("ask")))
    client.emit("note", [float("nan"), float("inf")])
    client.emit("ask me")
    assert application.handled == [[None, None]]
    assert handed == [None]


def test_clients_share_the_server_and_its_clock(application: Application) -> None:
    with application.client() as one, application.client(over="polling") as two:
        one.emit("everybody", b"\x02")
        assert one.received("news") == two.received("news") == [b"\x02"]
        application.transport.emit("news", "only", skip=one.id)
        assert two.received("news") == [b"\x02", "only"]
        two.advance(10)
        assert one._runtime.now() == two._runtime.now()
    assert application.ends == [(1001, "the page is leaving")] * 2


@pytest.mark.parametrize("lose", [None, "sent", "received"])
def test_what_is_under_way_is_lost_and_comes_again(
    application: Application, client: TestClient, lose: str | None
) -> None:
    client.delay(0.5)
    client.emit("note", "up")
    application.transport.emit("news", "down")
    assert (application.handled, client.received("news")) == ([], [])
    client.cut(lose)
    assert application.handled == (["up"] if lose == "received" else [])
    assert client.received("news") == (["down"] if lose == "sent" else [])
    assert not client.connected
    client.reconnect()
    client.advance(1)
    assert application.handled == ["up"]
    assert client.received("news") == ["down"]
    assert application.ends == []


def test_what_the_server_says_to_what_came_is_lost_too(
    application: Application, client: TestClient
) -> None:
    answers: list[Any] = []
    client.delay(0.5)
    client.emit("note", "up", callback=lambda error, reply: answers.append(reply))
    client.delay(0)
    client.cut(lose="received")
    assert (application.handled, answers) == (["up"], [])
    client.reconnect()
    assert (application.handled, answers) == (["up"], ["up"])


@pytest.mark.parametrize("lose", ["sent", "received"])
def test_there_must_be_something_to_lose(
    application: Application, client: TestClient, lose: str
) -> None:
    with pytest.raises(RuntimeError, match=r"nothing was under way; after delay\(seconds\)"):
        client.cut(lose)
    # Nothing was cut, then.
    assert client.connected
    client.emit("note", "up")
    application.transport.emit("news", "down")
    assert (application.handled, client.received("news")) == (["up"], ["down"])


def test_what_is_no_way_cannot_be_lost(application: Application, client: TestClient) -> None:
    with pytest.raises(ValueError, match="'both'"):
        client.cut("both")
    client.emit("note", "up")
    assert (client.connected, application.handled) == (True, ["up"])


def test_what_is_delayed_takes_its_time(application: Application, client: TestClient) -> None:
    client.delay(2)
    began = client._runtime.now()
    client.emit("note", 1)
    client.advance(1.9)
    assert application.handled == []
    client.advance(0.2)
    assert application.handled == [1]
    assert client.request("note", 2) == 2
    # Polls: the second goes when the first is answered.
    assert 6 <= client._runtime.now() - began <= 8
    client.delay(0)
    with pytest.raises(ValueError, match="0 or more: -1"):
        client.delay(-1)


def test_changes_of_transport(application: Application, client: TestClient) -> None:
    first = client.transport
    assert first is not None
    client.switch(OTHER[first])
    assert client.transport == OTHER[first]
    client.cut()
    client.reconnect()
    assert client.transport == OTHER[first]
    client.cut()
    client.switch(first)
    assert client.transport == first
    client.emit("note", "still")
    assert application.handled == ["still"]
    assert application.ends == []
    with pytest.raises(ValueError, match="carrier pigeon"):
        client.switch("carrier pigeon")


def test_only_what_is_cut_reconnects(client: TestClient) -> None:
    with pytest.raises(RuntimeError, match="carries the session still"):
        client.reconnect()
    client.cut()
    for call in (client.cut, client.repeat):
        with pytest.raises(RuntimeError, match="nothing carries"):
            call()


def test_a_repeated_request_is_handled_once(application: Application) -> None:
    with application.client(over="polling") as client:
        client.repeat()
        client.emit("note", 1)
        client.repeat()
        client.emit("note", 2)
        assert application.handled == [1, 2]
        client.switch("websocket")
        with pytest.raises(RuntimeError, match="switch"):
            client.repeat()


def test_a_quiet_session_stays(application: Application, client: TestClient) -> None:
    client.advance(3600)
    assert client.connected
    assert client.request("note", "here") == "here"
    assert application.ends == []


def test_one_that_is_away_for_too_long_is_over(application: Application) -> None:
    client = application.client()
    client.cut()
    client.emit("note", "kept")
    client.advance(119)
    assert application.ends == []
    client.advance(2)
    assert application.ends == [(4408, "no connection for 120 s")]
    assert client.closed is not None
    assert client.closed[0] == 4408
    with pytest.raises(RuntimeError, match="the session has ended: 4408"):
        client.reconnect()
    with pytest.raises(SessionOver):
        client.emit("note", "too late")


def test_what_the_server_lost_is_over(application: Application, client: TestClient) -> None:
    client.cut()
    application.transport._made().registry.find(client.id).abort(1011, "a defect")
    client.reconnect()
    assert client.closed == (1011, "a defect")


def test_closing_is_told_to_both(application: Application, client: TestClient) -> None:
    client.emit("note", 1)
    client.close(4321, "enough")
    assert client.closed == (4321, "enough")
    assert application.ends == [(4321, "enough")]
    with pytest.raises(ValueError, match="123"):
        client.close(4321, "x" * 124)


def test_closing_without_a_connection_takes_five_seconds(client: TestClient) -> None:
    client.cut()
    client.close(4000)
    assert client.closed is None
    client.advance(5)
    assert client.closed == (4000, "")


def test_the_server_closes(application: Application, client: TestClient) -> None:
    @application.transport.on_message("leave")
    def leave(it: Session, data: Any) -> None:
        it.emit("bye")
        it.close(4001, "as you wish")

    answers: list[Any] = []
    client.emit("leave", callback=lambda error, reply: answers.append(error))
    assert client.received() == [("bye",)]
    assert client.closed == (4001, "as you wish")
    assert application.ends == [(4001, "as you wish")]
    assert isinstance(answers[0], RequestFailed)


def test_a_refused_client_is_told_why(application: Application) -> None:
    @application.transport.on_connect
    def connect(client: Session) -> None:
        if client.auth != {"token": "right"}:
            raise ConnectionRefused(4007, "no such token")

    for over in KINDS:
        with application.client(over=over, auth={"token": "wrong"}) as client:
            assert client.closed == (4007, "no such token")
            assert not client.connected
        with application.client(over=over, auth={"token": "right"}) as client:
            assert client.connected


@pytest.mark.parametrize("over", KINDS)
def test_auth_that_is_no_object_is_told(application: Application, over: str) -> None:
    with TestClient(application.transport, over=over, auth="secret") as client:
        assert client.closed == (4400, "what a page gives as auth must be an object")


def test_headers_and_cookies_are_seen_by_handlers() -> None:
    application = Application()

    @application.app.get("/log-in")
    def log_in() -> str:
        flask.session["user"] = "ann"
        return ""

    @application.transport.on_message("who")
    def who(client: Session, data: Any) -> list[Any]:
        request = flask.request
        return [flask.session.get("user"), request.headers.get("X-It"), request.cookies.get("a")]

    browser = application.app.test_client()
    with application.client(cookies=browser) as client:
        assert client.request("who") == [None, None, None]
    browser.get("/log-in")
    for over in KINDS:
        with application.client(cookies=browser, over=over, headers={"X-It": "1"}) as client:
            assert client.request("who") == ["ann", "1", None]
        with application.client(cookies={"a": "b", "c": "d"}, over=over) as client:
            assert client.request("who") == [None, None, "b"]


def test_the_host_is_the_applications() -> None:
    application = Application()
    application.app.config.update(SERVER_NAME="shop.example", PREFERRED_URL_SCHEME="https")

    @application.transport.on_message("where")
    def where(client: Session, data: Any) -> str:
        return flask.request.host_url

    with application.client() as client:
        assert client.request("where") == "https://shop.example/"


@pytest.mark.parametrize("over", KINDS)
def test_what_answers_in_the_place_of_the_server_is_told_and_leaves_nothing(
    application: Application, over: str
) -> None:
    def gateway(environ: Any, start_response: Any) -> list[bytes]:
        start_response("502 Bad Gateway", [("Content-Type", "text/plain")])
        return [b"nobody is there\n"]

    with application.client() as other:
        peers = list(other._tasks.peers)
        application.app.wsgi_app = gateway  # type: ignore[method-assign]
        with pytest.raises(ConnectionFailed) as failed:
            application.client(over=over)
        assert (failed.value.code, failed.value.reason) == (502, "nobody is there")
        assert other._tasks.peers == peers


@pytest.mark.parametrize("over", KINDS)
def test_a_host_that_is_given_is_the_pages_too(over: str) -> None:
    application = Application()
    application.app.config["TRUSTED_HOSTS"] = ["shop.example"]
    with application.client(over=over, headers={"host": "shop.example:81"}) as client:
        assert client.connected
    with pytest.raises(ConnectionFailed, match="this origin is not allowed"):
        application.client(over=over)


@pytest.mark.parametrize("over", KINDS)
def test_a_foreign_origin_does_not_connect(application: Application, over: str) -> None:
    with pytest.raises(ConnectionFailed, match="this origin is not allowed") as failed:
        application.client(over=over, headers={"Origin": "https://evil.example"})
    assert failed.value.code == (403 if over == "websocket" else 4403)
    with application.client(over=over) as client:
        assert client.connected


@pytest.mark.parametrize("over", KINDS)
def test_middleware_may_be_a_generator(application: Application, over: str) -> None:
    inner = application.app.wsgi_app

    def middleware(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield from inner(environ, start_response)

    application.app.wsgi_app = middleware  # type: ignore[method-assign]
    with application.client(over=over) as client:
        assert client.request("note", 1) == 1
    with pytest.raises(ConnectionFailed, match="this origin is not allowed"):
        application.client(over=over, headers={"Origin": "https://evil.example"})


def test_a_full_server_does_not_take_another() -> None:
    application = Application(max_sessions=1)
    with application.client(), pytest.raises(ConnectionFailed, match="full") as failed:
        application.client(over="polling")
    assert failed.value.code == 1013


def test_a_handler_has_a_context_of_its_own(application: Application, client: TestClient) -> None:
    def seen() -> str:
        return str(flask.g.get("of the test"))

    application.app.add_url_rule("/seen", view_func=seen)
    application.transport.on_message("seen")(lambda client: seen())
    with application.app.app_context():
        flask.g.setdefault("of the test", "put")
        assert application.app.test_client().get("/seen").text == "put"
        assert client.request("seen") == "None"


def test_a_handler_that_sleeps_goes_on_by_the_clock(
    application: Application, client: TestClient
) -> None:
    @application.transport.on_message("slow")
    def slow(it: Session, seconds: float) -> str:
        application.transport.server.sleep(seconds)
        application.handled.append("slept")
        return "rested"

    client.emit("slow", 5)
    client.advance(4)
    assert application.handled == []
    client.advance(2)
    assert application.handled == ["slept"]
    began = client._runtime.now()
    assert client.request("slow", 50) == "rested"
    assert client._runtime.now() == began + 50
    with pytest.raises(RequestFailed, match="no reply in 10 s"):
        client.request("slow", 50, timeout=10)


@pytest.mark.parametrize("mode", ["eventlet", "gevent"])
def test_a_handler_may_wait_in_the_hub_of_its_mode(mode: str, need: Callable[[str], str]) -> None:
    """As in whatever is monkey-patched; its seconds are real ones."""
    if mode == "gevent":
        need("gevent")
    hub = importlib.import_module(mode)
    application = Application(async_mode=mode)
    emit, sleep = application.transport.emit, application.transport.server.sleep

    @application.transport.on_message("wait")
    def wait(it: Session, data: Any) -> Any:
        hub.sleep(0.01)
        sleep(5)
        hub.spawn(emit, "news", data)
        hub.sleep(0.01)
        return data

    for over in KINDS:
        with hub.Timeout(20), application.client(over=over) as client:
            for number in range(2):
                assert client.request("wait", number) == number
            client.emit("wait", 2)
            client.advance(6)
            assert client.received("news") == [0, 1, 2]


def test_background_tasks_run_by_the_clock(application: Application, client: TestClient) -> None:
    def tick() -> None:
        for number in range(100):
            application.transport.server.sleep(1)
            application.transport.emit("tick", number)

    task = application.transport.server.start_background_task(tick)
    client.advance(10.5)
    assert client.received("tick") == list(range(10))
    task.join()
    assert len(client.received("tick")) == 100


@pytest.mark.parametrize("mode", ["eventlet", "threading"])
def test_a_task_that_began_before_the_first_client_goes_on_in_real_time(mode: str) -> None:
    """As one that a module has started as it was imported."""
    application = Application(async_mode=mode)
    server = application.transport.server
    connected, done = server.eio.create_event(), server.eio.create_event()

    def tick() -> None:
        # However long the client takes.
        connected.wait(20)
        for number in range(3):
            server.sleep(0.01)
            application.transport.emit("tick", number)
        done.set()

    server.start_background_task(tick)
    with application.client() as client:
        before = client._tasks.time
        connected.set()
        assert done.wait(20)
        assert client.received("tick") == [0, 1, 2]
        assert client._tasks.time == before


def test_the_page_answers_a_handler(application: Application, client: TestClient) -> None:
    @application.transport.on_message("ask")
    def ask(it: Session, timeout: float) -> Any:
        try:
            return it.request("question", 20, timeout=timeout)
        except RequestFailed as error:
            return str(error)

    assert client.request("ask", 3) == "no listener for question"
    client.on("question", lambda data: 2 * data)
    client.delay(2)
    assert client.request("ask", 3) == "no answer in 3 s"
    client.delay(0)
    assert client.request("ask", 3) == 40
    client.on("question", lambda data: (data, b"\x03"))
    assert client.request("ask", 3) == (20, b"\x03")


@pytest.mark.parametrize(
    ("returned", "values"), [(None, ()), (1, (1,)), ((1, 2), (1, 2)), ([None], ([None],))]
)
def test_a_callback_of_the_servers_gets_what_a_listener_returns(
    application: Application, client: TestClient, returned: Any, values: tuple[Any, ...]
) -> None:
    """And nothing where it returns nothing, as when a page's calls its last argument so."""
    called: list[tuple[Any, ...]] = []
    client.on("question", lambda: returned)
    application.transport.server.emit(
        "question", to=client.id, callback=lambda *answer: called.append(answer)
    )
    assert client.received("question") == [None]
    assert called == [values]


def test_a_view_may_ask_the_page(application: Application, client: TestClient) -> None:
    @application.app.get("/ask")
    def ask() -> str:
        conversation = application.transport._made().registry.find(client.id)
        session = application.transport._made().sessions.get(conversation.id, "/")
        return str(session.request("question", timeout=5))

    client.on("question", lambda: "answer")
    assert application.app.test_client().get("/ask").text == "answer"


def test_a_listener_that_raises_fails_the_test(
    application: Application, client: TestClient
) -> None:
    @application.transport.on_message("ask")
    def ask(it: Session, data: Any) -> Any:
        try:
            return it.request("question")
        except RequestFailed as error:
            return str(error)

    def listener() -> None:
        assert [] == [1]

    client.on("question", listener)
    replies: list[Any] = []
    with pytest.raises(AssertionError):
        client.emit("ask", callback=lambda error, reply: replies.append(reply))
    assert replies == ["the listener raised"]


@pytest.mark.parametrize("returned", [{1}, "x" * 16_000_000])
def test_what_a_listener_cannot_send_fails_the_test(
    application: Application, client: TestClient, returned: Any
) -> None:
    @application.transport.on_message("ask")
    def ask(it: Session, data: Any) -> Any:
        with pytest.raises(RequestFailed, match="the listener raised"):
            it.request("question")

    client.on("question", lambda: returned)
    with pytest.raises((TypeError, MessageRefused)):
        client.emit("ask")
    assert client.request("note", 1) == 1


@pytest.mark.parametrize("over", KINDS)
def test_what_the_tests_own_functions_raise_fails_it_and_harms_nothing(
    application: Application, over: str
) -> None:
    @application.transport.on_message("talk")
    def talk(it: Session, number: int) -> int:
        it.emit("before", number)
        it.emit("behind", number)
        return number

    def fails(*values: Any) -> None:
        pytest.fail(str(values))

    heard: list[Any] = []
    # Whether those of handlers are only logged or not: these are the test's.
    with application.client(over=over, raise_server_exceptions=False) as client:
        for listener in (fails, heard.append):
            client.on("before", listener)
        client.delay(1)
        client.emit("talk", 1, callback=fails)
        client.emit("talk", 2, callback=lambda error, reply: heard.append(reply))
        client.delay(0)
        with pytest.raises(pytest.fail.Exception):
            client.advance(5)
        client.advance(5)
        assert sorted(heard) == [1, 2, 2]
        assert client.received("behind") == [1, 2]
        assert application.transport.stats()["queue"]["messages"] == 0


def test_each_callback_is_told_of_the_end(application: Application, client: TestClient) -> None:
    @application.transport.on_message("leave")
    def leave(it: Session) -> None:
        it.close(4001, "as you wish")

    def fails(error: Any, reply: Any) -> None:
        raise LookupError(error)

    told: list[Any] = []
    client.cut()
    client.emit("leave", callback=fails)
    client.emit("note", callback=lambda error, reply: told.append(str(error)))
    with pytest.raises(LookupError):
        client.reconnect()
    assert told == ["the session ended: 4001 as you wish"]


def test_a_listener_may_emit_and_not_wait(application: Application, client: TestClient) -> None:
    def listener(number: int) -> None:
        if number < 5:
            client.emit("everybody", number + 1)
        else:
            client.request("note")

    client.on("news", listener)
    with pytest.raises(RuntimeError, match="listener cannot wait"):
        client.emit("everybody", 0)
    assert client.received("news") == [0, 1, 2, 3, 4, 5]


def test_what_handlers_raise_is_raised(application: Application, client: TestClient) -> None:
    @application.transport.on_message("boom")
    def boom(it: Session, data: Any) -> None:
        raise KeyError(data)

    with pytest.raises(KeyError, match="one"):
        client.emit("boom", "one")
    with pytest.raises(KeyError, match="two"):
        client.request("boom", "two")
    assert client.request("note", "on") == "on"


def test_what_tasks_and_other_handlers_raise_is_raised() -> None:
    application = Application()

    @application.transport.on_connect
    def connect(client: Session) -> None:
        if client.auth:
            raise LookupError("no room")

    @application.transport.on_message("start")
    def start(client: Session, data: Any) -> None:
        application.transport.server.start_background_task(lambda: 1 / 0)

    with application.client() as client:
        with pytest.raises(ZeroDivisionError):
            client.emit("start")
        with pytest.raises(LookupError):
            application.client(auth={"a": 1})
        assert client.connected


def test_what_a_callback_of_the_servers_raises_is_raised(
    application: Application, client: TestClient
) -> None:
    def answered(answer: Any) -> None:
        raise LookupError(answer)

    client.on("question", lambda: 1)
    application.transport.server.emit("question", to=client.id, callback=answered)
    with pytest.raises(LookupError, match="1"):
        client.received()
    assert client.request("note", "on") == "on"


def test_or_it_is_only_logged(application: Application, caplog: pytest.LogCaptureFixture) -> None:
    @application.transport.on_message("boom")
    def boom(it: Session, data: Any) -> None:
        raise KeyError(data)

    with application.client(raise_server_exceptions=False) as client:
        with caplog.at_level(logging.ERROR):
            client.emit("boom", "one")
            application.transport.server.start_background_task(lambda: 1 / 0)
            client.advance(0)
        assert "KeyError: 'one'" in caplog.text
        assert "ZeroDivisionError" in caplog.text
        with pytest.raises(RequestFailed, match="the handler raised"):
            client.request("boom", "two")
        with pytest.raises(RequestFailed, match="no handler takes this event"):
            client.request("unknown")


#: Prints whether the line of a test was written by the thread that logged it, behind a server.
LOGS = """
import logging, threading
from tests.testing.test_client import Application

class Handler(logging.Handler):
    def emit(self, record):
        if record.levelno >= logging.WARNING:
            print(threading.current_thread() is threading.main_thread())

logging.getLogger("fallback_transport").addHandler(Handler())
Application().transport._made().engine.runtime.settle()
with Application().client(raise_server_exceptions=False) as client:
    client.emit("note", 1, 2, 3)
    print("over")
"""


def test_what_is_logged_is_there_at_once_also_beside_a_server() -> None:
    """Whose threads leave what they log to another one, for as long as the process lives."""
    run = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "over"], run.stderr


def test_a_thread_of_the_applications_may_emit(
    application: Application, client: TestClient
) -> None:
    thread = threading.Thread(target=application.transport.emit, args=("news", "from a thread"))
    thread.start()
    thread.join()
    assert client.received("news") == ["from a thread"]


def test_no_thread_and_no_object_is_left() -> None:
    before = threading.enumerate()

    def use() -> weakref.ref[flask.Flask]:
        application = Application()
        with application.client() as one, application.client(over="polling"):
            one.emit("everybody", 1)
            one.switch("polling")
        return weakref.ref(application.app)

    gone = use()
    gc.collect()
    # One of an earlier test's may be over by now.
    assert set(threading.enumerate()) <= set(before)
    assert gone() is None


@pytest.mark.parametrize("mode", ["eventlet", "gevent", "threading"])
def test_any_async_mode(mode: str, need: Callable[[str], str]) -> None:
    if mode == "gevent":
        need("gevent")
    application = Application(async_mode=mode)
    for over in KINDS:
        with application.client(over=over) as client:
            assert client.request("note", mode) == mode
    assert application.transport.server.async_mode == mode


def test_under_flask_socketio() -> None:
    app = flask.Flask(__name__)
    server = flask_socketio.SocketIO(app, async_mode="threading")
    transport = FallbackTransport(app, server=server)

    @server.on("chat")
    def chat(text: str) -> str:
        server.sleep(1)
        flask_socketio.emit("chat", text, broadcast=True)
        return "heard"

    @server.on("chat", namespace="/admin")
    def admin(text: str) -> str:
        return flask.request.namespace

    with TestClient(transport) as client, TestClient(transport, namespace="/admin") as other:
        client.cut()
        client.emit("chat", "hello")
        client.reconnect()
        client.advance(1)
        assert client.received("chat") == ["hello"]
        assert other.request("chat", "who") == "/admin"


def test_several_transports_on_one_server_have_one_clock() -> None:
    server = socketio.Server(async_mode="threading")
    apps = [flask.Flask(f"app{number}") for number in range(2)]
    transports = [FallbackTransport(app, server=server) for app in apps]
    transports[0].on_connect(lambda client: None)
    with TestClient(transports[0]) as one, TestClient(transports[1]) as two:
        transports[0].emit("news", 1)
        assert one.received("news") == two.received("news") == [1]
        one.advance(5)
        assert one._runtime.now() == two._runtime.now()


def test_there_must_be_an_app() -> None:
    with pytest.raises(RuntimeError, match="init_app"):
        TestClient(FallbackTransport())


def test_other_processes_have_another_clock() -> None:
    manager = socketio.PubSubManager()
    server = socketio.Server(async_mode="threading", client_manager=manager)
    transport = FallbackTransport(flask.Flask(__name__), server=server)
    with pytest.raises(RuntimeError, match="PubSubManager waits for other processes"):
        TestClient(transport)


def test_a_transport_that_serves_already_stays_as_it_is(application: Application) -> None:
    application.transport._made().registry._alive["a session in real time"] = object()
    with pytest.raises(RuntimeError, match="sessions already"):
        application.client()


def test_no_server_serves_what_a_client_has_tested(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    """Whose threads cannot wait in virtual time."""
    polls = application.app.test_client()
    answers: list[Any] = []

    def ask() -> None:
        for path in ("/fallback/poll", "/fallback/ws"):
            answer = polls.open(path, method="POST" if path.endswith("poll") else "GET")
            answers.append((answer.status_code, answer.text))

    with application.client():
        pass
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    told = "make another app for the server"
    assert [status for status, _ in answers] == [501, 501]
    assert "its log says why" in answers[0][1]
    assert told in answers[1][1]
    assert caplog.text.count(told) == 1
    # As the test itself may.
    assert polls.post("/fallback/poll", data="no hello").status_code == 400


@pytest.mark.parametrize("mode", ["eventlet", "gevent"])
def test_no_hubs_server_serves_it_in_the_tests_own_thread(
    mode: str, application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    """Its first poll would wait in virtual time, and everything with it."""
    raw = SimpleNamespace(raw=SimpleNamespace(_sock=object()))
    environs = {
        "eventlet": {"eventlet.input": object()},
        "gevent": {"SERVER_SOFTWARE": "gevent/26.9 Python/3.11", "wsgi.input": raw},
    }
    with application.client():
        pass
    answer = application.app.test_client().get("/fallback/ws", environ_overrides=environs[mode])
    assert (answer.status_code, answer.text.strip()) == (501, caplog.messages[0])
    assert "make another app for the server" in answer.text


@pytest.mark.parametrize("mode", ["eventlet", "threading"])
def test_run_says_why_it_cannot_serve_what_a_client_has_tested(mode: str) -> None:
    application = Application(async_mode=mode)
    with application.client():
        pass
    with pytest.raises(RuntimeError, match="make another app for the server"):
        application.transport.run(application.app, port=0)


def test_a_failed_with_block_shows_its_own_error(application: Application) -> None:
    @application.transport.on_message("boom")
    def boom(it: Session, data: Any) -> None:
        raise KeyError(data)

    with pytest.raises(AssertionError), application.client() as client:  # noqa: PT012
        client._page.emit("boom", ("later",), None)
        raise AssertionError


@pytest.mark.parametrize("over", KINDS)
def test_what_a_failed_with_block_leaves_is_not_the_next_tests(
    application: Application, over: str
) -> None:
    @application.transport.on_message("boom")
    def boom(it: Session, data: Any) -> None:
        raise KeyError(data)

    with pytest.raises(AssertionError), application.client(over=over) as client:  # noqa: PT012
        client.delay(1)
        client.emit("boom", "later")
        application.transport.server.sleep(2)
        raise AssertionError
    with application.client(over=over) as client:
        assert client.request("note", 1) == 1


@pytest.mark.parametrize("over", KINDS)
@pytest.mark.parametrize("seconds", [0, 1])
def test_with_the_page_its_session_goes_behind_what_is_under_way(
    application: Application, over: str, seconds: float
) -> None:
    with application.client(over=over) as client:
        client.delay(seconds)
        client.emit("note", 1)
        application.transport.emit("news", 2)
    assert application.handled == [1]
    assert application.ends == [(1001, "the page is leaving")]
    assert client.received() == [("news", 2)]


@pytest.mark.parametrize("over", KINDS)
def test_a_page_that_is_cut_off_is_not_in_the_next_test(
    application: Application, over: str
) -> None:
    with application.client(over=over) as client:
        client.cut()
        client.emit("note", "kept")
    assert application.handled == []
    assert application.ends == [(1001, "the page is leaving")]
    assert application.transport.stats()["sessions"] == {"websocket": 0, "polling": 0, "none": 0}


@pytest.mark.parametrize("over", KINDS)
@pytest.mark.parametrize("by", ["client", "server", "refusal"])
def test_of_a_session_that_is_over_nothing_is_kept(
    application: Application, over: str, by: str
) -> None:
    @application.transport.on_connect
    def connect(client: Session) -> None:
        if by == "refusal":
            raise ConnectionRefused

    client = application.client(over=over)
    if by == "client":
        client.close()
    elif by == "server":
        application.transport.disconnect(client.id)
    assert client.closed is not None
    assert client.received() == []
    tasks, gone = client._tasks, weakref.ref(client._page)
    client.advance(60)
    del client
    gc.collect()
    assert tasks.peers == []
    assert gone() is None


def test_draining_ends_the_sessions(application: Application, client: TestClient) -> None:
    application.transport.drain()
    assert client.closed == (1012, "the server restarts")
    with pytest.raises(ConnectionFailed, match="restarts"):
        application.client()


def test_an_emit_that_waits_waits_by_the_clock() -> None:
    application = Application(max_unconfirmed_messages=3, when_full="wait", emit_timeout=10)
    emit = application.transport.emit
    with application.client() as slow, application.client() as quick:
        slow.cut()
        for number in range(4):
            emit("news", number)
        # The last one has waited for as long as it may.
        assert quick.received("news") == [0, 1, 2, 3]
        assert application.ends == [
            (4429, "3 messages, 33 bytes are unconfirmed after a wait of 10 s")
        ]
        slow.reconnect()
        assert slow.closed == application.ends[0]


def test_a_handler_waits_until_there_is_room() -> None:
    application = Application(max_unconfirmed_messages=3, when_full="wait")
    with application.client() as slow, application.client() as quick:
        slow.cut()
        for number in range(6):
            quick.emit("everybody", number)
        assert quick.received("news") == [0, 1, 2, 3]
        slow.reconnect()
        assert slow.received("news") == quick.received("news") == list(range(6))


@pytest.mark.parametrize("to", ["one", "all"])
def test_the_latest_that_waits_replaces_what_has_no_bytes_in_it(to: str) -> None:
    application = Application(max_unconfirmed_messages=4, when_full="wait")
    transport, sessions = application.transport, list[Session]()
    transport.on_connect(sessions.append)
    with application.client() as client:
        emit = sessions[0].emit if to == "one" else transport.emit
        client.cut()
        for number in range(4):
            emit("news", number)
        for data in (b"4", "5", "6"):
            transport.server.start_background_task(emit, "news", data, latest="news")
        client.advance(1)
        client.reconnect()
        assert client.received("news") == [0, 1, 2, 3, b"4", "6"]


@pytest.mark.parametrize("inactivity", [1, 3, 10])
@pytest.mark.parametrize("over", KINDS)
def test_who_is_there_is_not_away_however_short_the_inactivity(over: str, inactivity: int) -> None:
    application = Application(inactivity=inactivity)
    with application.client(over=over) as client:
        client.advance(300)
        assert client.closed is None
