"""The client's end of a session: hellos, commits, and numbered polls.

The browser's file has the same class. Which connection to open, and when, is
decided above it.
"""

from __future__ import annotations

from typing import Final

from .connection import Connection
from .envelope import End, Envelope, Grant, Hello, PollRequest, Welcome
from .errors import MessageRefused
from .events import Event, Transport
from .machine import By, SessionMachine
from .message import Carried, Close, Message
from .reliability import Bounds
from .state import State

#: How much of a replay rides inside a hello; the rest follows the welcome.
HELLO_BYTES: Final = 16_000
#: How much one sending request carries, unless the server's limit is lower.
REQUEST_BYTES: Final = 256_000
REQUEST_MESSAGES: Final = 500


class ClientMachine(SessionMachine):
    """The client's end: it commits the connections, the server follows."""

    def __init__(self, *, grant: Grant, bounds: Bounds, now: float) -> None:
        super().__init__(grant=grant, bounds=bounds, now=now)
        # Until the welcome grants more: the first message alone.
        self.outbox.grant(1, 0)
        self.id: str | None = None
        self.key: str | None = None
        #: The subprotocol that the server has chosen.
        self.protocol = ""
        #: How much one sending request carries; less where a proxy refuses so much.
        self.request_bytes = REQUEST_BYTES
        self._request = 0
        self._to_announce: Connection | None = None

    def send(
        self,
        items: list[Message],
        *,
        size: int | None = None,
        urgent: bool = False,
        latest: str | None = None,
    ) -> None:
        """See `SessionMachine.send`; what belongs together must fit the credit together."""
        size = sum([item.size for item in items]) if size is None else size
        most = self.grant.bytes + self.grant.message
        if size > most:
            raise MessageRefused(f"{size} bytes that belong together exceed the limit of {most}")
        # An event, and as many attachments as messages are granted.
        most = self.grant.messages + 1
        if len(items) > most:
            raise MessageRefused(f"{len(items)} that belong together exceed the limit of {most}")
        super().send(items, size=size, urgent=urgent, latest=latest)

    def hello(self, attempt: int, transport: Transport, nonce: str | None, now: float) -> Hello:
        """The first text of connection `attempt`.

        It carries the first message of a new session (the one that must not
        wait for the welcome), or the first of those to be replayed.
        """
        self.soonest = 0.0
        # Whether the key was proved is known with the welcome; a hello by nonce proves none.
        self.connections[attempt] = Connection(
            attempt, transport, now, now, self._resume(), keyless=self.id is None
        )
        seq, offset = self._resume()
        count = REQUEST_MESSAGES
        if self.id is None:
            # Repeated by a proxy, a hello without a nonce is another session: nothing of the
            # application's may be in it.
            count = 1 if nonce is not None else 0
        # What is large would keep the welcome from coming in time: it follows.
        items = self.outbox.read(seq, self._fitting(HELLO_BYTES), count, offset=offset, whole=True)
        handled, received, got = self.inbox.marks()
        envelope = Envelope(handled, received, seq if items else None, items, got=got)
        if self.id is None:
            return Hello(attempt, nonce=nonce, envelope=envelope)
        return Hello(attempt, id=self.id, key=self.key, envelope=envelope)

    def welcomed(self, welcome: Welcome, now: float) -> list[Event]:
        """Take the welcome: the connection works both ways. `commit` it, or another."""
        if self.state is State.CLOSED:
            return []
        connection = self.connections.get(welcome.attempt)
        if connection is not None:
            connection.keyless = connection.keyless and welcome.key is None
        self.id = welcome.id
        self.key = welcome.key or self.key
        self.protocol = welcome.protocol or self.protocol
        self.grant = welcome.grant
        self.soonest = 0.0
        self.inbox.limit = welcome.grant.message
        self.outbox.grant(welcome.grant.messages, welcome.grant.bytes)
        return self.receive(welcome.attempt, welcome.envelope, now)

    def commit(self, attempt: int) -> list[Event]:
        """From now on connection `attempt` carries the session; `pull` or a request says so."""
        connection = self.connections[attempt]
        connection.next = self._resume()
        self._to_announce = connection
        return self._attach(connection, self._commit + 1)

    def poll(self, *, wait: float | None, limit: int | None = None) -> PollRequest:
        """The next request of the polling connection that carries the session.

        With `wait`, the waiting request; without, a sending request with what
        the server has not received (possibly nothing but marks).
        """
        connection = self.carrier
        assert connection is not None, "no connection is committed"
        seq, offset = self._resume()
        size = self._fitting(self.request_bytes)
        count = REQUEST_MESSAGES if wait is None else 0
        items = self.outbox.read(seq, size, count, offset=offset)
        envelope = self._envelope(connection, seq if items else None, items)
        self._request += 1
        assert self.id is not None, "welcomed connections have an id"
        assert self.key is not None, "welcomed connections have a key"
        return PollRequest(
            self.id, self.key, connection.attempt, self._request, wait, limit, envelope
        )

    def ended(self, end: End) -> list[Event]:
        """Take the end of the session, outside the numbering."""
        if self.state is State.CLOSED:
            return []
        # What is handled is received, whatever it says.
        received = min(end.received, self.outbox.last)
        self.outbox.confirm(min(end.ack, received), received)
        if self._closed_by is By.LOCAL and not len(self.outbox):
            return self._finish()
        return self.abort(end.code, end.reason)

    # -- inside ------------------------------------------------------------------

    def _announcement(self, connection: Connection) -> tuple[int | None, str | None]:
        if connection.transport is Transport.POLLING:
            return connection.commit or None, None
        if connection is not self._to_announce:
            return None, None
        return connection.commit, self.key if connection.keyless else None

    def _envelope(
        self,
        connection: Connection,
        seq: int | None,
        items: tuple[Carried, ...],
        *,
        ask: int | None = None,
        answer: int | None = None,
    ) -> Envelope:
        envelope = super()._envelope(connection, seq, items, ask=ask, answer=answer)
        if connection is self._to_announce:
            self._to_announce = None
        return envelope

    def _crossed(self, close: Close) -> list[Event]:
        self._closure = (close.code, close.reason)
        return super()._crossed(close)
