"""`ManagerHealth`: what a client manager's connection is known to be, and what is logged of it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import socketio

from fallback_transport.client_manager import (
    FIRST_WAIT,
    INTERVAL,
    PAUSE,
    ManagerHealth,
)
from fallback_transport.engine import Engine
from fallback_transport.engine_client import EngineClient
from fallback_transport.packets import Packet
from fallback_transport.protocol.envelope import Grant
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.registry import Capacity, Registry
from tests.fakes import FakeRuntime, Peer

NAME = "fallback_transport.client_manager"


class Broken(Exception):
    """A manager's own."""


class Manager(socketio.PubSubManager):
    """One whose connection a test breaks; complains as `RedisManager` does."""

    def __init__(self, runtime: FakeRuntime, **options: Any) -> None:
        super().__init__(**options)
        self.runtime = runtime
        self.wire: deque[Any] = deque()
        # What is the same for its twin, which publishes the probes.
        self.network = SimpleNamespace(sound=True, cut=False, raises=False, encode=json.dumps)

    def _publish(self, data: Any) -> None:
        if self.network.raises:
            raise Broken("redis://:secret@host")
        try:
            if not self.network.sound:
                raise ConnectionRefusedError("redis://:secret@host")
        except OSError as error:
            self._get_logger().error("Cannot publish", extra={"redis_exception": str(error)})
        else:
            self.wire.append(self.network.encode(data))

    def _listen(self) -> Iterator[Any]:
        while not self.network.raises:
            if self.network.cut:
                self.network.cut = False
                try:
                    raise ConnectionResetError("redis://:secret@host")
                except OSError:
                    self._get_logger().error("Cannot receive")
                self.runtime.sleep(1)
            if self.wire:
                yield self.wire.popleft()
            else:
                self.runtime.sleep(0.1)
        raise Broken("redis://:secret@host")


class House:
    """A manager that is watched, and the task that python-socketio listens in."""

    def __init__(self, **options: Any) -> None:
        self.runtime = FakeRuntime()
        self.manager = Manager(self.runtime, **options)
        health = ManagerHealth.of(self.manager, self.runtime)
        assert health is not None
        self.health = health
        self.heard: list[Any] = []
        self.reply: Callable[[], None] = lambda: None
        self.runtime.spawn(self._hear)

    def _hear(self) -> None:
        for message in self.manager._listen():
            self.heard.append(message)
            self.reply()

    @property
    def state(self) -> Any:
        return self.health.to_json()["state"]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    return caplog


def lines(log: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(r.levelname, r.getMessage()) for r in log.records if r.name == NAME]


@pytest.mark.parametrize("encode", [json.dumps, lambda data: json.dumps(data).encode(), dict])
def test_lost_and_back_are_one_line_each(log: pytest.LogCaptureFixture, encode: Any) -> None:
    house = House()
    house.manager.network.encode = encode
    assert house.state == "unknown"
    house.runtime.advance(1)
    assert house.state == "connected"
    house.runtime.advance(60)
    house.manager.network.sound = False
    house.runtime.advance(2 * INTERVAL + 1)
    told = house.health.to_json()
    assert isinstance(told.pop("since"), float)
    assert told == {"kind": "Manager", "state": "lost", "error": "ConnectionRefusedError"}
    house.runtime.advance(600)
    house.manager.network.sound = True
    house.runtime.advance(INTERVAL + 1)
    assert (house.state, house.runtime.errors) == ("connected", [])
    (info, _), (error, lost), (warning, back) = lines(log)
    assert (info, error, warning) == ("INFO", "ERROR", "WARNING")
    assert lost.startswith("Manager: its connection is lost (ConnectionRefusedError)")
    assert back == "Manager: its connection is back"
    # Nobody else hears of the probes, and nobody of where it connects to.
    assert house.heard == []
    assert "secret" not in log.text
    assert not [r for r in log.records if r.levelno > logging.DEBUG and r.name != NAME]


def test_forks_have_names_of_their_own() -> None:
    # Of a process of its own: one that has threads, as this one may have, is not to be forked.
    program = """
import os
import socketio
from fallback_transport.engine import Engine
from tests.fakes import FakeRuntime

class Manager(socketio.PubSubManager):
    def _publish(self, data): ...
    def _thread(self): ...

server = socketio.Server(async_mode="threading", client_manager=Manager())
engine = Engine(server, FakeRuntime())
for _ in range(2):
    if (process := os.fork()) == 0:
        break
    os.waitpid(process, 0)
os.write(1, server.manager.host_id.encode() + b"\\n")
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    names = said.split()
    assert len(names) == len({*names}) == 3


def test_a_loss_is_not_put_down_to_the_error_of_one_before(log: pytest.LogCaptureFixture) -> None:
    house = House()
    house.runtime.advance(1)
    house.manager.network.sound = False
    house.runtime.advance(2 * INTERVAL + 1)
    house.manager.network.sound = True
    house.runtime.advance(INTERVAL + 1)
    # Nobody complains: what is published only does not come back.
    house.manager.network.encode = lambda data: ""
    house.runtime.advance(2 * INTERVAL + 1)
    assert (house.state, house.health.to_json()["error"]) == ("lost", "ConnectionRefusedError")
    first, second = [text for level, text in lines(log) if level == "ERROR"]
    assert "(ConnectionRefusedError)" in first
    assert "(nothing comes back)" in second


def test_what_is_no_probe_of_ours_goes_on() -> None:
    house = House()
    others = [
        {"method": "emit", "data": "fallback_transport.probe"},
        {"method": "fallback_transport.probe", "host_id": "another's"},
        7,
    ]
    # An answer to a question of ours has our name, too.
    answer = {"method": "callback", "host_id": house.manager.host_id}
    sent = [*map(json.dumps, others), "fallback_transport.probe", others[0], answer]
    house.manager.wire.extend(sent)
    house.runtime.advance(1)
    assert (house.heard, house.state) == (sent, "connected")


def test_what_raises_is_asked_again_after_a_pause(log: pytest.LogCaptureFixture) -> None:
    house = House()
    house.runtime.advance(1)
    house.manager.network.raises = True
    house.runtime.advance(0.1)
    # At once: no probe is missed yet.
    assert (house.state, house.health.to_json()["error"]) == ("lost", "Broken")
    house.runtime.advance(60)
    assert (house.state, house.health.to_json()["error"]) == ("lost", "Broken")
    house.manager.network.raises = False
    house.runtime.advance(PAUSE + INTERVAL)
    assert house.state == "connected"
    assert "secret" not in log.text
    assert "Traceback" not in log.text
    assert len(lines(log)) == 3


@pytest.mark.parametrize("own", [None, logging.getLogger("own")])
def test_a_short_break_is_told_too(log: pytest.LogCaptureFixture, own: Any) -> None:
    house = House(logger=own)
    house.runtime.advance(1)
    house.manager.network.cut = True
    house.runtime.advance(0.1)
    # It listens again within a second, so that no probe is missed.
    assert (house.state, house.health.to_json()["error"]) == ("lost", "ConnectionResetError")
    house.runtime.advance(PAUSE + INTERVAL)
    assert house.state == "connected"
    assert [level for level, _ in lines(log)] == ["INFO", "ERROR", "WARNING"]


def test_a_complaint_of_what_is_published_is_no_break() -> None:
    house = House()
    house.runtime.advance(1)
    house.manager.network.sound = False
    # Also where what others have said makes somebody publish.
    house.reply = lambda: house.manager._publish({})
    house.manager.wire.append(json.dumps({"method": "emit"}))
    house.runtime.advance(0.1)
    assert (house.state, house.health.to_json()["error"]) == ("connected", "ConnectionRefusedError")


def test_a_manager_with_a_logger_of_its_own_keeps_it(log: pytest.LogCaptureFixture) -> None:
    house = House(logger=logging.getLogger("own"))
    house.manager.network.sound = False
    house.runtime.advance(1)
    assert {(r.name, r.levelname) for r in log.records} == {("own", "ERROR")}


def test_others_have_no_connection() -> None:
    runtime = FakeRuntime()
    assert ManagerHealth.of(socketio.Manager(), runtime) is None
    assert ManagerHealth.of(Manager(runtime, write_only=True), runtime) is None


def test_the_log_says_where_clients_are_served_that_hear_no_other_process(
    log: pytest.LogCaptureFixture,
) -> None:
    """At the first client: a worker that makes the same application, and emits, has none."""
    manager = Manager(FakeRuntime(), write_only=True)
    server = socketio.Server(async_mode="threading", client_manager=manager)
    engine = Engine(server, FakeRuntime())
    assert engine.manager_health is None
    server.emit("event")
    assert log.messages == []
    for sid in ("one", "two"):
        server._handle_eio_connect(sid, {})
    [told] = log.messages
    assert told.startswith("with write_only=True this process does not hear what others emit")


class RefusingRedis(socketio.RedisManager):
    """One whose clients cannot publish; each of them is a new object, as redis-py's."""

    def _redis_connect(self) -> None:
        self.redis = SimpleNamespace(publish=self._refuse)
        self.connected = True

    def _refuse(self, *_: Any) -> None:
        raise Broken

    def _listen(self) -> Iterator[Any]:
        self._redis_connect()
        while True:
            yield self.redis


def test_who_publishes_in_vain_takes_no_client_from_who_listens() -> None:
    manager = RefusingRedis()
    server = socketio.Server(async_mode="threading", client_manager=manager, serializer=Packet)
    engine = Engine(server, FakeRuntime())
    listening = manager._listen()
    # A client that nobody has any more closes what it has made.
    listens = next(listening)
    server.emit("news", 1)
    assert next(listening) is listens
    assert engine.manager_health.to_json()["error"] == "Broken"


class SlowRedis(socketio.RedisManager):
    """One that has subscribed after a while; what is said before it does not hear."""

    def __init__(self, runtime: FakeRuntime, seconds: float) -> None:
        super().__init__()
        self.runtime = runtime
        self.wait = SimpleNamespace(seconds=seconds, subscribed=False)
        self.wire: deque[Any] = deque()

    def _publish(self, data: Any) -> None:
        if self.wait.subscribed:
            self.wire.append(json.dumps(data))

    def _listen(self) -> Iterator[Any]:
        self.runtime.sleep(self.wait.seconds)
        self.wait.subscribed = True
        while True:
            if self.wire:
                yield self.wire.popleft()
            else:
                self.runtime.sleep(0.01)


@pytest.mark.parametrize(("seconds", "waits"), [(0.3, 0.4), (1000, FIRST_WAIT)])
def test_the_first_clients_wait_until_others_are_heard(seconds: float, waits: float) -> None:
    runtime = FakeRuntime()
    manager = SlowRedis(runtime, seconds)
    server = socketio.Server(async_mode="threading", client_manager=manager, serializer=Packet)
    engine = Engine(server, runtime)
    registry = Registry(
        runtime, partial(EngineClient, engine), grant=Grant(), bounds=Bounds(), capacity=Capacity()
    )
    heard: list[bool] = []
    server.on("connect", lambda *args: heard.append(manager.wait.subscribed))
    peers = [Peer(registry, runtime, nonce=None) for _ in range(2)]
    for peer in peers:
        peer.open("0")
    runtime.advance(waits / 2)
    assert heard == []
    runtime.advance(waits / 2 + 0.1)
    assert heard == [seconds < FIRST_WAIT] * 2
    # Where it does not answer, everybody after them waits no more.
    last = Peer(registry, runtime, nonce=None)
    last.open("0")
    runtime.run()
    assert len(heard) == 3
    assert runtime.errors == []
