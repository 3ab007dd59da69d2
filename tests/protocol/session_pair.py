"""Both sides of one session, and what must hold of them.

`audit` checks the promises that hold after every step; `settle` heals the
network and checks what must come of it in the end.
"""

from __future__ import annotations

from dataclasses import replace

from fallback_transport.protocol.envelope import Grant
from fallback_transport.protocol.events import Transport
from fallback_transport.protocol.machine import MAX_CANDIDATES
from fallback_transport.protocol.message import Message
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.protocol.state import State
from tests.protocol.network import FakeClock, Network
from tests.protocol.sides import ClientSide, ServerSide, Side, is_urgent, messages, name_of

#: Small enough to matter within a few messages.
GRANT = Grant(messages=4, bytes=60, message=40, body=2000)
#: Envelopes of four bytes: messages have to go in parts.
NARROW = replace(GRANT, body=8)
BOUNDS = Bounds(messages=40, bytes=1000, message=40)
#: Rounds in which a session of such bounds must have said everything.
ENOUGH = 1000


class SessionPair:
    """A client's side and a server's side, and all that is between them."""

    def __init__(self, *, grant: Grant = GRANT, bounds: Bounds = BOUNDS, now: float = 0.0) -> None:
        self.clock = FakeClock(now)
        self.network = Network()
        self.client = ClientSide(self.clock, self.network, bounds)
        self.server = ServerSide(self.clock, self.network, grant, bounds)

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.client, self.server

    # -- what goes well ----------------------------------------------------------------

    def connect(self, transport: Transport) -> None:
        """Open one more connection and commit it, on a network that works."""
        websocket = transport is Transport.WEBSOCKET
        attempt = self.client.open_websocket() if websocket else self.client.open_polling()
        self.exchange()
        if attempt in self.client.welcomed and self.client.alive:
            self.client.commit(attempt)

    def exchange(self) -> bool:
        """All that is on its way arrives, and all that can be said is; False if nothing is."""
        moved = self.server.answer_held()
        while self.network.requests:
            self.server.take(0)
            moved = True
        while self.network.answers:
            self.client.take(0)
            moved = True
        for attempt, socket in list(self.network.sockets.items()):
            for side, pipe in ((self.client, socket.up), (self.server, socket.down)):
                moved |= side.write(attempt)
                other = self.server if side is self.client else self.client
                while pipe.frames:
                    other.read(attempt)
                    moved = True
        return moved

    def flow(self) -> bool:
        """Handlers return, requests are posted, everything arrives; False if nothing happened."""
        moved = False
        for side in self.sides:
            while side.application.running:
                side.handler_returns(0)
                moved = True
        if self.client.alive:
            moved |= self.client.poll(wait=25.0)
            if self.client.machine.outbox.last > self.client.machine.outbox.received:
                moved |= self.client.poll(wait=None)
        for _ in range(ENOUGH):
            if not self.exchange():
                return moved
            moved = True
        raise AssertionError("they talk for ever")

    # -- time ------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        """When either side is to look at the clock."""
        sides = self.sides if self.server.exists else (self.client,)
        times = [side.deadline() for side in sides]
        return min([time for time in times if time is not None], default=None)

    def pass_time(self, until: float) -> None:
        """It is `until` (or later already): both sides look at the clock."""
        self.clock.now = max(self.clock.now, until)
        self.client.timeout()
        if self.server.exists:
            self.server.timeout()

    # -- what always holds -------------------------------------------------------------------

    def audit(self) -> None:
        """Check the promises that hold after every step."""
        for near, far in (self.sides, self.sides[::-1]):
            check_order(near, far)
            check_marks(near, far)
            check_report(near, far)
            near.audit_deadline()
        replies = messages(filter(is_urgent, self.server.application.names_running))
        size = sum([reply.size for reply in replies])
        over = self.server.machine.over_credit(len(replies), size)
        assert not over, "an honest client beyond its credit"
        connections = self.server.machine.connections.values()
        candidates = [each for each in connections if not each.commit]
        assert len(candidates) <= MAX_CANDIDATES, "too many candidates"

    # -- the end -----------------------------------------------------------------------------

    def settle(self, fresh: Transport | None = None) -> None:
        """Heal the network, let everything happen, and check what has come of it.

        With `fresh`, the client goes on over a new connection of that kind;
        else over the one that carries, if that was not harmed.
        """
        start = self.clock.now
        self._clear(None if fresh else self._unharmed())
        for _ in range(ENOUGH):
            if self._settled():
                break
            if self.client.machine.carrier is None and self.client.alive:
                self.connect(fresh or Transport.POLLING)
            elif not self.flow():
                deadline = self.deadline()
                assert deadline is not None, "nothing to do and nothing to wait for"
                self.pass_time(deadline)
            self.audit()
        assert self._settled(), "they come to no end"
        if self.client.alive:
            # Waited for is only a lone ack: on a WebSocket 200 ms; on polling a held poll's end,
            # or two, where the answer with the acks that give credit was lost.
            websocket = self.client.machine.transport is Transport.WEBSOCKET
            allowed = 0.21 if websocket else 2 * self.server.grant.wait + 0.01
            assert self.clock.now - start < allowed, "it took too long"
        self._check_end()

    def _unharmed(self) -> int | None:
        carrier = self.client.machine.carrier
        if carrier is None:
            return None
        socket = self.network.sockets.get(carrier.attempt)
        return carrier.attempt if socket is None or socket.healthy else None

    def _clear(self, keep: int | None) -> None:
        """End every connection but one, at both ends; requests may still be on their way."""
        for attempt in [*self.network.sockets, *self.client.polling]:
            if attempt != keep:
                self.client.drop(attempt, None)
                socket = self.network.sockets.get(attempt)
                if socket is not None:
                    self.server.drop(attempt, None)
                    socket.up.go_black(0)
                    socket.down.go_black(0)
        for kind in ("hello", "wait", "send"):
            self.client.abandon(kind)

    def _settled(self) -> bool:
        if not self.client.alive:
            return not self.server.exists or self.server.machine.state is State.CLOSED
        return all(
            side.machine.state is State.ATTACHED
            and not len(side.machine.outbox)
            and not side.machine.inbox.pending
            for side in self.sides
        )

    def _check_end(self) -> None:
        one, other = (side.application for side in self.sides)
        if self.client.alive:
            for sender, receiver in ((one, other), (other, one)):
                assert set(receiver.delivered) == receiver.handled == set(sender.sent)
            for near, far in (self.sides, self.sides[::-1]):
                assert near.machine.outbox.confirmed == far.machine.inbox.received
        elif one.closed and other.closed and not (one.cut_short or other.cut_short):
            ends = [(closed.code, closed.reason) for closed in (one.closed, other.closed)]
            assert ends[0] == ends[1], "they disagree on how it ended"


def check_order(near: Side, far: Side) -> None:
    """What `far` got is a beginning of what `near` sent; urgent messages have their own order."""
    sent, got = near.application.sent, far.application.delivered
    for urgent in (False, True):
        mine = [name for name in sent if is_urgent(name) is urgent]
        theirs = [name for name in got if is_urgent(name) is urgent]
        assert theirs == mine[: len(theirs)], f"{theirs} is no beginning of {mine}"
    places = {name: place for place, name in enumerate(got)}
    assert len(places) == len(got), f"something came twice: {got}"
    for group in near.application.groups:
        found = [places[name] for name in group if name in places]
        together = not found or found == list(range(found[0], found[0] + len(found)))
        assert together, f"{group} was interrupted: {got}"


def check_marks(near: Side, far: Side) -> None:
    """Nobody believes more than is so."""
    outbox, inbox = near.machine.outbox, far.machine.inbox
    assert outbox.confirmed <= inbox.handled <= inbox.received <= outbox.last
    assert outbox.confirmed <= outbox.received <= inbox.received
    assert (outbox.received, outbox.got) <= (inbox.received, inbox.got)


def check_report(near: Side, far: Side) -> None:
    """At the end: what is not reported as unconfirmed was handled."""
    closed, sent = near.application.closed, near.application.sent
    if closed is not None:
        items = [item for item in closed.unconfirmed if isinstance(item, Message)]
        assert len(items) == len(closed.unconfirmed)
        left = [name_of(item.data) for item in items]
        assert len(set(left)) == len(left)
        assert set(left) <= set(sent)
        silent = set(sent) - set(left) - far.application.handled
        assert not silent, f"{silent} was not handled, and nobody is told"
