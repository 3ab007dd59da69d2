"""The tests of small applications, with the shipped client: in every async mode, and quickly."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.documents import TESTING
from tests.tutorial.change import changed_application

HERE = Path(__file__).parent


@pytest.mark.parametrize("how", ["threading", "eventlet patched", "gevent patched"])
def test_a_suite_takes_less_than_a_second(how: str, need: Callable[[str], str]) -> None:
    if how.startswith("gevent"):
        need("gevent")
    passed, seconds, threads = suite(HERE.parent / "testing_app", how)
    assert passed >= 30
    assert seconds < 1.0
    assert len(threads) == 1


@pytest.mark.parametrize("how", ["threading", "eventlet patched", "gevent patched"])
def test_so_does_that_of_an_application_written_for_flask_socketio(
    how: str, tmp_path: Path, need: Callable[[str], str]
) -> None:
    if how.startswith("gevent"):
        need("gevent")
    passed, seconds, threads = suite(changed_application(tmp_path), how)
    assert passed >= 20
    assert f"its {passed} tests" in TESTING.text
    assert seconds < 1.0
    assert len(threads) == 1


def suite(folder: Path, how: str) -> tuple[int, float, list[str]]:
    """How many tests of a folder pass, in how many seconds, and the threads at their end.

    The seconds are the processor's, so that a busy machine does not count; all must pass.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / "suite.py"), str(folder), *how.split()],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    status, passed, seconds, threads = json.loads(done.stdout.splitlines()[-1])
    assert status == 0
    print(f"{passed} tests in {seconds:.3f} s")
    return passed, seconds, threads
