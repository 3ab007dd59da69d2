"""A page that was written for a plain WebSocket works with another constructor, on any network."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import visitor_fixture
from tests.browser.tabs import PATIENCE
from tests.client.waiting import eventually
from tests.integration.served import Served
from tests.proxies.fault_process import FaultProxy

#: What becomes of WebSockets, and the proxy's state that does it; in the last one there is none
#: in the page.
NETWORKS = {
    "works": "clear",
    "refused": "refuse_upgrade",
    "swallowed": "swallow_upgrade",
    "absent": "clear",
}


visitor = visitor_fixture()


@pytest.fixture(scope="module")
def plain() -> Iterator[Served]:
    """The tutorial's server."""
    with Served(module="tests.browser.chat.plain") as served:
        yield served


@pytest.fixture(scope="module")
def ours() -> Iterator[Served]:
    """The same chat over sessions."""
    with Served(module="tests.browser.chat.application") as served:
        yield served


#: Milliseconds for whatever a page is to show.
SHOWN = PATIENCE * 1000


def lines(page: Page, expected: list[str]) -> None:
    expect(page.locator("#log li")).to_have_text(expected, timeout=SHOWN)


def last(page: Page, expected: str) -> None:
    expect(page.locator("#log li").last).to_have_text(expected, timeout=SHOWN)


def users(page: Page, expected: list[str]) -> None:
    expect(page.locator("#users li")).to_have_text(expected, timeout=SHOWN)


def say(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.press("#text", "Enter")


def converse(browser: Browser, url: str, *, absent: bool = False) -> str:
    """Ann and two Bobs talk; returns the room's name."""
    room = uuid.uuid4().hex
    errors: list[str] = []
    with ExitStack() as stack:

        def note(error: str) -> None:
            # Firefox counts as one that a WebSocket has failed.
            if "ws://" not in error:
                errors.append(error)

        def enter(name: str) -> Page:
            context = browser.new_context()
            stack.callback(context.close)
            if absent:
                context.add_init_script("delete window.WebSocket")
            page = context.new_page()
            page.on("pageerror", lambda error: note(str(error)))
            page.goto(f"{url}/?room={room}&name={name}")
            return page

        ann = enter("Ann")
        lines(ann, ["connected, speaking json", "Ann has joined"])
        bob = enter("Bob")
        lines(bob, ["connected, speaking json", "Bob has joined"])
        users(ann, ["Ann", "Bob"])
        other = enter("Bob")
        expect(other.locator("#you")).to_have_text("Bob2", timeout=SHOWN)
        for page in (ann, bob, other):
            users(page, ["Ann", "Bob", "Bob2"])
        said = ["one", "two \u00e9\u20ac\U0001f600", "<b>three</b>", "x" * 2000]
        for text in said:
            say(ann, text)
        for page, before in ((ann, 4), (bob, 3), (other, 2)):
            expect(page.locator("#log li")).to_have_count(before + len(said), timeout=SHOWN)
            assert page.locator("#log li").all_inner_texts()[before:] == [
                f"Ann: {text}" for text in said
            ]
        say(other, "bye")
        other.click("#leave")
        last(other, "closed with 3001 enough of it")
        last(ann, "Bob2 has left")
        users(bob, ["Ann", "Bob"])
        assert "Bob2: bye" in bob.locator("#log li").all_inner_texts()
        # A page that is closed has left, too.
        bob.close()
        last(ann, "Bob has left")
        users(ann, ["Ann"])
        assert ann.locator("text=something went wrong").count() == 0
        ann.close()
    assert errors == []
    return room


def test_with_a_plain_websocket(visitor: Browser, plain: Served) -> None:
    converse(visitor, plain.url)


@pytest.mark.parametrize("network", NETWORKS)
def test_with_one_word_changed(visitor: Browser, ours: Served, network: str) -> None:
    with FaultProxy(ours.port) as proxy:
        proxy.scenario(NETWORKS[network])
        room = converse(visitor, proxy.url, absent=network == "absent")
        statistics, requests = proxy.statistics(), proxy.requests()
    # Each network was what it is called.
    assert (statistics.websockets_accepted >= 3) == (network == "works")
    assert (statistics.websockets >= 1) == (network != "absent")
    assert (statistics.requests.get("POST /chat/poll", 0) > 3) == (network != "works")
    # What the page connects to is in no door's URL.
    assert {record.target for record in requests if "room=" in record.target} == {
        f"/?room={room}&name={name}" for name in ("Ann", "Bob")
    }
    url = f"/chat?room={room}"
    closures = eventually(lambda: three(ours, url))
    closures.remove([url, "json", 3001, "enough of it"])
    goodbye = [url, "json", 1001, "the page was left"]
    firefox = visitor.browser_type.name == "firefox"
    # Firefox loses what a page says now and then: see PAGES in test_websocket_interface.py.
    assert goodbye in closures, closures
    for closure in closures:
        assert closure == goodbye or (firefox and closure[2] == 4408), closure


def three(served: Served, url: str) -> list[Any] | None:
    found = [each for each in served.get("/closures") if each[0] == url]
    return found if len(found) == 3 else None
