"""The demo, as `demo/run` starts it, in a real browser: two pages side by side."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from demo.process import CHROMIUM_FLAGS, ROOT, START_WAIT, DemoProcess
from tests.documents import README
from tests.needs import find

from .served import MODES, free_port

#: Seconds in which a switch shows, and what a busy machine may take on top.
SHOWN_IN = 3.0
SLACK = 0.5

#: What each switch of the WebSocket group makes of the light and of its sentence.
SWITCHES = {
    "refused": ("Long polling", "the WebSocket handshake was refused"),
    "swallowed": ("Long polling", "the WebSocket handshake got no answer in 2.5 s"),
    "silent": ("Long polling", "nothing came through it in 2.5 s"),
    "closed": ("Long polling", "was closed before anything came through it"),
    "lossy": ("Long polling", "the WebSocket handshake was refused"),
}


@pytest.fixture
def demo() -> Iterator[DemoProcess]:
    with DemoProcess() as running:
        yield running
        # pytest shows it if the test fails.
        print(running.log())


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=find("chromium"), args=CHROMIUM_FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def browser(request: pytest.FixtureRequest, need: Callable[[str], str]) -> Iterator[Browser]:
    """One for all; no profile of a test's outlives it."""
    need("chromium")
    launched: Browser = request.getfixturevalue("chromium")
    yield launched
    for context in launched.contexts:
        context.close()


class Visitor:
    """One browser window at the demo."""

    def __init__(self, browser: Browser, demo: DemoProcess, name: str, **context: Any) -> None:
        self.name = name
        #: What a developer would see in the console, but for connections that we broke.
        self.complaints: list[str] = []
        self.page: Page = browser.new_context(**context).new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._console)
        self.page.add_init_script(f"sessionStorage.setItem('name', {name!r})")
        self.page.goto(demo.url)
        self.sees("#state", "open")

    def _console(self, message: Any) -> None:
        # The browser itself reports each connection that fails.
        broken = ("net::ERR_", "WebSocket connection to", "the server responded with a status of")
        if message.type == "error" and not any(each in message.text for each in broken):
            self.complaints.append(message.text)

    def sees(self, where: str, text: str, within: float = 10.0) -> float:
        """Wait for a text in the element `where`; return how many seconds it took."""
        start = time.monotonic()
        try:
            self.page.wait_for_function(
                "([where, text]) => document.querySelector(where).innerText.includes(text)",
                arg=[where, text],
                timeout=within * 1000,
            )
        except Exception as error:
            seen = self.page.inner_text(where)
            raise AssertionError(
                f"{self.name} does not see {text!r} in {where} within {within} s, but {seen!r}"
            ) from error
        return time.monotonic() - start

    def shows(self, light: str, why: str, within: float = SHOWN_IN + SLACK) -> None:
        """Wait until the light is called exactly this, and `why` is in its reason."""
        try:
            self.page.wait_for_function(
                "([light, why]) => document.querySelector('#light-name').innerText === light"
                " && document.querySelector('#why').innerText.includes(why)",
                arg=[light, why],
                timeout=max(within, 0.001) * 1000,
            )
        except Exception as error:
            seen = self.page.inner_text("#light-name"), self.page.inner_text("#why")
            raise AssertionError(
                f"{self.name} does not see {light!r}, {why!r}, but {seen}"
            ) from error

    def says(self, text: str) -> None:
        self.page.fill("#text", text)
        self.page.press("#text", "Enter")

    def chooses(self, switch: str) -> None:
        self.page.check(f"input[name=websocket][value={switch}]")

    def moves(self) -> None:
        """Move the pointer about, so that there are messages to lose."""
        for step in range(12):
            self.page.mouse.move(80 + 17 * step, 200 + 9 * step)
            self.page.wait_for_timeout(20)

    def counts(self) -> dict[str, str]:
        names = ["up-sent", "up-handled", "up-equal", "down-sent", "down-received", "down-equal"]
        # In one go: read one by one, they would be of different ticks.
        seen: dict[str, str] = self.page.evaluate(
            "names => Object.fromEntries(names.map("
            "name => [name, document.getElementById(name).innerText]))",
            names,
        )
        return seen

    def finds_equal_counts(self) -> None:
        """Nothing was lost, and nothing came twice, in either direction."""
        for direction in ("up", "down"):
            self.sees(f"#{direction}-equal", "=")
        counts = self.counts()
        assert counts["up-sent"] == counts["up-handled"], counts
        assert counts["down-sent"] == counts["down-received"], counts
        assert int(counts["up-sent"].replace("\u2009", "")) > 0
        assert self.page.inner_text("#missed") == "0"


@pytest.fixture
def pair(browser: Browser, demo: DemoProcess) -> tuple[Visitor, Visitor]:
    """Two browsers side by side."""
    size = {"width": 720, "height": 900}
    ann, ben = (Visitor(browser, demo, name, viewport=size) for name in ("Ann", "Ben"))
    for visitor in (ann, ben):
        visitor.sees("#light", "WebSocket")
        visitor.sees("#people", "Ann")
        visitor.sees("#people", "Ben")
    return ann, ben


def picture(width: int = 240, height: int = 160) -> bytes:
    """A PNG with a gradient."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        sum_ = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + sum_

    rows = b"".join(
        b"\0" + bytes(value for x in range(width) for value in (x % 256, y % 256, 128))
        for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_two_browsers_talk(pair: tuple[Visitor, Visitor], tmp_path: Path) -> None:
    ann, ben = pair
    ann.says("Can you hear me?")
    ben.sees("#log", "Can you hear me?")
    ann.sees("#log", "Can you hear me?")
    ben.says("Yes. <b>Every</b> word.")
    ann.sees("#log", "Yes. <b>Every</b> word.")

    (tmp_path / "gradient.png").write_bytes(picture())
    ann.page.set_input_files("#picture", tmp_path / "gradient.png")
    for visitor in pair:
        image = visitor.page.wait_for_selector("#log img")
        assert image is not None
        visitor.page.wait_for_function("document.querySelector('#log img').naturalWidth === 240")
        assert image.get_attribute("alt") == "Picture: gradient.png"

    ben.page.evaluate(
        """bytes => {
            const files = new DataTransfer();
            const file = new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"});
            files.items.add(file);
            const drop = new DragEvent("drop", {dataTransfer: files, bubbles: true});
            document.body.dispatchEvent(drop);
        }""",
        list(picture(32, 32)),
    )
    for visitor in pair:
        visitor.page.wait_for_selector("#log img[alt='Picture: dropped.png']")

    ann.moves()
    ben.page.wait_for_selector(".cursor:has-text('Ann')", state="attached")
    for visitor in pair:
        visitor.sees("#agreement", "equal for 2 of 2 browsers")
        visitor.finds_equal_counts()
        assert visitor.complaints == []


def test_an_alert_is_over_with_the_next_message(browser: Browser, demo: DemoProcess) -> None:
    visitor = Visitor(browser, demo, "Ann")
    text = {"name": "a.txt", "mimeType": "text/plain", "buffer": b"text"}
    visitor.page.set_input_files("#picture", text)
    visitor.sees("#chat-alert", "That is not a picture.")
    visitor.says("Then in words.")
    visitor.sees("#log", "Then in words.")
    assert visitor.page.inner_text("#chat-alert") == ""


def test_what_a_server_may_have_taken_with_it_is_named(browser: Browser) -> None:
    port = free_port()
    with DemoProcess(port=port) as demo:
        visitor = Visitor(browser, demo, "Ann")
        visitor.says("delivered")
        visitor.page.wait_for_selector("#log li:not(.pending)")
        demo.kill()
        visitor.says("and this?")
    with DemoProcess(port=port):
        visitor.sees("#chat-alert", "Perhaps not delivered: \u201cand this?\u201d", 60)


def test_each_switch_shows_and_nothing_is_lost(pair: tuple[Visitor, Visitor]) -> None:
    ann, ben = pair

    def expect(light: str, why: str) -> None:
        start = time.monotonic()
        for visitor in pair:
            visitor.shows(light, why, start + SHOWN_IN + SLACK - time.monotonic())
        print(f"{light}: {why}: {time.monotonic() - start:.1f} s")

    for number, (switch, (light, why)) in enumerate(SWITCHES.items()):
        ann.chooses(switch)
        expect(light, why)
        ann.moves()
        ann.says(f"Over a broken network, {number}")
        ben.moves()
        ben.sees("#log", f"Over a broken network, {number}")
        if switch == "lossy":
            for line in range(10):
                ben.says(f"line {line}")
            ann.sees("#log", "line 9")
        assert ben.page.is_checked(f"input[value={switch}]"), "the switches are everybody's"
        ann.page.click("#off")
        expect("WebSocket", "works")

    ann.page.click("#cut")
    expect("WebSocket, resumed", "Every connection was cut; the session went on")
    expect("WebSocket", "works")
    ann.page.check("#latency")
    expect("WebSocket, slow", "Messages arrive, but late.")
    ben.moves()
    ann.page.click("#off")
    expect("WebSocket", "works")

    for visitor in pair:
        visitor.sees("#agreement", "equal for 2 of 2 browsers")
        visitor.finds_equal_counts()
        said = [line for line in visitor.page.inner_text("#log").split("\n") if "line " in line]
        assert said == [f"line {line}" for line in range(10)]
        assert visitor.complaints == []


def test_the_ticker_is_replaced_where_the_network_is_slow(
    browser: Browser, demo: DemoProcess
) -> None:
    visitor = Visitor(browser, demo, "Ann", viewport={"width": 720, "height": 900})

    def ticker() -> list[int]:
        texts = visitor.page.evaluate(
            "['sent', 'arrived', 'replaced'].map("
            "name => document.getElementById('ticker-' + name).innerText)"
        )
        return [int(text.replace("\u2009", "")) for text in texts]

    visitor.page.wait_for_function("document.getElementById('ticker-arrived').innerText >= 20")
    sent, arrived, replaced = ticker()
    # On the way it has been by WebSocket: what is written there at once waits nowhere.
    assert replaced <= sent // 10, (sent, arrived, replaced)
    visitor.chooses("refused")
    visitor.page.check("#latency")
    visitor.page.wait_for_function(
        f"+document.getElementById('ticker-sent').innerText >= {sent + 40}"
    )
    now = ticker()
    # A poll and its answer take 0.4 s, in which four are due, of which one comes.
    assert now[2] - replaced > (now[0] - sent) // 3, (now, sent, arrived, replaced)
    assert now[0] == now[1] + now[2]
    visitor.finds_equal_counts()
    assert visitor.complaints == []


def test_a_stock_client_joins(pair: tuple[Visitor, Visitor], demo: DemoProcess) -> None:
    ann, _ = pair
    program = README.block("python", "SimpleClient")
    names: dict[str, Any] = {}
    exec(program.replace("http://127.0.0.1:5000", demo.url), names)
    sio = names["sio"]
    try:
        ann.sees("#log", "hello")
        ann.sees("#people", "a Socket.IO client")
        ann.says("hello back")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            name, *data = sio.receive(timeout=5)
            if name == "said" and data[0]["text"] == "hello back":
                break
        else:
            pytest.fail("the stock client did not get the answer")
    finally:
        sio.disconnect()


def test_the_keyboard_is_enough(pair: tuple[Visitor, Visitor]) -> None:
    ann, ben = pair
    page = ann.page
    reached = []
    page.focus("#name")
    for _ in range(30):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.id || document.activeElement.name")
        if not focused:
            focused = page.evaluate("document.activeElement.type")
        if not focused or focused in reached:
            break
        reached.append(focused)
        ring = page.evaluate(
            "(e => getComputedStyle(e.id == 'picture' ? e.nextElementSibling : e).outlineStyle)"
            "(document.activeElement)"
        )
        assert ring == "solid", f"{focused} does not show its focus"
        if focused == "text":
            page.keyboard.type("typed")
            page.keyboard.press("Enter")
        if focused == "websocket":
            page.keyboard.press("ArrowDown")
    chat, breaker = ["scroll", "text", "picture", "submit"], ["websocket", "latency", "cut", "off"]
    assert reached == [*chat, *breaker, "doctor"]
    ben.sees("#log", "typed")
    ben.sees("#light", "Long polling", SHOWN_IN + SLACK)
    page.focus("#off")
    page.keyboard.press("Enter")
    ben.sees("#light", "WebSocket", SHOWN_IN + SLACK)


def test_a_phone_shows_all_of_it(browser: Browser, demo: DemoProcess) -> None:
    visitor = Visitor(
        browser, demo, "Pat", viewport={"width": 360, "height": 740}, reduced_motion="reduce"
    )
    # The narrowest that a page has to fit, and counts as they are after some minutes.
    for width in (360, 320):
        visitor.page.set_viewport_size({"width": width, "height": 740})
        needed = visitor.page.evaluate(
            "document.querySelectorAll('.counts td[id]:not(.equal), .counts td span')"
            ".forEach(count => { count.innerText = '12345'; });"
            "document.documentElement.scrollWidth"
        )
        assert needed <= width, "it scrolls sideways"
    still = "getComputedStyle(document.querySelector('.lamp')).transitionDuration"
    assert visitor.page.evaluate(still) == "0s"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible(
    scheme: str, browser: Browser, demo: DemoProcess, need: Callable[[str], str]
) -> None:
    axe = Path(need("npm"), "axe-core", "axe.min.js").read_text()
    visitor = Visitor(browser, demo, "Kim", color_scheme=scheme)
    visitor.says("hello")
    visitor.page.wait_for_selector("#log li:not(.pending)")
    visitor.sees("#agreement", "equal for 1 of 1 browser")
    visitor.page.evaluate(f"{axe}; undefined")
    found = visitor.page.evaluate("axe.run().then(result => result.violations)")
    assert not found, [(each["help"], [node["html"] for node in each["nodes"]]) for each in found]


def test_high_contrast_leaves_the_light_and_the_minute(browser: Browser, demo: DemoProcess) -> None:
    visitor = Visitor(browser, demo, "Kim", forced_colors="active")
    visitor.sees("#light", "WebSocket")
    visitor.page.wait_for_selector(".minute .websocket")
    colours = visitor.page.evaluate(
        "[document.body, ...document.querySelectorAll('#light .lamp, .minute .websocket')]"
        ".map(each => getComputedStyle(each).backgroundColor)"
    )
    assert len(set(colours[1:])) == 1
    assert colours[1] not in (colours[0], "rgba(0, 0, 0, 0)")


def test_the_doctor_finds_what_a_switch_breaks(browser: Browser, demo: DemoProcess) -> None:
    visitor = Visitor(browser, demo, "Ann", viewport={"width": 1100, "height": 900})
    visitor.chooses("refused")
    visitor.shows("Long polling", SWITCHES["refused"][1])
    with visitor.page.expect_popup() as opened:
        visitor.page.click("text=Ask the doctor")
    opened.value.wait_for_selector("body[data-state=finished]")
    verdict = opened.value.inner_text("#verdict")
    assert verdict.startswith("Your network refuses the WebSocket handshake. Long polling works: ")


@pytest.mark.parametrize("mode", MODES)
def test_it_runs_in_every_async_mode(
    mode: str, browser: Browser, need: Callable[[str], str]
) -> None:
    if mode == "gevent":
        need("gevent")
    with DemoProcess(mode) as demo:
        patched = {"eventlet": "eventlet.monkey_patch()", "gevent": "gevent.monkey.patch_all()"}
        assert f"patched: {patched.get(mode, 'nothing')}" in demo.log()
        assert f"The demo is at {demo.url}" in demo.log()
        ann, ben = (Visitor(browser, demo, name) for name in ("Ann", "Ben"))
        ann.chooses("refused")
        ben.sees("#light", "Long polling", SHOWN_IN + SLACK)
        ben.says("still here")
        ann.sees("#log", "still here")
        for visitor in (ann, ben):
            visitor.sees("#agreement", "equal for 2 of 2 browsers")
            visitor.finds_equal_counts()
            assert visitor.complaints == []
    # The proxy ends with the server.
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", int(demo.url.rpartition(":")[2]))):
                return
        time.sleep(0.05)
    pytest.fail("the proxy outlived the demo")


def test_the_flask_part_fits_on_one_screen() -> None:
    assert len((ROOT / "demo" / "app.py").read_text().splitlines()) <= 80


def test_the_page_script_is_ecmascript_5(need: Callable[[str], str]) -> None:
    script = ROOT / "demo" / "static" / "demo.js"
    parse = (
        f"require({str(Path(need('npm'), 'acorn'))!r}).parse("
        f"require('fs').readFileSync({str(script)!r}, 'utf8'), {{ecmaVersion: 5}})"
    )
    done = subprocess.run([need("node"), "-e", parse], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "demo", "--port", str(port), "--async-mode", "threading"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=START_WAIT,
            check=False,
        )
    assert done.returncode == 1
    assert f"is port {port} taken?" in done.stderr
