"""`unsuitable`: what is said of a server that cannot serve the async mode."""

from __future__ import annotations

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
