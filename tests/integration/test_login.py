"""Logging in by cookie or token, and what ends sessions: refusal, expiry, logout."""

from __future__ import annotations

import itertools
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from fallback_transport.protocol.codes import CloseCode
from fallback_transport.protocol.envelope import Envelope
from fallback_transport.protocol.message import Close, Message
from tests.client.fixtures import MODE_PARAMS, TRANSPORTS
from tests.client.raw import RawPolling, new_hello, post, raw_websocket
from tests.client.session import ClientSession
from tests.client.waiting import eventually
from tests.integration.login_app import TOKEN
from tests.integration.served import Served
from tests.integration.stock_clients import PythonClient, our_tracebacks

both = pytest.mark.parametrize("transport", TRANSPORTS)
other = {"websocket": "polling", "polling": "websocket"}
numbers = itertools.count(1)


@pytest.fixture(scope="module", params=MODE_PARAMS)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with Served(request.param, module="tests.integration.login_app") as server:
        yield server
        assert not our_tracebacks(server.log()), server.log()


@pytest.fixture
def user() -> str:
    """A user that no other test has."""
    return f"user{next(numbers)}"


def logged_in(served: Served, user: str) -> dict[str, str]:
    """The headers of a page whose user has logged in."""
    with urllib.request.urlopen(f"{served.url}/login?user={user}") as answer:
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
    return {"Origin": served.url, "Cookie": cookie}


def visit(served: Served, path: str, headers: dict[str, str]) -> None:
    with urllib.request.urlopen(urllib.request.Request(served.url + path, headers=headers)):
        pass


def seen(served: Served, user: str) -> list[Any]:
    found: list[Any] = served.get(f"/seen?user={user}")
    return found


@contextmanager
def page(served: Served, transport: str, user: str) -> Iterator[tuple[ClientSession, Any]]:
    """A page whose user has logged in; and the headers of its next requests."""
    headers = logged_in(served, user)
    with ClientSession(served.port, headers=headers) as client:
        client.open(transport)
        yield client, headers


@both
def test_the_logins_cookie_says_who_it_is(served: Served, user: str, transport: str) -> None:
    with page(served, transport, user) as (client, _):
        assert client.request("who", 1) == user


@both
def test_without_a_login_the_page_can_show_why(served: Served, transport: str) -> None:
    for headers in ({"Origin": served.url}, {"Origin": served.url, "Cookie": "session=forged"}):
        with ClientSession(served.port, headers=headers) as client:
            client.switch(transport)
            assert client.wait_closed() == (4001, "log in first")
            assert client.refused["message"] == "log in first"


@both
def test_a_token_in_auth(served: Served, user: str, transport: str) -> None:
    with ClientSession(served.port, auth={"token": TOKEN, "user": user}) as client:
        client.open(transport)
        assert client.request("who", 1) == user
    with ClientSession(served.port, auth={"token": TOKEN[:-1], "user": user}) as client:
        client.switch(transport)
        assert client.wait_closed() == (CloseCode.UNAUTHORIZED, "a valid token, please")


# -- resuming --------------------------------------------------------------------------


@both
def test_while_the_login_holds_a_session_is_resumed(
    served: Served, user: str, transport: str
) -> None:
    with page(served, transport, user) as (client, _):
        client.cut()
        client.emit("who", 1)
        client.open(transport)
        assert client.request("who", 2) == user
        client.switch(other[transport])
        assert client.request("who", 3) == user
        told = seen(served, user)
        assert [each[0] for each in told] == ["connect", "resume", "who", "who", "resume", "who"]
        assert [each[1] for each in told if each[0] == "resume"] == [True, True]


@both
def test_with_an_expired_login_nothing_more_is_handled(
    served: Served, user: str, transport: str
) -> None:
    with page(served, transport, user) as (client, _):
        assert client.request("who", 1) == user
        client.cut()
        served.get(f"/expire?user={user}")
        client.emit("who", 2)
        client.emit("who", 3)
        client.switch(transport)
        assert client.wait_closed() == (4002, "the login has expired")
        eventually(lambda: seen(served, user)[-1][0] == "disconnect")
        told = seen(served, user)
        assert [each[0] for each in told] == ["connect", "who", "resume", "disconnect"]
        assert told[-1] == ["disconnect", 4002, "the login has expired"]
        # And the page knows what nobody has confirmed.
        texts = [item.data for item in client.unconfirmed]
        assert texts == ['2["who",2]', '2["who",3]']


@both
def test_the_cookies_of_the_resume_count(served: Served, user: str, transport: str) -> None:
    with page(served, transport, user) as (client, headers):
        client.cut()
        headers["Cookie"] = logged_in(served, f"{user}-other")["Cookie"]
        client.switch(transport)
        assert client.wait_closed() == (4002, "the login has expired")


@both
def test_a_resume_handler_that_raises_ends_the_session(
    served: Served, user: str, transport: str
) -> None:
    with page(served, transport, user) as (client, headers):
        client.cut()
        headers["X-Resume"] = "raise"
        client.emit("who", 1)
        client.switch(transport)
        assert client.wait_closed() == (CloseCode.INTERNAL_ERROR, "the resume handler raised")
        eventually(lambda: seen(served, user)[-1][0] == "disconnect")
        assert [each[0] for each in seen(served, user)] == ["connect", "resume", "disconnect"]


def test_polls_alone_are_no_resume(served: Served, user: str) -> None:
    with page(served, "polling", user) as (client, _):
        for number in range(10):
            client.request("who", number)
        assert all(each[0] != "resume" for each in seen(served, user))


def test_the_first_hello_again_does_not_get_round_the_handler(served: Served, user: str) -> None:
    headers = logged_in(served, user)
    hello = new_hello()
    polling = RawPolling.open(served.port, hello=hello, headers=headers)
    served.get(f"/expire?user={user}")
    with raw_websocket(served.port, headers=headers) as socket:
        socket.greet(replace(hello, attempt=2))
        text = Message('2["who",1]')
        socket.send(Envelope(1, 1, 2, (text,), commit=9, key=polling.key))
        # On which nothing was sent but this.
        while not (messages := socket.envelope().messages):
            pass
        assert messages == (Close(4002, "the login has expired"),)
    assert [each[0] for each in seen(served, user)] == ["connect", "resume"]


# -- ending ----------------------------------------------------------------------------


@both
def test_logging_out_ends_all_of_a_users_sessions(
    served: Served, user: str, transport: str
) -> None:
    headers = logged_in(served, user)
    with (
        ClientSession(served.port, headers=headers) as one,
        ClientSession(served.port, headers=headers) as two,
        ClientSession(served.port, headers=headers) as away,
        page(served, transport, f"{user}-other") as (bystander, _),
    ):
        one.open(transport)
        two.open(other[transport])
        away.open(transport)
        away.cut()
        visit(served, "/logout", headers)
        assert one.wait_closed() == two.wait_closed() == (4003, "logged out")
        # Who is away hears of it, too.
        away.switch("polling")
        assert away.wait_closed() == (4003, "logged out")
        assert bystander.request("who", 1) == f"{user}-other"
        eventually(lambda: seen(served, user).count(["disconnect", 4003, "logged out"]) == 3)


@both
def test_a_function_says_whose_sessions_end(served: Served, user: str, transport: str) -> None:
    with page(served, transport, user) as (client, _):
        served.get(f"/expire?user={user}&now=1")
        assert client.wait_closed() == (4004, "expired")


def test_a_stock_client_is_logged_out_as_well(served: Served, user: str) -> None:
    headers = logged_in(served, user)
    with ExitStack() as stack:
        stock = PythonClient(served.url, ("polling",), headers=headers)
        stack.callback(stock.drop)
        assert stock.call("who", 1) == user
        visit(served, "/logout", headers)
        stock.wait_named("disconnect")
        eventually(lambda: seen(served, user)[-1][0] == "disconnect")


# -- the log ---------------------------------------------------------------------------


def test_nothing_secret_is_in_the_log(served: Served, user: str) -> None:
    """Behind all that went wrong above, at level DEBUG."""
    headers = logged_in(served, user)
    secret = {"token": TOKEN, "user": user, "password": "hunter-two"}
    hello = new_hello(secret)
    polling = RawPolling.open(served.port, hello=hello, headers=headers)
    post(served.port, b"k" + polling.key.encode() + b" malformed", headers)
    post(served.port, replace(hello, attempt=2), {**headers, "Origin": "http://evil.test"})
    post(served.port, replace(hello, attempt=2), headers={})
    with raw_websocket(served.port, headers=headers) as socket:
        socket.greet(replace(hello, attempt=3))
        socket.send(Envelope(1, 1, commit=9, key=polling.key + "x"))
        socket.ended()
    # The last of it: a task or a thread writes the log, line by line.
    log = eventually(lambda: polling.id in served.log() and served.log())
    nonce, cookie = hello.nonce or "", headers["Cookie"].partition("=")[2]
    for value in (polling.key, nonce, TOKEN, "hunter-two", cookie):
        assert value
        assert value not in log
