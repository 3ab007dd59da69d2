"""`read_headers`: the same headers as by Python's parser of e-mails, or its own."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallback_transport.runtime.headers import MAX_LINE, MAX_LINES, PlainHeaders, read_headers
from fallback_transport.runtime.strictness import Lines, is_bent

pywsgi = pytest.importorskip("gevent.pywsgi")

PLAIN = (
    b"Host: example.org\r\n"
    b"Content-Length: 12\r\n"
    b"content-type:text/plain\r\n"
    b"Cookie: a=b; c=d\r\n"
    b"X-Odd:  two words \t\r\n"
    b"X-Empty:\r\n"
    b"Cookie: e=f\r\n"
    b"Under_score: \xe9\r\n"
    b"\r\n"
)


def read(text: bytes) -> tuple[Any, bytes]:
    """What is read of it, and what is left."""
    file = io.BytesIO(text)
    return read_headers(file, pywsgi.headers_factory), file.read()


def stock(text: bytes) -> Any:
    return pywsgi.headers_factory(io.BytesIO(text), 0)


class Handler(pywsgi.WSGIHandler):  # type: ignore[misc,name-defined]
    """As far as it makes an environ of headers."""

    def __init__(self, headers: Any) -> None:
        self.headers = headers


def environ(headers: Any) -> dict[str, str]:
    """What pywsgi makes of them."""
    made: dict[str, str] = {}
    for name, value in Handler(headers)._headers():
        made[name] = f"{made[name]},{value}" if name in made else value
    return made


def test_plain_headers_are_read_here() -> None:
    headers, rest = read(PLAIN + b"the body")
    assert type(headers) is PlainHeaders
    assert rest == b"the body"
    expected = stock(PLAIN)
    assert environ(headers) == environ(expected)
    assert environ(headers)["HTTP_X_ODD"] == "two words"
    for name in ("host", "Content-Length", "CONTENT-TYPE", "cookie", "x-empty", "x-none"):
        assert headers.get(name) == headers.getheader(name) == expected.get(name)
    assert headers.get("x-none", "default") == "default"
    assert headers.typeheader == expected.typeheader == "text/plain"
    assert headers.status == ""


def test_no_header_at_all_is_plain() -> None:
    headers, rest = read(b"\r\nGET")
    assert type(headers) is PlainHeaders
    assert (environ(headers), headers.typeheader, rest) == ({}, None, b"GET")


@pytest.mark.parametrize(
    "text",
    [
        b"Host: a\n\n",
        b"Host: a\r\n folded\r\n\r\n",
        b"Host : a\r\n\r\n",
        b"no colon\r\n\r\n",
        b": no name\r\n\r\n",
        b"Host: a\r\nhost: b\r\n\r\n",
        b"From me\r\nHost: a\r\n\r\n",
        b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"Content-Length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"Content-Length: +1\r\n\r\n",
        b"Content-Length:\r\n\r\n",
        b"Content-Length: 1, 1\r\n\r\n",
        b"Content-Length: " + b"1" * 19 + b"\r\n\r\n",
    ],
)
def test_what_is_out_of_the_ordinary_goes_to_the_parser(text: bytes) -> None:
    headers, rest = read(text)
    assert type(headers) is not PlainHeaders
    assert (list(headers.items()), rest) == (list(stock(text).items()), b"")


BENT = [
    b"Host: a\rContent-Length: 3\r\n",
    b"Host: a\r\r\n",
    b"Host: a\r",
    b"\r\r\n",
    b"Host: a\0b\r\n",
    b"\0\n",
]


@pytest.mark.parametrize("line", BENT)
def test_a_bent_line_is_nobodys(line: bytes) -> None:
    with pytest.raises(ValueError, match="amid a line"):
        read(b"X: y\r\n" + line + b"\r\n\r\n")


@pytest.mark.parametrize("line", BENT)
def test_lines_are_looked_at_on_their_way_to_a_parser(line: bytes) -> None:
    text = [b"X: y\r\n", b"X: y\n", line]
    lines = Lines(io.BytesIO(b"".join(text)))
    read = [lines.readline(99)]
    read.append(lines.readline(99))
    assert not lines.bent
    read.append(lines.readline(99))
    assert lines.bent
    # And that is kept in mind.
    assert lines.readline(99) == b""
    assert lines.bent
    assert read == text


@pytest.mark.parametrize(
    "text", [b"", b"Host: a", b"Host: a\r\n", b"Host: a\r\nContent-Length: 1\r"]
)
def test_what_the_end_of_the_stream_cuts_is_no_head(text: bytes) -> None:
    with pytest.raises(ValueError, match="without an end"):
        read(text)
    lines = Lines(io.BytesIO(text))
    while lines.readline(99):
        assert not lines.cut
    assert lines.cut


def test_the_bounds_are_those_of_the_parser() -> None:
    longest = b"X: " + b"a" * (MAX_LINE - 5) + b"\r\n"
    assert type(read(longest + b"\r\n")[0]) is PlainHeaders
    assert read(b"X" + longest + b"\r\n")[0].status == stock(b"X" + longest).status != ""
    most = b"X: a\r\n" * (MAX_LINES - 1)
    assert type(read(most + b"\r\n")[0]) is PlainHeaders
    for parse in (read, stock):
        with pytest.raises(Exception, match="got more than 100 headers"):
            parse(most + b"X: a\r\nX: b\r\n\r\n")


NAMES = (b"Host", b"content-length", b"Transfer-Encoding", b"a_b", b"From x")
SIGNS = (b":", b": ", b" ", b"\t", b",", b"\r\n", b"\n", b"\r", b"\0")
#: What Python's own `splitlines` takes for the ends of lines, among others.
ODD = (b"\xff", b"\x0c", b"\x85", b"\x1c")
PIECES = st.sampled_from([*NAMES, *SIGNS, *ODD, b"12", b"chunked"])


@given(st.lists(PIECES, max_size=24))
def test_both_agree_on_whatever_is_plain(pieces: list[bytes]) -> None:
    text = b"".join(pieces) + b"\r\n\r\n"
    try:
        headers, rest = read(text)
    except ValueError:
        assert is_bent(text)
        return
    if type(headers) is not PlainHeaders:
        return
    expected = stock(text)
    assert not expected.defects
    assert environ(headers) == environ(expected)
    assert [name.lower() for name in expected] == [
        line.partition(":")[0].lower() for line in headers.headers
    ]
    assert headers.get("content-length", "") == (expected.get("content-length") or "").strip(" \t")
    assert text.endswith(rest)
