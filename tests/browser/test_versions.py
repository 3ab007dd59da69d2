"""A script from before an upgrade, or from after it, on this server: it works, or is told why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Route

from tests.browser.tabs import Tab
from tests.integration.served import Served

pytestmark = pytest.mark.requires("chromium")

PROTOCOL = "var VERSION = 1;"
LIBRARY = 'version: "0.1.0"'

EACH = pytest.mark.parametrize(
    "transports", [["websocket", "polling"], ["websocket"], ["polling"]], ids="+".join
)


@pytest.fixture(scope="module")
def later() -> Iterator[Served]:
    """A server after an upgrade that has changed the protocol."""
    with Served("threading", module="tests.browser.later_application") as served:
        yield served


@pytest.fixture
def another(browser: Browser, server: Served) -> Iterator[Callable[[str, str], Tab]]:
    """Opens a page whose cached script differs from the server's in one line."""
    context = browser.new_context()

    def opened(before: str, after: str) -> Tab:
        def cached(route: Route) -> None:
            text = route.fetch().text()
            assert text.count(before) == 1
            route.fulfill(body=text.replace(before, after), content_type="text/javascript")

        context.route("**/fallback_transport.js*", cached)
        return Tab(context, server.url)

    yield opened
    context.close()


def is_told(tab: Tab, transports: list[str], reason: str) -> None:
    """It opens no session, says why, and leaves it at that."""
    view = tab.connect({"transports": transports})
    status = view.until(lambda status: status.state == "closed", "told")
    assert [(each.type, each.code, each.reason) for each in status.events] == [
        ("error", 4426, reason),
        ("close", 4426, reason),
    ]
    asked = tab.requests()
    assert asked <= 1
    # Longer than the first pause between two tries.
    tab.page.wait_for_timeout(1500)
    assert (tab.requests(), view.status().state) == (asked, "closed")


@EACH
def test_an_old_script_on_a_new_server(
    later: Served, tab: Callable[[str], Tab], transports: list[str]
) -> None:
    is_told(tab(later.url), transports, "protocol version 1 is not spoken here, version 2 is")


@EACH
def test_a_new_script_on_an_old_server(
    another: Callable[[str, str], Tab], transports: list[str]
) -> None:
    tab = another(PROTOCOL, "var VERSION = 2;")
    is_told(tab, transports, "protocol version 2 is not spoken here, version 1 is")


@pytest.mark.parametrize("library", ["0.0.9", "7.0.0"])
def test_a_script_of_another_release_works(
    another: Callable[[str, str], Tab], library: str
) -> None:
    view = another(LIBRARY, f'version: "{library}"').connect()
    view.until(lambda status: status.state == "open", "open")
    answer: Any = view.ask("echo", library)
    assert answer == library
