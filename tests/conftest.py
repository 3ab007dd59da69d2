"""One seed for every random test, and a rule for what may be missing.

A test says what it needs: ``@pytest.mark.requires("chromium")``, or
``need("chromium")``, the fixture, which also returns where it is. What is
missing fails the test; ``--skip NAME`` skips it, and the report says so.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.needs import INTEGRATION_NEEDS, NEEDS, TESTS, ZOO_NEEDS, MissingError, find

SEED = pytest.StashKey[int]()

# What Hypothesis tests here takes microseconds; a machine that is busy is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

#: The files that take longest, side by side and in pairs, each the longest first. One that is
#: begun last is waited for at the end, when the other workers have nothing left to do.
LONGEST = (
    *("test_compiled.py", "integration/test_hostile.py", "integration/test_overload.py"),
    *("integration/test_transports.py",),
    *("integration/test_sessions.py", "integration/test_shutdown.py"),
    *("integration/test_handed_in.py", "integration/test_launch.py"),
    *("integration/test_waiting.py", "integration/test_bindings.py"),
    *("integration/test_handlers.py", "doctor/test_terminal.py"),
    *("integration/test_emitting.py", "test_readme.py", "testing/test_suite.py"),
    *("integration/test_demo.py", "browser/test_exactly_once.py", "browser/test_tutorial.py"),
    *("browser/test_poll_faults.py", "soak/test_soak.py", "browser/test_negotiation.py"),
    *("browser/test_reload.py", "browser/test_sleep.py"),
    *("browser/test_sessions.py", "browser/test_half_open.py", "browser/test_doctor.py"),
    *("browser/test_restarts.py", "browser/test_websocket_interface.py", "browser/test_cuts.py"),
    *("browser/test_many_tabs.py", "browser/test_proxies.py"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options of this test suite."""
    parser.addoption("--seed", type=int, help="the seed of every random test")
    parser.addoption(
        "--skip",
        action="append",
        choices=list(NEEDS),
        default=[],
        help="skip what needs this, instead of failing where it is missing",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed, before Hypothesis reads it."""
    seed = config.getoption("--seed")
    if seed is None:
        seed = random.SystemRandom().randrange(2**32)
    # Where pytest-xdist's workers read it.
    config.stash[SEED] = config.option.seed = seed
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(seed)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Print what it takes to run this again, and what is left out."""
    lines = [f"random seed: {config.stash[SEED]} (again: --seed={config.stash[SEED]})"]
    if skips := config.getoption("--skip"):
        lines.append(f"skipping what needs: {', '.join(skips)}")
    return lines


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs a browser or a proxy, and what needs the whole zoo of them.

    And let a worker have the longest files first; `--no-loadscope-reorder` keeps them so.
    """
    if is_worker(config):
        places = {TESTS / name: place for place, name in enumerate(LONGEST)}
        if gone := [str(file) for file in places if not file.exists()]:
            raise pytest.UsageError(f"tests/conftest.py sorts by files that are gone: {gone}")
        items.sort(key=lambda item: places.get(item.path, len(places)))
    for item in items:
        needs = {name for mark in item.iter_markers("requires") for name in mark.args}
        if item.path.is_relative_to(TESTS / "integration") or needs & INTEGRATION_NEEDS:
            item.add_marker("integration")
        if needs & ZOO_NEEDS:
            item.add_marker("zoo")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for what a test requires, before any fixture is made."""
    for mark in item.iter_markers("requires"):
        for name in mark.args:
            _need(item.config, name)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave the numbers of passed and skipped tests for tests/run."""
    tally = os.environ.get("FALLBACK_TRANSPORT_TALLY")
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if tally and reporter and not is_worker(session.config):
        with Path(tally).open("a") as file:
            for word in ("passed", "skipped"):
                print(word, len(reporter.stats.get(word, [])), file=file)


def is_worker(config: pytest.Config) -> bool:
    """Whether this is one of pytest-xdist's workers; what they count, pytest itself counts too."""
    return hasattr(config, "workerinput")


@pytest.fixture
def need(pytestconfig: pytest.Config) -> Callable[[str], str]:
    """A function that returns where something needed is, or ends the test."""
    return lambda name: _need(pytestconfig, name)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Randomness for one test: by the seed and its name, not by what ran before."""
    return random.Random(f"{request.config.stash[SEED]} {request.node.nodeid}")


def _need(config: pytest.Config, name: str) -> str:
    skips = config.getoption("--skip")
    # npm's packages run on Node.js.
    if name in skips or (name == "npm" and "node" in skips):
        pytest.skip(f"needs {name}: left out by --skip")
    try:
        return find(name)
    except MissingError as error:
        missing = f"{error} (or leave it out by --skip {name})"
    pytest.fail(missing, pytrace=False)
