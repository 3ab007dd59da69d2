"""One client connection: its requests in turn, and the upstream connection paired with it.

As far as possible the two ends see what they would see without a proxy. One
upstream connection goes with one client connection, is used for the same
requests, and ends when and as the other one ends: orderly, by a reset, or in
one direction only.
"""

from __future__ import annotations

from .exchange import Exchange
from .faults import Hang, Latency
from .http_messages import Request
from .journal import Journal, RequestRecord
from .rules import Plan, RuleBook
from .tunnel import Tunnel
from .upstream import Upstream
from .wire import End, EndedEarly, Wire


class Conversation:
    """One client connection.

    Args:
        number: of the connection, from 1.
        rulebook: the rules in force.
        journal: what happens is noted in it.
        upstream: where requests go.
    """

    def __init__(
        self, number: int, rulebook: RuleBook, journal: Journal, upstream: Upstream
    ) -> None:
        self.number = number
        self._rulebook = rulebook
        self._journal = journal
        self._upstream = upstream
        self._edition = -1
        self._latency_now = 0.0
        self._hangs = False
        self._paired: Wire | None = None
        self._exchange: Exchange | None = None
        self.client = Wire(self._latency)

    async def run(self) -> None:
        """Serve the client until either side has ended."""
        client = self.client
        client.when_ended = self._client_ended
        try:
            if self._hangs:
                self._journal.struck(Hang.name)
                client.stop_reading()
                await client.wait_until_gone()
            else:
                while await self._next():
                    pass
        except EndedEarly:
            client.close()
        except ConnectionError:
            client.reset()
            if self._paired is not None:
                self._paired.reset()
        finally:
            client.close()
            if self._paired is not None:
                self._paired.close()

    async def _next(self) -> bool:
        """Serve one request; return whether there may be another."""
        client = self.client
        if self._paired is not None and self._paired.ended is not None:
            self._paired_ended(self._paired.ended)
        raw = await client.read_head()
        request = Request.parse(raw) if raw is not None else None
        if request is None:
            if raw or client.unread:
                await self._pass_through(raw or b"")
            return False
        plan, record = self._choose(request)
        self._exchange = Exchange(
            client, self._pair, request, plan, record, self._journal, self._upstream
        )
        try:
            return await self._exchange.run()
        finally:
            self._exchange = None

    def _choose(self, request: Request) -> tuple[Plan, RequestRecord]:
        websocket = request.is_websocket
        plan = self._rulebook.plan("ws" if websocket else "http", request.method, request.target)
        record = self._journal.request(self.number, request.method, request.target, websocket)
        return plan, record

    async def _pair(self) -> Wire:
        """Return the paired connection, a new one if the old one cannot be used."""
        wire = self._paired
        if wire is None or not wire.usable:
            if wire is not None:
                wire.close()
            wire = self._paired = await self._upstream.connect()
            wire.when_ended = self._paired_ended
        return wire

    async def _pass_through(self, first: bytes) -> None:
        """Carry bytes that are no HTTP, as they are."""
        wire = self._paired = await self._upstream.connect()
        wire.write(first)
        self.client.when_ended = None
        nothing = Plan({})
        await Tunnel(self.client, wire, nothing, lambda: None, lambda name: None).run()

    def _client_ended(self, end: End) -> None:
        if self._exchange is not None:
            self._exchange.client_ended(end)

    def _paired_ended(self, end: End) -> None:
        """The upstream has ended its connection: so do we, unless somebody is reading it."""
        # Where the next request is here already, it may as well be served.
        idle = self._exchange is None and not self.client.unread
        if idle or (self._exchange is not None and self._exchange.over):
            self.client.end(end)

    def _latency(self) -> float:
        """Return the latency of this connection by the rules now in force."""
        if self._edition != self._rulebook.edition:
            self._edition = self._rulebook.edition
            plan = self._rulebook.plan("connection")
            latency = plan.get(Latency)
            self._latency_now = latency.seconds if latency else 0.0
            self._hangs = plan.get(Hang) is not None
            if latency:
                self._journal.struck(Latency.name)
        return self._latency_now
