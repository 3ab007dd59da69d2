"""Runs an application's own tests; how many passed, in how many seconds of the processor.

Beside each of them, in turns, Flask makes an application and answers a request: what else the
machine does strikes both alike.

python tests/testing/suite.py FOLDER MODE [patched]
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

folder, mode, patched = sys.argv[1], sys.argv[2], sys.argv[3:] == ["patched"]
if patched and mode == "eventlet":
    import eventlet

    eventlet.monkey_patch()
elif patched and mode == "gevent":
    import gevent.monkey

    gevent.monkey.patch_all()

sys.path.insert(0, str(ROOT))

import flask  # noqa: E402
import pytest  # noqa: E402

# What any application's tests import is none of their own time.
import tests.testing_app.app  # noqa: E402, F401


class Clock:
    """Adds up what the tests take, fixtures and all."""

    def __init__(self) -> None:
        self.seconds = self.beside = 0.0
        self.passed = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        began = time.process_time()
        result = yield
        ended = time.process_time()
        self.seconds += ended - began
        log_in_to_flask()
        self.beside += time.process_time() - ended
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed += report.when == "call" and report.passed


def log_in_to_flask() -> None:
    """What Flask takes for the least that a test of an application needs."""
    app = flask.Flask("app")
    app.secret_key = "only for tests"

    @app.post("/login")
    def log_in() -> str:
        flask.session["name"] = flask.request.form["name"]
        return "welcome"

    assert app.test_client().post("/login", data={"name": "ann"}).text == "welcome"


os.environ["ASYNC_MODE"] = mode
clock = Clock()
chosen = [folder, "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
status = pytest.main([*chosen, "-W", "ignore"], plugins=[clock])
threads = [thread.name for thread in threading.enumerate()]
print(json.dumps([int(status), clock.passed, clock.seconds, clock.beside, threads]))
sys.exit(status)
