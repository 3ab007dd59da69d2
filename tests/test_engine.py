"""`Engine`: a session as python-socketio sees it. No sockets; the other half is `Peer`."""

from __future__ import annotations

import contextvars
import gc
import json
import math
import sys
import threading
from functools import partial
from types import FrameType
from typing import Any

import pytest
import socketio
from socketio import packet as sio

from fallback_transport.emission import only_latest
from fallback_transport.engine import Engine, server_at_work
from fallback_transport.engine_client import EngineClient
from fallback_transport.failures import RequestFailed
from fallback_transport.packets import Packet
from fallback_transport.protocol.codes import CloseCode
from fallback_transport.protocol.envelope import End, Envelope, Grant
from fallback_transport.protocol.errors import MessageRefused
from fallback_transport.protocol.message import Message
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.registry import Capacity, Registry
from fallback_transport.runtime import Runtime
from fallback_transport.runtime.batch import MAX_ITEMS
from tests.fakes import FakeRuntime, Peer
from tests.place import StockSocket


class House:
    """A server with our engine, and a registry over it."""

    def __init__(
        self,
        grant: Grant | None = None,
        bounds: Bounds | None = None,
        patience: float | None = None,
        turns: bool = False,
        **options: Any,
    ) -> None:
        self.server = socketio.Server(async_mode="threading", **options)
        self.runtime = FakeRuntime(turns=turns)
        self.engine = Engine(self.server, self.runtime)
        self.registry = Registry(
            self.runtime,
            partial(EngineClient, self.engine),
            grant=grant or Grant(),
            bounds=bounds or Bounds(),
            capacity=Capacity(),
            patience=patience,
        )
        if patience is not None:
            self.engine.let_emit_wait(patience)
        self.seen: list[Any] = []
        self.server.on("connect", self.noting("connect"))
        self.server.on("disconnect", self.noting("disconnect"))

    def noting(self, name: str) -> Any:
        return lambda *args: self.seen.append((name, *args))

    def peer(self, **options: Any) -> Peer:
        return Peer(self.registry, self.runtime, **{"nonce": None, **options})

    def connected(self, auth: Any = None, namespace: str = "/") -> Peer:
        peer = self.peer()
        peer.connect(auth, namespace)
        assert peer.packets == [[sio.CONNECT, None, {"sid": peer.id}]]
        peer.texts.clear()
        return peer

    @property
    def leftovers(self) -> list[Any]:
        """What is kept of clients; nothing should be when they are gone."""
        manager = self.server.manager
        kept: list[Any] = [manager.rooms, manager.callbacks, manager.pending_connect]
        kept += [manager.pending_disconnect, self.server.environ, self.server._binary_packet]
        kept += [self.engine._conversations, self.engine._partial, self.registry.all()]
        return [each for each in kept if each]


both = pytest.mark.parametrize("turns", [False, True], ids=["at once", "in turns"])


@pytest.fixture(params=[False, True], ids=["at once", "in turns"])
def house(request: Any) -> House:
    return House(turns=request.param)


# -- connecting ---------------------------------------------------------------------


def test_a_session_is_a_client_of_the_server(house: House) -> None:
    peer = house.peer(environ={"REMOTE_ADDR": "here"})
    peer.connect({"token": 1})
    assert house.seen == [("connect", peer.id, {"REMOTE_ADDR": "here"}, {"token": 1})]
    assert peer.texts == [f'0{{"sid":"{peer.id}"}}']
    assert house.server.manager.is_connected(peer.id, "/")
    assert house.server.get_environ(peer.id) == {"REMOTE_ADDR": "here"}
    assert house.server.transport(peer.id) == "websocket"
    assert house.server.rooms(peer.id) == [peer.id]


def test_the_id_is_the_same_in_a_namespace(house: House) -> None:
    house.server.on("connect", house.noting("connect"), namespace="/admin")
    peer = house.peer()
    peer.connect(namespace="/admin")
    assert peer.texts == [f'0/admin,{{"sid":"{peer.id}"}}']
    assert house.server.manager.is_connected(peer.id, "/admin")


def test_ids_that_a_connect_handler_makes_are_others(house: House) -> None:
    made: list[str] = []
    house.server.on("connect", lambda *args: made.append(house.server.eio.generate_id()))
    peer = house.connected()
    assert made
    assert made != [peer.id]


@pytest.mark.parametrize("always_connect", [False, True])
@pytest.mark.parametrize(
    ("args", "closed"),
    [
        ((), (4401, "Connection rejected by server")),
        (("go away",), (4401, "go away")),
        (("full", {"code": 4005}), (4005, "full")),
        (("full", {"code": 4005, "reason": "full"}), (4005, "full")),
        (("full", {"code": 7}), (4401, "full")),
        (("full", {"code": "4005"}), (4401, "full")),
        (("full", [1], {}), (4401, "full")),
        (("full", 5), (4401, "full")),
        (("{", {"code": 4005}), (4005, "{")),
        (("ü" * 100,), (4401, "ü" * 61)),
    ],
)
def test_a_refusal_closes_the_session(
    args: tuple[Any, ...], closed: tuple[int, str], always_connect: bool
) -> None:
    house = House(always_connect=always_connect)

    def refuse(*_: Any) -> None:
        raise socketio.exceptions.ConnectionRefusedError(*args)

    house.server.on("connect", refuse)
    peer = house.peer()
    peer.connect()
    kinds = [kind for kind, _, _ in peer.packets]
    assert kinds == ([sio.CONNECT, sio.DISCONNECT] if always_connect else [sio.CONNECT_ERROR])
    peer.settle()
    assert peer.closed == closed
    assert house.seen == []
    assert house.leftovers == []


def test_an_unknown_namespace_is_refused(house: House) -> None:
    peer = house.peer()
    peer.connect(namespace="/un{known")
    assert peer.texts == ['4/un{known,"Unable to connect"']
    peer.settle()
    assert peer.closed == (4401, "Unable to connect")
    assert house.runtime.errors == []
    assert house.leftovers == []


def test_a_connect_handler_that_raises_ends_the_session(house: House) -> None:
    def crash(*_: Any) -> None:
        raise RuntimeError("a defect of the application")

    house.server.on("connect", crash)
    peer = house.peer()
    peer.connect()
    peer.settle()
    assert peer.packets == []
    assert peer.closed == (CloseCode.INTERNAL_ERROR, "the connect handler raised")
    assert house.leftovers == []


def test_a_session_closed_in_its_connect_handler_is_told_so(house: House) -> None:
    house.server.on("connect", lambda sid, *_: house.engine.conversation(sid).close(4001, "no"))
    peer = house.peer()
    peer.connect()
    peer.settle()
    assert peer.closed == (4001, "no")
    assert [name for name, *_ in house.seen] == ["disconnect"]
    assert house.leftovers == []


# -- events in ------------------------------------------------------------------------


@pytest.mark.parametrize("async_handlers", [True, False])
def test_handlers_run_in_order_one_at_a_time(async_handlers: bool) -> None:
    house = House(async_handlers=async_handlers)
    log: list[Any] = []

    def slow(sid: str, number: int) -> None:
        log.append(("begin", number))
        house.runtime.sleep(1)
        log.append(("end", number))

    house.server.on("slow", slow)
    peer, other = house.connected(), house.connected()
    for number in range(3):
        peer.emit("slow", number)
    other.emit("slow", "other")
    house.runtime.advance(5)
    assert [entry for entry in log if entry[1] != "other"] == [
        (what, number) for number in range(3) for what in ("begin", "end")
    ]
    # Sessions do not wait for each other.
    assert log[1] == ("begin", "other")


def test_an_event_with_an_id_is_answered(house: House) -> None:
    house.server.on("echo", lambda sid, *args: args)
    house.server.on("one", lambda sid, *args: {"a": b"bytes", "b": [b"more"]})
    house.server.on("none", lambda sid, *args: None)
    peer = house.connected()
    peer.emit("echo", 1, "two", id=1)
    peer.emit("one", id=2)
    peer.emit("none", id=30)
    assert peer.replies == {1: [1, "two"], 2: [{"a": b"bytes", "b": [b"more"]}], 30: []}


def test_an_event_with_attachments_arrives_whole(house: House) -> None:
    got: list[Any] = []
    house.server.on("file", lambda sid, data: got.append(data) or [data])
    peer = house.connected()
    data = {"name": "x", "parts": [b"one", b"", {"deep": b"\x00\x1e\xff"}]}
    peer.emit("file", data, id=1)
    assert got == [data]
    assert peer.replies == {1: [[data]]}


@pytest.mark.parametrize("more", [0, 1])
def test_one_event_may_have_as_many_attachments_as_messages_are_granted(more: int) -> None:
    house = House(grant=Grant(messages=3))
    got: list[Any] = []
    wait = house.runtime.event()
    house.server.on("file", lambda sid, *parts: got.append(parts) or wait.wait(5))
    peer = house.connected()
    peer.settle()
    peer.packet(sio.Packet(sio.EVENT, ["file", b"1", b"2", b"3"]))
    assert got == [(b"1", b"2", b"3")]
    # A new connection, while its handler runs; and no more than the event.
    peer.detach()
    peer.open()
    assert peer.end_seen is None
    for _ in range(more):
        peer.conversation.receive(
            peer._attempt, Envelope(1, 1, peer.machine.outbox.last + 1, (Message('2["file"]'),))
        )
    assert (peer.end_seen and peer.end_seen.code) == (CloseCode.TOO_MANY if more else None)
    wait.set()
    house.runtime.run()
    if not more:
        peer.settle()
        for number in range(9):
            peer.emit("file", number)
        assert len(got) == 10


def test_a_handler_is_watched_under_the_beginning_of_its_name(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = house.connected()
    names: list[str] = []
    monkeypatch.setattr(house.runtime, "call_handler", lambda name, *call: names.append(name))
    for number in (None, 1):
        peer.packet(sio.Packet(sio.EVENT, ["short"], id=number))
        peer.packet(sio.Packet(sio.EVENT, ["n" * 5000], id=number))
    assert names == ["'short'", "'" + "n" * 99] * 2


def test_an_event_is_handed_on_by_few(house: House) -> None:
    """Each that only hands on what a handler is called with costs a hundredth of an echo."""
    ours: list[str] = []

    def handler(*_: Any) -> None:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_name != "_run":
            if "fallback_transport" in frame.f_globals["__name__"]:
                ours.append(frame.f_code.co_name)
            frame = frame.f_back

    house.server.on("event", handler)
    house.connected().emit("event")
    # What watches it, the engine in front of python-socketio, and the client.
    assert len(ours) <= 3, ours


def test_a_handler_that_raises_answers_with_an_error(house: House) -> None:
    def crash(*_: Any) -> None:
        raise RuntimeError("secret")

    house.server.on("crash", crash)
    house.server.on("crash", crash, namespace="/admin")
    house.server.on("echo", lambda sid, data: data)
    peer = house.connected()
    peer.emit("crash", id=7)
    peer.emit("echo", 1, id=8)
    assert peer.texts == ['77{"code": 1011, "message": "the handler raised"}', "38[1]"]
    admin = house.connected(namespace="/admin")
    admin.emit("crash", id=7, namespace="/admin")
    assert admin.texts == ['7/admin,7{"code": 1011, "message": "the handler raised"}']
    assert not house.engine.unanswered


def test_an_answer_that_cannot_be_sent_is_an_error(house: House) -> None:
    house.server.on("set", lambda *_: {1, 2})
    house.server.on("large", lambda *_: "x" * 16_000_001)
    peer = house.connected()
    peer.emit("set", id=1)
    peer.emit("large", id=2)
    assert [text[:2] for text in peer.texts] == ["71", "72"]


def test_an_event_that_nobody_handles_is_answered_with_an_error(house: House) -> None:
    house.server.on("known", lambda sid: 1, namespace="/chat")
    peer, chatter = house.connected(), house.connected(namespace="/chat")
    peer.emit("unknown", id=1)
    peer.emit("unknown")
    chatter.emit("unknown", id=1, namespace="/chat")
    chatter.emit("known", id=2, namespace="/chat")
    assert peer.texts == ['71{"code": 4404, "message": "no handler takes this event"}']
    error = '7/chat,1{"code": 4404, "message": "no handler takes this event"}'
    assert chatter.texts == [error, "3/chat,2[1]"]


def test_the_log_names_an_event_that_no_handler_takes_once(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.server.on("known", lambda sid: 1)
    house.server.on("*", lambda event, sid: None, namespace="/any")
    house.server.register_namespace(socketio.Namespace("/chat"))
    plain, any_event = house.connected(), house.connected(namespace="/any")
    chatter = house.connected(namespace="/chat")
    for peer, namespace in ((any_event, "/any"), (chatter, "/chat")):
        peer.emit("unknown", namespace=namespace)
        peer.emit("unknown", id=1, namespace=namespace)
    plain.emit("known")
    plain.emit("unknown", namespace="/elsewhere")
    assert caplog.messages == []
    for id in (None, None, 1):
        plain.emit("knwon", id=id)
    plain.emit("asked", id=2)
    for number in range(100):
        plain.emit(f"{number} {'x' * 1000}")
    assert len(caplog.messages) == 20
    assert caplog.messages[:2] == [
        "a page sent 'knwon': no handler of '/' takes it",
        "a page sent 'asked': no handler of '/' takes it",
    ]
    assert max(map(len, caplog.messages)) < 200


def test_a_page_forges_no_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Neither by the event's name nor by the namespace's, where it may choose that."""
    house = House(namespaces="*")
    namespace = "/any\nCRITICAL forged"
    house.connected(namespace=namespace).emit("\nCRITICAL, too", namespace=namespace)
    [told] = caplog.messages
    assert told.startswith("a page sent ")
    assert "\n" not in told


def test_a_namespace_class_answers_what_it_does_not_handle(house: House) -> None:
    """python-socketio's own way, and its clients'."""
    house.server.register_namespace(socketio.Namespace("/chat"))
    peer = house.connected(namespace="/chat")
    peer.emit("unknown", id=1, namespace="/chat")
    assert peer.texts == ["3/chat,1[]"]


class Timeout(BaseException):
    """As eventlet's and gevent's: no `Exception`."""


@pytest.mark.parametrize("error", [Timeout, SystemExit, KeyboardInterrupt])
def test_no_error_of_a_handler_stops_a_session(house: House, error: type[BaseException]) -> None:
    def crash(*_: Any) -> None:
        raise error

    house.server.on("crash", crash)
    house.server.on("echo", lambda sid, data: data)
    peer = house.connected()
    peer.send('21["crash"]', '22["echo",2]')
    if error is Timeout:
        peer.exchange()
    else:
        # That one is the process's to answer; but in a thread it ends just this task.
        with pytest.raises(error):
            peer.exchange()
        peer.exchange()
    assert peer.texts == ['71{"code": 1011, "message": "the handler raised"}', "32[2]"]
    peer.settle()
    assert len(peer.machine.outbox) == 0


@pytest.mark.parametrize("packets", [sio.Packet, Packet])
@pytest.mark.parametrize("patience", [None, 1.0])
def test_what_no_page_could_read_reaches_it_as_null(packets: Any, patience: float | None) -> None:
    """The stock class writes NaN as such: each page that was sent it ended its session."""
    house = House(serializer=packets, patience=patience)
    odd = [-math.inf, "NaN", ",NaN", '"\\:Infinity', 1]
    values = (math.nan, {"a": odd}, {"NaN": math.inf})
    house.server.on("ask", lambda sid: values)
    peer, other = house.connected(), house.connected()
    house.server.emit("news", values)
    house.server.emit("news", (*values, b"x"))
    house.server.emit("news", values, to=peer.id, callback=lambda *data: None)
    peer.packet(sio.Packet(sio.EVENT, ["ask"], id=7))
    peer.settle()
    other.settle()
    found = [json.loads(text[text.index("[") :]) for text in peer.texts if isinstance(text, str)]
    read = [None, {"a": [None, *odd[1:]]}, {"NaN": None}]
    news, place = ["news", *read], {"_placeholder": True, "num": 0}
    assert found == [news, [*news, place], news, read]
    assert len(other.texts) == 3
    assert house.runtime.errors == []


@pytest.mark.parametrize("packets", [sio.Packet, Packet])
@pytest.mark.parametrize("number", [0, 7, "x"])
def test_what_a_page_would_take_for_bytes_is_not_sent_beside_bytes(
    packets: Any, number: Any
) -> None:
    """It would find other bytes there, or none, and end its session."""
    house = House(serializer=packets)
    odd = {"deep": [{"_placeholder": True, "num": number}]}
    house.server.on("ask", lambda sid: [odd, b"x"])
    peer, other = house.connected(), house.connected()
    asked: dict[str, Any] = {"to": peer.id, "callback": print}
    for more in ({}, asked):
        with pytest.raises(ValueError, match="_placeholder"):
            house.server.emit("news", [b"x", odd], **more)
    assert peer.texts == other.texts == []
    house.server.emit("news", [odd, '"_placeholder":'])
    house.server.emit("news", b"x")
    peer.packet(sio.Packet(sio.EVENT, ["ask"], id=7))
    peer.settle()
    other.settle()
    assert [text[:2] for text in peer.texts if isinstance(text, str)] == ["2[", "51", "77"]
    assert other.texts == peer.texts[:-1]


@pytest.mark.parametrize(
    "texts",
    [
        ["nonsense"],
        ["9"],
        ["4{}"],
        ["0"],
        ["0[1]"],
        ["2"],
        ["2{}"],
        ["2[]"],
        ["2[1]"],
        ['2["connect"]'],
        ['2["disconnect"]'],
        ["31{}"],
        ["3[1]"],
        ["30[1]"],
        ["30{}"],
        ["60-0[]"],
        ["7"],
        ["7{}"],
        ["70{}"],
        ["71[]"],
        ["7" + "[" * 100_000],
        ['2["a",' + "[" * 100_000],
        # What is JSON to Python, and to no browser; or too deep, as a plain event and as any other.
        ['2["a",NaN]'],
        ['21["a",1e999]'],
        ['2["a",' + "[" * 101 + "]" * 101 + "]"],
        ['21["a",' + "[" * 101 + "]" * 101 + "]"],
        ['2/a{,["a"]'.replace("{", "a" * 300)],
        ['51-["a",{"_placeholder":true,"num":5}]', b""],
        ['51-["a",{"_placeholder":true,"num":"x"}]', b""],
        ['51-["a",{"_placeholder":true,"num":0}]', '2["a"]'],
        ['51-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]', b"twice"],
        ['61-1[[{"_placeholder":true,"num":0}],{"_placeholder":true,"num":0}]', b"twice"],
        ['59999999-["a"]'],
        ['599999999999-["a"]'],
        [b"alone"],
    ],
)
def test_a_malformed_packet_ends_the_session(house: House, texts: list[str | bytes]) -> None:
    # Our packet class reads a plain event by itself.
    for each in (house, House(turns=house.runtime.has_turns, serializer=Packet)):
        each.server.on("a", lambda *args: None)
        peer = each.connected()
        peer.send(*texts)
        peer.settle()
        assert peer.closed is not None
        assert peer.closed[0] == CloseCode.MALFORMED
        assert each.runtime.errors == []
        assert each.leftovers == []


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        *((text, "a packet before CONNECT") for text in ('2["e"]', '21["e"]', "31[]", "71{}", "1")),
        *(
            (text, "what a page gives as auth must be an object")
            for text in ("0[1]", '0"a"', "0true")
        ),
    ],
)
def test_what_begins_with_another_packet_is_no_session(
    house: House, packet: str, reason: str
) -> None:
    # Without a nonce it would not be in the hello.
    peer = house.peer(nonce="once")
    end = peer.open(packet)
    assert isinstance(end, End)
    assert end.code == CloseCode.MALFORMED
    assert end.reason.startswith(reason)
    house.runtime.run()
    assert house.seen == []
    assert house.leftovers == []


def test_a_packet_of_another_namespace_reaches_no_handler(house: House) -> None:
    house.server.on("connect", house.noting("connect"), namespace="/other")
    house.server.on("a", house.noting("a"), namespace="/other")
    peer, other = house.connected(), house.connected(namespace="/other")
    peer.emit("a", namespace="/other")
    assert "a" not in [name for name, *_ in house.seen]
    other.emit("a", namespace="/other")
    assert house.seen[-1] == ("a", other.id)


# -- events out -----------------------------------------------------------------------


def test_emit_reaches_rooms_sessions_and_everybody(house: House) -> None:
    one, two, three = house.connected(), house.connected(), house.connected()
    house.server.enter_room(one.id, "room")
    house.server.enter_room(two.id, "room")
    house.server.emit("all", 1)
    house.server.emit("room", [2], to="room")
    house.server.emit("others", (3, 3), to="room", skip_sid=one.id)
    house.server.emit("one", None, to=three.id)
    for peer in (one, two, three):
        peer.exchange()
    assert one.events == [["all", 1], ["room", [2]]]
    assert two.events == [["all", 1], ["room", [2]], ["others", 3, 3]]
    assert three.events == [["all", 1], ["one"]]


@pytest.mark.parametrize("data", [None, 1, (), (1, [2]), [3], {"a": b"bytes"}, (b"one", b"two")])
@pytest.mark.parametrize("place", [{}, {"to": "room"}, {"room": "room"}, {"to": ["room", "empty"]}])
@pytest.mark.parametrize("skipped", [None, 0, [0, 1]])
def test_an_emit_does_what_that_of_the_stock_manager_does(
    house: House, data: Any, place: dict[str, Any], skipped: Any
) -> None:
    peers = [house.connected() for _ in range(3)]
    for peer in peers[:2]:
        house.server.enter_room(peer.id, "room")
    skip = [peers[n].id for n in skipped] if isinstance(skipped, list) else skipped
    skip = peers[0].id if skip == 0 else skip
    manager = house.server.manager
    heard = []
    for emit in (manager.emit, partial(socketio.Manager.emit, manager)):
        counts = [len(peer.events) for peer in peers]
        emit("news", data, "/", skip_sid=skip, **place)
        emit("news", data, "/none", skip_sid=skip, **place)
        for peer in peers:
            peer.exchange()
        heard.append([peer.events[count:] for peer, count in zip(peers, counts, strict=True)])
    assert heard[0] == heard[1]
    assert any(heard[0]) or (skip and place)


def test_a_broadcast_encodes_once(house: House) -> None:
    peers = [house.connected() for _ in range(5)]
    outboxes = [house.engine.conversation(peer.id).machine.outbox for peer in peers]
    before = [outbox.last for outbox in outboxes]
    house.server.emit("news", {"a": b"one", "b": b"two"})
    house.runtime.run()
    # A message is encoded where it is sent first, and is the same for all.
    assert [outbox.last for outbox in outboxes] == [last + 3 for last in before]
    sent = [outbox.unconfirmed()[-3:] for outbox in outboxes]
    for entries in sent[1:]:
        assert all(one is other for one, other in zip(entries, sent[0], strict=True))
    for peer in peers:
        peer.exchange()
        assert peer.events == [["news", {"a": b"one", "b": b"two"}]]


def test_a_broadcast_is_not_kept_when_all_have_it(house: House) -> None:
    peer = house.connected()
    house.server.emit("news", "x" * 100_000)
    outbox = house.engine.conversation(peer.id).machine.outbox
    message = outbox.unconfirmed()[-1]
    only_here = sys.getrefcount(object()) + 1
    assert sys.getrefcount(message) > only_here
    peer.settle()
    assert peer.events == [["news", "x" * 100_000]]
    gc.collect()
    assert sys.getrefcount(message) == only_here


def test_a_bytearray_is_sent_as_it_is_now(house: House) -> None:
    peer = house.connected()
    data = bytearray(b"\xff now")
    house.server.emit("bytes", data)
    house.server.emit("ask", data, to=peer.id, callback=print)
    data[:] = b"later"
    peer.exchange()
    assert peer.events == [["bytes", b"\xff now"], ["ask", b"\xff now"]]


def test_parts_of_two_packets_do_not_mix(house: House) -> None:
    peer = house.connected()
    encoded = sio.Packet(sio.EVENT, ["one", b"1", b"2"]).encode()
    house.engine.send(peer.id, encoded[0])
    house.engine.send(peer.id, encoded[1])
    assert house.engine.conversation(peer.id).machine.outbox.last == 1
    house.engine.send(peer.id, encoded[2])
    peer.exchange()
    assert peer.events == [["one", b"1", b"2"]]
    assert house.engine._partial == {}


@both
def test_a_message_that_is_too_large_is_refused_at_the_call(turns: bool) -> None:
    house = House(grant=Grant(message=1000), bounds=Bounds(message=1000), turns=turns)
    peer = house.connected()
    with pytest.raises(MessageRefused, match="1000"):
        house.server.emit("large", "x" * 1000, to=peer.id)
    with pytest.raises(MessageRefused, match="1000"):
        house.server.emit("large", [b"small", b"x" * 1001], to=peer.id)
    house.server.emit("small", [b"ok"], to=peer.id)
    peer.exchange()
    assert peer.events == [["small", [b"ok"]]]
    assert house.engine._partial == {}


@both
def test_an_outbox_over_its_bounds_ends_the_session_with_its_count(turns: bool) -> None:
    house = House(bounds=Bounds(messages=10), turns=turns)
    peer, other = house.connected(), house.connected()
    for each in (peer, other):
        each.settle()
    peer.detach()
    for number in range(12):
        house.server.emit("number", number, to=[peer.id, other.id] if number < 3 else peer.id)
    house.runtime.run()
    assert [name for name, *_ in house.seen] == ["connect", "connect", "disconnect"]
    end = house.registry.resume(peer.id, peer.machine.key or "")
    assert isinstance(end, End)
    assert (end.code, end.reason[:12]) == (CloseCode.TOO_MANY, "10 messages,")
    # What the other was sent with it is not touched by that.
    other.exchange()
    assert other.events == [["number", number] for number in range(3)]


def test_what_several_are_sent_keeps_its_place_among_the_rest(house: House) -> None:
    one, two = house.connected(), house.connected()
    emit = house.server.emit
    house.server.enter_room(one.id, "room")
    emit("to", 1)
    emit("to", 2, to=one.id)
    emit("to", 3)
    emit("to", 4, room="room")
    emit("to", 5, skip_sid=one.id)
    emit("to", (6, b"with an attachment"))
    emit("to", "7" * 20_000)
    with only_latest("a key"):
        emit("to", 8)
    emit("to", 9)
    with only_latest("a key"):
        emit("to", 10)
    emit("to", 11, to=one.id, callback=lambda: None)
    emit("to", 12)
    house.server.disconnect(two.id)
    emit("to", 13)
    for peer in (one, two):
        peer.exchange()
    expected = {
        one: [1, 2, 3, 4, 6, "7" * 20_000, 10, 9, 11, 12, 13],
        two: [1, 3, 5, 6, "7" * 20_000, 10, 9, 12],
    }
    for peer, values in expected.items():
        assert [value for _, value, *_ in peer.events] == values
    assert two.closed == (CloseCode.NORMAL, "disconnected by the server")


def test_one_that_confirms_what_it_was_not_sent_yet_is_in_nobodys_way(house: House) -> None:
    """What replaces that was put in the place of another message, or raised in the `emit`."""
    liar, other = house.connected(), house.connected()
    for number in (1, 2):
        with only_latest("a key"):
            house.server.emit("to", number)
        house.runtime.run()
        last = liar.conversation.machine.outbox.last
        liar.conversation.receive(1, Envelope(last, last))
    other.exchange()
    assert other.events == [["to", 2]]
    assert liar.conversation.open


@pytest.mark.parametrize("end", ["close", "refuse", "retire", "abort"])
def test_what_all_are_sent_is_before_the_end_of_one(house: House, end: str) -> None:
    peer, other = house.connected(), house.connected()
    conversation = house.engine.conversation(peer.id)
    assert conversation is not None
    house.server.emit("last")
    getattr(conversation, end)(4000, "bye")
    assert Message('2["last"]') in conversation.machine.outbox.unconfirmed()
    for each in (peer, other):
        each.exchange()
    assert peer.events == ([] if end == "abort" else [["last"]])
    assert other.events == [["last"]]


def test_who_is_in_a_room_is_for_the_manager_to_say(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = house.connected(), house.connected()
    house.server.enter_room(one.id, "room")
    house.server.enter_room(one.id, "other")
    house.server.enter_room(two.id, "other")
    manager, recipients = house.server.manager, house.engine._recipients
    for room in (None, "room", "other", "none", one.id, ["room", "other"]):
        for skipped in ([None], [one.id], [one.id, two.id]):
            asked = manager.get_participants("/", room)
            expected = [engine_id for sid, engine_id in asked if sid not in skipped]
            assert recipients("/", room, skipped) == expected
            if len(skipped) == 1:
                assert recipients("/", room, skipped[0]) == expected
    # Its last client may leave meanwhile.
    assert recipients("/none", None, None) == []
    for owner in (type(manager), manager):
        with monkeypatch.context() as patch:
            patch.setattr(owner, "get_participants", lambda *args: iter([("a", "b")]))
            assert recipients("/", None, None) == ["b"]


def test_a_bound_on_bytes_holds_for_a_burst(house: House) -> None:
    bounded = House(bounds=Bounds(bytes=3000), turns=house.runtime.has_turns)
    peer = bounded.connected()
    peer.settle()
    for _ in range(40):
        bounded.server.emit("text", "x" * 1000)
    bounded.runtime.run()
    end = bounded.registry.resume(peer.id, peer.machine.key or "")
    assert isinstance(end, End)
    assert (end.code, end.reason[:11]) == (CloseCode.TOO_MANY, "2 messages,")


def test_one_envelope_has_what_one_and_all_are_sent_in_a_turn(house: House) -> None:
    peer = house.connected()
    house.connected()
    peer.settle()
    conversation = house.engine.conversation(peer.id)
    assert conversation is not None
    house.server.emit("first", to=peer.id)
    house.server.emit("second")
    house.runtime.run()
    envelope = conversation.pull(peer._attempt)
    assert envelope is not None
    assert [message.data for message in envelope.messages] == ['2["first"]', '2["second"]']


def test_a_burst_reaches_everybody_whole_and_in_order(house: House) -> None:
    peers = [house.connected() for _ in range(3)]
    for number in range(3 * MAX_ITEMS + 7):
        house.server.emit("number", number)
    for peer in peers:
        peer.exchange()
        assert peer.events == [["number", number] for number in range(3 * MAX_ITEMS + 7)]


# -- waiting for room -----------------------------------------------------------------


@pytest.fixture
def patient() -> House:
    """A server whose sessions have room for two messages, and 10 s of patience."""
    return House(bounds=Bounds(messages=2), patience=10.0)


def slow(house: House, namespace: str = "/") -> Peer:
    """A client that confirms nothing from now on."""
    peer = house.connected(namespace=namespace)
    peer.settle()
    peer.handle = False
    return peer


def confirm(peer: Peer) -> None:
    """All that came to a client is handled, and all that follows comes, too."""
    peer.handle = True
    for seq in range(peer.machine.inbox.handled + 1, peer.machine.inbox.received + 1):
        peer.machine.handled(seq, peer._runtime.now())
    for _ in range(10):
        peer.settle()


def test_emit_waits_for_room_with_bytes_and_in_order(patient: House) -> None:
    peer = slow(patient)
    emitted: list[int] = []

    def run() -> None:
        for number in range(5):
            patient.server.emit("news", [number, b"\x00"], to=peer.id)
            emitted.append(number)

    patient.runtime.spawn(run)
    peer.exchange()
    assert emitted == [0]
    confirm(peer)
    assert emitted == list(range(5))
    assert peer.events == [["news", [number, b"\x00"]] for number in range(5)]
    assert peer.closed is None


def test_all_that_emit_wait(patient: House) -> None:
    """What python-socketio offers to send with ends in the server's `emit`."""
    patient.server.on("connect", lambda *args: None, namespace="/news")
    patient.server.register_namespace(namespace := socketio.Namespace("/news"))
    peer = slow(patient, "/news")
    done: list[str] = []

    def run() -> None:
        for number in range(2):
            patient.server.emit("news", number, namespace="/news")
        done.append("full")
        namespace.emit("news", 2)
        patient.server.send("3", namespace="/news")
        patient.server.call("4", to=peer.id, namespace="/news", timeout=0.1, ignore_queue=True)

    patient.runtime.spawn(run)
    peer.exchange()
    assert done == ["full"]
    confirm(peer)
    assert [event[0] for event in peer.events] == ["news", "news", "news", "message", "4"]
    assert peer.closed is None
    # Nobody has answered the call.
    assert [type(error).__name__ for error in patient.runtime.errors] == ["TimeoutError"]


def test_replies_wait_as_well(patient: House) -> None:
    patient.server.on("ask", lambda sid, data: data)
    patient.server.on("fail", lambda sid: 1 / 0)
    peer = slow(patient)
    for number in range(1, 4):
        peer.emit("ask", number, id=number)
    peer.emit("fail", id=4)
    peer.emit("nobody", id=5)
    # Those of the third, which waits, and of those behind it are still to come.
    assert peer.replies == {1: [1], 2: [2]}
    confirm(peer)
    assert peer.replies == {1: [1], 2: [2], 3: [3]}
    assert [text[:2] for text in peer.texts[3:]] == ["74", "75"]
    assert peer.closed is None


def test_a_connect_handler_waits(patient: House) -> None:
    def connected(sid: str, environ: Any, auth: Any) -> None:
        for number in range(6):
            patient.server.emit("early", number, to=sid)

    patient.server.on("connect", connected)
    peer = patient.peer()
    peer.connect()
    confirm(peer)
    assert [kind for kind, _, _ in peer.packets] == [sio.EVENT] * 6 + [sio.CONNECT]
    assert peer.closed is None


def test_what_cannot_wait_closes(patient: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback of the hub."""
    peer = slow(patient)
    monkeypatch.setattr(type(patient.runtime), "can_wait", False)
    for number in range(3):
        patient.server.emit("news", number)
    assert patient.registry.find(peer.id) is None


def test_a_task_that_outlives_an_emit_does_not_wait_with_it(patient: House) -> None:
    """As on gevent, where a task begins with the context variables of its parent."""
    peer = slow(patient)
    with patient.engine.patient():
        inherited = contextvars.copy_context()
    for number in range(3):
        inherited.run(patient.server.manager.emit, "news", number, "/")
    assert patient.registry.find(peer.id) is None


def test_server_call_waits_for_the_clients_answer(house: House) -> None:
    answers: list[Any] = []
    house.engine.stock.create_event = house.runtime.event

    def ask(sid: str) -> None:
        answers.append(house.server.call("question", {"n": 1}, to=sid, timeout=5))
        with pytest.raises(socketio.exceptions.TimeoutError):
            house.server.call("question", {"n": 2}, to=sid, timeout=5)

    house.server.on("ask", ask)
    peer = house.connected()
    peer.emit("ask")
    assert peer.packets == [[sio.EVENT, 1, ["question", {"n": 1}]]]
    peer.packet(sio.Packet(sio.ACK, ["answer"], id=1), urgent=True)
    house.runtime.advance(6)
    assert answers == ["answer"]


def test_a_clients_error_reply_reaches_the_callback(house: House) -> None:
    answers: list[Any] = []
    peer = house.connected()
    house.server.emit("ask", to=peer.id, callback=lambda *args: answers.append(args))
    peer.exchange()
    peer.send('71{"code":1011,"message":"its listener raised"}')
    peer.exchange()
    ((failure,),) = answers
    assert isinstance(failure, RequestFailed)
    assert str(failure) == "its listener raised"


def test_what_a_page_says_of_its_error_is_one_line_of_the_log(house: House) -> None:
    answers: list[Any] = []
    peer = house.connected()
    house.server.emit("ask", to=peer.id, callback=answers.append)
    peer.exchange()
    said = r"né\nERROR root: forged\u001b[2J\ud800" + "n" * 5000
    peer.send(f'71{{"code":1011,"message":"{said}"}}')
    peer.exchange()
    [failure] = answers
    assert failure.args[0].startswith("né\nERROR")
    assert str(failure).startswith(r"né\nERROR root: forged\x1b[2J\ud800nnn")
    assert len(str(failure)) < 1100


@pytest.mark.parametrize(
    "reply", [["31[2]"], ['61-1[{"_placeholder":true,"num":0}]', b"2"], ["71{}"]]
)
def test_replies_overtake_events_whose_handler_waits(house: House, reply: list[Any]) -> None:
    done: list[Any] = []
    event = house.runtime.event()
    house.server.on("wait", lambda sid: done.append(event.wait(5)))
    peer = house.connected()
    house.server.emit("ask", b"x", to=peer.id, callback=lambda value: event.set())
    peer.exchange()
    peer.emit("wait")
    peer.machine.send([Message(part) for part in reply], urgent=True)
    peer.exchange()
    assert done == [True]


# -- the end --------------------------------------------------------------------------


def test_the_server_disconnects_a_session(house: House) -> None:
    peer = house.connected()
    house.server.disconnect(peer.id)
    assert house.seen[1:] == [("disconnect", peer.id, "server disconnect")]
    house.server.emit("too late", to=peer.id)
    peer.settle()
    assert peer.texts == ["1"]
    assert peer.closed == (1000, "disconnected by the server")
    assert len(house.seen) == 2
    assert house.leftovers == []


class Listening(socketio.PubSubManager):
    """A manager that hears of other processes what a test says."""

    def _publish(self, data: Any) -> None:
        pass

    def _thread(self) -> None:
        pass

    def hears(self, message: dict[str, Any]) -> None:
        self._handle_disconnect(message)


@both
@pytest.mark.parametrize("namespace", ["/", "/news"])
def test_another_process_disconnects_a_session(turns: bool, namespace: str) -> None:
    house = House(turns=turns, client_manager=Listening())
    done: list[str] = []

    def slowly(name: str) -> Any:
        return lambda *args: (house.runtime.sleep(5), done.append(name))

    for name in ("connect", "work", "disconnect"):
        handler = house.noting(name) if name == "connect" else slowly(name)
        house.server.on(name, handler, namespace=namespace)
    peer = house.connected(namespace=namespace)
    peer.packet(sio.Packet(sio.EVENT, ["work"], namespace))
    message = {"sid": peer.id, "namespace": namespace}
    other = {**message, "namespace": "/news" if namespace == "/" else "/"}
    for each in (other, message):
        house.runtime.spawn(lambda each=each: done.append(house.server.manager.hears(each)))
    house.runtime.run()
    # Who hears it waits for nothing, and hears what comes next.
    assert done == [None, None]
    peer.settle()
    house.runtime.advance(4)
    assert done == [None, None]
    house.runtime.advance(20)
    assert done == [None, None, "work", "disconnect"]
    peer.settle()
    assert peer.closed == (1000, "disconnected by the server")
    assert house.leftovers == []
    house.server.manager.hears(message)


def test_a_handler_disconnects_its_own_session(house: House) -> None:
    def leave(sid: str) -> str:
        house.server.disconnect(sid)
        return "too late"

    house.server.on("leave", leave)
    peer = house.connected()
    peer.emit("leave", id=1)
    peer.settle()
    assert peer.texts == ["1"]
    assert peer.closed == (1000, "disconnected by the server")
    assert house.leftovers == []


def test_the_client_disconnects(house: House) -> None:
    peer = house.connected()
    peer.packet(sio.Packet(sio.DISCONNECT))
    peer.settle()
    assert house.seen[1:] == [("disconnect", peer.id, "client disconnect")]
    assert peer.closed == (1000, "disconnected by the client")
    assert house.leftovers == []


def test_the_client_closes(house: House) -> None:
    peer = house.connected()
    peer.machine.close(4007, "enough", house.runtime.now())
    peer.settle()
    assert house.seen[1:] == [("disconnect", peer.id, "client disconnect")]
    assert peer.closed == (4007, "enough")
    assert house.leftovers == []


def test_the_engine_disconnects_one_or_all(house: House) -> None:
    one, two, three = house.connected(), house.connected(), house.connected()
    house.server.eio.disconnect(one.id)
    one.settle()
    assert (one.closed, two.closed) == ((1000, ""), None)
    house.server.eio.disconnect()
    two.settle()
    three.settle()
    assert two.closed == three.closed == (1000, "")
    assert house.leftovers == []


def test_inactivity_is_a_ping_timeout(house: House) -> None:
    peer = house.connected()
    peer.settle()
    peer.detach()
    house.runtime.advance(119)
    assert len(house.seen) == 1
    house.runtime.advance(2)
    assert house.seen[1:] == [("disconnect", peer.id, "ping timeout")]
    assert house.leftovers == []


def crash_at_the_end(house: House) -> None:
    def crash(*_: Any) -> None:
        raise RuntimeError("a defect of the application")

    house.server.on("disconnect", crash)


@pytest.mark.parametrize("how", ["client", "close", "server", "inactive"])
def test_a_disconnect_handler_that_raises_leaves_nothing_behind(house: House, how: str) -> None:
    crash_at_the_end(house)
    peer = house.connected()
    peer.settle()
    if how == "client":
        peer.packet(sio.Packet(sio.DISCONNECT))
    elif how == "close":
        peer.machine.close(1000, "", house.runtime.now())
    elif how == "server":
        with pytest.raises(RuntimeError):
            house.server.disconnect(peer.id)
    else:
        peer.detach()
        house.runtime.advance(130)
    if how != "inactive":
        peer.settle()
        assert peer.closed is not None
        assert peer.closed[0] == 1000
    assert house.leftovers == []


class TestWhoeverEndsItFirst:
    """Of two who end a session at once, one calls its handler, and nothing is taken from that."""

    def ends(self, house: House, then: Any = lambda: None) -> list[Any]:
        """What the disconnect handler has seen, each time; it does `then` first."""
        told: list[Any] = []

        def disconnected(sid: str, reason: str) -> None:
            then()
            told.append((reason, house.server.get_environ(sid), house.server.get_session(sid)))

        house.server.on("disconnect", disconnected)
        return told

    @pytest.mark.parametrize("step", ["pre_disconnect", "disconnect"])
    def test_the_client_closes_as_the_server_disconnects_it(
        self, house: House, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        told, peer, manager = self.ends(house), house.connected(), house.server.manager
        stock = getattr(manager, step)

        def meanwhile(*args: Any, **options: Any) -> Any:
            monkeypatch.setattr(manager, step, stock)
            peer.machine.close(1001, "", house.runtime.now())
            peer.settle()
            return stock(*args, **options)

        monkeypatch.setattr(manager, step, meanwhile)
        house.server.disconnect(peer.id)
        assert told == [("server disconnect", {}, {})]
        assert peer.closed is not None
        assert house.leftovers == []

    def test_it_is_waited_for_until_the_handler_has_returned(self, house: House) -> None:
        """Who calls it is another than who has heard of the end: a drain looks at the session."""
        peer, seen = house.connected(), []

        def then() -> None:
            peer.machine.close(1001, "", house.runtime.now())
            peer.settle()
            seen.append(len(house.registry._alive))

        self.ends(house, then)
        house.server.disconnect(peer.id)
        assert (seen, len(house.registry._alive)) == ([1], 0)

    def test_the_client_confirms_before_the_handler_has_begun(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told, peer, engine = self.ends(house), house.connected(), house.engine
        close = engine._refused_or_disconnected
        monkeypatch.setattr(
            engine, "_refused_or_disconnected", lambda *args: (close(*args), peer.settle())
        )
        house.server.disconnect(peer.id)
        assert peer.closed == (1000, "disconnected by the server")
        assert told == [("server disconnect", {}, {})]
        assert house.leftovers == []

    def test_what_a_handler_sees_stays_until_it_returns(self, house: House) -> None:
        told, peer = self.ends(house, lambda: house.runtime.sleep(10)), house.connected()
        house.runtime.spawn(house.server.disconnect, peer.id)
        peer.settle()
        assert (peer.closed, told) == ((1000, "disconnected by the server"), [])
        house.server.disconnect(peer.id)
        house.runtime.advance(11)
        assert told == [("server disconnect", {}, {})]
        assert house.runtime.errors == []
        assert house.leftovers == []

    def test_a_handler_that_disconnects_its_session_is_not_called_again(self, house: House) -> None:
        peer = house.connected()
        told = self.ends(house, lambda: house.server.disconnect(peer.id))
        peer.packet(sio.Packet(sio.DISCONNECT))
        peer.settle()
        assert told == [("client disconnect", {}, {})]
        assert house.leftovers == []

    def test_a_handler_that_raises_does_so_to_who_called_it(self, house: House) -> None:
        peer = house.connected()

        def crash() -> None:
            peer.settle()
            raise RuntimeError("a defect of the application")

        told = self.ends(house, crash)
        with pytest.raises(RuntimeError):
            house.server.disconnect(peer.id)
        assert (told, house.engine.endings._waiting) == ([], {})
        assert house.leftovers == []


def test_what_was_not_begun_is_not_handled_after_the_end(house: House) -> None:
    ran: list[int] = []

    def slow(sid: str, number: int) -> None:
        ran.append(number)
        house.runtime.sleep(1)

    house.server.on("slow", slow)
    peer = house.connected()
    peer.emit("slow", 1)
    peer.emit("slow", 2)
    house.engine.conversation(peer.id).abort(4000, "enough")
    house.runtime.advance(5)
    assert ran == [1]
    # Behind the handler that was running.
    assert [name for name, *_ in house.seen] == ["connect", "disconnect"]
    assert peer.closed == (4000, "enough")
    assert len(peer.machine.outbox) == 2, "both are unconfirmed: the first was still running"


# -- the stock engine -----------------------------------------------------------------


def stock_client(house: House) -> tuple[str, StockSocket]:
    """The Socket.IO id of a stock client, and where its packets go."""
    sock = StockSocket()
    house.engine.stock.sockets["stock"] = sock
    house.engine.stock.handlers["connect"]("stock", {})
    house.engine.stock.handlers["message"]("stock", '0{"who":"stock"}')
    sid = house.server.manager.sid_from_eio_sid("stock", "/")
    assert sock.sent == [f'0{{"sid":"{sid}"}}']
    sock.packets.clear()
    return sid, sock


def test_stock_clients_share_the_rooms(house: House) -> None:
    peer = house.connected()
    sid, sock = stock_client(house)
    house.server.emit("all", 1)
    house.server.emit("one", 2, to=sid)
    house.server.emit("ours", 3, to=peer.id)
    peer.exchange()
    assert peer.events == [["all", 1], ["ours", 3]]
    assert sock.sent == ['2["all",1]', '2["one",2]']


def test_stock_clients_get_binary_packets_of_their_own(house: House) -> None:
    """engineio's packet would give the second the first one's encoding: text for bytes."""
    house.connected()
    socks = [StockSocket() for _ in range(2)]
    for number, sock in enumerate(socks):
        house.engine.stock.sockets[str(number)] = sock
        house.server.manager.connect(str(number), "/")
    house.server.emit("file", b"bytes")
    polled, framed = socks[0].packets[1], socks[1].packets[1]
    assert polled.encode(b64=True) == "bYnl0ZXM="
    assert framed.encode() == b"bytes"
    # What encodes alike for both is shared still.
    assert socks[0].packets[0] is socks[1].packets[0]


def test_what_is_about_stock_clients_goes_to_the_stock_engine(house: House) -> None:
    sid, sock = stock_client(house)
    engine = house.engine
    assert engine.transport("stock") == house.server.transport(sid) == "websocket"
    house.server.save_session(sid, {"a": 1})
    assert engine.get_session("stock") == sock.session == {"/": {"a": 1}}
    engine.save_session("stock", {"b": 2})
    assert sock.session == {"b": 2}
    engine.send("stock", "text")
    assert [packet.encode() for packet in sock.packets] == ["4text"]
    engine.disconnect("stock")
    assert sock.left == ["server disconnect"]
    with pytest.raises(KeyError):
        engine.transport("nobody")
    # Told like the stock engine: a warning in its log.
    engine.send("nobody", "text")


def test_everything_else_is_the_stock_engines(house: House) -> None:
    engine, stock = house.engine, house.engine.stock
    assert engine.async_mode == "threading"
    assert engine.sockets is stock.sockets
    engine.on("message", print)
    assert stock.handlers["message"] is print
    with pytest.raises(AttributeError):
        _ = engine.nothing


def test_user_sessions_belong_to_the_session(house: House) -> None:
    peer = house.connected()
    with house.server.session(peer.id) as session:
        session["user"] = 1
    assert house.server.get_session(peer.id) == {"user": 1}
    house.server.save_session(peer.id, {"user": 2})
    peer.detach()
    assert house.server.get_session(peer.id) == {"user": 2}
    house.engine.save_session(peer.id, {})
    assert house.server.get_session(peer.id) == {}


def test_other_tasks_are_the_stock_engines() -> None:
    server = socketio.Server(async_mode="threading")
    engine = Engine(server, Runtime(server.eio))
    asked: list[Any] = []
    engine.stock.start_background_task = lambda *task: asked.append(task)
    engine.stock.sleep = asked.append
    server.start_background_task(print, "later")
    server.sleep(2)
    [(run, *task), seconds] = asked
    assert (task, seconds) == ([print, ("later",), {}], 2)
    contextvars.copy_context().run(run, lambda: asked.append(server_at_work()), (), {})
    assert asked[-1] is server
    assert server_at_work() is None
    assert isinstance(server.eio.create_event(), threading.Event)


def test_stock_clients_handlers_keep_their_own_tasks(house: House) -> None:
    started: list[Any] = []
    house.runtime.tasks.start_background_task = lambda *args: started.append(args)
    stock_client(house)
    house.engine.stock.handlers["message"]("stock", '2["event"]')
    assert len(started) == 1


def test_the_admin_ui_finds_a_session(house: House) -> None:
    from engineio.socket import Socket

    kept = {name: getattr(Socket, name) for name in ("handle_post_request", "_websocket_handler")}
    kept["_send_ping"] = Socket._send_ping
    try:
        house.server.instrument(auth=False)
        house.engine.stock.start_background_task = lambda *args, **kwargs: None
        peer = house.connected()
        assert house.engine._get_socket(peer.id).upgraded
        house.server.emit("event", 1)
        peer.exchange()
        assert peer.events == [["event", 1]]
        house.server.disconnect(peer.id)
        peer.settle()
        assert house.leftovers in ([], [house.server.manager.rooms])
    finally:
        for name, value in kept.items():
            setattr(Socket, name, value)


def test_who_watched_what_the_manager_sends_goes_on_to() -> None:
    """As the Admin UI, on a server that was instrumented before it was handed in."""
    server = socketio.Server(async_mode="threading")
    seen: list[str] = []
    server.manager.emit = lambda event, *args, **places: seen.append(event)
    engine = Engine(server, FakeRuntime())
    server.emit("news", 1)
    assert seen == ["news"]
    server.manager.connect("eio-0", "/")
    [sid] = server.manager.rooms["/"][None]
    assert engine.shortcut.alone(sid, "/", "news", 1) is None


def test_a_server_that_speaks_otherwise_is_refused() -> None:
    class Packets(sio.Packet):
        uses_binary_events = False

    server = socketio.Server(async_mode="threading", serializer=Packets)
    with pytest.raises(ValueError, match="serializer="):
        Engine(server, FakeRuntime())


def test_a_client_manager_of_ones_own_works() -> None:
    """What RedisManager is: a PubSubManager whose other processes hear what is published."""
    published: list[Any] = []

    class Manager(socketio.PubSubManager):
        def _publish(self, data: Any) -> None:
            published.append(data)

        def _listen(self) -> Any:
            raise NotImplementedError

        def _thread(self) -> None:
            pass

    house = House(client_manager=Manager())
    peer = house.connected()
    house.server.enter_room(peer.id, "room")
    house.server.emit("news", {"a": b"bytes"}, to="room")
    answers: list[Any] = []
    house.server.emit("ask", to=peer.id, callback=lambda *args: answers.append(args))
    peer.exchange()
    peer.packet(sio.Packet(sio.ACK, [b"reply"], id=1), urgent=True)
    assert peer.events == [["news", {"a": b"bytes"}], ["ask"]]
    assert answers == [(b"reply",)]
    # As told by another process.
    house.server.manager._handle_emit(
        {"event": "far", "data": [1], "namespace": "/", "room": "room"}
    )
    house.server.manager._handle_disconnect({"sid": peer.id, "namespace": "/"})
    peer.settle()
    assert peer.events[-1] == ["far", 1]
    assert peer.closed == (1000, "disconnected by the server")
    assert house.seen[1:] == [("disconnect", peer.id, "server disconnect")]
    assert house.leftovers == []


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (['31["fine",{"more":1}]'], ("fine", {"more": 1})),
        (["31[7,null,[]]"], (7, None, [])),
        (['71{"code":1011,"message":"its listener raised"}'], "its listener raised"),
        # As a text it is one line; but that is not what the page said.
        (['71{"code":1011,"message":"no\\nsuch\\nroom"}'], "no\nsuch\nroom"),
        (
            ['61-1["file",{"_placeholder":true,"num":0}]', b"\xff"],
            "an answer with bytes does not cross processes",
        ),
    ],
)
def test_a_clients_reply_reaches_another_process(reply: list[Any], answer: Any) -> None:
    class Manager(socketio.PubSubManager):
        def _publish(self, data: Any) -> None:
            text = json.dumps(data)
            for other in managers:
                message = json.loads(text)
                if message["host_id"] != other.host_id and message["method"] == "emit":
                    other._handle_emit(message)
                elif message["method"] == "callback":
                    other._handle_callback(message)

        def _listen(self) -> Any:
            raise NotImplementedError

        def _thread(self) -> None:
            pass

    managers = [Manager(), Manager()]
    here, there = (House(client_manager=manager) for manager in managers)
    peer, answers = there.connected(), []
    here.server.emit("ask", to=peer.id, callback=lambda *args: answers.append(args))
    peer.exchange()
    peer.send(*reply)
    peer.exchange()
    assert there.runtime.errors == []
    [found] = answers
    if isinstance(answer, str):
        [failure] = found
        assert isinstance(failure, RequestFailed)
        found = failure.args[0]
    assert found == answer
