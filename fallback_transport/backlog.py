"""What a session has no room for yet: messages that wait, in order.

With the option ``when_full="wait"`` an `emit` that finds the outbox of a session full leaves its
messages here. They are let in as the client confirms what is before them, and until then, or
until the session ends or its patience is over, the `emit` does not return.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from .protocol.errors import MessageRefused, OutboxFull
from .protocol.message import Message
from .protocol.reliability import Bounds
from .runtime import Event


class Holder(Protocol):
    """The session that messages wait for."""

    def offer(self, messages: list[Message], latest: str | None) -> Waiter | None:
        """Send messages, or have them wait."""

    def expire(self, waiter: Waiter) -> None:
        """They have waited for too long."""

    def withdraw(self, waiter: Waiter) -> None:
        """Nobody waits for them any more: they are not to be sent."""


@dataclass(frozen=True, slots=True, eq=False)
class Waiter:
    """Messages of one `emit` that belong together, and wait.

    Args:
        holder: the session.
        messages, latest: see `Conversation.send`.
        until: how long they may wait.
        done: set once they were let in, or never will be.
    """

    holder: Holder
    messages: list[Message]
    latest: str | None
    until: float
    done: Event

    @property
    def size(self) -> int:
        """The bytes of the messages."""
        return sum([message.size for message in self.messages])


class Backlog:
    """The waiters of one session: the first who came is the first to be let in.

    Args:
        bounds: those of the outbox, which hold for what waits once more.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._waiters: deque[Waiter] = deque()
        self._messages = 0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiters)

    def __bool__(self) -> bool:
        # Said, because mypyc takes what may be None for true without asking for its length.
        return len(self._waiters) > 0

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter in self._waiters

    @property
    def first(self) -> Waiter:
        """Who is to be let in next."""
        return self._waiters[0]

    def has_key(self, latest: str | None) -> bool:
        """Whether a message waits that one with this key would replace."""
        return self._index(latest) is not None

    def append(self, waiter: Waiter) -> None:
        """Wait behind the others; or, with the key of one that waits, in its place.

        Raises:
            MessageRefused: one message is larger than any may be.
            OutboxFull: too much waits already.
        """
        for message in waiter.messages:
            if message.size > self._bounds.message:
                raise MessageRefused(
                    f"a message of {message.size} bytes exceeds the limit of {self._bounds.message}"
                )
        index = self._index(waiter.latest) if len(waiter.messages) == 1 else None
        if index is not None:
            replaced = self._waiters[index]
            grown = waiter.size - replaced.size
            if len(self._waiters) == 1 or self._bytes + grown <= self._bounds.bytes:
                self._waiters[index] = waiter
                self._bytes += grown
                # It has nothing to wait for any more: its message will never be sent.
                replaced.done.set()
                return
        many = self._messages + len(waiter.messages) > self._bounds.messages
        # As in the outbox: what comes alone has room whatever its size.
        if self._waiters and (many or self._bytes + waiter.size > self._bounds.bytes):
            raise OutboxFull(f"{self._messages} messages, {self._bytes} bytes wait for room")
        self._waiters.append(waiter)
        self._count(waiter, 1)

    def remove(self, waiter: Waiter) -> None:
        """It waits no longer."""
        self._waiters.remove(waiter)
        self._count(waiter, -1)
        waiter.done.set()

    def clear(self) -> None:
        """Nobody will be let in any more."""
        while self._waiters:
            self.remove(self._waiters[0])

    def _index(self, latest: str | None) -> int | None:
        if latest is None:
            return None
        for index, each in enumerate(self._waiters):
            # What belongs together, as an event and its bytes, is not replaced.
            if each.latest == latest and len(each.messages) == 1:
                return index
        return None

    def _count(self, waiter: Waiter, sign: int) -> None:
        self._messages += sign * len(waiter.messages)
        self._bytes += sign * waiter.size
