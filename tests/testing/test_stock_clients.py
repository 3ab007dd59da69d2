"""Our sessions beside test clients of Flask-SocketIO, which take the place of two methods."""

from __future__ import annotations

import itertools
from typing import Any

import flask
import flask_socketio
import pytest

from fallback_transport import FallbackTransport
from fallback_transport.testing import TestClient


class Both:
    """One application, and a client of each kind."""

    def __init__(self, first: str, over: str) -> None:
        self.app = flask.Flask(__name__)
        self.server = flask_socketio.SocketIO(self.app, async_mode="threading")
        self.transport = FallbackTransport(self.app, server=self.server)
        self.server.on("connect")(self.connected)
        self.server.on("say")(self.say)
        self.server.on("leave")(flask_socketio.disconnect)
        if first == "ours":
            self.ours = self.client(over)
        self.stock = self.server.test_client(self.app)
        if first == "stock":
            self.ours = self.client(over)

    def client(self, over: str = "websocket", **auth: str) -> TestClient:
        return TestClient(self.transport, over=over, auth=auth)

    def connected(self, auth: Any) -> None:
        if auth == {"who": "nobody"}:
            raise flask_socketio.ConnectionRefusedError("not you")

    def say(self, text: Any) -> Any:
        flask_socketio.emit("said", (text, b"\x01"), broadcast=True)
        return text


@pytest.fixture(params=itertools.product(["stock", "ours"], ["websocket", "polling"]))
def both(request: pytest.FixtureRequest) -> Both:
    return Both(*request.param)


@pytest.mark.parametrize("data", ["text", b"\x02\x03"])
def test_each_gets_what_is_its_own(both: Both, data: str | bytes) -> None:
    ours, stock = both.ours, both.stock
    assert ours.request("say", data) == data
    assert stock.emit("say", data, callback=True) == data
    assert ours.received("said") == [(data, b"\x01")] * 2
    assert [each["args"] for each in stock.get_received()] == [[data, b"\x01"]] * 2


@pytest.mark.parametrize("question", [1, b"\x04"])
def test_a_client_of_ours_is_asked(both: Both, question: Any) -> None:
    answers: list[Any] = []
    both.ours.on("question", lambda data: data)
    both.server.emit("question", question, to=both.ours.id, callback=answers.append)
    assert both.ours.received("question") == [question]
    assert answers == [question]


def test_a_client_of_ours_hears_that_it_is_not_welcome(both: Both) -> None:
    assert both.client(who="nobody").closed == (4401, "not you")
    assert both.ours.connected


def test_a_client_of_ours_is_disconnected(both: Both) -> None:
    both.ours.emit("leave")
    other = both.client()
    both.server.test_client(both.app)
    both.server.server.disconnect(other.id)
    assert both.ours.closed == other.closed == (1000, "disconnected by the server")
    assert both.stock.is_connected()
    both.stock.emit("leave")
    assert not both.stock.is_connected()


def test_the_servers_kind_may_be_derived_from_again(both: Both) -> None:
    """As by what traces each server."""
    server = both.server.server
    server.__class__ = type("Traced", (type(server),), {})
    ours = both.client()
    assert ours.request("say", "text") == "text"
    assert both.stock.emit("say", "text", callback=True) == "text"
    assert [cls.__name__ for cls in type(server).__mro__[:3]] == ["Traced", "Server", "Server"]
