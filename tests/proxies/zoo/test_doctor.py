"""Behind each proxy, the doctor finds what its entry says, and nothing else.

All that were chosen run at once, and are examined at once: what takes time is waiting.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import pytest

from fallback_transport.doctor.examination import Examination
from fallback_transport.doctor.findings import diagnose, kinds
from fallback_transport.doctor.route import Route
from tests.integration.served import Served

from . import ZOO, Hop, addresses
from .parallel import each_chosen, parameter

pytestmark = pytest.mark.integration

#: Seconds of silence, beyond the 5 s after which some of them end it.
IDLE = 7.0


def route(hop: Hop) -> Route:
    """As a client is told of the hop."""
    proxy = hop.proxy
    if proxy and hop.credentials:
        proxy = proxy.replace("//", "//" + ":".join(hop.credentials) + "@")
    return Route(hop.url + "/fallback", hop.ca, {"http": proxy, "https": proxy} if proxy else {})


@pytest.fixture(scope="module")
def examined(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Any]]]:
    """What is observed behind each proxy whose test was chosen and that is installed."""

    def examine(name: str, hop: Hop) -> Any:
        return Examination(route(hop), IDLE).observe()

    with (
        Served(host=addresses.server_address()) as server,
        each_chosen(request, server.port, examine) as seen,
    ):
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
