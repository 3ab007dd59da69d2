"""Ten thousand of each kind of bad input leave no more memory behind than one thousand.

Each is answered as PROTOCOL.md says, is worth its lines in the log and no traceback, and a
bystander's echoes come back meanwhile. What is measured is the resident memory of the
server's process, after it has forgotten the sessions that the input was about.

Of the endless fragments most have content; empty ones cost the server 30 ms each time, and
are few among the others. All ten thousand of them are sent by

    FALLBACK_TRANSPORT_ENDLESS=1 python -m pytest tests/integration/test_memory.py -k empty
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from fallback_transport.registry import MAX_TOMBSTONES, UNCOMMITTED_GRACE

from .outcomes import Bystander, over_http
from .raw import (
    BINARY,
    CONT,
    PING,
    SEPARATOR,
    TEXT,
    Session,
    WebSocket,
    Wire,
    ask,
    frame,
    handshake,
    hello,
    request,
)
from .served import Served
from .storm import (
    BATCH,
    Bad,
    Exchange,
    on_abandoned_websockets,
    on_connections_cut_short,
    on_few_websockets,
    on_own_connections,
    on_shared_connections,
    on_websockets,
    once,
    rage,
)

FEW, MANY = 1_000, 10_000
#: What ten thousand may leave behind that one thousand did not.
MOST = 2_000_000
#: Small, so that what is too large is sent quickly.
MAX_MESSAGE, MAX_BODY = 6_000, 16_384
#: As many fragments as exceed it.
FRAGMENTS = 9
#: Seconds for the server to log what it has answered.
LOGGED = 5.0

#: Sends so many, beginning with a number; tells how many lines they are worth, if that is known.
Storm = Callable[[int, int], int | None]


class Target(Served):
    """A server, its bystander, and sessions with it that last as long as a storm.

    Args:
        inactivity: seconds for which it remembers a session that is left alone.
    """

    def __init__(self, inactivity: float) -> None:
        super().__init__(
            "eventlet", inactivity=inactivity, max_message=MAX_MESSAGE, max_body=MAX_BODY
        )
        self.bystander: Bystander
        self._sessions: list[Session] = []

    def __enter__(self) -> Target:
        super().__enter__()
        self.bystander = Bystander(self.port)
        return self

    def __exit__(self, *error: object) -> None:
        self.bystander.close()
        super().__exit__(*error)

    def session(self, transport: str = "websocket") -> Session:
        """A session that stays for the storm, if it is on a WebSocket or goes on polling."""
        self._sessions.append(Session(self.port, transport))
        return self._sessions[-1]

    def calm(self) -> None:
        """The storm is over."""
        for session in self._sessions:
            if session.ws is not None:
                session.ws.text('a1 s2\x1ec[1000,""]')
                session.ws.close()
            else:
                session.post("a1 s2", 'c[1000,""]')
        self._sessions.clear()
        self._wait_for_the_end()

    def resident(self) -> int:
        """The memory of its process, once other sessions are forgotten."""
        # The application's own notes of what its handlers saw are not the server's.
        self.get("/forget")
        self._wait_for_the_end()
        return int(self.get("/state")["resident"])

    def _wait_for_the_end(self) -> None:
        until = time.monotonic() + 30
        while self.get("/state")["sessions"] > len(self._sessions) + 1:
            assert time.monotonic() < until, "there are sessions left"
            time.sleep(0.05)

    def logged(self) -> int:
        """How much it has logged."""
        return len(self.log())

    def lines_since(self, mark: int, least: int) -> int:
        """How many lines it has logged since; waits for so many."""
        until = time.monotonic() + LOGGED
        while True:
            log = self.log()[mark:]
            assert "Traceback" not in log, log[log.index("Traceback") :][:4000]
            count = log.count("\n")
            if count >= least or time.monotonic() > until:
                return count
            time.sleep(0.05)


# -- how it is sent ----------------------------------------------------------------------


def polled(want: str, make: Callable[[], str | bytes]) -> Bad:
    """A polling body; its end mark is added to a text."""

    def body(number: int) -> Exchange:
        made = make()
        return once(posted(made + SEPARATOR + "." if isinstance(made, str) else made))

    return Bad(want, on_shared_connections, body)


def posted(body: str | bytes, headers: dict[str, str] | None = None) -> bytes:
    data = body.encode() if isinstance(body, str) else body
    return request("POST", "/fallback/poll", data, headers)


def in_session(want: str, marks: str, *segments: str) -> list[Bad]:
    """An envelope on a session made for it; mostly polled, which is cheaper."""

    def exchange(number: int) -> Exchange:
        welcome = (yield posted(f"{hello()}\x1e.")).head
        head = f"{_line(welcome, 1)} {marks}"
        return over_http((yield posted(SEPARATOR.join([head, *segments, "."]))))

    def texts(number: int) -> bytes:
        text = SEPARATOR.join([f"{marks} c1", *segments])
        return frame(TEXT, hello().encode()) + frame(TEXT, text.encode())

    return [
        *[Bad(f"200 {want}", on_shared_connections, exchange)] * 3,
        Bad(want, on_websockets, texts),
    ]


def on_websocket(want: str, make: Callable[[], str | bytes]) -> Bad:
    """The first text of a WebSocket, or frames."""

    def data(number: int) -> bytes:
        made = make()
        return frame(TEXT, made.encode()) if isinstance(made, str) else made

    return Bad(want, on_websockets, data)


def first(polling: str, websocket: str, make: Callable[[], str]) -> list[Bad]:
    """The first text on either transport."""
    return [polled(polling, make)] * 3 + [on_websocket(websocket, make)]


def alone(want: str, data: bytes) -> Bad:
    """A request with whose answer its connection ends."""
    return Bad(want, on_own_connections, lambda number: data)


def cut(want: str, data: bytes) -> Bad:
    """A request that is none, or that ends early."""
    return Bad(want, on_connections_cut_short, lambda number: data)


def asked(want: str, data: bytes) -> Bad:
    """A request after which its connection goes on."""
    return Bad(want, on_shared_connections, lambda number: once(data))


# -- the kinds ---------------------------------------------------------------------------

MALFORMED = "400 4400", "4400"
POST = b"POST /fallback/poll HTTP/1.1\r\nHost: x\r\n"
EVIL = {"Origin": "http://evil.test"}


def malformed_envelopes(server: Target) -> list[Bad]:
    session = server.session()
    return [
        *first(*MALFORMED, lambda: "<!doctype html><title>Sign in</title>"),
        *first(*MALFORMED, lambda: hello("x")),
        *first(*MALFORMED, lambda: hello("b!")),
        *first(*MALFORMED, lambda: hello("m0", "m0")),
        polled("400 4400", lambda: session.line("a0 a0")),
        polled("400 4400", lambda: session.line("a0  r0")),
        polled("400 4400", lambda: session.line("a0 z1")),
        polled("400 4400", lambda: session.line("a0 s2")),
        polled("400 4400", lambda: session.line("a0 s2") + "\x1ec[1000]"),
        polled("400 4400", lambda: hello().encode()),
        on_websocket("4400", lambda: frame(BINARY, b"x" * 1000)),
        *in_session("4400 session", "a0 s2", "m9"),
        *in_session("4400 session", "a0 s2", "bAAAA"),
    ]


def malformed_json(server: Target) -> list[Bad]:
    return [
        *first(*MALFORMED, lambda: "{"),
        *first(*MALFORMED, lambda: '{"hello":1,'),
        *first(*MALFORMED, lambda: hello('e"')),
        *first("200 4400 session", "4400 session", lambda: hello('m0{"a":')),
        *in_session("4400 session", "a0 s2", 'm2["count",'),
        *in_session("4400 session", "a0 s2", 'm2["count",1]x'),
    ]


def wrong_types(server: Target) -> list[Bad]:
    return [
        *first(*MALFORMED, lambda: hello(head={"attempt": "1"})),
        *first(*MALFORMED, lambda: hello(head={"nonce": ["a"]})),
        *first(*MALFORMED, lambda: hello(head={"client": []})),
        *first(*MALFORMED, lambda: hello(head={"hello": True})),
        *first(*MALFORMED, lambda: hello(head={"seq": None})),
        *first("200 4400 session", "4400 session", lambda: hello("m0[1]")),
        *in_session("4400 session", "a0 s2", "m2{}"),
        *in_session("4400 session", "a0 s2", "m2[1]"),
    ]


def ack_beyond(server: Target) -> list[Bad]:
    return [
        *first("200 1002 session", "1002 session", lambda: hello(head={"received": 1, "ack": 1})),
        *first("200 1002 session", "1002 session", lambda: hello(head={"received": 10**12})),
        *in_session("1002 session", "a99"),
        *in_session("1002 session", "a0 r99"),
    ]


def gap(server: Target) -> list[Bad]:
    def behind(make: Callable[[dict[str, Any]], str]) -> Bad:
        """Of a session made for it, and closed then, with a line of its own: some more end it."""

        def exchange(number: int) -> Exchange:
            welcome = (yield posted(f"{hello()}\x1e.")).head
            found = over_http((yield posted(f"{make(welcome)}\x1e.")))
            yield posted(f'{_line(welcome, 9)} a0 s2\x1ec[1000,""]\x1e.')
            return found

        return Bad("400 1002", on_shared_connections, exchange, lines=2)

    def resumed(welcome: dict[str, Any]) -> str:
        proof = {"id": welcome["id"], "key": welcome["key"]}
        return hello("m2", head={"attempt": 2, "seq": 9, **proof}, without=("nonce",))

    return [
        *first("400 1002", "1002", lambda: hello(head={"seq": 2})),
        behind(lambda welcome: _line(welcome, 1) + " a0 s9\x1em"),
        behind(lambda welcome: _line(welcome, 1) + ' a0 s3\x1em2["count",1]'),
        behind(lambda welcome: _line(welcome, 1) + f" a0 s{10**14}\x1em"),
        behind(resumed),
    ]


def _line(welcome: dict[str, Any], number: int) -> str:
    return f"i{welcome['id']} k{welcome['key']} t1 n{number} c1"


def negative_numbers(server: Target) -> list[Bad]:
    session = server.session()
    placeholder = 'm51-["count",{"_placeholder":true,"num":-1}]'
    return [
        *first(*MALFORMED, lambda: hello(head={"attempt": -1})),
        *first(*MALFORMED, lambda: hello(head={"ack": -1})),
        polled("400 4400", lambda: session.line("a-1")),
        polled("400 4400", lambda: session.line("a0 s-2") + "\x1em"),
        polled("400 4400", lambda: session.line("a0 s2") + '\x1ec[-1000,""]'),
        polled("400 4400", lambda: session.line("a0 w-1")),
        alone("400", POST + b"Content-Length: -5\r\n\r\n"),
        *in_session("4400 session", "a0 s2", placeholder, "bAAAA"),
    ]


def huge_numbers(server: Target) -> list[Bad]:
    session = server.session()
    digits = "9" * 4000
    attempt = hello(head={"attempt": 0}).replace('"attempt": 0', f'"attempt": {digits}')
    return [
        *first(*MALFORMED, lambda: hello(head={"attempt": 10**15})),
        *first(*MALFORMED, lambda: attempt),
        *first(*MALFORMED, lambda: hello(head={"attempt": float("inf")})),
        polled("400 4400", lambda: session.line(f"a{digits}")),
        polled("400 4400", lambda: session.line("a0 s2") + f'\x1ec[{digits},""]'),
        polled("400 4400", lambda: session.line("a0 s2") + f"\x1ee{digits}"),
        alone("400", POST + b"Content-Length: " + digits.encode() + b"\r\n\r\n"),
        *in_session("1002 session", "a999999999999999"),
        *in_session("4400 session", "a0 s2", f'm2["count",{digits}]'),
        *in_session("4400 session", "a0 s2", 'm2["count",1e999]'),
        *in_session("4400 session", "a0 s2", 'm51000000000-["count"]'),
    ]


def deep_nesting(server: Target) -> list[Bad]:
    session = server.session()
    deep = "[" * 5000
    closed = "[" * 2500 + "]" * 2500
    return [
        *first(*MALFORMED, lambda: '{"hello":' + deep),
        *first(*MALFORMED, lambda: '{"hello":' + closed + "}"),
        *first(*MALFORMED, lambda: hello("e" + deep)),
        polled("400 4400", lambda: session.line("a0 s2") + "\x1ec" + deep),
        *first("200 4400 session", "4400 session", lambda: hello('m0{"a":' + deep)),
        *in_session("4400 session", "a0 s2", f'm2["count",{deep}'),
        *in_session("4400 session", "a0 s2", f'm2["count",{closed}]'),
        *in_session("4400 session", "a0 s2", 'm2["count",' + "[" * 100 + "]" * 100 + "]"),
    ]


def attachments_that_never_come(server: Target) -> list[Bad]:
    """The sessions end when their time with no connection is over."""
    packet = 'm53-["count",{"_placeholder":true,"num":0}]'

    def exchange(number: int) -> Exchange:
        welcome = (yield posted(f"{hello()}\x1e.")).head
        head = f"i{welcome['id']} k{welcome['key']} t1 n1 c1 a0 s2"
        return over_http((yield posted(SEPARATOR.join([head, packet, "bAAAA", "."]))))

    def texts(number: int) -> bytes:
        text = SEPARATOR.join(["a0 c1 s2", packet, "bAAAA"])
        return frame(TEXT, hello().encode()) + frame(TEXT, text.encode())

    return [
        Bad("200", on_shared_connections, exchange),
        Bad("200", on_shared_connections, exchange),
        Bad("left", on_abandoned_websockets, texts),
    ]


def oversized_bodies(server: Target) -> list[Bad]:
    body = b"x" * (MAX_BODY + 1)
    return [
        asked("413 4413", posted(body)),
        asked("413 4413", posted(b"x" * 50_000)),
        alone("413 4413", POST + b"Content-Length: 100000000000\r\n\r\n" + body),
    ]


def oversized_frames(server: Target) -> list[Bad]:
    return [
        on_websocket("1009", lambda: frame(TEXT, length=MAX_BODY + 1)),
        on_websocket("1009", lambda: frame(TEXT, b"x" * (MAX_BODY + 1))),
        on_websocket("1009", lambda: frame(BINARY, b"x" * 50_000)),
        on_websocket("1009", lambda: frame(TEXT, length=2**62)),
        on_websocket("1009", lambda: frame(BINARY, length=2**64 - 1)),
    ]


def endless_fragments(server: Target) -> list[Bad]:
    text = frame(TEXT, b"x" * 2000, fin=False) + frame(CONT, b"x" * 2000, fin=False) * FRAGMENTS
    data = frame(BINARY, b"", fin=False) + frame(CONT, b"x" * 2000, fin=False) * FRAGMENTS
    some = [on_websocket("1009", lambda: text), on_websocket("1009", lambda: data)]
    return some * 50 + empty_fragments(server)


def empty_fragments(server: Target) -> list[Bad]:
    sent = frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * 4096
    return [Bad("1009", on_few_websockets, lambda number: sent)]


def invalid_utf8(server: Target) -> list[Bad]:
    session = server.session()
    surrogate = hello().encode() + b"\xed\xa0\x80"
    return [
        polled("400 4400", lambda: b"\xff\xfe\x1e."),
        polled("400 4400", lambda: hello().encode() + b"\xc0\x80\x1e."),
        polled("400 4400", lambda: session.line("a0 s2").encode() + b"\x1em\xf0\x9f\x98\x1e."),
        on_websocket("1007", lambda: frame(TEXT, b"a0\xff")),
        on_websocket("1007", lambda: frame(TEXT, surrogate)),
        on_websocket("1007", lambda: frame(TEXT, b"a\xc3", fin=False) + frame(CONT, b"(")),
    ]


def unmasked_frames(server: Target) -> list[Bad]:
    return [
        on_websocket("1002", lambda: frame(TEXT, hello().encode(), masked=False)),
        on_websocket("1002", lambda: frame(PING, b"", masked=False)),
        on_websocket("1002", lambda: frame(BINARY, b"x" * 1000, masked=False)),
    ]


def wrong_key(server: Target) -> list[Bad]:
    session = server.session()
    key, wrong = f"k{session.key}", "k" + "x" * 32
    return [
        *first("200 4404 session", "4404 session", lambda: session.resume(key="x" * 32)),
        *first("200 4404 session", "4404 session", lambda: session.resume(key=session.key[:-1])),
        polled("200 4404 session", lambda: session.line("a0").replace(key, wrong)),
        polled("200 4404 session", lambda: session.line("a0", wait=3000).replace(key, wrong)),
        # The handshake's key, should that be meant.
        alone("400", handshake({"Sec-WebSocket-Key": "abc"})),
    ]


def someone_elses_id(server: Target) -> list[Bad]:
    one, two = server.session(), server.session()
    return [
        *first("200 4404 session", "4404 session", lambda: one.resume(id=two.id)),
        *first("200 4404 session", "4404 session", lambda: two.resume(id=one.id)),
        *first("421 4421", "4421", lambda: one.resume(id="000000.x")),
        polled("200 4404 session", lambda: one.line("a0").replace(one.id, two.id)),
        polled("200 4404 session", lambda: one.line("a0").replace(one.id, one.id[:-1])),
    ]


def wrong_origin(server: Target) -> list[Bad]:
    return [
        asked("403 4403", posted(f"{hello()}\x1e.", EVIL)),
        asked("403 4403", posted(f"{hello()}\x1e.", {"Origin": "null"})),
        asked("403", handshake(EVIL)),
    ]


def wrong_method(server: Target) -> list[Bad]:
    return [
        asked("405", request("GET", "/fallback/poll")),
        asked("405", request("PUT", "/fallback/poll", b"x" * 100)),
        asked("405", request("DELETE", "/fallback/poll")),
        asked("405", request("POST", "/fallback/fallback_transport.js", b"")),
        asked("405", handshake(method="POST")),
    ]


def requests_that_are_none(server: Target) -> list[Bad]:
    return [
        cut("400|cut", b"nonsense\r\n\r\n"),
        cut("411 4400", POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        cut("400 4400", POST + b"Content-Length: 100\r\n\r\nabc"),
        cut("400|cut", POST + b"X"),
        alone("400", handshake({"Sec-WebSocket-Protocol": ""})),
        asked("426", handshake({"Sec-WebSocket-Version": "8"})),
    ]


KINDS: dict[str, Callable[[Target], list[Bad]]] = {
    make.__name__.replace("_", " "): make
    for make in (
        malformed_envelopes,
        malformed_json,
        wrong_types,
        ack_beyond,
        gap,
        negative_numbers,
        huge_numbers,
        deep_nesting,
        oversized_bodies,
        oversized_frames,
        endless_fragments,
        invalid_utf8,
        unmasked_frames,
        wrong_key,
        someone_elses_id,
        wrong_origin,
        wrong_method,
        requests_that_are_none,
    )
}
if os.environ.get("FALLBACK_TRANSPORT_ENDLESS"):
    KINDS["empty fragments"] = empty_fragments


# -- what goes on for longer than its answer -----------------------------------------------


def unwanted_polls(server: Target) -> Storm:
    """Held polls whose client resets the connection."""
    sessions = [server.session("polling") for _ in range(BATCH)]

    def storm(start: int, count: int) -> None:
        for _ in range(start, start + count, BATCH):
            wires = [Wire(server.port) for _ in sessions]
            for wire, session in zip(wires, sessions, strict=True):
                wire.send(posted(session.line("a1", wait=1000) + "\x1e."))
            for wire in wires:
                wire.reset()
            # So that it is never further behind than among the first thousand.
            assert ask(server.port, "GET", "/fallback/poll").status == 405

    return storm


def messages_cut_by_a_reset(server: Target) -> Storm:
    """Sessions whose WebSocket is reset in the middle of a message."""

    def storm(start: int, count: int) -> None:
        for _ in range(start, start + count, BATCH):
            sockets = [WebSocket(server.port, later=True) for _ in range(BATCH)]
            for websocket in sockets:
                websocket.opened()
                websocket.text(hello())
                websocket.text("a0 c1")
            for websocket in sockets:
                websocket.next_text()
                websocket.next_text()
                websocket.send(frame(TEXT, b"x" * 500, length=MAX_BODY - 1))
                websocket.reset()

    return storm


def raging(server: Target, make: Callable[[Target], list[Bad]]) -> Storm:
    """These in turn."""
    bads = make(server)
    return lambda start, count: rage(server.port, bads, start, count)


AT_ONCE: dict[str, Callable[[Target], Storm]] = {
    **{name: partial(raging, make=make) for name, make in KINDS.items()},
    "polls that nobody waits for": unwanted_polls,
}
#: What leaves sessions that end after their time: a thousand are there at a time.
LINGERING: dict[str, Callable[[Target], Storm]] = {
    "attachments that never come": partial(raging, make=attachments_that_never_come),
    "messages cut by a reset": messages_cut_by_a_reset,
}


def outlasts(server: Target, kind: str, storm: Storm) -> None:
    """The storm in thousands, each answer and line as documented, and the memory of it."""
    logged = server.logged()
    began = time.monotonic()
    lines = storm(0, FEW)
    before = server.resident()
    for start in range(FEW, MANY, FEW):
        more = storm(start, FEW)
        lines = None if lines is None or more is None else lines + more
        # Waited for each time, so that there are never more sessions than among the first thousand.
        grown = server.resident() - before
    seconds = time.monotonic() - began
    seen = server.lines_since(logged, lines or 0)
    server.calm()
    print(f"{kind}: {grown / 1e6:+.2f} MB, {seconds:.1f} s, {seen} lines")
    server.bystander.check()
    assert lines in (None, seen)
    assert grown <= MOST


def ended_sessions(server: Target) -> list[Bad]:
    """Half of them were committed, and half never."""
    return [
        *first("200 4400 session", "4400 session", lambda: hello("m0[1]")),
        *in_session("4400 session", "a0 s2", "m2[1]"),
    ]


@pytest.fixture(scope="module")
def server() -> Iterator[Target]:
    """A server after a little of everything: what is made once is made now.

    And what it remembers of sessions that have ended is as much as it ever will be, whichever
    test is the first: it keeps so many ends of either half.
    """
    with Target(inactivity=10) as server:
        for make in AT_ONCE.values():
            make(server)(0, 100)
        raging(server, ended_sessions)(0, 2 * MAX_TOMBSTONES)
        server.calm()
        yield server


@pytest.mark.parametrize("kind", list(AT_ONCE))
def test_ten_thousand_leave_no_more_than_one_thousand(server: Target, kind: str) -> None:
    outlasts(server, kind, AT_ONCE[kind](server))


@pytest.mark.parametrize("kind", list(LINGERING))
def test_nor_do_ten_thousand_that_are_left_alone(kind: str) -> None:
    with Target(inactivity=1) as server:
        storm = LINGERING[kind](server)
        # The room for a thousand sessions at a time is made now, and 2,000 ends are remembered.
        for start in range(0, 2 * FEW, FEW):
            storm(start, FEW)
            server.resident()
        outlasts(server, kind, storm)


def test_hellos_that_nobody_commits_are_bounded() -> None:
    """With the options as they are, and without waiting for anything to be forgotten."""
    with Served("eventlet") as server:

        def storm(start: int, count: int) -> None:
            # Some are welcomed, and some are told that the server is full.
            rage(server.port, [polled("200|503 1013", hello)], start, count)

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
