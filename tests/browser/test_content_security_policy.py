"""A page with a strict Content-Security-Policy works: nothing inline, nothing evaluated."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask
import pytest
from playwright.sync_api import sync_playwright
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

from fallback_transport import FallbackTransport
from tests.engines import ENGINES
from tests.engines.audit import audit
from tests.engines.playwright_engines import launch_chromium
from tests.integration.served import Served

#: What counts as the page's own includes its WebSockets, by today's standard.
POLICY = "default-src 'self'; report-uri /violation"
#: Messages each way: all sizes of both kinds.
NUMBER = 40


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with Served("eventlet", module="tests.engines.application", policy=POLICY) as served:
        yield served


def visit(engine: str, url: str) -> None:
    """In a thread of its own: another test's Playwright may have an event loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(ENGINES[engine].run, url).result()


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(name, marks=pytest.mark.requires(*ENGINES[name].needs))
        for name in (
            *("chromium", "chromium-without-websocket"),
            *("firefox", "firefox-without-websocket"),
        )
    ],
)
def test_nothing_is_violated(engine: str, server: Served) -> None:
    before = server.get("/violations")
    visit(engine, f"{server.url}/run/{engine}/?number={NUMBER}")
    outcome = audit(server.get(f"/record?run={engine}"), NUMBER)
    assert outcome.exact, outcome
    assert outcome.transport == ("websocket" if ENGINES[engine].websocket else "polling")
    assert server.get("/violations") == before


@pytest.mark.requires("chromium")
def test_a_violation_is_seen(server: Served) -> None:
    """The other test can fail: a page with a script in it is told of."""
    before = server.get("/violations")
    visit("chromium", f"{server.url}/run/inline/?number=1&inline=1")
    assert len(server.get("/violations")) > len(before)


# -- {{ fallback_transport() }} -----------------------------------------------------------

PAGE = """<!doctype html>
{{ tag }}
<script nonce="{{ g.csp_nonce }}">
  var said = [];
  try {
    ["websocket", "polling"].forEach(function (transport) {
      var session = FallbackTransport.connect({transports: [transport]});
      session.emit("echo", transport, function (error, reply) {
        said.push(reply);
        if (said.length === 2) { document.title = said.sort().join(" "); }
      });
    });
  } catch (error) { document.title = String(error); }
</script>"""


@pytest.fixture(scope="module")
def mounted() -> Iterator[str]:
    """The URL of an app under a prefix, whose pages have JAVASCRIPT.md's policy, with a nonce."""
    app = flask.Flask("mounted")
    transport = FallbackTransport(app, async_mode="threading", wait=1.0, origins="null")
    transport.on_message("echo")(lambda client, data: data)

    @app.get("/<what>")
    def answer(what: str) -> Any:
        flask.g.csp_nonce = secrets.token_urlsafe(16)
        tag = flask.render_template_string("{{ fallback_transport() }}")
        if what == "nonce":
            tag = tag.replace(flask.g.csp_nonce, "another")
        elif what == "file":
            tag = re.sub('"sha384-.{8}', '"sha384-' + 8 * "A", tag)
        page = flask.render_template_string(PAGE.replace("{{ tag }}", tag))
        response = flask.make_response(page)
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; script-src 'nonce-{flask.g.csp_nonce}'; connect-src 'self'"
            f"{'; sandbox allow-scripts' if what == 'sandbox' else ''}"
        )
        return response

    elsewhere = flask.Flask("elsewhere")
    server = make_server(
        "127.0.0.1", 0, DispatcherMiddleware(elsewhere, {"/app": app.wsgi_app}), threaded=True
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/app"
    transport.drain(0)
    server.shutdown()
    thread.join()


def titles(*urls: str) -> list[str]:
    """What the pages call themselves once they know."""
    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        found = []
        for url in urls:
            page = browser.new_page()
            page.goto(url)
            # Not wait_for_function, which evaluates text.
            for _ in range(200):
                if page.title():
                    break
                page.wait_for_timeout(50)
            found.append(page.title())
            page.close()
        browser.close()
    return found


@pytest.mark.requires("chromium")
def test_the_templates_tag_passes_with_its_nonce_and_hash_under_a_prefix(mounted: str) -> None:
    urls = [f"{mounted}/{what}" for what in ("page", "nonce", "file")]
    with ThreadPoolExecutor(1) as pool:
        works, *blocked = pool.submit(titles, *urls).result()
    assert works == "polling websocket"
    # Another nonce than the policy's, another file than the hash's.
    assert blocked == ["ReferenceError: FallbackTransport is not defined"] * 2


@pytest.mark.requires("chromium")
def test_the_templates_tag_works_in_a_sandbox_which_is_of_no_origin(mounted: str) -> None:
    """To such a page every file is another origin's: who checks its hash has to ask by CORS."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(titles, f"{mounted}/sandbox").result() == ["polling websocket"]
