"""One client connection: its requests in turn, and the upstream connection paired with it.

As far as possible the two ends see what they would see without a proxy. One
upstream connection goes with one client connection, is used for the same
requests, and ends when and as the other one ends: orderly, by a reset, or in
one direction only.
"""

from __future__ import annotations

import asyncio

from .exchange import Exchange
from .faults import Hang, Latency
from .http_messages import Request
from .journal import Journal
from .rules import Plan, RuleBook
from .tunnel import Tunnel
from .upstream import Upstream
from .wire import EndedEarly, End, Wire


class Conversation:
    """One client connection.

    Args:
        number: of the connection, from 1.
        client: set as soon as there is a socket for it.
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

    def kill(self, how: End) -> None:
        """End both connections now."""
        for wire in (self.client, self._paired):
            if wire is None:
                continue
            if how is End.RST:
                wire.abort()
            else:
                wire.close()

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
        self._exchange = exchange = Exchange(
            client, self._paired, request, plan, record, self._journal, self._upstream
        )
        try:
            return await exchange.run()
        finally:
            self._exchange = None
            self._adopt(exchange.paired)
