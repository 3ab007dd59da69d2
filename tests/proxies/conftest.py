"""A proxy process and a server behind it, shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from .fault_process import FaultProxy
from .tiny_upstream import RawClient, RawDoor, RawWebSocket, TinyUpstream


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here that uses a proxy process is an integration test."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        if "tests/proxies/" in item.nodeid and any(
            name.endswith(("_process", "upstream")) for name in names
        ):
            item.add_marker("integration")


@pytest.fixture(scope="session")
def _upstream() -> Iterator[TinyUpstream]:
    server = TinyUpstream()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _process(_upstream: TinyUpstream) -> Iterator[FaultProxy]:
    with FaultProxy(_upstream.port) as proxy:
        yield proxy


@pytest.fixture
def upstream(_upstream: TinyUpstream) -> TinyUpstream:
    """The server, which has seen nothing yet."""
    _upstream.forget()
    return _upstream


@pytest.fixture
def proxy(_process: FaultProxy, upstream: TinyUpstream) -> Iterator[FaultProxy]:
    """The proxy, with no rules and no connections."""
    yield _process
    _settle(_process)


@pytest.fixture(scope="session")
def _door() -> Iterator[RawDoor]:
    door = RawDoor()
    yield door
    door.close()


@pytest.fixture(scope="session")
def _door_process(_door: RawDoor) -> Iterator[FaultProxy]:
    with FaultProxy(_door.port) as proxy:
        yield proxy


@pytest.fixture
def door(_door: RawDoor) -> Iterator[RawDoor]:
    """A listening socket, on which the test plays the server."""
    yield _door
    _door.close_accepted()


@pytest.fixture
def door_proxy(_door_process: FaultProxy, door: RawDoor) -> Iterator[FaultProxy]:
    """A proxy in front of that socket, with no rules and no connections."""
    yield _door_process
    _settle(_door_process)


def _settle(proxy: FaultProxy) -> None:
    proxy.clear()
    proxy.kill()
    proxy.wait_until(lambda now: now.live == now.live_upstream == 0)


@pytest.fixture
def connect() -> Iterator[Callable[[FaultProxy], RawClient]]:
    """Opens bare connections to a proxy, and closes them at the end."""
    with ExitStack() as stack:

        def opened(proxy: FaultProxy) -> RawClient:
            client = RawClient(proxy.port)
            stack.callback(client.close)
            return client

        yield opened


@pytest.fixture
def websocket() -> Iterator[Callable[[FaultProxy], RawWebSocket]]:
    """Asks a proxy for WebSockets, and closes them at the end."""
    with ExitStack() as stack:

        def opened(proxy: FaultProxy) -> RawWebSocket:
            client = RawWebSocket(proxy.port)
            stack.callback(client.close)
            return client

        yield opened
