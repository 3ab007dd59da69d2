"""Polls that the network cuts, replaces or repeats: each costs a retry, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.browser.tabs import Tab
from tests.integration.served import Served
from tests.proxies.fault_process import FaultProxy
from tests.proxies.faults import (
    Cut,
    Duplicate,
    Fault,
    Gateway,
    LoginPage,
    LostReply,
    Reset,
    Truncate,
)
from tests.proxies.journal import busiest
from tests.proxies.rules import Rule

pytestmark = pytest.mark.requires("chromium")

POLL = "^/fallback/poll$"


@dataclass(frozen=True)
class Trouble:
    name: str
    fault: Fault
    every: int = 3


TROUBLES = [
    Trouble("504", Gateway(504)),
    Trouble("reset", Reset()),
    Trouble("truncated", Truncate(0.5)),
    Trouble("truncated unnoticed", Truncate(0.5, visible=False)),
    Trouble("cut in the body", Cut(after_bytes=10)),
    Trouble("login page", LoginPage()),
    Trouble("reply lost", LostReply("rst")),
    Trouble("reply lost fin", LostReply("fin")),
    Trouble("twice at once", Duplicate()),
    Trouble("twice at once, second", Duplicate(answer="second")),
    Trouble("twice after", Duplicate("sequential")),
    Trouble("twice after, second", Duplicate("sequential", answer="second")),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda each: each.name)
def test_trouble(trouble, tab, proxy: FaultProxy, server: Served) -> None:
    page = tab(proxy.url, websocket=False)
    view = page.connect()
    opened = view.until(lambda now: now.state == "open", "open")
    # flow, sporadic
    for every in (0, 3):
        if every:
            proxy.rules(Rule(trouble.fault, on="http", path=POLL, every=every))
        before, sent0, t0 = proxy.statistics(), page.requests(), time.monotonic()
        view.stream({"number": 100000, "rate": 20})
        page.page.wait_for_timeout(2000)
        status, served = view.finish(server)
        proxy.clear()
        after = proxy.statistics()
        reqs = after.requests_to("/fallback/poll") - before.requests_to("/fallback/poll")
        took = time.monotonic() - t0
        struck = sum(after.faults.values()) - sum(before.faults.values())
        print(f"flow every {every}: {took:.1f} s, requests {reqs}, page sent {page.requests()-sent0}, strikes {struck}, up {served['received']}, down {status.stream['received']}")
        view.do("s => s.off('down')")
    # idle, always
    page.page.wait_for_timeout(300)
    proxy.rules(Rule(trouble.fault, on="http", path=POLL))
    proxy.kill()
    t0 = time.monotonic()
    page.page.wait_for_timeout(5000)
    recs = proxy.requests(t0)
    print("idle", [round(r.at - t0, 2) for r in recs], "busiest", busiest(recs), "avg", len(recs) / 5)
    # both lanes
    t0 = time.monotonic()
    view.do("s => s.emit('count', 1)")
    page.page.wait_for_timeout(4000)
    recs = proxy.requests(t0)
    print("both", [round(r.at - t0, 2) for r in recs], "busiest", busiest(recs), "avg", len(recs) / 5)
    proxy.clear()
    view.ask("echo", 1)
    print(server.seen(opened.id))
