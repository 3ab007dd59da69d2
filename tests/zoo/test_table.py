"""The table is the results', and says what it has to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests import measured
from tests.engines import ENGINES
from tests.proxies.zoo import ZOO
from tests.zoo.cell import Cell
from tests.zoo.results import load
from tests.zoo.table import TableError, check, render

TABLE = measured.between(measured.FIGURES.read_text(), "zoo")

CELL = Cell(
    *("direct", "chromium"),
    runs=1,
    number=160,
    transport="polling",
    why="long polling: the WebSocket handshake was refused",
    opened=40,
)


def rendered(cell: Cell) -> str:
    return render({(cell.row, cell.column): cell})


def test_the_document_has_what_was_measured() -> None:
    results = load()
    assert render(results) == TABLE
    # Every engine behind every proxy.
    assert set(results) == {(row, column) for row in ZOO for column in ENGINES}
    for cell in results.values():
        assert cell.problem(ZOO[cell.row].slow) is None, cell
        assert cell.impossible or cell.number >= 160, cell


def test_every_cell_is_as_it_has_to_be() -> None:
    impossible = [cell for cell in load().values() if cell.impossible]
    assert check(TABLE) == len(ZOO) * len(ENGINES) - len(impossible)


def test_the_forms() -> None:
    assert "| P 0.04 s, 0/0/0, a |" in rendered(CELL)
    assert rendered(CELL).endswith("- `a`: the WebSocket handshake was refused\n")
    works = replace(CELL, transport="websocket", why="WebSocket: works")
    assert "| W 0.04 s, 0/0/0 |" in rendered(works)
    assert "| —, a |" in rendered(Cell("direct", "chromium", impossible="it is"))
    for cell in (CELL, works):
        assert check(rendered(cell)) == 1


@pytest.mark.parametrize(
    "cell",
    [
        replace(CELL, lost=1),
        replace(CELL, repeated=1),
        replace(CELL, reordered=1),
        replace(CELL, altered=1),
        replace(CELL, errors=("what",)),
        replace(CELL, opened=2510),
        replace(CELL, opened=None),
    ],
)
def test_what_must_not_be_is_found(cell: Cell) -> None:
    assert cell.problem(0.0) is not None
    with pytest.raises(TableError):
        check(rendered(cell))
