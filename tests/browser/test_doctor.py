"""The doctor's page in a real Chromium, behind networks that break WebSocket in different ways."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from PIL import Image
from playwright.sync_api import (
    APIResponse,
    Browser,
    BrowserContext,
    Page,
    Route,
    sync_playwright,
)

from fallback_transport import FallbackTransport
from tests.engines.playwright_engines import launch_firefox
from tests.integration.served import Served
from tests.needs import TESTS
from tests.proxies.fault_process import FaultProxy
from tests.proxies.faults import (
    AcceptClose,
    AcceptSilent,
    Blackhole,
    CutIdle,
    Duplicate,
    Gateway,
    Latency,
    Refuse,
    Strip,
)
from tests.proxies.rules import Rule

pytestmark = pytest.mark.requires("chromium")

#: Seconds for an examination: 5 for a WebSocket that is not answered, some for the rest.
PATIENCE = 30.0
#: Seconds for which connections are left alone, by the page's address.
IDLE = 1
DESKTOP: dict[str, Any] = {"viewport": {"width": 1100, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
AXE = TESTS / "node_modules" / "axe-core" / "axe.min.js"
#: What the doctor asks by HTTP, once it is loaded.
POLLS = r"/doctor/poll$"


#: The clipboard, for the tests, also where the page is to find none.
KEPT = "window.kept = navigator.clipboard;"
NO_CLIPBOARD = "delete Navigator.prototype.clipboard;"
NO_COMMAND = "document.execCommand = () => false;"


@dataclass(frozen=True)
class Network:
    """A network, and what the doctor is to find in it.

    Args:
        codes: the findings, in their order.
        transport: the verdict.
        script: what is done to the browser.
        options: of its profile.
    """

    name: str
    rules: tuple[Rule, ...]
    codes: tuple[str, ...]
    transport: str = "polling"
    script: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def handshakes(self) -> int:
        """How many the page makes: one that fails is tried again."""
        return 3 if self.codes[0] in ("ws-refused", "ws-stripped") else 1

    @property
    def broken(self) -> bool:
        """Whether it does something to each request, and not to the handshake alone."""
        return any("http" in rule.fault.acts_on and rule.on != "ws" for rule in self.rules)


NETWORKS = [
    Network("sound", (), ("ws-ok", "poll-ok"), "websocket", options=DESKTOP),
    Network("no WebSocket", (), ("ws-absent", "poll-ok"), script="delete window.WebSocket"),
    Network(
        "refused", (Rule(Refuse(403), on="ws"),), ("ws-refused", "poll-ok"), script=NO_CLIPBOARD
    ),
    Network(
        "stripped", (Rule(Strip()),), ("ws-stripped", "poll-ok"), script=NO_CLIPBOARD + NO_COMMAND
    ),
    Network("unanswered", (Rule(Blackhole(), on="ws"),), ("ws-unanswered", "poll-ok")),
    Network(
        "silent",
        (Rule(AcceptSilent()),),
        ("ws-silent", "poll-ok"),
        options={**PHONE, "color_scheme": "dark"},
    ),
    Network("closed", (Rule(AcceptClose()),), ("ws-closed", "poll-ok")),
    Network(
        "cut and repeated",
        # By silence, not by age: how long the proofs before it take, the machine says.
        (Rule(CutIdle(after=IDLE / 2), on="ws"), Rule(Duplicate(), method="POST", path=POLLS)),
        ("ws-ok", "ws-cut-idle", "poll-ok", "repeated"),
        "websocket",
    ),
    Network(
        "polling blocked", (Rule(Gateway(502), path=POLLS),), ("ws-ok", "poll-blocked"), "websocket"
    ),
]


class Visit:
    """A page with the doctor in it.

    Args:
        url: the server, as the page is to see it.
    """

    def __init__(self, context: BrowserContext, url: str, query: str = f"?idle={IDLE}") -> None:
        self.complaints: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._said)
        self.page.goto(f"{url}/fallback/doctor{query}")

    def finished(self) -> Visit:
        """Wait until the examination is over."""
        self.page.wait_for_selector("body[data-state=finished]", timeout=PATIENCE * 1000)
        return self

    def text(self, selector: str) -> str:
        """What is to be read there."""
        return self.page.inner_text(selector)

    def report(self) -> dict[str, Any]:
        """The JSON that is copied."""
        report: dict[str, Any] = json.loads(self.copied("#copy-json"))
        return report

    def copied(self, button: str) -> str:
        """What a button copies, or at least selects, for the user to copy it."""
        self.page.bring_to_front()
        self.page.evaluate("kept.writeText('')")
        self.page.click(button)
        self.page.wait_for_selector("#copied:not(:empty)")
        if "press Ctrl+C" in self.text("#copied"):
            assert self.page.evaluate("kept.readText()") == ""
            return str(self.page.evaluate("getSelection().toString()"))
        assert self.text("#copied").startswith("The report is copied")
        return str(self.page.evaluate("kept.readText()"))

    def words(self) -> dict[str, str]:
        """The word beside each check."""
        rows = self.page.query_selector_all(".check")
        pairs = [(row.query_selector(".title"), row.query_selector(".word")) for row in rows]
        return {title.inner_text(): word.inner_text() for title, word in pairs if title and word}

    def axe(self) -> list[str]:
        """What axe-core finds serious or worse."""
        self.page.evaluate(f"{AXE.read_text()}; undefined")
        found = self.page.evaluate("axe.run().then(result => result.violations)")
        return [
            f"{each['id']}: {each['help']}: {[node['html'] for node in each['nodes']]}"
            for each in found
            if each["impact"] in ("serious", "critical")
        ]

    def width(self) -> int:
        """Of the whole page, in pixels."""
        wide: int = self.page.evaluate("document.documentElement.scrollWidth")
        return wide

    def _said(self, message: Any) -> None:
        # Chromium tells of every request that fails, and that is what is made to happen here.
        if message.type in ("error", "warning") and not re.match(
            "Failed to load resource: |WebSocket connection to '", message.text
        ):
            self.complaints.append(message.text)


@pytest.fixture(scope="module")
def visits(browser: Browser, server: Served) -> Iterator[dict[str, Visit]]:
    """A page in each network, all at the same time: mostly they wait."""
    with ExitStack() as stack:
        shared = stack.enter_context(FaultProxy(server.port))
        opened = {}
        for network in NETWORKS:
            # What happens to a handshake stays so, whatever happens to the next one.
            own = FaultProxy(server.port, network.rules)
            proxy = stack.enter_context(own) if network.broken else shared
            proxy.rules(*network.rules)
            context = browser.new_context(**network.options)
            stack.callback(context.close)
            context.grant_permissions(["clipboard-read", "clipboard-write"], origin=proxy.url)
            context.add_init_script(KEPT + network.script)
            before = proxy.statistics().websockets
            opened[network.name] = Visit(context, proxy.url)
            if "WebSocket" not in network.script:
                end = before + network.handshakes
                proxy.wait_until(lambda now, end=end: now.websockets >= end)
        yield opened


@pytest.fixture
def visit(browser: Browser, server: Served) -> Iterator[Callable[..., Visit]]:
    """Opens a page on a sound network."""
    with ExitStack() as stack:

        def opened(query: str, *, script: str = "", **options: Any) -> Visit:
            context = browser.new_context(**options)
            stack.callback(context.close)
            context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.url)
            context.add_init_script(KEPT + script)
            return Visit(context, server.url, query)

        yield opened


@pytest.mark.requires("npm")
@pytest.mark.parametrize(
    "options", [DESKTOP, {**PHONE, "color_scheme": "dark"}], ids=["desktop", "phone"]
)
def test_accessible_while_it_runs(options: dict[str, Any], visit: Callable[..., Visit]) -> None:
    running = visit("?idle=60", **options)
    running.page.wait_for_selector(".check[data-state=good]")
    assert running.axe() == []
    assert running.text("#verdict") == "Examining the connection \u2026"
    bar = running.page.get_by_role("progressbar")
    assert re.fullmatch(
        r"\d+ of 15 checks done, about \d+ s left", bar.get_attribute("aria-valuetext") or ""
    )
    assert "Running" in running.words().values()
    assert running.width() == options["viewport"]["width"]


def test_the_time_that_is_left_on_a_slow_path(browser: Browser, server: Served) -> None:
    slow = FaultProxy(server.port, [Rule(Latency(0.3))])
    with slow as proxy, closing(browser.new_context()) as context:
        page = Visit(context, proxy.url).page
        page.wait_for_selector(".check[data-state=good] >> text=Headers and cookies")
        said = re.search(r"about (\d+) s left", page.inner_text("#progress-text"))
        assert said is not None
        # 7 more echoes, a stream, 2 serials, 8 of different sizes, and `seen`: 0.6 s each.
        assert int(said[1]) >= 11
        bars = [0.0]
        while page.get_attribute("body", "data-state") == "running":
            bars.append(page.evaluate("document.getElementById('bar').value"))
            page.wait_for_timeout(100)
        assert bars == sorted(bars)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_high_contrast_leaves_the_bar(scheme: str, visit: Callable[..., Visit]) -> None:
    page = visit("?idle=60", forced_colors="active", color_scheme=scheme).page
    while page.evaluate("document.getElementById('bar').value") < 0.05:
        page.wait_for_timeout(100)
    bar = page.locator("#bar").bounding_box()
    assert bar is not None
    picture = Image.open(io.BytesIO(page.screenshot(clip=bar))).convert("RGB")
    middle = picture.height // 2
    # What is done, what is to do, and what is around.
    ends = (picture.getpixel((4, middle)), picture.getpixel((picture.width - 8, middle)))
    assert len({*ends, (255,) * 3 if scheme == "light" else (0,) * 3}) == 3, ends


@pytest.mark.parametrize("switched_off", [True, False])
def test_nothing_is_said_to_be_examined_where_the_script_does_not_run(
    switched_off: bool, browser: Browser, server: Served
) -> None:
    with closing(browser.new_context(java_script_enabled=not switched_off)) as context:
        # Or it does not come.
        context.route("**/doctor/doctor.js", lambda route: route.abort())
        page = context.new_page()
        page.goto(f"{server.url}/fallback/doctor")
        assert page.inner_text("#verdict") == "Not examined yet"
        assert ("This page needs JavaScript." in page.inner_text("main")) == switched_off
        assert not page.get_by_role("progressbar").is_visible()
        assert not page.get_by_role("button").is_visible()


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_findings(network: Network, visits: dict[str, Visit]) -> None:
    visit = visits[network.name].finished()
    text, report = visit.copied("#copy-text"), visit.report()
    assert tuple(each["code"] for each in report["findings"]) == network.codes, report
    assert report["verdict"]["transport"] == network.transport
    assert report["verdict"]["text"] == visit.text("#verdict") == text.partition("\n")[0]
    assert all(f"[{code}]" in text for code in network.codes)
    assert report.keys() == {
        *("doctor", "library", "url", "at", "agent", "verdict", "findings", "observations")
    }
    assert visit.complaints == []


@pytest.mark.requires("npm")
@pytest.mark.parametrize("name", ["sound", "silent"])
def test_accessible_when_done(name: str, visits: dict[str, Visit]) -> None:
    """On a wide page in light colours, and on a telephone in dark ones."""
    visit = visits[name].finished()
    for fold in visit.page.query_selector_all("summary"):
        fold.click()
    assert visit.axe() == []
    assert visit.width() == (visit.page.viewport_size or {})["width"]


def test_a_stream_that_the_server_refuses_says_nothing_of_the_network(
    browser: Browser, server: Served
) -> None:
    def answer(route: Route) -> None:
        if '"do":"stream"' in (route.request.post_data or ""):
            # It began with status 200, as every stream.
            route.fulfill(status=200, body='{"error": "too many wait"}\n.')
        else:
            route.continue_()

    with closing(browser.new_context()) as context:
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.url)
        context.add_init_script(KEPT)
        context.route("**/doctor/poll", answer)
        visit = Visit(context, server.url).finished()
        assert visit.words()["Answers in pieces"] == "Not tested"
        assert "poll-buffered" not in [each["code"] for each in visit.report()["findings"]]


def test_behind_a_cache_that_goes_by_the_address_alone_polling_does_not_work(
    browser: Browser, server: Served
) -> None:
    """Each request but the first is answered as that one was."""
    first: list[APIResponse] = []

    def cached(route: Route) -> None:
        first[:] = first or [route.fetch()]
        route.fulfill(response=first[0])

    with closing(browser.new_context()) as context:
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.url)
        context.add_init_script(KEPT)
        context.route("**/doctor/poll", cached)
        visit = Visit(context, server.url).finished()
        codes = [each["code"] for each in visit.report()["findings"]]
        assert codes == ["ws-ok", "poll-blocked"]
        assert "the answer to another request came, as from a cache" in visit.text("#verdict")
        assert visit.complaints == []


def test_of_a_server_that_cannot_be_reached_nothing_is_in_order(
    browser: Browser, server: Served
) -> None:
    with closing(browser.new_context()) as context:
        # The page has come, with all that it needs.
        context.add_init_script("WebSocket = class { constructor() { throw new Error(); } }")
        for door in ("poll", "ws*"):
            context.route(f"**/doctor/{door}", lambda route: route.abort())
        visit = Visit(context, server.url).finished()
        assert visit.text("#verdict") == "The server cannot be reached: no answer."
        assert {name for name, word in visit.words().items() if word == "Problem"} == {
            "Handshake",
            "Round trip",
        }
        assert [name for name, word in visit.words().items() if word == "OK"] == [
            "Support in this browser"
        ]
        assert "unreachable" in visit.text("#polling")


def test_what_is_found_is_said_in_words_on_a_very_slow_path(
    browser: Browser, server: Served
) -> None:
    # Each answer takes longer than a check waits for it.
    slow = FaultProxy(server.port, [Rule(Latency(2.6))])
    with slow as proxy, closing(browser.new_context()) as context:
        visit = Visit(context, proxy.url)
        visit.page.wait_for_selector("body[data-state=finished]", timeout=2 * PATIENCE * 1000)
        assert visit.text("#verdict") == "The server cannot be reached: no answer."


def test_a_server_that_goes_away_meanwhile_is_the_verdict(browser: Browser, server: Served) -> None:
    with FaultProxy(server.port) as proxy, closing(browser.new_context()) as context:
        visit = Visit(context, proxy.url, "?idle=3")
        visit.page.wait_for_selector("#polling .check[data-state=good]")
        proxy.stop()
        visit.finished()
        assert visit.text("#verdict") == (
            "The server was reached at first, but no more at the end: no answer. "
            "What failed before may be due to that: examine again."
        )
        assert visit.page.get_attribute("body", "data-transport") == "none"
        assert visit.words()["Repeated requests"] == "Problem"
        assert "went-away" in visit.text("#network")


def test_each_check_says_what_it_saw(visits: dict[str, Visit]) -> None:
    words = visits["silent"].finished().words()
    assert len(words) == 15
    assert {name for name, word in words.items() if word == "Problem"} == {
        "Messages to the server",
        "Messages from the server",
    }
    assert [name for name, word in words.items() if word == "Not tested"] == ["Idle WebSocket"]
    assert "ws-silent" in visits["silent"].text("#websocket")
    for row in visits["sound"].finished().page.query_selector_all(".check"):
        assert re.search(r"\nOK\n[\d.]+ m?s$", row.inner_text()), row.inner_text()
    blocked = visits["polling blocked"].finished()
    assert "poll-blocked" in blocked.text("#polling")
    assert blocked.words()["Round trip"] == "Problem"
    cut = visits["cut and repeated"].finished().words()
    assert [name for name, word in cut.items() if word == "Note"] == [
        "Idle WebSocket",
        "Repeated requests",
    ]


def test_by_keyboard(visits: dict[str, Visit]) -> None:
    """Everything that can be pressed is reached, in the order in which it is read."""
    page = visits["unanswered"].finished().page
    page.bring_to_front()
    page.focus("#copy-text")
    reached = []
    for _ in range(5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert reached == ["copy-json", "idle", "again", "SUMMARY", "SUMMARY"]
    page.keyboard.press("Enter")
    assert page.is_visible("#polling-address")
    for _ in range(5):
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#copied:not(:empty)")
    assert page.evaluate("document.activeElement.id") == "copy-text"


def test_runs_again_with_another_time_of_silence(visit: Callable[..., Visit]) -> None:
    doctor = visit(f"?idle={IDLE}", script="delete window.WebSocket").finished()
    assert doctor.report()["observations"]["polling"]["hold"]["asked"] == IDLE
    doctor.page.evaluate("document.getElementById('idle').options[1].value = '2'")
    doctor.page.select_option("#idle", "2")
    doctor.page.focus("#again")
    doctor.page.keyboard.press("Enter")
    doctor.page.wait_for_selector("body[data-state=running]")
    assert not doctor.page.is_visible("#copy-text")
    doctor.page.wait_for_selector("#polling .check[data-state=good]")
    # And once more, while it is under way: of the first one nothing is heard again.
    doctor.page.keyboard.press("Enter")
    polling = doctor.finished().report()["observations"]["polling"]
    # begin, 8 echoes, a stream, 2 serials, seen.
    assert (polling["hold"]["asked"], polling["requests"]) == (2, 13)
    # As long as it was observed: on a busy machine a little longer.
    seconds = math.floor(polling["hold"]["seconds"] * 10 + 0.5) / 10
    assert 2 <= seconds < 2.5
    assert f"s): Held for {seconds:g} s, then answered." in doctor.copied("#copy-text")


def test_a_link_may_say_how_long(visit: Callable[..., Visit]) -> None:
    for query, seconds in (("?idle=7", "7"), ("?x=1&idle=999", "300")):
        assert visit(query).page.input_value("#idle") == seconds


@pytest.mark.parametrize("name", ["", "/doctor.js", "/doctor.css", "/findings.json"])
def test_it_can_be_switched_off(name: str) -> None:
    for doctor, status in ((True, 200), (False, 404)):
        app = Flask(__name__)
        FallbackTransport(app, doctor=doctor)
        assert app.test_client().get(f"/fallback/doctor{name}").status_code == status


@pytest.mark.requires("firefox")
@pytest.mark.parametrize("network", NETWORKS[:5], ids=lambda network: network.name)
def test_in_firefox(network: Network, server: Served) -> None:
    def examine() -> dict[str, Any]:
        with FaultProxy(server.port, network.rules) as proxy, sync_playwright() as playwright:
            firefox = launch_firefox(playwright)
            page = firefox.new_page()
            page.add_init_script(network.script)
            page.goto(f"{proxy.url}/fallback/doctor?idle={IDLE}")
            page.wait_for_selector("body[data-state=finished]", timeout=PATIENCE * 1000)
            text: str = page.text_content("#report") or ""
            firefox.close()
            return text

    # In a thread of its own: Chromium's Playwright has its event loop in this one.
    with ThreadPoolExecutor(1) as pool:
        text = pool.submit(examine).result()
    assert tuple(re.findall(r"\[([a-z-]+)\]$", text, re.MULTILINE)) == network.codes, text
