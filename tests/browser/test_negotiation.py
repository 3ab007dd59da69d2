"""Which transport a page ends up with, how soon, and what it says about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.browser.tabs import Status, Tab, View
from tests.integration.served import Served
from tests.proxies.fault_process import FaultProxy
from tests.proxies.faults import (
    AcceptClose,
    AcceptSilent,
    Blackhole,
    DropDown,
    DropUp,
    Fault,
    Refuse,
    Reset,
)
from tests.proxies.rules import Rule

pytestmark = pytest.mark.requires("chromium")

#: The contract: seconds from connect() to an open session, whatever became of WebSocket.
OPEN_WITHIN = 2.5
#: Seconds that a WebSocket has for its welcome; then there is a verdict.
WELCOME = 2.5
#: What a busy machine may add to a deadline: the stated slack of these tests.
SLACK = 0.5
#: A week of milliseconds: the first probe comes at random within it.
NO_PROBES = {"probe": 6e8, "probeMax": 6e8}
#: Seconds that the slow on_connect takes.
SLOW = 5.0


@dataclass(frozen=True)
class Network:
    """What is done to WebSocket, and what the page is to find."""

    name: str
    #: The reason in `why`.
    why: str
    fault: Fault | None = None
    #: Whether the browser has WebSocket.
    websocket: bool = True
    transport: str = field(default="polling")

    @property
    def judged(self) -> bool:
        """Whether the page remembers something bad of WebSocket."""
        return self.fault is not None

    def rules(self) -> list[Rule]:
        """For the proxy."""
        return [Rule(self.fault, on="ws")] if self.fault else []


NETWORKS = [
    Network("works", "works", transport="websocket"),
    Network("no WebSocket", "unavailable", websocket=False),
    Network("refused 400", "refused", Refuse(400)),
    Network("refused 403", "refused", Refuse(403)),
    Network("refused 502", "refused", Refuse(502)),
    Network("no answer", "unanswered", Blackhole()),
    Network("101, silence", "silent", AcceptSilent()),
    Network("101, silence, by the proxy alone", "silent", AcceptSilent(by="proxy")),
    Network("101, close", "closed", AcceptClose()),
    Network("101, reset", "closed", AcceptClose(by="proxy", how="rst")),
    Network("up dropped", "silent", DropUp()),
    Network("down dropped", "silent", DropDown()),
    Network("reset", "refused", Reset()),
]
EACH = pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)


def settled(view: View, network: Network) -> Status:
    """Wait for the reason: until the page knows what is wrong, it says "proving"."""
    status = view.until(lambda now: now.why == network.why, f"the reason {network.why}")
    event = next(each for each in status.events if each.why == network.why)
    assert event.at <= max(OPEN_WITHIN, WELCOME) + SLACK, event
    return status


def chosen(status: Status, network: Network) -> None:
    """The right transport carries the session, and did in time."""
    first = status.event("transport")
    assert first is not None
    assert first.transport == network.transport
    assert first.at <= OPEN_WITHIN, status.events
    assert status.transport == network.transport
    assert status.count("reset") == status.count("close") == status.count("error") == 0


def remembered(tab: Tab, network: Network) -> None:
    """A bad verdict is kept, with its reason, and nothing else is."""
    verdict = tab.verdict()
    assert (verdict and verdict["reason"]) == (network.why if network.judged else None)


def nothing_polled(proxy: FaultProxy) -> None:
    """No request but the page's own was sent."""
    assert proxy.statistics().requests_to("/fallback/poll") == 0


@EACH
def test_open_in_time(
    network: Network, tab: Callable[..., Tab], proxy: FaultProxy, server: Served
) -> None:
    proxy.rules(*network.rules())
    page = tab(proxy.url, websocket=network.websocket)
    view = page.connect()

    status = view.until(lambda now: now.event("open"), "open")
    opened = status.event("open")
    assert opened is not None
    print(f"open after {opened.at:.3f} s")
    assert opened.at <= OPEN_WITHIN, status.events
    # What the page sees in its onopen handler.
    assert (opened.state, opened.transport) == ("open", network.transport)
    assert view.ask("echo", ["text", network.name]) == ["text", network.name]
    chosen(settled(view, network), network)
    remembered(page, network)

    final = view.status()
    assert (final.state, final.count("open")) == ("open", 1)
    assert view.ask("echo", "again") == "again"
    assert final.id is not None
    assert server.seen(final.id) == [["connect", None]]
    if network.transport == "websocket":
        nothing_polled(proxy)
        assert page.requests() == 0


def test_slow_on_connect(tab: Callable[..., Tab], proxy: FaultProxy, server: Served) -> None:
    """An on_connect of 5 s: the transport is chosen as soon, and nothing is held against it.

    One network after the other; a WebSocket keeps the faults with which it began, so each page
    goes on with its own while the next is tried.
    """
    views: list[tuple[Network, Tab, View]] = []
    for network in NETWORKS:
        before = proxy.statistics().requests_to("/fallback/poll")
        proxy.rules(*network.rules())
        page = tab(proxy.url, websocket=network.websocket)
        # A probe would meet the network of another page.
        view = page.connect({"auth": {"slow": SLOW}, "timing": NO_PROBES})
        status = view.until(lambda now: now.event("transport"), f"a transport: {network.name}")
        chosen(status, network)
        assert status.count("open") == 0
        views.append((network, page, view))
        if network.transport == "websocket":
            nothing_polled(proxy)
        else:
            assert proxy.statistics().requests_to("/fallback/poll") > before

    for network, page, view in views:
        settled(view, network)
        status = view.until(lambda now: now.event("open"), f"open: {network.name}", SLOW + 5)
        opened = status.event("open")
        assert opened is not None
        assert SLOW <= opened.at <= SLOW + OPEN_WITHIN, (network.name, status.events)
        assert status.state == "open"
        chosen(status, network)
        assert status.why == network.why
        remembered(page, network)
        assert view.ask("echo", network.name) == network.name
        assert status.id is not None
        assert server.seen(status.id) == [["connect", {"slow": SLOW}]]


def test_the_verdict_is_kept_for_the_next_page(
    profile: Callable[..., Callable[[str], Tab]], proxy: FaultProxy
) -> None:
    """Another page of the same profile asks for no WebSocket, and says why."""
    proxy.rules(Rule(Blackhole(), on="ws"))
    opened = profile()
    first = opened(proxy.url).connect({"timing": NO_PROBES})
    settled(first, Network("", "unanswered"))
    before = proxy.statistics().websockets
    view = opened(proxy.url).connect({"timing": NO_PROBES})
    status = view.until(lambda now: now.event("open"), "open")
    assert (status.transport, status.why) == ("polling", "unanswered")
    assert proxy.statistics().websockets == before
