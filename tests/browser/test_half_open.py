"""Paths that swallow one direction or both, and tell nobody: how soon the session is elsewhere.

With ``FALLBACK_TRANSPORT_WRITE_README=1`` in the environment the times go into README.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests import measured
from tests.browser.tabs import Status, Tab, View
from tests.integration.served import Served
from tests.proxies.fault_process import FaultProxy
from tests.proxies.faults import AcceptSilent, DropDown, DropUp, Fault, LostReply
from tests.proxies.rules import Rule

pytestmark = pytest.mark.requires("chromium")

#: The contract, in seconds: while messages flow.
FLOWING = 3.0
#: The server's keepalive here, within which a silent path is left.
KEEPALIVE = 4.0
#: Seconds after the handshake at which the path dies, when all pages have loaded: among messages,
#: and long after the last.
EARLY, LATE = 5.0, 8.0
#: What a busy machine may add to a deadline.
SLACK = 1.0

#: A message each half second.
UP = "session => { let n = 0; setInterval(() => session.emit('count', n++), 500); }"
DOWN = "session => { session.emit('produce', {number: 60, pause: 0.5}); }"
DELAYS = """session => {
  session.delays = [];
  session.on("produced", ([number, data, sent]) => {
    session.delays.push((performance.timeOrigin + performance.now()) / 1000 - sent);
  });
}"""


@dataclass(frozen=True)
class Case:
    """What flows, and what dies."""

    flows: tuple[str, ...]
    dead: str

    @property
    def after(self) -> float:
        """Seconds after the handshake at which the path dies."""
        return EARLY if self.flows else LATE

    @property
    def fault(self) -> Fault:
        kinds = {"up": DropUp, "down": DropDown, "both": AcceptSilent}
        return kinds[self.dead](after=self.after)

    @property
    def limit(self) -> float:
        """The seconds within which the path must be left."""
        return FLOWING if self.flows else KEEPALIVE

    @property
    def flow(self) -> str:
        return " and ".join(self.flows) or "nothing"

    def __str__(self) -> str:
        return f"{self.flow} flows, {self.dead} dies"


CASES = [
    Case(("up",), "up"),
    Case(("up",), "down"),
    Case(("up",), "both"),
    # Here it is the server that misses something, and closes with 4408.
    Case(("down",), "up"),
    Case(("down",), "down"),
    Case(("down",), "both"),
    Case(("up", "down"), "up"),
    Case(("up", "down"), "down"),
    Case(("up", "down"), "both"),
    Case((), "up"),
    Case((), "down"),
    Case((), "both"),
]


@pytest.fixture(scope="module")
def impatient_server() -> Iterator[Served]:
    """A server with a short keepalive."""
    with Served("eventlet", module="tests.browser.application", keepalive=KEEPALIVE) as served:
        yield served


def opened(
    tab: Callable[..., Tab],
    proxy: FaultProxy,
    *flows: str,
    mount: str = "/fallback",
    **options: bool,
) -> View:
    """An open session with messages."""
    page = tab(proxy.url, **options)
    view = page.connect({"timing": {"probe": 1e9, "probeMax": 1e9}}, mount)
    view.until(lambda now: now.state == "open", "open")
    view.do(DELAYS)
    for flow in flows:
        view.do({"up": UP, "down": DOWN}[flow])
    return view


def left_at(status: Status) -> float | None:
    """When the WebSocket was given up, in seconds since connect(); None: it is not yet."""
    times = [each.at for each in status.events if each.why == "half-open" or not each.transport]
    return min(times, default=None)


def table(times: dict[str, dict[str, float]]) -> str:
    """The times in Markdown."""
    ways = ("up", "down", "both")
    rows = [f"| messages flow | {' | '.join(f'{way} dies' for way in ways)} |", "|---|---|---|---|"]
    for flow, found in times.items():
        cells = [f"{found[way]:.1f} s" if way in found else "—" for way in ways]
        rows.append(f"| {flow} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def test_a_half_open_websocket_is_left(tab: Callable[..., Tab], impatient_server: Served) -> None:
    with FaultProxy(impatient_server.port) as proxy:
        # Each has a path of its own: the first of them opens again before the last one is there.
        mounts = [f"/fallback/{number}" for number in range(len(CASES))]
        rules = zip(CASES, mounts, strict=True)
        proxy.rules(
            *[Rule(case.fault, on="ws", path=f"^{mount}/ws$", first=1) for case, mount in rules]
        )
        views = [
            opened(tab, proxy, *case.flows, mount=mount)
            for case, mount in zip(CASES, mounts, strict=True)
        ]
        found = []
        for case, view in zip(CASES, views, strict=True):
            status = view.until(left_at, f"{case}: left", 30.0)
            found.append((case, status))
        # The one that the server closes is opened again.
        opening = {each.target: each for each in reversed(proxy.requests()) if each.websocket}
        handshakes = [opening[f"{mount}/ws"] for mount in mounts]
        # The proxy's clock is not the page's.
        offset = time.time() - time.monotonic()
        missed = []
        times: dict[str, dict[str, float]] = {}
        for (case, status), shake in zip(found, handshakes, strict=True):
            left = left_at(status)
            assert left is not None
            assert shake.answered_at is not None
            died = shake.answered_at + offset + case.after
            seconds = status.started + left - died
            times.setdefault(case.flow, {})[case.dead] = seconds
            print(f"{case}: left after {seconds:.1f} s, of {case.limit:.0f}")
            assert shake.faults, "it was to die"
            if not 0 < seconds <= case.limit + SLACK:
                missed.append(f"{case}: {seconds:.1f} s")
        assert missed == []
        if os.environ.get("FALLBACK_TRANSPORT_WRITE_README"):
            measured.write("half-open", table(times), measured.README)
        for view in views:
            status = view.status()
            assert [status.count(type) for type in ("open", "reset", "close")] == [1, 0, 0]
            assert view.ask("echo", "still here") == "still here"


def test_an_answer_to_a_poll_is_swallowed(tab: Callable[..., Tab], server: Served) -> None:
    with FaultProxy(server.port) as up, FaultProxy(server.port) as down:
        proxies = {"up": up, "down": down}
        views = {flow: opened(tab, proxy, flow, websocket=False) for flow, proxy in proxies.items()}
        page = views["up"].tab.page
        page.wait_for_timeout(1500)
        asked = time.monotonic()
        for proxy in proxies.values():
            proxy.rules(Rule(LostReply("hang"), method="POST", path="poll$", first=1))
        page.wait_for_timeout(6000)
        for flow, view in views.items():
            requests = [r for r in proxies[flow].requests(asked) if r.target == "/fallback/poll"]
            [lost] = [each for each in requests if each.faults]
            again = min(each.at for each in requests if each.at > lost.at + 0.9) - lost.at
            print(f"{flow} flows: asked again {again:.1f} s after what was swallowed")
            assert again <= FLOWING + SLACK
            # Two messages a second, one request each at most, and the one that was repeated.
            assert len(requests) <= 2 * 6 + 4
            status = view.status()
            assert [status.count(type) for type in ("open", "reset", "close")] == [1, 0, 0]
            if flow == "down":
                longest = max(view.do("session => session.delays"))
                print(f"the longest of {status.counters['received']} took {longest:.1f} s")
                assert longest <= FLOWING + SLACK
            else:
                assert status.id is not None
                counts = [each[1] for each in server.seen(status.id) if each[0] == "count"]
                assert counts == list(range(len(counts)))
                assert len(counts) >= 12
