"""The option `metrics`: the page that Prometheus reads, and who may."""

from __future__ import annotations

import sys
import threading
from typing import Any

import flask
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fallback_transport import FallbackTransport
from fallback_transport.metrics import Metrics
from fallback_transport.stats import Stats

STATS: dict[str, Any] = {
    "sessions": {"websocket": 3, "polling": 2, "none": 1},
    "queue": {"messages": 4, "bytes": 500},
    "opened": 9,
    "closed": {1000: 2, 4408: 1},
    "switches": {"websocket": 5, "polling": 6},
    "fallbacks": {"refused": 7},
    "messages": {"up": 10, "down": 20},
    "replays": 8,
    "duplicates": 11,
    "client_manager": {"kind": "RedisManager", "state": "connected", "since": 12.5, "error": None},
}


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_every_number_is_there() -> None:
    found = samples(Metrics(lambda: STATS).text())
    assert found == {
        (f"fallback_transport_{name}", labels): value
        for name, labels, value in [
            ("sessions", (("transport", "websocket"),), 3),
            ("sessions", (("transport", "polling"),), 2),
            ("sessions", (("transport", "none"),), 1),
            ("queue_messages", (), 4),
            ("queue_bytes", (), 500),
            ("sessions_opened_total", (), 9),
            ("sessions_closed_total", (("code", "1000"),), 2),
            ("sessions_closed_total", (("code", "4408"),), 1),
            ("switches_total", (("to", "websocket"),), 5),
            ("switches_total", (("to", "polling"),), 6),
            ("fallbacks_total", (("reason", "refused"),), 7),
            ("messages_total", (("direction", "up"),), 10),
            ("messages_total", (("direction", "down"),), 20),
            ("replays_total", (), 8),
            ("duplicates_total", (), 11),
            ("client_manager_connected", (("kind", "RedisManager"),), 1),
        ]
    }


def test_nothing_has_happened() -> None:
    stats = {**Stats(threading.Lock()).to_json([], 0), "client_manager": None}
    assert set(samples(Metrics(lambda: stats).text()).values()) == {0.0}


@pytest.mark.parametrize(("state", "value"), [("lost", 0), ("unknown", None)])
def test_a_client_manager(state: str, value: float | None) -> None:
    stats = {**STATS, "client_manager": {"kind": "RedisManager", "state": state}}
    key = ("fallback_transport_client_manager_connected", (("kind", "RedisManager"),))
    assert samples(Metrics(lambda: stats).text()).get(key) == value


def site(**options: Any) -> Any:
    app = flask.Flask("site")
    FallbackTransport(app, async_mode="threading", **options)
    return app.test_client()


def test_off_unless_asked_for() -> None:
    assert site().get("/fallback/metrics").status_code == 404


def test_the_page() -> None:
    page = site(metrics=True).get("/fallback/metrics")
    assert page.status_code == 200
    assert page.content_type.startswith("text/plain; version=")
    assert page.headers["Cache-Control"] == "no-store"
    assert ("fallback_transport_sessions_opened_total", ()) in samples(page.data)
    head = site(metrics=True).head("/fallback/metrics")
    assert (head.status_code, head.data) == (200, b"")
    assert site(metrics=True).post("/fallback/metrics").status_code == 405


def test_as_the_application_says() -> None:
    guarded = site(metrics=lambda: flask.request.headers.get("X-Login") == "me")
    assert guarded.get("/fallback/metrics").status_code == 403
    assert guarded.get("/fallback/metrics", headers={"X-Login": "me"}).status_code == 200


def test_without_prometheus_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(RuntimeError, match=r'pip install "prometheus-client>=0\.20"$'):
        site(metrics=True)
    assert site().get("/fallback/metrics").status_code == 404


def test_stats_before_there_is_an_app() -> None:
    with pytest.raises(RuntimeError, match="call init_app"):
        FallbackTransport(async_mode="threading").stats()
