"""Exactly once, in order: one outbox and one inbox for each direction's end.

A message leaves the outbox only when the peer says that it was *handled*. It
is repeated on a new connection only from the first that the peer has not
*received*. The inbox drops what it has seen and refuses what would leave a gap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from .errors import (
    ImpossibleMark,
    MalformedEnvelope,
    MessageRefused,
    MessageTooLarge,
    OutboxFull,
    OutOfStep,
    RemoteProtocolError,
    SequenceGap,
)
from .message import Carried, Close, Item, Message, Part


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much an outbox may hold unconfirmed, in messages and bytes; beyond, it refuses."""

    messages: int = 10_000
    bytes: int = 32_000_000
    message: int = 16_000_000


class Outbox:
    """Numbers messages, retains them until they are confirmed, replays them.

    The peer's credit is respected here: what exceeds it is *held* without a
    number, so that an urgent message (a reply that the peer may be waiting
    for) can still go ahead of it. Messages appended together stay together.
    """

    __slots__ = (
        "_credit",
        "_held",
        "_held_count",
        "_latest",
        "_numbered",
        "_urgent",
        "_used_bytes",
        "_used_messages",
        "bounds",
        "bytes",
        "confirmed",
        "got",
        "last",
        "read_bytes",
        "received",
        "replaced",
        "replays",
        "sent",
    )

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.confirmed = 0
        #: The number of the last message that has one.
        self.last = 0
        self.received = 0
        #: How many units of message `received` + 1 the peer has, in parts.
        self.got = 0
        self.bytes = 0
        #: The highest number that was read to be sent, and how many were once more.
        self.sent = 0
        self.replays = 0
        #: How many bytes were read to be sent, again or not.
        self.read_bytes = 0
        #: How many messages were replaced by a later one before they were sent.
        self.replaced = 0
        # Lists, for an idle session has many empty ones; what is confirmed is its beginning.
        self._numbered: list[Item] = []
        #: The numbers of those that are outside the credit.
        self._urgent: set[int] | None = None
        self._held: deque[Sequence[Item]] | None = None
        self._held_count = 0
        #: For each key, the number of the last message that has it; what is on the wire lingers.
        self._latest: dict[str, int] | None = None
        self._credit: tuple[int, int] | None = None
        self._used_messages = 0
        self._used_bytes = 0

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

    def append(
        self,
        items: Sequence[Item],
        *,
        size: int | None = None,
        urgent: bool = False,
        latest: str | None = None,
    ) -> None:
        """Take messages to send, that belong together.

        Args:
            items: the messages, or the close that ends this direction.
            size: their bytes, if they are counted already: what many are sent is the same for all.
            urgent: they may exceed the peer's credit and overtake what waits for it.
            latest: one message alone replaces, in its place, that of the same key, if this was
                never read to be sent.

        Raises:
            MessageRefused: one is larger than any message may be.
            OutboxFull: the bounds are reached; a close is always taken.
        """
        if latest is not None and len(items) == 1 and self._replace(latest, items[0]):
            return
        count = len(items)
        if size is None:
            size = sum([item.size for item in items])
        bounds, kept = self.bounds, len(self._numbered) + self._held_count
        roomy = kept + count <= bounds.messages and self.bytes + size <= bounds.bytes
        if not (roomy and size <= bounds.message) and not isinstance(items[0], Close):
            self._check(items, size)
        self.bytes += size
        if urgent:
            self._urgent = self._urgent or set()
            self._urgent.update(range(self.last + 1, self.last + count + 1))
        elif self._held or (self._credit is not None and not self._has_credit(items)):
            self._held = self._held or deque()
            self._held.append(tuple(items))
            self._held_count += count
            return
        else:
            self._used_messages += count
            self._used_bytes += size
        self._numbered += items
        self.last += count
        if latest is not None and count == 1:
            self._remember(latest)

    def awaits(self, latest: str) -> bool:
        """Whether the last message of this key was never read to be sent: the next replaces it."""
        return self._latest is not None and self._latest.get(latest, 0) > self.sent

    def confirm(self, handled: int, received: int, got: int = 0) -> bool:
        """Take the peer's marks; lower ones are old news. True if any rose.

        Raises:
            ImpossibleMark: the peer claims what was never sent.
        """
        if handled > self.last or received > self.last:
            raise ImpossibleMark(f"mark {max(handled, received)} of {self.last} sent")
        if got:
            self._check_got(received, got)
        rose = handled > self.confirmed
        if rose:
            self._confirm(handled)
        highest = max(received, self.confirmed)
        if highest > self.received:
            self.received, self.got, rose = highest, 0, True
            if highest > self.sent:
                # Nobody has it who was not sent it; but whoever says so keeps that.
                self.sent = highest
        if got > self.got and received == self.received:
            self.got, rose = got, True
            self.sent = max(self.sent, received + 1)
        if self._held:
            self._release()
        return rose

    def read(
        self, seq: int, size: int, count: int, *, offset: int = 0, whole: bool = False
    ) -> tuple[Carried, ...]:
        """The messages from `seq` on: something if there is anything, then up to both limits.

        The first begins at unit `offset`; if it does not fit, it is a part.
        With `whole` there are no parts, and nothing if the first does not fit.
        """
        if seq == self.last and count and not offset:
            # Nearly always: the newest, alone, and it fits.
            last = self._numbered[-1]
            if last.size <= size:
                if seq > self.sent:
                    self.sent = seq
                else:
                    self.replays += 1
                self.read_bytes += last.size
                return (last,)
        start = seq - self.confirmed - 1
        if seq > self.sent and not offset:
            fresh = self._numbered[start : start + count]
            # Nearly always it is all that is kept.
            wanted = self.bytes if len(fresh) == len(self) else sum([i.size for i in fresh])
            if fresh and wanted <= size:
                # All of it fits, for the first time.
                self.sent = seq + len(fresh) - 1
                self.read_bytes += wanted
                return tuple(fresh)
        items: list[Carried] = []
        for index in range(start, min(len(self._numbered), start + count)):
            item: Carried = self._numbered[index]
            if not items and isinstance(item, Message) and (offset or item.size > size):
                if whole:
                    break
                item = item.part(offset, size)
            size -= item.size
            if items and size < 0:
                break
            items.append(item)
            self.read_bytes += item.size
            if isinstance(item, Part) and not item.finished:
                break
        if items:
            # The rest of a message that goes in parts is no message again.
            again = min(seq + len(items) - 1, self.sent) - seq + (not offset)
            self.replays += max(0, again)
            self.sent = max(self.sent, seq + len(items) - 1)
        return tuple(items)

    def unconfirmed(self) -> list[Item]:
        """What the peer has not confirmed, in order; it may have been handled."""
        return [*self._numbered, *[item for group in self._held or () for item in group]]

    def _confirm(self, handled: int) -> None:
        count = handled - self.confirmed
        size = outside = outside_bytes = 0
        if self._urgent:
            for index in range(count):
                number = self.confirmed + 1 + index
                if number in self._urgent:
                    self._urgent.discard(number)
                    outside += 1
                    outside_bytes += self._numbered[index].size
        if count == len(self._numbered) and not self._held:
            # Nearly always: all there is.
            size = self.bytes
            self._numbered.clear()
        else:
            for item in self._numbered[:count]:
                size += item.size
            del self._numbered[:count]
        self.confirmed = handled
        self.bytes -= size
        self._used_messages -= count - outside
        self._used_bytes -= size - outside_bytes

    def _replace(self, key: str, item: Item) -> bool:
        """Put `item` where the last of its key waits; False if none does, or it does not fit."""
        number = self._latest.get(key, 0) if self._latest else 0
        # What was read has this number on the wire.
        if number <= self.sent:
            return False
        index = number - self.confirmed - 1
        grown = item.size - self._numbered[index].size
        # One that is larger must fit the bounds, and the credit that the other has taken.
        room = 0 if self._credit is not None else self.bounds.bytes - self.bytes
        if item.size > self.bounds.message or grown > max(0, room):
            return False
        self._numbered[index] = item
        self.bytes += grown
        if not self._urgent or number not in self._urgent:
            self._used_bytes += grown
        self.replaced += 1
        return True

    def _remember(self, key: str) -> None:
        self._latest = self._latest or {}
        self._latest[key] = self.last
        if len(self._latest) > 2 * len(self._numbered) + 16:
            # No more keys than messages that wait, but not at the price of a look at each time.
            self._latest = {k: n for k, n in self._latest.items() if n > self.sent}

    def _check_got(self, received: int, got: int) -> None:
        if received < self.confirmed:
            return
        index = received - self.confirmed
        item = self._numbered[index] if index < len(self._numbered) else None
        if not isinstance(item, Message) or got >= item.units:
            raise ImpossibleMark(f"{got} units of a message {received + 1} that has not so many")

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

    def _has_credit(self, items: Sequence[Item]) -> bool:
        # Whatever comes alone is allowed: a credit smaller than it would be a deadlock.
        if self._credit is None or not self._used_messages or isinstance(items[0], Close):
            return True
        messages, size = self._credit
        wanted = sum([item.size for item in items])
        return self._used_messages + len(items) <= messages and self._used_bytes + wanted <= size

    def _release(self) -> None:
        while self._held and self._has_credit(self._held[0]):
            group = self._held.popleft()
            self._held_count -= len(group)
            self._used_messages += len(group)
            self._used_bytes += sum([item.size for item in group])
            self._numbered += group
            self.last += len(group)


#: So often in a row what came did not follow what is here, before no resume is to help.
MAX_REFUSALS: Final = 10

#: So many pieces of a message become one: each weighs as much as 60 characters beside its own.
MANY_PIECES: Final = 256


class _Partial:
    """A message of which some has come."""

    def __init__(self, first: Part) -> None:
        self.total = first.total
        self.kind: type[Any] = type(first.data)
        self.got = 0
        self.size = 0
        self._pieces: list[Any] = []
        #: What came last, to become one of these.
        self._last: list[Any] = []

    def has(self, part: Part) -> bool:
        """Whether it can be a part of the same message."""
        return type(part.data) is self.kind and part.total == self.total

    def add(self, part: Part) -> None:
        """Take what is new in a part that begins no later than this one ends."""
        if part.end <= self.got:
            return
        fresh = part
        if part.offset < self.got:
            # Sent again from an earlier place, on another connection.
            fresh = Message(part.data).part(self.got - part.offset, 6 * part.total)
        self._last.append(fresh.data)
        if len(self._last) == MANY_PIECES:
            self._pieces.append(self.kind().join(self._last))
            self._last.clear()
        self.got = part.end
        self.size += fresh.size

    def message(self) -> Message:
        """The whole."""
        return Message(self.kind().join(self._pieces + self._last))


class Inbox:
    """Drops duplicates, refuses gaps, and knows what is received and what is handled.

    Args:
        limit: the most bytes that a message may have.
    """

    __slots__ = (
        "_partial",
        "_refused",
        "_sizes",
        "duplicates",
        "handled",
        "limit",
        "pending_bytes",
        "received",
    )

    def __init__(self, limit: int = 16_000_000) -> None:
        self.limit = limit
        self.received = 0
        self.handled = 0
        self.pending_bytes = 0
        #: How many messages came that had come before.
        self.duplicates = 0
        self._sizes: dict[int, int] = {}
        self._partial: _Partial | None = None
        #: How often what came did not follow what is here, and what that was: received and got.
        self._refused = 0, (0, 0)

    @property
    def pending(self) -> int:
        """How many messages are received and not handled."""
        return len(self._sizes)

    @property
    def got(self) -> int:
        """How many units of message `received` + 1 have come, in parts."""
        return self._partial.got if self._partial else 0

    def marks(self) -> tuple[int, int, int]:
        """What is handled, what is received, and `got`."""
        partial = self._partial
        return self.handled, self.received, 0 if partial is None else partial.got

    def take(self, seq: int, items: Sequence[Carried]) -> list[tuple[int, Item]]:
        """The new ones among `items`, each with its number; `items` begin at `seq`.

        Raises:
            SequenceGap: what is before `seq`, or before the part that comes first, is missing;
                nothing was taken.
            MalformedEnvelope: parts that are not of one message; nothing was taken.
            OutOfStep: one of these for the tenth time, and nothing new came in between.
            MessageTooLarge: a message beyond the limit.
        """
        if seq > self.received + 1:
            raise self._refusal(SequenceGap(f"expected {self.received + 1}, got {seq}"))
        fresh: list[tuple[int, Item]] = []
        for number, item in enumerate(items, seq):
            if number <= self.received:
                self.duplicates += 1
                continue
            if isinstance(item, Part):
                if fresh and item.offset:
                    break
                self._add(item)
                if self._partial is None or self._partial.got < self._partial.total:
                    # Whatever is behind it comes again.
                    break
                item = self._partial.message()
            if item.size > self.limit:
                raise MessageTooLarge(f"a message of {item.size} bytes; at most {self.limit}")
            self._partial = None
            self.received = number
            self._sizes[number] = item.size
            self.pending_bytes += item.size
            fresh.append((number, item))
            if isinstance(item, Close):
                break
        return fresh

    def _add(self, part: Part) -> None:
        partial = self._partial or _Partial(part)
        if part.offset > partial.got:
            raise self._refusal(SequenceGap(f"expected unit {partial.got}, got {part.offset}"))
        if not partial.has(part):
            raise self._refusal(MalformedEnvelope("a part of another message"))
        partial.add(part)
        if max(partial.size, part.total) > self.limit:
            raise MessageTooLarge(f"a message of {part.total} units; at most {self.limit} bytes")
        self._partial = partial

    def _refusal(self, error: RemoteProtocolError) -> RemoteProtocolError:
        """What to raise where what comes does not follow what is here."""
        (times, place), here = self._refused, (self.received, self.got)
        times = times + 1 if place == here else 1
        self._refused = times, here
        return error if times < MAX_REFUSALS else OutOfStep(error)

    def done(self, seq: int) -> int:
        """Message `seq` was handled, or raised; the mark rises over all that are.

        Returns:
            Its bytes; 0 if it was not pending.
        """
        sizes = self._sizes
        size = sizes.pop(seq, None)
        if size is None:
            return 0
        self.pending_bytes -= size
        if sizes:
            # The lowest pending number bounds the mark; numbers are inserted in order.
            self.handled = next(iter(sizes)) - 1
        else:
            self.handled = self.received
            # Which lets go of the room that it has, too.
            sizes.clear()
        return size
