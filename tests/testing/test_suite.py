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

#: What a test may take, by what Flask takes to make an application and to answer one request. The
#: same tests took 0.7 to 1.5 s of one machine within an hour, and 6.6 to 7.6 times as much as this.
MOST = 8.5


@pytest.mark.parametrize("how", ["threading", "eventlet patched", "gevent patched"])
def test_a_suite_takes_a_few_times_what_flask_takes(how: str, need: Callable[[str], str]) -> None:
    if how.startswith("gevent"):
        need("gevent")
    passed, seconds, beside, threads = suite(HERE.parent / "testing_app", how)
    assert passed >= 30
    assert seconds < MOST * beside
    assert len(threads) == 1


@pytest.mark.parametrize("how", ["threading", "eventlet patched", "gevent patched"])
def test_that_of_an_application_written_for_flask_socketio_takes_less_than_a_second(
    how: str, tmp_path: Path, need: Callable[[str], str]
) -> None:
    if how.startswith("gevent"):
        need("gevent")
    passed, seconds, _, threads = suite(changed_application(tmp_path), how)
    assert passed >= 20
    assert f"its {passed} tests" in TESTING.text
    assert seconds < 1.0
    assert len(threads) == 1


def suite(folder: Path, how: str) -> tuple[int, float, float, list[str]]:
    """How many tests of a folder pass, in how many seconds, and the threads at their end.

    The seconds are the processor's, so that a busy machine does not count; all must pass. Behind
    them those that Flask took beside, see `suite.py`.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / "suite.py"), str(folder), *how.split()],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    status, passed, seconds, beside, threads = json.loads(done.stdout.splitlines()[-1])
    assert status == 0
    print(f"{passed} tests in {seconds:.3f} s, {seconds / beside:.1f} times what Flask took beside")
    return passed, seconds, beside, threads
