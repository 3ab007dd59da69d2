"""Fixtures that several test modules make: a server for each async mode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.served import MODES, OVER_WSGI, Served

MODE_PARAMS = [
    pytest.param(mode, marks=[pytest.mark.requires("gevent")] if mode == "gevent" else [])
    for mode in MODES
]
#: And both bindings of eventlet's; for what the bindings could do differently.
BINDING_PARAMS = [*MODE_PARAMS, OVER_WSGI]
TRANSPORTS = ("websocket", "polling")

#: What a handler of the test application says when it raises because it was told to.
TOLD = "was told to raise"


def served_fixture(params: list[Any] = MODE_PARAMS, **options: Any) -> Any:
    """A fixture: one server process for each async mode and module.

    At its end nothing may have failed that was not told to.
    """

    @pytest.fixture(scope="module", params=params)
    def served(request: pytest.FixtureRequest) -> Iterator[Served]:
        with Served(request.param, **options) as server:
            yield server
            log = server.log()
            assert not unexpected(log), log

    return served


def unexpected(log: str) -> list[str]:
    """The last lines of the tracebacks in a log that nobody asked for."""
    found: list[str] = []
    inside = False
    for line in log.splitlines():
        if line.startswith("Traceback (most recent call last)"):
            inside = True
        elif inside and line and not line[0].isspace():
            inside = False
            found.append(line)
        elif line.startswith(("During handling of the above", "The above exception was")):
            # What counts is the exception that came out of it.
            found.pop()
    return [line for line in found if TOLD not in line]
