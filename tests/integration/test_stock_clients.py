"""Stock Socket.IO clients and sessions of ours: the same handlers, in the same rooms."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.client.fixtures import MODE_PARAMS
from tests.client.session import ClientSession
from tests.client.waiting import eventually
from tests.integration.served import Served
from tests.integration.stock_clients import (
    TRANSPORTS,
    NodeClients,
    PythonClient,
    our_tracebacks,
)

# python-socketio's client has threads of its own, which may outlive its server, and complain.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture(scope="module", params=MODE_PARAMS)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with Served(request.param, module="tests.integration.stock_app") as server:
        yield server
        assert our_tracebacks(server.log()) == []


NESTED = {"name": "ü", "parts": [b"one", b"", {"deep": b"\x00\x1e\xff"}], "n": [1, 2.5, None]}

Connect = Callable[..., Any]


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest) -> Iterator[NodeClients]:
    from tests.needs import find

    with NodeClients(find("node")) as clients:
        yield clients


@pytest.fixture(
    params=["python", pytest.param("javascript", marks=pytest.mark.requires("npm"))],
)
def connect(request: pytest.FixtureRequest, served: Served) -> Iterator[Connect]:
    """Makes stock clients of one kind; they are disconnected at the end."""
    yield from connecting(request, served)


def connecting(request: pytest.FixtureRequest, served: Served) -> Iterator[Connect]:
    made: list[Any] = []

    def open(
        transports: tuple[str, ...] | None = ("websocket",), kind: str = request.param, **more: Any
    ) -> Any:
        if kind == "python":
            client: Any = PythonClient(served.url, transports, **more)
        else:
            client = request.getfixturevalue("node").open(served.url, transports, **more)
        made.append(client)
        return client

    yield open
    for client in made:
        client.drop()


@pytest.fixture
def session(served: Served) -> Iterator[ClientSession]:
    """A session of ours, in the room."""
    with ClientSession(served.port, auth={"rooms": ["room"]}) as client:
        client.open("websocket")
        yield client


def ends(served: Served, sid: str) -> list[Any]:
    return eventually(lambda: [seen[1:] for seen in served.seen(sid) if seen[0] == "disconnect"])


def transport_of(transports: tuple[str, ...] | None) -> str:
    """The transport in use in the end: by default, an upgrade follows."""
    return "websocket" if transports is None else transports[0]


each_way = pytest.mark.parametrize(
    "transports", TRANSPORTS, ids=["polling", "websocket", "upgrade"]
)


@each_way
def test_the_same_handlers(
    served: Served, connect: Connect, transports: tuple[str, ...] | None
) -> None:
    client = connect(transports, auth={"rooms": ["room"], "who": "stock"})
    name = transport_of(transports)
    eventually(lambda: client.transport() == name)
    about = eventually(lambda: (a := client.call("about", None))["transport"] == name and a)
    assert about == {
        "id": client.sid,
        "reliable": False,
        "transport": name,
        "connected": True,
        "auth": {"rooms": ["room"], "who": "stock"},
        "rooms": about["rooms"],
        "closure": None,
    }
    assert sorted(about["rooms"]) == sorted([client.sid, "room"])
    assert served.seen(client.sid)[0] == ["connect", {"rooms": ["room"], "who": "stock"}]
    assert client.call("echo", "text ü") == "text ü"
    assert client.call("echo", NESTED) == NESTED
    assert client.call("rooms", {"join": ["a"], "leave": ["room"]}) == sorted([client.sid, "a"])
    # One after the other: python-socketio has a task for each event of a stock client.
    client.emit("message", "unnamed")
    assert client.wait_named("message") == ["unnamed"]
    client.emit("message", b"unnamed bytes")
    assert client.wait_named("message", 2) == ["unnamed", b"unnamed bytes"]
    context = client.call("request context", None)
    assert context["app"] == "tests.integration.application"
    assert "no response follows" in context["wrote"]


@each_way
def test_a_handler_asks_the_client(connect: Connect, transports: tuple[str, ...] | None) -> None:
    client = connect(transports)
    assert client.call("ask back", NESTED) == {"answer": NESTED}
    assert client.named("question") == [NESTED]


@each_way
def test_the_same_rooms(
    connect: Connect, session: ClientSession, transports: tuple[str, ...] | None
) -> None:
    client = connect(transports, auth={"rooms": ["room"]})
    other = connect(transports)
    # From each to the room, to one by its id, and to all but one.
    client.emit("broadcast", {"to": "room", "data": ["to the room", NESTED]})
    client.wait_named("broadcast")
    session.emit("broadcast", {"to": client.sid, "data": "to the stock client"})
    client.emit("broadcast", {"to": session.id, "data": "to ours"})
    client.wait_named("broadcast", 2)
    session.wait_for(lambda: len(session.named("broadcast")) == 2)
    session.emit("broadcast", {"skip": session.id, "data": [b"to all but ours"]})
    client.wait_named("broadcast", 3)
    other.emit("broadcast", {"skip": client.sid, "data": [b"to all but the stock client"]})
    assert other.wait_named("broadcast", 2) == [
        [b"to all but ours"],
        [b"to all but the stock client"],
    ]
    session.wait_for(lambda: len(session.named("broadcast")) == 3)
    assert session.named("broadcast") == [
        ["to the room", NESTED],
        "to ours",
        [b"to all but the stock client"],
    ]
    assert client.named("broadcast") == [
        ["to the room", NESTED],
        "to the stock client",
        [b"to all but ours"],
    ]


def test_a_refused_client(served: Served, connect: Connect) -> None:
    for transports in TRANSPORTS[:2]:
        client = connect(transports, auth={"refuse": [4003, "not you"]})
        (error,) = client.wait_named("connect_error")
        data = {"code": 4003, "reason": "not you"}
        assert error in (["not you", data], {"message": "not you", "data": data})


@each_way
def test_a_client_that_is_closed(
    served: Served, connect: Connect, transports: tuple[str, ...] | None
) -> None:
    client = connect(transports)
    client.emit("close", [4005, "enough"])
    (reason,) = client.wait_named("disconnect")
    assert reason in ("io server disconnect", "server disconnect")
    assert ends(served, client.sid) == [[1000, "server disconnect"]]


@each_way
def test_a_client_that_leaves(
    served: Served, connect: Connect, transports: tuple[str, ...] | None
) -> None:
    client = connect(transports)
    # Python's client may lose its last packets when it leaves just after it came.
    assert client.call("echo", 1) == 1
    client.disconnect()
    ((code, reason),) = ends(served, client.sid)
    assert code == 1000
    if isinstance(client, PythonClient) and transports != ("polling",):
        # And it may close its WebSocket before it has sent them.
        assert reason in ("client disconnect", "transport close")
    else:
        assert reason == "client disconnect"


def test_a_client_whose_network_ends(served: Served, connect: Connect) -> None:
    client = connect(("websocket",))
    client.cut()
    assert ends(served, client.sid) == [[1000, "transport close"]]


@pytest.mark.requires("npm")
@pytest.mark.parametrize("connect", ["both"], indirect=True)
def test_bytes_to_all_kinds_at_once(served: Served, connect: Connect) -> None:
    """engineio keeps a packet's first encoding: text for polling, or bytes for WebSocket.

    Shared among them, as python-socketio does, it ends the polling clients (with status 500).
    """
    rounds = 10
    with contextlib.ExitStack() as stack:
        ours = [ClientSession(served.port, auth={"rooms": ["mixed"]}) for _ in range(2)]
        for session, transport in zip(ours, ("websocket", "polling"), strict=True):
            stack.enter_context(session).open(transport)
        auth = {"rooms": ["mixed"]}
        kinds = [(kind, way) for way in (("polling",), ("websocket",)) for kind in ("python", "js")]
        # In both orders: whoever joined first is sent to first.
        stocks = [connect(way, kind=kind, auth=auth) for kind, way in [*kinds, *kinds[::-1]]]
        expected = [[number, NESTED, bytes([number]) * 2000] for number in range(rounds)]
        for data in expected:
            ours[0].emit("broadcast", {"to": "mixed", "data": data})
        for session in ours:
            session.wait_for(lambda s=session: len(s.named("broadcast")) == rounds)
            assert session.named("broadcast") == expected
        for stock in stocks:
            assert stock.wait_named("broadcast", rounds) == expected
            assert stock.call("echo", 1) == 1
