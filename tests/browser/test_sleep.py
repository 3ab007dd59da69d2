"""Pages and servers that stop for a while: asked again at once, and not doubted for nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.hidden import HiddenTab
from tests.browser.tabs import PATIENCE, Tab
from tests.integration.served import Served
from tests.proxies.fault_process import FaultProxy
from tests.proxies.journal import busiest

pytestmark = pytest.mark.requires("chromium")

#: Seconds.
SLEEP = 8.0
#: The contract: a message crosses so many seconds after waking.
AWAKE = 2.0
#: What a busy machine may add to a deadline.
SLACK = 1.0
#: Requests of all kinds, from both sides of the sleep, that are no storm: for each transport its
#: messages' own, the one that was held, and a resume.
REQUESTS = 14

TRANSPORTS = ("websocket", "polling")

LISTEN = """session => {
  session.got = 0;
  session.on("produced", () => { session.got += 1; });
}"""


class Sleepers:
    """A session on each transport, in pages of their own, and a proxy that counts."""

    def __init__(self, tabs: dict[str, Tab], proxy: FaultProxy, server: Served) -> None:
        self._proxy, self._server = proxy, server
        self.views = {name: tab.connect() for name, tab in tabs.items()}
        for name, view in self.views.items():
            view.until(lambda now, name=name: now.transport == name, f"open on {name}")
            view.do(LISTEN)
        self._asked = 0
        self._expected = 0

    @property
    def pages(self) -> list[Any]:
        """The pages they are in."""
        return [view.tab.page for view in self.views.values()]

    def rest(self, seconds: float) -> None:
        """Let time pass, while Playwright hears of what happens."""
        self.pages[0].wait_for_timeout(seconds * 1000)

    def produce(self, number: int, pause: float) -> None:
        """The server sends so many messages."""
        self._expected += number
        for view in self.views.values():
            view.do(
                "(session, plan) => { session.emit('produce', plan); }",
                {"number": number, "pause": pause},
            )

    def wake(self, what: str, slept_from: float, *, unchanged: bool = True) -> None:
        """After waking a message crosses soon; all that was sent while asleep has come, once."""
        woke = time.monotonic()
        self._asked += 1
        for view in self.views.values():
            view.do("(session, n) => { session.emit('count', n); }", self._asked)
        took = {}
        for name, view in self.views.items():
            id = view.status().id
            assert id is not None
            while ["count", self._asked] not in self._server.seen(id):
                assert time.monotonic() - woke < 15, f"{what}: {name} does not wake"
                self.rest(0.02)
            took[name] = time.monotonic() - woke
        for view in self.views.values():
            deadline = time.monotonic() + PATIENCE
            while view.do("session => session.got") < self._expected:
                assert time.monotonic() < deadline, "not all that was sent has come"
                self.rest(0.02)
        self.rest(1.0)
        requests = [
            each for each in self._proxy.requests(slept_from) if "/fallback/" in each.target
        ]
        crowd = busiest(requests)
        print(
            f"{what}: "
            + ", ".join(f"{name} after {taken:.2f} s" for name, taken in took.items())
            + f"; {len(requests)} requests, at most {crowd} in a second; "
            + ", ".join(str(view.status().text) for view in self.views.values())
        )
        for name, view in self.views.items():
            status = view.status()
            assert took[name] <= AWAKE + SLACK, name
            assert [status.count(type) for type in ("open", "reset", "close")] == [1, 0, 0], name
            assert view.do("session => session.got") == self._expected, name
            assert status.transport == name or not unchanged, name
            assert status.id is not None
            seen = [event[1] for event in self._server.seen(status.id) if event[0] == "count"]
            assert seen == list(range(1, self._asked + 1)), name
        assert len(requests) <= REQUESTS, [(each.target, each.at) for each in requests]


@pytest.fixture
def sleepers(tab: Callable[..., Tab], proxy: FaultProxy, server: Served) -> Sleepers:
    """Both, open."""
    tabs = {name: tab(proxy.url, websocket=name == "websocket") for name in TRANSPORTS}
    return Sleepers(tabs, proxy, server)


def processes() -> Iterator[tuple[int, int]]:
    """Every process: its id, and its parent's."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            yield int(entry.parent.name), int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile


def browser_processes() -> list[int]:
    """The browser's processes: what Chromium started, below what Playwright started for us."""
    known = list(processes())
    mine = {os.getpid()}
    while more := {pid for pid, parent in known if parent in mine} - mine:
        mine |= more
    return [
        pid for pid in mine if b"chrom" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    ]


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """These processes do not run."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_page_is_frozen(browser: Browser, proxy: FaultProxy, server: Served) -> None:
    """As browsers do it with pages that were hidden for long."""
    with ExitStack() as stack:
        tabs = {
            name: HiddenTab(browser, proxy.url, websocket=name == "websocket")
            for name in TRANSPORTS
        }
        for tab in tabs.values():
            stack.callback(tab.hidden.close)
        sleepers = Sleepers(dict(tabs), proxy, server)
        started = time.monotonic()
        sleepers.produce(8, 1.0)
        for tab in tabs.values():
            tab.page.evaluate("() => { window.ticks = 0; setInterval(() => { ticks += 1; }, 50); }")
            tab.hidden.send("Page.setWebLifecycleState", state="frozen")
        time.sleep(SLEEP)
        for tab in tabs.values():
            tab.hidden.send("Page.setWebLifecycleState", state="active")
        sleepers.wake("frozen", started)
        for tab in tabs.values():
            # 20 a second, if it was not frozen.
            assert tab.page.evaluate("() => ticks") < 20 * SLEEP


def test_a_slow_processor(sleepers: Sleepers) -> None:
    """A twentieth of the speed: what is late is not dead."""
    started = time.monotonic()
    drivers = [page.context.new_cdp_session(page) for page in sleepers.pages]
    for driver in drivers:
        driver.send("Emulation.setCPUThrottlingRate", {"rate": 20})
    sleepers.produce(4, 0.7)
    sleepers.rest(2.5)
    for driver in drivers:
        driver.send("Emulation.setCPUThrottlingRate", {"rate": 1})
    sleepers.wake("slow", started)


def test_the_browser_stops(sleepers: Sleepers) -> None:
    started = time.monotonic()
    sleepers.produce(8, 1.0)
    pids = browser_processes()
    assert pids
    with stopped(pids):
        time.sleep(SLEEP)
    sleepers.wake("browser stopped", started)


def test_the_doctor_examines_again(browser: Browser, proxy: FaultProxy) -> None:
    """What the page saw before and after says nothing of the network."""
    with closing(browser.new_context()) as context:
        page = context.new_page()
        page.goto(f"{proxy.url}/fallback/doctor?idle=2")
        page.wait_for_selector("#websocket .check[data-state=good] >> nth=3")
        with stopped(browser_processes()):
            proxy.kill()
            time.sleep(SLEEP)
        page.wait_for_selector("text=This page had slept meanwhile: it examines once more.")
        page.wait_for_selector("body[data-state=finished]")
        assert page.inner_text("#verdict").startswith("WebSocket works: ")
        assert page.inner_text("#took").endswith(": no problems, no notes.")


def test_the_server_stops(sleepers: Sleepers, server: Served) -> None:
    """It is no fault of a WebSocket; but nobody can know, and what is half open looks like it."""
    started = time.monotonic()
    sleepers.produce(3, 1.0)
    sleepers.rest(1.5)
    with stopped([server.pid]):
        for view in sleepers.views.values():
            view.do("session => { session.emit('nothing', 1); }")
        sleepers.rest(SLEEP)
    sleepers.wake("server stopped", started, unchanged=False)


def test_offline_and_online(sleepers: Sleepers) -> None:
    started = time.monotonic()
    contexts = [page.context for page in sleepers.pages]
    for context in contexts:
        context.set_offline(True)
    sleepers.produce(3, 0.1)
    sleepers.rest(3.0)
    for context in contexts:
        context.set_offline(False)
    sleepers.wake("offline", started)
