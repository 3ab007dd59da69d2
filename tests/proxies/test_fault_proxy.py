"""Without rules the proxy changes nothing; and its process, control port and statistics."""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from .fault_process import FaultProxy, FaultProxyError
from .faults import Delay, Gateway, How, Refuse, RuleError
from .journal import RequestRecord, busiest
from .rules import Rule
from .tiny_upstream import (
    UPGRADE,
    RawClient,
    RawDoor,
    RawWebSocket,
    TinyUpstream,
    eventually,
    numbered,
)

Connect = Callable[[FaultProxy], RawClient]
Websocket = Callable[[FaultProxy], RawWebSocket]


def test_one_connection_carries_many_requests(
    proxy: FaultProxy, connect: Connect, upstream: TinyUpstream
) -> None:
    before = proxy.statistics()
    client = connect(proxy)
    assert client.ask("GET", "/hello").body == b"/hello"
    assert client.ask("POST", "/echo?x=1", b"abc").body == b"abc"
    chunks = client.ask("GET", "/chunks?count=3").body
    assert chunks.endswith(b"0\r\nX-Trailer: yes\r\n\r\n")
    assert client.ask("GET", "/hello").status == 200
    now = proxy.statistics()
    assert now.connections == before.connections + 1
    assert now.live == now.live_upstream == 1
    assert now.bytes_up > before.bytes_up
    assert now.bytes_down > before.bytes_down
    assert now.requests["POST /echo"] == before.requests.get("POST /echo", 0) + 1


def test_pipelined_requests_are_answered_in_order(proxy: FaultProxy, connect: Connect) -> None:
    client = connect(proxy)
    for index in range(20):
        client.send("POST", "/echo", b"%d" % index)
    assert [client.reply().body for _ in range(20)] == [b"%d" % index for index in range(20)]


def test_a_chunked_request_passes(proxy: FaultProxy, connect: Connect) -> None:
    client = connect(proxy)
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    client.socket.sendall(head + b"3\r\nabc\r\n")
    client.socket.sendall(b"4;note=1\r\ndefg\r\n0\r\n\r\n")
    assert client.reply().body == b"abcdefg"
    assert client.ask("GET", "/hello").body == b"/hello"


def test_a_body_is_sent_after_a_100(proxy: FaultProxy, connect: Connect) -> None:
    client = connect(proxy)
    client.socket.sendall(
        b"POST /echo HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    )
    assert client.head().startswith(b"HTTP/1.1 100")
    client.socket.sendall(b"abc")
    assert client.reply().body == b"abc"


def test_an_answer_may_end_with_the_connection(proxy: FaultProxy, connect: Connect) -> None:
    client = connect(proxy)
    client.send("GET", "/until-end")
    data, how = client.rest()
    assert data.endswith(b"until the end")
    assert how == "fin"


def test_megabytes_arrive_whole_both_ways(proxy: FaultProxy, connect: Connect) -> None:
    client, size = connect(proxy), 20_000_000
    body = client.ask("GET", f"/bytes?count={size}").body
    assert body == numbered(size)
    sender = threading.Thread(target=client.send, args=("POST", "/echo", body))
    sender.start()
    assert client.reply().body == body
    sender.join()


def test_random_pieces_arrive_unchanged_and_in_order(
    proxy: FaultProxy, connect: Connect, rng: random.Random
) -> None:
    clients = [connect(proxy) for _ in range(8)]
    expected: list[list[bytes]] = []
    senders = []
    for client in clients:
        bodies = [rng.randbytes(rng.choice([0, 1, 100, 5_000, 300_000])) for _ in range(10)]
        stream = b"".join(map(rng.choice([sized, chunked]), bodies))
        cuts = sorted(rng.randrange(len(stream) + 1) for _ in range(30))
        pieces = [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]
        expected.append(bodies)
        senders.append(threading.Thread(target=send_all, args=(client, pieces)))
        senders[-1].start()
    for client, bodies in zip(clients, expected, strict=True):
        assert [client.reply().body for _ in bodies] == bodies
    for sender in senders:
        sender.join()


def send_all(client: RawClient, pieces: list[bytes]) -> None:
    """Send piece by piece."""
    for piece in pieces:
        client.socket.sendall(piece)


def sized(body: bytes) -> bytes:
    """Return a request with this body, its length announced."""
    return b"POST /echo HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def chunked(body: bytes) -> bytes:
    """Return the same in two chunks."""
    halves = (body[: len(body) // 2], body[len(body) // 2 :])
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(half), half) for half in halves if half)
    return b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n" % chunks


def test_a_websocket_passes(
    proxy: FaultProxy, websocket: Websocket, upstream: TinyUpstream
) -> None:
    before = proxy.statistics()
    client = websocket(proxy).open()
    assert [client.echo(f"message {index}") for index in range(50)] == [
        f"message {index}" for index in range(50)
    ]
    assert client.echo("x" * 3_000_000) == "x" * 3_000_000
    now = proxy.statistics()
    assert now.websockets == before.websockets + 1
    assert now.websockets_accepted == before.websockets_accepted + 1
    assert now.live_websockets == 1
    assert now.requests == before.requests
    client.close()
    assert eventually(lambda: upstream.seen.websocket_ends == ["fin"])


def test_bytes_that_are_no_http_pass_as_they_are(
    door: RawDoor, door_proxy: FaultProxy, connect: Connect
) -> None:
    client = connect(door_proxy)
    strange = b"\x16\x03\x01 not HTTP \r\n\r\nand more"
    client.socket.sendall(strange)
    server = door.accept()
    assert server.exactly(len(strange)) == strange
    server.socket.sendall(b"answer")
    assert client.exactly(6) == b"answer"
    server.close("rst")
    assert client.rest() == (b"", "rst")


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_the_end_of_the_server_is_passed_on_as_it_is(
    door: RawDoor, door_proxy: FaultProxy, connect: Connect, how: How
) -> None:
    for headers in ({}, UPGRADE):
        client = connect(door_proxy)
        client.send("GET", "/waiting", headers=headers)
        server = door.accept()
        server.head()
        if headers:
            server.socket.sendall(b"HTTP/1.1 101 OK\r\n\r\n")
            client.head()
        server.close(how)
        assert client.rest() == (b"", how)
        client.close()
    client = connect(door_proxy)
    client.send("GET", "/idle")
    server = door.accept()
    server.head()
    server.socket.sendall(b"HTTP/1.1 204 OK\r\n\r\n")
    assert client.reply().status == 204
    server.close(how)
    assert client.rest() == (b"", how)


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_the_end_of_the_client_is_passed_on_as_it_is(
    door: RawDoor, door_proxy: FaultProxy, connect: Connect, how: How
) -> None:
    for headers in ({}, UPGRADE):
        client = connect(door_proxy)
        client.send("GET", "/waiting", headers=headers)
        server = door.accept()
        server.head()
        if headers:
            server.socket.sendall(b"HTTP/1.1 101 OK\r\n\r\n")
            client.head()
        client.close(how)
        assert server.rest() == (b"", how)
        server.close()
    door_proxy.wait_until(lambda now: now.live == now.live_upstream == 0)


def test_a_request_that_waits_for_its_turn_survives_the_end_of_the_server(
    door: RawDoor, door_proxy: FaultProxy, connect: Connect
) -> None:
    # The delay lets the server's end arrive before its answer is passed on.
    door_proxy.rules(Rule(Delay(down=0.1), first=1))
    client = connect(door_proxy)
    client.send("GET", "/1")
    client.send("GET", "/2")
    server = door.accept()
    assert server.head().startswith(b"GET /1 ")
    server.socket.sendall(b"HTTP/1.1 204 OK\r\n\r\n")
    server.close()
    assert client.reply().status == 204
    server = door.accept()
    assert server.head().startswith(b"GET /2 ")
    server.socket.sendall(b"HTTP/1.1 205 OK\r\n\r\n")
    assert client.reply().status == 205
    assert door_proxy.wait_until(lambda now: now.live_upstream == 1).live == 1


def test_a_half_close_leaves_the_other_direction_open(
    door: RawDoor, door_proxy: FaultProxy, connect: Connect
) -> None:
    client = connect(door_proxy)
    client.send("GET", "/ws", headers=UPGRADE)
    server = door.accept()
    server.head()
    server.socket.sendall(b"HTTP/1.1 101 OK\r\n\r\n")
    client.head()
    client.socket.shutdown(socket.SHUT_WR)
    assert server.rest() == (b"", "fin")
    server.socket.sendall(b"still here")
    assert client.exactly(10) == b"still here"
    server.close()
    assert client.rest() == (b"", "fin")
    # And of a request, whose client still wants the answer.
    client = connect(door_proxy)
    client.send("GET", "/last")
    client.socket.shutdown(socket.SHUT_WR)
    server = door.accept()
    server.head()
    assert server.rest() == (b"", "fin")
    server.socket.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert client.reply().body == b"ok"
    assert client.rest() == (b"", "fin")


def test_an_early_answer_to_a_long_body_arrives(
    door: RawDoor, door_proxy: FaultProxy, connect: Connect
) -> None:
    client = connect(door_proxy)
    client.socket.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nand no more")
    server = door.accept()
    server.head()
    server.exactly(11)
    server.socket.sendall(b"HTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n")
    server.close()
    assert client.reply().status == 413
    assert client.rest() == (b"", "fin")


def test_a_server_that_is_down_is_a_reset(connect: Connect) -> None:
    gone = RawDoor()
    gone.close()
    with FaultProxy(gone.port) as proxy:
        client = connect(proxy)
        client.send("GET", "/")
        assert client.rest() == (b"", "rst")
        assert proxy.statistics().upstream_refused == 1


def test_hundreds_of_connections_at_once(proxy: FaultProxy, connect: Connect) -> None:
    clients = [connect(proxy) for _ in range(300)]
    for index, client in enumerate(clients):
        client.send("POST", "/echo", b"%d" % index)
    assert [client.reply().body for client in clients] == [b"%d" % i for i in range(300)]
    assert proxy.statistics().live == 300
    assert proxy.kill("fin") == 300
    assert {client.rest() for client in clients} == {(b"", "fin")}


def test_requests_are_logged_with_the_clock_of_this_machine(
    proxy: FaultProxy, connect: Connect
) -> None:
    start = time.monotonic()
    client = connect(proxy)
    client.ask("GET", "/hello?x=1")
    client.ask("POST", "/echo", b"")
    first, second = proxy.requests(since=start)
    assert (first.method, first.target, first.status) == ("GET", "/hello?x=1", 200)
    assert (second.method, second.websocket, second.faults) == ("POST", False, [])
    assert first.connection == second.connection
    assert first.answered_at is not None
    assert start < first.at < first.answered_at < second.at < time.monotonic()
    assert proxy.requests(since=second.at) == []


def test_the_busiest_second() -> None:
    def at(*times: float) -> list[RequestRecord]:
        return [RequestRecord(when, 1, "GET", "/", False) for when in times]

    assert busiest([]) == 0
    assert busiest(at(1.0, 2.0, 3.0)) == 1
    assert busiest(at(3.1, 1.0, 1.5, 1.9, 2.0)) == 3
    assert busiest(at(1.0, 1.5, 2.9), window=2.0) == 3


def test_rules_are_replaced_while_running(proxy: FaultProxy, connect: Connect) -> None:
    client = connect(proxy)
    assert client.ask("GET", "/hello").status == 200
    proxy.rules(Refuse(410))
    assert client.ask("GET", "/hello").status == 410
    proxy.rules({"fault": "refuse", "status": 411, "path": "^/hello$"})
    assert client.ask("GET", "/hello").status == 411
    assert client.ask("GET", "/else").status == 200
    (entry,) = proxy.statistics().rules
    assert (entry["matched"], entry["chosen"]) == (1, 1)
    with pytest.raises(RuleError, match="unknown code"):
        proxy.rules({"fault": "refuse", "code": 411})
    assert client.ask("GET", "/hello").status == 411
    proxy.clear()
    assert client.ask("GET", "/hello").status == 200


def test_the_control_port_refuses_what_it_does_not_understand(proxy: FaultProxy) -> None:
    def status(method: str, path: str, body: str | None = None, kind: str = "text/plain") -> int:
        control = http.client.HTTPConnection("127.0.0.1", proxy.control_port)
        control.request(method, path, body, {"Content-Type": kind})
        answer = control.getresponse()
        assert "error" in json.loads(answer.read())
        control.close()
        return answer.status

    as_json = "application/json"
    assert status("GET", "/nothing") == 404
    assert status("POST", "/kill", '{"how": "rst"}') == 415
    assert status("POST", "/kill", '{"how": "softly"}', as_json) == 400
    assert status("PUT", "/rules", "{", as_json) == 400
    assert status("PUT", "/rules", "{}", as_json) == 400
    assert status("PUT", "/rules", '[{"fault": "gremlin"}]', as_json) == 400


def test_it_starts_with_rules_on_a_given_port(upstream: TinyUpstream, connect: Connect) -> None:
    with FaultProxy(upstream.port, [Gateway(502)], seed=7) as proxy:
        assert proxy.seed == proxy.statistics().seed == 7
        assert connect(proxy).ask("GET", "/").status == 502
        port = proxy.port
    with FaultProxy(upstream.port, listen=port) as proxy:
        assert proxy.port == port
        assert proxy.url == f"http://127.0.0.1:{port}"
        assert connect(proxy).ask("GET", "/").status == 200
        pid = proxy.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(FaultProxyError):
        proxy.statistics()


def test_it_says_why_it_does_not_start(
    upstream: TinyUpstream, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FaultProxyError), FaultProxy(upstream.port, listen=upstream.port):
        pass
    assert "in use" in capfd.readouterr().err


def test_it_ends_with_its_parent(upstream: TinyUpstream) -> None:
    assert __package__
    script = (
        f"import os, {__package__}.fault_process as f;"
        f"p = f.FaultProxy({upstream.port}).start();"
        "print(p.pid, p.port, flush=True); os._exit(0)"
    )
    root = Path(__file__).resolve().parents[__package__.count(".") + 1]
    parent = subprocess.run(
        [sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, check=True, text=True
    )
    _, port = map(int, parent.stdout.split())

    def refused() -> bool:
        with socket.socket() as attempt:
            return attempt.connect_ex(("127.0.0.1", port)) != 0

    assert eventually(refused)
