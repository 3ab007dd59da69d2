"""Measures the table, or a part of it, and writes it: see ``--help``."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

from tests import measured
from tests.engines import ENGINES
from tests.integration.served import Served
from tests.proxies.zoo import ZOO, addresses
from tests.zoo.cell import Cell, measure
from tests.zoo.results import load, save
from tests.zoo.table import render

#: Messages each way: two of every size and kind, and some.
NUMBER = 80
#: Milliseconds between two halves of them: longer than the proxies' shortest time-out, 5 s.
PAUSE = 6000


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.zoo", description=__doc__)
    row = {"action": "append", "metavar": "NAME"}
    parser.add_argument("--row", choices=list(ZOO), help="a proxy; all unless given", **row)
    parser.add_argument("--column", choices=list(ENGINES), help="an engine; the same", **row)
    parser.add_argument("--repeat", type=int, default=1, help="pages a cell (%(default)s)")
    parser.add_argument("--jobs", type=int, default=3, help="cells at a time (%(default)s)")
    parser.add_argument("--number", type=int, default=NUMBER, help="messages (%(default)s)")
    parser.add_argument("--pause", type=int, default=PAUSE, help="amid them, ms (%(default)s)")
    parser.add_argument(
        "--render", action="store_true", help="measure nothing, write the table of the results"
    )
    return parser.parse_args()


def run(options: argparse.Namespace, results: dict[tuple[str, str], Cell]) -> list[Cell]:
    """Measure, and tell of each cell as it comes; it is kept at once."""
    rows = [ZOO[name] for name in options.row or ZOO]
    columns = [ENGINES[name] for name in options.column or ENGINES]
    cells = []
    started = time.monotonic()
    with (
        Served(
            "eventlet", module="tests.engines.application", host=addresses.server_address()
        ) as server,
        ThreadPoolExecutor(options.jobs) as pool,
    ):
        futures = [
            pool.submit(
                measure,
                entry,
                engine,
                server,
                number=options.number,
                pause=options.pause,
                repeat=options.repeat,
            )
            for entry in rows
            for engine in columns
        ]
        for future in as_completed(futures):
            cell = future.result()
            cells.append(cell)
            results[cell.row, cell.column] = cell
            keys = [(row, column) for row in ZOO for column in ENGINES]
            save([results[key] for key in keys if key in results])
            problem = cell.problem(ZOO[cell.row].slow)
            print(
                f"{time.monotonic() - started:5.0f} s {len(cells)}/{len(futures)} "
                f"{cell.row} x {cell.column}: {cell.transport} after {cell.opened} ms, "
                f"{cell.reason or cell.impossible}{f': WRONG: {problem:.300}' if problem else ''}",
                flush=True,
            )
    return cells


def main() -> None:
    options = arguments()
    results = load()
    cells: list[Cell] = []
    if not options.render:
        if not addresses.inside():
            sys.exit("run it in the proxies' network: python -m tests.proxies.zoo.network …")
        cells = run(options, results)
    measured.write("zoo", render(results), measured.FIGURES)
    wrong = [cell for cell in cells if cell.problem(ZOO[cell.row].slow)]
    if wrong:
        sys.exit(f"{len(wrong)} of {len(cells)} cells are not as they should be")


if __name__ == "__main__":
    main()
