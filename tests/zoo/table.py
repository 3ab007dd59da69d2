"""The results for a reader: Markdown.

A cell is ``W 0.04 s, 0/0/0`` or ``P 0.66 s, 0/0/0, c``: WebSocket or polling, the time until it
was open, messages lost, repeated and reordered, and why not WebSocket, a letter of the legend.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.engines import ENGINES
from tests.proxies.zoo import ZOO
from tests.zoo.cell import OPEN_WITHIN, SLOW_WITHIN, Cell
from tests.zoo.results import Results

_CELL = re.compile(r"([WP]) (\d+\.\d\d) s, (\d+)/(\d+)/(\d+)(?:, ([a-z]))?")
_IMPOSSIBLE = re.compile(r"—, ([a-z])")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
#: Where engines have their version.
_VERSION = re.compile(r"(?:Chrome|Firefox|PhantomJS|edbrowse)/(\d+(?:\.\d+(?=\.\d+$| ))*)")
_WEBKIT = re.compile(r"AppleWebKit/(\d+)")


class TableError(ValueError):
    """Something is in a table that must not be."""


def render(results: Results) -> str:
    """The table and its legend."""
    columns = [name for name in ENGINES if any(key[1] == name for key in results)]
    rows = [name for name in ZOO if any(key[0] == name for key in results)]
    legend: dict[str, str] = {}
    lines = [
        "| | " + " | ".join(_heading(name, results) for name in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for row in rows:
        cells = [_cell(results.get((row, column)), legend) for column in columns]
        lines.append(f"| {ZOO[row].title} | " + " | ".join(cells) + " |")
    lines.append("")
    lines += [f"- `{letter}`: {reason}" for reason, letter in legend.items()]
    return "\n".join([*lines, ""])


def check(text: str) -> int:
    """Return how many cells were measured, if all of the table is as it has to be.

    Raises:
        TableError: a cell has another form, or says what must not be.
    """
    slow = {entry.title: entry.slow for entry in ZOO.values()}
    legend = dict(re.findall(r"^- `([a-z])`: (.+)$", text, re.MULTILINE))
    measured = 0
    for title, cells in _rows(text):
        within = SLOW_WITHIN if slow[title] else OPEN_WITHIN
        for cell in cells:
            if found := _IMPOSSIBLE.fullmatch(cell):
                if found[1] not in legend:
                    raise TableError(f"{title}: no reason {found[1]}")
                continue
            found = _CELL.fullmatch(cell)
            if found is None:
                raise TableError(f"{title}: {cell!r}")
            if found[3] + found[4] + found[5] != "000" or float(found[2]) > within:
                raise TableError(f"{title}: {cell}")
            if (found[1] == "P") != (found[6] in legend):
                raise TableError(f"{title}: {cell}: polling needs a reason, WebSocket none")
            measured += 1
    return measured


def _rows(text: str) -> Iterator[tuple[str, list[str]]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    width = lines[0].count("|")
    for line in lines[2:]:
        title, *cells = (cell.strip() for cell in line.strip("|").split(" | "))
        if len(cells) != width - 2:
            raise TableError(f"{title}: {len(cells)} cells")
        yield title, cells


def _heading(name: str, results: Results) -> str:
    agents = [cell.agent for key, cell in results.items() if key[1] == name and cell.agent]
    found = agents and (_VERSION.search(agents[-1]) or _WEBKIT.search(agents[-1]))
    title, _, without = ENGINES[name].title.partition(" without ")
    return title + (f" {found[1]}" if found else "") + (f", no {without}" if without else "")


def _letter(reason: str, legend: dict[str, str]) -> str:
    return legend.setdefault(reason, _LETTERS[len(legend)])


def _cell(cell: Cell | None, legend: dict[str, str]) -> str:
    if cell is None:
        return ""
    if cell.impossible:
        return f"—, {_letter(cell.impossible, legend)}"
    if cell.opened is None or cell.transport is None or cell.why is None:
        return "✗"
    counts = f"{cell.lost}/{cell.repeated}/{cell.reordered}"
    end = "" if not (cell.errors or cell.altered) else " ✗"
    letter = "W" if cell.transport == "websocket" else "P"
    if letter == "P":
        counts += f", {_letter(cell.why.removeprefix('long polling: '), legend)}"
    return f"{letter} {cell.opened / 1000:.2f} s, {counts}{end}"
