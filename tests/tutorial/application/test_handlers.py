"""Tests that the application had before, with Flask-SocketIO's own test client."""

import pytest
from app import app, socketio


@pytest.fixture
def browser():
    client = app.test_client()
    client.post("/login", data={"name": "ann"})
    return client


@pytest.fixture
def ann(browser):
    client = socketio.test_client(app, flask_test_client=browser)
    yield client
    client.disconnect()


def received(client, name, namespace="/"):
    events = client.get_received(namespace)
    return [event["args"][0] for event in events if event["name"] == name]


def test_who_has_not_logged_in_is_refused():
    assert not socketio.test_client(app).is_connected()


def test_what_is_said_is_heard_in_the_room(ann):
    ann.emit("join", "den")
    ann.emit("say", {"room": "den", "text": "hello"})
    assert received(ann, "said") == [{"who": "ann", "text": "hello"}]


def test_a_file_is_stored(ann):
    ann.emit("upload", b"123")
    assert [file["size"] for file in received(ann, "stored")] == [3]


def test_admins_announce(browser):
    admin = socketio.test_client(app, namespace="/admin", flask_test_client=browser)
    admin.emit("announce", "tea", namespace="/admin")
    assert received(admin, "announced", "/admin") == [{"who": "ann", "text": "tea"}]
    admin.disconnect("/admin")
