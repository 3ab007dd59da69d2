"""`Application`: what a session has above it, and what it is given to handle there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol


class Unit(NamedTuple):
    """What the application handles in one go: the messages `seqs`, by calling `run`.

    With its `arguments` beside it: a closure would be three objects more for each message, and
    what is made by the thousand in a turn is counted by the garbage collector.
    """

    seqs: tuple[int, ...]
    run: Callable[..., None]
    arguments: tuple[Any, ...] = ()
    urgent: bool = False


#: Part of a reply, the rest of which has yet to come.
REPLY_PART = Unit((), lambda: None, urgent=True)


class MalformedPacket(Exception):
    """Messages that are no packet of the layer above; the session ends with 4400.

    Raised by a unit that runs, it only says that the application does not take it.
    """


class Application(Protocol):
    """The layer above, for one session."""

    def unit(self, seq: int, data: str | bytes) -> Unit | None:
        """Take the next message; a unit once one is complete, or `REPLY_PART`.

        Raises:
            MalformedPacket: it makes no sense.
        """

    def resumed(self, environ: dict[str, Any]) -> None:
        """A new connection resumes the session; called before what it brings is handled."""

    def over(self, code: int, reason: str, by_client: bool, gone: Callable[[], None]) -> None:
        """The session is over; called once, behind its last handler.

        `gone` is to be called when nothing of the application's runs for it any more: another
        task may be ending it just now.
        """
