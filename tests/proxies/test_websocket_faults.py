"""Every fault of WebSockets, seen from both ends."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from websockets.exceptions import InvalidStatus

from .fault_process import FaultProxy
from .faults import (
    AcceptClose,
    AcceptSilent,
    Blackhole,
    By,
    Cut,
    CutIdle,
    Delay,
    DropDown,
    DropUp,
    How,
    Refuse,
    Reset,
    Strip,
    Throttle,
)
from .rules import Rule
from .tiny_upstream import UPGRADE, RawClient, RawDoor, RawWebSocket, TinyUpstream, eventually

Connect = Callable[[FaultProxy], RawClient]
Websocket = Callable[[FaultProxy], RawWebSocket]


@pytest.fixture
def pair(
    door: RawDoor, door_proxy: FaultProxy, connect: Connect
) -> Callable[..., tuple[RawClient, RawClient]]:
    """Opens both ends of a bare tunnel, with these rules in force."""

    def opened(*rules: Rule) -> tuple[RawClient, RawClient]:
        door_proxy.rules(*rules)
        client = connect(door_proxy)
        client.send("GET", "/ws", headers=UPGRADE)
        server = door.accept()
        server.head()
        server.socket.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        client.head()
        return client, server

    return opened


Pair = Callable[..., tuple[RawClient, RawClient]]


@pytest.mark.parametrize("status", [400, 403, 200])
def test_an_upgrade_is_refused(
    proxy: FaultProxy,
    connect: Connect,
    websocket: Websocket,
    upstream: TinyUpstream,
    status: int,
) -> None:
    proxy.rules(Rule(Refuse(status), on="ws"))
    with pytest.raises(InvalidStatus) as caught:
        websocket(proxy).open()
    assert caught.value.response.status_code == status
    assert upstream.seen.requests == []
    assert connect(proxy).ask("GET", "/ws").status == 400  # it is the upstream that says so


def test_the_upgrade_headers_are_stripped(
    proxy: FaultProxy, websocket: Websocket, upstream: TinyUpstream
) -> None:
    proxy.rules(Strip())
    with pytest.raises(InvalidStatus) as caught:
        websocket(proxy).open()
    assert caught.value.response.status_code == 400
    assert upstream.seen.requests == [("GET", "/ws")]


def test_stripping_leaves_the_other_headers(
    door: RawDoor, door_proxy: FaultProxy, connect: Connect
) -> None:
    door_proxy.rules(Strip())
    head = b"GET /ws HTTP/1.1\r\nHost: a\r\n%sOrigin: b\r\n\r\n"
    gone = b"Connection: keep-alive, Upgrade\r\nupgrade: websocket\r\nSec-WebSocket-Key: c\r\n"
    connect(door_proxy).socket.sendall(head % gone)
    assert door.accept().head() == head % b""


def test_an_upgrade_is_swallowed(
    proxy: FaultProxy, websocket: Websocket, connect: Connect, upstream: TinyUpstream
) -> None:
    proxy.rules(Rule(Blackhole(), on="ws"))
    client = websocket(proxy)
    proxy.wait_until(lambda now: now.rules[0]["chosen"] == 1)
    assert client.silent()
    assert connect(proxy).ask("GET", "/hello").status == 200
    assert upstream.seen.requests == [("GET", "/hello")]


def test_only_the_upgrade_is_reset(
    proxy: FaultProxy, websocket: Websocket, connect: Connect
) -> None:
    proxy.rules(Rule(Reset(), on="ws"))
    other = connect(proxy)
    assert other.ask("GET", "/hello").status == 200
    assert websocket(proxy).rest() == (b"", "rst")
    assert other.ask("GET", "/hello").status == 200


def test_an_upgrade_is_answered_late(proxy: FaultProxy, websocket: Websocket) -> None:
    proxy.rules(Delay(down=0.1))
    start = time.monotonic()
    client = websocket(proxy).open()
    assert time.monotonic() - start >= 0.1
    assert client.echo("after that it is quick") == "after that it is quick"


@pytest.mark.parametrize("by", ["upstream", "proxy"])
def test_accepted_and_silent(
    proxy: FaultProxy, websocket: Websocket, upstream: TinyUpstream, by: By
) -> None:
    proxy.rules(AcceptSilent(by))
    client = websocket(proxy).open()
    client.send_text("hello")
    assert client.silent()
    assert upstream.seen.requests == ([("GET", "/ws")] if by == "upstream" else [])
    assert upstream.seen.messages == []
    assert proxy.requests()[-1].faults == ["accept_silent"]
    assert proxy.requests()[-1].status == 101


def test_the_proxy_names_a_protocol_that_was_offered(proxy: FaultProxy, connect: Connect) -> None:
    proxy.rules(AcceptSilent("proxy"))
    client = connect(proxy)
    offer = {"Sec-WebSocket-Protocol": "fallback.v1, other", "Sec-WebSocket-Key": "x"}
    client.send("GET", "/ws", headers={**UPGRADE, **offer})
    assert b"Sec-WebSocket-Protocol: fallback.v1\r\n" in client.head()


def test_silence_hides_the_ends_too(pair: Pair, door_proxy: FaultProxy) -> None:
    client, server = pair(Rule(AcceptSilent()))
    client.close("rst")
    door_proxy.wait_until(lambda now: now.live == 0)
    assert server.silent()
    server.close()
    door_proxy.wait_until(lambda now: now.live_upstream == 0)

    client, server = pair(Rule(AcceptSilent()))
    server.close()
    assert client.silent()


def test_silence_may_relay_the_ends(pair: Pair) -> None:
    client, server = pair(Rule(AcceptSilent(relay_end=True)))
    client.close("rst")
    assert server.rest() == (b"", "rst")
    client, server = pair(Rule(AcceptSilent(relay_end=True)))
    server.socket.sendall(b"vanishes")
    server.close()
    assert client.rest() == (b"", "fin")


def test_half_open_after_a_while(proxy: FaultProxy, websocket: Websocket) -> None:
    proxy.rules(AcceptSilent(after=0.4))
    client = websocket(proxy).open()
    assert client.echo("while it works") == "while it works"

    def dead() -> bool:
        client.send_text("still there?")
        return bool(proxy.requests()[-1].faults)

    assert eventually(dead)
    while not client.silent():
        client.socket.recv(65536)


def test_only_one_direction_is_dropped(pair: Pair) -> None:
    client, server = pair(Rule(DropUp()))
    client.socket.sendall(b"up")
    server.socket.sendall(b"down")
    assert client.exactly(4) == b"down"
    assert server.silent()
    client.close("rst")
    assert server.silent()

    client, server = pair(Rule(DropDown()))
    client.socket.sendall(b"up")
    server.socket.sendall(b"down")
    assert server.exactly(2) == b"up"
    assert client.silent()
    client.close()
    assert server.rest() == (b"", "fin")


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("by", ["upstream", "proxy"])
def test_accepted_and_closed(
    proxy: FaultProxy, websocket: Websocket, upstream: TinyUpstream, by: By, how: How
) -> None:
    proxy.rules(AcceptClose(by, after=0.1, how=how))
    client = websocket(proxy).open()
    client.send_text("hello")
    start = time.monotonic()
    assert client.rest() == (b"", how)
    assert time.monotonic() - start < 5
    assert upstream.seen.messages == []
    if by == "upstream":
        assert eventually(lambda: upstream.seen.websocket_ends == [how])


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_cut_after_a_time(
    proxy: FaultProxy, websocket: Websocket, upstream: TinyUpstream, how: How
) -> None:
    proxy.rules(Rule(Cut(after=0.4, how=how), on="ws"))
    start = time.monotonic()
    client = websocket(proxy).open()
    assert client.echo("while it works") == "while it works"
    assert client.rest() == (b"", how)
    assert time.monotonic() - start >= 0.4
    assert eventually(lambda: upstream.seen.websocket_ends == [how])


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_cut_when_idle(
    proxy: FaultProxy, websocket: Websocket, upstream: TinyUpstream, how: How
) -> None:
    proxy.rules(CutIdle(0.4, how))
    client = websocket(proxy).open()
    start = time.monotonic()
    # Whichever side it comes from, a byte begins the time anew.
    for _ in range(6):
        time.sleep(0.1)
        assert client.echo("still there") == "still there"
    silent_from = time.monotonic()
    assert proxy.requests()[-1].faults == []
    assert client.rest() == (b"", how)
    assert silent_from - start >= 0.6
    assert time.monotonic() - silent_from >= 0.35
    assert proxy.requests()[-1].faults == ["cut_idle"]
    assert eventually(lambda: upstream.seen.websocket_ends == [how])


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_cut_after_some_bytes(pair: Pair, how: How) -> None:
    client, server = pair(Rule(Cut(after_bytes=5, how=how)))
    server.socket.sendall(b"123")
    assert client.exactly(3) == b"123"
    server.socket.sendall(b"4567")
    assert client.rest() == (b"45", how)
    assert server.rest() == (b"", how)


@pytest.mark.parametrize("toward", ["client", "upstream"])
def test_half_closed(pair: Pair, toward: str, door_proxy: FaultProxy) -> None:
    rule = {"fault": "halfclose", "after": 0.05, "toward": toward}
    client, server = pair(rule)
    told, other = (client, server) if toward == "client" else (server, client)
    assert told.rest() == (b"", "fin")
    told.socket.sendall(b"this way it goes on")
    assert other.exactly(19) == b"this way it goes on"
    other.socket.sendall(b"and this way not")
    told.close()
    assert other.rest() == (b"", "fin")
    other.close()
    door_proxy.wait_until(lambda now: now.live == now.live_upstream == 0)


def test_a_websocket_is_throttled(proxy: FaultProxy, websocket: Websocket) -> None:
    proxy.rules(Throttle(100_000))
    client = websocket(proxy).open()
    start = time.monotonic()
    assert len(client.echo("x" * 30_000)) == 30_000
    assert 0.2 < time.monotonic() - start < 5


def test_faults_of_http_spare_websockets(proxy: FaultProxy, websocket: Websocket) -> None:
    proxy.rules({"fault": "gateway"}, Rule(Refuse(), on="http"))
    assert websocket(proxy).open().echo("not me") == "not me"
