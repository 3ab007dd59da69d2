"""What answers a session's questions: taken beside its handlers, which may wait for it."""

from __future__ import annotations

from .application import REPLY_PART, Unit
from .protocol.envelope import Grant


class Replies:
    """Those that have come and are not handled yet; made for the first.

    Each has a task of its own, for it may wait, too: even for another reply. But such a task
    calls for the next one as it begins: there are as many tasks as replies that wait for
    something, and one or two; not as many as one envelope brings, thousands in a few kilobytes.
    """

    __slots__ = ("_arriving", "_bytes", "_count", "_waiting")

    def __init__(self) -> None:
        # Messages and bytes, and those of the one that is still coming in.
        self._count = 0
        self._bytes = 0
        self._arriving = (0, 0)
        #: What no task has begun, with its messages and bytes.
        self._waiting: list[tuple[Unit, int, int]] = []

    def add(self, unit: Unit, size: int) -> bool:
        """Take a message of so many bytes; whether a task is to be called for."""
        self._count += 1
        self._bytes += size
        count, size = self._arriving[0] + 1, self._arriving[1] + size
        if unit is REPLY_PART:
            self._arriving = count, size
            return False
        self._arriving = 0, 0
        self._waiting.append((unit, count, size))
        return len(self._waiting) == 1

    def begin(self) -> tuple[tuple[Unit, int, int], bool]:
        """The one that has waited longest, and whether another task is to be called for."""
        reply = self._waiting.pop(0)
        return reply, bool(self._waiting)

    def handled(self, count: int, size: int) -> bool:
        """One of so many messages and bytes was; whether there is nothing left."""
        self._count -= count
        self._bytes -= size
        return self._count == 0

    def outside(self, grant: Grant) -> tuple[int, int]:
        """The messages and bytes that do not count for the credit: as much as it again, at most."""
        return min(self._count, grant.messages), min(self._bytes, grant.bytes)
