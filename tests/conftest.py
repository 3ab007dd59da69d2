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

from tests.needs import INTEGRATION_NEEDS, NEEDS, TESTS, ZOO_NEEDS, MissingError, find

SEED = pytest.StashKey[int]()


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
    config.stash[SEED] = seed
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(seed)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Print what it takes to run this again, and what is left out."""
    lines = [f"random seed: {config.stash[SEED]} (again: --seed={config.stash[SEED]})"]
    if skips := config.getoption("--skip"):
        lines.append(f"skipping what needs: {', '.join(skips)}")
    return lines


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a browser or a proxy, and what needs the whole zoo of them."""
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
    if tally and reporter:
        with Path(tally).open("a") as file:
            for word in ("passed", "skipped"):
                print(word, len(reporter.stats.get(word, [])), file=file)


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
