"""What PYTHON.md says is so: its examples run, its tables are complete, its names exist."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import flask_login
import pytest
from flask import Flask, redirect
from werkzeug.middleware.proxy_fix import ProxyFix

import fallback_transport
from fallback_transport import FallbackTransport, RequestFailed, Session
from fallback_transport.options import Options
from fallback_transport.testing import ConnectionFailed, TestClient
from tests.documents import PYTHON, code, table
from tests.signatures import parameters, signature


def test_the_table_of_options_is_the_dataclass() -> None:
    said = {code(row[0])[0]: code(row[1])[0] for row in table(PYTHON.section("Options"))}
    assert said == {field.name: repr(field.default) for field in fields(Options)}
    assert list(said) == [field.name for field in fields(Options)]
    assert all(row[2] for row in table(PYTHON.section("Options"))), "a reason is missing"


def test_the_python_names_exist_and_take_these_arguments() -> None:
    told = set()
    for row in table(PYTHON.section("The extension")) + table(PYTHON.section("A session")):
        for text in code(row[0]):
            name, _, arguments = text.partition("(")
            owner = Session if name.startswith("client.") else FallbackTransport
            name = name.lstrip("@").partition(".")[2]
            if text.startswith("FallbackTransport("):
                name = "__init__"
            told.add((owner, name))
            if owner is Session and not arguments:
                attributes = inspect.getsource(Session.__init__)
                assert hasattr(Session, name) or f"self.{name}" in attributes, text
                continue
            thing = getattr(owner, name)
            if arguments and not text.startswith("@"):
                assert parameters(arguments) == signature(thing), text
    for owner in (Session, FallbackTransport):
        public = {name for name in vars(owner) if not name.startswith("_")}
        assert public <= {name for each, name in told if each is owner}, f"{owner} is not all told"


def test_every_exported_name_is_told() -> None:
    assert [name for name in fallback_transport.__all__ if f"`{name}" not in PYTHON.text] == []


def test_a_group_of_handlers_is_registered() -> None:
    module: dict[str, Any] = {}
    exec(PYTHON.block("python", "Handlers(namespace="), module)
    transport = FallbackTransport(Flask(__name__), async_mode="threading")
    transport.register(module["admin"])
    with TestClient(transport, namespace="/admin", auth={"token": "secret"}) as client:
        assert client.request("move", 1, 2) == 3
        with pytest.raises(RequestFailed, match="100 bytes"):
            client.request("move", "x" * 100, "")
    with TestClient(transport, namespace="/admin") as client:
        assert client.closed == (4401, "admins only")


def test_the_login_example_works() -> None:
    app = Flask("login")
    app.secret_key = "only for tests"
    transport = FallbackTransport(app, async_mode="threading")
    known = {"ann", "bob"}
    manager = flask_login.LoginManager(app)

    @manager.user_loader
    def load(name: str) -> flask_login.UserMixin | None:
        user = flask_login.UserMixin()
        user.id = name
        return user if name in known else None

    @app.get("/login/<name>")
    def login(name: str) -> str:
        flask_login.login_user(load(name))
        return "in"

    names = {**vars(flask_login), "redirect": redirect, "transport": transport, "app": app}
    exec(PYTHON.block("python", "You have logged out."), {**names, **vars(fallback_transport)})
    pages = {name: app.test_client() for name in known}
    for name, page in pages.items():
        page.get(f"/login/{name}")
    with (
        TestClient(transport) as stranger,
        TestClient(transport, cookies=pages["ann"]) as ann,
        TestClient(transport, cookies=pages["bob"]) as bob,
    ):
        assert stranger.closed == (4001, "Please log in.")
        bob.cut()
        bob.reconnect()
        pages["ann"].post("/logout")
        assert (ann.closed, bob.closed) == ((4001, "You have logged out."), None)
        known.remove("bob")
        bob.cut()
        bob.reconnect()
        assert bob.closed == (4001, "Your login has expired.")


def test_behind_a_proxy_the_origin_is_what_proxyfix_says() -> None:
    app = Flask("fixed")
    transport = FallbackTransport(app, async_mode="threading")
    headers = {
        "Origin": "https://front.example",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "front.example",
    }
    with pytest.raises(ConnectionFailed, match="origin"):
        TestClient(transport, headers=headers)
    exec(PYTHON.block("python", "ProxyFix("), {"app": app, "ProxyFix": ProxyFix})
    with TestClient(transport, headers=headers) as client:
        assert client.connected


@pytest.mark.parametrize("outermost", [True, False])
def test_a_proxyfix_that_is_there_before_counts_as_the_outermost(outermost: bool) -> None:
    assert "outermost" in PYTHON.section("Pages of other origins")
    app = Flask("fixed before")

    def fix(inner: Any) -> Any:
        return ProxyFix(inner, x_host=1)

    def other(inner: Any) -> Any:
        return lambda *given: inner(*given)

    for layer in (other, fix) if outermost else (fix, other):
        app.wsgi_app = layer(app.wsgi_app)  # type: ignore[method-assign]
    transport = FallbackTransport(app, async_mode="threading")
    headers = {"Origin": "http://front.example", "X-Forwarded-Host": "front.example"}
    if outermost:
        with TestClient(transport, headers=headers) as client:
            assert client.connected
    else:
        with pytest.raises(ConnectionFailed, match="origin"):
            TestClient(transport, headers=headers)


def test_of_a_cursor_only_the_newest_place_is_kept() -> None:
    app = Flask("cursors")
    transport = FallbackTransport(app, async_mode="threading")
    with TestClient(transport) as client:
        client.cut()
        program = PYTHON.block("python", 'latest="cursor:7"')
        for x in range(3):
            exec(program, {"transport": transport, "x": x, "y": 1})
        client.reconnect()
        assert client.received("cursor") == [{"user": 7, "x": 2, "y": 1}]
