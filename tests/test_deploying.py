"""What DEPLOYING.md says is so; nginx's file and the launches have tests of their own."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
import socketio
from flask import Flask, redirect, request

from fallback_transport import FallbackTransport
from fallback_transport.metrics import Metrics
from fallback_transport.runtime import missing
from tests.client.session import ClientSession
from tests.client.waiting import eventually
from tests.documents import DEPLOYING, ROOT, code, table
from tests.integration.redis_server import redis_server
from tests.integration.served import Served
from tests.integration.test_client_manager import REDIS_OPTIONS
from tests.integration.test_logs import END
from tests.needs import find

PROJECT = (ROOT / "pyproject.toml").read_text()


def test_installing_without_eventlet_is_installing_the_rest() -> None:
    listed = PROJECT.split("\ndependencies = [")[1].split("]")[0]
    # httptools serves eventlet's hub alone.
    needed = set(re.findall('"((?!eventlet|httptools).+?)"', listed))
    packages, gevent = DEPLOYING.block("sh", "--no-deps").splitlines()[0].split("#")
    assert set(re.findall('"(.+?)"', packages)) == needed
    assert f"gevent = [{gevent.split()[-1]}]" in PROJECT


def test_what_a_mode_lacks_is_what_the_project_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for mode in ("eventlet", "gevent"):
        monkeypatch.setitem(sys.modules, mode, None)
        [package] = re.findall('pip install (".+?")', missing(mode) or "")
        assert package in PROJECT
    assert missing("threading") is None
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(RuntimeError, match=r'pip install ".+"$') as raised:
        Metrics(dict)
    assert str(raised.value).split(" install ")[1] in PROJECT


def test_the_redis_that_is_asked_for_is_the_one_that_is_tested() -> None:
    [package] = re.findall('"(redis.*?)"', PROJECT)
    assert f'pip install "{package}"' in DEPLOYING.section("Emitting from another process")


def test_what_a_page_and_the_log_say_is_what_the_table_has() -> None:
    sources = (*ROOT.glob("fallback_transport/*.py"), ROOT / "static" / "fallback_transport.js")
    said = re.sub(r'["\s]+', " ", "".join(path.read_text() for path in sources))
    texts = [
        text
        for row in table(DEPLOYING.section("When it does not work"))
        for text in code(row[0])
        if "FallbackTransport is" not in text
    ]
    assert len(texts) > 8
    for text in texts:
        # In parts there: "no connection" + ": status " + status + " from " + its URL.
        parts = re.split(r": status \d+ from …|(?<=^long polling: )", text)
        assert all(part.strip() in said for part in parts), text
    assert ': status " + status + " from "' in sources[-1].read_text()


def test_what_an_application_answers_where_no_session_is_served_is_in_the_table() -> None:
    def status(*, catch_all: bool = False, refusal: Any = None) -> int:
        app = Flask("elsewhere")
        if catch_all:
            app.add_url_rule("/<path:path>", "page", lambda path: "a page")
        app.before_request(lambda: refusal if request.method == "POST" else None)
        app.add_url_rule("/login", "login", lambda: "log in", methods=["GET"])
        FallbackTransport(app, path="/sessions")
        client = app.test_client()
        return client.post("/fallback/poll", data="[]", follow_redirects=True).status_code

    missing, page, refused = (
        row[0] + row[1]
        for row in table(DEPLOYING.section("When it does not work"))
        if re.search(r"status (404|200|403)", row[0])
    )
    assert str(status()) in missing
    assert str(status(catch_all=True)) in missing
    assert str(status(refusal=redirect("/login", 303))) in page
    assert str(status(refusal=("log in first", 401))) in refused
    assert "`before_request`" in page
    assert "`before_request`" in refused


@pytest.mark.requires("redis")
def test_another_process_emits() -> None:
    where = "redis://127.0.0.1:6379/0"
    app = Flask("emits")
    app.config["FALLBACK_TRANSPORT_ASYNC_MODE"] = "threading"
    process: dict[str, Any] = {"app": app, "FallbackTransport": FallbackTransport}
    example: dict[str, Any] = {"RedisManager": socketio.RedisManager}
    exec(DEPLOYING.block("python", "redis_options="), example)
    assert example["manager"].redis_options == REDIS_OPTIONS
    with (
        redis_server(find("redis")) as url,
        Served("threading", module="tests.integration.emitting_app", redis=url) as server,
        ClientSession(server.port).open() as client,
    ):
        program = DEPLOYING.block("python", "outside.emit").replace(where, url)
        # Until the server has subscribed, nothing is heard.
        eventually(lambda: exec(program, {}) or client.named("chat"))
        assert set(client.named("chat")) == {"hello from outside"}
        patch, _, program = DEPLOYING.block("python", "client_manager=").partition("\n\n")
        assert patch.startswith("import eventlet\neventlet.monkey_patch()")
        exec(program.replace(where, url), process)
        process["transport"].emit("chat", "hello from the app")
        client.wait_for(lambda: client.named("chat")[-1] == "hello from the app")
        # Else the garbage collector finds it open, at whatever time.
        process["transport"].server.manager.redis.close()


def test_the_table_of_loggers_is_complete() -> None:
    told = {code(row[0])[0] for row in table(DEPLOYING.section("Logging"))}
    package = ROOT / "fallback_transport"
    sources = "\n".join(path.read_text() for path in package.rglob("*.py"))
    assert told == set(re.findall(r'getLogger\("([^"]+)"\)', sources))


def test_the_line_of_a_sessions_end_is_one() -> None:
    line = DEPLOYING.section("Logging").split("```")[1].strip()
    assert END.fullmatch(f"INFO fallback_transport.session.end: {line}")
