"""Which way there is to a server, and why there is none."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fallback_transport.doctor.route import Route, TunnelRefused, Unreachable

#: Seconds in which what is there has come, on a busy machine.
SOON = 10.0
BOTH = {"http": "http://plain.test:3128", "https": "secure.test"}


@contextlib.contextmanager
def proxy(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """The address of one that answers so, and what it was asked, once it has the end of it."""
    asked: list[bytes] = []

    def serve() -> None:
        with listener.accept()[0] as sock:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += sock.recv(65536)
            asked.append(head)
            sock.sendall(answer)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", asked
        thread.join()


@pytest.mark.parametrize(
    ("url", "tunnel", "proxies", "asked"),
    [
        ("http://host.test", False, {}, ("host.test", 80)),
        ("https://host.test", False, {}, ("host.test", 443)),
        ("http://host.test:81", True, {}, ("host.test", 81)),
        ("http://host.test", False, BOTH, ("plain.test", 3128)),
        ("https://host.test", False, BOTH, ("secure.test", 80)),
        # As a browser: the one for https, for every tunnel, if there is one.
        ("http://host.test", True, BOTH, ("secure.test", 80)),
        ("http://host.test", True, {"http": BOTH["http"]}, ("plain.test", 3128)),
        ("https://host.test", True, {"http": BOTH["http"]}, ("host.test", 443)),
        ("http://host.test", False, {"https": BOTH["https"]}, ("host.test", 80)),
    ],
)
def test_who_is_connected_to(
    url: str,
    tunnel: bool,
    proxies: dict[str, str],
    asked: tuple[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connected: list[Any] = []

    def connect(address: tuple[str, int], timeout: float, *_: Any) -> Any:
        connected.append((address, timeout))
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(Unreachable) as failed:
        Route(url, proxies=proxies).connect(4.5, tunnel=tunnel)
    assert connected == [(asked, 4.5)]
    by = asked[0] != "host.test"
    assert str(failed.value) == (
        "the proxy gives no connection (connection refused)" if by else "connection refused"
    )


def test_a_proxy_is_asked_by_whole_urls() -> None:
    with proxy(b"HTTP/1.1 204 No Content\r\n\r\n") as (address, _):
        route = Route("http://host.test", proxies={"http": f"http://me:p%40ss@{address}"})
        connection, before, headers = route.connect(SOON)
        with contextlib.closing(connection):
            assert before == "http://host.test"
            assert headers == {"Proxy-Authorization": "Basic bWU6cEBzcw=="}
            connection.request("GET", before + "/", headers=headers)
            assert connection.getresponse().status == 204


def test_a_tunnel() -> None:
    with proxy(b"HTTP/1.1 200 Connected\r\n\r\n") as (address, asked):
        route = Route("https://host.test", proxies={"https": f"http://me@{address}"})
        connection, before, headers = route.connect(SOON, tunnel=True)
        with contextlib.closing(connection):
            assert (before, headers) == ("", {})
            assert asked[0].startswith(b"CONNECT host.test:443 HTTP/1.")
            assert b"Proxy-Authorization: Basic bWU6\r\n" in asked[0]
            # The way to the server, without TLS.
            assert type(connection.sock) is socket.socket


def test_a_tunnel_that_is_refused() -> None:
    with proxy(b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n") as (address, asked):
        route = Route("http://host.test:8080", proxies={"http": address})
        with pytest.raises(TunnelRefused, match=r"^CONNECT 407$") as refused:
            route.connect(SOON, tunnel=True)
        assert refused.value.status == 407
        assert asked[0].startswith(b"CONNECT host.test:8080 HTTP/1.")
        assert b"Proxy-Authorization" not in asked[0]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"SSH-2.0-x\r\n", "the proxy's answer is none"),
        (b"", "the proxy gives no connection (remote end closed connection without response)"),
    ],
)
def test_a_proxy_that_answers_nothing_of_use(answer: bytes, why: str) -> None:
    with proxy(answer) as (address, _), pytest.raises(Unreachable) as failed:
        Route("https://host.test", proxies={"https": address}).connect(SOON)
    assert str(failed.value) == why
