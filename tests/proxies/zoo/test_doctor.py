"""Behind each proxy, the doctor finds what its entry says, and nothing else.

All that were chosen run at once, and are examined at once: what takes time is waiting.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from fallback_transport.doctor.examination import Examination
from fallback_transport.doctor.findings import diagnose, kinds
from fallback_transport.doctor.route import Route
from tests.integration.served import Served

from . import ZOO, Hop, addresses

pytestmark = pytest.mark.integration

#: Seconds of silence, beyond the 5 s after which some of them end it.
IDLE = 7.0


def parameter(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.requires(*ZOO[name].needs))


def route(hop: Hop) -> Route:
    """As a client is told of the hop."""
    proxy = hop.proxy
    if proxy and hop.credentials:
        proxy = proxy.replace("//", "//" + ":".join(hop.credentials) + "@")
    return Route(hop.url + "/fallback", hop.ca, {"http": proxy, "https": proxy} if proxy else {})


@pytest.fixture(scope="module")
def examined(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Any]]]:
    """What is observed behind each proxy whose test was chosen and that is installed."""
    chosen = {
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and "examined" in item.fixturenames
    }
    seen: dict[str, Future[Any]] = {}
    with ExitStack() as stack:
        server = stack.enter_context(Served(host=addresses.server_address()))
        threads = ThreadPoolExecutor(len(chosen))
        for name in [name for name in ZOO if name in chosen]:
            try:
                hop = stack.enter_context(ZOO[name].start(server.port))
            except Exception as error:  # of this proxy, which its own test is to tell
                seen[name] = Future()
                seen[name].set_exception(error)
            else:
                seen[name] = threads.submit(Examination(route(hop), IDLE).observe)
        # They are done before the proxies are ended.
        stack.callback(threads.shutdown)
        yield seen


@pytest.mark.parametrize("name", [parameter(name) for name in ZOO])
def test_what_the_doctor_finds(name: str, examined: Mapping[str, Future[Any]]) -> None:
    observations = examined[name].result()
    print(json.dumps(observations))
    assert " ".join(diagnose(observations).codes) == ZOO[name].findings


def test_every_entry_has_findings() -> None:
    for entry in ZOO.values():
        assert entry.findings
        assert set(entry.findings.split()) <= set(kinds())
