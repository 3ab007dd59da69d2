"""What a machine knows of each of its session's attachments to a transport."""

from __future__ import annotations

from dataclasses import dataclass

from .events import Transport


@dataclass(slots=True)
class Connection:
    """One attachment of the session to a transport, as the machine sees it."""

    attempt: int
    transport: Transport
    opened_at: float
    heard_at: float
    next: tuple[int, int]
    """What is to be sent on it next: a message's number, and the unit of it."""
    commit: int = 0
    """The number with which the client committed it; 0 for a candidate."""
    stated: tuple[int, int, int] = (0, 0, 0)
    """The marks last stated on it: handled, received, got."""
    keyless: bool = False
    """Its hello proved no key, and its welcome yielded none: its commit must."""
    ack_at: float | None = None
    asked: tuple[tuple[int, float], ...] = ()
    """What this side asked on it, and when."""
    asks: tuple[int, ...] = ()
    """What is to be asked with the next envelopes."""
    answers: tuple[int, ...] = ()
    """What is to be answered with the next envelopes."""
    expects: tuple[int, int] = (0, 0)
    """What was to be sent next when the last question went out: with its answer, all before it
    must have come."""
    doubt_at: float | None = None
    """When a server doubts that what it has sent on it arrives."""
    sent_at: float = 0.0
    """When the first of that was sent."""
    unreceived: int = 0
    """And how many bytes that is."""


@dataclass(slots=True)
class PollConnection(Connection):
    """A run of polls: at most one of them is held."""

    parked: int | None = None
    """The number of the held request."""
    parked_at: float = 0.0
    parked_until: float = 0.0
    limit: int | None = None
    """The most bytes of messages that the held request wants."""
    highest: int = 0
    """The highest number of any waiting request."""
