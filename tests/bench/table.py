"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .measures import BESIDE, CPU, ROWS, TRANSPORTS, Cell, Metric, Results, Row
from .subject import ALL
from .targets import COMPILED, OURS, TARGETS

#: In the main table; the others are in the one that folds.
MAIN = (OURS, COMPILED, "Flask-SocketIO (eventlet)", "Socket.IO (Node.js)", "sockjs-node")
ALL_ROWS = (*ROWS, BESIDE)
#: The rows of which the second figure says as much as the first one.
TWO = ("large", "beside", "recovery")
#: Behind a figure for which the generator may have been the limit.
BOUND = " †"
NAMES = {"websocket": "WebSocket", "polling": "polling"}


def number(value: float | None, metric: Metric) -> str:
    """A figure with its unit; a dash where there is none."""
    if value is None:
        return "-"
    text = f"{value:,.{metric.digits}f}"
    return f"{text} {metric.unit}".rstrip()


def spread(cell: Cell, metric: Metric) -> str:
    """The median, and the least and the most if there were several."""
    values = cell.values(metric)
    text = number(cell.median(metric), metric)
    if len(values) < 2:
        return text
    low, high = (f"{value:,.{metric.digits}f}" for value in (min(values), max(values)))
    return f"{text} ({low} to {high})"


def bound(results: Results, row: Row, transport: str, subject: str) -> bool:
    """Whether the generator may have been the limit there."""
    cell = results.get(row.key, transport, subject)
    return cell is not None and any(outcome.bound for outcome in cell.outcomes)


def _lines(cells: Sequence[Sequence[str]]) -> str:
    head, *rest = cells
    parts = [head, ["---"] * len(head), *rest]
    return "\n".join("| " + " | ".join(part) + " |" for part in parts)


def _subjects(results: Results, only: Iterable[str] | None = None) -> list[str]:
    there = {cell.subject for cell in results}
    return [s.name for s in ALL if s.name in there and (only is None or s.name in only)]


def main_table(results: Results, figures: int = 2) -> str:
    """The most important metric of each row, for the most important subjects.

    Args:
        figures: how many metrics the rows have of which the second figure says as much.
    """
    subjects = _subjects(results, MAIN)
    lines = [["", "", *subjects]]
    for row in ALL_ROWS:
        for transport in TRANSPORTS:
            for metric in row.metrics[: figures if row.key in TWO else 1]:
                values = [results.value(row.key, transport, name, metric) for name in subjects]
                if any(value is not None for value in values):
                    text = f"{row.text}, {NAMES[transport]}"
                    told = [
                        number(value, metric)
                        + (BOUND if bound(results, row, transport, name) else "")
                        for name, value in zip(subjects, values, strict=True)
                    ]
                    lines.append([text, metric.name, *told])
    return _lines(lines)


def _versus(results: Results, row: Row, cell: Cell, metric: Metric) -> str:
    ours = results.value(row.key, cell.transport, OURS, metric)
    theirs = cell.median(metric)
    if cell.subject == OURS or not ours or theirs is None:
        return ""
    return f"{theirs / ours:.2g}"


def full_table(results: Results) -> str:
    """Every figure: the median, its spread, its ratio to ours on eventlet, and what was wrong."""
    lines = [["row", "transport", "subject", "measure", "median (range)", "x ours", "notes"]]
    for row in ALL_ROWS:
        for transport in TRANSPORTS:
            for name in _subjects(results):
                cell = results.get(row.key, transport, name)
                if cell is None:
                    continue
                for metric in row.metrics:
                    if cell.median(metric) is not None:
                        lines.append(
                            [
                                row.text,
                                NAMES[transport],
                                name,
                                metric.name,
                                spread(cell, metric),
                                _versus(results, row, cell, metric),
                                ", ".join(cell.notes) if metric is row.metrics[0] else "",
                            ]
                        )
    return _lines(lines)


def targets_table(results: Results) -> str:
    """Each target with what was measured."""
    rows = [target.line(results).split(" | ") for target in TARGETS]
    return _lines([["target", "measured", ""], *rows])


def _explained(main: str, circumstances: str) -> list[str]:
    legend = ["† The load generator may have been the limit, not the server."]
    return [main, *(legend if BOUND in main else []), circumstances]


def short(results: Results, circumstances: str) -> str:
    """What README.md has: one figure of each row."""
    return "\n\n".join(_explained(main_table(results, 1), circumstances))


def summary(results: Results, circumstances: str) -> str:
    """What tests/MEASURED.md has: the most important, and how far the targets are."""
    main = _explained(main_table(results), circumstances)
    return "\n\n".join([*main, "### The targets", targets_table(results)])


def markdown(results: Results, circumstances: str) -> str:
    """All of it."""
    full = ["<details><summary>All figures</summary>", full_table(results), "</details>"]
    return "\n\n".join([summary(results, circumstances), *full])


def lines(row: Row, transport: str, results: Results) -> str:
    """One row, for whoever watches."""
    found = [f"{row.text}, {NAMES[transport]}"]
    for name in _subjects(results):
        cell = results.get(row.key, transport, name)
        if cell is not None:
            figures = [f"{m.name} {spread(cell, m)}" for m in row.metrics if cell.values(m)]
            if CPU in row.metrics:
                share = max(outcome.share for outcome in cell.outcomes)
                figures.append(f"generator {share:.0%} busy")
            notes = f"  [{', '.join(cell.notes)}]" if cell.notes else ""
            found.append(f"  {name:30} {', '.join(figures)}{notes}")
    return "\n".join(found)
