"""Too much of something: one client is refused, or ended with a code; everybody else is served.

While each test overloads a server, a bystander on a WebSocket echoes without a
pause. What it must wait for is stated with each test and printed.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.client.waiting import eventually

from .raw import (
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
    poll,
    request,
)
from .served import Served
from .test_hostile import SERVERS, Bystander, over_http, over_websocket

MEGABYTE = 1_000_000
#: Seconds that an echo may take while a server is overloaded by one client, on a busy machine.
UNNOTICED = 2.0
#: What a server may keep for one client that reads nothing, beyond its bound.
OVERHEAD = 12 * MEGABYTE


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A server whose bound for what is unconfirmed is 4 MB, and 1,000 messages of credit."""
    with Served(request.param, max_unconfirmed_bytes=4 * MEGABYTE) as served:
        yield served
        assert "Traceback" not in served.log()


@contextmanager
def unnoticed(server: Served, what: str, seconds: float = UNNOTICED) -> Iterator[Bystander]:
    """Somebody else's echoes come back all the while, each within so many seconds."""
    bystander = Bystander(server.port)
    try:
        eventually(lambda: bystander.echoes > 3)
        yield bystander
        bystander.check()
        worst = f"the slowest {bystander.worst:.3f} s"
        print(f"{server.mode}, {what}: {bystander.echoes} echoes, {worst}")
        assert bystander.worst < seconds
    finally:
        bystander.close()


def resident(server: Served) -> int:
    size: int = server.get("/state")["resident"]
    return size


# -- readers that do not read ---------------------------------------------------------


def test_a_slow_reader_on_a_websocket(server: Served) -> None:
    """What is kept for it has a bound; then it is told how much it was, whenever it reads."""
    with unnoticed(server, "a slow reader"), Session(server.port) as session:
        socket = session.socket
        before = resident(server)
        # 40 MB, of which its own kernel buffers a little.
        plan = {"number": 400, "size": 100_000}
        socket.text(SEPARATOR.join(["a1 s2", f'm2["produce",{json.dumps(plan)}]']))
        highest = before
        began = time.monotonic()
        while f"session {session.id} ended" not in server.log():
            highest = max(highest, resident(server))
            assert time.monotonic() - began < 20, "it is not ended"
            time.sleep(0.01)
        grown = highest - before
        print(f"{server.mode}: {grown / 1e6:.1f} MB more for it")
        assert grown < 4 * MEGABYTE + OVERHEAD
        # The stream is cut, and the session's end remembered.
        reply = poll(server.port, session.resume())
        assert reply.end is not None
        assert (reply.end["end"], reply.end["session"]) == (4429, True)
        assert "bytes are unconfirmed" in reply.end["reason"]
        told = f"4429 '{reply.end['reason']}'"
        eventually(lambda: told in server.log())


def test_a_slow_reader_on_polling(server: Served) -> None:
    """It asks and asks and never reads: what is being written to it has the same bound."""
    with unnoticed(server, "polls that nobody reads"), ExitStack() as wires:
        session = Session(server.port, "polling")
        before = resident(server)
        plan = {"number": 38, "size": 100_000}
        session.post("a1 s2", f'm2["produce",{json.dumps(plan)}]')
        time.sleep(0.5)
        highest = before
        for _ in range(60):
            # With so small a buffer the answer stays with the server.
            wire = wires.enter_context(Wire(server.port, receive_buffer=4096, segment=536))
            line = session.line("a1", wait=10)
            body = f"{line}{SEPARATOR}."
            wire.send(request("POST", "/fallback/poll", body.encode()))
            time.sleep(0.01)
            highest = max(highest, resident(server))
        grown = highest - before
        print(f"{server.mode}: {grown / 1e6:.1f} MB more for it")
        # A full outbox twice: as messages, and as answers.
        assert grown < 2 * (4 * MEGABYTE) + OVERHEAD
        reply = session.post("a1", wait=10)
        assert over_http(reply) == "503 1013"
        assert 5 <= int(reply.headers["retry-after"]) <= 10
        # It may still send, and once it has gone, read.
        assert over_http(session.post("a1")) == "200"
        wires.close()
        eventually(lambda: over_http(session.post("a1", wait=10)) == "200")
        reply = session.post("a1 s3", 'c[1000,""]')
        assert reply.status == 200


# -- floods ---------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_messages_beyond_the_credit(server: Served, transport: str) -> None:
    with (
        unnoticed(server, f"beyond the credit by {transport}"),
        Session(server.port, transport) as session,
    ):
        events = [f'm2["step",[{number},30]]' for number in range(1500)]
        if transport == "websocket":
            session.socket.text(SEPARATOR.join(["a1 s2", *events[:900]]))
            session.socket.text(SEPARATOR.join(["a1 s902", *events[900:]]))
            assert over_websocket(session.socket, ask=False) == "4429 session"
        else:
            assert over_http(session.post("a1 s2", *events[:900])) == "200"
            reply = session.post("a1 s902", *events[900:])
            assert over_http(reply) == "200 4429 session"


#: What one session may send on and on, a hundred of each kind at a time.
FLOODS = {
    "pings": frame(PING, b"x" * 125),
    "questions": frame(TEXT, b"a1 q1"),
    "duplicates": frame(TEXT, f"a1 s1{SEPARATOR}m0".encode()),
}


@pytest.mark.parametrize("kind", list(FLOODS))
def test_a_flood_within_one_session(server: Served, kind: str) -> None:
    """It takes its turns, and no more."""
    with unnoticed(server, kind), Session(server.port) as session:
        before = resident(server)
        stop = threading.Event()

        def read() -> None:
            # A client that reads what it has caused, so that nothing slows it down.
            while not stop.is_set():
                try:
                    session.socket.next_frame()
                except (Closed, OSError):
                    return

        reader = threading.Thread(target=read)
        reader.start()
        sent = session.socket.flood(FLOODS[kind] * 100, 0.5)
        assert sent > 100_000
        assert resident(server) - before < OVERHEAD
        stop.set()
        # What the kernel has of it need not be gone through.
        session.socket.reset()
        reader.join()


def test_requests_without_a_pause(server: Served) -> None:
    """Of one session, on several connections."""
    with unnoticed(server, "requests"):
        session = Session(server.port, "polling")
        answered = 0
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            with ExitStack() as stack:
                wires = [stack.enter_context(Wire(server.port)) for _ in range(8)]
                for wire in wires:
                    body = f"{session.line('a1', wait=0)}{SEPARATOR}.".encode()
                    wire.send(request("POST", "/fallback/poll", body))
                for wire in wires:
                    assert wire.reply().status == 200
                    answered += 1
        print(f"{server.mode}: {answered} requests")
        assert over_http(session.post("a1")) == "200"


# -- handlers that never return -------------------------------------------------------


def test_a_handler_that_never_returns(server: Served) -> None:
    """What waits behind it has the credit's bound; its client can close, and be gone."""
    with unnoticed(server, "a handler that never returns"), Session(server.port) as session:
        socket = session.socket
        socket.text(SEPARATOR.join(["a1 s2", 'm2["sleep",1000000]']))
        socket.text(SEPARATOR.join(["a1 s3", *['m2["echo",1]'] * 900]))
        assert socket.answers(), "it is alive all the same"
        socket.text(SEPARATOR.join(["a1 s903", 'c[4001,"enough"]']))
        # Received, though not handled: so its client may go, after 5 s at the latest.
        head = ""
        while "r903" not in head.split(" "):
            head = socket.next_text().split(SEPARATOR)[0]
        socket.close()
        # Another begins, and is served.
        with Session(server.port) as other:
            assert other.socket.answers()


def test_handlers_that_never_return_count_for_the_capacity() -> None:
    """However often their clients go away and come again."""
    with Served("eventlet", max_sessions=5) as server:
        for _ in range(5):
            with Session(server.port) as session:
                session.socket.text(SEPARATOR.join(["a1 s2", 'm2["sleep",1000000]']))
                assert session.socket.answers()
                # An offence ends a session at once, whatever its handlers do.
                session.socket.text("a99")
                assert over_websocket(session.socket, ask=False) == "1002 session"
        assert over_http(poll(server.port, hello())) == "503 1013"
        with WebSocket(server.port) as socket:
            socket.text(hello())
            assert over_websocket(socket, ask=False) == "1013"


# -- many, from one address -----------------------------------------------------------


def test_three_thousand_sessions_of_one_address() -> None:
    """A company behind one NAT: each is committed in time, and then counts no more."""
    with Served("eventlet") as server, unnoticed(server, "3,000 sessions", 2.0):
        began = time.monotonic()
        with ExitStack() as stack:
            wires = [stack.enter_context(Wire(server.port)) for _ in range(10)]
            failures: list[str] = []

            def work(wire: Wire) -> None:
                for _ in range(300):
                    wire.send(request("POST", "/fallback/poll", f"{hello()}{SEPARATOR}.".encode()))
                    welcome = wire.reply()
                    head = welcome.head
                    # It has the answer to CONNECT, unless the server took more than 10 ms to it.
                    mark = f"a{int(SEPARATOR in welcome.text)}"
                    line = f"i{head['id']} k{head['key']} t1 n1 w0 {mark} c1{SEPARATOR}."
                    wire.send(request("POST", "/fallback/poll", line.encode()))
                    if (got := over_http(wire.reply())) != "200":
                        failures.append(got)

            workers = [threading.Thread(target=work, args=(wire,)) for wire in wires]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        took = time.monotonic() - began
        assert failures == []
        state = server.get("/state")
        print(f"3,000 sessions in {took:.1f} s, {state['resident'] / 1e6:.0f} MB")
        assert state["sessions"] == 3_001
        assert took < 20


def test_one_address_with_too_many_hellos_keeps_nobody_out() -> None:
    """Ten thousand hellos without a follow-up, and a client of another address."""
    with Served("eventlet", trusted_proxies=1, max_uncommitted_per_address=50) as server:

        def greet(address: str, wire: Wire, text: str | None = None) -> str:
            headers = {"X-Forwarded-For": f"203.0.113.77, {address}"}
            body = f"{text or hello()}{SEPARATOR}.".encode()
            wire.send(request("POST", "/fallback/poll", body, headers))
            reply = wire.reply()
            if reply.status == 503:
                assert 5 <= int(reply.headers["retry-after"]) <= 10
            return over_http(reply)

        with unnoticed(server, "10,000 hellos"), Wire(server.port) as wire:
            neighbour = hello()
            assert greet("198.51.100.8", wire, neighbour) == "200"
            before = resident(server)
            answers = [greet("198.51.100.7", wire) for _ in range(200)]
            assert answers == ["200"] * 50 + ["503 1013"] * 150
            # Others' hellos are taken all the while, and the one before is still there.
            workers = [
                threading.Thread(target=flooding, args=(server.port, "198.51.100.7", 2_500))
                for _ in range(4)
            ]
            for worker in workers:
                worker.start()
            taken = 0
            while any(worker.is_alive() for worker in workers):
                assert greet(f"198.51.101.{taken % 250}", wire) == "200"
                taken += 1
                time.sleep(0.05)
            assert greet("198.51.100.8", wire, neighbour) == "200"
            print(f"{taken} others meanwhile; {(resident(server) - before) / 1e6:.1f} MB more")
            assert server.get("/state")["sessions"] <= 50 + taken + 2
            assert "another hello" not in server.log()
            assert resident(server) - before < OVERHEAD


def flooding(port: int, address: str, count: int) -> None:
    with Wire(port) as wire:
        for _ in range(count // 50):
            bodies = [f"{hello()}{SEPARATOR}.".encode() for _ in range(50)]
            headers = {"X-Forwarded-For": address}
            wire.send(
                b"".join([request("POST", "/fallback/poll", body, headers) for body in bodies])
            )
            for _ in range(50):
                assert wire.reply().status in (200, 503)


@pytest.mark.parametrize("mode", SERVERS)
def test_websockets_that_say_nothing(mode: str) -> None:
    """So many at a time from one address; from another one there is room."""
    limits = {"max_ungreeted": 8, "max_ungreeted_per_address": 5}
    with Served(mode, trusted_proxies=1, **limits) as server, ExitStack() as stack:

        def silent(address: str) -> WebSocket:
            return stack.enter_context(WebSocket(server.port, {"X-Forwarded-For": address}))

        def refused(address: str) -> bool:
            headers = {"X-Forwarded-For": address}
            with Wire(server.port) as wire:
                wire.send(handshake(headers))
                reply = wire.reply()
            if reply.status == 503:
                assert 5 <= int(reply.headers["retry-after"]) <= 10
            return reply.status == 503

        mine = [silent("198.51.100.7") for _ in range(5)]
        assert refused("198.51.100.7")
        # Long polling is open to it as ever.
        assert over_http(poll(server.port, hello())) == "200"
        others = [silent("198.51.100.8") for _ in range(3)]
        assert refused("198.51.100.9"), "there are too many in all"
        # Who says hello, or goes, counts no more.
        others[0].text(hello())
        assert '"welcome"' in others[0].next_text()
        mine[0].close()
        eventually(lambda: not refused("198.51.100.7"))
        # Not that one's fault; and it was refused behind the first.
        eventually(lambda: "503 'too many WebSockets wait for their hello'" in server.log())
        log = server.log()
        assert "503 'too many WebSockets from 198.51.100.7 wait for their hello'" in log
        assert "198.51.100.9" not in log
