"""One session in a server process: its machine, its connections, its handlers' order.

Everything happens under the session's lock, and nothing under it waits: what
arrives goes through the machine, its events are acted on, and the connections
are woken to pull what they may send. Application code runs elsewhere: one
worker a session, in the order of the messages.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, Protocol

from .application import Application, MalformedPacket, Unit
from .backlog import Backlog, Waiter
from .carriage import Carriage
from .protocol.codes import CloseCode
from .protocol.envelope import End, Envelope, Hello, PollRequest, Welcome
from .protocol.errors import OutboxFull, RemoteProtocolError, SessionOver
from .protocol.events import (
    POLLING,
    Answered,
    CloseReceived,
    ConnectionDropped,
    Event,
    MessageReceived,
    SessionClosed,
    Switched,
    Transport,
)
from .protocol.message import Message
from .protocol.server import ANSWER, JOIN, PARK, REFUSE, ServerMachine, Verdict
from .protocol.state import CLOSED
from .replies import Replies
from .runtime import TURN, Runtime

logger = logging.getLogger("fallback_transport.session")


class Attachment(Protocol):
    """What a transport does for one connection; none of it may wait."""

    def wake(self) -> None:
        """There may be something to pull, or a held poll to answer."""

    def drop(self, code: int, reason: str) -> None:
        """The connection no longer belongs to the session."""

    def end(self, end: End) -> None:
        """The session is over."""


class Owner(Protocol):
    """Who keeps the conversations, and is told of each."""

    #: Seconds for which messages may wait for room in an outbox; None: not at all.
    patience: float | None

    def schedule(self, conversation: Conversation, when: float | None) -> None:
        """`timeout` is to be called at that time, or not at all."""

    def proven(self, conversation: Conversation) -> None:
        """The client has committed a connection."""

    def carried(self, before: Transport | None, now: Transport, why: str | None) -> None:
        """What carried it before, what does now, and why, if that is polling."""

    def forget(self, conversation: Conversation) -> None:
        """It is over."""

    def gone(self, conversation: Conversation) -> None:
        """Its last handler has returned."""


class Conversation:
    """A session of this process.

    Args:
        id, machine, environ: its public name, its protocol, its hello's request.
        subprotocol: the application's protocol, "" if none was agreed on.
        runtime: the async mode.
        application: makes the layer above for this conversation.
        owner: who keeps it.
    """

    # Many are idle: what is seldom there is None, or made when it is asked for.
    __slots__ = (
        "__weakref__",
        "_application",
        "_attachments",
        "_backlog",
        "_carriage",
        "_dirty",
        "_large",
        "_on_over",
        "_owner",
        "_replies",
        "_resting",
        "_retired",
        "_scheduled",
        "_told",
        "_units",
        "_unseen",
        "_working",
        "data",
        "environ",
        "id",
        "lock",
        "machine",
        "runtime",
        "subprotocol",
        "weight",
    )

    def __init__(
        self,
        id: str,
        machine: ServerMachine,
        environ: dict[str, Any],
        *,
        subprotocol: str = "",
        runtime: Runtime,
        application: Callable[[Conversation], Application],
        owner: Owner,
    ) -> None:
        self.id = id
        self.machine = machine
        self.environ = environ
        self.subprotocol = subprotocol
        self.data: dict[Any, Any] = {}
        self.lock = runtime.lock()
        self.runtime = runtime
        #: The bytes of the answers to its polls that are being written.
        self.weight = 0
        #: None once it has been told of the end.
        self._application: Application | None = application(self)
        self._owner = owner
        self._carriage = Carriage(runtime.now())
        self._attachments: dict[int, Attachment] = {}
        #: The requests of connections that the application sees once they are committed.
        self._unseen: dict[int, dict[str, Any]] | None = None
        # Short, and mostly empty: an empty deque is 600 bytes.
        self._units: list[Unit] = []
        self._working = False
        #: Whether `_flush` is to be called at the end of the turn.
        self._dirty = False
        #: The deadline that `schedule` was asked for.
        self._scheduled = math.inf
        self._resting = self._retired = False
        #: The last message of an event with as many attachments as messages are granted: it comes
        #: alone, and is one more than these.
        self._large = 0
        #: The replies that are not handled yet; None while there are none.
        self._replies: Replies | None = None
        #: The code and the reason of the end that it has been told of.
        self._told: tuple[int, str] | None = None
        self._on_over: set[Callable[[], None]] | None = None
        #: What waits for room; None while nothing ever has.
        self._backlog: Backlog | None = None

    # -- for the layer above -----------------------------------------------------

    @property
    def created(self) -> float:
        """When it began."""
        return self._carriage.began

    @property
    def transport(self) -> str | None:
        """The name of the transport that carries the session now, or None."""
        carrier = self.machine.transport
        return carrier.value if carrier else None

    @property
    def closure(self) -> tuple[int, str]:
        """Code and reason of its close, once it is closing: the client's, if that closed first."""
        return self._told or self.machine.closure

    @property
    def open(self) -> bool:
        """Whether messages can still be sent."""
        return self.machine.state.accepts_messages

    def send(self, messages: list[Message], latest: str | None = None) -> None:
        """Send messages that belong together. A session that is over ignores them.

        One alone with a key, `latest`, replaces that of the same key if it was not sent yet.

        An outbox beyond its bounds ends the session with 4429 and its count.

        Raises:
            MessageRefused: one is larger than any message may be.
        """
        self._settle()
        with self.lock:
            try:
                self.machine.send(messages, self.runtime.now(), latest=latest)
            except SessionOver:
                return
            except OutboxFull as full:
                self._act(self.machine.abort(CloseCode.TOO_MANY, str(full)))
            self._wake()

    def send_each(self, messages: list[Message]) -> None:
        """Send messages of which none belongs to the others: see `runtime.Batch`."""
        with self.lock:
            try:
                self.machine.send(messages, self.runtime.now())
            except SessionOver:
                return
            except OutboxFull:
                # As many as there is room for, so that the end has their count.
                for message in messages:
                    self.send([message])
                return
            self._wake()

    def offer(self, messages: list[Message], latest: str | None = None) -> Waiter | None:
        """Send messages as `send` does; those that there is no room for wait, if they may.

        Returns:
            What waits, behind all that waits already: see `Emission`.

        Raises:
            MessageRefused: one is larger than any message may be.
        """
        patience = self._owner.patience
        if patience is None:
            self.send(messages, latest)
            return None
        self._settle()
        with self.lock:
            if not self.open:
                return None
            now = self.runtime.now()
            waiting = self._backlog
            # What replaces a message that is in the outbox needs no room, and waits for nobody.
            if not waiting or (
                latest is not None
                and len(messages) == 1
                and self.machine.outbox.awaits(latest)
                and not waiting.has_key(latest)
            ):
                try:
                    self.machine.send(messages, now, latest=latest)
                    self._wake()
                    return None
                except OutboxFull:
                    pass
            waiter = Waiter(self, messages, latest, now + patience, self.runtime.event())
            if self._backlog is None:
                self._backlog = Backlog(self.machine.outbox.bounds)
            try:
                self._backlog.append(waiter)
            except OutboxFull as full:
                self._act(self.machine.abort(CloseCode.TOO_MANY, str(full)))
                return None
            return waiter

    def expire(self, waiter: Waiter) -> None:
        """Messages have waited for as long as they may: the session ends with 4429."""
        with self.lock:
            if self._backlog and waiter in self._backlog:
                outbox = self.machine.outbox
                held = f"{len(outbox)} messages, {outbox.bytes} bytes are unconfirmed"
                reason = f"{held} after a wait of {self._owner.patience:g} s"
                self._act(self.machine.abort(CloseCode.TOO_MANY, reason))

    def withdraw(self, waiter: Waiter) -> None:
        """Messages that wait are not to be sent any more."""
        with self.lock:
            if self._backlog and waiter in self._backlog:
                self._backlog.remove(waiter)
                self._act([])
                self._wake()

    def close(self, code: int, reason: str) -> None:
        """Close in order, behind all that was sent.

        Raises:
            ValueError: code or reason cannot go over the wire.
        """
        self._settle()
        with self.lock:
            self._act(self.machine.close(code, reason, self.runtime.now()))
            self._wake()

    def abort(self, code: int, reason: str) -> None:
        """End at once."""
        self._settle()
        with self.lock:
            self._act(self.machine.abort(code, reason))

    def give_up(self, code: int, reason: str) -> None:
        """End at once, unless the client has committed a connection by now."""
        with self.lock:
            if not self.machine.committed:
                self._act(self.machine.abort(code, reason))

    def rest(self) -> None:
        """Begin no more handlers: what waits for them, or still comes, stays unconfirmed."""
        with self.lock:
            self._resting = True
            if not self._told:
                self._units.clear()

    def retire(self, code: int, reason: str) -> None:
        """Rest, and close. A handler that runs can say no more, so its message stays, too."""
        with self.lock:
            self.rest()
            self._retired = self.open
            self.close(code, reason)

    def refuse(self, code: int, reason: str) -> None:
        """Close, and rest.

        Raises:
            ValueError: see `close`.
        """
        with self.lock:
            self.rest()
            self.close(code, reason)

    @property
    def busy(self) -> bool:
        """Whether a handler runs, or is about to."""
        return self._working

    def has_handled(self, seq: int) -> bool:
        """Whether message `seq` was handled, or will never be."""
        return self.machine.inbox.handled >= seq or self.machine.state is CLOSED

    def when_over(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when the session ends (at once if it has); returns the cancellation."""
        with self.lock:
            ending = not self.open
            if not ending:
                self._on_over = self._on_over or set()
                self._on_over.add(callback)
        if ending:
            callback()
        return lambda: self._cancel(callback)

    def _settle(self) -> None:
        """See that it has what was sent to it and others before; from another thread, soon."""
        if self.runtime.batch.items:
            self.runtime.at_home(self.runtime.batch.hand_over)

    def _cancel(self, callback: Callable[[], None]) -> None:
        if self._on_over is not None:
            self._on_over.discard(callback)

    # -- for the transports ------------------------------------------------------

    def greet(
        self,
        hello: Hello,
        transport: Transport,
        attachment: Attachment,
        *,
        key: str | None,
        environ: Callable[[Hello], dict[str, Any]],
    ) -> Welcome | End:
        """Take a hello on a new connection; the answer goes out on it first.

        Args:
            key: the one that the welcome yields, None if it yields none.
            environ: makes the request that handlers will see.
        """
        with self.lock:
            if transport is POLLING:
                self._carriage.why = dict(hello.client).get("why")
            keyless = hello.id is None and key is None
            known = self.machine.connections.get(hello.attempt)
            repeated = known is not None and known.transport is transport is POLLING
            try:
                events = self.machine.welcome(
                    hello.attempt, transport, hello.envelope, self.runtime.now(), keyless=keyless
                )
            except RemoteProtocolError as error:
                # Of a new session, nothing else has seen to it that it ends.
                self._schedule()
                return self.refused(error)
            if hello.id is not None and not repeated:
                # Its key is proven, and its messages count from here on.
                self._resumed(environ(hello))
            self._act(events)
            if self.machine.state is CLOSED:
                return self.machine.end()
            if keyless:
                self._unseen = {**(self._unseen or {}), hello.attempt: environ(hello)}
            # A run of polls goes on when its hello comes again, with the polls that it holds.
            self._attachments.setdefault(hello.attempt, attachment)
            greeting = self.machine.greeting(hello.attempt)
            self._wake()
            # A resume's client has heard it.
            subprotocol = self.subprotocol if hello.id is None else ""
            grant = self.machine.grant
            return Welcome(self.id, hello.attempt, key, grant, greeting, subprotocol)

    def receive(self, attempt: int, envelope: Envelope) -> End | None:
        """Take an envelope; an End if the connection (or the session) ends for it."""
        with self.lock:
            machine = self.machine
            try:
                events = machine.receive(attempt, envelope, self.runtime.now())
                if len(events) == 1 and type(events[0]) is Answered:
                    # It lives, as each keepalive says; nobody here waits to hear it.
                    events = []
                self._act(events)
            except RemoteProtocolError as error:
                return self.refused(error)
            except Exception:
                return self._failed()
            asks = envelope.messages or envelope.ask is not None
            if events or asks or self._backlog is not None:
                self._wake()
            else:
                # Marks alone, as a fan-out to many brings back from each: there is nothing to say.
                self._schedule()
            return None

    def heard(self, attempt: int) -> None:
        """Bytes came on a connection."""
        with self.lock:
            self.machine.heard(attempt, self.runtime.now())

    def request(
        self,
        request: PollRequest,
        parked: Callable[[PollRequest, Verdict], None],
        environ: Callable[[Hello], dict[str, Any]],
    ) -> Envelope | End | None:
        """Take a polling request: the answer, or None once `parked` was told to hold it.

        `environ` makes what handlers see of it, should it bring a connection back.
        """
        with self.lock:
            now = self.runtime.now()
            machine, attempt = self.machine, request.attempt
            back = attempt not in machine.connections and machine.returns(request)
            try:
                events, verdict = machine.request(request, now)
                if back:
                    # Seen as its commit is acted on.
                    self._unseen = {**(self._unseen or {}), attempt: environ(Hello(attempt))}
                self._act(events)
            except RemoteProtocolError as error:
                return self.refused(error)
            except Exception:
                return self._failed()
            answer: Envelope | End | None
            if machine.state is CLOSED:
                answer = machine.end()
            elif verdict.poll is REFUSE:
                answer = machine.superseded()
            elif verdict.poll in (PARK, JOIN):
                parked(request, verdict)
                if not events and self._backlog is None and machine.soonest >= self._scheduled:
                    # It confirms what was sent, and waits for more: there is nothing to say.
                    return None
                answer = None
            else:
                if verdict.releases is not None:
                    parked(request, verdict)
                waiting = verdict.poll is ANSWER and request.wait is not None
                answer = machine.answer(attempt, now, waiting=waiting, limit=request.limit)
            self._wake()
            return answer

    def detach(self, attempt: int, attachment: Attachment) -> None:
        """The connection has ended."""
        with self.lock:
            if self._attachments.get(attempt) is attachment:
                del self._attachments[attempt]
                self._see(attempt)
                self._act(self.machine.detach(attempt, self.runtime.now()))
                self._account()
                self._wake()

    def adopt(self, attempt: int, make: Callable[[int], Attachment]) -> Attachment:
        """The attachment of a polling connection, made now if it has none; under the lock."""
        attachment = self._attachments.get(attempt)
        if attachment is None:
            attachment = self._attachments[attempt] = make(attempt)
        return attachment

    def pull(self, attempt: int) -> Envelope | None:
        """What is to be sent on a WebSocket now."""
        with self.lock:
            try:
                return self.machine.pull(attempt, self.runtime.now())
            except Exception:
                self._failed()
                return None

    def weigh(self, size: int) -> None:
        """An answer of so many bytes begins to be written, or of so many less than 0 is."""
        with self.lock:
            self.weight += size

    def timeout(self) -> None:
        """Do what the time demands."""
        with self.lock:
            self._scheduled = math.inf
            try:
                self._act(self.machine.timeout(self.runtime.now()))
            except Exception:
                self._failed()
            self._wake()

    def refused(self, error: RemoteProtocolError) -> End:
        """The end that answers a broken rule; a fatal one ends the session too."""
        with self.lock:
            if error.fatal:
                self._act(self.machine.abort(error.code, str(error)[:120]))
                return self.machine.end()
            logger.warning("session %s: %s", self.id, error)
            inbox = self.machine.inbox
            return End(error.code, str(error)[:120], False, inbox.handled, inbox.received)

    # -- inside, under the lock ----------------------------------------------------

    def _failed(self) -> End:
        """A defect of ours: the session ends with it, for it would only come again."""
        logger.exception("session %s: a defect", self.id)
        self._act(self.machine.abort(CloseCode.INTERNAL_ERROR, "a defect of the server"))
        return self.machine.end()

    def _act(self, events: list[Event]) -> None:
        if events:
            self._happened(events)
        if self._backlog:
            self._let_in(self._backlog)

    def _happened(self, events: list[Event]) -> None:
        over = type(events[-1]) is SessionClosed
        for event in events:
            if type(event) is MessageReceived:
                self._take(event)
            elif isinstance(event, ConnectionDropped):
                self._account()
                attachment = self._attachments.pop(event.attempt, None)
                self._see(event.attempt)
                if attachment is not None:
                    attachment.drop(event.code, event.reason)
                if not over:
                    # The session's own end says as much.
                    reason = event.code, event.reason
                    logger.info(
                        "session %s: connection %s ends: %s %s", self.id, event.attempt, *reason
                    )
            elif isinstance(event, Switched):
                self._account()
                carriage = self._carriage
                if not carriage.connections:
                    self._owner.proven(self)
                before = carriage.switched(event.transport)
                self._owner.carried(before, event.transport, carriage.why)
                unseen = self._see(event.attempt)
                if unseen is not None:
                    self._resumed(unseen)
            elif isinstance(event, CloseReceived):
                self._fail_requests()
                self._tell(event.code, event.reason, by_client=True, seq=event.seq)
            elif isinstance(event, SessionClosed):
                self._finished(event)
        inbox, grant = self.machine.inbox, self.machine.grant
        if inbox.pending > grant.messages or inbox.pending_bytes > grant.bytes:
            count, size = (0, 0) if self._replies is None else self._replies.outside(grant)
            count += inbox.handled < self._large
            if self.machine.over_credit(count, size):
                self._act(self.machine.abort(CloseCode.TOO_MANY, "more than the granted credit"))

    def _let_in(self, backlog: Backlog) -> None:
        """Send what waits, as far as there is room; nothing of it once the session is closing."""
        while backlog and self.open:
            waiter = backlog.first
            try:
                self.machine.send(waiter.messages, self.runtime.now(), latest=waiter.latest)
            except OutboxFull:
                return
            backlog.remove(waiter)
        backlog.clear()

    def _take(self, event: MessageReceived) -> None:
        # Not merely closing: what came in one envelope with the client's close is before it.
        if self.machine.state is CLOSED or self._application is None:
            return
        try:
            unit = self._application.unit(event.seq, event.data)
        except MalformedPacket as error:
            self._act(self.machine.abort(CloseCode.MALFORMED, str(error)[:120]))
            return
        if unit is None:
            return
        if not unit.urgent:
            if len(unit.seqs) > self.machine.grant.messages:
                self._large = event.seq
            if not self._resting:
                self._enqueue(unit)
            return
        if self._replies is None:
            self._replies = Replies()
        if self._replies.add(unit, Message(event.data).size):
            self.runtime.submit(self._run_urgent)

    def _resumed(self, environ: dict[str, Any]) -> None:
        """Queue the application's look at a request that resumes, before what comes with it."""
        if self._told or self._resting or self.machine.state is CLOSED:
            return
        application = self._application
        assert application is not None, "not told of the end yet"
        look = Unit((), application.resumed, (environ,))
        for place, unit in enumerate(self._units):
            if unit.run == look.run:
                # Of several the newest counts; it is looked at when the first would have been.
                self._units[place] = look
                return
        self._enqueue(look)

    def _see(self, attempt: int) -> dict[str, Any] | None:
        """The request of a connection that the application has not seen, if there is one."""
        if self._unseen is None:
            return None
        environ = self._unseen.pop(attempt, None)
        self._unseen = self._unseen or None
        return environ

    def _finished(self, closed: SessionClosed) -> None:
        self._fail_requests()
        self._owner.schedule(self, None)
        self._owner.forget(self)
        end = self.machine.end()
        attachments = list(self._attachments.values())
        self._attachments.clear()
        self._unseen = None
        self._carriage.log_end(self.id, closed, self.machine, self.runtime.now())
        if not self._told:
            # What the handlers have not begun stays unconfirmed, and the client is told so.
            self._units.clear()
        self._tell(closed.code, closed.reason, by_client=False, seq=None)
        # Last: where one fails, all else is done.
        for attachment in attachments:
            attachment.end(end)

    def _account(self) -> None:
        self._carriage.account(self.machine.transport, self.runtime.now())

    def _fail_requests(self) -> None:
        callbacks, self._on_over = self._on_over, None
        for callback in callbacks or ():
            callback()

    def _tell(self, code: int, reason: str, *, by_client: bool, seq: int | None) -> None:
        """Queue the application's one notice of the end, behind all messages."""
        if self._told:
            return
        self._told = code, reason
        seqs = () if seq is None else (seq,)
        application = self._application
        assert application is not None, "told once"
        self._enqueue(Unit(seqs, application.over, (code, reason, by_client, self._gone)))

    def _gone(self) -> None:
        # A circle less: what ends by the thousand must not wait for the collector.
        self._application = None
        self._owner.gone(self)

    def _wake(self) -> None:
        """There may be something to send: once a turn, so that it goes in one envelope."""
        if not self._dirty:
            self._dirty = True
            self.runtime.at_end_of_turn(self._flush)

    def _flush(self) -> None:
        # So that one envelope, or the one poll that is held, has all of it.
        self._settle()
        with self.lock:
            self._dirty = False
            try:
                for attachment in tuple(self._attachments.values()):
                    attachment.wake()
            except Exception:
                self._failed()
            self._schedule()

    def _schedule(self) -> None:
        soonest = self.machine.soonest
        if soonest < self._scheduled:
            # Too soon costs no more than to look; where it is 0, nobody has looked.
            when = soonest or self.machine.deadline()
            self._scheduled = math.inf if when is None else when
            self._owner.schedule(self, when)

    def _enqueue(self, unit: Unit) -> None:
        self._units.append(unit)
        if not self._working:
            self._working = True
            self.runtime.submit(self._work)

    def _handled(self, unit: Unit) -> None:
        if self._retired:
            return
        now = self.runtime.now()
        for seq in unit.seqs:
            self._act(self.machine.handled(seq, now))

    # -- the worker, without the lock ------------------------------------------------

    def _work(self) -> None:
        since = self.runtime.now()
        while True:
            with self.lock:
                if not self._units:
                    self._working = False
                    return
                unit = self._units.pop(0)
            try:
                self._run(unit)
            except BaseException:
                # It may end no more than this task; the session is not to stop with it.
                self.runtime.submit(self._work)
                raise
            if self._units and self.runtime.now() - since > TURN:
                # Where there is always something to do, handlers that never wait hold up a hub.
                self.runtime.give_way()
                since = self.runtime.now()

    def _run_urgent(self) -> None:
        with self.lock:
            replies = self._replies
            assert replies is not None, "one waits"
            (unit, count, size), more = replies.begin()
            if more:
                # Now, for it may wait for the next one.
                self.runtime.submit(self._run_urgent)
        try:
            self._run(unit)
        finally:
            with self.lock:
                if replies.handled(count, size):
                    self._replies = None

    def _run(self, unit: Unit) -> None:
        try:
            unit.run(*unit.arguments)
        except MalformedPacket as error:
            logger.warning("session %s: %s", self.id, error)
        except (KeyboardInterrupt, SystemExit):
            # For the whole process, or for the thread that this runs in.
            raise
        except BaseException:
            # The one boundary behind all application code: the session lives on. The
            # time-outs of eventlet and gevent are no `Exception`.
            logger.exception("session %s: a handler raised", self.id)
        finally:
            with self.lock:
                self._handled(unit)
                self._wake()
