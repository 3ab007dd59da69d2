"""A page with sessions in it, as a test drives it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage

from tests.integration.served import Served

HARNESS = Path(__file__).with_name("harness.js")
#: Seconds for what has no deadline of the contract's: a busy machine may take its time.
PATIENCE = 20.0
#: What Chromium itself writes on the console about a network that fails.
_NETWORK = re.compile(r"Failed to load resource: |WebSocket connection to '")


@dataclass(frozen=True)
class Happened:
    """One event of a session; `at` is in seconds since connect()."""

    type: str
    at: float
    id: str | None
    state: str
    transport: str | None
    why: str
    text: str
    code: int | None = None
    reason: str | None = None
    unconfirmed: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class Status:
    """A session at one moment; `at` is in seconds since connect(), which `started` it."""

    started: float
    at: float
    id: str | None
    state: str
    transport: str | None
    why: str
    text: str
    counters: dict[str, int]
    events: list[Happened]
    buffered: int
    round_trip: float | None
    stream: dict[str, Any] | None

    def event(self, type: str) -> Happened | None:
        """The first event of this type."""
        return next((event for event in self.events if event.type == type), None)

    def count(self, type: str) -> int:
        """How many events of this type there were."""
        return sum(event.type == type for event in self.events)


class Tab:
    """A page that has loaded the script.

    Args:
        context: the browser's profile that it belongs to.
        url: the server, as the page is to see it.
    """

    def __init__(self, context: BrowserContext, url: str) -> None:
        #: Errors that no part of the page has caught, and all that was written on the console.
        self.errors: list[str] = []
        self.console: list[str] = []
        self.page = context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._said)
        self.page.add_init_script(path=HARNESS)
        self.page.goto(f"{url}/page")

    def connect(self, options: dict[str, Any] | None = None, mount: str = "/fallback") -> View:
        """Open a session, at a mount or in a path below one."""
        connect = "([mount, options]) => harness.connect(mount, options)"
        index = self.page.evaluate(connect, [mount, options or {}])
        return View(self, index)

    def requests(self) -> int:
        """How many requests the page's scripts have sent."""
        count: int = self.page.evaluate("harness.requests()")
        return count

    def verdict(self) -> dict[str, Any] | None:
        """What is remembered of WebSocket on this network."""
        kept: dict[str, Any] | None = self.page.evaluate(
            "JSON.parse(localStorage.getItem('fallback_transport ' + location.origin"
            " + '/fallback/poll'))"
        )
        return kept

    def report(self) -> str:
        """What a page can tell after a failure."""
        diary = self.page.evaluate("window.harness ? harness.diary : []")
        return f"{diary}; console: {self.console}"

    def _said(self, message: ConsoleMessage) -> None:
        self.console.append(message.text)
        if message.type in ("error", "warning") and not _NETWORK.match(message.text):
            self.errors.append(message.text)


class View:
    """One session in a page."""

    def __init__(self, tab: Tab, index: int) -> None:
        self.tab = tab
        self._index = index

    def status(self) -> Status:
        """The session at this moment."""
        told = self.tab.page.evaluate("index => harness.tell(index)", self._index)
        told["at"] /= 1000
        told["started"] /= 1000
        told["events"] = [
            Happened(**{**event, "at": event["at"] / 1000}) for event in told["events"]
        ]
        return Status(**told)

    def until(
        self, condition: Callable[[Status], object], what: str, timeout: float = PATIENCE
    ) -> Status:
        """Wait until a condition holds, and return the status that met it."""
        deadline = time.monotonic() + timeout
        pause = 10.0
        while not condition(status := self.status()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout} s: {what}; the last: {status}")
            # Each look is work for four processes: what takes long is looked at less often.
            self.tab.page.wait_for_timeout(pause)
            pause = min(1.2 * pause, 50)
        return status

    def do(self, code: str, *values: Any) -> Any:
        """Evaluate `code`, a function of the session and these values, in the page."""
        return self.tab.page.evaluate(
            f"([index, values]) => ({code})(harness.session(index), ...values)",
            [self._index, list(values)],
        )

    def ask(self, name: str, data: Any = None) -> Any:
        """Emit, and return the server's reply."""
        return self.do(
            "(session, name, data) => new Promise((done, failed) => session.emit(name, data,"
            " (error, reply) => error ? failed(error) : done(reply)))",
            name,
            data,
        )

    def stream(self, plan: dict[str, Any], up: Any = None, down: Any = None) -> None:
        """Start numbered messages both ways; see harness.js."""
        self.tab.page.evaluate(
            "([index, plan, up, down]) => harness.stream(index, plan, up, down)",
            [self._index, {"backlog": 1_000_000, **plan}, up, down],
        )

    def finish(self, server: Served) -> tuple[Status, dict[str, Any]]:
        """Stop the stream; return both ends once all has arrived, each message once, in order.

        That does not wait for the server's last acknowledgement: on polling it rides on the next
        answer, whenever that comes.
        """
        self.do("session => harness.finish(session)")
        path = f"/stream?brief&session={self.status().id}"
        status = self.until(
            lambda now: now.stream and now.stream["received"] >= server.get(path)["sent"],
            "all messages down",
        )
        page, served = status.stream, server.get(path)
        assert page is not None
        assert (page["wrong"], served["wrong"]) == ([], [])
        # What was sent up went ahead of the word that stopped the stream.
        assert (page["received"], served["received"]) == (served["sent"], page["sent"])
        return status, served

    def delays(self) -> list[tuple[float, float]]:
        """When each message of the stream came, and the seconds that it was under way."""
        return [
            (at, delay)
            for at, delay in self.tab.page.evaluate("index => harness.delays(index)", self._index)
        ]
