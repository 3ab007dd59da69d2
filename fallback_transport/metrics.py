"""`transport.stats()` in Prometheus' text format, through `prometheus_client`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_PREFIX = "fallback_transport_"


class Metrics:
    """The page that Prometheus reads.

    Args:
        stats: gives what there is to tell.

    Raises:
        RuntimeError: `prometheus_client` is not installed.
    """

    def __init__(self, stats: Callable[[], dict[str, Any]]) -> None:
        try:
            import prometheus_client
        except ImportError as error:
            raise RuntimeError(
                "the option metrics needs prometheus_client, which is not installed: "
                'pip install "prometheus-client>=0.20"'
            ) from error
        self._stats = stats
        # Of its own: an application's other metrics have their own page.
        self._registry = prometheus_client.CollectorRegistry()
        self._registry.register(self)
        self._write = prometheus_client.generate_latest
        self.content_type: str = prometheus_client.CONTENT_TYPE_LATEST

    def text(self) -> bytes:
        """The page."""
        return self._write(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing is asked before there is something to tell."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Each number, for `prometheus_client`."""
        from prometheus_client.metrics_core import CounterMetricFamily as Counter
        from prometheus_client.metrics_core import GaugeMetricFamily as Gauge

        for kind, name, about, label, values in self._rows(Gauge, Counter):
            metric = kind(_PREFIX + name, about, labels=[label] if label else None)
            for key, value in values.items() if label else [("", values)]:
                metric.add_metric([str(key)] if label else [], value)
            yield metric

    def _rows(self, gauge: Any, counter: Any) -> Iterator[tuple[Any, str, str, str, Any]]:
        """Of each family: kind, name, what it is, and its value, or its label and a value each."""
        stats = self._stats()
        yield gauge, "sessions", "Sessions, by what carries them.", "transport", stats["sessions"]
        for unit, value in stats["queue"].items():
            yield gauge, f"queue_{unit}", f"Unconfirmed {unit} to clients.", "", value
        yield counter, "sessions_opened", "Sessions begun.", "", stats["opened"]
        about = "Sessions ended, by close code."
        yield counter, "sessions_closed", about, "code", stats["closed"]
        about = "Changes of transport, by the new one."
        yield counter, "switches", about, "to", stats["switches"]
        about = "Times that long polling began to carry a session, by the client's reason."
        yield counter, "fallbacks", about, "reason", stats["fallbacks"]
        yield counter, "messages", "Messages, by direction.", "direction", stats["messages"]
        yield counter, "replays", "Messages sent again.", "", stats["replays"]
        yield counter, "duplicates", "Messages that came again.", "", stats["duplicates"]
        manager = stats["client_manager"]
        # What is not known is not said: 0 is an alarm.
        if manager is not None and manager["state"] != "unknown":
            about = "Whether what the client manager publishes comes back to it."
            connected = {manager["kind"]: int(manager["state"] == "connected")}
            yield gauge, "client_manager_connected", about, "kind", connected
