"""`heads` and `session_heads`: what is plainly the head of a session request."""

from __future__ import annotations

from typing import Any

import pytest

from fallback_transport import session_heads
from fallback_transport.heads import read_head
from fallback_transport.session_heads import MAX_REMEMBERED, REMEMBERED

from .hub import Place
from .integration.raw import handshake, request


def test_a_head_is_the_environ_that_wsgi_would_have() -> None:
    environ = read_head(
        b"POST /fallback/poll HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\nX_A: 3\r\n"
        b"Content-Type: text/plain\r\nContent-Length: 5\r\nCookie:  a=\xe9 \r\n\r\n"
    )
    assert environ == {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/fallback/poll",
        "RAW_PATH_INFO": "/fallback/poll",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "5",
        "SERVER_PROTOCOL": "HTTP/1.0",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "h",
        "HTTP_X_A": "1,2",
        "HTTP_COOKIE": "a=\xe9",
    }


@pytest.mark.parametrize(
    "head",
    [
        b"POST /fallback/poll HTTP/1.0\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\nHost: h\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nA: b\rc\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nA: b\0\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nA : b\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nA\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\n: b\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nContent-Length: 1,1\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nContent-Length: 1 \r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nContent-Length:\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nContent-Length: 1234567890123\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nTransfer-Encoding: x\r\nContent-Length: 1\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
        b"POST /fallback/poll?a HTTP/1.1\r\n\r\n",
        b"POST /fallback/%70oll HTTP/1.1\r\n\r\n",
        b"POST http://h/fallback/poll HTTP/1.1\r\n\r\n",
        b"POST * HTTP/1.1\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nHost: h\r\nhost: h\r\n\r\n",
        b"POST /fallback/poll HTTP/1.1\r\nHost: h",
        b"",
    ],
)
def test_what_is_not_plainly_a_head_is_none(head: bytes) -> None:
    assert read_head(head) is None


@pytest.mark.parametrize(
    ("begin", "ours"),
    [
        (b"P", True),
        (b"G", True),
        (b"H", False),
        (b"POST /", True),
        (b"POST /fall", True),
        (b"POST /falling", False),
        (b"GET /fallback/w", True),
        (b"PUT /fallback/poll", False),
        (b"POST /fallback/poll HTTP/1.1\r\nHost", True),
        (b"POST /fallback/deeper/poll HTTP/1.1\r\n", True),
        (b"GET /fallback/ws HTTP/1.1\r\n", True),
        (b"GET /fallback/poll HTTP/1.1\r\n", False),
        (b"POST /fallback/ws HTTP/1.1\r\n", False),
        (b"POST /fallback/poll HTTP/1.0\r\n", False),
        (b"POST /fallback/poll HTTP/1.1\n", False),
        (b"POST /poll HTTP/1.1\r\n", False),
    ],
)
def test_how_a_session_request_begins(begin: bytes, ours: bool) -> None:
    assert Place().front.heads.may_be_ours(begin) is ours


def test_at_the_root_every_path_may_be_ours() -> None:
    heads = Place(path=("/",)).front.heads
    assert heads.may_be_ours(b"POST /any/where")
    assert heads.may_be_ours(b"POST /poll HTTP/1.1\r\n")
    assert not heads.may_be_ours(b"POST /socket.io/poll HTTP/1.1\r\n")


def test_remembered_heads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = Place().front.heads
    read: list[bytes] = []

    def reading(text: bytes) -> Any:
        read.append(text)
        return read_head(text)

    monkeypatch.setattr(session_heads, "read_head", reading)
    for number in range(3):
        # Whatever the length, they are one.
        head = request("POST", "/fallback/poll", b"x" * number)[: -number or None]
        found = heads.find(head)
        assert found is not None
        assert found[1] == number
    assert len(read) == 1
    for number in range(2 * REMEMBERED):
        head = request("POST", "/fallback/poll", b"", {"Cookie": f"a={number}"})
        assert heads.find(head) is not None
        assert len(heads._heads) <= REMEMBERED
    before = dict(heads._heads)
    long = request("POST", "/fallback/poll", b"", {"Cookie": "a" * MAX_REMEMBERED})
    assert heads.find(long) is not None
    assert heads.find(handshake()[:-2] + b"X: y\r\n\r\n") is not None
    assert heads._heads == before


def test_a_head_is_known_again_whatever_its_length() -> None:
    def asked(body: bytes, **headers: str) -> bytes:
        return request("POST", "/fallback/poll", body, headers)

    text = asked(b"one")
    found = Place().front.heads.find(text[:-3])
    assert found is not None
    head = found[0]
    for body in (b"", b"x", b"x" * 12_345):
        again = asked(body)
        for buffer in (again, bytearray(again + text)):
            assert head.again(buffer) == (len(again) - len(body), len(again))
        # As far as it is there.
        assert head.again(again[: len(again) - len(body)]) is not None
        assert head.again(again[: len(again) - len(body) - 1]) is None
    for other in (
        b"",
        b"GET /fallback/poll HTTP/1.1\r\n\r\n",
        asked(b"one", Cookie="a=b"),
        text.replace(b"Length: 3", b"Length: "),
        text.replace(b"Length: 3", b"Length: +3"),
        text.replace(b"Length: 3", b"Length: 3 "),
        text.replace(b"Length: 3", b"Length: 3\r\nContent-Length: 3"),
        text.replace(b"Length: 3", b"Length: 3\n"),
        text.replace(b"Length: 3", b"Length: 0000000000003"),
        # More than the server takes.
        text.replace(b"Length: 3", b"Length: 1000001"),
    ):
        assert head.again(other) is None
    # As long as may be, and as `find` reads it.
    padded = text.replace(b"Length: 3", b"Length: 000000000003")
    assert head.again(padded) == (len(padded) - 3, len(padded))
