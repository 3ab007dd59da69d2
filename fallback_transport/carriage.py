"""What has carried a session, for how long and why, and what the log says of it at the end."""

from __future__ import annotations

import logging

from .protocol.codes import CloseCode
from .protocol.events import SessionClosed, Transport
from .protocol.machine import SessionMachine

#: One line for each session, when it is over: a name of its own, to be kept where the rest is not.
logger = logging.getLogger("fallback_transport.session.end")

#: The ends that a client causes by breaking a rule: worth more than a note in the log.
_OFFENCES = frozenset(
    {
        CloseCode.PROTOCOL_ERROR,
        CloseCode.MALFORMED,
        CloseCode.TOO_LARGE,
        CloseCode.TOO_MANY,
    }
)


class Carriage:
    """The transports of one session.

    Args:
        now: when it began.
    """

    __slots__ = (
        "_by",
        "_last",
        "_polling",
        "_since",
        "_websocket",
        "began",
        "connections",
        "switches",
        "why",
    )

    def __init__(self, now: float) -> None:
        self.began = now
        #: How many connections have carried it, and how often that was another transport's.
        self.connections = self.switches = 0
        #: Why it is on polling, if it is and the client says so.
        self.why: str | None = None
        self._last: Transport | None = None
        # What carries it since when, and the seconds for which each transport has.
        self._by: Transport | None = None
        self._since = now
        self._websocket = self._polling = 0.0

    def account(self, by: Transport | None, now: float) -> None:
        """Add up, once what carries it may have changed."""
        if self._by is Transport.WEBSOCKET:
            self._websocket += now - self._since
        elif self._by is Transport.POLLING:
            self._polling += now - self._since
        self._by, self._since = by, now

    def switched(self, to: Transport) -> Transport | None:
        """A connection is committed; what carried the session before it, None if nothing did."""
        before, self._last = self._last, to
        self.connections += 1
        self.switches += before not in (None, to)
        return before

    def log_end(self, id: str, closed: SessionClosed, machine: SessionMachine, now: float) -> None:
        """The line of the session's end."""
        self.account(None, now)
        inbox, outbox = machine.inbox, machine.outbox
        logger.log(
            logging.WARNING if closed.code in _OFFENCES else logging.INFO,
            # The reason may be the client's, line feeds and all.
            "session %s ended after %.1f s: %s %r; websocket %.1f s, polling %.1f s, "
            "%d connections, %d switches; %d messages up, %d down, %d replays, %d duplicates, "
            "%d messages unconfirmed",
            id,
            now - self.began,
            closed.code,
            closed.reason,
            self._websocket,
            self._polling,
            self.connections,
            self.switches,
            inbox.received,
            outbox.sent,
            outbox.replays,
            inbox.duplicates,
            len(closed.unconfirmed),
        )
