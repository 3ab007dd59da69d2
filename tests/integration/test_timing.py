"""How many round trips a session takes to its first message, on a path of 100 ms."""

from __future__ import annotations

import http.client
import statistics
import time
from collections.abc import Callable, Iterator

import pytest

from fallback_transport.protocol import codec
from fallback_transport.protocol.envelope import Envelope, Unit, Welcome
from tests.client.fixtures import served_fixture
from tests.client.raw import (
    TIMEOUT,
    RawPolling,
    new_hello,
    polling_headers,
    raw_websocket,
    read_reply,
    texts,
)
from tests.integration.served import Served
from tests.proxies.fault_process import FaultProxy
from tests.proxies.faults import Latency

#: Seconds each way.
LATENCY = 0.05
ROUND_TRIP = 2 * LATENCY
#: The proxy makes the first bytes of a connection pay for TCP's handshake, which it cannot
#: delay itself: a round trip that is none of ours, since it is counted from the accepted
#: connection.
CONNECT = ROUND_TRIP
#: Measured so often; the median counts, because the machine is shared.
TIMES = 5
#: And where that is too much, so many times: others may have had the machine just then.
SERIES = 5
#: What the processes may take on the way, in round trips: 30 ms.
SLACK = 0.3

served = served_fixture()


@pytest.fixture(scope="module")
def far(served: Served) -> Iterator[int]:
    """The port of a server that is far away."""
    with FaultProxy(served.port, [Latency(LATENCY)]) as proxy:
        yield proxy.port


def by_polling(port: int, auth: object) -> tuple[str, float]:
    """The first message of a new session, and when it came; the welcome is followed by a poll."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        unit: Unit | None = _ask(connection, new_hello(auth))
        assert isinstance(unit, Welcome), unit
        envelope, polling = unit.envelope, RawPolling(port, unit)
        while not envelope.messages:
            unit = _ask(connection, polling.waiting(TIMEOUT))
            assert isinstance(unit, Envelope), unit
            envelope = unit
        return texts(envelope)[0], time.monotonic()
    finally:
        connection.close()


def _ask(connection: http.client.HTTPConnection, unit: Unit) -> Unit | None:
    connection.request("POST", "/fallback/poll", codec.encode_body(unit), polling_headers())
    return read_reply(connection.getresponse()).unit


def by_websocket(port: int, auth: object) -> tuple[str, float]:
    """The first message of a new session, and when it came."""
    with raw_websocket(port) as socket:
        socket.greet(new_hello(auth))
        return socket.until_messages(1)[0], time.monotonic()


FirstMessage = Callable[[int, object], tuple[str, float]]


def round_trips(first_message: FirstMessage, port: int, auth: object) -> float:
    """How many round trips it takes from the accepted connection, by the median."""
    taken = []
    for _ in range(TIMES):
        before = time.monotonic()
        message, arrived = first_message(port, auth)
        assert message.startswith("2" if auth else '0{"sid":')
        taken.append((arrived - before - CONNECT) / ROUND_TRIP)
    return statistics.median(taken)


@pytest.mark.parametrize("auth", [None, {"emit": "early"}], ids=["CONNECT", "from on_connect"])
@pytest.mark.parametrize(
    ("first_message", "least"), [(by_polling, 1), (by_websocket, 2)], ids=["polling", "websocket"]
)
def test_the_first_message_comes_with_the_first_flight(
    far: int, first_message: FirstMessage, least: int, auth: object
) -> None:
    for _ in range(SERIES):
        taken = round_trips(first_message, far, auth)
        print(f"{taken:.2f} round trips")
        # Fewer than it can be would mean that the path is not as long as it is said to be.
        assert taken > least - 0.05
        if taken < least + SLACK:
            return
    pytest.fail(f"{taken:.2f} round trips and not {least}")
