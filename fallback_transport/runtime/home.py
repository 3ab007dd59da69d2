"""The thread that a hub runs in, for the process's other threads.

On eventlet and gevent, whoever is to go on is noted in the hub of the thread that
says so. Said in another thread, for example one of `eventlet.tpool`, nobody would
ever look there; so it is handed over.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("fallback_transport.runtime")

#: After so many calls the others get their turn: one takes some 10 µs.
BATCH = 50


class Home:
    """Calls what other threads hand over, in the thread that it was made in.

    Args:
        ident: names the thread that calls, whatever is monkey-patched.
        pair: two connected sockets of the async mode.
        spawn, give_way: the runtime's.
    """

    def __init__(
        self,
        ident: Callable[[], int],
        pair: tuple[socket.socket, socket.socket],
        spawn: Callable[..., None],
        give_way: Callable[[], None],
    ) -> None:
        self._ident = ident
        self._thread = ident()
        self._ears, self._voice = pair
        self._give_way = give_way
        self._handed: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._told = False
        spawn(self._serve)

    def here(self) -> bool:
        """Whether this is the thread."""
        return self._ident() == self._thread

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Call it in the thread, soon; what it raises is logged."""
        self._handed.append((function, args))
        if not self._told:
            # A byte or two for all of them, so that writing never waits.
            self._told = True
            self._voice.send(b"!")

    def _serve(self) -> None:
        while self._ears.recv(4096):
            # First: what is handed over from here on tells again.
            self._told = False
            for number in itertools.count(1):
                if not self._handed:
                    break
                function, args = self._handed.popleft()
                try:
                    function(*args)
                except Exception:
                    logger.exception("what another thread has sent was refused")
                if number % BATCH == 0:
                    self._give_way()


@functools.cache
def leave_at_forks(thread: int) -> None:
    """Let a process that is forked in this thread have a hub of eventlet's of its own.

    In its copy of ours it would, as soon as it waits, as workers of `multiprocessing` do, read
    what clients send to its parent.
    """
    # Which imports asyncio anyway.
    import asyncio

    from eventlet import hubs

    ident = original("eventlet", "get_ident")

    def leave() -> None:
        if ident() == thread:
            hubs.use_hub()
            # That of the hub on asyncio would go on running here, and so no other could.
            asyncio._set_running_loop(None)

    os.register_at_fork(after_in_child=leave)


def make_lock() -> Any:
    """A re-entrant lock; where `threading` is patched, a cooperative one."""
    return threading.RLock()


def original(mode: str, name: str) -> Callable[[], Any]:
    """`get_ident`, `Lock` or `RLock` of `threading`, as they were before any monkey patch."""
    found: Callable[[], Any]
    if mode == "eventlet":
        from eventlet import patcher

        found = getattr(patcher.original("threading"), name)
    else:
        from gevent import monkey

        # What `threading` makes its own of these of.
        found = monkey.get_original("_thread", {"Lock": "allocate_lock"}.get(name, name))
    return found


def in_hub(mode: str) -> bool:
    """Whether this is a callback of the thread's hub, and no task."""
    if mode == "eventlet":
        from eventlet import getcurrent
        from eventlet.hubs import get_hub

        return getcurrent() is get_hub().greenlet
    import gevent

    return gevent.getcurrent() is gevent.get_hub()
