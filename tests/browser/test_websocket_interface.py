"""`FallbackTransport.WebSocket` is what the WebSockets standard says, on both transports."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import visitor_fixture
from tests.browser.interface.application import SCRIPT
from tests.client.waiting import eventually
from tests.integration.served import Served

CASES = re.findall(r'^  "(.+?)": (?:async )?\(', SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def echo() -> Iterator[Served]:
    with Served(module="tests.browser.interface.application") as served:
        yield served


visitor = visitor_fixture(pytest.mark.zoo)


@pytest.fixture(scope="module", params=["websocket", "polling"])
def page(request: pytest.FixtureRequest, visitor: Browser, echo: Served) -> Iterator[Page]:
    """On polling it has no WebSocket. One for all cases: what one left open would slow down the
    next one."""
    context = visitor.new_context()
    if request.param == "polling":
        context.add_init_script("delete window.WebSocket")
    opened = context.new_page()
    opened.goto(echo.url)
    opened.evaluate("transport => { window.transport = transport }", request.param)
    yield opened
    context.close()


def test_the_cases_are_found(page: Page) -> None:
    assert page.evaluate("Object.keys(CASES)") == CASES


@pytest.mark.parametrize("case", CASES)
def test_the_standard(page: Page, case: str) -> None:
    wrong = page.evaluate("name => run(name, window.transport)", case)
    assert not wrong, wrong


def follow_a_link(page: Page) -> None:
    """Go where the page itself goes: behind the call, which would be left without its answer."""
    page.evaluate("() => { setTimeout(() => { location.href = '/?next'; }, 0); }")
    page.wait_for_url("**/?next")


#: How a page is left.
WAYS: dict[str, Callable[[Page], object]] = {
    "another": lambda page: page.goto("about:blank"),
    "link": follow_a_link,
    "reload": lambda page: page.reload(),
    "closed": lambda page: page.close(),
}
#: How many pages are left, until the server hears a goodbye. Firefox ESR 153 takes the beacon of a
#: page that is torn down (`sendBeacon` returns true) and now and then does not send it: of 45 pages
#: without this library, which sent one from each of four listeners, it sent none of one page's. And
#: it stops one of the listeners, wherever it is: that happened to 44.
PAGES = {"chromium": 1, "firefox": 3}


def closures(echo: Served, url: str) -> list[Any]:
    return [each for each in echo.get("/closures") if each[0] == url]


@pytest.mark.parametrize("way", WAYS)
def test_a_page_that_is_left_says_goodbye(page: Page, echo: Served, way: str) -> None:
    transport = page.evaluate("window.transport")
    browser = page.context.browser.browser_type.name
    found: list[Any] = []
    for attempt in range(PAGES[browser]):
        url = f"/mount/echo?left={transport}-{browser}-{way}-{attempt}"
        page.evaluate("() => localStorage.removeItem('heard')")
        with page.context.new_page() as other:
            other.goto(echo.url)
            other.evaluate(
                """async ([url, transport]) => {
                    transports = [transport];
                    window.heard = [];
                    const ws = make(url.replace("/mount", ""));
                    ws.onclose = ws.onerror = (event) => heard.push(event.type);
                    await next(ws, "open");
                    addEventListener("pagehide", () => { localStorage.heard = heard.join(); });
                }""",
                [url, transport],
            )
            WAYS[way](other)
        with suppress(TimeoutError):
            found = eventually(partial(closures, echo, url), 5.0)
            break
    assert found == [[url, 1001, "the page was left"]]
    # It hears nothing of it any more. A page that Firefox tears down may have no storage.
    heard = page.evaluate("localStorage.heard")
    assert heard == "" or (browser == "firefox" and heard is None)
