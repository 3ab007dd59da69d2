"""A change between two transports that both work: nobody waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.browser.tabs import Status, Tab, View
from tests.integration.served import Served
from tests.proxies.fault_process import FaultProxy
from tests.proxies.faults import Latency, Refuse
from tests.proxies.rules import Rule

pytestmark = pytest.mark.requires("chromium")

SWITCHES = 10
#: Messages a second, each way.
RATE = 20
#: Seconds on polling before the first switch, and on each transport after a switch.
BEFORE, BETWEEN = 6.0, 1.0
#: Seconds each way. A distance, so that what is measured is round trips and not the machine.
DISTANCE = 0.05
ROUND_TRIP = 2 * DISTANCE
#: The contract's allowance beside the round trip, in seconds.
ALLOWANCE = 0.05
#: More than will be sent until the stream is stopped.
MANY = 10_000

#: To WebSocket by itself, with a probe; at random, after this many milliseconds at most.
PROBES = {"probe": 1000, "probeMax": 1500}
#: Nothing public makes a page leave a WebSocket that works; in earnest it is its own doubt that
#: does. Here it doubts whatever it hears, and hedges.
DOWN = """session => {
  const timer = setInterval(() => {
    if (session.transport === "websocket") { session._core.doubt(); }
    else { clearInterval(timer); }
  }, 1);
}"""


@dataclass(frozen=True)
class Delay:
    """How long a message was under way, in seconds."""

    sent_at: float
    delay: float
    way: str

    def __str__(self) -> str:
        return f"{self.delay * 1000:.0f} ms {self.way}"


def longest(delays: list[Delay]) -> Delay:
    """The one that took longest."""
    return max(delays, key=lambda each: each.delay)


def all_delays(view: View, server: Served, status: Status) -> list[Delay]:
    """Of both directions; page and server read the same clock."""
    up = server.get(f"/stream?session={status.id}")["delays"]
    return [
        Delay(at - delay, delay, way)
        for way, delays in (("up", up), ("down", view.delays()))
        for at, delay in delays
    ]


def switched(view: View, number: int) -> None:
    """Wait for that switch; a probe may have brought the next one already."""
    view.until(lambda now: now.count("transport") > number, f"switch {number}")


def test_ten_hot_switches(tab: Callable[..., Tab], proxy: FaultProxy, server: Served) -> None:
    page = tab(proxy.url, inside=True)
    proxy.rules(Latency(DISTANCE), Rule(Refuse(403), on="ws"))
    view = page.connect({"timing": PROBES})
    opened = view.until(lambda now: now.state == "open", "open")
    assert (opened.transport, opened.why) == ("polling", "refused")
    view.stream({"number": MANY, "rate": RATE})
    page.page.wait_for_timeout(BEFORE * 1000)
    cleared_at = time.time()
    proxy.rules(Latency(DISTANCE))
    for number in range(1, SWITCHES, 2):
        switched(view, number)
        page.page.wait_for_timeout(BETWEEN * 1000)
        view.do(DOWN)
        switched(view, number + 1)
    page.page.wait_for_timeout(BETWEEN * 1000)
    status, _ = view.finish(server)
    delays = all_delays(view, server, status)
    # What arrived before WebSocket worked was carried by polling alone.
    polled = [each for each in delays if each.sent_at + each.delay < cleared_at]
    hot = [each for each in delays if each.sent_at + each.delay >= cleared_at]
    on_polling, switching = longest(polled), longest(hot)
    told = [event for event in status.events if event.type == "transport"]
    nearest = min((switching.sent_at - status.started - event.at for event in told), key=abs)
    print(
        f"longest of {len(polled)} on polling: {on_polling}; of {len(hot)} through "
        f"{len(told) - 1} switches: {switching}, sent {nearest * 1000:.0f} ms from one"
    )
    assert switching.delay <= on_polling.delay + ROUND_TRIP + ALLOWANCE

    # Polling first; then there and back again, and perhaps there once more.
    names = [event.transport for event in told]
    assert names[: SWITCHES + 1] == ["polling", "websocket"] * (SWITCHES // 2) + ["polling"]
    assert [status.count(type) for type in ("open", "reset", "close", "error")] == [1, 0, 0, 0]
    assert opened.id is not None
    view.do("session => session.close(1000, 'done')")
    view.until(lambda now: now.event("close"), "closed")
    assert server.seen(opened.id) == [["connect", None], ["disconnect", 1000, "done"]]
