"""Tests of many proxies at once: what takes time is waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from . import ZOO, Hop


def parameter(name: str) -> object:
    """An entry as a test's parameter, with what it needs."""
    return pytest.param(name, marks=pytest.mark.requires(*ZOO[name].needs))


@contextmanager
def each_chosen(
    request: pytest.FixtureRequest, port: int, look: Callable[[str, Hop], Any]
) -> Iterator[Mapping[str, Future[Any]]]:
    """What is seen in front of a server, behind each proxy whose test was chosen.

    Args:
        request: of the fixture that these tests ask for; their `name` is the entry's.
        port: the server's.
        look: what is done with each, given its name; in a thread of its own.
    """
    chosen = {
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and request.fixturename in item.fixturenames
    }
    seen: dict[str, Future[Any]] = {}
    with ExitStack() as stack:
        threads = ThreadPoolExecutor(len(chosen))
        for name in [name for name in ZOO if name in chosen]:
            try:
                hop = stack.enter_context(ZOO[name].start(port))
            except Exception as error:  # of this proxy, which its own test is to tell
                seen[name] = Future()
                seen[name].set_exception(error)
            else:
                seen[name] = threads.submit(look, name, hop)
        # They are done before the proxies are ended.
        stack.callback(threads.shutdown)
        yield seen
