"""What is said of a server that cannot serve the async mode, and of what is missing for it."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import eventlet
import pytest

from fallback_transport.runtime.suitability import missing, unsuitable

THREADS = {"SERVER_SOFTWARE": "toy/1", "wsgi.multithread": True}


def test_threads_suit_threads_alone() -> None:
    assert unsuitable("threading", THREADS) is None
    for mode in ("eventlet", "gevent"):
        said = unsuitable(mode, THREADS) or ""
        assert "on toy/1, whose requests run in threads: serve with transport.run(app)" in said
        assert said.endswith('; or set async_mode to "threading", as this server has it')


@pytest.mark.parametrize("mode", ["eventlet", "gevent", "threading"])
def test_one_request_at_a_time_suits_no_mode(mode: str) -> None:
    said = unsuitable(mode, {**THREADS, "wsgi.multithread": False}) or ""
    assert "toy/1 answers one request at a time here" in said
    assert "serve with transport.run(app)" in said
    assert "async_mode" not in said


@pytest.mark.parametrize(
    ("server", "threads", "suits"),
    [("gunicorn/23.0.0", 1, False), ("gunicorn/23.0.0", 2, True), ("toy/1", 1, True)],
)
def test_of_threads_one_is_too_few(
    server: str, threads: int, suits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Worker:
        cfg = SimpleNamespace(threads=threads)

        def handle_quit(self, number: int, frame: object) -> None:
            pass

    monkeypatch.setattr(signal, "getsignal", lambda number: Worker().handle_quit)
    said = unsuitable("threading", {**THREADS, "SERVER_SOFTWARE": server})
    assert (said is None) == suits
    assert suits or f"{server} answers one request at a time here" in (said or "")


RUN: dict[str, Callable[[Callable[[], Any]], Any]] = {
    "eventlet": lambda call: eventlet.spawn(call).wait(),
    # Both are imported, and this one's hub runs.
    "gevent": lambda call: importlib.import_module("gevent").spawn(call).get(),
}


@pytest.mark.requires("gevent")
@pytest.mark.parametrize("carrier", RUN)
@pytest.mark.parametrize("patched", [False, True])
def test_greenlets_suit_their_own_mode_and_threads_that_they_are(
    carrier: str, patched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if patched:
        lock = type("Lock", (), {"__module__": f"{carrier}.locks"})
        monkeypatch.setattr(threading, "Lock", lock)
    for mode in ("eventlet", "gevent", "threading"):
        # Of greenlets there are always more, whatever the server says of threads.
        said = RUN[carrier](lambda mode=mode: unsuitable(mode, {}))
        if mode == carrier or (patched and mode == "threading"):
            assert said is None
            continue
        assert f"does not work on this WSGI server, whose requests run in {carrier}'s " in said
        cure = f'"{carrier}" or "threading"' if patched else f'"{carrier}"'
        assert said.endswith(f"; or set async_mode to {cure}, as this server has it")
    # The thread that runs their hub is none of them.
    assert unsuitable("threading", THREADS) is None


def test_what_is_installed_and_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing("eventlet") is None
    # What is None there cannot be imported.
    monkeypatch.setitem(sys.modules, "engineio.async_drivers.eventlet", None)
    said = missing("eventlet") or ""
    assert said.startswith("async mode 'eventlet' needs eventlet, which cannot be imported (")
    assert "(import of engineio.async_drivers.eventlet halted" in said
    assert 'pip install "eventlet>=' in said
    assert said.endswith('; or set async_mode to "gevent" or "threading"')
