"""Waiting for what only the server can tell."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T], timeout: float = 15.0) -> T:
    """The first truthy answer of `look`.

    Raises:
        TimeoutError: there was none in time; the text has the last one.
    """
    deadline = time.monotonic() + timeout
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout} s; the last answer: {found!r}")
        time.sleep(0.01)
    return found
