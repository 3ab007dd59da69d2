"""Exactly once, in order: one outbox and one inbox for each direction's end.

A message leaves the outbox only when the peer says that it was *handled*. It
is repeated on a new connection only from the first that the peer has not
*received*. The inbox drops what it has seen and refuses what would leave a gap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from .envelope import Close, Item
from .errors import ImpossibleMark, MessageRefused, OutboxFull, SequenceGap


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much an outbox may hold unconfirmed, in messages and bytes; beyond, it refuses."""

    messages: int = 10_000
    bytes: int = 16_000_000
    message: int = 1_000_000


@dataclass(frozen=True, slots=True)
class _Entry:
    item: Item
    urgent: bool


class Outbox:
    """Numbers messages, retains them until they are confirmed, replays them.

    The peer's credit is respected here: what exceeds it is *held* without a
    number, so that an urgent message (a reply that the peer may be waiting
    for) can still go ahead of it. Messages appended together stay together.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.confirmed = 0
        self.received = 0
        self.bytes = 0
        self._numbered: deque[_Entry] = deque()
        self._held: deque[tuple[_Entry, ...]] = deque()
        self._held_count = 0
        self._credit: tuple[int, int] | None = None
        self._used_messages = 0
        self._used_bytes = 0

    @property
    def last(self) -> int:
        """The number of the last message that has one."""
        return self.confirmed + len(self._numbered)

    @property
    def held(self) -> int:
        """How many messages wait for credit."""
        return self._held_count

    def __len__(self) -> int:
        return len(self._numbered) + self._held_count

    def grant(self, messages: int, size: int) -> None:
        """Respect the peer's credit from now on: its bounds on what it has not handled."""
        self._credit = (messages, size)
        self._release()

    def append(self, items: Sequence[Item], *, urgent: bool = False) -> None:
        """Take messages to send, that belong together.

        Args:
            items: the messages, or the close that ends this direction.
            urgent: they may exceed the peer's credit and overtake what waits for it.

        Raises:
            MessageRefused: one is larger than any message may be.
            OutboxFull: the bounds are reached; a close is always taken.
        """
        size = sum([item.size for item in items])
        if not isinstance(items[0], Close):
            self._check(items, size)
        self.bytes += size
        group = tuple([_Entry(item, urgent) for item in items])
        if urgent or (not self._held and self._has_credit(group)):
            self._number(group)
        else:
            self._held.append(group)
            self._held_count += len(group)

    def confirm(self, handled: int, received: int) -> bool:
        """Take the peer's marks; lower ones are old news. True if either rose.

        Raises:
            ImpossibleMark: the peer claims a message that was never sent.
        """
        if handled > self.last or received > self.last:
            raise ImpossibleMark(f"mark {max(handled, received)} of {self.last} sent")
        news = handled > self.confirmed or received > self.received
        while self.confirmed < handled:
            entry = self._numbered.popleft()
            self.confirmed += 1
            self.bytes -= entry.item.size
            if not entry.urgent:
                self._used_messages -= 1
                self._used_bytes -= entry.item.size
        self.received = max(self.received, received, self.confirmed)
        self._release()
        return news

    def read(self, seq: int, size: int, count: int) -> tuple[Item, ...]:
        """The messages from `seq` on: at least one if there is one, then up to both limits."""
        items: list[Item] = []
        start = seq - self.confirmed - 1
        for index in range(start, min(len(self._numbered), start + count)):
            item = self._numbered[index].item
            size -= item.size
            if items and size < 0:
                break
            items.append(item)
        return tuple(items)

    def unconfirmed(self) -> list[Item]:
        """What the peer has not confirmed, in order; it may have been handled."""
        held = [entry for group in self._held for entry in group]
        return [entry.item for entry in (*self._numbered, *held)]

    def _check(self, items: Sequence[Item], size: int) -> None:
        bounds = self.bounds
        for item in items:
            if item.size > bounds.message:
                raise MessageRefused(
                    f"a message of {item.size} bytes exceeds the limit of {bounds.message}"
                )
        count = len(self)
        if count + len(items) > bounds.messages or (count and self.bytes + size > bounds.bytes):
            raise OutboxFull(f"{count} messages, {self.bytes} bytes are unconfirmed")

    def _has_credit(self, group: tuple[_Entry, ...]) -> bool:
        # Whatever comes alone is allowed: a credit smaller than it would be a deadlock.
        if self._credit is None or not self._used_messages or isinstance(group[0].item, Close):
            return True
        messages, size = self._credit
        wanted = sum([entry.item.size for entry in group])
        return self._used_messages + len(group) <= messages and self._used_bytes + wanted <= size

    def _number(self, group: tuple[_Entry, ...]) -> None:
        self._numbered.extend(group)
        for entry in group:
            if not entry.urgent:
                self._used_messages += 1
                self._used_bytes += entry.item.size

    def _release(self) -> None:
        while self._held and self._has_credit(self._held[0]):
            group = self._held.popleft()
            self._held_count -= len(group)
            self._number(group)


class Inbox:
    """Drops duplicates, refuses gaps, and knows what is received and what is handled."""

    def __init__(self) -> None:
        self.received = 0
        self.handled = 0
        self.pending_bytes = 0
        self._sizes: dict[int, int] = {}

    @property
    def pending(self) -> int:
        """How many messages are received and not handled."""
        return len(self._sizes)

    def take(self, seq: int, items: Sequence[Item]) -> list[tuple[int, Item]]:
        """The new ones among `items`, each with its number; `items` begin at `seq`.

        Raises:
            SequenceGap: messages before `seq` are missing; nothing was taken.
        """
        if seq > self.received + 1:
            raise SequenceGap(f"expected {self.received + 1}, got {seq}")
        fresh: list[tuple[int, Item]] = []
        for number, item in enumerate(items, seq):
            if number == self.received + 1:
                self.received = number
                self._sizes[number] = item.size
                self.pending_bytes += item.size
                fresh.append((number, item))
                if isinstance(item, Close):
                    break
        return fresh

    def done(self, seq: int) -> None:
        """Message `seq` was handled, or raised; the mark rises over all that are."""
        size = self._sizes.pop(seq, None)
        if size is None:
            return
        self.pending_bytes -= size
        # The lowest pending number bounds the mark; numbers are inserted in order.
        self.handled = next(iter(self._sizes), self.received + 1) - 1
