"""The test application in mode "threading", of a system that soon has no more threads to give."""

from __future__ import annotations

import logging
import sys
import threading

from tests.integration.application import make_app

#: How many there may be at once.
THREADS = 12


_start = threading.Thread.start


def start(thread: threading.Thread) -> None:
    """Start it, or fail as CPython does."""
    if threading.active_count() >= THREADS:
        raise RuntimeError("can't start new thread")
    _start(thread)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    app, transport = make_app("threading", {})
    threading.Thread.start = start  # type: ignore[method-assign]
    transport.run(app, port=int(sys.argv[2]))


if __name__ == "__main__":
    main()
