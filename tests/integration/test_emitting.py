"""Emitting from anywhere: a view, a task, an OS thread, and another process through Redis."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
import socketio

from fallback_transport.runtime.workers import IDLE
from tests.client.fixtures import BINDING_PARAMS, MODE_PARAMS, TRANSPORTS, unexpected
from tests.client.session import ClientSession
from tests.client.waiting import eventually
from tests.integration.redis_server import redis_server
from tests.integration.served import OVER_WSGI, Served
from tests.integration.stock_clients import PythonClient
from tests.needs import find

MODULE = "tests.integration.emitting_app"

both = pytest.mark.parametrize("transport", TRANSPORTS)


@pytest.fixture(scope="module", params=MODE_PARAMS)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with Served(request.param, module=MODULE) as server:
        yield server
        assert not unexpected(server.log()), server.log()


def opened(server: Served, transport: str = "websocket") -> ClientSession:
    return ClientSession(server.port).open(transport)


def several(count: int) -> list[Any]:
    return [[number, b"\x00" * (number % 3)] for number in range(count)]


@both
@pytest.mark.parametrize("where", ["task", "thread"])
def test_a_task_and_an_os_thread(served: Served, transport: str, where: str) -> None:
    with opened(served, transport) as client:
        client.emit(where, 50)
        # Promptly: nothing else goes on that could take it along.
        client.wait_for(lambda: len(client.named("news")) == 50, 5)
        assert client.named("news") == several(50)


@pytest.mark.parametrize("mode", BINDING_PARAMS)
@both
def test_a_thread_reaches_a_stock_client_that_is_alone(mode: str, transport: str) -> None:
    with Served(mode, module=MODULE) as server, contextlib.ExitStack() as stack:
        stock = PythonClient(server.url, (transport,))
        stack.callback(stock.disconnect)
        stock.emit("thread", 50)
        assert stock.wait_named("news", 50) == several(50)


@both
def test_a_view(served: Served, transport: str) -> None:
    with opened(served, transport) as client:
        served.get("/emit?text=hello")
        client.wait_for(lambda: client.named("news") == ["hello"], 5)
        served.get(f"/emit?text=you&to={client.id}")
        client.wait_for(lambda: client.named("news") == ["hello", "you"], 5)


@both
def test_several_threads_at_once_mix_nothing_up(served: Served, transport: str) -> None:
    with opened(served, transport) as client:
        client.emit("threads", 50)
        client.wait_for(lambda: len(client.named("step")) == 200, 10)
        for number in range(4):
            steps = [step for step in client.named("step") if step[0] == number]
            assert steps == [[number, step, b"\x00"] for step in range(50)]
        assert client.breaches == []


def test_a_thread_that_asks_gets_an_answer_or_a_reason(served: Served) -> None:
    with opened(served) as client:
        client.handlers["question"] = lambda: 42
        client.emit("ask", None)
        client.wait_for(lambda: client.named("answer"), 5)
        [answer] = client.named("answer")
        assert answer == 42 if served.mode == "threading" else "call it in a handler" in answer


@both
def test_a_thread_closes(served: Served, transport: str) -> None:
    with opened(served, transport) as client:
        client.emit("close", None)
        assert client.wait_closed(5) == (4001, "from a thread")
        assert client.received == [["last"]]


@pytest.mark.parametrize("mode", BINDING_PARAMS)
def test_a_thread_drains(mode: str) -> None:
    with Served(mode, module=MODULE) as server:
        with opened(server) as client:
            client.emit("drain", 1.0)
            assert client.wait_closed(4) == (1012, "the server restarts")
        eventually(lambda: "drained in" in server.log())
        assert not unexpected(server.log()), server.log()


# -- other processes ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    with redis_server(find("redis")) as url:
        yield url


@pytest.fixture(scope="module", params=MODE_PARAMS)
def two(request: pytest.FixtureRequest, redis: str) -> Iterator[tuple[Served, Served]]:
    """Two processes that share a Redis."""
    with (
        Served(request.param, module=MODULE, redis=redis) as one,
        Served(request.param, module=MODULE, redis=redis) as other,
    ):
        yield one, other
        for server in (one, other):
            assert not unexpected(server.log()), server.log()


@pytest.mark.requires("redis")
@both
def test_another_process_emits_through_redis(
    two: tuple[Served, Served], redis: str, transport: str
) -> None:
    outside = socketio.RedisManager(redis, write_only=True)
    one, other = two
    with contextlib.ExitStack() as stack:
        stock = PythonClient(one.url, (transport,))
        stack.callback(stock.disconnect)
        near = stack.enter_context(opened(one, transport))
        far = stack.enter_context(opened(other))
        for client in (near, far):
            client.request("join", "room")

        def heard(*wanted: Any) -> None:
            near.wait_for(lambda: near.named("news") == list(wanted), 10)

        # Until each process has subscribed, nothing is heard.
        eventually(lambda: outside.emit("ready", 1) or near.named("ready"))
        eventually(lambda: outside.emit("ready", 1) or far.named("ready"))
        outside.emit("news", {"to": "everybody", "bytes": b"\x00\xff"})
        heard({"to": "everybody", "bytes": b"\x00\xff"})
        far.wait_for(lambda: len(far.named("news")) == 1, 10)
        stock.wait_for(lambda: [e for e in stock.events if e[0] == "news"])
        outside.emit("news", "you alone", room=far.id)
        far.wait_for(lambda: len(far.named("news")) == 2, 10)
        outside.emit("news", "the room", room="room")
        far.wait_for(lambda: len(far.named("news")) == 3, 10)
        first = {"to": "everybody", "bytes": b"\x00\xff"}
        heard(first, "the room")
        assert far.named("news") == [first, "you alone", "the room"]
        assert [e[1] for e in stock.events if e[0] == "news"] == [first]


@pytest.mark.requires("redis")
@both
def test_one_process_emits_to_the_sessions_of_another(
    two: tuple[Served, Served], transport: str
) -> None:
    one, other = two
    with opened(one, transport) as near, opened(other, transport) as far:
        eventually(lambda: one.get("/emit?text=ready") == {} and far.named("news"))
        far.received.clear()
        far.cut()
        for where in ("task", "thread"):
            near.emit(where, 20)
        far.open(transport)
        for client in (near, far):
            client.wait_for(lambda client=client: len(news(client)) == 40, 10)
        assert sorted(map(str, news(far))) == sorted(map(str, 2 * several(20)))
        one.get(f"/emit?text=you&to={far.id}")
        far.wait_for(lambda: far.named("news")[-1] == "you", 10)


@pytest.mark.requires("redis")
def test_a_thread_and_a_task_publish_at_once(two: tuple[Served, Served]) -> None:
    one, other = two
    with opened(one) as near, opened(other) as far:
        eventually(lambda: one.get("/emit?text=ready") == {} and far.named("news"))
        for _ in range(5):
            for where in ("thread", "task"):
                near.emit(where, 20)
        for client in (near, far):
            client.wait_for(lambda client=client: len(news(client)) == 200, 10)
        assert one.get("/emit?text=last") == {}
        far.wait_for(lambda: far.named("news")[-1] == "last", 10)


def news(client: ClientSession) -> list[Any]:
    return [each for each in client.named("news") if each != "ready"]


# -- from a fork -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["eventlet", OVER_WSGI, "threading"])
@both
def test_nothing_goes_out_in_a_fork(mode: str, transport: str) -> None:
    with Served(mode, module=MODULE) as server, opened(server, transport) as client:
        client.request("echo", 0)
        # The threads that send are gone by then, and a fork would begin with ones of its own.
        time.sleep(2 * IDLE + 0.5)
        server.get("/fork?text=lost")
        for number in range(5):
            assert client.request("echo", number) == number
        server.get("/emit?text=said")
        client.wait_for(lambda: client.named("news"))
        assert client.named("news") == ["said"]


@pytest.mark.requires("redis")
@pytest.mark.parametrize("mode", ["eventlet", "threading"])
def test_a_fork_is_another_process_to_redis(mode: str, redis: str) -> None:
    with Served(mode, module=MODULE, redis=redis) as server, opened(server) as client:
        server.get("/fork?text=forked")
        server.get("/emit?text=said")
        client.wait_for(lambda: "said" in client.named("news"))
        # Its parent's sessions are there for it, as those of any other process.
        client.wait_for(lambda: len(client.named("news")) == 3)
        assert sorted(client.named("news")) == ["forked", "said", "to you"]
        assert client.request("echo", 1) == 1
