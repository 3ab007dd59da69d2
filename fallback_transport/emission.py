"""What an `emit` says of its messages, past python-socketio: their key, and whether it waits.

Between an `emit` and the sessions that it sends to are a server and a client manager, which hand on
what they know of. What they do not goes by context variables.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from .backlog import Holder, Waiter
from .protocol.message import Message


class Emission:
    """One `emit`: it offers its messages to every session before it waits for any.

    Args:
        joint: whether all that is sent meanwhile belongs to it.
    """

    def __init__(self, *, joint: bool = False) -> None:
        self.joint = joint
        self._waiters: list[Waiter] = []
        #: All was offered: what a task still says that has inherited this, nobody would wait for.
        self.over = False

    def offer(self, holder: Holder, messages: list[Message], latest: str | None) -> None:
        """Send messages to a session, or remember that they wait.

        Raises:
            MessageRefused: see `Conversation.send`.
        """
        waiter = holder.offer(messages, latest)
        if waiter is not None:
            self._waiters.append(waiter)

    def wait(self, now: Callable[[], float]) -> None:
        """Wait for the sessions that had no room. Who is interrupted sends nothing more."""
        self.over = True
        try:
            for waiter in self._waiters:
                waiter.done.wait(max(0.0, waiter.until - now()))
                if not waiter.done.is_set():
                    waiter.holder.expire(waiter)
        finally:
            for waiter in self._waiters:
                if not waiter.done.is_set():
                    waiter.holder.withdraw(waiter)


#: The key of the message that is being emitted, if it may replace the last of its key.
latest_key: ContextVar[str | None] = ContextVar("fallback_transport.latest", default=None)

#: The `emit` that sends just now, if it can wait for sessions that have no room.
current_emission: ContextVar[Emission | None] = ContextVar(
    "fallback_transport.emission", default=None
)


@contextlib.contextmanager
def only_latest(key: str | None) -> Iterator[None]:
    """What is emitted within replaces what has the same key and was not sent yet."""
    token = latest_key.set(key)
    try:
        yield
    finally:
        latest_key.reset(token)
