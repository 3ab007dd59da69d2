"""Ten thousand of each kind of bad input leave no more memory behind than one thousand.

Sent as fast as the server takes them, a few dozen connections at a time. What
is measured is the resident memory of the server's process, after it has
forgotten the sessions that the input was about.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fallback_transport.registry import UNCOMMITTED_GRACE

from .raw import (
    BINARY,
    CONT,
    PING,
    SEPARATOR,
    TEXT,
    Closed,
    Session,
    WebSocket,
    Wire,
    frame,
    handshake,
    hello,
    request,
)
from .served import Served

FEW, MANY = 1_000, 10_000
#: What ten thousand may leave behind that one thousand did not.
MOST = 2_000_000
#: How many connections are made at a time.
WORKERS = 24
#: Requests that follow each other on one connection.
PIPELINE = 50
#: Seconds between two things that are left behind by one worker: as many are there at a time
#: among the first thousand as later, or the highest point would be what is compared.
PACE = WORKERS / 800

#: Sends so many, beginning with a number.
Storm = Callable[[int, int], None]


class Target(Served):
    """A server, and sessions with it that last as long as a storm."""

    def __init__(self) -> None:
        # Sessions that are left alone are to be forgotten soon.
        super().__init__("eventlet", inactivity=1)
        self._sessions: list[Session] = []

    def session(self) -> Session:
        """A session on a WebSocket that stays open."""
        self._sessions.append(Session(self.port))
        return self._sessions[-1]

    def calm(self) -> None:
        """The storm is over."""
        for session in self._sessions:
            session.socket.close()
        self._sessions.clear()

    def resident(self) -> int:
        """The memory of its process, once other sessions are forgotten."""
        until = time.monotonic() + 30
        while self.get("/state")["sessions"] > len(self._sessions):
            assert time.monotonic() < until, "there are sessions left"
            time.sleep(0.1)
        return int(self.get("/state")["resident"])


def spread(count: int, size: int, work: Callable[[int, int], None]) -> None:
    """Call `work` for `count` things, `size` at a time, from many threads."""
    starts = iter(range(0, count, size))
    lock = threading.Lock()
    failures: list[Exception] = []

    def run() -> None:
        while not failures:
            with lock:
                start = next(starts, None)
            if start is None:
                return
            try:
                work(start, min(size, count - start))
            except (OSError, AssertionError, Closed) as error:
                failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def requests(server: Target, make: Callable[[int], bytes], want: tuple[int, ...]) -> Storm:
    """Requests one after the other on connections that stay open."""

    def work(start: int, count: int) -> None:
        with Wire(server.port) as wire:
            wire.send(b"".join([make(number) for number in range(start, start + count)]))
            for _ in range(count):
                assert wire.reply().status in want

    return lambda start, count: spread(count, PIPELINE, lambda s, c: work(start + s, c))


def bodies(server: Target, texts: list[str], *want: int) -> Storm:
    """Polling requests with these texts in turn."""
    made = [request("POST", "/fallback/poll", (text + "\x1e.").encode()) for text in texts]
    return requests(server, lambda number: made[number % len(made)], want)


def sockets(server: Target, act: Callable[[WebSocket, int], None]) -> Storm:
    """One WebSocket for each, closed as soon as the server has closed it."""

    def work(start: int, count: int) -> None:
        for number in range(start, start + count):
            with WebSocket(server.port) as websocket:
                act(websocket, number)

    return lambda start, count: spread(count, 20, lambda s, c: work(start + s, c))


def told_off(websocket: WebSocket) -> None:
    """Read until the server has closed the WebSocket with a code."""
    assert websocket.closure().code is not None


def bad_frame(websocket: WebSocket, number: int) -> None:
    websocket.send(FRAMES[number % len(FRAMES)])
    told_off(websocket)


FRAMES = [
    frame(TEXT, b"a0", masked=False),
    frame(TEXT, b"a0", rsv=4),
    frame(7, b"a0"),
    frame(PING, b"", fin=False),
    frame(CONT, b"a0"),
    frame(TEXT, length=2**62),
    frame(TEXT, b"\xff"),
    frame(TEXT, b"a0"),
    frame(TEXT, hello(head={"hello": 2}).encode()),
    frame(TEXT, hello(head={"ack": 10**15}).encode()),
    frame(BINARY, b"x" * 1000),
    frame(TEXT, b"[" * 4000),
    frame(PING, b"") * 20,
]
# Endless fragments take the server a while, so they are few among the others.
FRAMES = [*FRAMES * 4, frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * 4100]

TEXTS = [
    "a page",
    "{",
    '{"hello":' + "[" * 3000,
    hello(head={"attempt": -1}),
    hello(head={"attempt": float("nan")}),
    hello(head={"nonce": "x" * 100}),
    hello("x"),
    hello("e" + "[" * 10_000),
    hello("b!"),
    hello("m0", "m0"),
    hello(head={"seq": 9}),
    "ix ky t1 n-1 a0",
    f"ix ky t1 n1 a{'9' * 30}",
]

PACKETS = [
    "m",
    "m9",
    "m0",
    "m2{}",
    'm2["connect"]',
    'm2["count",',
    'm2["count",' + "[" * 5000,
    'm2["count",NaN]',
    "m3[]",
    "m7x",
    "bAAAA",
    'm51000000000-["count"]',
    f'm2["count",{"9" * 5000}]',
]


def bad_packet(websocket: WebSocket, number: int) -> None:
    websocket.text(hello())
    envelopes = [*[SEPARATOR.join(["a0 c1 s2", packet]) for packet in PACKETS], "a99", "a0 r99"]
    websocket.text(envelopes[number % len(envelopes)])
    assert websocket.closure().end is not None


def abandoned(websocket: WebSocket, number: int) -> None:
    """A session that is left with attachments, or half a message, still to come."""
    next_one = time.monotonic() + PACE
    websocket.text(hello())
    packet = 'm59-["count",{"_placeholder":true,"num":0}]'
    websocket.text(SEPARATOR.join(["a0 c1 s2", packet, "bAAAA"]))
    # Welcome and CONNECT: it is committed now.
    websocket.next_text()
    websocket.next_text()
    if number % 2:
        websocket.send(frame(TEXT, b"x" * 500, length=1_000_000))
        websocket.reset()
    time.sleep(max(0, next_one - time.monotonic()))


def gap(server: Target) -> Storm:
    # Several, because of too many candidates at a time the oldest is dropped for that.
    sessions: queue.SimpleQueue[Session] = queue.SimpleQueue()
    for _ in range(WORKERS):
        sessions.put(server.session())

    def act(websocket: WebSocket, number: int) -> None:
        session = sessions.get()
        websocket.text(session.resume(attempt=number + 2))
        websocket.text("a0 s9\x1em")
        assert websocket.closure().code == 1002
        sessions.put(session)

    return sockets(server, act)


def polled_gaps(server: Target) -> Storm:
    session = server.session()
    line = session.line("a0 s9")
    texts = [line + "\x1em", line, line.replace("a0", "a-1"), line + " r0 r0"]
    return bodies(server, texts, 400)


def someone_else(server: Target) -> Storm:
    one, two = server.session(), server.session()
    texts = [
        one.resume(key="x" * 32),
        one.resume(id=two.id),
        f"i{one.id} k{two.key} t1 n1 c1 a0",
        f"i{one.id[:-1]} k{one.key} t1 n1 c1 a0",
        f"i000000.x k{one.key} t1 n1 c1 a0",
    ]
    return bodies(server, texts, 200, 421)


def unwanted_polls(server: Target) -> Storm:
    """Held polls whose client resets the connection, or joins one that is held."""
    session = Session(server.port, "polling")

    def work(start: int, count: int) -> None:
        for number in range(start, start + count):
            line = session.line("a1", wait=200)
            with Wire(server.port) as wire:
                wire.send(request("POST", "/fallback/poll", (line + "\x1e.").encode()))
                if number % 4:
                    time.sleep(PACE / 4)
                    wire.reset()
                else:
                    assert wire.reply().status == 200

    return lambda start, count: spread(count, 20, lambda s, c: work(start + s, c))


HTTP = [
    request("GET", "/fallback/poll"),
    request("PUT", "/fallback/poll", b"x" * 100),
    request("GET", "/fallback/../../etc/passwd"),
    request("POST", "/fallback/fallback_transport.js", b""),
    request("POST", "/fallback/poll", b"x", {"Origin": "http://evil.test"}),
    request("POST", "/fallback/poll", b"\xff\xfe"),
    handshake({"Origin": "http://evil.test"}),
    handshake({"Sec-WebSocket-Version": "8"}),
]


def other_requests(server: Target) -> Storm:
    return requests(server, lambda number: HTTP[number % len(HTTP)], (400, 403, 404, 405, 426))


POST = b"POST /fallback/poll HTTP/1.1\r\nHost: x\r\n"
CUT = [
    b"nonsense\r\n\r\n",
    POST + b"Content-Length: -1\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    POST + b"Content-Length: 100\r\n\r\nabc",
    POST + b"Content-Length: 100000000\r\n\r\n" + b"x" * 1000,
    POST + b"X",
    handshake({"Sec-WebSocket-Key": "abc"}),
    handshake({"Sec-WebSocket-Protocol": ""}),
]


def cut_requests(server: Target) -> Storm:
    def work(start: int, count: int) -> None:
        for number in range(start, start + count):
            with Wire(server.port) as wire:
                wire.send(CUT[number % len(CUT)])
                wire.finish()
                wire.read_rest()

    return lambda start, count: spread(count, 20, lambda s, c: work(start + s, c))


KINDS: dict[str, Callable[[Target], Storm]] = {
    "malformed hellos and requests": lambda server: bodies(server, TEXTS, 400, 426),
    "requests of other kinds": other_requests,
    "requests that are none, or end early": cut_requests,
    "keys and ids of others": someone_else,
    "gaps and malformed envelopes, polled": polled_gaps,
    "polls that nobody waits for": unwanted_polls,
    "illegal frames and malformed texts": lambda server: sockets(server, bad_frame),
    "malformed packets, impossible marks": lambda server: sockets(server, bad_packet),
    "gaps": gap,
    "attachments that never come, resets": lambda server: sockets(server, abandoned),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Target]:
    """A server after a little of everything: what is made once is made now."""
    with Target() as server:
        for make in KINDS.values():
            make(server)(0, 100)
            server.calm()
        # As many sessions at a time as there will ever be.
        sockets(server, abandoned)(0, 2_000)
        yield server


@pytest.mark.parametrize("kind", list(KINDS))
def test_ten_thousand_leave_no_more_than_one_thousand(server: Target, kind: str) -> None:
    storm = KINDS[kind](server)
    began = time.monotonic()
    storm(0, FEW)
    before = server.resident()
    for start in range(FEW, MANY, FEW):
        # The application's own notes of what its handlers saw are not the server's.
        server.get("/forget")
        storm(start, FEW)
    grown = server.resident() - before
    server.calm()
    print(f"{kind}: {grown / 1e6:+.2f} MB, {time.monotonic() - began:.1f} s")
    assert grown <= MOST


def test_hellos_that_nobody_commits_are_bounded() -> None:
    """With the options as they are, and without waiting for anything to be forgotten."""
    with Served("eventlet") as server:

        def storm(start: int, count: int) -> None:
            def work(start: int, count: int) -> None:
                with Wire(server.port) as wire:
                    for _ in range(count):
                        wire.send(request("POST", "/fallback/poll", (hello() + "\x1e.").encode()))
                        assert wire.reply().status in (200, 503)

            spread(count, PIPELINE, work)

        storm(0, FEW)
        # From now on they make room for each other, which is part of what a thousand cost.
        time.sleep(UNCOMMITTED_GRACE)
        storm(0, FEW)
        before = server.get("/state")
        for start in range(FEW, MANY, FEW):
            server.get("/forget")
            storm(start, FEW)
        after = server.get("/state")
        assert before["sessions"] <= after["sessions"] <= 1_000
        grown = after["resident"] - before["resident"]
        print(f"hellos: {grown / 1e6:+.2f} MB")
        assert grown <= MOST
