"""The two sides of a session on a `Network`: what the transports do by PROTOCOL.md, no more.

Everything crosses as bytes, through the codec. Each step (a write, a read, a
request taken, a handler that returns) is one method: whoever drives the two
sides decides on the order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from fallback_transport.protocol import codec
from fallback_transport.protocol.client import ClientMachine
from fallback_transport.protocol.envelope import (
    End,
    Envelope,
    Grant,
    Hello,
    PollRequest,
    Unit,
    Welcome,
)
from fallback_transport.protocol.errors import (
    LocalProtocolError,
    MalformedEnvelope,
    SequenceGap,
)
from fallback_transport.protocol.events import (
    CloseReceived,
    ConnectionDropped,
    Event,
    MessageReceived,
    SessionClosed,
    Transport,
)
from fallback_transport.protocol.machine import SessionMachine
from fallback_transport.protocol.message import Message
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.protocol.server import Poll, ServerMachine, Verdict
from fallback_transport.protocol.state import State
from tests.protocol.network import FakeClock, Frame, Network, Pipe, Request, Socket

KEY = "k1"
ID = "s1"
NONCE = "n1"


def messages(names: Iterable[str]) -> list[Message]:
    """One message for each name: texts, texts with U+001E, and bytes, by turns."""
    made = []
    for name in names:
        turn = sum(map(ord, name)) % 4
        data: Frame = name
        if turn == 1:
            data = name + "\x1e."
        elif turn == 2:
            data = name.encode() + b"\0\x1e\n"
        made.append(Message(data))
    return made


def name_of(data: Frame) -> str:
    """Which of `messages` this is."""
    text = data.decode() if isinstance(data, bytes) else data
    return text.partition("\x1e")[0].partition("\0")[0]


def is_urgent(name: str) -> bool:
    """Urgent messages have an order of their own."""
    return name.startswith("u")


def decode(frame: Frame) -> Unit:
    """The unit in a frame of a WebSocket."""
    return codec.decode_binary(frame) if isinstance(frame, bytes) else codec.decode(frame)


class Application:
    """What one side's application sent and got, and its handlers that still run."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.groups: list[list[str]] = []
        """Of what was sent: what belongs together."""
        self.delivered: list[str] = []
        self.handled: set[str] = set()
        self.running: list[tuple[int, str]] = []
        """Numbers and names of what is being handled; the notice of a close has no name."""
        self.closed: SessionClosed | None = None
        self.cut_short = False
        """The session ended without the peer's word: by the clock."""

    @property
    def names_running(self) -> list[str]:
        return [name for _, name in self.running]


class Side:
    """One end: its machine, its application and its end of the network."""

    machine: SessionMachine

    def __init__(self, clock: FakeClock, network: Network) -> None:
        self.clock = clock
        self.network = network
        self.application = Application()
        self.known = math.inf
        """The deadline that was asked for."""

    # -- the application -----------------------------------------------------------

    def send(self, group: list[Message], *, urgent: bool = False) -> bool:
        """Send messages that belong together; False if they are refused."""
        try:
            self.machine.send(group, urgent=urgent)
        except LocalProtocolError:
            return False
        names = [name_of(item.data) for item in group]
        self.application.sent += names
        self.application.groups.append(names)
        return True

    def handler_returns(self, index: int) -> None:
        """One of the running handlers returns."""
        seq, name = self.application.running.pop(index)
        if name:
            self.application.handled.add(name)
        self.act(self.machine.handled(seq, self.clock.now))

    def close(self, code: int, reason: str) -> None:
        self.act(self.machine.close(code, reason, self.clock.now))

    # -- WebSockets, and time ----------------------------------------------------------

    def open_pipe(self, socket: Socket) -> Pipe | None:
        """Where this side writes, while it holds the socket."""
        raise NotImplementedError

    def write(self, attempt: int) -> bool:
        """Write what the machine has for a WebSocket; False if that is nothing."""
        pipe = self.open_pipe(self.network.sockets[attempt])
        envelope = self.machine.pull(attempt, self.clock.now) if pipe else None
        if pipe is None or envelope is None:
            return False
        for frame in codec.encode_frames(envelope):
            pipe.write(frame)
        return True

    def write_all(self) -> None:
        for attempt in self.network.sockets:
            while self.write(attempt):
                pass

    def timeout(self) -> None:
        """The machine does what the time demands; its deadline must be behind it then."""
        over = self.application.closed is not None
        self.act(self.machine.timeout(self.clock.now))
        self.application.cut_short |= not over and self.application.closed is not None
        self.write_all()
        deadline = self.deadline()
        assert deadline is None or deadline > self.clock.now, "the deadline stays for ever"

    def deadline(self) -> float | None:
        """When to look at the clock."""
        deadline = self.machine.deadline()
        self.known = math.inf if deadline is None else deadline
        return deadline

    def audit_deadline(self) -> None:
        """Who asks for the deadline only if `soonest` is before the one it knows is never late."""
        soonest, known = self.machine.soonest, self.known
        self.deadline()
        if soonest >= known:
            assert self.known >= known, "an earlier deadline, of which nobody is told"
            self.machine.soonest, self.known = soonest, known

    # -- events ------------------------------------------------------------------------

    def act(self, events: list[Event]) -> None:
        """Do what the machine says."""
        for event in events:
            if isinstance(event, MessageReceived):
                self.application.delivered.append(name_of(event.data))
                self.application.running.append((event.seq, name_of(event.data)))
            elif isinstance(event, CloseReceived):
                self.application.running.append((event.seq, ""))
            elif isinstance(event, ConnectionDropped):
                self.drop(event.attempt, End(event.code, event.reason))
            elif isinstance(event, SessionClosed):
                assert self.application.closed is None, "closed twice"
                self.application.closed = event
                self.over()

    def drop(self, attempt: int, end: End | None) -> None:
        """A connection is over here; the peer gets the `end`, if there is one to get."""
        raise NotImplementedError

    def over(self) -> None:
        """The session is over here."""
        raise NotImplementedError

    def must_be_swallowed(self, attempt: int) -> None:
        """Gaps come from swallowed frames only; on polling there are none."""
        socket = self.network.sockets[attempt]
        assert socket.up.swallowed or socket.down.swallowed, "a gap, and no frame was lost"


class ClientSide(Side):
    """The browser's side."""

    machine: ClientMachine

    def __init__(self, clock: FakeClock, network: Network, bounds: Bounds) -> None:
        super().__init__(clock, network)
        # It does not know what the server grants before the welcome.
        self.machine = ClientMachine(grant=Grant(), bounds=bounds, now=clock.now)
        self.attempts = 0
        self.polling: set[int] = set()
        """The attempts that are runs of polls."""
        self.welcomed: set[int] = set()
        """What can be committed."""

    @property
    def alive(self) -> bool:
        return self.machine.state is not State.CLOSED

    def open_websocket(self) -> int:
        self.attempts += 1
        socket = self.network.sockets[self.attempts] = Socket(self.attempts)
        hello = self.machine.hello(self.attempts, Transport.WEBSOCKET, NONCE, self.clock.now)
        socket.up.write(codec.encode(hello))
        return self.attempts

    def open_polling(self) -> int:
        self.attempts += 1
        self.polling.add(self.attempts)
        hello = self.machine.hello(self.attempts, Transport.POLLING, NONCE, self.clock.now)
        self._post(self.attempts, "hello", hello)
        return self.attempts

    def commit(self, attempt: int) -> None:
        self.act(self.machine.commit(attempt))

    def open_pipe(self, socket: Socket) -> Pipe | None:
        return socket.up if socket.client_open else None

    def read(self, attempt: int) -> None:
        """Read one frame of a WebSocket."""
        socket = self.network.sockets[attempt]
        frame = socket.down.frames.popleft()
        if not socket.client_open:
            return
        if frame is None:
            self.drop(attempt, None)
        else:
            self._take(attempt, decode(frame))

    def poll(self, *, wait: float | None, limit: int | None = None) -> bool:
        """Post a waiting or (`wait` is None) a sending request; False if one is out already."""
        carrier = self.machine.carrier
        kind = "send" if wait is None else "wait"
        if carrier is None or carrier.attempt not in self.polling or self.network.waited_for(kind):
            return False
        self._post(carrier.attempt, kind, self.machine.poll(wait=wait, limit=limit))
        return True

    def _post(self, attempt: int, kind: str, unit: Unit) -> None:
        self.network.requests.append(Request(attempt, kind, codec.encode_body(unit)))

    def abandon(self, kind: str) -> None:
        """Give the requests of one kind up; they may still arrive."""
        for request in self.network.waited_for(kind):
            request.live = False

    def take(self, index: int, *, keep: int | None = None, page: bytes = b"") -> None:
        """An answer arrives; cut after `keep` bytes, or replaced by somebody's `page`."""
        request, body = self.network.answers.pop(index)
        if not request.live:
            return
        request.live = False
        try:
            unit = codec.decode_body(page or body[:keep])
        except MalformedEnvelope:
            return
        self._take(request.attempt, unit)

    def _take(self, attempt: int, unit: Unit) -> None:
        try:
            if isinstance(unit, Welcome):
                self._welcomed(attempt, unit)
            elif isinstance(unit, Envelope):
                self.act(self.machine.receive(attempt, unit, self.clock.now))
            else:
                assert isinstance(unit, End)
                if unit.session:
                    self.act(self.machine.ended(unit))
                else:
                    self.drop(attempt, None)
        except SequenceGap:
            self.must_be_swallowed(attempt)
            self.drop(attempt, None)

    def _welcomed(self, attempt: int, welcome: Welcome) -> None:
        assert welcome.attempt == attempt
        if attempt in self.network.sockets:
            self.network.sockets[attempt].welcomed = True
        if attempt in self.machine.connections:
            self.welcomed.add(attempt)
        self.act(self.machine.welcomed(welcome, self.clock.now))

    def drop(self, attempt: int, end: End | None) -> None:
        self.machine.detach(attempt, self.clock.now)
        self.welcomed.discard(attempt)
        if attempt in self.network.sockets:
            self.network.sockets[attempt].client_open = False
            self.network.sockets[attempt].up.end()
        for kind in ("hello", "wait", "send"):
            for request in self.network.waited_for(kind):
                request.live = request.attempt != attempt

    def over(self) -> None:
        # The last word: the ack of the server's close, where there is one.
        self.write_all()
        for socket in self.network.sockets.values():
            socket.up.end()
            socket.client_open = False
        self.abandon("send")
        self.poll(wait=None)


class ServerSide(Side):
    """The server's side, with what a registry knows of the one session."""

    machine: ServerMachine

    def __init__(self, clock: FakeClock, network: Network, grant: Grant, bounds: Bounds) -> None:
        super().__init__(clock, network)
        self.grant = grant
        self.bounds = bounds
        self.exists = False
        """A hello has come."""
        self._create()

    def _create(self) -> None:
        self.known = math.inf
        self.machine = ServerMachine(
            key=KEY, grant=self.grant, bounds=self.bounds, now=self.clock.now
        )

    def open_pipe(self, socket: Socket) -> Pipe | None:
        return socket.down if socket.server_open and socket.greeted else None

    def read(self, attempt: int) -> None:
        """Read one frame of a WebSocket."""
        socket = self.network.sockets[attempt]
        frame = socket.up.frames.popleft()
        if not socket.server_open:
            return
        if frame is None:
            self.drop(attempt, None)
            return
        unit = decode(frame)
        if not socket.greeted:
            self._read_hello(socket, unit)
            return
        assert isinstance(unit, Envelope)
        try:
            self.act(self.machine.receive(attempt, unit, self.clock.now))
        except SequenceGap as error:
            self.must_be_swallowed(attempt)
            self.drop(attempt, End(error.code, str(error)))

    def _read_hello(self, socket: Socket, unit: Unit) -> None:
        if not isinstance(unit, Hello):
            assert socket.up.swallowed, "no hello, and no frame was lost"
            self.drop(socket.attempt, End(4400, "no hello"))
            return
        socket.greeted = True
        answer = self._greet(unit, Transport.WEBSOCKET)
        if isinstance(answer, End):
            self.drop(socket.attempt, answer)
        else:
            socket.down.write(codec.encode(answer))

    def _greet(self, hello: Hello, transport: Transport) -> Welcome | End:
        if not self.exists:
            self._create()
            self.exists = True
        key = None if hello.id or self.machine.committed else KEY
        keyless = hello.id is None and key is None
        assert (hello.id, hello.key) == (ID, KEY) if hello.id else hello.nonce == NONCE
        events = self.machine.welcome(
            hello.attempt, transport, hello.envelope, self.clock.now, keyless=keyless
        )
        self.act(events)
        if self.machine.state is State.CLOSED:
            return self.machine.end()
        greeting = self.machine.greeting(hello.attempt)
        assert not (keyless and greeting.messages), "messages for one who proved no key"
        return Welcome(ID, hello.attempt, key, self.grant, greeting)

    def take(self, index: int, *, copy: bool = False) -> None:
        """A request arrives; as a `copy`, it will arrive once more."""
        requests = self.network.requests
        request = requests[index] if copy else requests.pop(index)
        unit = codec.decode_body(request.body)
        if isinstance(unit, Hello):
            self._answer([request], self._greet(unit, Transport.POLLING))
            return
        assert isinstance(unit, PollRequest)
        assert self.machine.knows(unit.key)
        events, verdict = self.machine.request(unit, self.clock.now)
        self.act(events)
        if self.machine.state is State.CLOSED:
            self._answer([request], self.machine.end())
        elif verdict.poll is Poll.REFUSE:
            self._answer([request], self.machine.superseded())
        else:
            self._serve(request, unit, verdict)

    def _serve(self, request: Request, unit: PollRequest, verdict: Verdict) -> None:
        held = self.network.held.setdefault(unit.attempt, {})
        now = self.clock.now
        if verdict.releases is not None:
            empty = self.machine.answer(unit.attempt, now, waiting=False, limit=None)
            assert not empty.messages
            self._answer(held.pop(verdict.releases), empty)
        if verdict.poll is Poll.PARK:
            assert not held, "two are held"
            held[unit.number] = [request]
        elif verdict.poll is Poll.JOIN:
            held[unit.number].append(request)
        else:
            waiting = verdict.poll is Poll.ANSWER and unit.wait is not None
            answer = self.machine.answer(unit.attempt, now, waiting=waiting, limit=unit.limit)
            self._answer([request], answer)

    def answer_held(self) -> bool:
        """Answer what is held and due; False if nothing is."""
        found = False
        for attempt, held in self.network.held.items():
            number = self.machine.due(attempt, self.clock.now)
            if number is not None:
                found = True
                limit = self.machine.limit(attempt)
                answer = self.machine.answer(attempt, self.clock.now, waiting=True, limit=limit)
                self._answer(held.pop(number), answer)
        return found

    def _answer(self, twins: list[Request], unit: Unit) -> None:
        body = codec.encode_body(unit)
        self.network.answers += [(request, body) for request in twins]

    def write_all(self) -> None:
        self.answer_held()
        super().write_all()

    def drop(self, attempt: int, end: End | None) -> None:
        self.machine.detach(attempt, self.clock.now)
        if attempt in self.network.sockets:
            socket = self.network.sockets[attempt]
            socket.server_open = False
            if end is not None:
                socket.down.write(codec.encode(end))
            socket.down.end()
        for twins in self.network.held.pop(attempt, {}).values():
            self._answer(twins, self.machine.superseded())

    def over(self) -> None:
        super().write_all()
        for attempt, socket in self.network.sockets.items():
            if socket.server_open and socket.greeted:
                self.drop(attempt, self.machine.end())
        for held in self.network.held.values():
            for twins in held.values():
                self._answer(twins, self.machine.end())
        self.network.held.clear()
