"""All that was measured, by row and column, as it is kept in the repository."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from tests.zoo.cell import Cell

FILE = Path(__file__).with_name("results.json")

Results = Mapping[tuple[str, str], Cell]


def load(file: Path = FILE) -> dict[tuple[str, str], Cell]:
    """What the file holds; nothing, if there is none."""
    if not file.exists():
        return {}
    cells = [
        Cell(**{**each, "errors": tuple(each["errors"])}) for each in json.loads(file.read_text())
    ]
    return {(cell.row, cell.column): cell for cell in cells}


def save(cells: Iterable[Cell], file: Path = FILE) -> None:
    """One line a cell, so that a change shows what has changed."""
    lines = [json.dumps(asdict(cell), ensure_ascii=False) for cell in cells]
    file.write_text("[\n" + ",\n".join(lines) + "\n]\n")
