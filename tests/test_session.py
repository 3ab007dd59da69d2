"""`Session`: what a handler holds, for a session of ours and for a stock client."""

from __future__ import annotations

import json
from typing import Any

import pytest
import socketio
from socketio import packet as sio
from werkzeug.test import EnvironBuilder

from fallback_transport import ConnectionRefused, RequestFailed, Session
from fallback_transport import session as module
from fallback_transport.gateway import Gateway
from fallback_transport.protocol.envelope import Envelope, Hello
from fallback_transport.protocol.errors import MessageRefused
from fallback_transport.protocol.events import Transport
from fallback_transport.protocol.message import Message
from tests.fakes import Peer
from tests.place import Place


@pytest.fixture
def place() -> Place:
    return Place()


# -- facts ----------------------------------------------------------------------------


def test_a_session_of_ours(place: Place) -> None:
    client, peer = place.peer({"token": 1})
    assert client.id == peer.id
    assert client.auth == {"token": 1}
    assert client.data == {}
    assert client.reliable
    assert client.connected
    assert client.transport == "websocket"
    assert client.rooms == [client.id]
    assert client.closure is None
    assert repr(client) == f"<Session {client.id} websocket>"


def test_what_the_page_has_connected_to_and_agreed_on(place: Place) -> None:
    client, _ = place.peer(url="/chat?room=1", protocols="v2, v1")
    assert (client.url, client.protocol) == ("/chat?room=1", "v1")
    other, _ = place.peer()
    assert (other.url, other.protocol) == ("", "")
    stock, _ = place.stock()
    assert (stock.url, stock.protocol) == ("", "")


def test_a_stock_client(place: Place) -> None:
    client, sock = place.stock({"token": 1})
    assert client.auth == {"token": 1}
    assert client.data == {}
    assert not client.reliable
    assert client.connected
    assert client.transport == "websocket"
    sock.upgraded = False
    assert client.transport == "polling"
    assert client.rooms == [client.id]
    assert client.closure is None


def test_who_is_looked_at_as_it_connects_keeps_what_it_has(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread goes through all clients, and finds one that has no view yet."""
    sessions = place.transport._made().sessions
    client, _ = place.peer({"token": 1})
    kept = place.server.eio.get_session(client.id)[sessions._KEY]
    kept.clear()

    class Looked(Session):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            # Meanwhile it is there.
            kept[client.id] = client

    monkeypatch.setattr(module, "Session", Looked)
    assert sessions.all("/") == [client]
    assert sessions.get(client.id, "/") is client


def test_who_goes_as_all_are_looked_for_is_passed_over(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another thread: the manager has named it already."""
    (client, peer), manager = place.peer(), place.server.manager
    named = [("gone", "gone"), (client.id, client.id)]
    monkeypatch.setattr(manager, "get_participants", lambda namespace, room: iter(named))
    place.transport.disconnect(lambda client: True, 4005, "enough")
    peer.settle()
    assert peer.closed == (4005, "enough")


def test_a_session_that_is_detached_for_a_while(place: Place) -> None:
    client, peer = place.peer()
    peer.detach()
    assert client.transport is None
    assert not client.connected
    assert client.reliable
    assert repr(client) == f"<Session {client.id} detached>"
    client.emit("kept", 1)
    peer.open()
    assert client.connected
    assert peer.events == [["kept", 1]]


def test_on_connect_knows_the_transport_before_the_commit(place: Place) -> None:
    told: list[Any] = []

    @place.transport.on_connect(namespace="/early")
    def connected(client: Session) -> None:
        told.append((client.transport, client.connected, repr(client)))

    assert isinstance(place.app.wsgi_app, Gateway)
    peer = Peer(place.app.wsgi_app.registry, place.runtime)
    connect = sio.Packet(sio.CONNECT, namespace="/early").encode()
    hello = Hello(1, nonce="nonce", envelope=Envelope(seq=1, messages=(Message(connect),)))
    conversation, _ = place.app.wsgi_app.registry.greet(
        hello, Transport.POLLING, peer, lambda hello: {}, ""
    )
    place.runtime.run()
    assert conversation is not None
    assert told == [("polling", True, f"<Session {conversation.id} polling>")]


def test_a_session_that_is_over_stays_what_it_was(place: Place) -> None:
    client, peer = place.peer()
    client.data["user"] = "ann"
    client.close(4005, "enough")
    assert client.closure == (4005, "enough")
    peer.settle()
    assert peer.closed == (4005, "enough")
    assert place.ends == [(client, 4005, "enough")]
    assert client.reliable
    assert client.closure == (4005, "enough")
    assert not client.connected
    assert client.transport is None
    assert client.rooms == []
    assert client.data == {"user": "ann"}
    # What comes too late is nobody's fault.
    client.emit("late")
    client.send("late")
    client.close()


def test_a_stock_client_that_is_gone_stays_what_it_was(place: Place) -> None:
    client, sock = place.stock()
    sock.handler("1")
    assert place.ends == [(client, 1000, "client disconnect")]
    place.engine.sockets.clear()
    assert not client.reliable
    assert not client.connected
    assert client.rooms == []
    client.emit("late")
    client.close(4000, "late")


def test_of_a_stock_client_one_namespace_is_closed(place: Place) -> None:
    place.transport.on_connect(namespace="/deep")(place._connected)
    _, sock = place.stock()
    sock.handler("0/deep,")
    deep = list(place.clients.values())[-1]
    sock.packets.clear()
    deep.close()
    assert sock.sent == ["1/deep,"]
    assert place.ends == []


# -- sending --------------------------------------------------------------------------


def test_to_leave_the_room_before_may_be_to_leave_none(place: Place) -> None:
    """To python-socketio None is everybody's: who has left it is never handled or told again."""
    client, peer = place.peer()
    room: Any = client.data.get("room")
    client.leave(room)
    place.transport.emit("news", 1)
    client.close(4005, "enough")
    peer.settle()
    assert peer.events == [["news", 1]]
    assert place.ends == [(client, 4005, "enough")]


@pytest.mark.parametrize("kind", ["peer", "stock"])
def test_emit_send_join_and_leave(place: Place, kind: str) -> None:
    client, end = place.peer() if kind == "peer" else place.stock()
    client.emit("nothing")
    client.emit("data", {"a": [1, b"bytes"]})
    client.emit("several", (1, 2))
    client.send("text")
    client.join("room")
    assert sorted(client.rooms) == sorted([client.id, "room"])
    place.transport.emit("news", 1, to="room")
    client.leave("room")
    client.leave("room")
    assert client.rooms == [client.id]
    place.transport.emit("news", 2, to="room")
    if isinstance(end, Peer):
        end.exchange()
        texts = end.texts
    else:
        texts = end.sent
    assert texts == [
        '2["nothing"]',
        '51-["data",{"a":[1,{"_placeholder":true,"num":0}]}]',
        b"bytes",
        '2["several",1,2]',
        '2["message","text"]',
        '2["news",1]',
    ]


@pytest.mark.parametrize(
    ("kind", "events"),
    [("peer", [["at", 4], ["at", b"2"], ["at", b"3"]]), ("stock", [["at", 1], ["at", 4]])],
)
def test_the_latest_replaces_no_bytes_and_nothing_that_goes_to_a_stock_client(
    place: Place, kind: str, events: list[Any]
) -> None:
    client, end = place.peer() if kind == "peer" else place.stock()
    for data in (1, b"2", b"3", 4):
        if kind == "peer" or isinstance(data, int):
            client.emit("at", data, latest="key")
    if isinstance(end, Peer):
        end.exchange()
        assert end.events == events
    else:
        assert [json.loads(text[1:]) for text in end.sent] == events


@pytest.mark.parametrize("kind", ["peer", "stock"])
def test_who_is_over_is_in_no_room(
    place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, _ = place.peer()
    client, end = place.peer() if kind == "peer" else place.stock()
    client.close()
    if isinstance(end, Peer):
        end.settle()
    client.join("room")
    client.leave("room")
    assert client.rooms == []
    assert list(place.server.manager.rooms["/"]) == [None, other.id]
    with pytest.raises(ValueError, match="sid room"):
        other.join(place.peer()[0].id)

    def ends_meanwhile(*args: Any, **options: Any) -> None:
        raise KeyError(other.id)

    monkeypatch.setattr(place.server, "enter_room", ends_meanwhile)
    other.join("room")


def test_what_cannot_be_json_is_refused_at_the_call(place: Place) -> None:
    client, peer = place.peer()
    with pytest.raises(TypeError):
        client.emit("bad", {1, 2})
    client.emit("good")
    peer.exchange()
    assert peer.events == [["good"]]


def test_what_an_emit_raises_is_told(place: Place) -> None:
    client, peer = place.peer()
    told = (Session.emit.__doc__ or "").partition("Raises:")[2]
    for data, error, why in (
        ({1, 2}, TypeError, "JSON cannot express"),
        ("x" * 16_000_000, MessageRefused, "larger than `max_message`"),
    ):
        for emit in (client.emit, client.request, place.transport.emit):
            with pytest.raises(error):
                emit("bad", data)
        assert error.__name__ in told
        assert why in told
    assert peer.events == []


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("connect", ValueError, "'connect' is reserved"),
        ("disconnect", ValueError, "'disconnect' is reserved"),
        (5, TypeError, "an event's name is a text: 5"),
        (None, TypeError, "an event's name is a text: None"),
    ],
)
def test_a_name_that_no_event_can_have_is_refused_at_the_call(
    place: Place, name: Any, error: type[Exception], told: str
) -> None:
    client, peer = place.peer()
    for emit in (client.emit, client.request, place.transport.emit):
        with pytest.raises(error, match=told):
            emit(name, 1)
    # Whatever else is a text.
    client.emit(type("Name", (str,), {})("news"), 1)
    peer.exchange()
    assert peer.events == [["news", 1]]


# -- asking ---------------------------------------------------------------------------


def test_a_request_is_answered(place: Place) -> None:
    client, peer = place.peer()
    answers = place.task(lambda: client.request("ask", {"n": 1}))
    peer.exchange()
    assert peer.packets == [[sio.EVENT, 1, ["ask", {"n": 1}]]]
    assert answers == []
    peer.packet(sio.Packet(sio.ACK, [{"a": b"bytes"}], id=1), urgent=True)
    assert answers == [{"a": b"bytes"}]


@pytest.mark.parametrize(("values", "answer"), [([], None), ([None], None), ([1, 2], (1, 2))])
def test_a_request_may_be_answered_with_none_or_several(
    place: Place, values: list[Any], answer: Any
) -> None:
    client, peer = place.peer()
    answers = place.task(lambda: client.request("ask"))
    peer.exchange()
    peer.packet(sio.Packet(sio.ACK, values, id=1), urgent=True)
    assert answers == [answer]


def test_a_stock_client_is_asked(place: Place) -> None:
    client, sock = place.stock()
    answers = place.task(lambda: client.request("ask", 1))
    assert sock.sent == ['21["ask",1]']
    sock.handler('31["answer"]')
    place.runtime.run()
    assert answers == ["answer"]


def failure(answers: list[Any]) -> str:
    (error,) = answers
    assert isinstance(error, RequestFailed)
    return str(error)


def test_a_request_that_the_clients_listener_fails(place: Place) -> None:
    client, peer = place.peer()

    def ask() -> str:
        with pytest.raises(RequestFailed, match=r"^its listener raised$"):
            client.request("ask")
        return "raised"

    answers = place.task(ask)
    peer.exchange()
    peer.send('71{"code":1011,"message":"its listener raised"}')
    peer.exchange()
    assert answers == ["raised"]


@pytest.mark.parametrize("kind", ["peer", "stock"])
def test_a_request_that_is_not_answered_in_time(place: Place, kind: str) -> None:
    client, _ = place.peer() if kind == "peer" else place.stock()
    answers = place.task(lambda: client.request("ask", timeout=3))
    place.runtime.advance(2.9)
    assert answers == []
    place.runtime.advance(0.2)
    assert failure(answers) == "no answer in 3 s"


class PublishingManager(socketio.PubSubManager):
    """As `RedisManager`, with nobody else there."""

    def _publish(self, data: Any) -> None:
        pass

    def _listen(self) -> Any:
        return iter(())

    def _thread(self) -> None:
        pass


@pytest.mark.parametrize("kind", ["peer", "stock"])
@pytest.mark.parametrize("manager", [None, PublishingManager])
def test_nothing_is_kept_of_requests_that_are_not_answered(kind: str, manager: Any) -> None:
    place = Place(client_manager=manager and manager())
    client, end = place.peer() if kind == "peer" else place.stock()
    answers = place.task(lambda: client.request("first", timeout=9))
    for _ in range(3):
        place.task(lambda: client.request("ask", timeout=3))
    place.task(lambda: client.request("ask", {1, 2}))
    callbacks = place.server.manager.callbacks[client.id]
    each = 1 if manager is None else 2
    assert len(callbacks) == 1 + 4 * each
    place.runtime.advance(4)
    assert len(callbacks) == 1 + each
    # One that comes too late is nobody's; the first is answered yet.
    last, first = 4 * each, each
    if isinstance(end, Peer):
        end.exchange()
        for number in (last, first):
            end.packet(sio.Packet(sio.ACK, ["answer"], id=number), urgent=True)
    else:
        for number in (last, first):
            end.handler(f'3{number}["answer"]')
        place.runtime.run()
    assert answers == ["answer"]
    assert list(callbacks) == [0]
    assert place.runtime.errors == []


@pytest.mark.parametrize("how", ["client", "server", "inactive"])
def test_a_request_fails_when_the_session_ends(place: Place, how: str) -> None:
    client, peer = place.peer()
    answers = place.task(lambda: client.request("ask", timeout=1000))
    peer.exchange()
    if how == "client":
        peer.machine.close(1000, "", place.runtime.now())
        peer.settle()
    elif how == "server":
        client.close()
        peer.settle()
    else:
        peer.detach()
        place.runtime.advance(130)
    assert failure(answers) == "the session ended"


def test_a_request_survives_a_reconnection(place: Place) -> None:
    client, peer = place.peer()
    answers = place.task(lambda: client.request("ask"))
    peer.detach()
    place.runtime.advance(30)
    peer.open()
    peer.packet(sio.Packet(sio.ACK, ["late"], id=1), urgent=True)
    assert answers == ["late"]


@pytest.mark.parametrize("kind", ["ours", "stock"])
def test_a_request_fails_behind_the_end_as_it_does_before(place: Place, kind: str) -> None:
    """A task that asks again and again is told the same, whenever the session ends."""
    if kind == "ours":
        client, peer = place.peer()
        client.close()
        peer.settle()
    else:
        client, sock = place.stock()
        sock.handler("1")
    with pytest.raises(RequestFailed, match="the session ended"):
        client.request("ask")


def test_in_another_thread_nobody_is_asked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for what the thread that serves never wakes it for."""
    client, peer = place.peer()
    monkeypatch.setattr(type(place.runtime), "elsewhere", True)
    with pytest.raises(RuntimeError, match=r"in async mode .* waits in the thread that serves"):
        client.request("ask")
    monkeypatch.setattr(type(place.runtime), "elsewhere", False)
    peer.exchange()
    assert peer.events == []


def test_asking_in_the_first_and_last_handler_is_refused(place: Place) -> None:
    refused: list[str] = []

    def ask(client: Session, *_: Any) -> None:
        with pytest.raises(RuntimeError, match="in on_connect it cannot answer yet") as caught:
            client.request("ask")
        refused.append(str(caught.value))

    place = Place()
    place.server.handlers["/"].clear()
    place.transport._registrations.clear()
    place.transport.on_connect(lambda client: place._connected(client) or ask(client))  # type: ignore[func-returns-value]
    place.transport.on_disconnect(ask)
    _, peer = place.peer()
    peer.machine.close(1000, "", place.runtime.now())
    peer.settle()
    assert len(refused) == 2


def test_a_request_that_cannot_be_sent_leaves_nothing(place: Place) -> None:
    client, _ = place.peer()
    with pytest.raises(TypeError):
        client.request("ask", {1, 2})
    conversation = place.engine.conversation(client.id)
    assert conversation is not None
    assert conversation._on_over == set()


# -- closing --------------------------------------------------------------------------


def test_close_comes_behind_all_that_was_sent(place: Place) -> None:
    client, peer = place.peer()
    client.emit("last")
    client.close(4005, "enough")
    client.emit("too late")
    peer.settle()
    assert peer.events == [["last"]]
    assert peer.closed == (4005, "enough")
    assert place.ends == [(client, 4005, "enough")]


def test_the_clients_close_is_told_though_a_handler_outlasts_its_patience(place: Place) -> None:
    place.transport.on_message("slow")(lambda client, data: place.runtime.sleep(200))
    client, peer = place.peer()
    peer.emit("slow")
    peer.machine.close(4000, "bye", place.runtime.now())
    peer.exchange()
    assert client.closure == (4000, "bye")
    peer.detach()
    place.runtime.advance(130)
    assert (place.engine.conversation(client.id).machine.closure[0], place.ends) == (4408, [])
    place.runtime.advance(100)
    assert place.ends == [(client, 4000, "bye")]
    assert client.closure == (4000, "bye")


def test_a_stock_client_is_disconnected(place: Place) -> None:
    client, sock = place.stock()
    client.close(4005, "enough")
    assert sock.sent == ["1"]
    assert place.ends == [(client, 1000, "server disconnect")]


@pytest.mark.parametrize("kind", ["peer", "stock"])
@pytest.mark.parametrize(("code", "reason"), [(1, ""), (1006, ""), (1000, "x" * 124)])
def test_an_impossible_close_is_refused(place: Place, kind: str, code: int, reason: str) -> None:
    client, _ = place.peer() if kind == "peer" else place.stock()
    with pytest.raises(ValueError, match=r"close code|123"):
        client.close(code, reason)
    assert client.connected
    assert place.ends == []


@pytest.mark.parametrize("code", ["bye", 4001.0])
def test_a_close_is_by_a_number(place: Place, code: Any) -> None:
    """Written as `4001.0`, a close would be malformed each time that it is sent."""
    client, peer = place.peer()
    with pytest.raises(ValueError, match=f"and then a text: {code!r}, ''"):
        client.close(code)
    with pytest.raises(ValueError, match="and then a text: 1000, 5"):
        place.transport.disconnect(client, 1000, 5)  # type: ignore[arg-type]
    assert client.connected
    assert peer.closed is None


def test_connection_refused_is_checked_where_it_is_made() -> None:
    refused = ConnectionRefused()
    assert (refused.code, refused.reason) == (4401, "refused")
    assert str(ConnectionRefused(4001, "no")) == "(4001, 'no')"
    with pytest.raises(ValueError, match="99 is not a close code"):
        ConnectionRefused(99)
    with pytest.raises(ValueError, match="at most 123"):
        ConnectionRefused(4001, "ü" * 62)
    told = r"first the code, or ConnectionRefused\(reason='Please log in.'\)"
    with pytest.raises(TypeError, match=told):
        ConnectionRefused("Please log in.")  # type: ignore[arg-type]


# -- clients of a server whose own handlers took them -----------------------------------


@pytest.mark.parametrize("auth", [None, {"token": 1}])
@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_a_client_that_no_handler_of_ours_connected_has_a_session(
    own: bool, asks: bool, auth: Any, place: Place
) -> None:
    del place.server.handlers["/"]["connect"]
    if own:
        place.server.on("connect", lambda sid, environ, auth=None: None)
    seen: list[Session] = []
    place.transport.on_message(lambda client, data: seen.append(client))
    assert isinstance(place.app.wsgi_app, Gateway)
    environ = EnvironBuilder("/fallback/poll").get_environ()
    peer = Peer(place.app.wsgi_app.registry, place.runtime, environ, nonce=None)
    peer.connect(auth)
    for number in (1, 2):
        # Which is taken in another way.
        peer.emit("message", number, id=number if asks else None)
    assert seen[0] is seen[1]
    assert (seen[0].id, seen[0].auth, seen[0].reliable) == (peer.id, auth, True)


def test_the_servers_own_user_session_is_another(place: Place) -> None:
    client, _ = place.peer()
    client.data["a"] = 1
    place.server.save_session(client.id, {"b": 2})
    assert place.server.get_session(client.id) == {"b": 2}
    assert client.data == {"a": 1}
