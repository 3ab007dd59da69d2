"""The tests of a small application, with the shipped client: in every async mode, and quickly."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize("how", ["threading", "eventlet patched", "gevent patched"])
def test_a_suite_takes_less_than_a_second(how: str, need: Callable[[str], str]) -> None:
    if how.startswith("gevent"):
        need("gevent")
    suite = Path(__file__).with_name("suite.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(suite), *how.split()],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    status, passed, seconds, threads = json.loads(done.stdout.splitlines()[-1])
    assert status == 0
    assert passed >= 30
    # Of the processor's time, so that a busy machine does not count.
    assert seconds < 1.0
    assert len(threads) == 1
