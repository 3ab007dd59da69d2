"""``python -m tests.soak``: see README.md, "Measured"."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from tests import measured
from tests.integration.served import MODES

from .pages import tabs
from .run import Options, run


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description="Real sessions behind a network that breaks all the time; prints one line of "
        "figures, and ends with 1 where the contract was broken.",
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="default: 1")
    parser.add_argument("--sessions", type=int, default=20, help="at a time, in Node.js")
    parser.add_argument("--tabs", type=int, help="in Chromium; default: 2, if it is there")
    parser.add_argument("--seed", help="repeats a schedule; default: a random one, and told")
    parser.add_argument("--async-mode", choices=MODES, default="eventlet")
    parser.add_argument("--write-readme", action="store_true", help="put the line into README.md")
    parser.add_argument("--records", type=Path, metavar="FOLDER", help="keep both ends' records")
    parser.add_argument("--quiet", action="store_true", help="do not tell what goes wrong, when")
    given = parser.parse_args()
    seed = given.seed or str(random.SystemRandom().randrange(2**32))
    wanted = tabs(2) if given.tabs is None else given.tabs
    options = Options(given.minutes, given.sessions, seed, given.async_mode, wanted, given.records)
    print(f"seed {seed}", file=sys.stderr, flush=True)

    def say(text: str) -> None:
        if not given.quiet:
            print(text, file=sys.stderr, flush=True)

    figures = run(options, say)
    for violation in figures.violations:
        print(violation)
    say(f"the longest delay was that of {figures.report.slowest_is}")
    print(figures.line())
    if given.write_readme:
        measured.write("soak", figures.line() + "\n", measured.README)
    sys.exit(1 if figures.count else 0)


if __name__ == "__main__":
    main()
