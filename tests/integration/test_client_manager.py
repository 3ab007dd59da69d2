"""A Redis that ends and comes again, and one that answers nothing: what it costs, who is told."""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.request
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import socketio

from fallback_transport.client_manager import INTERVAL
from tests.client.fixtures import unexpected
from tests.client.session import ClientSession
from tests.client.waiting import eventually
from tests.integration.redis_server import RedisServer
from tests.integration.served import MODES, Served
from tests.needs import find

PASSWORD = "kept-to-ourselves"
#: DEPLOYING.md's.
REDIS_OPTIONS = {"socket_timeout": 1, "socket_connect_timeout": 1}
#: python-socketio tries twice, and each can wait for the connection and for the answer.
STALL = 2 * (1 + 1)
#: Seconds that a busy machine may add to anything here.
SLACK = 2.0
#: A probe has just come back, the next one is missed.
NOTICED = 2 * INTERVAL + SLACK
#: python-socketio asks for a Redis that was away for so long after 1, 2, 4 and 8 s.
BACK = 16 + INTERVAL + SLACK
LOGGER = "fallback_transport.client_manager"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    server = RedisServer(find("redis"), PASSWORD)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def clients(redis: RedisServer) -> Iterator[dict[str, tuple[Served, ClientSession]]]:
    """A process in each async mode, which share a Redis, and a client of each."""
    with contextlib.ExitStack() as stack:
        found = {}
        for mode in MODES:
            server = stack.enter_context(
                Served(
                    mode,
                    module="tests.integration.emitting_app",
                    redis=redis.url,
                    redis_options=REDIS_OPTIONS,
                    metrics=True,
                )
            )
            found[mode] = server, stack.enter_context(ClientSession(server.port).open())
        yield found
        for server, _ in found.values():
            log = server.log()
            assert not unexpected(log), log
            assert PASSWORD not in log


def health(server: Served) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/stats")["client_manager"]
    return found


def gauge(server: Served) -> str | None:
    with urllib.request.urlopen(server.url + "/fallback/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    name = 'fallback_transport_client_manager_connected{kind="RedisManager"} '
    return next((line.removeprefix(name) for line in lines if line.startswith(name)), None)


def lines(server: Served) -> list[str]:
    return [line for line in server.log().splitlines() if LOGGER in line]


def told(clients: dict[str, tuple[Served, ClientSession]], text: str) -> dict[str, Any]:
    """Each client has its process tell everybody; for each, how long `emit` took."""
    return {
        mode: client.request("tell", f"{text} {mode}", timeout=STALL + SLACK)
        for mode, (_, client) in clients.items()
    }


@pytest.mark.requires("redis", "gevent")
def test_a_redis_that_ends_and_comes_again(
    redis: RedisServer, clients: dict[str, tuple[Served, ClientSession]]
) -> None:
    servers = [server for server, _ in clients.values()]
    for server in servers:
        eventually(lambda server=server: health(server)["state"] == "connected")
        assert gauge(server) == "1.0"
    told(clients, "before")
    for _, client in clients.values():
        client.wait_for(lambda client=client: len(client.named("news")) == 3)

    redis.kill()
    took = told(clients, "during")
    print(
        "emit with no Redis there:", {mode: f"{each * 1000:.0f} ms" for mode, each in took.items()}
    )
    # Refused at once.
    assert max(took.values()) < 1
    for mode, (server, client) in clients.items():
        eventually(lambda server=server: health(server)["state"] == "lost", NOTICED)
        assert gauge(server) == "0.0"
        found = health(server)
        assert set(found) == {"kind", "state", "since", "error"}
        assert (found["kind"], found["error"]) == ("RedisManager", "ConnectionError")
        assert abs(time.time() - found["since"]) < NOTICED + SLACK
        # The process's own clients have all, and the session goes on over another transport.
        assert client.named("news")[3:] == [f"during {mode}"]
        client.cut()
        client.open("polling")
        assert client.request("echo", mode) == mode

    redis.start()
    for server in servers:
        eventually(lambda server=server: health(server)["state"] == "connected", BACK)
        assert gauge(server) == "1.0"
    told(clients, "after")
    for mode, (server, client) in clients.items():
        client.wait_for(lambda client=client: len(client.named("news")) == 7)
        # What others have emitted meanwhile does not come later.
        assert client.named("news")[3] == f"during {mode}"
        assert set(client.named("news")[4:]) == {f"after {each}" for each in MODES}
        eventually(lambda server=server: len(lines(server)) >= 3)
        connected, lost, back = lines(server)
        assert connected.startswith(f"INFO {LOGGER}: RedisManager: connected")
        assert lost.startswith(f"ERROR {LOGGER}: RedisManager: its connection is lost (Conn")
        assert back.startswith(f"WARNING {LOGGER}: RedisManager: its connection is back")
        assert "Cannot publish" not in server.log()


@pytest.mark.requires("redis", "gevent")
def test_a_redis_that_answers_nothing_holds_up_who_emits_and_nobody_else(
    redis: RedisServer, clients: dict[str, tuple[Served, ClientSession]]
) -> None:
    with contextlib.ExitStack() as stack:
        bystanders = {
            mode: stack.enter_context(ClientSession(server.port).open())
            for mode, (server, _) in clients.items()
        }
        asked = {}
        with redis.stopped():
            for mode, (_, client) in clients.items():
                asked[mode] = client.ask_for("tell", "unanswered")
            for mode, bystander in bystanders.items():
                begun = time.monotonic()
                assert bystander.request("echo", mode, timeout=SLACK) == mode
                assert time.monotonic() - begun < 1
                bystander.wait_for(lambda each=bystander: each.named("news"), SLACK)
                assert bystander.named("news")[0] == "unanswered"
            took = {
                mode: client.reply_to(asked[mode], STALL + SLACK)
                for mode, (_, client) in clients.items()
            }
        print("emit with a Redis that is silent:", {m: f"{t:.1f} s" for m, t in took.items()})
        for seconds in took.values():
            assert 1 <= seconds < STALL + SLACK
        for server, _ in clients.values():
            eventually(lambda server=server: health(server)["state"] == "connected", BACK)
        # Those of other processes may get it late, or not at all; nothing else.
        for bystander in bystanders.values():
            assert set(bystander.named("news")) == {"unanswered"}


@pytest.mark.requires("redis")
def test_who_is_silent_is_still_heard(redis: RedisServer) -> None:
    """Longer than the time-out that is recommended, and by nobody; older ones of `redis` fail."""

    class Ended(Exception):
        """It has complained, and listens no more."""

    def error(text: str, **_: Any) -> None:
        raise Ended

    def listen() -> None:
        with contextlib.suppress(Ended):
            list(manager._listen())

    manager = socketio.RedisManager(
        redis.url, redis_options=REDIS_OPTIONS, logger=SimpleNamespace(error=error)
    )
    listening = threading.Thread(target=listen, daemon=True)
    listening.start()
    listening.join(2 * REDIS_OPTIONS["socket_timeout"] + 0.5)
    assert listening.is_alive()
