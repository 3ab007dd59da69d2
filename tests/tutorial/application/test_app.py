"""The application's own tests; none of them needs a server, a browser or a network."""

import hashlib

import pytest
from app import app

from fallback_transport.testing import TestClient


def logged_in(name):
    browser = app.test_client()
    browser.post("/login", data={"name": name})
    return browser


@pytest.fixture(params=["websocket", "polling"])
def ann(request):
    with TestClient(app, cookies=logged_in("ann"), over=request.param) as client:
        client.emit("join", "den")
        yield client


@pytest.fixture
def bob():
    with TestClient(app, cookies=logged_in("bob")) as client:
        client.emit("join", "den")
        yield client


def texts(client):
    return [message["text"] for message in client.received("said")]


def test_who_has_not_logged_in_is_refused():
    with TestClient(app) as client:
        assert client.closed == (4401, "log in first")


def test_the_handlers_know_who_it_is(ann):
    ann.emit("whoami")
    assert ann.received("welcome") == ["ann"]
    assert ann.received("you") == [
        {"name": "ann", "sid": ann.id, "rooms": sorted(["den", ann.id])},
    ]


def test_what_is_said_is_heard_in_the_room_only(ann, bob):
    with TestClient(app, cookies=logged_in("eve")) as eve:
        ann.emit("say", {"room": "den", "text": "hello"})
        assert texts(ann) == texts(bob) == ["hello"]
        assert texts(eve) == []


def test_nobody_speaks_in_a_room_from_outside(ann):
    with pytest.raises(ValueError, match="enter the room"):
        ann.emit("say", {"room": "attic", "text": "hello"})


def test_who_leaves_hears_no_more(ann, bob):
    bob.emit("leave", "den")
    ann.emit("say", {"room": "den", "text": "is he gone?"})
    assert ann.received("left") == [{"who": "bob", "room": "den"}]
    assert texts(bob) == []


def test_what_is_said_is_heard_after_a_reconnect(ann, bob):
    ann.cut()
    bob.emit("say", {"room": "den", "text": "one"})
    ann.emit("say", {"room": "den", "text": "two"})
    assert texts(ann) == []
    ann.reconnect()
    assert texts(ann) == texts(bob) == ["one", "two"]
    assert ann.received("welcome") == ["ann"]


@pytest.mark.parametrize("lose", ["sent", "received", None])
def test_whatever_a_cut_loses_is_said_once(ann, bob, lose):
    ann.delay(0.1)
    ann.emit("say", {"room": "den", "text": "once"})
    ann.cut(lose)
    ann.reconnect()
    ann.advance(1)
    assert texts(ann) == texts(bob) == ["once"]


def test_a_file_arrives_whole(ann):
    content = bytes(range(256)) * 400
    ann.delay(0.1)
    ann.emit("upload", content)
    ann.cut()
    ann.reconnect()
    ann.advance(1)
    sha256 = hashlib.sha256(content).hexdigest()
    assert ann.received("stored") == [{"size": 102_400, "sha256": sha256}]
    ann.emit("download", 3)
    ann.advance(1)
    assert ann.received("file") == [b"\x00\x01\x02"]


def test_the_admins_have_a_channel_of_their_own(ann):
    with TestClient(app, cookies=logged_in("bob"), namespace="/admin") as admin:
        admin.cut()
        admin.emit("announce", "tea")
        admin.reconnect()
        assert admin.received("announced") == [{"who": "bob", "text": "tea"}]
        assert ann.received("announced") == []
    with TestClient(app, namespace="/admin") as stranger:
        assert stranger.closed == (4401, "log in first")


def test_the_clock_goes_on_while_the_network_does_not(ann):
    ann.advance(5)
    ann.cut()
    ann.advance(30)
    ann.reconnect()
    ticks = ann.received("tick")
    assert len(ticks) >= 2 * 35 - 1
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))
