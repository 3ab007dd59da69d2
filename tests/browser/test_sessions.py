"""A session's life in a page: back to WebSocket, silent, slow, reset, closed, left; and two."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.tabs import PATIENCE, Tab, View
from tests.integration.served import Served
from tests.proxies.fault_process import FaultProxy
from tests.proxies.faults import AcceptSilent, Refuse, Throttle
from tests.proxies.rules import Rule

pytestmark = pytest.mark.requires("chromium")

BOTH = pytest.mark.parametrize("transport", ["websocket", "polling"])
#: Seconds that a busy machine may add to a deadline.
SLACK = 1.0


@pytest.fixture
def own_server() -> Iterator[Served]:
    """A server that a test may end."""
    with Served("eventlet", module="tests.browser.application") as served:
        yield served


@pytest.fixture
def own_proxy(own_server: Served) -> Iterator[FaultProxy]:
    """A network in front of it."""
    with FaultProxy(own_server.port) as started:
        yield started


def opened(tab: Tab, transport: str | None = None, **options: Any) -> View:
    """An open session, on a transport alone or on whichever comes first."""
    if transport is not None:
        options["transports"] = [transport]
    view = tab.connect(options)
    status = view.until(lambda now: now.state == "open", "open")
    assert transport in (None, status.transport)
    return view


def ended(server: Served, id: str | None) -> list[Any]:
    """Wait until on_disconnect has run; what it was told. It runs once."""
    assert id is not None
    deadline = time.monotonic() + PATIENCE
    while True:
        told = [event[1:] for event in server.seen(id) if event[0] == "disconnect"]
        if told:
            assert len(told) == 1
            return told[0]
        assert time.monotonic() < deadline, "on_disconnect has not run"
        time.sleep(0.02)


def test_a_probe_brings_websocket_back(
    tab: Callable[..., Tab], proxy: FaultProxy, server: Served
) -> None:
    proxy.rules(Rule(Refuse(403), on="ws"))
    page = tab(proxy.url)
    view = opened(page, timing={"probe": 400, "probeMax": 800})
    first = view.status()
    assert (first.transport, first.why) == ("polling", "refused")
    view.stream({"number": 10_000, "rate": 50})
    # Probes that fail change nothing.
    proxy.wait_until(lambda now: now.websockets >= 3, PATIENCE)
    assert view.status().transport == "polling"

    proxy.clear()
    status = view.until(lambda now: now.transport == "websocket", "WebSocket again", 0.8 + 2.5)
    assert (status.why, status.id, status.state) == ("works", first.id, "open")
    assert page.verdict() is None
    polls = proxy.statistics().requests_to("/fallback/poll")
    page.page.wait_for_timeout(500)
    assert proxy.statistics().requests_to("/fallback/poll") - polls <= 1
    final, _ = view.finish(server)
    assert [final.count(type) for type in ("open", "reset", "close", "error")] == [1, 0, 0, 0]
    assert first.id is not None
    assert server.seen(first.id) == [["connect", None]]


def test_a_websocket_that_goes_silent(
    tab: Callable[..., Tab], proxy: FaultProxy, server: Served
) -> None:
    """No end comes, nothing comes: after 1 s the page asks, after another it polls beside it."""
    proxy.rules(Rule(AcceptSilent(after=1.0), on="ws"))
    page = tab(proxy.url)
    view = opened(page)
    assert view.status().transport == "websocket"
    page.page.wait_for_timeout(1200)
    asked = view.status().at
    assert view.ask("echo", "are you there") == "are you there"
    status = view.status()
    print(f"answered after {status.at - asked:.2f} s")
    assert status.at - asked <= 2.0 + SLACK
    assert (status.transport, status.why, status.state) == ("polling", "half-open", "open")
    assert status.id is not None
    assert server.seen(status.id) == [["connect", None]]


def test_a_slow_uplink_is_no_dead_one(
    tab: Callable[..., Tab], proxy: FaultProxy, server: Served
) -> None:
    """What is sent waits for seconds behind itself; as long as it moves nobody doubts the path."""
    proxy.rules(Rule(Throttle(rate=500_000, direction="up"), on="ws"))
    view = opened(tab(proxy.url))
    id = view.status().id
    before = view.status().at
    view.do(
        """session => {
          for (let i = 0; i < 25; i++) { session.emit("step", [i, 0, "x".repeat(1e5)]); }
        }"""
    )
    assert view.ask("echo", "behind it") == "behind it"
    status = view.status()
    print(f"2.5 MB in {status.at - before:.1f} s")
    assert status.at - before > 4.0, "that was not slow"
    assert (status.transport, status.count("transport"), status.id) == ("websocket", 1, id)


@BOTH
def test_the_server_is_killed(
    transport: str, tab: Callable[..., Tab], own_proxy: FaultProxy, own_server: Served
) -> None:
    """What it had not confirmed is told; then there is a new session, with the new server."""
    page = tab(own_proxy.url)
    view = opened(page, transport)
    first = view.status()
    view.ask("count", 1)
    view.do(
        """session => {
          session.failed = [];
          session.addEventListener("reset", () => session.emit("count", 4));
        }"""
    )
    own_server.end(signal.SIGKILL)
    view.do(
        """session => {
          session.emit("count", [2, "x"]);
          session.emit("count", new Uint8Array([3]), error => session.failed.push(error.code));
        }"""
    )
    view.until(lambda now: now.state == "reconnecting", "reconnecting")
    own_server.start()
    status = view.until(lambda now: now.count("open") == 2, "a new session", 30.0)
    reset = status.event("reset")
    assert reset is not None
    print(f"{transport}: {reset.code} {reset.reason}")
    assert reset.code == 4404
    assert reset.reason
    assert reset.unconfirmed is not None
    assert [each["event"] for each in reset.unconfirmed[-2:]] == ["count", "count"]
    assert reset.unconfirmed[-2]["data"] == [2, "x"]
    # On polling the first one's confirmation was still to come.
    assert len(reset.unconfirmed) == 2 or transport == "polling"
    assert view.do("session => session.failed") == [4404]
    assert (status.count("reset"), status.count("close")) == (1, 0)
    assert status.id != first.id
    assert (status.state, status.transport) == ("open", transport)
    # Nothing of it was sent again by itself; what onreset sent went to the new session.
    assert view.ask("echo", "new") == "new"
    assert status.id is not None
    assert own_server.get("/seen") == {status.id: [["connect", None], ["count", 4]]}


@BOTH
def test_closed_by_the_server(transport: str, tab: Callable[..., Tab], server: Served) -> None:
    """Both ends know at once: nobody waits for a confirmation that will not come."""
    view = opened(tab(server.url), transport)
    id = view.status().id
    started = time.monotonic()
    view.do("session => session.emit('close', [4321, 'enough'])")
    status = view.until(lambda now: now.event("close"), "closed")
    close = status.event("close")
    assert close is not None
    assert (close.code, close.reason, close.state) == (4321, "enough", "closed")
    assert ended(server, id) == [4321, "enough"]
    # Unconfirmed, it would be after 5 s.
    assert time.monotonic() - started < 3.0


@BOTH
def test_closed_by_the_page(transport: str, tab: Callable[..., Tab], server: Served) -> None:
    view = opened(tab(server.url), transport)
    id = view.status().id
    started = time.monotonic()
    view.do("session => { session.emit('count', 1); session.close(4001, 'bye'); }")
    status = view.until(lambda now: now.event("close"), "closed")
    close = status.event("close")
    assert close is not None
    assert (close.code, close.reason, close.unconfirmed) == (4001, "bye", [])
    assert ended(server, id) == [4001, "bye"]
    assert time.monotonic() - started < 3.0
    assert id is not None
    assert server.seen(id)[1] == ["count", 1]


@BOTH
def test_the_page_is_left(transport: str, tab: Callable[..., Tab], server: Served) -> None:
    """By a link: the server hears of it, and need not wait for the inactivity to run out."""
    page = tab(server.url)
    id = opened(page, transport).status().id
    page.page.goto("about:blank")
    assert ended(server, id) == [1001, "the page was left"]


def test_two_tabs_are_two_sessions(
    profile: Callable[..., Callable[[str], Tab]], server: Served
) -> None:
    """They share the browser's storage, and nothing else."""
    open_tab = profile()
    tabs = [open_tab(server.url) for _ in range(2)]
    views = [opened(each) for each in tabs]
    ids = [view.status().id for view in views]
    assert len(set(ids)) == 2
    for view in views:
        view.stream({"number": 10_000, "rate": 50})
    tabs[0].page.wait_for_timeout(500)
    for view in views:
        view.finish(server)
    tabs[0].page.goto("about:blank")
    assert ended(server, ids[0])[0] == 1001
    assert views[1].ask("echo", "still here") == "still here"
    assert ids[1] is not None
    assert server.seen(ids[1]) == [["connect", None]]


@pytest.mark.parametrize("websocket", [True, False], ids=["websocket", "no WebSocket"])
def test_nothing_on_the_console(websocket: bool, tab: Callable[..., Tab], server: Served) -> None:
    page = tab(server.url, websocket=websocket)
    view = opened(page)
    view.stream({"number": 10_000, "rate": 50})
    page.page.wait_for_timeout(300)
    view.finish(server)
    assert view.ask("ask back", "no listener answers") == {"failed": "no listener for question"}
    view.do("session => session.close()")
    view.until(lambda now: now.event("close"), "closed")
    page.page.wait_for_timeout(300)
    assert page.console == []
    assert page.errors == []


@pytest.mark.parametrize("name", ["default", "named"])
def test_the_module_is_the_same(browser: Browser, server: Served, name: str) -> None:
    clause = "F" if name == "default" else "* as F"
    text = f"""
        import {clause} from "/fallback/fallback_transport.mjs";
        const session = F.connect({{transports: ["polling"]}});
        session.emit("echo", F.version, (error, reply) => {{
          window.told = [String(error), reply];
        }});
    """
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    # It has no script of ours.
    page.goto(server.url + "/login?user=me")
    page.add_script_tag(type="module", content=text)
    page.wait_for_function("window.told")
    assert page.evaluate("window.told") == ["null", page.evaluate("FallbackTransport.version")]
    page.close()
    assert errors == []


def test_the_module_needs_no_global_this(browser: Browser, server: Served) -> None:
    """Edge 16 and Safari 11 have modules, and not this."""
    page = browser.new_page()
    page.goto(server.url + "/login?user=me")
    version = page.evaluate(
        """async () => {
            delete window.globalThis;
            try {
                return (await import("/fallback/fallback_transport.mjs")).version;
            } finally {
                window.globalThis = window;
            }
        }"""
    )
    assert version == page.evaluate("FallbackTransport.version")
    page.close()
