"""``python -m tests.bench``: this package and its peers, side by side.

Each repetition of each row starts every subject anew, one after the other, so that whatever
else the machine does strikes all alike; what counts is the ratio of two medians of one run.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Container, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests import measured
from tests.needs import MissingError, compiler, node, npm

from . import compiled, plots, table
from .generator import GeneratorError, Outcome
from .measures import BESIDE, ROWS, TRANSPORTS, Cell, Results, Row, applies, measure
from .subject import ALL, Subject, raise_limits
from .targets import TARGETS, asked_for

PACKAGES = ("Flask-SocketIO", "python-socketio", "python-engineio", "eventlet", "gevent", "orjson")
NPM_PACKAGES = ("socket.io", "sockjs", "ws")


def possible(rows: Sequence[Row], limit: int) -> tuple[list[Row], list[str]]:
    """The rows for which a process may have enough descriptors, and what to say of the others."""
    done, left_out = [], []
    for row in rows:
        if row.descriptors <= limit:
            done.append(row)
        else:
            left_out.append(
                f"{row.key}, {row.descriptors:,} descriptors of {limit:,} (RLIMIT_NOFILE)"
            )
    return done, left_out


def compilable(subjects: Sequence[Subject]) -> tuple[list[Subject], list[str]]:
    """The subjects for which there is a compiler, and what to say of the others."""
    names = [subject.name for subject in subjects if subject.compiled]
    try:
        if names:
            compiler()
            # Not within a measured time.
            compiled.package()
    except MissingError as missing:
        left_out = [f"{name}, {missing}" for name in names]
        return [subject for subject in subjects if not subject.compiled], left_out
    return list(subjects), []


def circumstances() -> dict[str, Any]:
    """What was measured with which versions, and where."""
    found: dict[str, Any] = {"Python": platform.python_version()}
    found |= {name: version(name) for name in PACKAGES}
    answer = subprocess.run([node(), "--version"], capture_output=True, text=True, check=True)
    found["Node.js"] = answer.stdout.strip().lstrip("v")
    for name in NPM_PACKAGES:
        package = json.loads(Path(npm(), name, "package.json").read_text())
        found[name] = package["version"]
    return found


def sentence(found: dict[str, Any]) -> str:
    """The same, for below the table."""
    told = ("repeat", "seconds", "left out")
    versions = ", ".join(f"{name} {value}" for name, value in found.items() if name not in told)
    repeat, seconds = found["repeat"], found["seconds"]
    left_out = "".join(f" Left out: {text}." for text in found.get("left out", ()))
    return (
        f"Medians of {repeat} repetitions of {seconds:g} s, one subject after the other, each time "
        "a new server; CPU is user and system time of the server's process. Requests have the "
        f"headers of Chromium, but for compression, which nobody is offered. {versions}."
        f"{left_out}"
    )


def run(
    rows: Sequence[Row],
    subjects: Sequence[Subject],
    repeat: int,
    seconds: float,
    kept: Callable[[Results], None],
    wanted: Container[tuple[str, str, str]] | None = None,
) -> Results:
    """Measure it all; tell and keep each row when it is done, as a run takes long.

    Args:
        wanted: what to measure, by row, transport and subject; None for all.
    """
    results = Results()
    for row in rows:
        for transport in TRANSPORTS:
            measured = [
                subject
                for subject in subjects
                if applies(row, transport, subject)
                and (wanted is None or (row.key, transport, subject.name) in wanted)
            ]
            for _ in range(repeat):
                for subject in measured:
                    try:
                        outcomes = measure(row, transport, subject, seconds)
                    except (GeneratorError, RuntimeError) as error:
                        print(f"{row.key}, {transport}, {subject.name}: {error}", file=sys.stderr)
                        continue
                    for key, outcome in outcomes.items():
                        results.add(key, transport, subject.name, outcome)
            if measured:
                print(table.lines(row, transport, results), flush=True)
                if row.others:
                    print(table.lines(BESIDE, transport, results), flush=True)
                kept(results)
    return results


def save(path: Path, results: Results, found: dict[str, Any]) -> None:
    """Write all that was counted."""
    cells = [asdict(cell) for cell in results]
    path.write_text(json.dumps({"circumstances": found, "cells": cells}, indent=1) + "\n")


def load(path: Path) -> tuple[Results, dict[str, Any]]:
    """Read what `save` wrote."""
    found = json.loads(path.read_text())
    cells = [
        Cell(
            cell["row"],
            cell["transport"],
            cell["subject"],
            tuple(Outcome(**outcome) for outcome in cell["outcomes"]),
        )
        for cell in found["cells"]
    ]
    return Results(cells), found["circumstances"]


def _named(names: Sequence[str], all_names: Sequence[str]) -> list[str]:
    """Those that are named; by its beginning, what is not named in full."""
    chosen = set()
    for word in names:
        found = [n for n in all_names if n.lower() == word.lower()]
        found = found or [n for n in all_names if n.lower().startswith(word.lower())]
        if not found:
            raise SystemExit(f"{word!r} begins none of: {', '.join(all_names)}")
        chosen.update(found)
    return [n for n in all_names if n in chosen]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="--needed, once and shortly: rough")
    add("--needed", action="store_true", help="only what the targets ask for")
    add("--only", nargs="+", metavar="ROW", help="rows, by the beginning of their keys")
    add("--peer", nargs="+", metavar="NAME", help="subjects beside ours on eventlet, likewise")
    add("--repeat", type=int, default=3, help="repetitions (3)")
    add("--seconds", type=float, default=2.0, help="seconds of each load (2)")
    add("--from", type=Path, dest="source", metavar="FILE", help="show what --json wrote")
    add("--json", type=Path, metavar="FILE", help="write all that was counted")
    add("--markdown", type=Path, metavar="FILE", help="write the tables")
    add("--write", action="store_true", help="the main ones into README.md and tests/MEASURED.md")
    add("--plots", type=Path, metavar="DIR", help="draw cost against clients (needs matplotlib)")
    add("--targets", action="store_true", help="say which targets are met; 1 if one is missed")
    chosen = parser.parse_args()

    rows, subjects, repeat, seconds = list(ROWS), list(ALL), chosen.repeat, chosen.seconds
    if chosen.quick:
        rows = [replace(r, load=r.load | r.quick, seconds=0.0) for r in rows if r.quick is not None]
        repeat, seconds = 1, 0.5
    if chosen.only:
        keys = _named(chosen.only, [row.key for row in rows])
        rows = [row for row in rows if row.key in keys]
    if chosen.peer:
        names = [ALL[0].name, *_named(chosen.peer, [subject.name for subject in ALL])]
        subjects = [subject for subject in ALL if subject.name in names]

    if chosen.source:
        results, found = load(chosen.source)
    else:
        try:
            found = circumstances()
        except MissingError as missing:
            raise SystemExit(str(missing)) from None
        rows, left_out = possible(rows, raise_limits())
        subjects, uncompiled = compilable(subjects)
        left_out += uncompiled
        found |= {"repeat": repeat, "seconds": seconds, "left out": left_out}
        for text in left_out:
            print(f"left out: {text}", file=sys.stderr)

        def kept(results: Results) -> None:
            if chosen.json:
                save(chosen.json, results, found)

        wanted = asked_for() if chosen.quick or chosen.needed else None
        results = run(rows, subjects, repeat, seconds, kept, wanted)
    if chosen.markdown:
        chosen.markdown.write_text(table.markdown(results, sentence(found)) + "\n")
    if chosen.write:
        measured.write("bench", table.short(results, sentence(found)) + "\n", measured.README)
        measured.write("bench", table.summary(results, sentence(found)) + "\n", measured.FIGURES)
    if chosen.plots:
        for path in plots.draw(results, chosen.plots):
            print(path)
    if chosen.targets:
        for target in TARGETS:
            print(target.line(results))
        return 1 if any(target.met(results) is False for target in TARGETS) else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
