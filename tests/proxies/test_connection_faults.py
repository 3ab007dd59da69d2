"""Faults of whole connections, and the named scenarios."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from .fault_process import FaultProxy
from .faults import FAULTS, Hang, How, Latency, Pause
from .rules import Rule
from .scenarios import SCENARIOS, scenario_rules
from .tiny_upstream import UPGRADE, RawClient, RawDoor, RawWebSocket, TinyUpstream, eventually

Connect = Callable[[FaultProxy], RawClient]
Websocket = Callable[[FaultProxy], RawWebSocket]

EACH_WAY = 0.1


def test_latency_is_a_round_trip_and_one_more_for_the_connect(
    proxy: FaultProxy, connect: Connect, upstream: TinyUpstream
) -> None:
    proxy.rules(Latency(EACH_WAY))
    start = time.monotonic()
    client = connect(proxy)
    assert client.ask("GET", "/hello").status == 200
    first = time.monotonic() - start
    assert 4 * EACH_WAY <= first < 8 * EACH_WAY
    start = time.monotonic()
    assert client.ask("GET", "/hello").status == 200
    assert 2 * EACH_WAY <= time.monotonic() - start < first


def test_latency_delays_and_does_not_throttle(
    door: RawDoor, door_proxy: FaultProxy, connect: Connect
) -> None:
    door_proxy.rules(Latency(EACH_WAY))
    client = connect(door_proxy)
    client.send("GET", "/ws", headers=UPGRADE)
    server = door.accept()
    server.head()
    server.socket.sendall(b"HTTP/1.1 101 OK\r\n\r\n")
    client.head()
    # Two hundred pieces and a large one: a sleep for each would take 20 s.
    start = time.monotonic()
    for _ in range(200):
        client.socket.sendall(b"0123456789")
    assert server.exactly(2000) == b"0123456789" * 200
    server.socket.sendall(bytes(5_000_000))
    assert len(client.exactly(5_000_000)) == 5_000_000
    assert 2 * EACH_WAY <= time.monotonic() - start < 2
    # The end is as late as the bytes, and comes after them.
    start = time.monotonic()
    server.socket.sendall(b"bye")
    server.close()
    assert client.rest() == (b"bye", "fin")
    assert time.monotonic() - start >= EACH_WAY


def test_latency_changes_on_live_connections_and_never_reorders(
    proxy: FaultProxy, websocket: Websocket
) -> None:
    client = websocket(proxy).open()
    assert client.echo("0") == "0"
    expected = []
    for index, rules in enumerate(([Latency(0.2)], [Latency(0.05)], [])):
        proxy.rules(*rules)
        for piece in range(10):
            client.send_text(f"{index}.{piece}")
            expected.append(f"{index}.{piece}")
    assert [client.receive_text() for _ in expected] == expected


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_every_live_connection_is_killed(
    proxy: FaultProxy,
    connect: Connect,
    websocket: Websocket,
    upstream: TinyUpstream,
    how: How,
) -> None:
    idle, waiting, ws = connect(proxy), connect(proxy), websocket(proxy).open()
    idle.ask("GET", "/hello")
    waiting.send("GET", "/wait")
    assert eventually(lambda: ("GET", "/wait") in upstream.seen.requests)
    assert proxy.kill(how) == 3
    upstream.seen.released.set()
    for client in (idle, waiting, ws):
        assert client.rest() == (b"", how)
        client.close()
    assert eventually(lambda: upstream.seen.websocket_ends == [how])
    proxy.wait_until(lambda now: now.live == now.live_upstream == 0)
    assert connect(proxy).ask("GET", "/hello").status == 200


def test_kill_ends_what_a_latency_delays(proxy: FaultProxy, connect: Connect) -> None:
    proxy.rules(Latency(30))
    client = connect(proxy)
    client.send("GET", "/hello")
    proxy.wait_until(lambda now: now.live == 1)
    proxy.kill()
    assert client.rest() == (b"", "rst")


def test_a_paused_door_lets_connections_wait(
    proxy: FaultProxy, connect: Connect, upstream: TinyUpstream
) -> None:
    before = connect(proxy)
    assert before.ask("GET", "/hello").status == 200
    proxy.rules(Pause())
    client = connect(proxy)  # the kernel takes it
    client.send("GET", "/hello")
    assert client.silent()
    assert before.ask("GET", "/hello").status == 200
    proxy.clear()
    assert client.reply().status == 200


def test_a_closed_door_refuses_and_opens_again_on_the_same_port(
    proxy: FaultProxy, connect: Connect
) -> None:
    before = connect(proxy)
    assert before.ask("GET", "/hello").status == 200
    proxy.rules(Pause("refuse"))
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    assert before.ask("GET", "/hello").status == 200
    proxy.rules(Pause("queue"))
    client = connect(proxy)
    client.send("GET", "/hello")
    assert client.silent()
    proxy.clear()
    assert client.reply().status == 200
    assert connect(proxy).ask("GET", "/hello").status == 200


def test_a_door_that_hangs_accepts_and_reads_nothing(
    proxy: FaultProxy, connect: Connect, upstream: TinyUpstream
) -> None:
    proxy.rules(Rule(Hang(), first=1))
    client = connect(proxy)
    proxy.wait_until(lambda now: now.rules[0]["chosen"] == 1)
    client.socket.settimeout(0.2)
    with pytest.raises(socket.timeout):
        client.socket.sendall(bytes(50_000_000))
    assert client.silent()
    assert connect(proxy).ask("GET", "/hello").status == 200
    assert upstream.seen.requests == [("GET", "/hello")]


def test_a_scenario_cuts_what_would_hide_it(
    proxy: FaultProxy, connect: Connect, websocket: Websocket
) -> None:
    client = websocket(proxy).open()
    proxy.scenario("refuse_upgrade")
    assert client.rest() == (b"", "rst")
    with pytest.raises(InvalidStatus):
        websocket(proxy).open()
    proxy.scenario("clear")
    client = websocket(proxy).open()
    proxy.scenario("latency", "drop_responses")
    assert client.echo("slowly") == "slowly"
    proxy.scenario("cut_now")
    assert client.rest() == (b"", "rst")
    assert websocket(proxy).open().echo("again") == "again"


def test_a_scenario_spares_other_paths(proxy: FaultProxy, connect: Connect) -> None:
    proxy.scenario("drop_responses", path="^/fallback/")
    client = connect(proxy)
    assert [client.ask("GET", "/page").status for _ in range(10)] == [200] * 10
    assert [client.ask("POST", "/fallback/poll").status for _ in range(4)] == [200] * 4
    client.send("POST", "/fallback/poll")
    assert client.rest() == (b"", "rst")


def test_every_scenario_can_be_put_in_force(proxy: FaultProxy) -> None:
    for name in SCENARIOS:
        proxy.scenario(name, path="^/fallback/")
        rules = [rule.to_json() for rule in scenario_rules(name, path="^/fallback/")]
        assert [entry["rule"] for entry in proxy.statistics().rules] == rules
    with pytest.raises(KeyError):
        proxy.scenario("gremlins")


def test_every_fault_is_tested() -> None:
    files = Path(__file__).parent.glob("test_*_faults.py")
    text = "".join(file.read_text() for file in files)
    missing = [
        name
        for name, kind in FAULTS.items()
        if f"{kind.__name__}(" not in text and f'"{name}"' not in text
    ]
    assert not missing
