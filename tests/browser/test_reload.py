"""A page is reloaded, left, duplicated, and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser

from demo.process import CHROMIUM_FLAGS
from tests.browser.tabs import PATIENCE, Tab, View
from tests.integration.served import Served
from tests.needs import find

pytestmark = pytest.mark.requires("chromium")

BOTH = pytest.mark.parametrize("transport", ["websocket", "polling"])


def connected(tab: Tab, transport: str, **options: object) -> View:
    view = tab.connect({"transports": [transport], **options})
    view.until(lambda now: now.state == "open", "open")
    return view


def counted(server: Served, id: str | None, last: int) -> list[int]:
    """The numbers that the handler got, once the last one is among them."""
    assert id is not None
    deadline = time.monotonic() + PATIENCE
    while True:
        numbers = [event[1] for event in server.seen(id) if event[0] == "count"]
        if last in numbers or time.monotonic() > deadline:
            return numbers
        time.sleep(0.02)


@BOTH
def test_a_reload_tells_what_is_unconfirmed(
    transport: str, tab: Callable[..., Tab], server: Served
) -> None:
    """At once, so that the page can keep it; and the server hears that the page was left."""
    page = tab(server.url)
    view = connected(page, transport)
    id = view.status().id
    assert id is not None
    view.do(
        """session => {
          session.onclose = ({ code, unconfirmed }) => {
            sessionStorage.setItem("kept", JSON.stringify([code, unconfirmed]));
          };
          addEventListener("beforeunload", () => session.emit("count", 7));
        }"""
    )
    page.page.reload()
    kept = page.page.evaluate("JSON.parse(sessionStorage.getItem('kept'))")
    assert kept == [1001, [{"event": "count", "data": 7, "values": [7]}]]
    assert counted(server, id, 7) == [7]
    deadline = time.monotonic() + PATIENCE
    while server.seen(id)[-1] != ["disconnect", 1001, "the page was left"]:
        assert time.monotonic() < deadline, server.seen(id)
        time.sleep(0.02)
    assert connected(page, transport).status().id != id


@BOTH
def test_resume_over_reloads_and_links(
    transport: str, tab: Callable[..., Tab], server: Served
) -> None:
    """One session and one connect; every message once and in order, up and down."""
    page = tab(server.url)
    view = connected(page, transport, resume=True)
    id = view.status().id
    assert id is not None
    collect = """session => {
      window.got = [];
      session.on("produced", ([number]) => {
        got.push(number);
        sessionStorage.setItem("got", JSON.stringify([
          ...JSON.parse(sessionStorage.getItem("got") || "[]"), number
        ]));
      });
    }"""
    view.do(collect)
    view.do("session => session.emit('produce', { number: 150, pause: 0.02 })")
    last = 0
    for visit in range(4):
        for _ in range(5):
            last += 1
            view.do("(session, number) => session.emit('count', number)", last)
        # Also what is said in the very last moment.
        last += 1
        view.do(
            """(session, number) => addEventListener("beforeunload", () => {
              session.emit("count", number);
            })""",
            last,
        )
        if visit % 2:
            page.page.reload()
        else:
            page.page.goto(f"{server.url}/page?{visit}")
        index = page.page.evaluate(
            """([transport, collect]) => {
              const index = harness.connect(undefined, { transports: [transport], resume: true });
              eval(collect)(harness.session(index));
              return index;
            }""",
            [transport, collect],
        )
        view = View(page, index)
        status = view.until(lambda now: now.state == "open", "open again")
        assert (status.id, status.count("reset"), status.count("open")) == (id, 0, 1)
    assert counted(server, id, last) == list(range(1, last + 1))
    deadline = time.monotonic() + PATIENCE
    got: list[int] = []
    while len(got) < 150 and time.monotonic() < deadline:
        got = page.page.evaluate("JSON.parse(sessionStorage.getItem('got'))")
        page.page.wait_for_timeout(20)
    assert got == list(range(150))
    assert server.seen(id)[0] == ["connect", None]
    assert [event[0] for event in server.seen(id)].count("connect") == 1
    kept = page.page.evaluate("JSON.stringify(sessionStorage)")
    assert "fallback_transport" not in kept


@pytest.fixture(scope="module")
def caching(browser: Browser) -> Iterator[Browser]:
    """Chromium with its cache of whole pages, which Playwright switches off."""
    launched = browser.browser_type.launch(
        executable_path=find("chromium"),
        args=CHROMIUM_FLAGS,
        ignore_default_args=["--disable-back-forward-cache"],
    )
    yield launched
    launched.close()


@BOTH
@pytest.mark.parametrize("resume", [False, True], ids=["plain", "resume"])
def test_back_from_the_cache_of_pages(
    transport: str, resume: bool, caching: Browser, server: Served
) -> None:
    """Kept by the browser or not: what was sent arrives once, and the page has a session."""
    with caching.new_context() as context:
        page = Tab(context, server.url)
        view = connected(page, transport, resume=resume)
        id = view.status().id
        page.page.evaluate("() => { window.mark = 'the same page'; }")
        view.do("session => addEventListener('beforeunload', () => session.emit('count', 1))")
        # Not by a protocol command: only a page's own navigation is cached.
        page.page.evaluate("() => { location.href = '/page?elsewhere'; }")
        page.page.wait_for_url("**/page?elsewhere")
        # A page from the cache has no load event to wait for.
        page.page.go_back(wait_until="commit")
        page.page.wait_for_function("window.FallbackTransport")
        cached = page.page.evaluate("window.mark === 'the same page'")
        print(f"{transport}, resume {resume}: {'from the cache' if cached else 'loaded again'}")
        if not cached:
            view = connected(page, transport, resume=resume)
        status = view.until(lambda now: now.state == "open", "open")
        if cached or resume:
            assert status.id == id
        assert view.ask("echo", "back") == "back"
        assert counted(server, id, 1) == [1]
        assert page.errors == []
    # What polls has nothing open when it goes: it has to be kept, or this tests something else.
    assert cached or transport == "websocket"


def test_a_duplicate_steals_nothing(
    profile: Callable[..., Callable[[str], Tab]], server: Served
) -> None:
    """Neither by window.open, which copies sessionStorage, nor with a copy of what was left."""
    page = profile()(server.url)
    view = connected(page, "polling", resume=True)
    id = view.status().id
    with page.page.expect_popup() as opened:
        page.page.evaluate("() => { window.open('/page'); }")
    popup = opened.value
    popup.wait_for_function("window.FallbackTransport")
    other = """() => new Promise((done) => {
      const session = FallbackTransport.connect({ transports: ["polling"], resume: true });
      window.resets = [];
      session.onreset = ({ code, unconfirmed }) => resets.push([code, unconfirmed]);
      session.onopen = ({ id, resumed }) => done([id, resumed]);
    })"""
    first = popup.evaluate(other)
    assert first[0] != id
    assert first[1] is False

    # What the page leaves is copied on the way.
    view.do(
        """session => addEventListener("pagehide", () => {
          localStorage.setItem("copied", JSON.stringify(sessionStorage));
        })"""
    )
    page.page.reload()
    again = connected(page, "polling", resume=True)
    assert again.status().id == id
    popup.goto(f"{server.url}/page?2")
    popup.evaluate(
        """() => {
          const copied = JSON.parse(localStorage.getItem("copied"));
          sessionStorage.clear();
          for (const name in copied) { sessionStorage.setItem(name, copied[name]); }
        }"""
    )
    second = popup.evaluate(other)
    assert second[0] not in (id, first[0])
    assert popup.evaluate("resets.map(([code]) => code)") == [4404]
    assert again.ask("echo", "mine") == "mine"
    assert again.status().count("reset") == 0
