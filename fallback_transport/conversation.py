"""One session in a server process: between its application and its connections, its machine.

Everything happens under the session's lock, and nothing under it waits: what arrives goes through
the machine, and its events are acted on. But the connections are woken without it, to pull what
they may send: they have locks of their own, which come before it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, Protocol

from .application import Application
from .application_side import ApplicationSide
from .carriage import Carriage
from .protocol.codes import CloseCode
from .protocol.envelope import End, Envelope, Hello, PollRequest, Welcome
from .protocol.errors import RemoteProtocolError
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
from .protocol.server import ANSWER, JOIN, PARK, REFUSE, ServerMachine, Verdict
from .protocol.state import CLOSED
from .request import for_page_of
from .runtime import Runtime

logger = logging.getLogger("fallback_transport.session")


class Attachment(Protocol):
    """What a transport does for one connection; none of it may wait."""

    def wake(self) -> None:
        """Pull what there is, or answer a held poll: the turn ends. The session's lock is free."""

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


class Conversation(ApplicationSide):
    """A session of this process.

    Args:
        id, machine, environ: its public name, its protocol, its hello's request.
        subprotocol: the application's protocol, "" if none was agreed on.
        runtime: the async mode.
        application: makes the layer above for this conversation.
        owner: who keeps it.
    """

    __slots__ = (
        "__weakref__",
        "_attachments",
        "_carriage",
        "_owner",
        "_scheduled",
        "_unseen",
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
        super().__init__(id, machine, environ, subprotocol, runtime, owner.patience)
        #: The bytes of the answers to its polls that are being written.
        self.weight = 0
        self._owner = owner
        self._carriage = Carriage(runtime.now())
        self._attachments: dict[int, Attachment] = {}
        #: The requests of connections that the application sees once they are committed.
        self._unseen: dict[int, dict[str, Any]] | None = None
        #: The deadline that `schedule` was asked for.
        self._scheduled = math.inf
        self._application = application(self)

    @property
    def created(self) -> float:
        """When it began."""
        return self._carriage.began

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
            if hello.id is not None and (
                self._take_unseen(hello.attempt) is not None or not repeated
            ):
                # Its key is proven, and its messages count from here on. Where it is the same run
                # of polls as one that is not seen yet, that one's hello has proved none.
                self._resumed(environ(hello))
            self._act(events)
            if self.machine.state is CLOSED:
                return self.machine.end()
            if keyless and not repeated:
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
            back = machine.returns(request)
            try:
                events, verdict = machine.request(request, now)
                if back or self._take_unseen(attempt) is not None:
                    # Seen as its commit is acted on; a hello that is not seen has proved no key.
                    seen = for_page_of(environ(Hello(attempt)), self.environ)
                    self._unseen = {**(self._unseen or {}), attempt: seen}
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
                self._take_unseen(attempt)
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
                envelope = self.machine.pull(attempt, self.runtime.now())
            except Exception:
                self._failed()
                return None
            # From now on it is waited for.
            self._schedule()
            return envelope

    def mute(self) -> None:
        """In a fork: nothing goes out on connections that are its parent's."""
        self._attachments.clear()
        # Whoever had it, another thread of the parent's, is not there to release it.
        self.lock = self.runtime.lock()

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
                self._take_unseen(event.attempt)
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
                first = not carriage.connections
                if first:
                    self._owner.proven(self)
                if first or self.open:
                    # Else it brings a page's last words, as the browser has closed its WebSocket.
                    before = carriage.switched(event.transport)
                    self._owner.carried(before, event.transport, carriage.why)
                unseen = self._take_unseen(event.attempt)
                if unseen is not None:
                    self._resumed(unseen)
            elif isinstance(event, CloseReceived):
                self._fail_requests()
                self._tell(event.code, event.reason, by_client=True, seq=event.seq)
            elif isinstance(event, SessionClosed):
                self._finished(event)
        inbox, grant = self.machine.inbox, self.machine.grant
        if inbox.pending > grant.messages or inbox.pending_bytes > grant.bytes:
            self._check_credit()

    def _take_unseen(self, attempt: int) -> dict[str, Any] | None:
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

    def _gone(self) -> None:
        super()._gone()
        self._owner.gone(self)

    def _wake(self) -> None:
        """There may be something to send: once a turn, so that it goes in one envelope."""
        if not self._dirty:
            self._dirty = True
            self.runtime.at_end_of_turn(self._flush)

    def _flush(self) -> None:
        # Called without the lock.
        if self.runtime.batch.items:
            # So that one envelope, or the one poll that is held, has all of it.
            self.runtime.batch.end()
        # Whoever has something more to send from here on asks for another flush.
        self._dirty = False
        try:
            # In one go: another thread may let a connection in.
            for attachment in list(self._attachments.values()):
                attachment.wake()
        except Exception:
            with self.lock:
                self._failed()
        if self.machine.soonest < self._scheduled:
            with self.lock:
                self._schedule()

    def _schedule(self) -> None:
        soonest = self.machine.soonest
        if soonest < self._scheduled:
            # Too soon costs no more than to look; where it is 0, nobody has looked.
            when = soonest or self.machine.deadline()
            self._scheduled = math.inf if when is None else when
            self._owner.schedule(self, when)
