"""Every fault of HTTP requests, seen from both ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from .fault_process import FaultProxy
from .faults import (
    Blackhole,
    Buffer,
    Cut,
    Delay,
    Duplicate,
    Gateway,
    How,
    LoginPage,
    LostReply,
    Reset,
    Throttle,
    Truncate,
)
from .rules import Rule
from .tiny_upstream import RawClient, RawDoor, RawWebSocket, TinyUpstream, eventually

Connect = Callable[[FaultProxy], RawClient]


def struck(proxy: FaultProxy, name: str, count: int = 1) -> None:
    """Wait until a fault has struck that often since the proxy started."""
    proxy.wait_until(lambda now: now.faults.get(name, 0) >= count)


@pytest.mark.parametrize("status", [408, 502, 503, 504])
def test_a_gateway_answers_at_once(
    proxy: FaultProxy, connect: Connect, upstream: TinyUpstream, status: int
) -> None:
    proxy.rules(Rule(Gateway(status), method="POST"))
    client = connect(proxy)
    assert client.ask("POST", "/echo", b"lost").status == status
    assert client.ask("GET", "/hello").status == 200
    assert upstream.seen.requests == [("GET", "/hello")]
    assert [record.faults for record in proxy.requests()[-2:]] == [["gateway"], []]


def test_an_answer_to_head_has_no_body(proxy: FaultProxy, connect: Connect) -> None:
    proxy.rules(Gateway())
    client = connect(proxy)
    client.send("HEAD", "/hello")
    assert b"504" in client.head()
    assert client.ask("GET", "/hello").status == 504


def test_a_gateway_says_when_to_try_again(proxy: FaultProxy, connect: Connect) -> None:
    proxy.rules(Gateway(429, retry_after=3))
    reply = connect(proxy).ask("GET", "/hello")
    assert (reply.status, reply.headers["retry-after"]) == (429, "3")


def test_a_gateway_stops_waiting_and_leaves_the_upstream(
    door: RawDoor, door_proxy: FaultProxy, connect: Connect
) -> None:
    door_proxy.rules(Gateway(504, after=0.1))
    client = connect(door_proxy)
    start = time.monotonic()
    client.send("POST", "/poll", b"body")
    server = door.accept()
    assert b"POST" in server.head()
    assert server.exactly(4) == b"body"
    assert client.reply().status == 504
    assert 0.1 <= time.monotonic() - start < 2
    assert server.rest() == (b"", "fin")
    # The client's connection goes on, with a new one behind it.
    client.send("GET", "/next")
    server = door.accept()
    server.head()
    server.socket.sendall(b"HTTP/1.1 204 OK\r\n\r\n")
    assert client.reply().status == 204


def test_a_reset_comes_before_the_upstream_is_asked(
    proxy: FaultProxy, connect: Connect, upstream: TinyUpstream
) -> None:
    proxy.rules(Reset())
    client = connect(proxy)
    client.send("POST", "/echo", b"lost")
    assert client.rest() == (b"", "rst")
    assert upstream.seen.requests == []


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_reply_is_lost(
    proxy: FaultProxy, connect: Connect, upstream: TinyUpstream, how: How
) -> None:
    proxy.rules(Rule(LostReply(how), first=1))
    client = connect(proxy)
    client.send("POST", "/echo", b"handled")
    assert client.rest() == (b"", how)
    assert upstream.seen.bodies == [b"handled"]
    assert connect(proxy).ask("POST", "/echo", b"again").body == b"again"


def test_a_reply_is_lost_and_the_connection_hangs(
    proxy: FaultProxy, connect: Connect, upstream: TinyUpstream
) -> None:
    before = proxy.statistics().faults.get("lost_reply", 0)
    proxy.rules(LostReply("hang"))
    client = connect(proxy)
    client.send("POST", "/echo", b"handled")
    struck(proxy, "lost_reply", before + 1)
    assert upstream.seen.bodies == [b"handled"]
    assert client.silent()
    client.close()
    proxy.wait_until(lambda now: now.live == now.live_upstream == 0)


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_truncation_that_http_can_see(proxy: FaultProxy, connect: Connect, how: How) -> None:
    proxy.rules(Truncate(0.3, how=how))
    client = connect(proxy)
    client.send("POST", "/echo", b"0123456789")
    assert b"Content-Length: 10\r\n" in client.head()
    assert client.rest() == (b"012", how)


def test_a_truncation_that_http_cannot_see(proxy: FaultProxy, connect: Connect) -> None:
    proxy.rules(Truncate(0.3, visible=False))
    client = connect(proxy)
    assert client.ask("POST", "/echo", b"0123456789").body == b"012"
    reply = client.ask("GET", "/chunks?count=2")
    assert reply.body == b"chun"
    assert "transfer-encoding" not in reply.headers


def test_a_login_page_instead_of_the_upstream(
    proxy: FaultProxy, connect: Connect, upstream: TinyUpstream
) -> None:
    proxy.rules(Rule(LoginPage(), path="^/poll"))
    client = connect(proxy)
    reply = client.ask("POST", "/poll", b"lost")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"<form" in reply.body
    assert client.ask("POST", "/echo", b"kept").body == b"kept"
    assert upstream.seen.bodies == [b"kept"]


@pytest.mark.parametrize("answer", ["first", "second"])
def test_a_request_arrives_twice_at_once(
    door: RawDoor, door_proxy: FaultProxy, connect: Connect, answer: str
) -> None:
    door_proxy.rules({"fault": "duplicate", "answer": answer})
    client = connect(door_proxy)
    client.send("POST", "/x", b"body")
    copies = [door.accept(), door.accept()]
    for copy in copies:
        copy.head()
        assert copy.exactly(4) == b"body"
    # Both answers are read to their end.
    for name, copy in zip((b"a", b"b"), copies, strict=True):
        copy.socket.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + name)
    assert client.reply().body == (b"a" if answer == "first" else b"b")
    assert [copy.rest() for copy in copies] == [(b"", "fin"), (b"", "fin")]


def test_a_copy_arrives_after_the_answer(
    proxy: FaultProxy, connect: Connect, upstream: TinyUpstream
) -> None:
    proxy.rules(Rule(Duplicate("sequential", gap=0.3), first=1))
    client = connect(proxy)
    assert client.ask("POST", "/echo", b"1").body == b"1"
    assert client.ask("POST", "/echo", b"2").body == b"2"
    assert upstream.seen.bodies == [b"1", b"2"]
    assert eventually(lambda: upstream.seen.bodies == [b"1", b"2", b"1"])


def test_the_answer_to_a_copy_counts(
    door: RawDoor, door_proxy: FaultProxy, connect: Connect
) -> None:
    door_proxy.rules(Duplicate("sequential", answer="second"))
    client = connect(door_proxy)
    client.send("POST", "/x", b"body")
    for content in (b"first", b"later"):
        server = door.accept()
        server.head()
        assert server.exactly(4) == b"body"
        server.socket.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + content)
    assert client.reply().body == b"later"


def test_an_answer_is_held_until_it_is_complete(
    proxy: FaultProxy, connect: Connect, upstream: TinyUpstream
) -> None:
    client = connect(proxy)
    client.send("GET", "/chunks?count=2&hold=yes")
    assert client.head()
    assert client.exactly(13) == b"8\r\nchunk 0;\r\n"
    upstream.seen.released.set()
    client.rest_of_chunks()

    upstream.forget()
    proxy.rules(Buffer())
    client.send("GET", "/chunks?count=2&hold=yes")
    assert eventually(lambda: bool(upstream.seen.requests))
    assert client.silent()
    upstream.seen.released.set()
    assert client.reply().body.count(b"chunk") == 2


@pytest.mark.parametrize("direction", ["up", "down", "both"])
def test_a_slow_link(proxy: FaultProxy, connect: Connect, direction: str) -> None:
    proxy.rules({"fault": "throttle", "rate": 100_000, "direction": direction})
    body = b"x" * 30_000
    start = time.monotonic()
    assert connect(proxy).ask("POST", "/echo", body).body == body
    assert 0.2 < time.monotonic() - start < 5


def test_a_throttle_spares_the_other_direction(proxy: FaultProxy, connect: Connect) -> None:
    proxy.rules(Throttle(1_000, "up"))
    assert len(connect(proxy).ask("GET", "/bytes?count=100000").body) == 100_000


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_waiting_poll_is_cut(
    door: RawDoor, door_proxy: FaultProxy, connect: Connect, how: How
) -> None:
    door_proxy.rules(Rule(Cut(after=0.1, how=how), path="^/poll"))
    client = connect(door_proxy)
    start = time.monotonic()
    client.send("POST", "/poll")
    server = door.accept()
    server.head()
    assert client.rest() == (b"", how)
    assert time.monotonic() - start >= 0.1
    assert server.rest() == (b"", how)


def test_a_cut_spares_what_is_over(proxy: FaultProxy, connect: Connect) -> None:
    proxy.rules(Cut(after=0.05))
    client = connect(proxy)
    assert client.ask("GET", "/hello").status == 200
    assert client.silent()
    assert client.ask("GET", "/hello").status == 200


def test_an_answer_is_cut_after_some_bytes(proxy: FaultProxy, connect: Connect) -> None:
    proxy.rules(Cut(after_bytes=70_000))
    client = connect(proxy)
    client.send("GET", "/bytes?count=200000")
    client.head()
    body, how = client.rest()
    assert (len(body), how) == (70_000, "rst")


def test_a_late_request_is_overtaken(
    proxy: FaultProxy, connect: Connect, upstream: TinyUpstream
) -> None:
    proxy.rules(Rule(Delay(up=0.4), first=1))
    late, client = connect(proxy), connect(proxy)
    late.send("POST", "/echo", b"1")
    proxy.wait_until(lambda now: now.rules[0]["chosen"] == 1)
    assert client.ask("POST", "/echo", b"2").body == b"2"
    assert late.reply().body == b"1"
    assert upstream.seen.bodies == [b"2", b"1"]


def test_a_late_request_arrives_without_its_client(
    proxy: FaultProxy, connect: Connect, upstream: TinyUpstream
) -> None:
    proxy.rules(Delay(up=0.1))
    client = connect(proxy)
    client.send("POST", "/echo", b"1")
    proxy.wait_until(lambda now: now.rules[0]["chosen"] == 1)
    client.close("rst")
    assert eventually(lambda: upstream.seen.bodies == [b"1"])


def test_a_late_answer(proxy: FaultProxy, connect: Connect, upstream: TinyUpstream) -> None:
    proxy.rules(Delay(down=0.2))
    client = connect(proxy)
    start = time.monotonic()
    client.send("POST", "/echo", b"1")
    assert eventually(lambda: upstream.seen.bodies == [b"1"])
    assert client.reply().body == b"1"
    assert time.monotonic() - start >= 0.2


def test_a_black_hole(proxy: FaultProxy, connect: Connect, upstream: TinyUpstream) -> None:
    proxy.rules(Rule(Blackhole(), on="http"))
    client = connect(proxy)
    client.send("POST", "/echo", b"x" * 1_000_000)
    assert client.silent()
    assert upstream.seen.requests == []
    ws = RawWebSocket(proxy.port)
    assert ws.open().echo("not me") == "not me"
    ws.close()


def test_faults_combine(proxy: FaultProxy, connect: Connect, upstream: TinyUpstream) -> None:
    proxy.rules(Delay(down=0.01), Duplicate(), Truncate(0.5, visible=False), Throttle(1e6))
    assert connect(proxy).ask("POST", "/echo", b"abcd").body == b"ab"
    assert eventually(lambda: upstream.seen.bodies == [b"abcd"] * 2)
    assert set(proxy.requests()[-1].faults) == {"delay", "duplicate", "truncate", "throttle"}


def test_a_client_that_leaves_stops_its_upload(
    door: RawDoor, door_proxy: FaultProxy, connect: Connect
) -> None:
    client = connect(door_proxy)
    client.socket.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\npart")
    server = door.accept()
    server.head()
    client.close()
    assert server.rest() == (b"part", "fin")


def test_a_slow_reader_is_waited_for(
    door: RawDoor, door_proxy: FaultProxy, connect: Connect
) -> None:
    size = 30_000_000
    client = connect(door_proxy)
    client.send("GET", "/")
    server = door.accept()
    server.head()
    sent = threading.Event()

    def send() -> None:
        server.socket.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        server.socket.sendall(bytes(size))
        sent.set()

    thread = threading.Thread(target=send)
    thread.start()
    # The proxy holds little: the server notices that nobody reads.
    assert not sent.wait(0.3)
    assert len(client.reply().body) == size
    thread.join()
