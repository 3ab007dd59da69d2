"""The long-polling transport: one POST, answered at once or held until something is due.

`PollingDoor.take` gives an answer, or a `HeldPoll` that becomes one. Nothing
here waits: a blocking WSGI request waits on the held poll, callbacks on a hub
would be told by it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from .answers import RETRY_AFTER, Answer, retry_after
from .conversation import Conversation
from .protocol.codec import decode_body, encode_body
from .protocol.codes import CloseCode
from .protocol.envelope import End, Hello, PollRequest, Unit, Welcome
from .protocol.errors import RemoteProtocolError
from .protocol.events import POLLING
from .protocol.server import JOIN, PARK, Verdict
from .protocol.state import CLOSED
from .registry import Registry

logger = logging.getLogger("fallback_transport.polling")

#: The same as `RETRY_AFTER` where a server restarts. Its clients come again spread over 5 s, and
#: behind a balancer some to the process that ends: they are not to be silent for longer than if it
#: had crashed.
RESTART_AFTER: Final = 2
#: Seconds for which the welcome to a new session waits for its first messages (the answer to
#: CONNECT, what on_connect sends): long enough for a handler that does not wait itself, and far
#: less than the round trip that it saves.
WELCOME_WAIT: Final = 0.01
#: Beyond a held poll's own time: its answer is due by then, whatever happens.
HOLD_MARGIN: Final = 10.0
#: How many requests of one number are held for the same answer; beyond, the oldest is let go.
MAX_JOINED: Final = 4

_STATUS = {
    CloseCode.MALFORMED: 400,
    CloseCode.PROTOCOL_ERROR: 400,
    CloseCode.ORIGIN: 403,
    CloseCode.TOO_LARGE: 413,
    CloseCode.MISDIRECTED: 421,
    CloseCode.VERSION: 426,
    CloseCode.SERVICE_RESTART: 503,
    CloseCode.TRY_AGAIN_LATER: 503,
}


def answer(
    unit: Unit, *, unread: bool = False, weighs: Callable[[int], None] | None = None
) -> Answer:
    """The answer that carries `unit`; `unread` and `weighs`: see `Answer`.

    News of a session or connection travels with status 200: proxies replace
    the bodies of errors.
    """
    if not isinstance(unit, End) or unit.session:
        # Nearly always: without its `__new__`, which is in Python.
        return tuple.__new__(Answer, (200, encode_body(unit), (), False, weighs))
    status = _STATUS.get(CloseCode(unit.code), 200)
    after = RESTART_AFTER if unit.code == CloseCode.SERVICE_RESTART else RETRY_AFTER
    return Answer(status, encode_body(unit), retry_after(after) if status == 503 else (), unread)


class HeldPoll:
    """A request that is held; `done` is called once it has its `answer`.

    Args:
        patience: seconds for which it may be held.
        late: gives it the answer that it has then.
    """

    __slots__ = ("_done", "_late", "answer", "patience")

    def __init__(
        self, done: Callable[[], None], patience: float, late: Callable[[HeldPoll], None]
    ) -> None:
        self.answer: Answer | None = None
        self.patience = patience
        self._done = done
        self._late = late

    def settle(self) -> Answer:
        """Its answer, now that it was waited for."""
        if self.answer is None:
            self._late(self)
        assert self.answer is not None, "`late` gives one"
        return self.answer

    def give(self, answer: Answer) -> None:
        """Answer it; a second answer is ignored."""
        if self.answer is None:
            self.answer = answer
            self._done()


class PollingConnection:
    """One run of polls: the session's attachment for them."""

    __slots__ = ("_attempt", "_conversation", "_greeted", "_held")

    def __init__(self, attempt: int) -> None:
        self._attempt = attempt
        self._conversation: Conversation | None = None
        self._held: dict[int, list[HeldPoll]] = {}
        self._greeted: tuple[Welcome, HeldPoll] | None = None

    def bind(self, conversation: Conversation) -> None:
        """The session that this connection belongs to."""
        self._conversation = conversation

    def hold_welcome(self, welcome: Welcome, poll: HeldPoll) -> None:
        """Keep the request that is answered with `welcome`, until there are messages for it."""
        assert self._conversation is not None, "bound before anything is held"
        with self._conversation.lock:
            self._greeted = welcome, poll
            # They may have come in the meantime, or the session's end.
            self.wake()

    def give_welcome(self) -> None:
        """Answer the held hello, with the messages that there are."""
        assert self._conversation is not None, "bound before anything is held"
        with self._conversation.lock:
            machine, greeted = self._conversation.machine, self._greeted
            if greeted is None:
                return
            self._greeted = None
            welcome, poll = greeted
            if machine.state is CLOSED:
                poll.give(answer(machine.end()))
            elif self._attempt in machine.connections:
                poll.give(answer(replace(welcome, envelope=machine.greeting(self._attempt))))
            else:
                # Too many others have come; it hears of that with its first poll.
                poll.give(answer(welcome))

    def hold(self, number: int, poll: HeldPoll) -> None:
        """Keep a request; called under the session's lock."""
        joined = self._held.setdefault(number, [])
        if len(joined) >= MAX_JOINED:
            assert self._conversation is not None, "bound before anything is held"
            joined.pop(0).give(answer(self._conversation.machine.superseded()))
        joined.append(poll)

    def release(self, number: int) -> None:
        """A newer request has come: this one is answered without messages."""
        assert self._conversation is not None, "bound before anything is held"
        machine, now = self._conversation.machine, self._conversation.runtime.now()
        self._give(number, machine.answer(self._attempt, now, waiting=False, limit=None))

    # -- the session's side (see `conversation.Attachment`) ------------------------

    def wake(self) -> None:
        """There may be a held request to answer."""
        if self._conversation is None:
            return
        if self._greeted is None and not self._held:
            return
        with self._conversation.lock:
            machine, now = self._conversation.machine, self._conversation.runtime.now()
            if self._greeted is not None and machine.outbox.last > machine.outbox.received:
                self.give_welcome()
            if not self._held:
                return
            number = machine.due(self._attempt, now)
            if number is not None:
                limit = machine.limit(self._attempt)
                self._give(number, machine.answer(self._attempt, now, waiting=True, limit=limit))

    def drop(self, code: int, reason: str) -> None:
        """The connection no longer carries the session."""
        if self._conversation is not None:
            self.give_welcome()
            self._give_all(self._conversation.machine.superseded())

    def end(self, end: End) -> None:
        """The session is over."""
        if self._conversation is not None:
            self.give_welcome()
        self._give_all(end)

    def _give(self, number: int, unit: Unit) -> None:
        assert self._conversation is not None, "bound before anything is held"
        ready = answer(unit, weighs=self._conversation.weigh)
        for poll in self._held.pop(number, ()):
            poll.give(ready)

    def _give_all(self, unit: Unit) -> None:
        for number in list(self._held):
            self._give(number, unit)


class PollingDoor:
    """`POST <mount>/poll`.

    Args:
        registry: the sessions.
        max_held: how many polls may be held at once; beyond, they are answered
            empty. On a server with a fixed number of threads, half of them.
    """

    def __init__(self, registry: Registry, max_held: int | None) -> None:
        self._registry = registry
        self._max_held = max_held
        self._lock = registry.runtime.lock()
        self._held = 0

    def take(
        self,
        body: bytes,
        environ: Callable[[Hello], dict[str, Any]],
        origin: str,
        done: Callable[[], None],
        address: Callable[[], str] = str,
    ) -> Answer | HeldPoll:
        """Take one request.

        Args:
            body: the whole body.
            environ: makes the request that handlers will see.
            origin: the request's origin.
            done: called when a held request has its answer.
            address: tells whom a new session counts for.
        """
        try:
            unit = decode_body(body)
        except RemoteProtocolError as error:
            logger.warning("poll: %s, from %s", error, address())
            return answer(End(error.code, str(error)[:120]))
        if isinstance(unit, Hello):
            return self._greet(unit, environ, origin, done, address())
        if isinstance(unit, PollRequest):
            return self._request(unit, environ, done)
        logger.warning("poll: not what a client sends here, from %s", address())
        return answer(End(CloseCode.MALFORMED, "not what a client sends here"))

    def left(self) -> None:
        """A held request was answered or given up by its server."""
        with self._lock:
            self._held -= 1

    def _greet(
        self,
        hello: Hello,
        environ: Callable[[Hello], dict[str, Any]],
        origin: str,
        done: Callable[[], None],
        address: str,
    ) -> Answer | HeldPoll:
        connection = PollingConnection(hello.attempt)
        conversation, unit = self._registry.greet(
            hello, POLLING, connection, environ, origin, address
        )
        if conversation is None or isinstance(unit, End):
            return answer(unit)
        connection.bind(conversation)
        if unit.key is None or unit.envelope.messages:
            return answer(unit)
        held = HeldPoll(done, WELCOME_WAIT, lambda poll: connection.give_welcome())
        connection.hold_welcome(unit, held)
        with self._lock:
            self._held += 1
        return held

    def _request(
        self,
        request: PollRequest,
        environ: Callable[[Hello], dict[str, Any]],
        done: Callable[[], None],
    ) -> Answer | HeldPoll:
        found = self._registry.resume(request.id, request.key)
        if isinstance(found, End):
            return answer(found)
        bounds = found.machine.outbox.bounds
        if request.wait is not None and found.weight > bounds.bytes + found.machine.grant.body:
            # More than a full outbox: answers that nobody reads are to be bounded, too.
            return answer(End(CloseCode.TRY_AGAIN_LATER, "read the answers before this one"))
        held = HeldPoll(done, self._registry.grant.wait + HOLD_MARGIN, _held_for_too_long)

        def parked(request: PollRequest, verdict: Verdict) -> None:
            connection = found.adopt(request.attempt, PollingConnection)
            assert isinstance(connection, PollingConnection), "only polling connections park"
            connection.bind(found)
            if verdict.releases is not None:
                connection.release(verdict.releases)
            if verdict.poll in (PARK, JOIN):
                connection.hold(request.number, held)
                with self._lock:
                    self._held += 1

        full = self._max_held is not None and self._held >= self._max_held
        if full and request.wait is not None:
            # Answered at once, with nothing: the client waits a little and asks again.
            request = request._replace(wait=0.0)
        unit = found.request(request, parked, environ)
        return held if unit is None else answer(unit, weighs=found.weigh)


def _held_for_too_long(poll: HeldPoll) -> None:
    poll.give(answer(End(CloseCode.SUPERSEDED, "held for too long")))
