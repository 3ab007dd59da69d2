"""Every message arrives once and in order, while the network is torn down again and again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.browser.payloads import Payloads
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
    Latency,
    Refuse,
    Reset,
)
from tests.proxies.rules import Rule

pytestmark = pytest.mark.requires("chromium")

MESSAGES = 5000
TOTAL = 20_000_000
KILLS = 50
CHANGES = 10
#: The most that a mode may take, in seconds.
AT_MOST = 180.0
#: Seconds without any progress after which it is pointless to wait on.
STALLED = 30.0
#: Messages a second each way: it spreads the kills over half a minute and more.
RATE = 170
BLOCKED: list[Fault] = [
    Refuse(403),
    Refuse(502),
    Reset(),
    Blackhole(),
    AcceptClose(),
    AcceptSilent(),
    DropUp(),
    DropDown(),
]
#: On a loopback next to nothing would be under way when a connection is killed.
DISTANCE = Latency(0.02)
#: Probes soon and often; and no verdict "unstable", which would end the changes.
TIMING = {"probe": 500, "probeMax": 1000, "deaths": 1_000_000}


@dataclass
class Storm:
    """Kills and changes of path, at random points of the messages' progress."""

    view: View
    proxy: FaultProxy
    dice: random.Random
    kills: int = 0
    changes: int = 0
    blocked: bool = False
    killed: dict[str, int] = field(default_factory=dict)

    def run(self, deadline: float) -> Status:
        """Raise it until all messages have arrived."""
        points = sorted(
            [(self.dice.uniform(0.01, 0.98), "kill") for _ in range(KILLS)]
            + [((i + 1) / (CHANGES + 1), "change") for i in range(CHANGES)]
        )
        for point, what in points:
            carried = self._carried(point, deadline)
            if what == "change":
                self._change(deadline)
            else:
                self._kill(carried)
        return self._carried(1.0, deadline)

    def _carried(self, progress: float, deadline: float) -> Status:
        """Wait until that share of all messages has arrived, and a connection carries."""

        moved, most = time.monotonic(), 0

        def reached(now: Status) -> bool:
            nonlocal moved, most
            assert now.stream is not None
            assert not now.stream["wrong"], now.stream["wrong"]
            # Up, the server confirms what it has handled; in bytes, of which a message has 4,000.
            arrived = now.stream["received"] + now.stream["sent"] - now.buffered // 4000
            if arrived > most:
                moved, most = time.monotonic(), arrived
            assert time.monotonic() - moved < STALLED, f"nothing moves any more: {now}"
            return arrived >= progress * 2 * MESSAGES and now.state == "open"

        left = deadline - time.monotonic()
        return self.view.until(reached, f"{progress:.0%} of the messages", left)

    def _kill(self, carried: Status) -> None:
        assert carried.transport is not None
        # Not always at the moment at which something has just arrived.
        self.view.tab.page.wait_for_timeout(self.dice.uniform(0, 50))
        # Without a live connection nothing was killed; it counts when one is.
        self.view.until(
            lambda now: self.proxy.kill(self.dice.choice(("rst", "fin"))), "a connection to kill"
        )
        self.kills += 1
        self.killed[carried.transport] = self.killed.get(carried.transport, 0) + 1

    def _change(self, deadline: float) -> None:
        """Block WebSocket, in one way or another, or let it work again; wait for the effect."""
        self.blocked = not self.blocked
        if self.blocked:
            self.proxy.rules(DISTANCE, Rule(self.dice.choice(BLOCKED), on="ws"))
            # What is open would go on.
            self.proxy.kill()
        else:
            self.proxy.rules(DISTANCE)
        expected = "polling" if self.blocked else "websocket"
        left = min(20.0, deadline - time.monotonic())
        self.view.until(lambda now: now.transport == expected, f"a switch to {expected}", left)
        self.changes += 1


@pytest.mark.parametrize(
    "mode",
    [
        "eventlet",
        pytest.param("gevent", marks=pytest.mark.requires("gevent")),
        "threading",
    ],
)
def test_fifty_kills_and_ten_changes(
    mode: str, tab: Callable[..., Tab], rng: random.Random
) -> None:
    seed = str(rng.getrandbits(32))
    up, down = (Payloads(f"{seed} {way}", MESSAGES) for way in ("up", "down"))
    assert all(abs(sum(way.sizes) - TOTAL) < 0.02 * TOTAL for way in (up, down))
    with (
        Served(mode, module="tests.browser.application") as server,
        FaultProxy(server.port) as proxy,
    ):
        page = tab(proxy.url)
        proxy.rules(DISTANCE)
        view = page.connect({"timing": TIMING})
        opened = view.until(lambda now: now.state == "open", "open")
        assert opened.id is not None
        started = time.monotonic()
        plan = {"seed": seed, "number": MESSAGES, "rate": RATE, "ask_every": 25}
        view.stream(plan, up.to_json(), down.to_json())

        storm = Storm(view, proxy, random.Random(seed))
        status = storm.run(started + AT_MOST)
        proxy.clear()
        status = view.until(lambda now: now.buffered == 0, "everything confirmed")
        took = time.monotonic() - started

        mine, served = status.stream, server.get(f"/stream?brief&session={opened.id}")
        assert mine is not None
        switches = status.count("transport")
        print(
            f"{mode}, seed {seed}: {took:.1f} s, {storm.kills} kills {storm.killed}, "
            f"{storm.changes} changes, {switches} transports told, "
            f"{served['bytes']} up, {mine['bytes']} down"
        )
        assert (mine["wrong"], served["wrong"]) == ([], [])
        assert mine["received"] == served["received"] == served["sent"] == mine["sent"] == MESSAGES
        assert mine["replies"] == {"asked": MESSAGES // 25, "got": MESSAGES // 25, "wrong": []}
        assert (storm.kills, storm.changes) == (KILLS, CHANGES)
        assert set(storm.killed) == {"websocket", "polling"}
        assert switches >= CHANGES
        # One session, whatever happened to its connections.
        assert status.id == opened.id
        assert [status.count(type) for type in ("open", "reset", "close", "error")] == [1, 0, 0, 0]
        assert server.seen(opened.id) == [["connect", None]]
        assert took <= AT_MOST

        view.do("session => session.close(1000, 'done')")
        view.until(lambda now: now.event("close"), "closed")
        assert server.seen(opened.id) == [["connect", None], ["disconnect", 1000, "done"]]
