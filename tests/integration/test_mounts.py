"""Several mounts, also the root, and what the page has connected to, over both transports."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from tests.client.fixtures import TRANSPORTS, served_fixture
from tests.client.raw import new_hello, post
from tests.client.session import ClientSession
from tests.integration.served import Served

served = served_fixture(path=["/chat", "/", "/fallback"], subprotocols=["chat.v2", "chat.v1"])

both = pytest.mark.parametrize("transport", TRANSPORTS)


def place(client: ClientSession, transport: str) -> Any:
    """Where a handler sees the client."""
    client.open(transport)
    return client.request("place", None)


@both
@pytest.mark.parametrize("mount", ["/chat", "", "/fallback", "/chat/room/5", "/any/where"])
def test_every_door_leads_to_the_same_handlers(served: Served, transport: str, mount: str) -> None:
    url = (mount or "/") + "?room=1&room=2&name=%C3%A9"
    with ClientSession(served.port, mount=mount, url=url, protocols=["v3", "chat.v1"]) as client:
        seen = place(client, transport)
        host = seen.pop("full").partition("//")[2].partition("/")[0]
        assert host == f"127.0.0.1:{served.port}"
        assert seen == {
            "url": url,
            "protocol": "chat.v1",
            "path": mount or "/",
            "query": {"room": "1", "name": "\u00e9"},
            "view": {"/chat": "chat", "/chat/room/5": "chat", "": "page"}.get(mount),
            "offered": "v3, chat.v1",
        }
        assert client.machine.protocol == "chat.v1"
        # Both connections of one session, whatever their doors.
        client.switch("polling" if transport == "websocket" else "websocket")
        assert client.request("echo", 1) == 1
        assert client.machine.protocol == "chat.v1"
    assert "room=1" not in served.log()


@both
def test_without_a_url_and_subprotocols(served: Served, transport: str) -> None:
    with ClientSession(served.port) as client:
        seen = place(client, transport)
        door = "/fallback/" + {"websocket": "ws", "polling": "poll"}[transport]
        assert (seen["url"], seen["path"], seen["query"]) == ("/fallback", door, {})
        assert (seen["protocol"], seen["offered"], client.machine.protocol) == ("", None, "")


@both
def test_a_session_outlives_the_door_that_it_came_by(served: Served, transport: str) -> None:
    with ClientSession(served.port, mount="/chat", url="/chat?a=1") as client:
        client.open(transport)
        client.cut()
        client._mount = "/fallback"
        client.open("polling")
        assert client.request("place", None)["url"] == "/chat?a=1"


@pytest.mark.parametrize("path", ["/chat", "/chat/poll/", "/chat/room/poll", "/chat/room/ws"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_applications_own_pages_are_beside_the_doors(
    served: Served, path: str, method: str
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    # Twice: the first one's body is not to be left on the connection.
    for _ in range(2):
        body = "vote=yes" if method == "POST" else ""
        connection.request(method, path, body)
        reply = connection.getresponse()
        told = json.loads(reply.read())
        assert told == {"below": path[len("/chat/") :], "body": body}
    connection.close()


def test_below_a_mount_a_session_goes_on_with_the_servers_next_request(served: Served) -> None:
    hello = new_hello()
    first, second = (post(served.port, hello, path="/a/b/poll").welcome() for _ in range(2))
    assert first.id == second.id
