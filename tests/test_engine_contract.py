"""What `Engine` relies on in the installed python-socketio and python-engineio.

Most of it is not documented there, so a new version may change it. Each part
below fails when its piece changes; the second half of the file changes each
piece and sees its part fail.
"""

from __future__ import annotations

import ast
import inspect
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engineio
import engineio.packet
import pytest
import socketio
from socketio import packet as sio

from fallback_transport.client_manager import PROBE
from fallback_transport.engine import Engine

EIO_SID = "engine-id"
Part = Callable[[], None]
PARTS: dict[str, Part] = {}


def part(function: Part) -> Part:
    """One piece of the contract."""
    PARTS[function.__name__] = function
    return function


class RecordingEngine:
    """In the place of `server.eio`: notes what python-socketio asks of it."""

    def __init__(self, server: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._stock = server.eio
        self._ids = iter(f"id-{number}" for number in range(100))
        self.session: dict[Any, Any] = {}
        server.eio = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stock, name)

    def send(self, sid: str, data: Any) -> None:
        self.calls.append(("send", sid, data))

    def send_packet(self, sid: str, pkt: Any) -> None:
        self.calls.append(("send_packet", sid, pkt))

    def generate_id(self) -> str:
        return next(self._ids)

    def get_session(self, sid: str) -> dict[Any, Any]:
        self.calls.append(("get_session", sid))
        return self.session

    def transport(self, sid: str) -> str:
        return f"the transport of {sid}"

    def start_background_task(self, target: Any, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(("start_background_task", target, *args))
        return "the task"

    def sent(self) -> list[Any]:
        return [call[2] for call in self.calls if call[0] == "send"]


def make(**options: Any) -> tuple[Any, RecordingEngine]:
    """A server, and the engine that was put in its place."""
    server = socketio.Server(async_mode="threading", **options)
    return server, RecordingEngine(server)


def connected(**options: Any) -> tuple[Any, RecordingEngine, list[Any]]:
    """A server with one client, and what its handlers were called with."""
    server, engine = make(**options)
    seen: list[Any] = []
    server.on("connect", lambda *args: seen.append(("connect", *args)))
    server.on("disconnect", lambda *args: seen.append(("disconnect", *args)))
    server.on("ask", lambda *args: seen.append(("ask", *args)) or "answer")
    server.eio.handlers["connect"](EIO_SID, {"PATH_INFO": "/"})
    server._handle_connect(EIO_SID, None, {"who": "me"})
    engine.calls.clear()
    return server, engine, seen


# -- the server -------------------------------------------------------------------


@part
def the_engine_can_be_replaced() -> None:
    server, engine = make()
    server.manager.emit("event", None, "/")
    server.eio.handlers["connect"](EIO_SID, {})
    server._send_packet(EIO_SID, server.packet_class(sio.EVENT, ["event"]))
    server._send_eio_packet(EIO_SID, "packet")
    assert engine.calls == [("send", EIO_SID, '2["event"]'), ("send_packet", EIO_SID, "packet")]


@part
def the_engine_is_asked_for_ids() -> None:
    server, engine = make()
    server.eio.handlers["connect"](EIO_SID, {})
    server.on("connect", lambda *args: None)
    server._handle_connect(EIO_SID, "/", None)
    assert engine.sent() == ['0{"sid":"id-0"}']
    assert server.manager.sid_from_eio_sid(EIO_SID, "/") == "id-0"
    assert server.manager.eio_sid_from_sid("id-0", "/") == EIO_SID


@part
def the_engine_starts_the_tasks() -> None:
    server, engine = make()
    assert server.start_background_task(print, 1, 2) == "the task"
    assert engine.calls == [("start_background_task", print, 1, 2)]


@part
def the_engine_keeps_the_user_sessions() -> None:
    server, engine, _ = connected()
    server.save_session("id-0", {"user": 1})
    assert server.get_session("id-0") == {"user": 1}
    with server.session("id-0") as session:
        session["more"] = 2
    assert engine.session == {"/": {"user": 1, "more": 2}}
    assert set(engine.calls) == {("get_session", EIO_SID)}


@part
def the_engine_names_the_transport() -> None:
    server, _, _ = connected()
    assert server.transport("id-0") == f"the transport of {EIO_SID}"


@part
def the_engine_is_asked_for_nothing_else() -> None:
    """A new use of the engine in python-socketio wants a look at what it means for us."""
    folder = Path(inspect.getfile(socketio)).parent
    used = set()
    for name in ("server.py", "base_server.py", "manager.py", "base_manager.py", "namespace.py"):
        for node in ast.walk(ast.parse((folder / name).read_text())):
            inner = node.value if isinstance(node, ast.Attribute) else None
            if isinstance(inner, ast.Attribute) and inner.attr == "eio":
                used.add(node.attr)
    of_a_client = {"send", "send_packet", "get_session", "transport"}
    of_tasks_and_ids = {"generate_id", "start_background_task", "create_event", "sleep"}
    of_the_stock_engine = {"on", "async_mode", "handle_request", "shutdown"}
    assert used == of_a_client | of_tasks_and_ids | of_the_stock_engine
    assert of_a_client | {"generate_id", "start_background_task"} <= Engine.__dict__.keys()


@part
def handlers_of_the_stock_engine() -> None:
    server, _ = make()
    handlers = server.eio.handlers
    assert set(handlers) == {"connect", "message", "disconnect"}
    assert list(inspect.signature(handlers["connect"]).parameters) == ["eio_sid", "environ"]
    assert list(inspect.signature(handlers["disconnect"]).parameters) == ["eio_sid", "reason"]
    handlers["connect"](EIO_SID, {"a": 1})
    assert server.environ[EIO_SID] == {"a": 1}
    handlers["disconnect"](EIO_SID, "transport close")
    assert EIO_SID not in server.environ


@part
def the_end_of_a_client_is_told_to_its_namespace() -> None:
    server, _, seen = connected()
    server.eio.handlers["disconnect"](EIO_SID, server.eio.reason.PING_TIMEOUT)
    assert seen[1:] == [("disconnect", "id-0", "ping timeout")]
    assert server.manager.sid_from_eio_sid(EIO_SID, "/") is None
    # And again, as for a client that the application disconnected: nothing.
    server.eio.handlers["disconnect"](EIO_SID, server.eio.reason.PING_TIMEOUT)
    assert len(seen) == 2


@part
def reasons() -> None:
    reason = engineio.Server.reason
    assert reason.SERVER_DISCONNECT == "server disconnect"
    assert reason.CLIENT_DISCONNECT == "client disconnect"
    assert reason.PING_TIMEOUT == "ping timeout"


# -- handling -----------------------------------------------------------------------


@part
def handle_connect() -> None:
    server, engine = make()
    parameters = inspect.signature(server._handle_connect).parameters
    assert list(parameters) == ["eio_sid", "namespace", "data"]
    during: list[Any] = []
    server.on("connect", lambda *args: during.append((args, list(engine.sent()))))
    server.eio.handlers["connect"](EIO_SID, {"a": 1})
    server._handle_connect(EIO_SID, None, {"who": "me"})
    # The answer goes out when the handler has returned.
    assert during == [(("id-0", {"a": 1}, {"who": "me"}), [])]
    assert engine.sent() == ['0{"sid":"id-0"}']


@part
def handle_connect_refuses_in_one_text() -> None:
    server, engine = make()

    def refuse(*args: Any) -> None:
        raise socketio.exceptions.ConnectionRefusedError("no", {"code": 4001})

    server.on("connect", refuse)
    server.eio.handlers["connect"](EIO_SID, {})
    server._handle_connect(EIO_SID, None, None)
    server._handle_connect(EIO_SID, "/unknown", None)
    assert engine.sent() == [
        '4{"message":"no","data":{"code":4001}}',
        '4/unknown,"Unable to connect"',
    ]
    assert server.manager.sid_from_eio_sid(EIO_SID, "/") is None


@part
def handle_connect_lets_errors_through() -> None:
    server, engine = make()
    calls: list[Any] = []

    def crash(*args: Any) -> None:
        calls.append(args)
        raise RuntimeError

    server.on("connect", crash)
    server.eio.handlers["connect"](EIO_SID, {})
    with pytest.raises(RuntimeError):
        server._handle_connect(EIO_SID, None, None)
    assert engine.sent() == []
    assert len(calls) == 1
    # What it leaves behind; the engine clears it away by this.
    assert server.manager.sid_from_eio_sid(EIO_SID, "/") == "id-0"
    server.manager.disconnect("id-0", "/", ignore_queue=True)
    assert server.manager.sid_from_eio_sid(EIO_SID, "/") is None
    assert server.manager.rooms == server.manager.pending_connect == {}


@part
def handle_connect_takes_a_type_error_for_an_old_signature() -> None:
    """And calls again; so the extension's own handlers let none out."""
    server, _ = make()
    calls: list[int] = []

    def crash(*args: Any) -> None:
        calls.append(len(args))
        raise TypeError

    server.on("connect", crash)
    server.eio.handlers["connect"](EIO_SID, {})
    with pytest.raises(TypeError):
        server._handle_connect(EIO_SID, None, None)
    assert calls == [3, 2]


@part
def handle_event_in_a_task() -> None:
    server, engine, seen = connected()
    parameters = inspect.signature(server._handle_event).parameters
    assert list(parameters) == ["eio_sid", "namespace", "id", "data"]
    server._handle_event(EIO_SID, None, 7, ["ask", 1])
    (call,) = engine.calls
    name, target, *arguments = call
    assert name == "start_background_task"
    assert target == server._handle_event_internal
    assert arguments[2] == EIO_SID
    target(*arguments)
    assert seen[1:] == [("ask", "id-0", 1)]
    assert engine.sent() == ['37["answer"]']


@part
def handle_event_at_once_without_async_handlers() -> None:
    server, engine, seen = connected(async_handlers=False)
    server._handle_event(EIO_SID, None, 7, ["ask", 1])
    assert seen[1:] == [("ask", "id-0", 1)]
    assert engine.calls == [("send", EIO_SID, '37["answer"]')]


@part
def handle_event_lets_errors_through_and_answers_nothing() -> None:
    server, engine, _ = connected(async_handlers=False)

    def crash(*args: Any) -> None:
        raise RuntimeError

    server.on("crash", crash)
    with pytest.raises(RuntimeError):
        server._handle_event(EIO_SID, None, 7, ["crash"])
    server._handle_event(EIO_SID, None, 8, ["nobody takes it"])
    assert engine.calls == []


@part
def an_event_is_its_handlers_by_namespace_and_name() -> None:
    """What `Engine.handler` looks up instead of having python-socketio do so."""
    server, engine, seen = connected(async_handlers=False)
    assert server.environ[EIO_SID] == server.get_environ("id-0", "/") == {"PATH_INFO": "/"}
    calls: list[str] = []
    handler = server.handlers["/"]["ask"]
    server.on("*", lambda *args: calls.append("*"))
    server.on("ask", lambda *args: calls.append("*/ask"), namespace="*")
    server._handle_event(EIO_SID, None, None, ["ask", 1])
    assert (seen[1:], calls, engine.calls) == ([("ask", "id-0", 1)], [], [])
    assert server.handlers["/"]["ask"] is handler
    # Whoever is replaced on the way is found by name: what they are, a monitor's are not.
    for name in ("emit", "_trigger_event", "_handle_event_internal"):
        method = getattr(type(server), name)
        assert method.__module__ == socketio.server.__name__
        assert not hasattr(method, "__wrapped__")
    assert {"emit", "_trigger_event", "_handle_event_internal"}.isdisjoint(vars(server))


@part
def a_client_is_alone_in_a_room_of_its_own() -> None:
    """Where `Engine.alone` looks for it."""
    server, engine, _ = connected()
    room = server.manager.rooms["/"]["id-0"]
    assert (dict(room), len(room), "id-0" in room) == ({"id-0": EIO_SID}, 1, True)
    server.emit("news", 1, to="id-0")
    assert [call[:2] for call in engine.calls] == [("send_packet", EIO_SID)]
    server.leave_room("id-0", "id-0")
    assert "id-0" not in server.manager.rooms["/"]


@part
def handle_ack() -> None:
    server, engine, _ = connected()
    parameters = inspect.signature(server._handle_ack).parameters
    assert list(parameters) == ["eio_sid", "namespace", "id", "data"]
    answers: list[Any] = []
    server.emit("ask", 1, to="id-0", callback=lambda *args: answers.append(args))
    assert engine.sent() == ['21["ask",1]']
    marker = object()
    server._handle_ack(EIO_SID, None, 1, [marker, 2])
    assert answers == [(marker, 2)]


@part
def ack_ids_begin_at_one() -> None:
    """Number 0 is python-socketio's counter: an ACK with it would break the client's callbacks."""
    server, _, _ = connected()
    server.emit("ask", 1, to="id-0", callback=print)
    with pytest.raises(TypeError):
        server._handle_ack(EIO_SID, None, 0, [])


@part
def handle_disconnect() -> None:
    server, _, seen = connected()
    parameters = inspect.signature(server._handle_disconnect).parameters
    assert list(parameters) == ["eio_sid", "namespace", "reason"]
    server._handle_disconnect(EIO_SID, None, "client disconnect")
    assert seen[1:] == [("disconnect", "id-0", "client disconnect")]
    assert server.manager.sid_from_eio_sid(EIO_SID, "/") is None


@part
def disconnect_sends_a_packet_first() -> None:
    server, engine, seen = connected()
    server.on("disconnect", lambda *args: seen.append(list(engine.sent())))
    server.disconnect("id-0")
    assert seen[1:] == [["1"]]


@part
def all_that_disconnect_ask_the_server() -> None:
    """So whoever replaces its method is asked, by other processes, too."""

    class Manager(socketio.PubSubManager):
        def _publish(self, data: Any) -> None:
            pass

    server, _ = make(client_manager=Manager())
    asked: list[Any] = []
    server.disconnect = lambda sid, **options: asked.append(sid)
    namespace = socketio.Namespace("/chat")
    server.register_namespace(namespace)
    namespace.disconnect("a")
    server.manager._handle_disconnect({"sid": "b", "namespace": "/"})
    assert asked == ["a", "b"]


@part
def a_client_is_not_connected_in_its_first_and_last_handler() -> None:
    server, _ = make()
    states: list[bool] = []
    for event in ("connect", "disconnect"):
        server.on(event, lambda sid, *_: states.append(server.manager.is_connected(sid, "/")))
    server.eio.handlers["connect"](EIO_SID, {})
    server._handle_connect(EIO_SID, None, {"who": "me"})
    states.append(server.manager.is_connected("id-0", "/"))
    server.disconnect("id-0")
    assert states == [False, True, False]


# -- sending ------------------------------------------------------------------------


@part
def a_packet_goes_out_part_by_part() -> None:
    server, engine = make()
    packet = server.packet_class(sio.ACK, [b"one", {"deep": [b"two"]}], id=3)
    server._send_packet(EIO_SID, packet)
    text = '62-3[{"_placeholder":true,"num":0},{"deep":[{"_placeholder":true,"num":1}]}]'
    assert engine.calls == [
        ("send", EIO_SID, text),
        ("send", EIO_SID, b"one"),
        ("send", EIO_SID, b"two"),
    ]


@part
def a_broadcast_shares_its_packets() -> None:
    server, engine = make()
    for number in range(3):
        server.manager.connect(f"eio-{number}", "/")
    server.emit("news", {"a": b"bytes"}, skip_sid="id-1")
    assert [(name, sid) for name, sid, _ in engine.calls] == [
        ("send_packet", "eio-0"),
        ("send_packet", "eio-0"),
        ("send_packet", "eio-2"),
        ("send_packet", "eio-2"),
    ]
    first = [packet for _, sid, packet in engine.calls if sid == "eio-0"]
    second = [packet for _, sid, packet in engine.calls if sid == "eio-2"]
    assert all(one is other for one, other in zip(first, second, strict=True))
    assert [packet.data for packet in first] == [
        '51-["news",{"a":{"_placeholder":true,"num":0}}]',
        b"bytes",
    ]


@part
def an_engine_packet_has_its_data() -> None:
    packet = engineio.packet.Packet(engineio.packet.MESSAGE, b"bytes")
    assert (packet.packet_type, packet.data, packet.binary) == (4, b"bytes", True)
    # A message of ours is kept with the packet.
    packet.fallback_message = 1


@part
def an_engine_packet_that_was_encoded_for_polling_is_wrong_for_websocket() -> None:
    """Which is why stock clients get binary packets of their own. Fails once that is mended."""
    packet = engineio.packet.Packet(engineio.packet.MESSAGE, b"bytes")
    assert packet.encode(b64=False) == packet.encode(b64=True) == b"bytes"


# -- packets ------------------------------------------------------------------------


@part
def packet_types() -> None:
    names = ("CONNECT", "DISCONNECT", "EVENT", "ACK", "CONNECT_ERROR", "BINARY_EVENT", "BINARY_ACK")
    assert [getattr(sio, name) for name in names] == list(range(7))


@part
def packets_are_read() -> None:
    packet = sio.Packet(encoded_packet='2/chat,7["name",{"a":1}]')
    seen = packet.packet_type, packet.namespace, packet.id, packet.data, packet.attachment_count
    assert seen == (sio.EVENT, "/chat", 7, ["name", {"a": 1}], 0)
    packet = sio.Packet(encoded_packet="0")
    assert (packet.packet_type, packet.namespace, packet.id, packet.data) == (0, None, None, None)
    # Types beyond its own, such as our error reply, are read alike.
    packet = sio.Packet(encoded_packet='37{"message":"no"}')
    assert (packet.id, packet.data) == (7, {"message": "no"})


@part
def packets_are_put_together() -> None:
    text = '52-["name",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]'
    packet = sio.Packet(encoded_packet=text)
    assert packet.packet_type == sio.BINARY_EVENT
    assert packet.attachment_count == 2
    assert packet.add_attachment(b"one") is False
    assert packet.add_attachment(b"two") is True
    assert packet.data == ["name", b"two", b"one"]


@part
def a_packet_class_says_whether_it_uses_attachments() -> None:
    assert sio.Packet.uses_binary_events
    # Its module needs a package that is not installed here.
    source = Path(inspect.getfile(sio)).with_name("msgpack_packet.py").read_text()
    assert "class MsgPackPacket(packet.Packet)" in source
    assert "uses_binary_events = False" in source


# -- client managers ----------------------------------------------------------------


@part
def a_client_manager_listens_to_what_it_is_and_passes_over_a_probe() -> None:
    passed = []

    class Manager(socketio.PubSubManager):
        def _publish(self, data: Any) -> None:
            passed.append(data)

        def _listen(self) -> Any:
            yield {"method": PROBE, "host_id": "another's"}
            passed.append("probe")

    server = socketio.Server(async_mode="threading", client_manager=Manager())
    complaints = server.logger = logging.getLogger("complaints")
    lines: list[str] = []
    complaints.addFilter(lambda record: lines.append(record.getMessage()) or False)
    manager = server.manager
    # Of the instance: so its health can stand in between.
    manager.logger = complaints
    assert manager._get_logger() is complaints
    manager._thread()
    assert (passed, lines) == (["probe"], ["pubsub listen() exited unexpectedly"])
    assert manager.host_id != Manager().host_id


@part
def an_answer_to_another_process_is_a_message() -> None:
    published = []

    class Manager(socketio.PubSubManager):
        def _publish(self, data: Any) -> None:
            published.append(data)

        def _listen(self) -> Any:
            yield published[0]

    server = socketio.Server(async_mode="threading", client_manager=Manager())
    server.logger = logging.getLogger("quiet")
    server.logger.addFilter(lambda record: False)
    manager = server.manager
    manager._return_callback("another's", "id-0", "/", 1, "answer", 2)
    [message] = published
    assert (message["method"], message["args"]) == ("callback", ("answer", 2))
    heard: list[Any] = []
    # Of the instance: so an error among them can be made of what stands for it.
    manager._handle_callback = heard.append
    manager._thread()
    assert heard == published


@part
def an_emit_is_handled_here_and_then_published() -> None:
    seen: list[Any] = []

    class Manager(socketio.PubSubManager):
        def _publish(self, data: Any) -> None:
            seen.append(data)

    server = socketio.Server(async_mode="threading", client_manager=Manager())
    manager = server.manager
    # Of the instance: so what cannot be published can be refused before.
    manager._handle_emit = seen.append
    server.emit("news", b"bytes")
    assert len(seen) == 2
    handled, published = seen
    assert handled is published
    assert (handled["host_id"], handled["binary"]) == (manager.host_id, True)
    # What it would be written with.
    assert manager.json is sio.Packet.json


# -- the tests ----------------------------------------------------------------------


@pytest.mark.parametrize("name", PARTS)
def test_the_engine_can_rely_on(name: str) -> None:
    PARTS[name]()


def test_releases_on_which_it_cannot_rely_are_not_admitted() -> None:
    """Of 5.12 to 5.17, `a_client_is_not_connected_in_its_first_and_last_handler` is not true."""
    project = Path(__file__).parents[1].joinpath("pyproject.toml").read_text()
    [oldest] = re.findall('"python-socketio>=([0-9]+)[.]([0-9]+),<6"', project)
    assert tuple(map(int, oldest)) >= (5, 18)


# -- the tests of the tests: each part fails when its piece changes -----------------

Patch = pytest.MonkeyPatch
Server = socketio.Server


def _replaced(owner: Any, name: str, **changes: Any) -> Callable[[Patch], None]:
    """Change `name` of `owner` so that one of its arguments or its result is another."""

    def change(patch: Patch) -> None:
        original = getattr(owner, name)

        def changed(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            return changes.get("result", result)

        patch.setattr(owner, name, changed)

    return change


def _gone(owner: Any, name: str) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(owner, name, lambda *args, **kwargs: None)


def _set(owner: Any, name: str, value: Any) -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(owner, name, value)


def _captured_engine(patch: Patch) -> None:
    # A server that remembers its engine's method, as an optimisation would.
    original = Server.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        send = self.eio.send
        self._send_packet = lambda eio_sid, pkt: send(eio_sid, pkt.encode())

    patch.setattr(Server, "__init__", init)


def _without_sharing(patch: Patch) -> None:
    original = Server._send_eio_packet

    def send(self: Any, eio_sid: str, eio_pkt: Any) -> None:
        original(self, eio_sid, engineio.packet.Packet(4, eio_pkt.data))

    patch.setattr(Server, "_send_eio_packet", send)


def _other_order(patch: Patch) -> None:
    original = Server._handle_event_internal

    def handle(self: Any, server: Any, *args: Any) -> None:
        original(self, server, *args)

    def event(self: Any, eio_sid: str, namespace: str, id: int, data: Any) -> None:
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace or "/")
        self.start_background_task(
            self._handle_event_internal, self, eio_sid, sid, data, namespace, id
        )

    patch.setattr(Server, "_handle_event_internal", handle)
    patch.setattr(Server, "_handle_event", event)


def _swallowing(name: str) -> Callable[[Patch], None]:
    def change(patch: Patch) -> None:
        original = getattr(Server, name)

        def swallow(self: Any, *args: Any) -> None:
            try:
                original(self, *args)
            except Exception as error:
                print(error)

        patch.setattr(Server, name, swallow)

    return change


def _new_use(patch: Patch) -> None:
    original = Path.read_text
    patch.setattr(Path, "read_text", lambda self: original(self) + "\nserver.eio.new_method()\n")


def _answer_first(patch: Patch) -> None:
    original = Server._handle_connect

    def connect(self: Any, eio_sid: str, namespace: str, data: Any) -> None:
        self.eio.send(eio_sid, "0")
        original(self, eio_sid, namespace, data)

    patch.setattr(Server, "_handle_connect", connect)


def _slots(patch: Patch) -> None:
    class Slotted:
        __slots__ = ("binary", "data", "packet_type")

        def __init__(self, packet_type: int, data: Any) -> None:
            self.packet_type, self.data, self.binary = packet_type, data, True

    patch.setattr(engineio.packet, "Packet", Slotted)


def _mended_cache(patch: Patch) -> None:
    original = engineio.packet.Packet.encode

    def encode(self: Any, b64: bool = False) -> Any:
        self.encode_cache = None
        return original(self, b64)

    patch.setattr(engineio.packet.Packet, "encode", encode)


def _no_old_signatures(patch: Patch) -> None:
    original = Server._trigger_event

    def trigger(self: Any, *args: Any) -> Any:
        try:
            return original(self, *args)
        except TypeError as error:
            raise RuntimeError from error

    patch.setattr(Server, "_trigger_event", trigger)


def _other_handler_first(patch: Patch) -> None:
    original = Server._get_event_handler

    def get(self: Any, event: str, namespace: str, args: Any) -> Any:
        return original(self, event, "*", args)

    patch.setattr(Server, "_get_event_handler", get)


def _disconnect_tells_first(patch: Patch) -> None:
    original = Server.disconnect

    def disconnect(self: Any, sid: str, namespace: str = "/") -> None:
        self._trigger_event("disconnect", namespace, sid, "server disconnect")
        original(self, sid)

    patch.setattr(Server, "disconnect", disconnect)


BREAKERS: dict[str, Callable[[Patch], None]] = {
    "the_engine_can_be_replaced": _captured_engine,
    "the_engine_is_asked_for_ids": _set(RecordingEngine, "generate_id", lambda self: "other"),
    "the_engine_starts_the_tasks": _gone(Server, "start_background_task"),
    "the_engine_keeps_the_user_sessions": _gone(Server, "save_session"),
    "the_engine_names_the_transport": _gone(Server, "transport"),
    "the_engine_is_asked_for_nothing_else": _new_use,
    "handlers_of_the_stock_engine": _gone(Server, "_handle_eio_connect"),
    "the_end_of_a_client_is_told_to_its_namespace": _gone(Server, "_handle_disconnect"),
    "reasons": _set(engineio.Server.reason, "PING_TIMEOUT", "timed out"),
    "handle_connect": _answer_first,
    "handle_connect_refuses_in_one_text": _replaced(sio.Packet, "encode", result="4"),
    "handle_connect_lets_errors_through": _swallowing("_handle_connect"),
    "handle_connect_takes_a_type_error_for_an_old_signature": _no_old_signatures,
    "handle_event_in_a_task": _other_order,
    "handle_event_at_once_without_async_handlers": _other_order,
    "handle_event_lets_errors_through_and_answers_nothing": _swallowing("_handle_event"),
    "an_event_is_its_handlers_by_namespace_and_name": _other_handler_first,
    "a_client_is_alone_in_a_room_of_its_own": _gone(socketio.Manager, "basic_leave_room"),
    "handle_ack": _gone(socketio.Manager, "trigger_callback"),
    "ack_ids_begin_at_one": _swallowing("_handle_ack"),
    "handle_disconnect": _gone(Server, "_handle_disconnect"),
    "disconnect_sends_a_packet_first": _disconnect_tells_first,
    "all_that_disconnect_ask_the_server": _gone(socketio.PubSubManager, "_handle_disconnect"),
    "a_client_is_not_connected_in_its_first_and_last_handler": _replaced(
        socketio.Manager, "is_connected", result=True
    ),
    "a_packet_goes_out_part_by_part": _set(sio.Packet, "encode", lambda self: "62-[]"),
    "a_broadcast_shares_its_packets": _without_sharing,
    "an_engine_packet_has_its_data": _slots,
    "an_engine_packet_that_was_encoded_for_polling_is_wrong_for_websocket": _mended_cache,
    "packet_types": _set(sio, "BINARY_ACK", 7),
    "packets_are_read": _gone(sio.Packet, "decode"),
    "packets_are_put_together": _replaced(sio.Packet, "add_attachment", result=None),
    "a_packet_class_says_whether_it_uses_attachments": _set(
        sio.Packet, "uses_binary_events", False
    ),
    "a_client_manager_listens_to_what_it_is_and_passes_over_a_probe": _gone(
        socketio.PubSubManager, "_thread"
    ),
    "an_answer_to_another_process_is_a_message": _gone(socketio.PubSubManager, "_thread"),
    "an_emit_is_handled_here_and_then_published": _gone(socketio.PubSubManager, "emit"),
}


def test_every_part_has_its_change() -> None:
    assert set(BREAKERS) == set(PARTS)


@pytest.mark.parametrize("name", PARTS)
def test_a_change_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BREAKERS[name](monkeypatch)
    with pytest.raises(
        (AssertionError, AttributeError, TypeError, RuntimeError, pytest.fail.Exception)
    ):
        PARTS[name]()
