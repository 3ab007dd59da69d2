"""The server's end of a session: candidates, commits, and polls that wait."""

from __future__ import annotations

import hmac
from enum import Enum
from typing import Final, NamedTuple

from .codes import CloseCode
from .connection import Connection, PollConnection
from .envelope import End, Envelope, Grant, PollRequest
from .errors import MalformedEnvelope, RemoteProtocolError
from .events import POLLING, WEBSOCKET, Event, Transport
from .machine import ACK_DELAY, ENVELOPE_BYTES, MAX_CANDIDATES, SessionMachine
from .reliability import Bounds
from .state import CLOSED


class Poll(Enum):
    """What is to be done with a polling request."""

    ANSWER = "answer"
    """Answer it with `answer(waiting=True)` if it is a waiting request, else with False."""
    EMPTY = "empty"
    """It came late: answer it with `answer(waiting=False)`."""
    PARK = "park"
    """Hold it until `due()`, then answer it with `answer()`."""
    JOIN = "join"
    """Its twin is held: give it the same answer."""
    REFUSE = "refuse"
    """Its connection was superseded: answer with `superseded()`."""


#: See `state.CLOSED`.
ANSWER, EMPTY, PARK, JOIN, REFUSE = Poll


class Verdict(NamedTuple):
    """What is to be done with a polling request, and which held one it `releases`."""

    poll: Poll
    releases: int | None = None


#: What nearly all are.
_ANSWERED: Final = Verdict(ANSWER)
_PARKED: Final = Verdict(PARK)

#: Seconds for which a session lives after its last hello while its client has never committed:
#: long enough for the slowest repetition of a hello, and not for a stranger to fill the server.
UNCOMMITTED_WAIT: Final = 30.0
#: Seconds after which a held request that comes again is the work of a browser, which repeats by
#: itself what a proxy has cut: held again it would be cut again, and the client would never know.
REPEATED: Final = 2.0
#: The most bytes of messages in one answer, whatever the request wants.
ANSWER_BYTES: Final = 500_000
ANSWER_MESSAGES: Final = 1000
#: How much of a replay rides inside a welcome. Little: a hello cannot say, as a request can,
#: that the path cuts what is long, and a resume must not fail of it each time.
GREETING_BYTES: Final = 16_000

#: Seconds after which a server asks for what it has sent on a WebSocket and is not received, and
#: again as many after which it drops it. An ack takes 0.2 s and a round trip; what is left is for
#: a page that is busy, and with half a second to the next message all of it stays within 3 s.
DOUBT: Final = 1.0
#: Round trips that count as much, if they take longer.
DOUBT_ROUND_TRIPS: Final = 4
#: The most seconds that a round trip counts as: what took longer was asleep, or its peer was.
LONGEST_ROUND_TRIP: Final = 5.0
#: Bytes a second that the slowest path carries: what is large takes its time.
SLOW: Final = 8_000


class ServerMachine(SessionMachine):
    """The server's end: the client commits, this end follows.

    Args:
        key: the session's secret, for connections that have not proved it yet.
        grant, bounds, now: see `SessionMachine`.
    """

    __slots__ = ("key", "round_trip")

    def __init__(self, *, key: str, grant: Grant, bounds: Bounds, now: float) -> None:
        super().__init__(grant=grant, bounds=bounds, now=now)
        self.key = key
        #: Smoothed, in seconds; 0 while unknown.
        self.round_trip = 0.0

    @property
    def committed(self) -> bool:
        """Whether the client has ever committed a connection: it has the welcome."""
        return self._commit > 0

    def knows(self, key: str) -> bool:
        """Whether `key` is the session's, compared in constant time."""
        return hmac.compare_digest(self.key.encode(), key.encode())

    def welcome(
        self,
        attempt: int,
        transport: Transport,
        hello: Envelope,
        now: float,
        *,
        keyless: bool = False,
    ) -> list[Event]:
        """Take a hello on a new connection: it becomes a candidate.

        Answer with `greeting` (with `end`, if the session is closed). The
        connection carries the session once the client commits it; until then
        the one before goes on.

        Args:
            keyless: the hello proved no key and its welcome yields none, so
                the commit must prove it; until then nothing is sent on it.

        Raises:
            SequenceGap, ImpossibleMark: see `receive`.
            MalformedEnvelope: it proves no key, and has the attempt of another connection.
        """
        if self.state is CLOSED:
            return []
        if not self.committed:
            self.unattached_since = now
        known = self.connections.get(attempt)
        if isinstance(known, PollConnection) and transport is POLLING:
            # A proxy or a browser repeats the request: it is the same run of polls.
            known.keyless = keyless
            if not keyless:
                # Else it may be anybody's, and says nothing of whether the client lives.
                self.heard(attempt, now)
            return self._settle(self._arrived(hello), now)
        if known is not None and keyless:
            raise MalformedEnvelope("the attempt of another connection")
        fresh = self._arrived(hello)
        events: list[Event] = []
        if known is not None:
            events += self._drop(known, CloseCode.SUPERSEDED, "greeted again", now)
        candidates = [c for c in self.connections.values() if not c.commit]
        # Whoever repeats a hello takes no place of those that have proved the key.
        candidates.sort(key=lambda each: not each.keyless)
        for connection in candidates[: max(0, len(candidates) + 1 - MAX_CANDIDATES)]:
            events += self._drop(connection, CloseCode.TOO_MANY, "too many candidates", now)
        self.soonest = 0.0
        kind = PollConnection if transport is POLLING else Connection
        self.connections[attempt] = kind(
            attempt, transport, now, now, self._resume(), keyless=keyless
        )
        return events + self._settle(fresh, now)

    def greeting(self, attempt: int) -> Envelope:
        """The marks for the welcome, and on polling the messages if no connection carries."""
        connection = self.connections[attempt]
        replays = isinstance(connection, PollConnection) and self.carrier is None
        # Only what is whole and little: a poll can ask for less where the path cuts what is
        # long, a hello cannot.
        fits = replays and not connection.keyless
        return self._read(connection, self._fitting(GREETING_BYTES) if fits else 0, whole=True)

    def request(self, request: PollRequest, now: float) -> tuple[list[Event], Verdict]:
        """Take a polling request whose key was checked; then act on the verdict.

        Raises:
            SequenceGap, ImpossibleMark: see `receive`.
        """
        known = self.connections.get(request.attempt)
        back = self.returns(request)
        if back:
            # It was given up here, and the client goes back to it.
            self.soonest = 0.0
            self.connections[request.attempt] = PollConnection(
                request.attempt, POLLING, now, now, self._resume()
            )
        elif known is not None:
            known.keyless = False
        try:
            events = self.receive(request.attempt, request.envelope, now)
        except RemoteProtocolError:
            if back:
                # Not committed: it would be one candidate more, beyond the few that may be.
                del self.connections[request.attempt]
            raise
        connection = self.connections.get(request.attempt)
        if not isinstance(connection, PollConnection) or connection is not self.carrier:
            return events, Verdict(REFUSE)
        if request.wait is None or self.state is CLOSED:
            return events, _ANSWERED
        return events, self._wait(connection, request.number, request.wait, request.limit, now)

    def returns(self, request: PollRequest) -> bool:
        """Whether a request of a connection that is not there brings it back."""
        if request.attempt in self.connections or self.state is CLOSED:
            return False
        return (request.envelope.commit or 0) > self._commit

    def receive(self, attempt: int, envelope: Envelope, now: float) -> list[Event]:
        """See `SessionMachine.receive`; what it confirms lifts a doubt, or puts it off."""
        connection = self.connections.get(attempt)
        if connection is not None and connection.keyless:
            connection.keyless = not self.knows(envelope.key or "")
            if connection.keyless:
                # Whoever repeats a hello may ask whether the server lives; nothing else counts.
                commit, ask, answer = envelope.commit, envelope.ask, envelope.answer
                envelope = Envelope(commit=commit, ask=ask, answer=answer)
        if connection is None or connection.doubt_at is None:
            return super().receive(attempt, envelope, now)
        before = self._resume()
        events = super().receive(attempt, envelope, now)
        if self.connections.get(attempt) is connection and self._resume() > before:
            self._trust(connection, now)
        return events

    def due(self, attempt: int, now: float) -> int | None:
        """The number of the held request that is to be answered now, if there is one."""
        connection = self.connections.get(attempt)
        if not isinstance(connection, PollConnection) or connection.parked is None:
            return None
        ready = self._has_output() or self._half_credit_used(connection)
        return connection.parked if ready or now >= connection.parked_until else None

    def answer(self, attempt: int, now: float, *, waiting: bool, limit: int | None) -> Envelope:
        """The answer to a request; only one to a waiting request has messages."""
        connection = self.connections[attempt]
        if waiting and isinstance(connection, PollConnection):
            connection.heard_at = now
            self.soonest = min(self.soonest, now + self._silence(connection))
            connection.parked = None
            size = ANSWER_BYTES if limit is None else min(max(1, limit), ANSWER_BYTES)
            return self._read(connection, self._fitting(size))
        return self._read(connection, 0)

    def limit(self, attempt: int) -> int | None:
        """The most bytes of messages that the held request of a connection wants."""
        connection = self.connections.get(attempt)
        return connection.limit if isinstance(connection, PollConnection) else None

    def end(self) -> End:
        """How the session ended, for everybody who still asks."""
        code, reason = self.closure
        return End(code, reason, True, self.inbox.handled, self.inbox.received)

    def superseded(self) -> End:
        """The answer on a connection that no longer carries the session."""
        marks = self.inbox.handled, self.inbox.received
        return End(CloseCode.SUPERSEDED, "another connection carries the session", False, *marks)

    def over_credit(self, outside: int = 0, outside_bytes: int = 0) -> bool:
        """Whether the client sent more than was granted, beyond one event alone.

        `outside` of the pending messages, of `outside_bytes`, do not count: they are replies.
        """
        if not self.state.accepts_messages:
            # A close is outside the credit, and behind a close nothing is handled any more.
            return False
        count = self.inbox.pending - outside
        size = self.inbox.pending_bytes - outside_bytes
        return count > self.grant.messages or size > self.grant.bytes + self.grant.message

    # -- inside ------------------------------------------------------------------

    def _lifetime(self) -> float:
        inactivity = self.grant.inactivity
        return inactivity if self.committed else min(UNCOMMITTED_WAIT, inactivity)

    def _sent(self, connection: Connection, size: int, now: float) -> None:
        connection.unreceived += size
        if connection is self.carrier and connection.doubt_at is None:
            self._watch(connection, now)

    def _sender(self) -> Connection | None:
        if self.carrier is not None:
            return self.carrier
        sockets = [
            c for c in self.connections.values() if c.transport is WEBSOCKET and not c.keyless
        ]
        return sockets[-1] if sockets else None

    def _committed(self, attempt: int, envelope: Envelope, now: float) -> list[Event]:
        commit = envelope.commit or 0
        connection = self.connections.get(attempt)
        if connection is None or commit <= connection.commit:
            # None, the same again, or a request from before it was committed again.
            return []
        if connection.keyless:
            return self._drop(connection, CloseCode.GONE, "the commit proves no key", now)
        if commit <= self._commit:
            return self._drop(connection, CloseCode.SUPERSEDED, "committed too late", now)
        events: list[Event] = []
        if connection.commit == 0:
            # From the welcome to here: it may be more than a round trip, and is never less.
            self._measured(now - connection.opened_at)
        before = self.carrier
        if before is not None and before is not connection:
            events += self._drop(before, CloseCode.SUPERSEDED, "another connection carries", now)
        events = [*self._attach(connection, commit), *events]
        if connection.doubt_at is None and connection.next > self._resume():
            # Sent before the commit, and not received by then: it is waited for from here on.
            self._watch(connection, now)
        return events

    def _has_output(self) -> bool:
        return self.outbox.last > self.outbox.received

    def _wait(
        self,
        connection: PollConnection,
        number: int,
        wait: float,
        limit: int | None,
        now: float,
    ) -> Verdict:
        parked, connection.highest = connection.parked, max(connection.highest, number)
        if number == parked:
            if now >= connection.parked_at + REPEATED:
                self.soonest = 0.0
                connection.parked_until = connection.heard_at = now
            return Verdict(JOIN)
        if number < connection.highest:
            # Late or repeated: answered at once, and it releases nothing.
            return Verdict(EMPTY)
        connection.limit = limit
        if self._has_output() or self._half_credit_used(connection) or wait <= 0:
            return _ANSWERED if parked is None else Verdict(ANSWER, parked)
        connection.parked = number
        connection.parked_at = now
        connection.parked_until = now + min(wait, self.grant.wait)
        connection.heard_at = connection.parked_until
        self.soonest = min(self.soonest, connection.parked_until)
        return _PARKED if parked is None else Verdict(PARK, parked)

    def _read(self, connection: Connection, size: int, *, whole: bool = False) -> Envelope:
        seq, offset = self._resume()
        count = ANSWER_MESSAGES if size else 0
        items = self.outbox.read(seq, size, count, offset=offset, whole=whole)
        return self._envelope(connection, seq if items else None, items)

    def _answered(self, connection: Connection, seconds: float, now: float) -> list[Event]:
        self._measured(seconds)
        events = super()._answered(connection, seconds, now)
        if self._resume() < connection.expects:
            # A WebSocket is ordered: what was sent before the question was swallowed on the way.
            reason = "what was sent does not arrive"
            return events + self._drop(connection, CloseCode.INACTIVE, reason, now)
        return events

    def _measured(self, seconds: float) -> None:
        known, seconds = self.round_trip, min(seconds, LONGEST_ROUND_TRIP)
        self.round_trip = 0.875 * known + 0.125 * seconds if known else seconds

    def _patience(self, connection: Connection) -> float:
        quick = max(DOUBT, DOUBT_ROUND_TRIPS * self.round_trip)
        # However much is under way, its next envelope shows whether it arrives.
        return quick + min(connection.unreceived, ENVELOPE_BYTES) / SLOW

    def _trust(self, connection: Connection, now: float) -> None:
        """The peer goes on receiving."""
        if self._resume() >= connection.next:
            # The ack may have waited for something to ride with.
            self._measured(max(0.0, now - connection.sent_at - ACK_DELAY))
            connection.unreceived, connection.doubt_at = 0, None
        else:
            # Where messages flow, something always is under way; but not what is confirmed.
            connection.unreceived = min(connection.unreceived, self.outbox.bytes)
            self._watch(connection, now)

    def _watch(self, connection: Connection, now: float) -> None:
        """From now on what was sent on it is waited for."""
        connection.sent_at = now
        connection.doubt_at = now + self._patience(connection)
        self.soonest = min(self.soonest, connection.doubt_at)

    def _timeout(self, connection: Connection, now: float) -> list[Event]:
        doubt = connection.doubt_at if connection is self.carrier else None
        if doubt is not None and now >= doubt:
            if connection.asked or connection.asks:
                reason = "what was sent is not received"
                return self._drop(connection, CloseCode.INACTIVE, reason, now)
            self.ask(connection.attempt)
            # As long again: what was sent meanwhile is behind what does not arrive.
            connection.doubt_at = now + doubt - connection.sent_at
        return super()._timeout(connection, now)

    def _times(self, connection: Connection) -> list[float]:
        times = super()._times(connection)
        if connection is self.carrier and connection.doubt_at is not None:
            times.append(connection.doubt_at)
        if isinstance(connection, PollConnection) and connection.parked is not None:
            times.append(connection.parked_until)
        return times
