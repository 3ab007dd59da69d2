"""`ClientSession`: a session's client end, whose every connection the test decides on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fallback_transport.protocol.client import ClientMachine
from fallback_transport.protocol.envelope import End, Envelope, Grant, Welcome
from fallback_transport.protocol.errors import RemoteProtocolError
from fallback_transport.protocol.events import (
    Answered,
    CloseReceived,
    Event,
    MessageReceived,
    SessionClosed,
    Transport,
)
from fallback_transport.protocol.message import Item, Message
from fallback_transport.protocol.reliability import Bounds

from .links import Link, PollingLink, WebSocketLink
from .packets import ACK, CONNECT, CONNECT_ERROR, ERROR, EVENT, Packet, PacketReader, encode
from .raw import TIMEOUT, new_nonce

_LINKS: dict[Transport, type[Link]] = {
    Transport.WEBSOCKET: WebSocketLink,
    Transport.POLLING: PollingLink,
}


class Ended(Exception):
    """A hello was answered with an end."""

    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.end = end


class RequestFailed(Exception):
    """The server answered a request with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code


#: What a handler returns that answers later, by `ClientSession.reply`.
LATER = object()


class ClientSession:
    """A session of the server's, as a page has it. A context manager; it ends without a word.

    Nothing is opened, resumed or switched by itself. What arrives is kept in
    `received`, in order; `handlers` are called with it under the session's
    lock, so they may emit but must not wait.

    Args:
        port: the server's, or a proxy's.
        auth: what the application gets as `client.auth`.
        headers: further headers of every request.
        nonce: the hello's, a random one unless given.
        mount: the path of the server's doors.
        url, protocols: what the page has connected to, and the subprotocols that it offers.
    """

    def __init__(
        self,
        port: int,
        *,
        auth: Any = None,
        headers: Mapping[str, str] | None = None,
        nonce: str | None = None,
        bounds: Bounds | None = None,
        mount: str = "/fallback",
        url: str = "",
        protocols: Sequence[str] = (),
    ) -> None:
        self.port = port
        self.changed = threading.Condition()
        self.machine = ClientMachine(grant=Grant(), bounds=bounds or Bounds(), now=time.monotonic())
        self.handlers: dict[str, Callable[..., Any]] = {}
        #: Each event that came: its name, then its data.
        self.received: list[list[Any]] = []
        #: The server's answer to CONNECT: accepted, or refused with this.
        self.accepted: Any = None
        self.refused: Any = None
        #: The server's close, or whatever ended the session.
        self.closure: tuple[int, str] | None = None
        self.unconfirmed: tuple[Item, ...] = ()
        #: Why each connection was lost that this side did not kill.
        self.losses: list[str] = []
        #: Broken rules of the server's, which there must not be.
        self.breaches: list[str] = []
        #: Seconds that each answer to `ask` took.
        self.answered: list[float] = []
        #: Event numbers of the server's requests that wait for `reply`.
        self.questions: list[int] = []
        #: While set, nothing that arrives counts as handled.
        self.holding = False
        self._held: list[int] = []
        self._mount = mount
        facts = {"url": url, "protocols": ", ".join(protocols)}
        self._facts = tuple((name, fact) for name, fact in facts.items() if fact)
        self._headers = headers
        self._nonce = nonce or new_nonce()
        self._links: dict[int, Link] = {}
        self._reader = PacketReader()
        self._partial: list[int] = []
        self._next_id = 0
        self._answers: dict[int, Packet | None] = {}
        self.machine.send(self._messages(Packet(CONNECT, auth)))

    def __enter__(self) -> ClientSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        machine = self.machine
        return (
            f"<ClientSession {machine.id} {machine.state.value} by {self.transport}: "
            f"{len(self.received)} events came, {len(machine.outbox)} unconfirmed, "
            f"closure {self.closure}, losses {self.losses}, breaches {self.breaches}>"
        )

    # -- connections -----------------------------------------------------------------

    @property
    def id(self) -> str:
        """The session's public name."""
        assert self.machine.id is not None, "not welcomed yet"
        return self.machine.id

    @property
    def transport(self) -> str | None:
        """What carries it now."""
        carrier = self.machine.transport
        return carrier.value if carrier else None

    @property
    def link(self) -> Link:
        """The connection that carries it."""
        carrier = self.machine.carrier
        assert carrier is not None, f"detached: {self!r}"
        return self._links[carrier.attempt]

    def open(self, transport: str = "websocket", port: int | None = None) -> ClientSession:
        """Connect, or resume: say hello, commit, and wait for the application's word.

        Raises:
            Ended: the hello was answered with an end.
            ConnectionFailed: or with nothing of the protocol's.
        """
        self.switch(transport, port)
        self.wait_for(lambda: self.accepted or self.closure)
        return self

    def switch(self, transport: str, port: int | None = None) -> None:
        """Change the transport while messages flow: say hello, and commit at once.

        Raises:
            Ended, ConnectionFailed: see `open`.
        """
        link, welcome = self._hello(transport, port)
        with self.changed:
            events = self.machine.welcomed(welcome, self.now())
            # Before anything is acted on: the welcome may carry the server's close, which
            # only a committed connection can acknowledge.
            self._act(self.machine.commit(link.attempt) + events)
        link.welcomed()
        link.committed()

    def greet(self, transport: str = "websocket", port: int | None = None) -> Link:
        """Say hello on a new connection: a candidate, once it is welcomed.

        Raises:
            Ended, ConnectionFailed: see `open`.
        """
        link, welcome = self._hello(transport, port)
        with self.changed:
            self._act(self.machine.welcomed(welcome, self.now()))
        link.welcomed()
        return link

    def commit(self, link: Link) -> None:
        """From now on this connection carries the session."""
        with self.changed:
            self._act(self.machine.commit(link.attempt))
        link.committed()

    def cut(self) -> None:
        """End the carrying connection under both ends; the server is told by TCP alone."""
        link = self.link
        link.kill()
        with self.changed:
            self._act(self.machine.detach(link.attempt, self.now()))
        link.join()

    def stop(self) -> None:
        """End every connection without a word."""
        for link in list(self._links.values()):
            if not link.over:
                link.kill()
        for link in list(self._links.values()):
            link.join()

    # -- messages ----------------------------------------------------------------------

    def emit(self, name: str, *data: Any) -> None:
        """Send an event."""
        self._send(Packet(EVENT, [name, *data]))

    def send(self, data: str | bytes) -> None:
        """Send an unnamed message."""
        self.emit("message", data)

    def ask_for(self, name: str, *data: Any) -> int:
        """Send an event that wants a reply; `reply_to` its number waits for that."""
        with self.changed:
            self._next_id += 1
            number = self._next_id
            self._answers[number] = None
            self._send(Packet(EVENT, [name, *data], number))
        return number

    def reply_to(self, number: int, timeout: float = TIMEOUT) -> Any:
        """The reply to what was asked: what the handler returned, a list for several values.

        Raises:
            RequestFailed: the handler raised.
            TimeoutError: none came in time.
        """
        self.wait_for(lambda: self._answers[number] is not None, timeout)
        packet = self._answers.pop(number)
        assert packet is not None
        if packet.kind == ERROR:
            raise RequestFailed(packet.data["code"], packet.data["message"])
        values: list[Any] = packet.data
        return values[0] if len(values) == 1 else (values or None)

    def replied_to(self, number: int) -> bool:
        """Whether the reply to what was asked is here."""
        return self._answers[number] is not None

    def request(self, name: str, *data: Any, timeout: float = TIMEOUT) -> Any:
        """Send an event and wait for its reply; see `reply_to`."""
        return self.reply_to(self.ask_for(name, *data), timeout)

    def reply(self, number: int, *values: Any) -> None:
        """Answer a request of the server's."""
        self._send(Packet(ACK, list(values), number), urgent=True)

    def reply_error(self, number: int, message: str) -> None:
        """Answer a request of the server's with an error."""
        self._send(Packet(ERROR, {"code": 1011, "message": message}, number), urgent=True)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the session, in order."""
        with self.changed:
            self._act(self.machine.close(code, reason, self.now()))

    def probe(self) -> None:
        """Ask the server on the carrying WebSocket whether it lives; see `answered`."""
        with self.changed:
            self.machine.ask(self.link.attempt)
            self.changed.notify_all()

    def release(self) -> None:
        """What was held counts as handled from now on; see `holding`."""
        with self.changed:
            self.holding = False
            held, self._held = self._held, []
            for seq in held:
                self._act(self.machine.handled(seq, self.now()))

    def named(self, name: str) -> list[Any]:
        """The first datum of each event of this name that came."""
        with self.changed:
            return [event[1] for event in self.received if event[0] == name]

    def wait_for(self, condition: Callable[[], Any], timeout: float = TIMEOUT) -> Any:
        """Wait until `condition`, which is asked whenever anything changed.

        Raises:
            TimeoutError: it did not come true in time; the text says how things are.
        """
        with self.changed:
            found = self.changed.wait_for(condition, timeout)
            if not found:
                raise TimeoutError(f"not within {timeout} s: {self!r}")
            return found

    def wait_closed(self, timeout: float = TIMEOUT) -> tuple[int, str]:
        """Wait for the session's end: its code and reason."""
        self.wait_for(lambda: self.closure, timeout)
        assert self.closure is not None
        return self.closure

    # -- for the links -----------------------------------------------------------------

    def now(self) -> float:
        """The machine's clock."""
        return time.monotonic()

    def patience(self) -> float | None:
        """Seconds until the machine's next deadline."""
        deadline = self.machine.deadline()
        return None if deadline is None else max(0.0, deadline - self.now())

    def tick(self) -> None:
        """Do what the time demands, if it demands something."""
        deadline = self.machine.deadline()
        if deadline is not None and deadline <= self.now():
            self._act(self.machine.timeout(self.now()))

    def arrived(self, attempt: int, unit: Envelope | End) -> None:
        """A link got something."""
        if isinstance(unit, End):
            if unit.session:
                self._act(self.machine.ended(unit))
            return
        try:
            self._act(self.machine.receive(attempt, unit, self.now()))
        except RemoteProtocolError as error:
            self.breaches.append(repr(error))
            self.lost(attempt, repr(error))

    def lost(self, attempt: int, why: str) -> None:
        """A link ended by itself."""
        with self.changed:
            self.losses.append(why)
            self._act(self.machine.detach(attempt, self.now()))

    # -- inside --------------------------------------------------------------------------

    def _hello(self, transport: str, port: int | None) -> tuple[Link, Welcome]:
        kind = Transport(transport)
        with self.changed:
            attempt = max(self._links, default=0) + 1
            link = _LINKS[kind](self, attempt, port or self.port, self._mount, self._headers)
            self._links[attempt] = link
            nonce = self._nonce if self.machine.id is None else None
            hello = self.machine.hello(attempt, kind, nonce, self.now())
            hello = replace(hello, client=self._facts)
        try:
            unit = link.greet(hello)
        except BaseException:
            self.lost(attempt, "not welcomed")
            raise
        if isinstance(unit, Welcome):
            return link, unit
        assert isinstance(unit, End), unit
        with self.changed:
            self.machine.detach(attempt, self.now())
            if unit.session:
                self._act(self.machine.ended(unit))
        raise Ended(unit)

    # -- under the lock ------------------------------------------------------------------

    def _messages(self, packet: Packet) -> list[Message]:
        return [Message(each) for each in encode(packet)]

    def _send(self, packet: Packet, *, urgent: bool = False) -> None:
        messages = self._messages(packet)
        with self.changed:
            self.machine.send(messages, urgent=urgent)
            self.changed.notify_all()

    def _act(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, MessageReceived):
                self._message(event)
            elif isinstance(event, CloseReceived):
                self.closure = event.code, event.reason
                self._act(self.machine.handled(event.seq, self.now()))
            elif isinstance(event, SessionClosed):
                self.closure = event.code, event.reason
                self.unconfirmed = event.unconfirmed
            elif isinstance(event, Answered):
                self.answered.append(event.seconds)
        self.changed.notify_all()

    def _message(self, event: MessageReceived) -> None:
        self._partial.append(event.seq)
        packet = self._reader.feed(event.data)
        if packet is None:
            return
        seqs, self._partial = self._partial, []
        self._packet(packet)
        if self.holding:
            self._held += seqs
            return
        for seq in seqs:
            self._act(self.machine.handled(seq, self.now()))

    def _packet(self, packet: Packet) -> None:
        if packet.kind == CONNECT:
            self.accepted = packet.data
        elif packet.kind == CONNECT_ERROR:
            self.refused = packet.data
        elif packet.kind in (ACK, ERROR):
            assert packet.id is not None, packet
            if packet.id in self._answers:
                assert self._answers[packet.id] is None, f"answered twice: {packet}"
                self._answers[packet.id] = packet
        elif packet.kind == EVENT:
            self._event(packet)

    def _event(self, packet: Packet) -> None:
        name, *data = packet.data
        self.received.append([name, *data])
        handler = self.handlers.get(name)
        try:
            value = handler(*data) if handler is not None else None
        except Exception as error:
            if packet.id is None:
                raise
            self.reply_error(packet.id, str(error))
            return
        if packet.id is None:
            return
        if value is LATER:
            self.questions.append(packet.id)
        else:
            self.reply(packet.id, *(() if value is None else (value,)))
