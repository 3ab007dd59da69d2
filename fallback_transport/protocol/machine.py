"""One end of a session: what both roles share.

A machine is fed with what arrives and with `now`, and asked for what to send
and for its next deadline. It opens nothing and waits for nothing. After any
call, the caller

1. acts on the events that the call returned,
2. sends what `pull` gives for each of its connections (on polling: what the
   role's own methods give), and
3. calls `timeout(now)` when `deadline()` has come.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Final

from .codes import CloseCode
from .connection import Connection
from .envelope import Envelope, Grant
from .errors import MessageRefused, SessionOver
from .events import (
    POLLING,
    WEBSOCKET,
    Answered,
    CloseReceived,
    ConnectionDropped,
    Event,
    MessageReceived,
    SessionClosed,
    Switched,
    Transport,
)
from .message import Carried, Close, Item, Message, Part
from .reliability import Bounds, Inbox, Outbox
from .state import CLOSED, CLOSING, Input, State, transition

#: Seconds within which a close must be confirmed; then it is reported as unconfirmed.
CLOSE_WAIT: Final = 5.0
#: Seconds for which a welcomed connection may stay a candidate.
CANDIDATE_WAIT: Final = 10.0
#: How many connections may be candidates at once.
MAX_CANDIDATES: Final = 3
#: Seconds that an acknowledgement may wait for a message to ride with.
ACK_DELAY: Final = 0.2
#: Seconds of silence beyond two keepalives after which a connection counts as dead.
SILENCE_MARGIN: Final = 5.0
#: How many questions of a peer that does not read are kept; one unanswered is enough to know.
MAX_ANSWERS: Final = 8
#: How much one envelope on a WebSocket carries: large enough to make its head cheap, small
#: enough to let an acknowledgement or a probe through soon on a slow path.
ENVELOPE_BYTES: Final = 64_000
ENVELOPE_MESSAGES: Final = 256


class By(Enum):
    """Who closed."""

    LOCAL = "local"
    PEER = "peer"


class SessionMachine:
    """The state, outbox, inbox and connections of one end of a session.

    Args:
        grant: what the server grants; a client starts from the defaults.
        bounds: how much this end's own outbox may hold.
        now: seconds, on any clock that never goes back.
    """

    __slots__ = (
        "_close_deadline",
        "_closed_by",
        "_closure",
        "_commit",
        "_next_ask",
        "_peer_close",
        "_unstated_bytes",
        "carrier",
        "connections",
        "emptied",
        "grant",
        "inbox",
        "outbox",
        "soonest",
        "state",
        "unattached_since",
    )

    def __init__(self, *, grant: Grant, bounds: Bounds, now: float) -> None:
        self.grant = grant
        self.state = State.OPENING
        self.outbox = Outbox(bounds)
        self.inbox = Inbox(grant.message)
        self.connections: dict[int, Connection] = {}
        self.carrier: Connection | None = None
        self.unattached_since: float | None = now
        self._commit = 0
        self._closed_by: By | None = None
        self._peer_close: int | None = None
        self._closure = (int(CloseCode.NORMAL), "")
        self._close_deadline: float | None = None
        self._unstated_bytes = 0
        self._next_ask = 0
        #: No deadline set since `deadline` was last asked is before this: until then, whoever
        #: waits for an earlier one need not ask again.
        self.soonest = 0.0
        #: Whether `pull`, which gave something just now, has no more: it need not be asked.
        self.emptied = False

    # -- the application's side ------------------------------------------------

    @property
    def transport(self) -> Transport | None:
        """The transport that carries the session, or None while none does."""
        return self.carrier.transport if self.carrier else None

    @property
    def closure(self) -> tuple[int, str]:
        """Code and reason of the close, once the state is CLOSING or CLOSED."""
        return self._closure

    def send(
        self,
        items: list[Message],
        *,
        size: int | None = None,
        urgent: bool = False,
        latest: str | None = None,
    ) -> None:
        """Take messages that belong together; `pull` sends them. See `Outbox.append`.

        Raises:
            SessionOver: the session is closing or closed.
            MessageRefused: one is larger than the peer takes.
            OutboxFull: too much is unconfirmed.
        """
        if not self.state.accepts_messages:
            raise SessionOver(f"the session is {self.state.value}")
        if size is None:
            size = items[0].size if len(items) == 1 else sum([item.size for item in items])
        limit = self.grant.message
        if size > limit:
            for item in items:
                if item.size > limit:
                    raise MessageRefused(
                        f"a message of {item.size} bytes exceeds the limit of {limit}"
                    )
        self.outbox.append(items, size=size, urgent=urgent, latest=latest)

    def handled(self, seq: int, now: float) -> list[Event]:
        """Message `seq` (or the close) was handled, or its handler raised."""
        self._unstated_bytes += self.inbox.done(seq)
        self._schedule_ack(now)
        told = self._peer_close is not None and self.inbox.handled >= self._peer_close
        return self._finish() if told and self.state is CLOSING else []

    def close(self, code: int, reason: str, now: float) -> list[Event]:
        """Close in order: behind all that was sent, confirmed by the peer or after 5 s given up.

        Raises:
            ValueError: the code or the reason cannot go over the wire.
        """
        item = Close(code, reason)
        if not self.state.accepts_messages:
            return []
        self._change(Input.CLOSE)
        self._closed_by = By.LOCAL
        self._closure = (code, reason)
        self._close_deadline = now + CLOSE_WAIT
        self.soonest = 0.0
        self.outbox.append([item])
        return []

    def abort(self, code: int, reason: str) -> list[Event]:
        """End the session at once, without the peer's confirmation."""
        if self.state is CLOSED:
            return []
        self._closure = (code, reason)
        return self._finish()

    # -- connections -----------------------------------------------------------

    def detach(self, attempt: int, now: float) -> list[Event]:
        """The connection has ended, for whatever reason; the session goes on."""
        connection = self.connections.pop(attempt, None)
        self.soonest = 0.0
        if connection is not None and connection is self.carrier:
            self.carrier = None
            if self.state is not CLOSED:
                self._change(Input.DETACH)
            # On polling the connection ended with its last request, not with our notice of it.
            polling = connection.transport is POLLING
            self.unattached_since = connection.heard_at if polling else now
        self._schedule_ack(now)
        return []

    def heard(self, attempt: int, now: float) -> None:
        """Bytes came on the connection: it lives."""
        connection = self.connections.get(attempt)
        if connection is not None:
            connection.heard_at = max(connection.heard_at, now)

    def ask(self, attempt: int) -> None:
        """Ask on the connection whether it is alive; an `Answered` event follows."""
        connection = self.connections.get(attempt)
        if connection is not None:
            self._next_ask += 1
            connection.asks += (self._next_ask,)

    def receive(self, attempt: int, envelope: Envelope, now: float) -> list[Event]:
        """Take an envelope that came on connection `attempt`.

        Raises:
            SequenceGap: messages are missing; end the connection, not the session.
            ImpossibleMark: abort the session with the error's code.
        """
        if self.state is CLOSED:
            return []
        connection = self.connections.get(attempt)
        if connection is not None and now > connection.heard_at:
            connection.heard_at = now
        fresh = self._arrived(envelope)
        events = self._committed(attempt, envelope, now)
        connection = self.connections.get(attempt)
        if connection is not None:
            if envelope.ask is not None and len(connection.answers) < MAX_ANSWERS:
                connection.answers += (envelope.ask,)
            if connection.asked and envelope.answer is not None:
                asked = dict(connection.asked)
                since = asked.pop(envelope.answer, None)
                if since is not None:
                    connection.asked = tuple(asked.items())
                    # Silence is counted again.
                    self.soonest = min(self.soonest, now + self.grant.keepalive)
                    events += self._answered(connection, now - since, now)
        return events + self._settle(fresh, now)

    def pull(self, attempt: int, now: float) -> Envelope | None:
        """What is to be sent on WebSocket connection `attempt` now, if anything.

        Call it again until it returns None, or until the socket would block.
        """
        connection = self.connections.get(attempt)
        if connection is None or connection.transport is not WEBSOCKET:
            return None
        seq, offset = connection.next
        items: tuple[Carried, ...] = ()
        carrier = self.carrier
        sender = connection is carrier or (carrier is None and connection is self._sender())
        outbox = self.outbox
        before = outbox.read_bytes
        if sender and self.state is not CLOSED:
            if seq <= outbox.received + 1:
                seq, offset = max(connection.next, self._resume())
            if seq <= outbox.last:
                size = self._fitting(ENVELOPE_BYTES)
                items = outbox.read(seq, size, ENVELOPE_MESSAGES, offset=offset)
        if items:
            self._sent(connection, outbox.read_bytes - before, now)
        else:
            due = connection.asks or connection.answers or self._announcement(connection)[0]
            if not due and not (sender and self._ack_due(connection, now)):
                return None
        if len(items) == 1 and type(items[0]) is Message:
            connection.next = seq + 1, 0
        else:
            connection.next = _behind(seq, offset, items)
        ask = answer = None
        if connection.asks:
            ask, connection.asks = connection.asks[0], connection.asks[1:]
            connection.asked += ((ask, now),)
            connection.expects = connection.next
        if connection.answers:
            answer, connection.answers = connection.answers[0], connection.answers[1:]
        waits = connection.asks or connection.answers
        self.emptied = not waits and connection.next[0] > outbox.last
        return self._envelope(connection, seq if items else None, items, ask=ask, answer=answer)

    # -- time ------------------------------------------------------------------

    def deadline(self) -> float | None:
        """When `timeout` is to be called next, or None while nothing is waited for."""
        self.soonest = math.inf
        if self.state is CLOSED:
            return None
        times = [] if self._close_deadline is None else [self._close_deadline]
        if self.unattached_since is not None:
            times.append(self.unattached_since + self._lifetime())
        for connection in self.connections.values():
            times += self._times(connection)
        return min(times, default=None)

    def timeout(self, now: float) -> list[Event]:
        """Do what the time demands."""
        self.soonest = 0.0
        if self.state is CLOSED:
            return []
        if self._close_deadline is not None and now >= self._close_deadline:
            return self._finish()
        events: list[Event] = []
        for connection in list(self.connections.values()):
            events += self._timeout(connection, now)
        # Behind the connections: the last one may have ended just now, or long ago.
        since = self.unattached_since
        if since is not None and now >= since + self._lifetime():
            events += self.abort(CloseCode.INACTIVE, f"no connection for {now - since:.0f} s")
        return events

    # -- for the roles -----------------------------------------------------------

    def _lifetime(self) -> float:
        """Seconds for which the session lives without a connection that carries it."""
        return self.grant.inactivity

    def _sender(self) -> Connection | None:
        """The connection on which messages and acks go out."""
        return self.carrier

    def _sent(self, connection: Connection, size: int, now: float) -> None:
        """A WebSocket is given messages, of so many bytes; a server watches whether they arrive."""

    def _committed(self, attempt: int, envelope: Envelope, now: float) -> list[Event]:
        """What a commit in a received envelope changes; only a server gets commits."""
        return []

    def _answered(self, connection: Connection, seconds: float, now: float) -> list[Event]:
        """The peer has answered, after so many seconds."""
        return [Answered(connection.attempt, seconds)]

    def _announcement(self, connection: Connection) -> tuple[int | None, str | None]:
        """The commit, and the key that proves it, that the next envelope states; a client's."""
        return None, None

    def _attach(self, connection: Connection, commit: int) -> list[Event]:
        self._commit = connection.commit = commit
        self.carrier = connection
        self.soonest = 0.0
        self.unattached_since = None
        self._change(Input.ATTACH)
        return [Switched(connection.attempt, connection.transport)]

    def _change(self, happened: Input) -> None:
        self.state = transition(self.state, happened)

    def _envelope(
        self,
        connection: Connection,
        seq: int | None,
        items: tuple[Carried, ...],
        *,
        ask: int | None = None,
        answer: int | None = None,
    ) -> Envelope:
        handled, received, got = connection.stated = self.inbox.marks()
        connection.ack_at = None
        self._unstated_bytes = 0
        commit, key = self._announcement(connection)
        # Valid as it is: to look again costs more than all the rest of it.
        fields = (handled, received, seq, items, commit, key, ask, answer, got)
        return tuple.__new__(Envelope, fields)

    def _fitting(self, size: int) -> int:
        """At most `size` bytes of messages, so that they fit an envelope in base64 too."""
        return min(size, self.grant.body // 2)

    def _resume(self) -> tuple[int, int]:
        """What the peer has not received: the number of a message, and the unit of it."""
        return self.outbox.received + 1, self.outbox.got

    def _half_credit_used(self, connection: Connection) -> bool:
        handled = self.inbox.handled - connection.stated[0]
        half = self.grant.messages // 2, self.grant.bytes // 2
        return handled > 0 and (handled >= half[0] or self._unstated_bytes >= half[1])

    # -- inside ------------------------------------------------------------------

    def _arrived(self, envelope: Envelope) -> list[tuple[int, Item]]:
        """The new messages of an envelope. Raises before anything else is changed."""
        self.outbox.confirm(envelope.ack, envelope.received, envelope.got)
        # What comes behind a close is ignored.
        if envelope.seq is None or self._closed_by is By.PEER:
            return []
        return self.inbox.take(envelope.seq, envelope.messages)

    def _settle(self, fresh: list[tuple[int, Item]], now: float) -> list[Event]:
        """Deliver what is new, and see what the marks have changed."""
        events: list[Event] = []
        if fresh:
            for number, item in fresh:
                if isinstance(item, Close):
                    events += self._peer_closed(number, item)
                elif self._closed_by is None:
                    # Without its `__new__`, which is in Python.
                    events.append(tuple.__new__(MessageReceived, (number, item.data)))
        # Also where nothing is new: another connection may have to carry the ack now.
        self._schedule_ack(now)
        if self.state is CLOSING and self._closed_by is By.LOCAL and not len(self.outbox):
            events += self._finish()
        return events

    def _peer_closed(self, seq: int, close: Close) -> list[Event]:
        if self._closed_by is By.LOCAL:
            return self._crossed(close)
        self._change(Input.CLOSE)
        self._closed_by = By.PEER
        self._peer_close = seq
        self._closure = (close.code, close.reason)
        return [CloseReceived(seq, close.code, close.reason)]

    def _crossed(self, close: Close) -> list[Event]:
        """Both ends closed: both report the server's code, and nothing more is waited for."""
        return self._finish()

    def _finish(self) -> list[Event]:
        self._change(Input.FINISH)
        self.unattached_since = self._close_deadline = None
        self.soonest = math.inf
        left = tuple([i for i in self.outbox.unconfirmed() if not isinstance(i, Close)])
        return [SessionClosed(*self._closure, left)]

    def _ack_due(self, connection: Connection, now: float) -> bool:
        if connection.ack_at is None:
            return False
        closing = self._closed_by is By.PEER
        return now >= connection.ack_at or closing or self._half_credit_used(connection)

    def _schedule_ack(self, now: float) -> None:
        connection = self._sender()
        if connection is None or connection.ack_at is not None:
            return
        if connection.stated != self.inbox.marks():
            connection.ack_at = now + ACK_DELAY
            self.soonest = min(self.soonest, connection.ack_at)

    def _times(self, connection: Connection) -> list[float]:
        times = [connection.heard_at + self._silence(connection)]
        if not connection.commit:
            times.append(connection.opened_at + CANDIDATE_WAIT)
        if connection.transport is WEBSOCKET:
            if not connection.asked and not connection.asks:
                times.append(connection.heard_at + self.grant.keepalive)
            if connection.ack_at is not None and connection is self._sender():
                times.append(connection.ack_at)
        return times

    def _silence(self, connection: Connection) -> float:
        silence = 2 * self.grant.keepalive + SILENCE_MARGIN
        polling = connection.transport is POLLING
        return min(silence, self.grant.inactivity) if polling else silence

    def _timeout(self, connection: Connection, now: float) -> list[Event]:
        # The same sums as in `_times`: rounding must not put the deadline before the time.
        if now >= connection.heard_at + self._silence(connection):
            reason = f"silent for {now - connection.heard_at:.0f} s"
            return self._drop(connection, CloseCode.INACTIVE, reason, now)
        if not connection.commit and now >= connection.opened_at + CANDIDATE_WAIT:
            return self._drop(connection, CloseCode.INACTIVE, "never committed", now)
        if (
            connection.transport is WEBSOCKET
            and now >= connection.heard_at + self.grant.keepalive
            and not connection.asked
            and not connection.asks
        ):
            self.ask(connection.attempt)
        return []

    def _drop(self, connection: Connection, code: int, reason: str, now: float) -> list[Event]:
        self.detach(connection.attempt, now)
        return [ConnectionDropped(connection.attempt, code, reason)]


def _behind(seq: int, offset: int, items: tuple[Carried, ...]) -> tuple[int, int]:
    """What comes behind `items`, which begin with unit `offset` of message `seq`."""
    if not items:
        return seq, offset
    last = items[-1]
    if isinstance(last, Part) and not last.finished:
        return seq + len(items) - 1, last.end
    return seq + len(items), 0
