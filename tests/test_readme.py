"""What the README says is so: its examples run, its tables are complete, its names exist."""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import flask
import flask_login
import pytest
import socketio
from flask import Flask, redirect
from playwright.sync_api import sync_playwright
from werkzeug.middleware.proxy_fix import ProxyFix

import fallback_transport
from demo.process import CHROMIUM_FLAGS, DemoProcess
from fallback_transport import FallbackTransport, RequestFailed, Session
from fallback_transport.options import Options
from fallback_transport.protocol.codes import CloseCode
from fallback_transport.runtime import missing
from fallback_transport.testing import ConnectionFailed, TestClient
from tests.client.session import ClientSession
from tests.client.waiting import eventually
from tests.integration.redis_server import redis_server
from tests.integration.served import MODES, START_WAIT, Served, free_port
from tests.integration.test_client_manager import REDIS_OPTIONS
from tests.integration.test_logs import END
from tests.needs import ZOO_NEEDS, find

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PROJECT = (ROOT / "pyproject.toml").read_text()
SCRIPT = ROOT / "static" / "fallback_transport.js"


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def block(language: str, containing: str) -> str:
    [found] = [text for text in blocks(language) if containing in text]
    return found


def section(title: str) -> str:
    """The text under a heading, up to the next one."""
    return re.split(rf"^#+ {title}$", README, flags=re.MULTILINE)[1].split("\n#")[0]


def table(text: str) -> list[list[str]]:
    """The rows of the tables in a text, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    # The line under a head has nothing but dashes.
    rules = [place for place, line in enumerate(lines) if re.fullmatch("[|-]+", line)]
    heads = {place - step for place in rules for step in (0, 1)}
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for place, line in enumerate(lines)
        if place not in heads
    ]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("text", blocks("python"))
def test_the_python_examples_compile(text: str) -> None:
    ast.parse(text)


def test_the_table_of_options_is_the_dataclass() -> None:
    said = {code(row[0])[0]: code(row[1])[0] for row in table(section("Options"))}
    assert said == {field.name: repr(field.default) for field in fields(Options)}
    assert list(said) == [field.name for field in fields(Options)]
    assert all(row[2] for row in table(section("Options"))), "a reason is missing"


def test_the_python_names_exist_and_take_these_arguments() -> None:
    told = set()
    for row in table(section("Python")):
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
                assert _parameters(arguments) == _signature(thing), text
    for owner in (Session, FallbackTransport):
        public = {name for name in vars(owner) if not name.startswith("_")}
        assert public <= {name for each, name in told if each is owner}, f"{owner} is not all told"


def test_the_testing_clients_names_exist_and_take_these_arguments() -> None:
    told = set()
    for row in table(section("Testing your app")):
        for text in code(row[0]):
            name, _, arguments = text.partition("(")
            name = name.partition(".")[2] or "__init__"
            told.add(name)
            thing = getattr(TestClient, name)
            if arguments:
                assert _parameters(arguments) == _signature(thing), text
    assert {name for name in vars(TestClient) if not name.startswith("_")} <= told


def _parameters(text: str) -> list[str]:
    return [part.strip() for part in text.rstrip(")").split(",") if part.strip()]


def _signature(function: Callable[..., Any]) -> list[str]:
    found = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind is parameter.KEYWORD_ONLY and not any(p[0] == "*" for p in found):
            found.append("*")
        if parameter.kind is parameter.VAR_KEYWORD:
            found.append(f"**{parameter.name}")
        elif parameter.kind is parameter.VAR_POSITIONAL:
            found.append(f"*{parameter.name}")
        elif parameter.default is parameter.empty:
            found.append(parameter.name)
        else:
            default = parameter.default
            text = str(int(default)) if isinstance(default, CloseCode) else f"{default!r}"
            found.append(f"{parameter.name}={text}".replace("'", '"'))
    return found


def test_a_group_of_handlers_is_registered() -> None:
    module: dict[str, Any] = {}
    exec(block("python", "Handlers(namespace="), module)
    transport = FallbackTransport(Flask(__name__), async_mode="threading")
    transport.register(module["admin"])
    with TestClient(transport, namespace="/admin", auth={"token": "secret"}) as client:
        assert client.request("move", 1, 2) == 3
        with pytest.raises(RequestFailed, match="100 bytes"):
            client.request("move", "x" * 100, "")
    with TestClient(transport, namespace="/admin") as client:
        assert client.closed == (4401, "admins only")


def test_the_tests_of_your_app_pass(tmp_path: Path) -> None:
    program = block("python", "transport.run(app)")
    serves = 'if __name__ == "__main__":\n    transport.run(app)'
    (tmp_path / "app.py").write_text(program.replace("transport.run(app)", serves))
    example = block("python", "import TestClient")
    (tmp_path / "test_app.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert f"{example.count('def test_')} passed" in done.stdout, done.stdout + done.stderr


def test_every_exported_name_is_told() -> None:
    assert [name for name in fallback_transport.__all__ if f"`{name}" not in README] == []


def evaluate(node: str, expression: str) -> Any:
    """What a JavaScript expression gives; `F` is the library."""
    text = f"const F = require({str(SCRIPT)!r}); console.log(JSON.stringify({expression}))"
    done = subprocess.run([node, "-e", text], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_javascript_names_exist(need: Callable[[str], str]) -> None:
    rows = table(section("JavaScript")) + table(section("As a WebSocket"))
    names = [text for row in rows for text in code(row[0])]
    members = {text.partition("(")[0].partition(".")[2] for text in names if "session." in text}
    assert members
    there = evaluate(
        need("node"),
        "Object.getOwnPropertyNames(F.connect({environment: {Date, Math, setTimeout() {},"
        " clearTimeout() {}, XMLHttpRequest: class {open() {} setRequestHeader() {} send() {}}}}))",
    )
    assert members <= set(there)
    public = {name for name in there if not name.startswith("_")} - {"onerror"}
    assert public <= members, "not all is told"
    library = {
        found[1] for text in names if (found := re.search(r"\bFallbackTransport\.(\w+)", text))
    }
    assert library == set(evaluate(need("node"), "Object.keys(F)")) - {"_core"}


def test_what_takes_several_arguments_is_said_to() -> None:
    declared = (ROOT / "static" / "fallback_transport.d.ts").read_text().split("class Session ")[-1]
    several = set(re.findall(r"^  (\w+)\(.*\.\.\.data", declared, re.MULTILINE))
    told = {
        name
        for row in table(section("JavaScript"))
        for name in re.findall(r"session\.(\w+)\(", row[0])
        if "...data" in row[0] + row[1].partition(";")[0]
    }
    assert several == told == {"on", "off", "emit"}


def test_the_times_of_the_client_are_its_own(need: Callable[[str], str]) -> None:
    _, _, details = README.partition("<details><summary>Times of the client</summary>")
    details = details.partition("</details>")[0]
    told = {code(row[0])[0]: code(row[1])[0] for row in table(details)}
    assert told == evaluate(
        need("node"),
        "Object.fromEntries(Object.entries(F._core.TIMING).map(([k, v]) => [k, String(v)]))",
    )
    assert re.search(rf"within\s+{told['hedge']} ms", README)


def test_the_bounds_of_the_page_are_its_own() -> None:
    source = SCRIPT.read_text()
    assert "var OUTBOX_MESSAGES = 10000;" in source
    assert "var OUTBOX_BYTES = 32000000;" in source
    assert "up to 10,000 messages or 32 MB" in README


def test_installing_without_eventlet_is_installing_the_rest() -> None:
    listed = PROJECT.split("\ndependencies = [")[1].split("]")[0]
    # httptools serves eventlet's hub alone.
    needed = set(re.findall('"((?!eventlet|httptools).+?)"', listed))
    packages, gevent = block("sh", "--no-deps").splitlines()[0].split("#")
    assert set(re.findall('"(.+?)"', packages)) == needed
    assert f"gevent = [{gevent.split()[-1]}]" in PROJECT


def test_what_a_mode_lacks_is_what_the_project_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for mode in ("eventlet", "gevent"):
        monkeypatch.setitem(sys.modules, mode, None)
        [package] = re.findall('pip install (".+?")', missing(mode) or "")
        assert package in PROJECT
    assert missing("threading") is None


def test_the_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#([^)]*))?\)", README):
        path, anchor = ROOT / target[0], target[1]
        assert path.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads]
            assert anchor in anchors, target


def answers(process: subprocess.Popen[bytes], url: str) -> bool:
    """Whether the program that serves `url` does so by now."""
    assert process.poll() is None, "the example ended"
    with contextlib.suppress(OSError):
        urllib.request.urlopen(url, timeout=5).close()
        return True
    return False


@contextlib.contextmanager
def serving(folder: Path, program: str, page: str) -> Iterator[str]:
    """Run a program that serves on port 5000, with a page, elsewhere; give the page's address."""
    port = free_port()
    (folder / "static").mkdir()
    (folder / "static" / "page.html").write_text(page)
    (folder / "app.py").write_text(program.replace(".run(app", f".run(app, port={port}"))
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "app.py"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    url = f"http://127.0.0.1:{port}/page.html"
    try:
        eventually(lambda: answers(process, url), START_WAIT)
        yield url
    finally:
        # Not by SIGTERM: it would wait for a browser that has gone without a word.
        process.kill()
        process.wait(10)


def console(chromium: str, url: str, wanted: set[str]) -> set[str]:
    """What a page says in the console, until it has said all that is wanted."""
    said: set[str] = set()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        page = browser.new_page()
        page.on("console", lambda message: said.add(message.text))
        page.on("pageerror", lambda error: said.add(f"uncaught: {error}"))
        page.goto(url)
        deadline = time.monotonic() + 10
        while not wanted <= said and time.monotonic() < deadline:
            page.wait_for_timeout(50)
        said.add(page.title())
        browser.close()
    return said


@pytest.mark.requires("redis")
def test_another_process_emits() -> None:
    where = "redis://127.0.0.1:6379/0"
    app = Flask("emits")
    app.config["FALLBACK_TRANSPORT_ASYNC_MODE"] = "threading"
    process: dict[str, Any] = {"app": app, "FallbackTransport": FallbackTransport}
    example: dict[str, Any] = {"RedisManager": socketio.RedisManager}
    exec(block("python", "redis_options="), example)
    assert example["manager"].redis_options == REDIS_OPTIONS
    with (
        redis_server(find("redis")) as url,
        Served("threading", module="tests.integration.emitting_app", redis=url) as server,
        ClientSession(server.port).open() as client,
    ):
        program = block("python", "outside.emit").replace(where, url)
        # Until the server has subscribed, nothing is heard.
        eventually(lambda: exec(program, {}) or client.named("chat"))
        assert set(client.named("chat")) == {"hello from outside"}
        exec(block("python", "client_manager=").replace(where, url), process)
        process["transport"].emit("chat", "hello from the app")
        client.wait_for(lambda: client.named("chat")[-1] == "hello from the app")


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["", *MODES])
def test_the_ten_lines_serve_their_page(
    mode: str, tmp_path: Path, need: Callable[[str], str]
) -> None:
    if mode == "gevent":
        need("gevent")
    program = block("python", "transport.run(app)")
    assert len([line for line in program.splitlines() if line]) <= 10
    if mode:
        patch = {
            "eventlet": "import eventlet\neventlet.monkey_patch()\n",
            "gevent": "import gevent.monkey\ngevent.monkey.patch_all()\n",
        }
        changed = block("python", 'async_mode="gevent"').strip()
        changed = changed.replace("gevent", mode)
        program = program.replace("transport = FallbackTransport(app)", changed)
        program = patch.get(mode, "") + program
    with serving(tmp_path, program, block("html", "session.emit")) as url:
        said = console(need("chromium"), url, {"delivered", "WebSocket: works"})
    assert {"delivered", "WebSocket: works", "hello"} <= said


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["eventlet", "threading"])
def test_the_change_for_flask_socketio_is_all_it_takes(
    mode: str, tmp_path: Path, need: Callable[[str], str]
) -> None:
    python, html = (
        "\n".join(line[1:] for line in text.splitlines() if line[:1] != "-")
        for text in blocks("diff")
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
                block("python", "SimpleClient").replace("http://127.0.0.1:5000", demo.url), example
            )
            try:
                page.wait_for(lambda: page.named("said"))
                assert page.named("said")[-1]["text"] == "hello"
                page.close()
                page.wait_closed()
            finally:
                example["sio"].disconnect()


def test_of_a_cursor_only_the_newest_place_is_kept() -> None:
    app = Flask("cursors")
    transport = FallbackTransport(app, async_mode="threading")
    with TestClient(transport) as client:
        client.cut()
        for x in range(3):
            exec(block("python", 'latest="cursor:7"'), {"transport": transport, "x": x, "y": 1})
        client.reconnect()
        assert client.received("cursor") == [{"user": 7, "x": 2, "y": 1}]


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
    exec(block("python", "ProxyFix("), {"app": app, "ProxyFix": ProxyFix})
    with TestClient(transport, headers=headers) as client:
        assert client.connected


def test_the_doctor_is_for_support() -> None:
    app = Flask("guarded")
    app.secret_key = "only for tests"
    app.config["FALLBACK_TRANSPORT_ASYNC_MODE"] = "threading"
    names = {"app": app, "flask": flask, "FallbackTransport": FallbackTransport}
    exec(block("python", "def support()"), names)
    browser = app.test_client()
    for path in ("/fallback/doctor", "/fallback/metrics"):
        assert browser.get(path).location == "/login"
    with browser.session_transaction() as session:
        session["role"] = "support"
    for path in ("/fallback/doctor", "/fallback/metrics"):
        assert browser.get(path).status_code == 200


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
    line = block("js", "new FallbackTransport.WebSocket")
    page = f"""<!doctype html>
<script src="/chat/fallback_transport.js"></script>
<script>{line.replace('"ws://host/', '"ws://" + location.host + "/')}
socket.onopen = function () {{ console.log(socket.protocol); socket.send("hello"); }};
socket.onmessage = function (event) {{ console.log(event.data); }};
</script>"""
    wanted = {"chat.v2", "hello in room 1"}
    with serving(tmp_path, program, page) as url:
        assert wanted <= console(need("chromium"), url, wanted)


@pytest.mark.integration
def test_the_terminals_doctor_is_that_command() -> None:
    command = block("sh", "fallback-transport doctor").partition("#")[0]
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
    exec(block("python", "You have logged out."), {**names, **vars(fallback_transport)})
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


def test_it_says_what_only_the_zoo_runs() -> None:
    [told] = [part for part in section("Contributing").split("\n\n") if "tests/run --zoo" in part]
    assert [name for name in sorted(ZOO_NEEDS) if name not in told.lower()] == []


def test_the_table_of_loggers_is_complete() -> None:
    told = {code(row[0])[0] for row in table(section("Logging"))}
    package = ROOT / "fallback_transport"
    sources = "\n".join(path.read_text() for path in package.rglob("*.py"))
    assert told == set(re.findall(r'getLogger\("([^"]+)"\)', sources))


def test_the_line_of_a_sessions_end_is_one() -> None:
    line = "INFO fallback_transport.session.end: " + section("Logging").split("```")[1].strip()
    assert END.fullmatch(line)
