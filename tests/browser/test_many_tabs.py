"""Eight windows of one site, all on long polling, and six connections for them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.tabs import Tab, View
from tests.integration.served import Served

pytestmark = pytest.mark.requires("chromium")

WINDOWS = 8
#: Seconds of messages, two a second in each direction and window.
SECONDS = 6.0
#: Milliseconds for a plain GET of the site; one in twenty may take longer, as a busy machine's do.
GET = 300.0
#: Seconds for a message.
MESSAGE = 5.0

GETS = """async seconds => {
  const times = [];
  const end = performance.now() + 1000 * seconds;
  while (performance.now() < end) {
    const started = performance.now();
    await (await fetch("/page?" + Math.random(), { cache: "no-store" })).text();
    times.push(performance.now() - started);
    await new Promise((done) => setTimeout(done, 100));
  }
  return times;
}"""


def windows(profile: Callable[..., Callable[[str], Tab]], url: str, websocket: bool) -> list[View]:
    """So many windows of one profile, each with an open session."""
    open_tab = profile(websocket=websocket)
    views = []
    for _ in range(WINDOWS):
        tab = open_tab(url)
        assert tab.page.evaluate("document.visibilityState") == "visible"
        views.append(tab.connect())
        views[-1].until(lambda now: now.state == "open", "open", MESSAGE)
    return views


def measure(views: list[View], server: Served, what: str) -> None:
    """Messages both ways in all of them, and the site beside; nothing is lost."""
    for view in views:
        view.stream({"number": 10_000, "rate": 2})
    gets = views[0].tab.page.evaluate(GETS, SECONDS)
    for view in views:
        view.finish(server)
    down = [delay for view in views for _, delay in view.delays()]
    up = [
        delay
        for view in views
        for _, delay in server.get(f"/stream?session={view.status().id}")["delays"]
    ]
    print(
        f"{len(views)} sessions, {what}: a GET of the site took"
        f" {statistics.median(gets):.0f} ms (95 %: {percentile(gets, 95):.0f} ms,"
        f" at most {max(gets):.0f} ms); {len(down)} messages down"
        f" {statistics.median(down):.2f} s (at most {max(down):.2f} s), {len(up)} up"
        f" {statistics.median(up):.2f} s (at most {max(up):.2f} s)"
    )
    assert percentile(gets, 95) <= GET
    assert max(down) <= MESSAGE
    assert max(up) <= MESSAGE


def percentile(values: list[float], percent: int) -> float:
    """A percentile, as one of the values."""
    return sorted(values)[(len(values) * percent - 1) // 100]


def test_eight_windows_on_polling(
    profile: Callable[..., Callable[[str], Tab]], server: Served
) -> None:
    """They take turns: without, the seventh would not even load."""
    views = windows(profile, server.url, websocket=False)
    measure(views, server, "long polling")
    started = time.monotonic()
    views[0].tab.page.context.new_page().goto(f"{server.url}/page")
    took = time.monotonic() - started
    print(f"a ninth page was there in {took:.2f} s")
    assert took <= 2.0
    for view in views:
        status = view.status()
        assert (status.transport, status.count("open")) == ("polling", 1)
        assert status.count("reset") + status.count("close") == 0


def test_eight_windows_on_websocket(
    profile: Callable[..., Callable[[str], Tab]], server: Served
) -> None:
    """Nobody takes turns, and nothing is stored."""
    views = windows(profile, server.url, websocket=True)
    stored: dict[str, Any] = views[0].tab.page.evaluate("({ ...localStorage })")
    assert {view.status().transport for view in views} == {"websocket"}
    assert stored == {}
    views[3].ask("echo", "there")


def test_sessions_of_one_page(tab: Callable[..., Tab], server: Served) -> None:
    """As many as eight windows; no storage event tells them of each other."""
    page = tab(server.url, websocket=False)
    views = []
    for _ in range(WINDOWS):
        views.append(page.connect())
        views[-1].until(lambda now: now.state == "open", "open", MESSAGE)
    echoed = page.page.evaluate(
        """number => Promise.all([...Array(number).keys()].map((index) => new Promise((done) => {
          harness.session(index).emit("echo", index, (error, reply) => done(reply));
        })))""",
        WINDOWS,
    )
    assert echoed == list(range(WINDOWS))
    gets = page.page.evaluate(GETS, 2.0)
    print(f"{WINDOWS} sessions of one page: a GET took at most {max(gets):.0f} ms")
    assert percentile(gets, 95) <= GET
