"""Pages of one origin, sessions of another: over both transports, with cookies and without.

Two ports of one host are two origins, and for cookies one site; `localhost` is another site.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from tests.engines.playwright_engines import launch_chromium, launch_firefox
from tests.integration.login_app import TOKEN
from tests.integration.served import Served

#: What a page does: it connects, asks who it is, and tells what came of it.
VISIT = """([url, options]) => new Promise((tell) => {
  const session = FallbackTransport.connect(url, {remember: false, ...options});
  session.onclose = (event) => tell([event.code, event.reason]);
  session.emit("who", 1, (error, who) => { if (!error) { tell([session.transport, who]); } });
})"""


class Pages(ThreadingHTTPServer):
    """An origin with an empty page, which has the browser's half from elsewhere."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.script = ""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def origin(self, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_port}"


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Pages)
        body = (
            f"<!doctype html><link rel=icon href=data:,><script src={self.server.script}></script>"
        )
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def pages() -> Iterator[list[Pages]]:
    """That which may connect, and another."""
    both = [Pages(), Pages()]
    yield both
    for each in both:
        each.shutdown()
        each.server_close()


@pytest.fixture(scope="module")
def server(pages: list[Pages]) -> Iterator[Served]:
    origins = [pages[0].origin(), pages[0].origin("localhost")]
    with Served("eventlet", module="tests.integration.login_app", origins=origins) as served:
        for each in pages:
            each.script = f"{served.url}/fallback/fallback_transport.js"
        yield served


def outcomes(
    launch: Callable[..., Any], server: Served, visits: dict[str, tuple[str, dict[str, Any]]]
) -> dict[str, Any]:
    """What came of each visit, to a page with options, of a user who has logged in."""
    found = {}
    with sync_playwright() as playwright:
        browser = launch(playwright)
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{server.url}/login?user=visitor")
        for name, (origin, options) in visits.items():
            page.goto(origin)
            found[name] = page.evaluate(VISIT, [f"{server.url}/fallback", options])
        browser.close()
    return found


@pytest.mark.parametrize(
    "launch",
    [
        pytest.param(launch_chromium, marks=pytest.mark.requires("chromium"), id="chromium"),
        pytest.param(
            launch_firefox, marks=[pytest.mark.requires("firefox"), pytest.mark.zoo], id="firefox"
        ),
    ],
)
def test_between_two_origins(
    launch: Callable[..., Any], server: Served, pages: list[Pages]
) -> None:
    friend, foreign_site, stranger = (
        pages[0].origin(),
        pages[0].origin("localhost"),
        pages[1].origin(),
    )
    token = {"auth": {"token": TOKEN, "user": "bearer"}}
    visits: dict[str, tuple[str, dict[str, Any]]] = {}
    for transport in ("websocket", "polling"):
        only = {"transports": [transport]}
        visits |= {
            f"{transport}, with cookies": (friend, {**only, "withCredentials": True}),
            f"{transport}, without": (friend, only),
            f"{transport}, a token": (friend, {**only, **token}),
            f"{transport}, another site": (foreign_site, {**only, **token}),
        }
    visits["not allowed"] = stranger, {}
    visits["not allowed, polling"] = stranger, {"transports": ["polling"]}
    with ThreadPoolExecutor(1) as pool:
        # Another test's Playwright may have an event loop in this thread.
        told = pool.submit(outcomes, launch, server, visits).result()
    assert told == {
        "websocket, with cookies": ["websocket", "visitor"],
        # Browsers send them all the same: that is what the origin is checked for.
        "websocket, without": ["websocket", "visitor"],
        "websocket, a token": ["websocket", "bearer"],
        "websocket, another site": ["websocket", "bearer"],
        "polling, with cookies": ["polling", "visitor"],
        "polling, without": [4001, "log in first"],
        "polling, a token": ["polling", "bearer"],
        "polling, another site": ["polling", "bearer"],
        "not allowed": [4403, "this origin is not allowed"],
        "not allowed, polling": [4403, "this origin is not allowed"],
    }
    assert "OPTIONS" not in server.log(), "a preflight"
