"""One `FallbackTransport` for several apps: which of them is meant."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import flask
import pytest

from fallback_transport import FallbackTransport, Session
from fallback_transport.assembly import LAST_RESORT
from fallback_transport.runtime import Runtime
from fallback_transport.testing import TestClient


class Apps:
    """Two apps of one module's transport, as a factory makes them."""

    def __init__(self) -> None:
        self.transport = transport = FallbackTransport(async_mode="threading")

        @transport.on_message("all")
        def to_all(client: Session, data: Any) -> None:
            transport.emit("news", data)

        @transport.on_message("task")
        def task(client: Session, data: Any) -> None:
            transport.server.start_background_task(transport.emit, "news", data)

        self.one, self.two = (self.create(name) for name in ("one", "two"))
        # Registered late, and for both.
        transport.on_message("who")(lambda client, data: flask.current_app.name)

    def create(self, name: str) -> flask.Flask:
        app = flask.Flask(name)
        self.transport.init_app(app)

        @app.get("/announce")
        def announce() -> str:
            self.transport.emit("news", "from a view")
            return ""

        return app


@pytest.fixture
def apps() -> Apps:
    return Apps()


def test_handlers_are_all_apps_and_sessions_one_apps(apps: Apps) -> None:
    with TestClient(apps.one) as one, TestClient(apps.two) as two:
        assert (one.request("who"), two.request("who")) == ("one", "two")
        one.emit("all", 1)
        two.emit("task", 2)
        apps.two.test_client().get("/announce")
        assert one.received("news") == [1]
        assert two.received("news") == [2, "from a view"]


def test_the_current_app_is_meant(apps: Apps) -> None:
    with TestClient(apps.one) as one, TestClient(apps.two) as two:
        for app in (apps.one, apps.two):
            with app.app_context():
                apps.transport.emit("news", app.name)
        assert (one.received("news"), two.received("news")) == (["one"], ["two"])
        with apps.two.app_context():
            apps.transport.drain()
        assert (one.closed, two.closed) == (None, (1012, "the server restarts"))


def test_run_drains_what_it_serves(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(Runtime, "serve", lambda self, *args: told.append(args[3]))
    for app in (apps.one, apps.two):
        apps.transport.run(app)
    with TestClient(apps.one) as one, TestClient(apps.two) as two:
        for drain, client in zip(told, (one, two), strict=True):
            assert client.closed is None
            drain()
            assert client.closed == (1012, "the server restarts")


def test_run_drains_all_that_its_app_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what serves another path, of which the one that runs knows nothing."""
    told: list[Any] = []
    monkeypatch.setattr(Runtime, "serve", lambda self, *args: told.append(args[3:5]))
    app = flask.Flask("two")
    a, b = (
        FallbackTransport(app, async_mode="threading", path=path, drain=drain)
        for path, drain in (("/a", 1.0), ("/b", 2.0))
    )
    a.run(app)
    [(drain, patience)] = told
    assert patience == 2.0 + LAST_RESORT
    with TestClient(a) as one, TestClient(b) as two:
        # Whose sessions are gone if they have been another process's: the next one at the address.
        assert one.id[:6] == two.id[:6]
        drain()
        assert one.closed == two.closed == (1012, "the server restarts")


def test_a_sigterm_leaves_time_for_those_that_came_after_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[Any] = []

    class Told:
        def __init__(self, *args: Any) -> None:
            told.append(args[1])

        def go_first(self) -> None: ...

    monkeypatch.setattr(Runtime, "termination", Told)
    app = flask.Flask("two")
    first = FallbackTransport(app, async_mode="threading", path="/a", drain=1.0)
    first.drain_on_sigterm()
    FallbackTransport(app, async_mode="threading", path="/b", drain=60.0)
    [patience] = told
    assert patience() == 60.0 + LAST_RESORT


def test_a_session_says_itself_which_is_meant(apps: Apps) -> None:
    kept: list[Session] = []
    apps.transport.on_connect(kept.append)
    with TestClient(apps.one) as one, TestClient(apps.two) as two:
        for number, client in enumerate(kept):
            apps.transport.emit("news", number, to=client)
        assert (one.received("news"), two.received("news")) == ([0], [1])


def test_several_sessions_say_themselves_where_they_are(apps: Apps) -> None:
    """Nobody would be found in the current app, or in the default namespace."""
    kept: list[Session] = []
    apps.transport.on_connect(namespace="/admin")(kept.append)
    one, two, other = (
        TestClient(app, namespace="/admin") for app in (apps.one, apps.one, apps.two)
    )
    with one, two, other, apps.two.app_context():
        apps.transport.emit("news", 1, to=kept[:2])
        assert one.received("news") == two.received("news") == [1]
        assert other.received("news") == []
        apps.transport.emit("news", 2, to=kept)
        assert [each.received("news")[-1] for each in (one, two, other)] == [2, 2, 2]


def test_elsewhere_it_must_be_said(apps: Apps) -> None:
    for call in (
        lambda: apps.transport.emit("news"),
        lambda: apps.transport.send("text"),
        lambda: apps.transport.server,
        apps.transport.drain,
        lambda: TestClient(apps.transport),
    ):
        with pytest.raises(RuntimeError, match=r"with app\.app_context\(\)"):
            call()
    with flask.Flask("a third").app_context(), pytest.raises(RuntimeError, match="several apps"):
        apps.transport.emit("news")
    with apps.two.app_context(), TestClient(apps.transport) as client:
        assert client.request("who") == "two"


def test_a_thread_says_it_too(apps: Apps) -> None:
    refused: list[str] = []

    def run() -> None:
        try:
            apps.transport.emit("news", "nobody's")
        except RuntimeError as error:
            refused.append(str(error))
        with apps.one.app_context():
            apps.transport.emit("news", "one's")

    with TestClient(apps.one) as one, TestClient(apps.two) as two:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert (one.received("news"), two.received("news")) == (["one's"], [])
    assert "several apps" in refused[0]


def test_a_task_of_a_class_that_is_derived_has_its_app() -> None:
    class Announcing(FallbackTransport):
        def announce(self, news: str) -> None:
            self.emit("news", news)

    transport = Announcing(async_mode="threading")

    @transport.on_message("announce")
    def announce(client: Session, news: str) -> None:
        transport.server.start_background_task(transport.announce, news)

    for name in ("one", "two"):
        app = flask.Flask(name)
        transport.init_app(app)
        with TestClient(app) as client:
            client.emit("announce", name)
            assert client.received("news") == [name]


def test_a_single_app_is_always_meant() -> None:
    transport = FallbackTransport(async_mode="threading")
    transport.init_app(flask.Flask("alone"))
    with TestClient(transport) as client:
        transport.emit("news", 1)
        with flask.Flask("another's").app_context():
            transport.emit("news", 2)
        assert client.received("news") == [1, 2]


def test_an_app_has_it_once_at_a_path(apps: Apps) -> None:
    for app in (apps.one, apps.two):
        with pytest.raises(RuntimeError, match="at /fallback already"):
            apps.transport.init_app(app)


def test_each_app_has_options_of_its_own() -> None:
    transport = FallbackTransport(async_mode="threading")
    for number in range(2):
        app = flask.Flask("configured")
        app.config["FALLBACK_TRANSPORT_PATH"] = f"/path{number}"
        transport.init_app(app)
        with TestClient(app) as client:
            assert client.connected
        assert [*app.extensions["fallback_transport"]] == [f"/path{number}"]


def test_an_app_with_two_transports_names_none() -> None:
    app = flask.Flask("two")
    for path in ("/a", "/b"):
        FallbackTransport(app, async_mode="threading", path=path)
    for wrong, count in ((app, 2), (flask.Flask("none"), 0)):
        with pytest.raises(RuntimeError, match=f"the app has {count} transports"):
            TestClient(wrong)


def test_the_transport_keeps_no_app_alive_but_the_first(apps: Apps) -> None:
    def use() -> weakref.ref[flask.Flask]:
        app = apps.create("for a while")
        with TestClient(app) as client:
            assert client.request("who") == "for a while"
        return weakref.ref(app)

    gone = use()
    gc.collect()
    assert gone() is None
