"""Networks that cut what is held, silent or old: what the session learns of them.

The times are those of real proxies, 5 to 30 s; here they are 5 s, and
``CUT_AFTER`` is for trying the others. tests/js/cuts.test.mjs has all of them,
by a clock that need not wait.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.browser.tabs import Tab, View
from tests.integration.served import Served
from tests.proxies.fault_process import FaultProxy
from tests.proxies.faults import Cut, CutIdle, Gateway
from tests.proxies.rules import Rule

pytestmark = pytest.mark.requires("chromium")

#: Seconds.
AFTER = float(os.environ.get("CUT_AFTER", "5"))
#: Seconds until every network has had its chance to cut: silence is asked about, and polls are
#: held, for twice as long each time; a WebSocket dies three times.
LEARNING = 3.4 * AFTER
#: What they must then live through without a cut.
LEARNED = 1.5 * AFTER
#: The contract: at most so many are cut.
CUTS = 3
#: Seconds that a message may take on loopback, two round trips included; a busy machine's slack.
PROMPT = 0.3


@dataclass
class Network:
    """One network that cuts, and the session on it."""

    name: str
    proxy: FaultProxy
    view: View
    #: Seconds that each reply took.
    delays: list[float] = field(default_factory=list)
    #: Seconds after the beginning, of all that was cut while it learned, and since.
    cuts: list[float] = field(default_factory=list)

    def note(self, started: float) -> None:
        """Look at what was cut so far."""
        seen = sum(self.proxy.statistics().faults.values())
        self.cuts += [time.monotonic() - started] * (seen - len(self.cuts))


NETWORKS: dict[str, tuple[Rule, bool]] = {
    "504": (Rule(Gateway(504, after=AFTER), method="POST", path="poll$"), False),
    "reset": (Rule(Cut(after=AFTER, how="rst"), method="POST", path="poll$"), False),
    "end": (Rule(Cut(after=AFTER, how="fin"), method="POST", path="poll$"), False),
    "idle WebSocket": (Rule(CutIdle(AFTER), on="ws"), True),
    "idle WebSocket, reset": (Rule(CutIdle(AFTER, how="rst"), on="ws"), True),
    "old WebSocket": (Rule(Cut(after=AFTER), on="ws"), True),
}


@pytest.fixture
def networks(tab: Callable[..., Tab], server: Served) -> Iterator[list[Network]]:
    """All of them side by side."""
    with ExitStack() as stack:
        made = []
        for name, (rule, websocket) in NETWORKS.items():
            proxy = stack.enter_context(FaultProxy(server.port))
            proxy.rules(rule)
            view = tab(proxy.url, websocket=websocket).connect()
            made.append(Network(name, proxy, view))
        for network in made:
            network.view.until(lambda now: now.state == "open", "open")
        yield made


def talk(network: Network) -> None:
    """One message up, and its reply down."""
    asked = time.monotonic()
    assert network.view.ask("echo", asked) == asked
    network.delays.append(time.monotonic() - asked)


def test_what_cuts_is_learned(networks: list[Network], server: Served) -> None:
    [old] = [each for each in networks if each.name == "old WebSocket"]
    page = old.view.tab.page
    started = time.monotonic()
    while (passed := time.monotonic() - started) < LEARNING + LEARNED:
        for each in networks:
            each.note(started)
        if passed < LEARNING:
            # The others are left alone, so that they fall silent; this one is cut whatever flows.
            talk(old)
        page.wait_for_timeout(500)
    for each in networks:
        talk(each)
        status = each.view.status()
        print(
            f"{each.name} after {AFTER:.0f} s: cut at {[round(at) for at in each.cuts]} s of "
            f"{LEARNING + LEARNED:.0f}; {status.text}; reply in {each.delays[-1] * 1000:.0f} ms"
        )
    for each in networks:
        status = each.view.status()
        assert len(each.cuts) <= CUTS, each.name
        # Polls are held for 25 s at most, and WebSockets asked after 24 s.
        assert each.cuts or AFTER > 24, each.name
        assert all(at <= LEARNING for at in each.cuts), each.name
        assert each.delays[-1] <= PROMPT, each.name
        assert status.transport == ("websocket" if "idle" in each.name else "polling"), each.name
        assert [status.count(type) for type in ("open", "reset", "close")] == [1, 0, 0], each.name
        assert status.id is not None
        assert server.seen(status.id) == [["connect", None]]
    assert old.view.status().why == "unstable"
