"""Every session of the process: the only place that creates, finds or drops one."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .admission import Unproven
from .application import Application
from .conversation import Attachment, Conversation
from .protocol.codec import encode
from .protocol.codes import CloseCode
from .protocol.envelope import End, Envelope, Grant, Hello, Welcome
from .protocol.events import Transport
from .protocol.machine import CLOSE_WAIT
from .protocol.message import Part
from .protocol.reliability import Bounds
from .protocol.server import ServerMachine
from .runtime import Runtime
from .stats import Stats
from .timekeeper import Timekeeper

logger = logging.getLogger("fallback_transport.registry")

#: Seconds for which the end of a session is remembered, for whoever still asks.
TOMBSTONE_SECONDS = 60.0
#: And how many ends at most, of sessions that were committed, and of such that never were; beyond,
#: the oldest is forgotten and its client hears "gone".
MAX_TOMBSTONES = 2000
#: Seconds for which a new session is safe from being given up for a newer one.
UNCOMMITTED_GRACE = 5.0
#: Seconds between two looks at whether a drain is done.
DRAIN_LOOK = 0.02
#: Seconds beyond the wait for confirmed closes, for the handlers that hear of the unconfirmed.
DRAIN_MARGIN = 0.25


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many sessions the process takes; beyond, a hello is answered with 1013.

    Args:
        sessions: in all, those included that are over and whose handlers still run.
        uncommitted: whose client has not committed a connection yet. Beyond, the
            oldest of the address that has the most makes room, if it is older than a
            slow client needs.
        uncommitted_per_address: those of one address; beyond, its own oldest makes room.
    """

    sessions: int = 20_000
    uncommitted: int = 1_000
    uncommitted_per_address: int = 200


@dataclass(frozen=True, slots=True)
class _Tombstone:
    key: str
    nonce: str | None
    end: End
    until: float


class Registry:
    """The sessions of one `FallbackTransport` in this process.

    Args:
        runtime: the async mode.
        application: makes the layer above for each conversation.
        grant, bounds, capacity: the limits.
        subprotocols: the application's, of which the first that a client offers is taken.
        patience: seconds for which messages may wait for room in an outbox; None: not at all.
    """

    def __init__(
        self,
        runtime: Runtime,
        application: Callable[[Conversation], Application],
        *,
        grant: Grant,
        bounds: Bounds,
        capacity: Capacity,
        subprotocols: tuple[str, ...] = (),
        patience: float | None = None,
    ) -> None:
        self.runtime = runtime
        self.grant = grant
        #: See `alone_at` and `tag`.
        self._place = self._tag = ""
        self._application = application
        self._bounds = bounds
        self._capacity = capacity
        self._subprotocols = subprotocols
        self.patience = patience
        self._lock = runtime.lock()
        self._sessions: dict[str, Conversation] = {}
        self._uncommitted = Unproven[Conversation](
            capacity.uncommitted, capacity.uncommitted_per_address
        )
        #: Those whose last handler has not returned, also of sessions that are over.
        self._alive: dict[str, Conversation] = {}
        self._draining = False
        self._nonces: dict[str, tuple[str, _Said]] = {}
        self._nonce_of: dict[str, str] = {}
        #: Of sessions that nobody ever committed, and of the others: the hellos of strangers, which
        #: cost nothing, are not to push out what others still ask for.
        self._tombstones: tuple[OrderedDict[str, _Tombstone], OrderedDict[str, _Tombstone]]
        self._tombstones = OrderedDict(), OrderedDict()
        self._clock = Timekeeper(runtime)
        self._stats = Stats(runtime.lock())

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def tag(self) -> str:
        """Begins every session's id, so that another process's ids are recognised."""
        with self._lock:
            if not self._tag:
                # Not sooner: of an application that is loaded first, each fork has another.
                self._tag = (self._place or secrets.token_hex(3)) + secrets.token_hex(3)
            return self._tag

    def alone_at(self, place: str) -> None:
        """While this process serves, no other does at `place`: whose ids begin with it are gone.

        Such a client is told at once that its session is gone. Other processes'
        clients, that a balancer has sent here, are told to try again.
        """
        self._place, self._tag = hashlib.sha256(place.encode()).hexdigest()[:6], ""

    def run_on(self, runtime: Runtime) -> None:
        """Run on another runtime from now on, while there are no sessions.

        Raises:
            RuntimeError: there are some.
        """
        if self._alive:
            raise RuntimeError("there are sessions already, which run on another clock")
        self.runtime = runtime
        self._clock = Timekeeper(runtime)

    def find(self, session_id: str) -> Conversation | None:
        """The session with this id, for the layer above; None if there is none."""
        return self._sessions.get(session_id)

    def all(self) -> list[Conversation]:
        """Every session of the process."""
        return list(self._sessions.values())

    def stats(self) -> dict[str, Any]:
        """See `Stats`."""
        with self._lock:
            machines = [each.machine for each in self._sessions.values()]
            weight = sum([each.weight for each in self._sessions.values()])
            return self._stats.to_json(machines, weight)

    def resume(self, session_id: str, key: str) -> Conversation | End:
        """The session that `key` opens, or how it ended.

        Unknown id and wrong key are answered alike.
        """
        conversation = self._sessions.get(session_id)
        if conversation is not None and conversation.machine.knows(key):
            return conversation
        with self._lock:
            self._bury_old()
            tombstone = self._tombstone(session_id)
        if tombstone is not None and hmac.compare_digest(tombstone.key.encode(), key.encode()):
            return tombstone.end
        before = self._place and session_id.startswith(self._place)
        if before and not session_id.startswith(self.tag):
            logger.info("session %s was asked for: of a process before this one", session_id)
            return End(CloseCode.GONE, "the server was restarted", True)
        if not session_id.startswith(self.tag + "."):
            logger.info("another process's session %s was asked for", session_id)
            if self._draining:
                # The process that follows may serve already, here: nothing is wrong with that.
                return End(CloseCode.SERVICE_RESTART, "the server restarts")
            return End(CloseCode.MISDIRECTED, "another server process's session, or an older one's")
        logger.info("session %s was asked for: no such session, or not with this key", session_id)
        return End(CloseCode.GONE, "no such session", True)

    def greet(
        self,
        hello: Hello,
        transport: Transport,
        attachment: Attachment,
        environ: Callable[[Hello], dict[str, Any]],
        origin: str,
        address: str = "",
    ) -> tuple[Conversation | None, Welcome | End]:
        """Take a hello: a new session, a resume, or the same hello again.

        Args:
            environ: makes the request that handlers will see, of the hello.
            origin: the request's origin; a repeated hello must come from the same.
            address: whom a new session counts for, until it is committed.
        """
        if hello.id is not None:
            found = self.resume(hello.id, hello.key or "")
            if isinstance(found, End):
                return None, found
            return found, found.greet(hello, transport, attachment, key=None, environ=environ)
        problem = _unfit(hello.envelope)
        if problem is not None:
            logger.warning("hello from %s: %s", address, problem.reason)
            return None, problem
        given_up: Conversation | None = None
        seen: dict[str, Any] | None = None
        if hello.nonce not in self._nonces and len(self._alive) < self._capacity.sessions:
            # The application may be asked for it, and wait: others have the lock meanwhile.
            seen = environ(hello)
        with self._lock:
            known = self._by_nonce(hello, origin, address)
            if isinstance(known, End):
                return None, known
            conversation = known
            if conversation is None:
                if self._draining:
                    return None, End(CloseCode.SERVICE_RESTART, "the server restarts")
                bound, given_up = self._room(address)
                if bound is not None:
                    logger.warning("hello from %s: the server is full: %s", address, bound)
                    return None, End(CloseCode.TRY_AGAIN_LATER, "the server is full")
                # They may have been full, or known, until just now.
                seen = environ(hello) if seen is None else seen
                conversation = self._create(hello, seen, address)
                if hello.nonce is not None:
                    self._nonces[hello.nonce] = (conversation.id, _Said.by(hello, origin))
                    self._nonce_of[conversation.id] = hello.nonce
        if given_up is not None:
            given_up.give_up(CloseCode.TRY_AGAIN_LATER, "never committed, and others wait")
        machine = conversation.machine
        key = None if machine.committed else machine.key
        if key is None:
            # Who proves none brings no message, either: the first hello may have been without.
            hello = replace(hello, envelope=Envelope())
        return conversation, conversation.greet(
            hello, transport, attachment, key=key, environ=environ
        )

    def drain(self, timeout: float) -> None:
        """End every session in order, and take no new one any more.

        Handlers have `timeout` seconds to finish what is received by now; all
        else goes on meanwhile. Then no more of them begin, and each session is closed
        with 1012, behind what was sent on it. Returns once the clients have confirmed and
        `on_disconnect` has run everywhere, or the wait for a confirmed close is over; behind
        handlers that have had all of `timeout` it is not waited for.
        """
        with self._lock:
            self._draining = True
        began = self.runtime.now()
        logger.info("draining: %d sessions, at most %.1f s for their handlers", len(self), timeout)
        alive = list(self._alive.values())
        handled = {each.id: each.machine.inbox.handled for each in alive if each.busy}
        due = [(each, each.machine.inbox.received) for each in self.all()]
        while due := [(each, seq) for each, seq in due if not each.has_handled(seq)]:
            if self.runtime.now() >= began + timeout:
                break
            self.runtime.sleep(DRAIN_LOOK)
        for each in self.all():
            each.rest()
            self.runtime.share()
        busy = list(self._alive.values())
        while busy := [each for each in busy if each.busy]:
            if self.runtime.now() >= began + timeout:
                logger.warning("draining: the handlers of %d sessions go on", len(busy))
                break
            self.runtime.sleep(DRAIN_LOOK)
        for each in self.all():
            each.retire(CloseCode.SERVICE_RESTART, "the server restarts")
            self.runtime.share()
        until = self.runtime.now() + CLOSE_WAIT + DRAIN_MARGIN
        # A handler that runs since the beginning has had all the time; one that began later has as
        # long as the clients have to confirm.
        slow = {each.id for each in busy if each.machine.inbox.handled == handled.get(each.id)}
        while (self._sessions or self._alive.keys() - slow) and self.runtime.now() < until:
            self.runtime.sleep(DRAIN_LOOK)
        took, left = self.runtime.now() - began, len(self._alive)
        logger.info("drained in %.1f s; %d sessions have handlers that go on", took, left)

    # -- inside ------------------------------------------------------------------

    def _by_nonce(self, hello: Hello, origin: str, address: str) -> Conversation | End | None:
        entry = self._nonces.get(hello.nonce) if hello.nonce is not None else None
        if entry is None:
            return None
        session_id, said = entry
        if not _Said.by(hello, origin).again(said):
            end = End(CloseCode.MALFORMED, "a nonce that is in use, with another hello")
            logger.warning("hello from %s: %s", address, end.reason)
            return end
        conversation = self._sessions.get(session_id)
        if conversation is not None:
            return conversation
        tombstone = self._tombstone(session_id)
        return tombstone.end if tombstone else End(CloseCode.GONE, "no such session", True)

    def _room(self, address: str) -> tuple[str | None, Conversation | None]:
        """The bound because of which there is no room for another session, as the log names it.

        Where there is room: which session is to be given up for it, if one is.
        """
        # A handler that never returns holds on to its session, also beyond the session's end.
        if len(self._alive) >= self._capacity.sessions:
            over = len(self._alive) - len(self)
            return f"{len(self)} sessions, {over} whose handlers go on (max_sessions)", None
        oldest = self._uncommitted.obstacle(address)
        if oldest is None:
            return None, None
        if self.runtime.now() < oldest.created + UNCOMMITTED_GRACE:
            if self._uncommitted.is_crowded(address):
                # Nobody but the application knows whether that is a client's address.
                return (
                    f"{self._capacity.uncommitted_per_address} of this address are not committed "
                    "(max_uncommitted_per_address; if it is a proxy's, see trusted_proxies)"
                ), None
            return f"{len(self._uncommitted)} are not committed (max_uncommitted)", None
        self._uncommitted.remove(oldest.id)
        return None, oldest

    def _create(self, hello: Hello, environ: dict[str, Any], address: str) -> Conversation:
        machine = ServerMachine(
            # 192 bits; the nonce's 128 are the client's.
            key=secrets.token_urlsafe(24),
            grant=self.grant,
            bounds=self._bounds,
            now=self.runtime.now(),
        )
        conversation = Conversation(
            f"{self.tag}.{secrets.token_urlsafe(12)}",
            machine,
            environ,
            # RFC 6455, section 4.2.2; the order of preference is the client's (section 4.1).
            subprotocol=next((p for p in hello.protocols if p in self._subprotocols), ""),
            runtime=self.runtime,
            application=self._application,
            owner=self,
        )
        self._stats.opened()
        self._sessions[conversation.id] = conversation
        self._uncommitted.add(address, conversation.id, conversation)
        self._alive[conversation.id] = conversation
        return conversation

    # -- for its conversations ---------------------------------------------------

    def schedule(self, conversation: Conversation, when: float | None) -> None:
        """See `conversation.Owner`."""
        self._clock.schedule(conversation, when)

    def carried(self, before: Transport | None, now: Transport, why: str | None) -> None:
        """See `conversation.Owner`."""
        self._stats.carried(before and before.value, now.value, why)

    def proven(self, conversation: Conversation) -> None:
        """See `conversation.Owner`."""
        with self._lock:
            self._uncommitted.remove(conversation.id)

    def gone(self, conversation: Conversation) -> None:
        """See `conversation.Owner`."""
        with self._lock:
            self._alive.pop(conversation.id, None)

    def forget(self, conversation: Conversation) -> None:
        """See `conversation.Owner`."""
        with self._lock:
            if self._sessions.pop(conversation.id, None) is not None:
                self._stats.ended(conversation.machine)
            self._uncommitted.remove(conversation.id)
            nonce = self._nonce_of.pop(conversation.id, None)
            end = conversation.machine.end()
            abandoned = end.code in (CloseCode.INACTIVE, CloseCode.TRY_AGAIN_LATER)
            committed = conversation.machine.committed
            if abandoned and not committed:
                # Its client may never have heard of it: the same hello begins another.
                self._nonces.pop(nonce or "", None)
                return
            self._tombstones[committed][conversation.id] = _Tombstone(
                conversation.machine.key,
                nonce,
                end,
                self.runtime.now() + TOMBSTONE_SECONDS,
            )
            self._bury_old()

    def _tombstone(self, session_id: str) -> _Tombstone | None:
        return next((kept[session_id] for kept in self._tombstones if session_id in kept), None)

    def _bury_old(self) -> None:
        now = self.runtime.now()
        for kept in self._tombstones:
            while kept:
                session_id, tombstone = next(iter(kept.items()))
                if tombstone.until > now and len(kept) <= MAX_TOMBSTONES:
                    break
                del kept[session_id]
                if tombstone.nonce is not None:
                    self._nonces.pop(tombstone.nonce, None)


def _unfit(envelope: Envelope) -> End | None:
    """Why this cannot begin a session, told before there is one."""
    mark = max(envelope.ack, envelope.received, envelope.got)
    if mark:
        return End(CloseCode.PROTOCOL_ERROR, f"mark {mark} of 0 sent", True)
    if envelope.seq is not None and envelope.seq > 1:
        return End(CloseCode.PROTOCOL_ERROR, f"expected 1, got {envelope.seq}")
    if len(envelope.messages) > 1:
        return End(CloseCode.MALFORMED, "a new session's hello has one message at most")
    if any(isinstance(message, Part) for message in envelope.messages):
        return End(CloseCode.MALFORMED, "a hello carries no parts")
    return None


class _Said(NamedTuple):
    """What a hello says of itself, as digests."""

    client: bytes
    #: Empty where there is none.
    origin: bytes
    first: bytes

    @classmethod
    def by(cls, hello: Hello, origin: str) -> _Said:
        # Why it takes the transport that it takes may have changed.
        client = tuple(pair for pair in hello.client if pair[0] != "why")
        first = encode(hello.envelope) if hello.envelope.messages else ""
        return cls(_digest(encode(Hello(0, client=client))), _digest(origin), _digest(first))

    def again(self, known: _Said) -> bool:
        """Whether it is the same hello.

        It may be without its message, which follows then, and without its origin: browsers that
        state one with each WebSocket did not always with what a page asks for of its own server.
        """
        pairs = (self.origin, known.origin), (self.first, known.first)
        same = all(hmac.compare_digest(*pair) for pair in pairs if all(pair))
        return same and hmac.compare_digest(self.client, known.client)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest() if text else b""
