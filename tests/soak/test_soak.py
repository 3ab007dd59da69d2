"""One minute of the soak; the hour is run before a release."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from .run import PATHS, Options, run


@pytest.mark.integration
@pytest.mark.requires("node", "npm")
def test_a_minute_of_every_fault(
    rng: random.Random, need: Callable[[str], str], pytestconfig: pytest.Config
) -> None:
    tabs = 2
    if "chromium" in pytestconfig.getoption("--skip"):
        tabs = 0
    else:
        need("chromium")
    seed = str(rng.getrandbits(32))
    figures = run(Options(minutes=1, sessions=4 * PATHS, seed=seed, tabs=tabs), print)
    print(figures.line())
    assert figures.violations == []
    assert figures.tabs == tabs
    # That something was carried, and something went wrong, is what makes it a test.
    report = figures.report
    assert min(report.total("got", "up"), report.total("got", "down")) > 1000
    assert figures.kills >= 20
    assert len(figures.faults) >= 12
    assert figures.replayed > 0
    assert figures.dropped > 0
