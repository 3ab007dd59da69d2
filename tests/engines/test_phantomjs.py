"""A browser of 2013: open in time and nothing lost, where WebSocket works and where it does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engines import ENGINES
from tests.engines.audit import audit
from tests.integration.served import Served
from tests.proxies.fault_process import FaultProxy

pytestmark = pytest.mark.requires("phantomjs")

#: Seconds from connect() to onopen: the contract's.
OPEN_WITHIN = 2.5
#: Messages each way: all sizes of both kinds twice.
NUMBER = 80


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with Served("eventlet", module="tests.engines.application") as served:
        yield served


@pytest.fixture(scope="module")
def proxy(server: Served) -> Iterator[FaultProxy]:
    with FaultProxy(server.port) as started:
        yield started


@pytest.mark.parametrize(
    ("engine", "scenario", "transport", "reason"),
    [
        ("phantomjs", "clear", "websocket", "works"),
        ("phantomjs-without-websocket", "clear", "polling", "unavailable"),
        ("phantomjs", "accept_silent", "polling", "silent"),
        ("phantomjs", "refuse_upgrade", "polling", "refused"),
    ],
)
def test_open_in_time_and_exact(
    engine: str, scenario: str, transport: str, reason: str, server: Served, proxy: FaultProxy
) -> None:
    proxy.scenario(scenario)
    run = f"{engine}-{scenario}"
    ENGINES[engine].run(f"{proxy.url}/run/{run}/?number={NUMBER}", timeout=60)
    outcome = audit(server.get(f"/record?run={run}"), NUMBER)
    print(outcome)
    assert outcome.exact, outcome
    assert (outcome.transport, outcome.reason) == (transport, reason)
    assert outcome.opened is not None
    assert outcome.opened <= OPEN_WITHIN * 1000
