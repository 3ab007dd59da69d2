"""A network that loses, repeats, delays and reorders, and the time.

Plain data: whoever holds a `Network` decides what of it arrives, and when.
Requests and their answers may arrive in any order; a WebSocket is ordered, and
what a fault takes from it is gone.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

Frame = str | bytes


class FakeClock:
    """The time, for both ends."""

    def __init__(self, now: float) -> None:
        self.now = now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Pipe:
    """One direction of a WebSocket. None among its frames is the end."""

    def __init__(self) -> None:
        self.frames: deque[Frame | None] = deque()
        self.deaf = False
        """Nothing that is written arrives any more: a black hole, or it has ended."""
        self.swallowed = False
        """A middlebox has taken a frame out of it."""

    def write(self, frame: Frame) -> None:
        if not self.deaf:
            self.frames.append(frame)

    def end(self) -> None:
        if not self.deaf:
            self.frames.append(None)
            self.deaf = True

    def go_black(self, keep: int) -> None:
        """From frame `keep` on nothing arrives, and nobody is told."""
        while len(self.frames) > keep:
            self.frames.pop()
        self.deaf = True

    def reset(self, keep: int) -> None:
        """The reader gets `keep` frames and the end, whatever was written."""
        self.go_black(keep)
        self.frames.append(None)

    def swallow(self, index: int) -> None:
        """One frame in the middle is lost."""
        del self.frames[index]
        self.swallowed = True

    def repeat(self, index: int) -> None:
        """One frame comes twice."""
        self.frames.insert(index, self.frames[index])


@dataclass
class Socket:
    """One WebSocket: two pipes, and how far each end is with it."""

    attempt: int
    up: Pipe = field(default_factory=Pipe)
    down: Pipe = field(default_factory=Pipe)
    client_open: bool = True
    server_open: bool = True
    greeted: bool = False
    """The server has read the hello."""
    welcomed: bool = False
    """The client has read the welcome."""

    @property
    def healthy(self) -> bool:
        harmed = any(pipe.deaf or pipe.swallowed for pipe in (self.up, self.down))
        return self.client_open and self.server_open and not harmed


@dataclass(eq=False)
class Request:
    """A POST, and whether the client still waits for its answer."""

    attempt: int
    kind: str
    """``hello``, ``wait`` or ``send``."""
    body: bytes
    live: bool = True


class Network:
    """All that is on its way between a client and a server."""

    def __init__(self) -> None:
        self.sockets: dict[int, Socket] = {}
        self.requests: list[Request] = []
        """On their way up, in no order."""
        self.held: dict[int, dict[int, list[Request]]] = {}
        """Those that the server holds, by attempt and number; several are twins."""
        self.answers: list[tuple[Request, bytes]] = []
        """On their way down, in no order."""

    def waited_for(self, kind: str) -> list[Request]:
        """The requests of one kind whose answer the client still waits for."""
        held = [request for by in self.held.values() for twins in by.values() for request in twins]
        everywhere = [*self.requests, *held, *[request for request, _ in self.answers]]
        return [request for request in everywhere if request.live and request.kind == kind]
