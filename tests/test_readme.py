"""What the README says is so: its examples run, and its figures are the code's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask
import pytest
from flask import Flask

from demo.process import DemoProcess
from fallback_transport import FallbackTransport
from tests.client.session import ClientSession
from tests.documents import DEPLOYING, README, ROOT
from tests.example import console, serving
from tests.integration.served import MODES, Served
from tests.needs import ZOO_NEEDS


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["", *MODES])
def test_the_ten_lines_serve_their_page(
    mode: str, tmp_path: Path, need: Callable[[str], str]
) -> None:
    if mode == "gevent":
        need("gevent")
    program = README.block("python", "transport.run(app)")
    assert len([line for line in program.splitlines() if line]) <= 10
    if mode:
        patch = {
            "eventlet": "import eventlet\neventlet.monkey_patch()\n",
            "gevent": "import gevent.monkey\ngevent.monkey.patch_all()\n",
        }
        changed = DEPLOYING.block("python", 'async_mode="gevent"').strip()
        changed = changed.replace("gevent", mode)
        program = program.replace("transport = FallbackTransport(app)", changed)
        program = patch.get(mode, "") + program
    with serving(tmp_path, program, README.block("html", "session.emit")) as url:
        said = console(need("chromium"), url, {"delivered", "WebSocket: works"})
    assert {"delivered", "WebSocket: works", "hello"} <= said


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["eventlet", "threading"])
def test_the_change_for_flask_socketio_is_all_it_takes(
    mode: str, tmp_path: Path, need: Callable[[str], str]
) -> None:
    python, html = (
        "\n".join(line[1:] for line in text.splitlines() if line[:1] != "-")
        for text in README.blocks("diff")
    )
    program = f"""
from flask import Flask
from flask_socketio import SocketIO, emit
app = Flask(__name__, static_url_path="")
{python.replace("SocketIO(app)", f"SocketIO(app, async_mode={mode!r})")}
@socketio.on("chat")
def chat(text):
    emit("chat", text, broadcast=True)
    return "delivered"
socketio.run(app{", allow_unsafe_werkzeug=True" if mode == "threading" else ""})
"""
    script, connect = html.split("\n\n")
    page = f"""<!doctype html>
{script}
<script>{connect}
socket.on("chat", function (text) {{ document.title = text; }});
socket.emit("chat", "hello", function (error, reply) {{ console.log(error || reply); }});
socket.onopen = function () {{ console.log("open"); }};
socket.ontransport = function (event) {{ console.log(String(event.why)); }};
</script>"""
    with serving(tmp_path, program, page) as url:
        said = console(need("chromium"), url, {"delivered", "open", "WebSocket: works"})
    assert {"delivered", "open", "WebSocket: works", "hello"} <= said


@pytest.mark.integration
def test_a_stock_client_joins_the_demo() -> None:
    example: dict[str, Any] = {}
    with DemoProcess() as demo:
        port = int(demo.url.rstrip("/").rpartition(":")[2])
        with ClientSession(port).open() as page:
            exec(
                README.block("python", "SimpleClient").replace("http://127.0.0.1:5000", demo.url),
                example,
            )
            try:
                page.wait_for(lambda: page.named("said"))
                assert page.named("said")[-1]["text"] == "hello"
                page.close()
                page.wait_closed()
            finally:
                example["sio"].disconnect()


@pytest.mark.integration
def test_the_handlers_and_the_page_that_it_shows_talk(
    tmp_path: Path, need: Callable[[str], str]
) -> None:
    program = f"""
import flask
from fallback_transport import FallbackTransport
app = flask.Flask(__name__, static_url_path="")
app.secret_key = "only for tests"
transport = FallbackTransport(app)
{README.block("python", "def gone(")}
transport.run(app)
"""
    page = f"""<!doctype html>
<script src="/fallback/fallback_transport.js"></script>
<script>
function show(text) {{ console.log(text); }}
{README.block("js", "session.emit")}
session.on("announced", function (text) {{
  show("announced " + text);
  session.close(4000, "enough");
}});
session.on("said", function () {{
  var form = new FormData();
  form.append("text", "dinner");
  fetch("/announce", {{method: "POST", body: form}});
}});
</script>"""
    wanted = {
        *("open", "somebody: hello", "delivered", "WebSocket: works"),
        *("announced dinner", "over: 4000 enough"),
    }
    with serving(tmp_path, program, page) as url:
        said = console(need("chromium"), url, wanted)
    assert wanted <= said
    assert not [line for line in said if line.startswith("uncaught")]


@pytest.mark.integration
def test_the_websocket_is_opened_by_its_line(tmp_path: Path, need: Callable[[str], str]) -> None:
    program = """
from flask import Flask, request
from fallback_transport import FallbackTransport
app = Flask(__name__, static_url_path="")
transport = FallbackTransport(app, path="/chat", subprotocols=["chat.v2"])
@transport.on_message
def echo(client, text):
    client.send(f"{text} in room {request.args['room']}")
transport.run(app)
"""
    line = README.block("js", "new FallbackTransport.WebSocket")
    page = f"""<!doctype html>
<script src="/chat/fallback_transport.js"></script>
<script>{line.replace('"ws://host/', '"ws://" + location.host + "/')}
socket.onopen = function () {{ console.log(socket.protocol); socket.send("hello"); }};
socket.onmessage = function (event) {{ console.log(event.data); }};
</script>"""
    wanted = {"chat.v2", "hello in room 1"}
    with serving(tmp_path, program, page) as url:
        assert wanted <= console(need("chromium"), url, wanted)


def test_the_doctor_is_for_support() -> None:
    app = Flask("guarded")
    app.secret_key = "only for tests"
    app.config["FALLBACK_TRANSPORT_ASYNC_MODE"] = "threading"
    names = {"app": app, "flask": flask, "FallbackTransport": FallbackTransport}
    exec(README.block("python", "def support()"), names)
    browser = app.test_client()
    for path in ("/fallback/doctor", "/fallback/metrics"):
        assert browser.get(path).location == "/login"
    with browser.session_transaction() as session:
        session["role"] = "support"
    for path in ("/fallback/doctor", "/fallback/metrics"):
        assert browser.get(path).status_code == 200


@pytest.mark.integration
def test_the_terminals_doctor_is_that_command() -> None:
    command = README.block("sh", "fallback-transport doctor").partition("#")[0]
    with Served() as server:
        [name, *arguments] = command.replace("https://host", server.url).split()
        done = subprocess.run(
            [Path(sys.executable).with_name(name), *arguments, "--idle", "0.3"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "WebSocket works: " in done.stdout


def test_the_bounds_of_the_page_are_its_own() -> None:
    source = (ROOT / "static" / "fallback_transport.js").read_text()
    assert "var OUTBOX_MESSAGES = 10000;" in source
    assert "var OUTBOX_BYTES = 32000000;" in source
    assert "up to 10,000 messages or 32 MB" in README.text


def test_it_says_what_only_the_zoo_runs() -> None:
    parts = README.section("Contributing").split("\n\n")
    [told] = [part for part in parts if "tests/run --zoo" in part]
    assert [name for name in sorted(ZOO_NEEDS) if name not in told.lower()] == []
