"""What goes to other processes: by one thread, refused where it is emitted, the same for all."""

from __future__ import annotations

import json
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
import socketio

from fallback_transport.client_manager import PROBE
from fallback_transport.engine import Engine
from fallback_transport.packets import Packet
from fallback_transport.publishing import FAILED, MAX_WAITING, ErrorReplies
from tests.fakes import FakeRuntime
from tests.test_client_manager import House, lines


class Redis(socketio.RedisManager):
    """One that publishes into a list; what cannot be written it logs, and no more."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[Any] = []

    def _publish(self, data: Any) -> None:
        try:
            self.published.append(self.json.dumps(data))
        except Exception:
            self._get_logger().error("Cannot publish")

    def _thread(self) -> None:
        pass


@pytest.mark.parametrize("anybody", [False, True])
@pytest.mark.parametrize("data", [object(), uuid.uuid4(), {"x": [{1, 2}]}, (b"bytes", object())])
def test_what_cannot_cross_processes_is_refused_where_it_is_emitted(
    data: Any, anybody: bool
) -> None:
    server = socketio.Server(async_mode="threading", client_manager=Redis(), serializer=Packet)
    engine = Engine(server, FakeRuntime())
    manager, sent = server.manager, []
    engine.send_packet = lambda sid, packet: sent.append(sid)
    if anybody:
        manager.connect("engine-id", "/")
    with pytest.raises(TypeError):
        server.emit("news", data)
    assert (manager.published, sent) == ([], [])
    server.emit("news", ("text", b"bytes"))
    assert len(manager.published) == 1
    assert bool(sent) == anybody
    # What comes is not written again.
    manager._handle_emit({"event": "news", "data": [object()], "namespace": "/none"})


@pytest.mark.parametrize(
    "data",
    [{"key": 10**100}, [b"x", {"_placeholder": True, "num": 0}], {"_placeholder": True, "x": b"x"}],
)
def test_what_others_could_not_read_is_refused_where_it_is_emitted(data: Any) -> None:
    """They would pass over it, or find bytes where there are none."""
    server = socketio.Server(async_mode="threading", client_manager=Redis(), serializer=Packet)
    engine = Engine(server, FakeRuntime())
    manager, sent = server.manager, []
    engine.send_packet = lambda sid, packet: sent.append(sid)
    manager.connect("engine-id", "/")
    with pytest.raises(ValueError, match=r"too large|_placeholder"):
        server.emit("news", data)
    assert (manager.published, sent) == ([], [])
    server.emit("news", {"key": 10**99, "bytes": [b"x", b"y"]})
    assert (len(manager.published), len(sent)) == (1, 3)


@pytest.mark.parametrize(
    "data", [(("a", 1),), (("a", 1), 2), {"t": ("a", {1: "one"})}, ({1: b"x"}, ["y"]), ([],), ()]
)
def test_the_clients_of_all_processes_get_the_same(data: Any) -> None:
    """A tuple that is the one argument was taken for several arguments in its own process."""
    here, there = (
        socketio.Server(async_mode="threading", client_manager=Redis(), serializer=Packet)
        for _ in range(2)
    )
    sent: list[list[Any]] = []
    for server in (here, there):
        packets: list[Any] = []
        Engine(server, FakeRuntime()).send_packet = lambda sid, packet, to=packets: to.append(
            packet.data
        )
        sent.append(packets)
        server.manager.connect("engine-id", "/")
    here.emit("news", data)
    (published,) = here.manager.published
    there.manager._handle_emit(json.loads(published))
    assert sent[0] == sent[1] != []


class Failure(Exception):
    """What a callback gets in place of an answer."""


def test_an_error_in_place_of_an_answer_crosses_processes() -> None:
    published: list[Any] = []
    answered: list[Any] = []
    manager: Any = SimpleNamespace(
        json=json, _publish=published.append, _handle_callback=answered.append
    )
    ErrorReplies(manager, Failure)
    # The name alone is none.
    others = [FAILED, {"a": 1}, None]
    manager._publish({"method": "callback", "id": 3, "args": [Failure("it raised"), *others]})
    assert published == [{"method": "callback", "id": 3, "args": [{FAILED: "it raised"}, *others]}]
    manager._handle_callback(json.loads(json.dumps(published[0])))
    [message] = answered
    assert (message["id"], message["args"][1:]) == (3, others)
    assert repr(message["args"][0]) == repr(Failure("it raised"))
    # Who asks is not to wait for what nobody can publish.
    manager._publish({"method": "callback", "id": 4, "args": [b"bytes", 1]})
    assert published[1]["args"] == [{FAILED: "an answer with bytes does not cross processes"}]
    emitted = {"method": "emit", "data": [Failure("it raised")]}
    manager._publish(emitted)
    assert published[2] is emitted


class TestOfAnotherThread:
    """What is emitted elsewhere is published in the thread that serves, in order."""

    def published(self, house: House) -> list[Any]:
        return [json.loads(data)["data"] for data in house.manager.wire if PROBE not in data]

    def test_it_is_published_at_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        house, at_home = House(), []
        monkeypatch.setattr(type(house.runtime), "elsewhere", True)
        monkeypatch.setattr(house.runtime, "at_home", lambda function: at_home.append(function))
        news: dict[str, Any] = {"of": {}}
        for number in range(3):
            # Who emits it goes on with it.
            news["of"]["number"] = number
            house.manager.emit("news", news)
        assert self.published(house) == []
        monkeypatch.setattr(type(house.runtime), "elsewhere", False)
        for function in at_home:
            function()
        # Not at once: the house has other things to do, and publishing waits.
        assert self.published(house) == []
        house.runtime.run()
        assert self.published(house) == [[{"of": {"number": number}}] for number in range(3)]

    def test_one_after_the_other_and_what_comes_later_too(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        house, seconds = House(), iter([2, 0, 0, 0])
        monkeypatch.setattr(type(house.runtime), "elsewhere", True)
        monkeypatch.setattr(house.runtime, "at_home", lambda function: function())
        published: list[Any] = []

        def encode(data: Any) -> str:
            if data["method"] != PROBE:
                house.runtime.sleep(next(seconds))
                published.extend(data["data"])
            return json.dumps(data)

        house.manager.network.encode = encode
        for number in range(3):
            house.manager.emit("news", number)
        house.runtime.advance(1)
        assert published == []
        house.runtime.advance(2)
        assert published == [0, 1, 2]
        house.manager.emit("news", 3)
        house.runtime.run()
        assert published == [0, 1, 2, 3]

    def test_what_cannot_be_published_is_told_and_keeps_nothing_else(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        house = House()
        monkeypatch.setattr(type(house.runtime), "elsewhere", True)
        monkeypatch.setattr(house.runtime, "at_home", lambda function: function())
        # To the thread that serves it is another's, which is gone; JSON has no sets.
        for data in ({1}, "good"):
            house.manager.emit("news", data)
        house.runtime.run()
        assert self.published(house) == [["good"]]
        assert [level for level, _ in lines(caplog)] == ["ERROR"]

    def test_whoever_emits_waits_where_as_much_waits_as_may(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        house, waited = House(), []
        monkeypatch.setattr(type(house.runtime), "elsewhere", True)
        monkeypatch.setattr(house.runtime, "at_home", lambda function: function())

        def pause() -> None:
            waited.append(number)
            house.runtime.run()

        monkeypatch.setattr(house.runtime, "pause", pause, raising=False)
        for number in range(MAX_WAITING + 1):
            house.manager.emit("news", number)
        assert waited == [MAX_WAITING]
        house.runtime.run()
        assert self.published(house) == [[number] for number in range(MAX_WAITING + 1)]
