"""The address that `transport.run` is told to listen on."""

from __future__ import annotations

import http.client

import pytest

from fallback_transport.protocol.codec import encode_body
from tests.client.raw import new_hello, polling_headers, read_reply
from tests.client.session import ClientSession
from tests.integration.served import MODES, OVER_WSGI, Served

pytestmark = pytest.mark.integration


modes = pytest.mark.parametrize(
    "mode",
    [
        pytest.param(mode, marks=[pytest.mark.requires("gevent")] if mode == "gevent" else [])
        for mode in (*MODES, OVER_WSGI)
    ],
)


@modes
def test_ipv6_and_ipv4(mode: str) -> None:
    with Served(mode, host="::") as server:
        assert f"serving on http://[::]:{server.port} " in server.log()
        connection = http.client.HTTPConnection("::1", server.port, timeout=10)
        for _ in range(2):
            own = {"Origin": f"http://[::1]:{server.port}"}
            body = encode_body(new_hello())
            connection.request("POST", "/fallback/poll", body, polling_headers(own))
            assert read_reply(connection.getresponse()).welcome()
        connection.close()
        for transport in ("websocket", "polling"):
            with ClientSession(server.port) as client:
                client.open(transport)
                assert client.request("echo", "over IPv4") == "over IPv4"


@modes
def test_an_address_with_its_zone(mode: str) -> None:
    """As link-local ones have; of those this machine may have none."""
    with Served(mode, host="::1%lo") as server:
        connection = http.client.HTTPConnection("::1", server.port, timeout=10)
        connection.request("POST", "/fallback/poll", encode_body(new_hello()), polling_headers())
        assert read_reply(connection.getresponse()).welcome()
        connection.close()
