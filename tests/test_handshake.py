"""What is a handshake of RFC 6455, and what is told that it is none."""

from __future__ import annotations

import pytest

from fallback_transport.handshake import BadHandshake, handshake, is_ours

ENVIRON = {
    "REQUEST_METHOD": "GET",
    "HTTP_HOST": "site.test",
    "HTTP_UPGRADE": "WebSocket",
    "HTTP_CONNECTION": "keep-alive, Upgrade",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_SEC_WEBSOCKET_KEY": "AAAAAAAAAAAAAAAAAAAAAA==",
    "HTTP_SEC_WEBSOCKET_PROTOCOL": "fallback.v1",
}


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"REQUEST_METHOD": "POST"}, 405),
        ({"HTTP_UPGRADE": "h2c"}, 426),
        ({"HTTP_UPGRADE": None}, 426),
        ({"HTTP_CONNECTION": "keep-alive"}, 426),
        ({"HTTP_CONNECTION": None}, 426),
        ({"HTTP_SEC_WEBSOCKET_VERSION": "8"}, 426),
        ({"HTTP_SEC_WEBSOCKET_VERSION": None}, 426),
        ({"HTTP_SEC_WEBSOCKET_KEY": None}, 426),
        ({"HTTP_SEC_WEBSOCKET_EXTENSIONS": "x" * 4097}, 400),
        ({"HTTP_SEC_WEBSOCKET_PROTOCOL": "a\r\nb: c"}, 400),
        ({"HTTP_SEC_WEBSOCKET_PROTOCOL": "\u0430"}, 400),
    ],
)
def test_what_is_no_handshake_is_told_so(changed: dict[str, str | None], status: int) -> None:
    environ = {name: value for name, value in {**ENVIRON, **changed}.items() if value is not None}
    with pytest.raises(BadHandshake) as caught:
        handshake(environ)
    assert caught.value.status == status
    told = {405: ("Allow", "GET"), 426: ("Sec-WebSocket-Version", "13")}
    assert status not in told or told[status] in caught.value.headers


def test_a_handshake_is_what_rfc_6455_reads_of_it() -> None:
    said = handshake({**ENVIRON, "HTTP_COOKIE": "a=secret", "HTTP_SEC_WEBSOCKET_X": "x" * 4096})
    assert said.startswith(b"GET / HTTP/1.1\r\n")
    assert b"secret" not in said
    assert b"\r\nSEC-WEBSOCKET-X: " + b"x" * 4096 + b"\r\n" in said


def test_what_asks_for_our_protocol_is_ours() -> None:
    assert is_ours(ENVIRON)
    assert is_ours({"HTTP_SEC_WEBSOCKET_PROTOCOL": "chat, fallback.v1"})
    assert not is_ours({"HTTP_SEC_WEBSOCKET_PROTOCOL": "chat"})
    assert not is_ours({})
