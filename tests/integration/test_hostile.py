"""Bad input over raw sockets: each gets its documented end, one line in the log, and no more.

`bad_input` has the tables. While a server of each async mode goes through all of them, a bystander
on a WebSocket echoes without a pause.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fallback_transport.protocol.envelope import Envelope, Grant
from fallback_transport.protocol.events import SessionClosed, Transport
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.protocol.server import UNCOMMITTED_WAIT, ServerMachine
from tests.client.waiting import eventually

from .bad_input import CASES, FRIEND, LENGTH, POST, Arena, Case
from .outcomes import UNNOTICED, Bystander, over_http, over_websocket
from .raw import SEPARATOR, Closed, Session, WebSocket, Wire, hello, poll, request
from .served import MODES, OVER_WSGI, Served

SERVERS = [
    pytest.param(mode, marks=[pytest.mark.requires("gevent")] if mode == "gevent" else [])
    for mode in MODES
]
#: Where greenlets serve, of which one could keep the others from running.
GREEN = [*SERVERS[:2], OVER_WSGI]
#: A request to nobody, whose body is read all the same, to come to the next request.
CHUNKED = b"POST /nothing HTTP/1.1\r\nHost: server.test\r\nTransfer-Encoding: chunked\r\n\r\n"
#: Characters of a part.
PIECE = 900_000


@pytest.fixture(scope="module", params=SERVERS)
def arena(request: pytest.FixtureRequest) -> Iterator[Arena]:
    with Served(request.param, origins=[FRIEND]) as server:
        arena = Arena(server)
        yield arena
        arena.close()


@pytest.mark.parametrize("bad", CASES, ids=[each.name for each in CASES])
def test_bad_input(arena: Arena, bad: Case) -> None:
    arena.begin()
    try:
        outcome = bad.act(arena)
        assert re.fullmatch(bad.want, outcome), f"{outcome}, not {bad.want}"
        lines = arena.lines(bad.lines)
        assert len(lines) == bad.lines, "\n".join(lines)
        arena.check_handlers()
        arena.bystander.check()
    finally:
        arena.tidy()


def test_a_websocket_without_a_hello_is_closed(arena: Arena) -> None:
    assert over_websocket(arena.silent, ask=False) == "4408"
    arena.bystander.check()


def test_half_open_requests_hurt_nobody(arena: Arena) -> None:
    arena.bystander.check()
    # Whoever completes his request is answered; on eventlet's hub a head has 10 s, a body 30, and
    # on gevent each piece has 75.
    late = {"eventlet": "408|", "gevent": "400|"}.get(arena.server.mode, "")
    for wire in arena.half_open[2:]:
        wire.send(b"x" * 97 if wire is arena.half_open[3] else LENGTH + b"x" * 97)
        assert re.fullmatch(late + "400 4400", over_http(wire.reply()))


@pytest.mark.parametrize(
    "chunks",
    [
        "0x3\r\nabc\r\n",
        "+3\r\nabc\r\n",
        "0_3\r\nabc\r\n",
        "3\xa0\r\nabc\r\n",
        "3\r\nabcXX\r\n",
    ],
)
def test_behind_chunks_that_are_none_there_is_no_request(arena: Arena, chunks: str) -> None:
    wire = arena.wire()
    wire.send(CHUNKED + (chunks + "0\r\n\r\n").encode("latin-1") + request("GET", "/seen"))
    assert re.findall(rb"HTTP/1\.1 (\d+)", wire.read_rest()) == [b"404"]
    arena.tidy()
    arena.bystander.check()


@pytest.mark.parametrize("mode", ["eventlet", OVER_WSGI])
def test_who_sends_chunks_is_told_that_the_answer_is_the_last(mode: str) -> None:
    with Served(mode) as server, Wire(server.port) as wire:
        wire.send(CHUNKED)
        assert (reply := wire.reply()).status == 404
        assert reply.headers["connection"] == "close"
        # What is sent before that is known resets nothing.
        wire.send(b"3\r\nabc\r\n" * 100_000 + b"0\r\n\r\n")
        with pytest.raises(Closed) as ended:
            wire.read(1)
        assert ended.value.__cause__ is None


@pytest.mark.parametrize("mode", SERVERS)
def test_who_waits_for_the_end_of_an_answer_need_not_end_first(mode: str) -> None:
    """Though there is more of its request than was read for the answer."""
    with Served(mode) as server, Wire(server.port) as wire:
        sent = request("POST", "/nothing", b"x" * 30_000, {"Connection": "close"})
        wire.send(sent[:20_000])
        assert wire.reply().status == 404
        wire.send(sent[20_000:])
        assert wire.read_rest() == b""
        # As its view may have something to close then.
        eventually(lambda: server.get("/state")["teardowns"] == 1)


@pytest.mark.parametrize("mode", SERVERS)
def test_attachments_that_never_come_end_with_their_session(mode: str) -> None:
    """Two are announced, one comes, and then nobody any more."""
    packet = 'm52-["count",{"_placeholder":true,"num":0}]'
    with Served(mode, inactivity=1) as server:
        bystander = Bystander(server.port)
        left = [Session(server.port), Session(server.port, "polling")]
        left[0].socket.text(SEPARATOR.join(["a0 s2", packet, "bAAAA"]))
        left[0].socket.close()
        assert over_http(left[1].post("a0 s2", packet, "bAAAA")) == "200"
        for session in left:
            until = time.monotonic() + 10
            while f"session {session.id} ended" not in server.log() and time.monotonic() < until:
                time.sleep(0.02)
            assert over_http(poll(server.port, session.resume())) == "200 4408 session"
            assert server.log().count(session.id) == 1, server.log()
            assert [event[0] for event in server.seen(session.id)] == ["connect", "disconnect"]
        bystander.check()
        bystander.close()
        assert "Traceback" not in server.log()


@pytest.mark.parametrize("mode", GREEN)
@pytest.mark.parametrize(
    ("head", "piece"),
    [
        pytest.param(CHUNKED, b"1\r\na\r\n" * 2000, id="in chunks"),
        pytest.param(
            CHUNKED.replace(b"Transfer-Encoding: chunked", b"Content-Length: 999999999999"),
            b"x" * 65536,
            id="of a length",
        ),
    ],
)
def test_a_body_that_always_comes_holds_up_nobody(mode: str, head: bytes, piece: bytes) -> None:
    with Served(mode) as server, Wire(server.port) as wire:
        session = Session(server.port)
        over = threading.Event()

        def flood() -> None:
            while not over.is_set():
                wire.flood(piece, 0.1)

        wire.send(head)
        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            for _ in range(10):
                began = time.monotonic()
                assert over_websocket(session.socket) == "lives"
                assert time.monotonic() - began < UNNOTICED
        finally:
            over.set()
            flooding.join()
            session.socket.close()


def parts_within_parts(port: int) -> str:
    return over_http(poll(port, hello("p0/9," * 190_000)))


def runs_of_digits_that_are_too_short(port: int) -> str:
    session = Session(port)
    packet = '2["count",["' + ("1" * 299 + "a") * 50_000 + '"]]'
    for start in range(0, len(packet), PIECE):
        piece = packet[start : start + PIECE]
        session.socket.text(f"a0 s2{SEPARATOR}p{start}/{len(packet)},m{piece}")
    with session.socket:
        return over_websocket(session.socket)


@pytest.mark.parametrize(
    ("send", "want"),
    [(parts_within_parts, "400 4400"), (runs_of_digits_that_are_too_short, "lives")],
)
def test_what_would_take_long_to_look_through_holds_up_nobody(
    send: Callable[[int], str], want: str
) -> None:
    """Each took seconds once, for what is looked at anew with each of its parts."""
    with Served("eventlet") as server:
        bystander = Bystander(server.port)
        assert send(server.port) == want
        bystander.check()
        bystander.close()


@pytest.mark.parametrize("mode", GREEN)
@pytest.mark.parametrize("before", [b"", b"0\r\n"], ids=["of a chunk", "behind all chunks"])
def test_a_line_without_an_end_ends_its_connection(mode: str, before: bytes) -> None:
    with Served(mode) as server, Wire(server.port) as wire:
        wire.send(CHUNKED + before + b"f" * 1_000_000)
        wire.read_rest()
        assert "Traceback" not in server.log()


@pytest.mark.parametrize("mode", [*GREEN, "threading"])
def test_a_connection_on_which_nothing_comes_is_closed(mode: str) -> None:
    with Served(mode, client_wait=0.5) as server:
        session = Session(server.port, "polling")
        closing = POST + b"Connection: close\r\n" + LENGTH
        requests = [b"", b"GET / HTTP/1.1\r\n", closing, request("GET", "/nothing")]
        requests.append(request("POST", "/fallback/poll", b"no session's"))
        wires = [Wire(server.port) for _ in requests]
        for wire, data in zip(wires, requests, strict=True):
            wire.send(data)
        # Who is waited for by us is not closed.
        with Wire(server.port) as held:
            body = session.line("a1", wait=1500) + "\x1e."
            held.send(request("POST", "/fallback/poll", body.encode()))
            for wire in wires:
                wire.read_rest()
                wire.close()
            assert held.reply().status == 200
        assert "Traceback" not in server.log()


@pytest.mark.parametrize("mode", ["eventlet", OVER_WSGI])
def test_who_does_not_read_is_closed_and_who_reads_slowly_is_not(mode: str) -> None:
    with Served(mode, client_wait=1.0) as server:
        session = Session(server.port, "polling")
        session.post("a1 s2", 'm2["message","' + "x" * 900_000 + '"]')

        def ask_for_it() -> Wire:
            wire = Wire(server.port, receive_buffer=2048, segment=536)
            body = session.line("a1", wait=5000) + "\x1e."
            wire.send(request("POST", "/fallback/poll", body.encode()))
            assert wire.read(15) == b"HTTP/1.1 200 OK"
            return wire

        def count() -> int:
            return len(os.listdir(f"/proc/{server.pid}/fd"))

        with ask_for_it() as slow, ask_for_it():
            before = count()
            # For three times as long as he may do nothing.
            for _ in range(60):
                slow.read(6_000)
                time.sleep(0.05)
            until = time.monotonic() + 15
            while count() == before:
                assert time.monotonic() < until
                time.sleep(0.02)
            assert slow.read_rest().endswith(b"\x1e.")


@pytest.mark.parametrize("mode", [*GREEN, "threading"])
def test_who_sends_slowly_is_answered(mode: str) -> None:
    with Served(mode, client_wait=0.5) as server, Wire(server.port) as wire:
        body = (hello() + "\x1e.").encode()
        data = request("POST", "/fallback/poll", body, {"Connection": "close"})
        wire.drip(data, len(data) // 8, 0.2)
        assert wire.reply().status == 200


@pytest.mark.parametrize("mode", SERVERS)
def test_a_server_out_of_file_descriptors_goes_on(mode: str) -> None:
    with Served(mode) as server:
        bystander = Bystander(server.port)
        _, most = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        wires = []
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (60, most))
        for _ in range(100):
            wires.append(Wire(server.port))
        time.sleep(1)
        bystander.check()
        for wire in wires:
            wire.close()
        server.get("/state")
        bystander.check()
        bystander.close()
        log = server.log()
        assert "Traceback" not in log
        assert log.count("no connection can be accepted") == 1


@pytest.mark.parametrize("mode", [*SERVERS, OVER_WSGI])
def test_who_has_left_before_there_was_a_descriptor_holds_up_nobody(mode: str) -> None:
    """What clients gave up before it was accepted is gone through without a pause each."""
    with Served(mode) as server:
        server.get("/state")
        used = {int(name) for name in os.listdir(f"/proc/{server.pid}/fd")}
        free = [number for number in range(1000) if number not in used]
        _, most = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        # One for a connection, and one for what the view opens.
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (free[1] + 1, most))
        wires = [Wire(server.port) for _ in range(200)]
        eventually(lambda: "no connection can be accepted" in server.log())
        for wire in wires:
            wire.close()
        began = time.monotonic()
        server.get("/state")
        took = time.monotonic() - began
        print(f"{mode}: {took:.2f} s behind 200 that have left")
        assert took < UNNOTICED
        assert server.log().count("no connection can be accepted") == 1


def test_connections_that_no_thread_is_to_be_had_for() -> None:
    """They are closed, and told of once, not by a traceback each."""
    with Served("threading", module="tests.integration.few_threads_app") as server:
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(Wire(server.port)) for _ in range(30)]
            assert wires[-1].read_rest() == b""
        log = server.log()
        assert "Traceback" not in log
        assert log.count("no connection can be accepted just now: can't start new thread") == 1


def test_sessions_that_nobody_commits_make_room() -> None:
    with Served("eventlet", max_uncommitted=3) as server:
        known = [hello() for _ in range(3)]
        first = [poll(server.port, text).head for text in known]
        reply = poll(server.port, hello())
        assert over_http(reply) == "503 1013"
        assert 5 <= int(reply.headers["retry-after"]) <= 10
        with WebSocket(server.port) as websocket:
            websocket.text(hello())
            assert over_websocket(websocket, ask=False) == "1013"
        eventually(lambda: server.log().count("the server is full") == 2)
        # Whoever is known already is welcome again, and whoever commits counts no more.
        assert poll(server.port, known[1]).head["id"] == first[1]["id"]
        line = f"i{first[0]['id']} k{first[0]['key']} t1 n1 c1 a0"
        assert over_http(poll(server.port, line)) == "200"
        assert over_http(poll(server.port, hello())) == "200"
        assert over_http(poll(server.port, hello())) == "503 1013"
        time.sleep(5.1)
        # The oldest one that was never committed ends; its hello would begin another session.
        assert over_http(poll(server.port, hello())) == "200"
        line = f"i{first[1]['id']} k{first[1]['key']} t1 n1 c1 a0"
        assert over_http(poll(server.port, line)) == "200 4404 session"
        assert poll(server.port, known[1]).head["id"] != first[1]["id"]


def test_a_session_that_is_never_committed_ends_soon() -> None:
    machine = ServerMachine(key="k", grant=Grant(), bounds=Bounds(), now=0)
    machine.welcome(1, Transport.POLLING, Envelope(), 5)
    machine.timeout(5 + UNCOMMITTED_WAIT - 0.1)
    # A repeated hello shows that somebody is there.
    machine.welcome(2, Transport.POLLING, Envelope(), 30)
    events = machine.timeout(30 + UNCOMMITTED_WAIT - 0.1)
    assert not any(isinstance(event, SessionClosed) for event in events)
    (closed,) = machine.timeout(30 + UNCOMMITTED_WAIT)
    assert isinstance(closed, SessionClosed)
    assert closed.code == 4408


def test_a_committed_session_lives_as_long_as_granted() -> None:
    machine = ServerMachine(key="k", grant=Grant(), bounds=Bounds(), now=0)
    machine.welcome(1, Transport.WEBSOCKET, Envelope(), 0)
    machine.receive(1, Envelope(commit=1), 1)
    machine.detach(1, 2)
    assert machine.timeout(2 + Grant().inactivity - 0.1) == []
    assert len(machine.timeout(2 + Grant().inactivity)) == 1
