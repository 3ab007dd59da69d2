"""A page with a strict Content-Security-Policy works: nothing inline, nothing evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.engines import ENGINES
from tests.engines.audit import audit
from tests.integration.served import Served

#: What counts as the page's own includes its WebSockets, by today's standard.
POLICY = "default-src 'self'; report-uri /violation"
#: Messages each way: all sizes of both kinds.
NUMBER = 40


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with Served("eventlet", module="tests.engines.application", policy=POLICY) as served:
        yield served


def visit(engine: str, url: str) -> None:
    """In a thread of its own: another test's Playwright may have an event loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(ENGINES[engine].run, url).result()


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(name, marks=pytest.mark.requires(*ENGINES[name].needs))
        for name in (
            *("chromium", "chromium-without-websocket"),
            *("firefox", "firefox-without-websocket"),
        )
    ],
)
def test_nothing_is_violated(engine: str, server: Served) -> None:
    before = server.get("/violations")
    visit(engine, f"{server.url}/run/{engine}/?number={NUMBER}")
    outcome = audit(server.get(f"/record?run={engine}"), NUMBER)
    assert outcome.exact, outcome
    assert outcome.transport == ("websocket" if ENGINES[engine].websocket else "polling")
    assert server.get("/violations") == before


@pytest.mark.requires("chromium")
def test_a_violation_is_seen(server: Served) -> None:
    """The other test can fail: a page with a script in it is told of."""
    before = server.get("/violations")
    visit("chromium", f"{server.url}/run/inline/?number=1&inline=1")
    assert len(server.get("/violations")) > len(before)
