"""`Dispatcher`: from an event to its handler, through python-socketio and past it."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable
from typing import Any

import flask
import pytest
import socketio
from socketio import packet as sio

from fallback_transport import Session
from tests.place import Place

OURS, STOCK = "taken at once", "by python-socketio"


@pytest.fixture(params=[OURS, STOCK])
def way(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def place(way: str) -> Place:
    """Each event to it goes one way."""
    place = Place()
    place.taken = []  # type: ignore[attr-defined]
    original = place.server._trigger_event

    def trigger(event: str, *args: Any) -> Any:
        place.taken.append(event)  # type: ignore[attr-defined]
        return original(event, *args)

    if way == STOCK:
        place.server._trigger_event = trigger
    return place


def event(*data: Any, id: int | None = None, namespace: str | None = None) -> sio.Packet:
    return sio.Packet(sio.EVENT, list(data), id=id, namespace=namespace)


def test_a_handler_gets_its_client_and_data(place: Place, way: str) -> None:
    calls: list[Any] = []
    place.transport.on_message("note")(lambda *args: calls.append(args))
    client, peer = place.peer()
    for data in ([], [None], [1], [{"a": [b"bytes"]}]):
        peer.packet(event("note", *data))
    assert calls == [(client, None), (client, None), (client, 1), (client, {"a": [b"bytes"]})]
    assert place.taken == (["connect", *4 * ["note"]] if way == STOCK else [])  # type: ignore[attr-defined]


def test_unnamed_messages_and_several_arguments(place: Place) -> None:
    calls: list[Any] = []
    place.transport.on_message(lambda client, data: calls.append(data))
    place.transport.on_message("pair")(lambda client, one, two=0: calls.append((one, two)))
    _, peer = place.peer()
    peer.packet(event("message", "text"))
    peer.packet(event("pair", 1))
    peer.packet(event("pair", 1, 2))
    assert calls == ["text", (1, 0), (1, 2)]


def test_too_many_arguments_are_no_message(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[Any] = []
    place.transport.on_message("note")(lambda client, data: calls.append(data))
    _, peer = place.peer()
    peer.packet(event("note", 1, 2))
    peer.packet(event("note", 3))
    assert calls == [3]
    assert "takes 1 arguments, the page sent 2" in caplog.text


def test_who_takes_no_data_is_called_without(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[Any] = []

    def refresh(client: Session) -> None:
        calls.append(client)

    place.transport.on_message("refresh")(refresh)
    client, peer = place.peer()
    peer.packet(event("refresh"))
    peer.packet(event("refresh", None))
    assert calls == [client]
    told = r"the handler of 'refresh' \(\S+\.refresh\) takes 0 arguments, the page sent 1\n"
    assert re.search(told, caplog.text)


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (lambda client, one, two: None, "takes 2 arguments"),
        (lambda client, one, two, three=3: None, "takes 2 to 3 arguments"),
        (lambda client, one, two, *more: None, "takes 2 or more arguments"),
    ],
)
def test_the_log_counts_what_a_handler_takes(
    place: Place, caplog: pytest.LogCaptureFixture, handler: Callable[..., Any], told: str
) -> None:
    place.transport.on_message("note")(handler)
    place.transport.on_message("*")(lambda client, name, *, option=None: None)
    _, peer = place.peer()
    peer.packet(event("note"))
    assert f"{told}, the page sent 0" in caplog.text
    peer.packet(event("other", 1, 2))
    assert "takes 0 arguments, the page sent 2" in caplog.text


def test_of_a_long_name_the_log_has_the_beginning(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.transport.on_message("*")(lambda client, name, data: None)
    _, peer = place.peer()
    peer.packet(event("n" * 5000, 1, 2))
    assert "takes 1 arguments, the page sent 2" in caplog.text
    assert "n" * 90 in caplog.text
    assert len(caplog.text) < 500


def test_a_handler_that_raises_is_logged_and_the_session_goes_on(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[Any] = []

    def fails(client: Session, data: Any) -> None:
        calls.append(data)
        raise TypeError("told to")

    place.transport.on_message("note")(fails)
    _, peer = place.peer()
    peer.packet(event("note", 1))
    peer.packet(event("note", 2))
    # Once each: python-socketio calls some again that raise a TypeError.
    assert calls == [1, 2]
    assert caplog.text.count("TypeError: told to") == 2


def test_what_an_error_handler_has_seen_is_not_logged(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []

    def fails(client: Session, data: Any) -> None:
        raise ValueError("told to")

    place.transport.on_message("note")(fails)
    place.transport.on_error(lambda client, error, name: seen.append((client, str(error), name)))
    client, peer = place.peer()
    peer.packet(event("note", 1))
    peer.packet(event("note", 2, id=7))
    peer.exchange()
    assert seen == 2 * [(client, "told to", "note")]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert peer.texts == ['77{"code": 1011, "message": "the handler raised"}']


def test_what_is_too_large_is_refused_to_who_asks(place: Place) -> None:
    calls: list[Any] = []
    place.transport.on_message("note", max_bytes=8)(lambda client, data: calls.append(data))
    _, peer = place.peer()
    peer.packet(event("note", "123456"))
    peer.packet(event("note", "1234567"))
    peer.packet(event("note", "1234567", id=3))
    peer.exchange()
    assert calls == ["123456"]
    assert peer.texts == ['73{"code": 4413, "message": "\'note\' takes 8 bytes at most"}']


def test_who_asks_is_answered(place: Place) -> None:
    place.transport.on_message("ask")(lambda client, data: data * 2)
    _, peer = place.peer()
    peer.packet(event("ask", 21, id=5))
    peer.packet(event("ask", 21))
    peer.exchange()
    assert peer.texts == ["35[42]"]


def test_each_call_has_contexts_of_its_own(place: Place) -> None:
    seen: list[Any] = []
    ended: list[Any] = []
    place.app.teardown_appcontext(ended.append)

    def note(client: Session, data: Any) -> None:
        seen.append((flask.current_app._get_current_object(), data in flask.g, flask.request.path))
        setattr(flask.g, data, True)
        if data == "bad":
            raise RuntimeError("told to")

    place.transport.on_message("note")(note)
    _, peer = place.peer()
    ended.clear()
    for data in ("one", "one", "bad"):
        peer.packet(event("note", data))
    assert seen == 3 * [(place.app, False, "/fallback/poll")]
    assert ended[:2] == [None, None]
    assert str(ended[2]) == "told to"
    assert not flask.has_app_context()


def test_a_client_that_was_disconnected_is_not_heard(place: Place) -> None:
    calls: list[Any] = []

    def leave(client: Session, data: Any) -> None:
        calls.append(data)
        place.server.manager.pre_disconnect(client.id, "/")

    place.transport.on_message("note")(leave)
    _, peer = place.peer()
    peer.packet(event("note", 1))
    peer.packet(event("note", 2))
    assert calls == [1]


def test_events_of_another_namespace_are_not_taken(place: Place) -> None:
    calls: list[Any] = []
    for namespace in ("/", "/chat"):
        place.transport.on_message("note", namespace=namespace)(
            lambda client, data, namespace=namespace: calls.append((namespace, data))
        )
    _, peer = place.peer()
    peer.packet(event("note", 1, namespace="/chat"))
    peer.packet(event("note", 2))
    assert calls == [("/", 2)]


def test_what_no_handler_takes_goes_to_the_one_for_all(place: Place) -> None:
    calls: list[Any] = []
    place.transport.on_message("known")(lambda client, data: calls.append(("known", data)))
    place.transport.on_message("*")(lambda client, name, *data: calls.append((name, *data)))
    _, peer = place.peer()
    for data in (["known", 1], ["other", 2, 3], ["*", 4]):
        peer.packet(event(*data))
    assert calls == [("known", 1), ("other", 2, 3), ("*", 4)]


# -- where python-socketio calls, whoever has registered ---------------------------------


def replaced(place: Place, calls: list[Any]) -> None:
    place.server.on("note", lambda sid, data: calls.append(data))


def watched(place: Place, calls: list[Any]) -> None:
    # As its Admin UI does.
    original = place.server._trigger_event

    def trigger(event: str, namespace: str, sid: str, *data: Any) -> Any:
        calls.extend(data)
        return original(event, namespace, sid, *data)

    place.server._trigger_event = trigger


def logged(place: Place, calls: list[Any]) -> None:
    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith('received event "note"'):
                calls.append(1)

    place.server.logger.setLevel(logging.INFO)
    place.server.logger.addHandler(Notes())


def overtaken(place: Place, calls: list[Any]) -> None:
    original = place.server._handle_event

    def handle(eio_sid: str, namespace: str, id: int | None, data: Any) -> None:
        calls.extend(data[1:])
        original(eio_sid, namespace, id, data)

    place.server._handle_event = handle


def overtaken_within(place: Place, calls: list[Any]) -> None:
    original = place.server._handle_event_internal

    def handle(server: Any, sid: str, eio_sid: str, data: Any, *more: Any) -> None:
        calls.extend(data[1:])
        original(server, sid, eio_sid, data, *more)

    place.server._handle_event_internal = handle


@pytest.mark.parametrize("change", [replaced, watched, logged, overtaken, overtaken_within])
def test_who_wants_to_know_of_each_event_does(
    change: Callable[[Place, list[Any]], None],
) -> None:
    calls: list[Any] = []
    # One that logs would be told of each event whatever else is.
    place = Place(logger=logging.Logger("socketio", logging.WARNING))
    place.transport.on_message("note")(lambda client, data: None)
    _, peer = place.peer()
    change(place, calls)
    peer.packet(event("note", 1))
    assert calls == [1]


@pytest.mark.parametrize("wraps", [True, False], ids=["a monitor", "a subclass"])
@pytest.mark.parametrize(
    "name",
    ["emit", "_handle_event", "_handle_event_internal", "_trigger_event", "_get_event_handler"],
)
def test_who_wants_to_know_of_each_call_of_every_server_does(
    name: str, wraps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    original = getattr(socketio.Server, name)

    def known(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return original(*args, **kwargs)

    replacement = functools.wraps(original)(known) if wraps else known
    monkeypatch.setattr(socketio.Server, name, replacement)
    place = Place()
    place.transport.on_message("note")(lambda client, data: None)
    client, peer = place.peer()
    calls.clear()
    peer.packet(event("note", 1))
    client.emit("news", 2)
    assert calls


def test_a_logger_of_ones_own_need_not_say_whether_it_logs() -> None:
    class Plain:
        """All that python-socketio asks of one."""

        def __init__(self) -> None:
            self.lines: list[str] = []

        def info(self, text: str, *values: Any) -> None:
            self.lines.append(text % values)

        warning = error = info

    place, calls = Place(logger=Plain()), []
    place.transport.on_message("note")(lambda client, data: calls.append(data))
    client, peer = place.peer()
    peer.packet(event("note", 1))
    client.emit("news", 2)
    peer.exchange()
    assert (calls, peer.events) == ([1], [["news", 2]])
    lines = place.server.logger.lines
    assert [line for line in lines if "note" in line or "news" in line] == [
        f'received event "note" from {client.id} [/]',
        f'emitting event "news" to {client.id} [/]',
    ]


def emits(client: Session, place: Place) -> list[Any]:
    """What the server's `emit` was called with for an emit of the client's."""
    seen: list[Any] = []
    original = place.server.emit

    def emit(*args: Any, **kwargs: Any) -> None:
        seen.append(args)
        original(*args, **kwargs)

    place.server.emit = emit
    client.emit("news", 1)
    del place.server.emit
    return seen


def test_who_wants_to_know_of_each_emit_does() -> None:
    place = Place()
    client, peer = place.peer()
    assert emits(client, place) == [("news", 1)]
    client.emit("news", 2)
    peer.exchange()
    assert peer.events == [["news", 1], ["news", 2]]


def test_who_wants_to_know_of_what_the_manager_sends_does() -> None:
    # As python-socketio's Admin UI does.
    place, seen = Place(), []
    client, peer = place.peer()
    original = place.server.manager.emit

    def emit(event: str, *args: Any, **kwargs: Any) -> None:
        seen.append(event)
        original(event, *args, **kwargs)

    place.server.manager.emit = emit
    client.emit("news", 1)
    peer.exchange()
    assert (seen, peer.events) == (["news"], [["news", 1]])


def test_a_session_that_has_left_its_own_room_gets_nothing() -> None:
    place = Place()
    client, peer = place.peer()
    client.emit("news", 1)
    place.server.leave_room(client.id, client.id)
    client.emit("news", 2)
    peer.exchange()
    assert peer.events == [["news", 1]]
