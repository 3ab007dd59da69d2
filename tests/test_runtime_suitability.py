"""`unsuitable`: what is said of a server that cannot serve the async mode."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest

from fallback_transport.runtime.suitability import unsuitable

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
