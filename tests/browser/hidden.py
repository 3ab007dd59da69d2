"""Pages that nobody sees. Playwright's own are always visible, and never frozen for that."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

from playwright.sync_api import Browser

from tests.browser.tabs import HARNESS, PATIENCE, Tab


class HiddenPage:
    """A page driven by the DevTools protocol alone, with what of Playwright's a `Tab` needs.

    Args:
        browser: where it opens, in a profile of its own.
        url: what it loads.
        scripts: what runs in it before its own scripts.
    """

    def __init__(self, browser: Browser, url: str, scripts: list[str]) -> None:
        # Events only arrive while some page of Playwright's waits.
        self._waiter = browser.new_page()
        self._browser = browser.new_browser_cdp_session()
        self._ids = itertools.count(1)
        self._answers: dict[int, Any] = {}
        self._browser.on("Target.receivedMessageFromTarget", self._received)
        self._context = self._browser.send("Target.createBrowserContext")["browserContextId"]
        target = self._browser.send(
            "Target.createTarget", {"url": "about:blank", "browserContextId": self._context}
        )["targetId"]
        attached = self._browser.send(
            "Target.attachToTarget", {"targetId": target, "flatten": False}
        )
        self._session = attached["sessionId"]
        self.send("Page.enable")
        for script in scripts:
            self.send("Page.addScriptToEvaluateOnNewDocument", source=script)
        self.send("Page.navigate", url=url)
        while not self.evaluate("() => document.readyState === 'complete' && !!window.harness"):
            self.wait_for_timeout(20)

    def close(self) -> None:
        """Close it, and its profile."""
        self._browser.send("Target.disposeBrowserContext", {"browserContextId": self._context})
        self._browser.detach()
        self._waiter.close()

    def send(self, method: str, **values: Any) -> dict[str, Any]:
        """A command to the page, and its result."""
        number = next(self._ids)
        message = json.dumps({"id": number, "method": method, "params": values})
        self._browser.send(
            "Target.sendMessageToTarget", {"sessionId": self._session, "message": message}
        )
        deadline = time.monotonic() + PATIENCE
        while number not in self._answers:
            assert time.monotonic() < deadline, f"{method} is not answered"
            self.wait_for_timeout(2)
        answer = self._answers.pop(number)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def evaluate(self, function: str, value: Any = None) -> Any:
        """What a function of one value returns, in the page."""
        found = self.send(
            "Runtime.evaluate",
            expression=f"({function})({json.dumps(value)})",
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for_timeout(self, milliseconds: float) -> None:
        """Let time pass."""
        self._waiter.wait_for_timeout(milliseconds)

    def _received(self, event: dict[str, Any]) -> None:
        message = json.loads(event["message"])
        if "id" in message:
            self._answers[message["id"]] = message


class HiddenTab(Tab):
    """A page that has loaded the script, and can be frozen as a browser does it with hidden ones.

    Args:
        browser: where it opens.
        url: the server, as the page is to see it.
        websocket: whether the page has any.
    """

    def __init__(self, browser: Browser, url: str, *, websocket: bool = True) -> None:
        scripts = [] if websocket else ["delete window.WebSocket"]
        self.hidden = HiddenPage(browser, f"{url}/page", [*scripts, HARNESS.read_text()])
        self.page = self.hidden  # type: ignore[assignment]
        self.errors, self.console = [], []
