"""The fault proxy of this repository, as entries: what no product can be told to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.proxies.fault_process import FaultProxy
from tests.proxies.scenarios import scenario_rules

from . import addresses
from .entry import Entry, Hop, Kind

#: The page and its script come as they are.
_DOORS = r"^/fallback/(doctor/)?(ws|poll)"


def _scripted(name: str, title: str, *scenarios: str, findings: str) -> Entry:
    @contextmanager
    def run(upstream: int) -> Iterator[Hop]:
        address = addresses.open_address()
        rules = scenario_rules(*scenarios, path=_DOORS)
        with FaultProxy(upstream, rules, host=address) as proxy:
            yield Hop(f"http://{address}:{proxy.port}", pids=(proxy.pid,))

    return Entry(name, f"fault proxy: {title}", Kind.REVERSE, findings=findings, run=run)


SCRIPTED = (
    _scripted(
        "fault-accept-silent", "101, then silence", "accept_silent", findings="ws-silent poll-ok"
    ),
    _scripted(
        "fault-drop-up",
        "101, drops what the page sends",
        "drop_up",
        findings="ws-up-blocked poll-ok",
    ),
    _scripted(
        "fault-drop-down",
        "101, drops what the server sends",
        "drop_down",
        findings="ws-down-blocked poll-ok",
    ),
    _scripted(
        "fault-swallow-upgrade",
        "the upgrade is never answered",
        "swallow_upgrade",
        findings="ws-unanswered poll-ok",
    ),
    _scripted(
        "fault-reset-upgrade", "the upgrade is reset", "reset_upgrade", findings="ws-reset poll-ok"
    ),
    _scripted(
        "fault-duplicate-posts",
        "no WebSocket, every POST twice",
        "refuse_upgrade",
        "duplicate_posts",
        findings="ws-refused poll-ok repeated",
    ),
    _scripted(
        "fault-drop-responses",
        "no WebSocket, one answer in five is lost",
        "refuse_upgrade",
        "drop_responses",
        findings="ws-refused poll-ok poll-unreliable",
    ),
)
