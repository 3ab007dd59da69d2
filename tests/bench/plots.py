"""Cost against the number of clients, as SVG, by matplotlib (the extra `bench`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .measures import CPU, IDLE, RATE, ROWS, TRANSPORTS, USS, Metric, Results
from .subject import ALL
from .table import NAMES

#: What is plotted: a file's name, a title, the beginning of the rows' keys, and a metric.
PLOTS: tuple[tuple[str, str, str, Metric], ...] = (
    ("fan-out", "fan-out, one at a time", "fan-", CPU),
    ("burst", "fan-out, bursts", "burst-", RATE),
    ("echo", "echo of 32 B", "echo-", CPU),
    ("memory", "idle sessions", "idle-", USS),
    ("idle", "idle sessions", "idle-", IDLE),
)


def _points(
    results: Results, prefix: str, transport: str, subject: str, metric: Metric
) -> Iterator[tuple[int, float]]:
    for row in ROWS:
        if row.key.startswith(prefix) and row.load.get("size", 32) == 32:
            value = results.value(row.key, transport, subject, metric)
            if value is not None:
                yield row.clients, value


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw what has two points at least; the files."""
    import matplotlib

    matplotlib.use("svg")
    # The same results give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "bench"
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, title, prefix, metric in PLOTS:
        for transport in TRANSPORTS:
            figure, axes = pyplot.subplots(figsize=(7, 4))
            for subject in ALL:
                points = sorted(_points(results, prefix, transport, subject.name, metric))
                if len(points) > 1:
                    axes.plot(*zip(*points, strict=True), marker="o", label=subject.name)
            if axes.lines:
                axes.set(
                    title=f"{title}, {NAMES[transport]}",
                    xlabel="clients",
                    ylabel=f"{metric.name} {metric.unit}".rstrip(),
                    xscale="log",
                    yscale="log",
                )
                axes.grid(visible=True, alpha=0.3)
                axes.legend(fontsize="small")
                path = folder / f"{name}-{transport}.svg"
                figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
                files.append(path)
            pyplot.close(figure)
    return files
