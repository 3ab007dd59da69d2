"""Two Chromiums at the demo, one of them without WebSocket, for the picture in the README."""

from __future__ import annotations

import base64

from playwright.sync_api import Browser, Page

WIDTH, HEIGHT = 790, 1056

# What Ada sees from her train, and sends.
LANDSCAPE = """
<body style="margin:0"><svg width="640" height="360" viewBox="0 0 640 360">
<defs><linearGradient id="sky" x1="0" y1="0" x2="0" y2="1">
<stop offset="0" stop-color="#f7cfa3"/><stop offset=".55" stop-color="#f3a98b"/>
<stop offset="1" stop-color="#8e6f96"/></linearGradient></defs>
<rect width="640" height="360" fill="url(#sky)"/><circle cx="452" cy="150" r="34" fill="#fff0d2"/>
<path d="M0 232 L92 170 L180 224 L286 132 L402 226 L488 184 L640 246 V360 H0Z" fill="#7b668c"/>
<path d="M0 278 L120 232 L262 276 L380 236 L520 284 L640 256 V360 H0Z" fill="#574e73"/>
<path d="M0 322 Q160 284 320 316 T640 304 V360 H0Z" fill="#332f4d"/></svg>
"""


def visit(browser: Browser, url: str, name: str, scheme: str, script: str = "") -> Page:
    """Open the demo as somebody."""
    context = browser.new_context(
        viewport={"width": WIDTH, "height": HEIGHT},
        color_scheme="dark" if scheme == "dark" else "light",
        device_scale_factor=1.5,
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.add_init_script(f"sessionStorage.setItem('name', {name!r}); {script}")
    page.goto(url)
    page.wait_for_function("document.getElementById('state').innerText === 'open'")
    return page


def say(page: Page, text: str) -> None:
    """Say something in the chat, and wait until it is there."""
    page.fill("#text", text)
    page.press("#text", "Enter")
    page.wait_for_function(
        "text => document.getElementById('log').innerText.includes(text)", arg=text
    )
    page.wait_for_timeout(150)


def play(browser: Browser, url: str) -> list[bytes]:
    """Let two people talk; return what each of them sees."""
    canvas = browser.new_page(viewport={"width": 640, "height": 360})
    canvas.set_content(LANDSCAPE)
    landscape = canvas.screenshot(type="png")
    ada = visit(browser, url, "Ada", "light")
    ben = visit(browser, url, "Ben", "dark", "delete window.WebSocket;")
    say(ada, "I am on the train, the network comes and goes.")
    ada.set_input_files(
        "#picture", {"name": "evening.png", "mimeType": "image/png", "buffer": landscape}
    )
    ben.wait_for_selector("#log img")
    say(ben, "Lovely! This old browser has no WebSocket at all.")
    say(ada, "I would not have noticed.")
    for step in range(240):
        ada.mouse.move(330 - step // 3, 520 + step // 4)
        ben.mouse.move(170 + step // 4, 330 + step // 5)
        ada.wait_for_timeout(50)
    for page in (ada, ben):
        page.evaluate("document.activeElement.blur()")
    ada.wait_for_timeout(2500)
    return [shot(page) for page in (ada, ben)]


def shot(page: Page) -> bytes:
    """A picture of a page at a moment at which nothing is under way."""
    page.wait_for_function(
        "[...document.querySelectorAll('.equal')].every(each => each.innerText === '=')"
    )
    return page.screenshot(type="png")


def compose(browser: Browser, pictures: list[bytes]) -> bytes:
    """Put the pictures side by side."""
    images = "".join(
        f'<img src="data:image/png;base64,{base64.b64encode(each).decode()}">' for each in pictures
    )
    gap = 20
    page = browser.new_page(
        viewport={"width": 2 * WIDTH + 3 * gap, "height": HEIGHT + 2 * gap}, device_scale_factor=1
    )
    page.set_content(
        f"<style>body{{margin:0;background:#e4e1da;padding:{gap}px;display:flex;gap:{gap}px}}"
        f"img{{width:{WIDTH}px;border-radius:14px;box-shadow:0 2px 12px #0004}}</style>{images}"
    )
    page.wait_for_function("[...document.images].every(image => image.complete)")
    return page.screenshot(type="png")
