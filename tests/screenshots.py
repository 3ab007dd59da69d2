"""``python -m tests.screenshots``: makes the pictures in the README, demo/screenshots/*.png.

The demo, and the doctor where WebSocket is accepted and then silent, on a wide page and on a
telephone. How the letters look depends on the fonts of the machine.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from demo.process import CHROMIUM_FLAGS, ROOT, DemoProcess
from demo.screenshot import compose, play
from tests.needs import find

FOLDER = ROOT / "demo" / "screenshots"
#: The address that the doctor shows.
HOST = "chat.example"
DOCTORS: dict[str, dict[str, Any]] = {
    "doctor": {"viewport": {"width": 1040, "height": 1170}, "device_scale_factor": 1.25},
    "doctor-phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "color_scheme": "dark",
    },
}
#: What a picture may weigh: a README is read on telephones, too.
MAX_BYTES = 120_000


def examined(browser: Browser, options: dict[str, Any]) -> bytes:
    """The doctor's page at the end of an examination."""
    page = browser.new_context(**options).new_page()
    page.goto(f"http://{HOST}/")
    page.check("input[name=websocket][value=silent]")
    page.wait_for_function(
        "fetch('/network').then(r => r.json()).then(state => state.websocket === 'silent')"
    )
    page.goto(f"http://{HOST}/fallback/doctor")
    page.wait_for_selector("body[data-state=finished]")
    return page.screenshot(type="png")


def save(name: str, picture: bytes) -> Path:
    """Keep a picture, with as many colours as a page of few colours needs."""
    path = FOLDER / f"{name}.png"
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    few = image.quantize(256, Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    if path.stat().st_size > MAX_BYTES:
        raise SystemExit(f"{path} has {path.stat().st_size} bytes, and may have {MAX_BYTES}")
    return path


def main() -> None:
    """Make all of them."""
    FOLDER.mkdir(exist_ok=True)
    with DemoProcess() as demo, sync_playwright() as playwright:
        address = demo.url.partition("//")[2]
        browser = playwright.chromium.launch(
            executable_path=find("chromium"),
            args=[*CHROMIUM_FLAGS, f"--host-resolver-rules=MAP {HOST} {address}"],
        )
        print(save("demo", compose(browser, play(browser, demo.url))))
        for name, options in DOCTORS.items():
            print(save(name, examined(browser, options)))
        browser.close()


if __name__ == "__main__":
    main()
