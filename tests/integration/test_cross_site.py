"""Pages of other sites that act with a user's cookies, and proxies that say who the page is.

What is sent here is what a browser would send for such a page: whatever the page can choose, and
the cookies that the browser adds by itself.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from websockets.exceptions import InvalidStatus
from werkzeug.middleware.proxy_fix import ProxyFix

from fallback_transport import FallbackTransport
from fallback_transport.protocol.codec import encode_body
from fallback_transport.testing import TestClient
from fallback_transport.testing.client import ConnectionFailed
from tests.client.fixtures import TRANSPORTS
from tests.client.raw import new_hello, post, raw_websocket
from tests.client.session import ClientSession
from tests.client.waiting import eventually
from tests.integration.served import Served

EVIL, FRIEND = "https://evil.example", "https://friend.example"
both = pytest.mark.parametrize("transport", TRANSPORTS)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Served(module="tests.integration.login_app", origins=[FRIEND, "null"]) as server:
        yield server


@pytest.fixture(scope="module")
def everybody() -> Iterator[Served]:
    with Served(module="tests.integration.login_app", origins="*") as server:
        yield server


@pytest.fixture(params=["served", "everybody"])
def victims(request: pytest.FixtureRequest) -> Served:
    found: Served = request.getfixturevalue(request.param)
    return found


def cookie(server: Served) -> str:
    """Of a user who has logged in."""
    with urllib.request.urlopen(f"{server.url}/login?user=victim") as answer:
        found: str = answer.headers["Set-Cookie"].partition(";")[0]
        return found


def login_seen(server: Served, transport: str, headers: dict[str, str]) -> bool:
    """Whether a session with the victim's cookie is the victim's."""
    with ClientSession(server.port, headers={**headers, "Cookie": cookie(server)}) as client:
        client.switch(transport)
        client.wait_for(lambda: client.accepted or client.closure)
        assert client.accepted or client.closure == (4001, "log in first")
        return bool(client.accepted)


@both
def test_a_page_of_another_site_is_refused_at_both_doors(served: Served, transport: str) -> None:
    before = served.get("/seen?user=victim")
    headers = {"Origin": EVIL, "Cookie": cookie(served)}
    if transport == "polling":
        assert post(served.port, new_hello(), headers).status == 403
    else:
        with pytest.raises(InvalidStatus), raw_websocket(served.port, headers):
            pass
    assert served.get("/seen?user=victim") == before


@both
def test_who_may_act_for_the_user(served: Served, everybody: Served, transport: str) -> None:
    assert login_seen(served, transport, {"Origin": served.url})
    assert login_seen(served, transport, {"Origin": FRIEND})
    assert login_seen(everybody, transport, {"Origin": everybody.url})
    assert not login_seen(everybody, transport, {"Origin": EVIL})
    for server in (served, everybody):
        # A sandbox of whoever, and something whose page nobody knows.
        assert not login_seen(server, transport, {"Origin": "null"})
        assert not login_seen(server, transport, {})
        assert not login_seen(server, transport, {"Sec-Fetch-Site": "cross-site"})
        assert not login_seen(server, transport, {"Sec-Fetch-Site": "same-site"})


def form(fields: dict[str, str]) -> bytes:
    """A form's body, with enctype text/plain, as browsers write it (HTML, section 4.10.22.8)."""
    return "".join(f"{name}={value}\r\n" for name, value in fields.items()).encode()


HELLO = encode_body(new_hello()).decode()
#: What a form can say that comes near to a hello; but each of its fields ends with a line.
FORMS = {
    "its name": {HELLO: ""},
    "its value": {"": HELLO},
    "in two": {HELLO.replace(".", "", 1)[:20]: HELLO[20:]},
    "a reason": {HELLO.replace('"nonce"', '"client":{"a":"', 1): '"},"nonce"\x1e.'},
}


@pytest.mark.parametrize("fields", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("origin", [EVIL, FRIEND, "null", None])
def test_a_form_is_no_hello(victims: Served, fields: dict[str, str], origin: str | None) -> None:
    headers = {"Cookie": cookie(victims), "Content-Type": "text/plain"}
    if origin is not None:
        headers["Origin"] = origin
    reply = post(victims.port, form(fields), headers)
    assert (reply.status, reply.end().code) in ((400, 4400), (403, 4403))


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_script_of_another_site_that_posts_a_whole_hello_acts_for_nobody(
    victims: Served, kind: str
) -> None:
    """By `fetch(…, {mode: "no-cors", credentials: "include"})`, or by a beacon."""
    before = victims.get("/seen?user=victim")
    headers = {"Cookie": cookie(victims), "Content-Type": kind}
    for origin in ({"Origin": EVIL}, {"Origin": "null"}, {}):
        assert post(victims.port, new_hello(), {**headers, **origin}).status in (200, 403)
    # The same from a page of ours, and of the user's sessions it is the only one.
    assert post(victims.port, new_hello(), {**headers, "Origin": victims.url}).status == 200
    eventually(lambda: victims.get("/seen?user=victim") != before)
    assert victims.get("/seen?user=victim") == [*before, ["connect"]]


@pytest.mark.parametrize(
    ("origin", "allow", "credentials"),
    [(FRIEND, FRIEND, "true"), ("null", "*", None), (EVIL, "*", None), (None, None, None)],
)
def test_what_another_origins_page_may_read(
    served: Served, origin: str | None, allow: str | None, credentials: str | None
) -> None:
    reply = post(served.port, new_hello(), {"Origin": origin} if origin else {})
    assert reply.headers["Access-Control-Allow-Origin"] == allow
    assert reply.headers["Access-Control-Allow-Credentials"] == credentials


def stock_login_seen(server: Served, headers: dict[str, str]) -> bool | int:
    """Whether a stock client with the victim's cookie is the victim's; a status, if refused."""
    door = "/socket.io/?EIO=4&transport=polling"
    headers = {**headers, "Cookie": cookie(server)}

    def ask(method: str, path: str, body: str | None = None) -> tuple[int, str]:
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()

    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        status, opened = ask("GET", door)
        if status != 200:
            return status
        place = f"{door}&sid={json.loads(opened[1:])['sid']}"
        assert ask("POST", place, "40")[0] == 200
        packet = ask("GET", place)[1]
    assert packet[:3] in ("40{", "44{")
    return packet[:2] == "40"


def test_stock_clients_go_by_the_same_rule(served: Served, everybody: Served) -> None:
    for server in (served, everybody):
        assert stock_login_seen(server, {"Origin": server.url}) is True
        assert stock_login_seen(server, {"Origin": "null"}) is False
        # Behind a proxy of which no ProxyFix was told.
        front = {"X-Forwarded-Host": "front.test, inner", "X-Forwarded-Proto": "https"}
        assert stock_login_seen(server, {"Origin": "https://front.test", **front}) is True
        # A program's, or of an old browser's page; and a script element of another site.
        assert stock_login_seen(server, {}) is True
        assert stock_login_seen(server, {"Sec-Fetch-Site": "same-origin"}) is True
        assert stock_login_seen(server, {"Sec-Fetch-Site": "cross-site"}) is False
    assert stock_login_seen(served, {"Origin": FRIEND}) is True
    assert stock_login_seen(served, {"Origin": EVIL}) == 400
    assert stock_login_seen(served, {"Origin": EVIL, **front}) == 400
    assert stock_login_seen(everybody, {"Origin": EVIL}) is False


def test_there_is_no_preflight(served: Served) -> None:
    """What needs one is nothing that our client sends: so none is granted."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port)
    headers = {"Origin": FRIEND, "Access-Control-Request-Method": "POST"}
    connection.request("OPTIONS", "/fallback/poll", headers=headers)
    reply = connection.getresponse()
    assert reply.status == 405
    assert "Access-Control-Allow-Methods" not in reply.headers
    assert "Access-Control-Allow-Headers" not in reply.headers
    connection.close()


# -- behind a proxy ----------------------------------------------------------------------


@pytest.fixture(params=["before", "after"])
def fixed(request: pytest.FixtureRequest) -> FallbackTransport:
    """An app with werkzeug's ProxyFix, put there before or after the sessions."""
    app = flask.Flask(__name__)

    def fix() -> None:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1, x_proto=1)  # type: ignore[method-assign]

    if request.param == "before":
        fix()
    transport = FallbackTransport(app, async_mode="threading")
    if request.param == "after":
        fix()

    @transport.on_message("where")
    def where(client: Any, data: Any) -> list[Any]:
        return [flask.request.host_url, flask.request.cookies.get("a"), flask.request.remote_addr]

    return transport


PUBLIC = {"X-Forwarded-Host": "chat.example", "X-Forwarded-Proto": "https"}


@both
@pytest.mark.parametrize(
    ("forwarded", "origin", "fine"),
    [
        (PUBLIC, "https://chat.example", True),
        (PUBLIC, "https://chat.example:443", True),
        # Less secure than what the proxy was asked by.
        (PUBLIC, "http://chat.example", False),
        (PUBLIC, "https://evil.example", False),
        # The name that only the proxy knows is no page's.
        (PUBLIC, "https://localhost", False),
        ({"X-Forwarded-Host": "evil.example, chat.example"}, "https://evil.example", False),
        ({"X-Forwarded-Host": "evil.example, chat.example"}, "https://chat.example", True),
        ({}, "http://localhost", True),
    ],
)
def test_the_origin_is_compared_with_what_the_proxy_was_asked_for(
    fixed: FallbackTransport, transport: str, forwarded: dict[str, str], origin: str, fine: bool
) -> None:
    headers = {**forwarded, "Origin": origin, "Host": "localhost"}

    def connect() -> TestClient:
        return TestClient(fixed, over=transport, headers=headers, cookies={"a": "1"})

    if not fine:
        with pytest.raises(ConnectionFailed):
            connect()
        return
    with connect() as client:
        scheme = forwarded.get("X-Forwarded-Proto", "http")
        host = "chat.example" if forwarded else "localhost"
        assert client.request("where")[:2] == [f"{scheme}://{host}/", "1"]
