"""`FallbackTransport.WebSocket` is what the WebSockets standard says, on both transports."""

from __future__ import annotations

import re
from collections.abc import Iterator

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


def test_a_page_that_is_left_says_goodbye(page: Page, echo: Served) -> None:
    transport = page.evaluate("window.transport")
    url = f"/mount/echo?left={transport}-{page.context.browser.browser_type.name}"
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
        other.goto("about:blank")
    found = eventually(lambda: [each for each in echo.get("/closures") if each[0] == url])
    assert found == [[url, 1001, "the page was left"]]
    # It hears nothing of it any more.
    assert page.evaluate("localStorage.heard") == ""
