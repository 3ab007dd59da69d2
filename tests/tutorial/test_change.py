"""What the change is: few lines, and those that MIGRATING.md and the README ask for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.documents import MIGRATING, README, ROOT

from .change import APPLICATION, PAGE, PROGRAM, application, changed_application, difference


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return changed_application(tmp_path)


def test_the_program_gets_the_two_lines_that_are_documented(copy: Path) -> None:
    gone, come = difference(copy, PROGRAM)
    assert gone == []
    documented = MIGRATING.text.splitlines()
    new = [line.removesuffix("# new").rstrip() for line in documented if line.endswith("# new")]
    assert come == new
    assert [f"+{line}" in README.text.splitlines() for line in come] == [True, True]


def test_the_page_gets_another_script_and_other_lines_that_connect(copy: Path) -> None:
    gone, come = difference(copy, PAGE)
    assert len(gone) == len(come) == 3
    connects = [line for line in (APPLICATION / PAGE).read_text().splitlines() if "io(" in line]
    assert gone[0] == '<script src="https://cdn.socket.io/4.8.4/socket.io.min.js"></script>'
    assert gone[1:] == connects
    documented = README.text + MIGRATING.text
    assert [line.strip() in documented for line in come[:2]] == [True, True]
    assert come[2].strip().removeprefix("var admin = FallbackTransport.").rstrip(";") in documented


@pytest.mark.parametrize("made", [application, changed_application], ids=["before", "after"])
def test_the_tests_that_it_had_pass_before_and_after(
    made: Callable[[Path], Path], tmp_path: Path
) -> None:
    """Those with the shipped client are in ``tests/testing/test_suite.py``."""
    own = "test_handlers.py"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pytest", "-q", "-p", "no:cacheprovider", own],
        cwd=made(tmp_path),
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )
    assert "4 passed" in done.stdout, done.stdout + done.stderr
