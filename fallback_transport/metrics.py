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
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        def family(kind: type[Any], name: str, about: str, label: str, values: Any) -> Metric:
            labels = [label] if label else None
            made: Any = kind(_PREFIX + name, about, labels=labels)
            for key, value in values.items() if label else [("", values)]:
                made.add_metric([str(key)] if label else [], value)
            metric: Metric = made
            return metric

        stats = self._stats()
        gauge, counter = GaugeMetricFamily, CounterMetricFamily
        yield family(
            gauge, "sessions", "Sessions, by what carries them.", "transport", stats["sessions"]
        )
        for unit, value in stats["queue"].items():
            yield family(gauge, f"queue_{unit}", f"Unconfirmed {unit} to clients.", "", value)
        yield family(counter, "sessions_opened", "Sessions begun.", "", stats["opened"])
        yield family(
            counter, "sessions_closed", "Sessions ended, by close code.", "code", stats["closed"]
        )
        yield family(
            counter, "switches", "Changes of transport, by the new one.", "to", stats["switches"]
        )
        yield family(
            counter,
            "fallbacks",
            "Times that long polling began to carry a session, by the client's reason.",
            "reason",
            stats["fallbacks"],
        )
        yield family(counter, "messages", "Messages, by direction.", "direction", stats["messages"])
        yield family(counter, "replays", "Messages sent again.", "", stats["replays"])
        yield family(counter, "duplicates", "Messages that came again.", "", stats["duplicates"])
        manager = stats["client_manager"]
        # What is not known is not said: 0 is an alarm.
        if manager is not None and manager["state"] != "unknown":
            yield family(
                gauge,
                "client_manager_connected",
                "Whether what the client manager publishes comes back to it.",
                "kind",
                {manager["kind"]: int(manager["state"] == "connected")},
            )
