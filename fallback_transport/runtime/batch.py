"""What is sent to the same many within a turn, handed to each of them once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

logger = logging.getLogger("fallback_transport.runtime")

#: How much is put off; beyond, it is handed over at once. About what one envelope on a WebSocket
#: carries: with more, a target would cost as much again.
MAX_ITEMS: Final = 256
MAX_BYTES: Final = 65_536


class Item(Protocol):
    """What is sent."""

    @property
    def size(self) -> int:
        """Its bytes."""


class Target(Protocol):
    """Who is sent something."""

    def send_each(self, items: list[Any], size: int, *, ends: bool) -> None:
        """Take all of it, which came one by one.

        Args:
            size: its bytes.
            ends: the turn does, and with it all that it is sent in it, if nothing else was said to
                be flushed: it is to be written now, not when each of the others has it.
        """


T = TypeVar("T", bound=Target)


class Batch(Generic[T]):
    """Puts off what several targets are sent, while they are the same ones.

    A target costs hardly more for a hundred messages than for one. Whoever sends something else to
    one of them, closes it, or begins to write what it was sent, calls `hand_over` before, if there
    are `items`.

    Args:
        at_end_of_turn: see `Hub`.
    """

    __slots__ = ("_at_end_of_turn", "_size", "_targets", "items")

    def __init__(self, at_end_of_turn: Callable[[Callable[[], None]], None]) -> None:
        self._at_end_of_turn = at_end_of_turn
        #: What is put off.
        self.items: list[Any] = []
        self._targets: list[T] = []
        self._size = 0

    def add(self, targets: list[T], items: list[Any]) -> None:
        """Send `items` to all of `targets`, behind what they were sent before."""
        if self.items and targets != self._targets:
            self.hand_over()
        begins = not self.items
        self._targets = targets
        self.items += items
        self._size += sum([item.size for item in items])
        if len(self.items) >= MAX_ITEMS or self._size >= MAX_BYTES:
            self.hand_over()
        elif begins:
            self._at_end_of_turn(self.end)

    def hand_over(self) -> None:
        """Let them have what was put off."""
        self._hand_over(ends=False)

    def end(self) -> None:
        """The turn ends: the same, and each writes what it has while it is at hand.

        What a target is takes kilobytes: to come back to each of many is to wait for the memory.
        """
        self._hand_over(ends=True)

    def _hand_over(self, *, ends: bool) -> None:
        if not self.items:
            return
        targets, items, size = self._targets, self.items, self._size
        self._targets, self.items, self._size = [], [], 0
        for target in targets:
            try:
                target.send_each(items, size, ends=ends)
            except Exception:
                # One target's defect must not keep the others from what they are sent.
                logger.exception("what was sent to several did not reach one of them")
