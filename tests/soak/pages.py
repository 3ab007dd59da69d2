"""The sessions of the soak that live in Chromium, where there is one."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from demo.process import CHROMIUM_FLAGS
from tests.inside import show
from tests.needs import MissingError, find

_SCRIPT = Path(__file__).with_name("sessions.js")
#: As in node_sessions.mjs, for every other tab.
_RESTLESS = {"timing": {"probe": 500, "probeMax": 2000, "deaths": 1_000_000}}
_OPEN = """plan => {
    soak.watch();
    window.talk = soak.open(plan, () => { window.over = true; });
    return null;
}"""
#: Seconds between two looks at what the tabs have written down.
_EVERY = 1.0


class Pages:
    """Tabs, each in a profile of its own and with one session that lives throughout.

    Args:
        number: of tabs; 0: no browser is needed.
        origins: of the paths; the tabs are behind one after the other.
        seed, rate: of the messages.
        records: the file for what the tabs write down.
    """

    def __init__(
        self, number: int, origins: list[str], seed: str, rate: float, records: Path
    ) -> None:
        self._number = number
        self._origins = origins
        self._plan = {"seed": seed, "rate": rate, "url": "/fallback"}
        self._records = records
        self._pages: list[Any] = []
        self._drained = 0.0
        self._playwright: Any = None
        self.errors: list[str] = []
        self.repeats: Counter[str] = Counter()

    def __enter__(self) -> Pages:
        """Open the tabs and their sessions."""
        if not self._number:
            return self
        # Not above: Playwright is for tests, and without tabs there is no need of it.
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(
            executable_path=find("chromium"), args=CHROMIUM_FLAGS
        )
        for number in range(self._number):
            path = number % len(self._origins)
            context = self._browser.new_context()
            show(context)
            page = context.new_page()
            page.on("pageerror", lambda error: self.errors.append(f"in Chromium: {error}"))
            page.add_init_script(path=_SCRIPT)
            page.goto(f"{self._origins[path]}/page")
            plan = {**self._plan, "name": f"p{path}.t{number}", "options": {}}
            if number % 2:
                plan["options"] = _RESTLESS
            page.evaluate(_OPEN, plan)
            self._pages.append(page)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the browser."""
        if self._playwright is not None:
            self._browser.close()
            self._playwright.stop()

    def tick(self, seconds: float) -> None:
        """Wait so long; what the tabs have written down is kept."""
        if not self._pages:
            time.sleep(seconds)
            return
        self._pages[0].wait_for_timeout(seconds * 1000)
        if time.monotonic() - self._drained >= _EVERY:
            self._drained = time.monotonic()
            self.drain()

    def drain(self) -> None:
        """Keep what the tabs have written down."""
        with self._records.open("a", encoding="utf-8") as file:
            for page in self._pages:
                file.write(page.evaluate("soak.drain()"))

    def finish(self) -> None:
        """Tell the sessions to close."""
        for page in self._pages:
            page.evaluate("talk.finish()")

    @property
    def ended(self) -> bool:
        """Whether they have."""
        if not all(page.evaluate("!!window.over") for page in self._pages):
            return False
        if not self.repeats:
            for page in self._pages:
                self.repeats.update(page.evaluate("soak.repeats"))
        return True


def tabs(wanted: int) -> int:
    """So many, if there is a Chromium; else none."""
    try:
        find("chromium")
    except MissingError:
        return 0
    return wanted
