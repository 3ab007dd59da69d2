"""What MIGRATING.md shows runs: before, after, and in the page."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request
from flask_socketio import SocketIO

from fallback_transport import FallbackTransport, RequestFailed
from fallback_transport.testing import ConnectionFailed, TestClient
from tests.documents import MIGRATING
from tests.example import console, serving


def run(program: str) -> dict[str, Any]:
    ast.parse(program)
    module: dict[str, Any] = {"__name__": "app"}
    exec(program, module)
    return module


def test_a_flask_socketio_app_keeps_its_handlers() -> None:
    app = run(MIGRATING.block("python", "socketio.run"))["app"]
    with TestClient(app) as client, TestClient(app, over="polling") as other:
        assert client.request("say", "hello") == "delivered"
        said = {"who": client.id, "text": "hello"}
        assert client.received("said") == other.received("said") == [said]
        client.cut()
        client.emit("upload", "photo", b"123")
        client.reconnect()
        assert client.received("stored") == [("photo", 3)]


def test_handlers_of_one_client_run_in_order_and_a_call_without_a_listener_fails_at_once() -> None:
    app = Flask(__name__)
    socketio = SocketIO(app, async_mode="threading")
    FallbackTransport(app, server=socketio)
    seen: list[Any] = []

    @socketio.on("ask")
    def ask() -> None:
        seen.append(socketio.call("question", to=request.sid))

    @socketio.on("wait")
    def wait() -> None:
        socketio.sleep(100)
        seen.append("waited")

    socketio.on("stop")(lambda: seen.append("stopped"))
    socketio.on("disconnect")(lambda reason: seen.append(reason))
    with TestClient(app) as client:
        client.emit("ask")
        assert isinstance(seen.pop(), RequestFailed)
        client.emit("wait")
        client.emit("stop")
        client.close()
        client.advance(99)
        assert seen == []
        client.advance(1)
        assert seen == ["waited", "stopped", "client disconnect"]


def test_without_its_two_lines_it_is_flask_socketios() -> None:
    program = MIGRATING.block("python", "socketio.run")
    lines = [line for line in program.splitlines() if "# new" not in line]
    assert len(lines) == len(program.splitlines()) - 2
    module = run("\n".join(lines))
    client = module["socketio"].test_client(module["app"])
    assert client.emit("say", "hello", callback=True) == "delivered"
    assert [event["name"] for event in client.get_received()] == ["said"]


def test_the_mode_that_flask_socketio_chooses_is_eventlet() -> None:
    assert "eventlet is installed now" in MIGRATING.text
    assert SocketIO(Flask(__name__)).async_mode == "eventlet"


def test_sessions_have_origins_of_their_own() -> None:
    elsewhere = {"Origin": "https://elsewhere.example"}
    app = Flask(__name__)
    socketio = SocketIO(app, async_mode="threading", cors_allowed_origins="*")
    FallbackTransport(app, server=socketio)
    with pytest.raises(ConnectionFailed, match="origin"):
        TestClient(app, headers=elsewhere)
    app = Flask(__name__)
    socketio = SocketIO(app, async_mode="threading")
    FallbackTransport(app, server=socketio, origins=elsewhere["Origin"])
    with TestClient(app, headers=elsewhere) as client:
        assert client.connected


def test_flask_sock_before_and_after_do_the_same() -> None:
    before = run(MIGRATING.block("python", "flask_sock "))

    class Socket:
        """What the route is given."""

        def __init__(self) -> None:
            self.texts = ["2", "3"]
            self.sent: list[str] = []

        def receive(self) -> str:
            if not self.texts:
                raise EOFError
            return self.texts.pop(0)

        def send(self, text: str) -> None:
            self.sent.append(text)

    socket = Socket()
    [route] = [view for name, view in before["app"].view_functions.items() if "count" in name]
    with pytest.raises(EOFError):
        # Without the handshake that Flask-Sock does first.
        inspect.unwrap(route)(socket)
    with TestClient(run(MIGRATING.block("python", 'path="/count"'))["app"]) as client:
        client.send("2")
        client.cut()
        client.send("3")
        client.reconnect()
        assert client.received("message") == socket.sent == ["2", "5"]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("python", "html", "wanted"),
    [
        pytest.param(
            "socketio.run",
            "socket.emit",
            {"open", "said hello", "delivered", "stored photo 3"},
            id="flask-socketio",
        ),
        pytest.param('path="/count"', "ws.send", {"total 2", "total 5"}, id="flask-sock"),
    ],
)
def test_its_page_works(
    python: str, html: str, wanted: set[str], tmp_path: Path, need: Callable[[str], str]
) -> None:
    with serving(tmp_path, MIGRATING.block("python", python), MIGRATING.block("html", html)) as url:
        said = console(need("chromium"), url, wanted)
    assert wanted <= said
    assert not [line for line in said if line.startswith("uncaught")]
