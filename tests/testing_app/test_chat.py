"""The tests of the application in app.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from fallback_transport import RequestFailed
from fallback_transport.testing import ConnectionFailed, TestClient

from .app import create_app

MODE = os.environ.get("ASYNC_MODE", "eventlet")


class Chat:
    """The application, and clients of it."""

    def __init__(self, stack: ExitStack) -> None:
        self.app, self.transport = create_app(MODE)
        self.said: list[str] = self.app.config["SAID"]
        self._stack = stack

    def client(self, name: str = "ann", **options: Any) -> TestClient:
        """A client that has logged in."""
        browser = self.app.test_client()
        browser.post("/login", data={"name": name})
        return self._stack.enter_context(TestClient(self.transport, cookies=browser, **options))

    def guest(self, name: str = "bob", **options: Any) -> TestClient:
        """One that is in the room, too."""
        client = self.client(name, **options)
        client.request("enter", "den")
        return client


@pytest.fixture
def chat() -> Iterator[Chat]:
    with ExitStack() as stack:
        yield Chat(stack)


@pytest.fixture(params=["websocket", "polling"])
def ann(chat: Chat, request: pytest.FixtureRequest) -> TestClient:
    client = chat.client("ann", over=request.param)
    client.request("enter", "den")
    return client


def test_who_is_logged_in_is_greeted_by_name(ann: TestClient) -> None:
    assert ann.received("hello") == ["ann"]


def test_who_is_not_is_told_why(chat: Chat) -> None:
    client = TestClient(chat.transport)
    assert client.closed == (4401, "log in first")
    assert not client.connected


def test_a_foreign_page_is_nobody(chat: Chat) -> None:
    for over in ("websocket", "polling"):
        with pytest.raises(ConnectionFailed, match="origin"):
            chat.client(headers={"Origin": "https://evil.example"}, over=over)


def test_what_is_said_is_heard_by_all_in_the_room(chat: Chat, ann: TestClient) -> None:
    bob, eve = chat.guest("bob", over="polling"), chat.client("eve")
    ann.emit("say", "hello")
    assert ann.received("said") == bob.received("said") == ["hello"]
    assert eve.received("said") == []


def test_who_enters_is_announced_to_the_others(chat: Chat, ann: TestClient) -> None:
    bob = chat.guest("bob")
    assert ann.received("entered") == ["bob"]
    assert bob.received("entered") == []


def test_saying_is_answered(ann: TestClient) -> None:
    assert ann.request("say", "one") == "number 1"
    assert ann.request("say", "two") == "number 2"


def test_saying_nothing_is_an_error(chat: Chat, ann: TestClient) -> None:
    with pytest.raises(ValueError, match="say something"):
        ann.emit("say", "")
    assert ann.request("say", "it goes on") == "number 1"


def test_the_page_is_told_of_the_error(chat: Chat) -> None:
    client = chat.client(raise_server_exceptions=False)
    with pytest.raises(RequestFailed, match="the handler raised"):
        client.request("say", "")


def test_a_message_survives_a_reconnect(ann: TestClient) -> None:
    ann.cut()
    ann.emit("say", "hello")
    ann.reconnect()
    assert ann.received("said") == ["hello"]


def test_what_was_said_meanwhile_is_heard_after_a_reconnect(chat: Chat, ann: TestClient) -> None:
    bob = chat.guest()
    ann.cut()
    bob.emit("say", "one")
    bob.emit("say", "two")
    assert ann.received("said") == []
    ann.reconnect()
    assert ann.received("said") == ["one", "two"]


@pytest.mark.parametrize("lose", ["sent", "received", None])
def test_nothing_is_said_twice_whatever_is_lost(chat: Chat, ann: TestClient, lose: Any) -> None:
    ann.delay(0.1)
    ann.emit("say", "once")
    ann.cut(lose)
    assert chat.said == (["once"] if lose == "received" else [])
    ann.reconnect()
    ann.advance(1)
    assert chat.said == ann.received("said") == ["once"]


def test_a_proxy_that_repeats_says_nothing_twice(chat: Chat) -> None:
    ann = chat.guest("ann", over="polling")
    ann.emit("say", "once")
    ann.repeat()
    ann.repeat()
    assert chat.said == ann.received("said") == ["once"]


def test_switching_loses_nothing(chat: Chat, ann: TestClient) -> None:
    for number, transport in enumerate(["polling", "websocket"] * 3):
        ann.emit("say", str(number))
        ann.switch(transport)
        assert ann.transport == transport
    assert ann.received("said") == chat.said == list("012345")


def test_who_is_away_for_long_has_left(chat: Chat, ann: TestClient) -> None:
    bob = chat.guest()
    ann.cut()
    ann.advance(200)
    assert bob.received("left") == [["ann", 4408]]
    assert ann.closed is not None
    assert ann.closed[0] == 4408


def test_who_is_away_for_less_has_not(chat: Chat, ann: TestClient) -> None:
    bob = chat.guest()
    ann.cut()
    ann.advance(100)
    ann.reconnect()
    ann.advance(1000)
    assert bob.received("left") == []
    assert ann.connected


def test_who_closes_has_left(chat: Chat, ann: TestClient) -> None:
    bob = chat.guest()
    ann.close(4000, "good night")
    assert ann.closed == (4000, "good night")
    assert bob.received("left") == [["ann", 4000]]


def test_a_picture_arrives_whole(ann: TestClient) -> None:
    picture = bytes(range(256)) * 3000
    answer = ann.request("upload", picture)
    assert answer["size"] == 768_000
    assert len(answer["sum"]) == 32


def test_bytes_come_back(ann: TestClient) -> None:
    ann.send(b"\x00\xff")
    ann.send("text")
    assert ann.received("message") == [b"\x00\xff", "text"]


def test_a_handler_asks_the_page(ann: TestClient) -> None:
    ann.on("draw", lambda number: 10 * number)
    assert ann.request("duel", 4) == 60


def test_the_clock_ticks(chat: Chat, ann: TestClient) -> None:
    ann.emit("tick", 60)
    bob = chat.client("bob")
    ann.advance(3600)
    assert len(ann.received("tick")) == len(bob.received("tick")) == 60


def test_a_view_announces(chat: Chat, ann: TestClient) -> None:
    chat.app.test_client().post("/announce", data={"text": "tea"})
    assert ann.received("announcement") == ["tea"]
