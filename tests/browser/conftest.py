"""One browser and one server for these tests; a proxy and a profile for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from demo.process import CHROMIUM_FLAGS
from tests.browser.tabs import Tab
from tests.engines.playwright_engines import launch_firefox
from tests.inside import show
from tests.integration.served import Served
from tests.needs import find
from tests.proxies.fault_process import FaultProxy
from tests.proxies.zoo import addresses


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    """Not for the whole session: Playwright keeps an event loop running in this thread, and other
    folders' tests may want one of their own."""
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """Chromium."""
    launched = playwright.chromium.launch(executable_path=find("chromium"), args=CHROMIUM_FLAGS)
    yield launched
    launched.close()


def visitor_fixture(*firefox: pytest.MarkDecorator) -> Any:
    """A fixture: one of two browsers.

    Args:
        firefox: marks of the second one's tests.
    """

    @pytest.fixture(
        scope="module",
        params=[
            pytest.param("chromium", marks=pytest.mark.requires("chromium")),
            pytest.param("firefox", marks=[pytest.mark.requires("firefox"), *firefox]),
        ],
    )
    def visitor(request: pytest.FixtureRequest, playwright: Playwright) -> Iterator[Browser]:
        if request.param == "chromium":
            yield request.getfixturevalue("browser")
            return
        launched = launch_firefox(playwright)
        yield launched
        launched.close()

    return visitor


@pytest.fixture(scope="package")
def server() -> Iterator[Served]:
    """The server, on eventlet; tests only ask it about their own sessions."""
    host = addresses.server_address()
    with Served("eventlet", module="tests.browser.application", host=host) as served:
        yield served


@pytest.fixture
def proxy(server: Served) -> Iterator[FaultProxy]:
    """A network between browser and server, with no faults yet."""
    with FaultProxy(server.port) as started:
        yield started


@pytest.fixture
def profile(browser: Browser) -> Iterator[Callable[..., Callable[[str], Tab]]]:
    """Makes new profiles of the browser, which remember nothing; a profile makes tabs.

    With `inside`, its pages show what tests look at. What else it is given are Playwright's options
    of a profile.

    After the test no tab may have had an uncaught error; what else a tab has to tell is printed.
    """
    tabs: list[Tab] = []
    with ExitStack() as stack:

        def made(
            *, websocket: bool = True, inside: bool = False, **options: Any
        ) -> Callable[[str], Tab]:
            context = browser.new_context(**options)
            stack.callback(context.close)
            if inside:
                show(context)
            if not websocket:
                context.add_init_script("delete window.WebSocket")

            def opened(url: str) -> Tab:
                tab = Tab(context, url)
                tabs.append(tab)
                return tab

            return opened

        yield made
        for tab in tabs:
            print(tab.report())
    errors = [error for tab in tabs for error in tab.errors]
    assert not errors


@pytest.fixture
def tab(profile: Callable[..., Callable[[str], Tab]]) -> Callable[..., Tab]:
    """Opens a page in a profile of its own."""

    def opened(url: str, **options: Any) -> Tab:
        return profile(**options)(url)

    return opened
