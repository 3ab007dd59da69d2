"""The side of a session that faces its application: what that sends, and what it is given.

Everything happens under the session's lock, and nothing under it waits. Application code runs
elsewhere: one worker a session, in the order of the messages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import Context
from typing import Any

from .application import Application, MalformedPacket, Unit
from .backlog import Backlog, Waiter
from .protocol.codes import CloseCode
from .protocol.errors import OutboxFull, SessionOver
from .protocol.events import Event, MessageReceived
from .protocol.message import Message
from .protocol.server import ServerMachine
from .protocol.state import CLOSED
from .replies import Replies
from .runtime import TURN, Runtime

logger = logging.getLogger("fallback_transport.session")


class ApplicationSide:
    """See the module; `Conversation` is the whole of it.

    Args:
        id, machine, environ: its public name, its protocol, its hello's request.
        subprotocol: the application's protocol, "" if none was agreed on.
        runtime: the async mode.
        patience: seconds for which messages may wait for room in the outbox; None: not at all.
    """

    # Many are idle: what is seldom there is None, or made when it is asked for.
    __slots__ = (
        "_application",
        "_backlog",
        "_dirty",
        "_large",
        "_on_over",
        "_patience",
        "_replies",
        "_resting",
        "_retired",
        "_told",
        "_units",
        "_working",
        "data",
        "environ",
        "id",
        "lock",
        "machine",
        "runtime",
        "subprotocol",
    )

    def __init__(
        self,
        id: str,
        machine: ServerMachine,
        environ: dict[str, Any],
        subprotocol: str,
        runtime: Runtime,
        patience: float | None,
    ) -> None:
        self.id = id
        self.machine = machine
        self.environ = environ
        self.subprotocol = subprotocol
        self.data: dict[Any, Any] = {}
        self.lock = runtime.lock()
        self.runtime = runtime
        self._patience = patience
        #: None once it has been told of the end.
        self._application: Application | None = None
        # Short, and mostly empty: an empty deque is 600 bytes.
        self._units: list[Unit] = []
        self._working = False
        #: Whether `_flush` is to be called at the end of the turn.
        self._dirty = False
        #: Whether no more handlers begin; whether one that returns confirms nothing any more.
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
    def transport(self) -> str | None:
        """The name of the transport that carries the session now, or is about to; or None.

        Handlers run before the client has committed a connection: then it is that of the newest
        which it was welcomed on.
        """
        carrier = self.machine.transport
        if carrier is None:
            for each in list(self.machine.connections.values()):
                # Whoever proved no key is not known to be the client.
                if not each.keyless:
                    carrier = each.transport
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
        self._hand_over_batch()
        with self.lock:
            try:
                self.machine.send(messages, latest=latest)
            except SessionOver:
                return
            except OutboxFull as full:
                self._act(self.machine.abort(CloseCode.TOO_MANY, str(full)))
            self._wake()

    def send_each(self, messages: list[Message], size: int, *, ends: bool) -> None:
        """Send messages of which none belongs to the others: see `runtime.Batch`."""
        with self.lock:
            try:
                self.machine.send(messages, size=size)
            except SessionOver:
                return
            except OutboxFull:
                # As many as there is room for, so that the end has their count.
                for message in messages:
                    self.send([message])
                return
            if not ends or self._dirty:
                self._wake()
                return
        self._flush()

    def offer(self, messages: list[Message], latest: str | None = None) -> Waiter | None:
        """Send messages as `send` does; those that there is no room for wait, if they may.

        Returns:
            What waits, behind all that waits already: see `Emission`.

        Raises:
            MessageRefused: one is larger than any message may be.
        """
        patience = self._patience
        if patience is None:
            self.send(messages, latest)
            return None
        self._hand_over_batch()
        with self.lock:
            if not self.open:
                return None
            waiting = self._backlog
            # What replaces a message that is in the outbox needs no room, and waits for nobody.
            if not waiting or (
                latest is not None
                and len(messages) == 1
                and self.machine.outbox.awaits(latest)
                and not waiting.has_key(latest)
            ):
                try:
                    self.machine.send(messages, latest=latest)
                    self._wake()
                    return None
                except OutboxFull:
                    pass
            until = self.runtime.now() + patience
            waiter = Waiter(self, messages, latest, until, self.runtime.event())
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
                reason = f"{held} after a wait of {self._patience:g} s"
                self._act(self.machine.abort(CloseCode.TOO_MANY, reason))

    def withdraw(self, waiter: Waiter) -> None:
        """Messages that wait are not to be sent any more."""
        with self.lock:
            if self._backlog and waiter in self._backlog:
                self._backlog.remove(waiter)
                self._let_in(self._backlog)
                self._wake()

    def close(self, code: int, reason: str) -> None:
        """Close in order, behind all that was sent.

        Raises:
            ValueError: code or reason cannot go over the wire.
        """
        self._hand_over_batch()
        with self.lock:
            self._act(self.machine.close(code, reason, self.runtime.now()))
            self._wake()

    def abort(self, code: int, reason: str) -> None:
        """End at once."""
        self._hand_over_batch()
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
            self._retired = self.open
            self.refuse(code, reason)

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

    def _hand_over_batch(self) -> None:
        """See that it has what was sent to it and others before; from another thread, soon."""
        if self.runtime.batch.items:
            self.runtime.at_home(self.runtime.batch.hand_over)

    def _cancel(self, callback: Callable[[], None]) -> None:
        if self._on_over is not None:
            self._on_over.discard(callback)

    def _let_in(self, backlog: Backlog) -> None:
        """Send what waits, as far as there is room; nothing of it once the session is closing."""
        while backlog and self.open:
            waiter = backlog.first
            try:
                self.machine.send(waiter.messages, latest=waiter.latest)
            except OutboxFull:
                return
            backlog.remove(waiter)
        backlog.clear()

    # -- for the other side ------------------------------------------------------

    def _act(self, events: list[Event]) -> None:
        """Act on what has happened in the machine."""
        raise NotImplementedError

    def _wake(self) -> None:
        """There may be something to send."""
        raise NotImplementedError

    def _flush(self) -> None:
        """Send what there is: the turn ends."""
        raise NotImplementedError

    def _gone(self) -> None:
        """The last handler has returned."""
        # A circle less: what ends by the thousand must not wait for the collector.
        self._application = None

    # -- what is to be handled, under the lock -------------------------------------

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

    def _check_credit(self) -> None:
        """More than the credit is received and not handled, some of which may be outside it."""
        grant = self.machine.grant
        count, size = (0, 0) if self._replies is None else self._replies.outside(grant)
        count += self.machine.inbox.handled < self._large
        if self.machine.over_credit(count, size):
            self._act(self.machine.abort(CloseCode.TOO_MANY, "more than the granted credit"))

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
                if self._units and self.runtime.now() - since > TURN:
                    # Where there is always something to do, handlers that never wait hold up a hub.
                    self.runtime.give_way()
                    since = self.runtime.now()
            except BaseException:
                # It may end no more than this task; the session is not to stop with it. A time-out
                # that a handler has left behind comes when nothing of the application's runs.
                self.runtime.submit(self._work)
                raise

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
        # What one handler leaves in context variables is not the next one's.
        context = Context()
        try:
            context.run(unit.run, *unit.arguments)
        except MalformedPacket as error:
            logger.warning("session %s: %s", self.id, error)
        except (KeyboardInterrupt, SystemExit):
            # For the whole process, or for the thread that this runs in.
            raise
        except BaseException:
            # The one boundary behind all application code: the session lives on. The
            # time-outs of eventlet and gevent are no `Exception`. What reports it, as Sentry does,
            # has noted in context variables what the handler has said of it.
            context.run(logger.exception, "session %s: a handler raised", self.id)
        finally:
            with self.lock:
                self._handled(unit)
                self._wake()
