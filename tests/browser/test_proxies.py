"""Chromium behind real proxies: the right transport, in time, and no message lost or late.

All pages run at once, each behind its own proxy: what takes time is the silence between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.tabs import Status, Tab, View
from tests.browser.test_negotiation import OPEN_WITHIN, SLACK
from tests.integration.served import Served
from tests.proxies.zoo import ZOO, Hop

pytestmark = pytest.mark.requires("chromium")

#: Messages each way before the silence, and behind it; so many a second.
MESSAGES, BEHIND, RATE = 300, 100, 100
#: Seconds of it: three of the time-outs of 5 s that some of these proxies have.
SILENCE = 15.0
#: Seconds for any message behind it, and for one with its reply: no time-out may be waited for.
DELAY = 1.0

#: The reason that the page gives for its first transport.
WHY = {
    "direct": "works",
    "nginx-no-upgrade": "refused",
    "nginx-timeout-5s": "works",
    "haproxy-server-5s": "works",
    "haproxy-tunnel-5s": "works",
    "squid-default": "refused",
}
EACH = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.requires(*ZOO[name].needs)) for name in WHY]
)


@dataclass
class Visit:
    """A page behind a proxy, and what was found out."""

    view: View
    first: Status
    replied: float = 0.0
    slowest: float = 0.0
    last: Status | None = None
    failure: Exception | None = None


def context_options(hop: Hop) -> dict[str, Any]:
    """What Playwright is to give a profile of the browser, to go by this hop."""
    options: dict[str, Any] = {"ignore_https_errors": hop.insecure}
    if hop.proxy is not None:
        # Else it asks no proxy for loopback addresses.
        options["proxy"] = {"server": hop.proxy, "bypass": "<-loopback>"}
        if hop.credentials is not None:
            user, password = hop.credentials
            options["proxy"].update(username=user, password=password)
    return options


@pytest.fixture(scope="module")
def visits(request: pytest.FixtureRequest, browser: Browser, server: Served) -> Iterator[Any]:
    """What was found out behind each proxy whose test was chosen."""
    chosen = {
        item.callspec.params["name"]
        for item in request.session.items
        if item.path == request.path and "visits" in getattr(item, "fixturenames", ())
    }
    found: dict[str, Visit | Exception] = {}
    with ExitStack() as stack:
        for name in [name for name in WHY if name in chosen]:
            try:
                hop = stack.enter_context(ZOO[name].start(server.port))
                context = browser.new_context(**context_options(hop))
                stack.callback(context.close)
                view = Tab(context, hop.url).connect()
                first = view.until(lambda now: now.event("open"), "open")
                found[name] = Visit(view, first)
            except Exception as error:  # of this proxy, which its own test is to tell
                found[name] = error
        pages = [visit for visit in found.values() if isinstance(visit, Visit)]
        converse(pages, server, MESSAGES)
        for visit in pages[:1]:
            visit.view.tab.page.wait_for_timeout(SILENCE * 1000)
        for visit in pages:
            try:
                before = visit.view.status().at
                visit.view.ask("echo", "behind the silence")
                visit.replied = visit.view.status().at - before
            except Exception as error:
                visit.failure = visit.failure or error
        converse(pages, server, BEHIND)
        yield found


def converse(visits: list[Visit], server: Served, number: int) -> None:
    """Exchange numbered messages with all pages; each is checked at both ends."""
    for visit in visits:
        visit.view.stream({"number": number, "rate": RATE})
    for visit in visits:
        try:
            visit.view.until(
                lambda now: now.stream and now.stream["received"] == now.stream["sent"] == number,
                "all messages",
            )
            visit.last, served = visit.view.finish(server)
            assert served["received"] == number
            up = server.get(f"/stream?session={visit.last.id}")["delays"]
            visit.slowest = max(delay for _, delay in [*up, *visit.view.delays()])
        except Exception as error:  # of this page, which its own test is to tell
            visit.failure = visit.failure or error


@EACH
def test_a_page_behind_it(
    name: str, visits: Mapping[str, Visit | Exception], server: Served
) -> None:
    visit = visits[name]
    if isinstance(visit, Exception):
        raise visit
    opened = visit.first.event("open")
    assert opened is not None
    print(
        f"{name}: open after {opened.at:.3f} s by {opened.transport}; a reply behind "
        f"{SILENCE:.0f} s of silence after {visit.replied:.3f} s, the slowest message "
        f"after {visit.slowest:.3f} s"
    )
    assert opened.at <= OPEN_WITHIN, visit.first.events
    expected = "websocket" if ZOO[name].websocket else "polling"
    assert (visit.first.transport, visit.first.why) == (expected, WHY[name])
    if visit.failure is not None:
        raise visit.failure
    assert max(visit.replied, visit.slowest) <= DELAY + SLACK
    assert visit.last is not None
    counts = {type: visit.last.count(type) for type in ("open", "reset", "close", "error")}
    assert counts == {"open": 1, "reset": 0, "close": 0, "error": 0}
    assert visit.last.id is not None
    assert server.seen(visit.last.id) == [["connect", None]]
    assert visit.view.tab.errors == []
