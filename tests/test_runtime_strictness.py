"""Which heads of requests are taken by a server whose own parser takes more."""

from __future__ import annotations

import io
import logging
from email import policy
from email.parser import Parser
from types import SimpleNamespace
from typing import Any

import pytest

from fallback_transport.runtime.strictness import (
    BENT,
    CUT,
    Lines,
    log_refused,
    misfit,
    parse_strictly,
)


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ("", None),
        ("Host: a\nContent-Length: 0\n", None),
        ("Host: a\nContent-Length: \t012 \n", None),
        ("Transfer-Encoding: \tChunked \n", None),
        ("Host: a\nno header\nHost: b\n", "a line that is no header"),
        (" Host: a\n", "a line that is no header"),
        ("Transfer-Encoding: gzip\n", "Transfer-Encoding"),
        ("Transfer-Encoding: gzip, chunked\n", "Transfer-Encoding"),
        ("Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n", "Transfer-Encoding"),
        ("Transfer-Encoding: \x0bchunked\n", "Transfer-Encoding"),
        ("Content-Length: 1\nTransfer-Encoding: chunked\n", "two lengths"),
        ("Content-Length: 1\nContent-Length: 1\n", "two lengths"),
        *(
            (f"Content-Length: {length}\n", "no number")
            for length in ("", "+1", "-1", "1 1", "0x1", "1" * 19, "\u0661", "\x0b1")
        ),
        (f"Content-Length: {'1' * 18}\n", None),
        ("Host: a\nHost: a\n", "several hosts"),
    ],
)
def test_headers_that_two_parsers_may_read_in_two_ways(head: str, problem: str | None) -> None:
    found = misfit(Parser(policy=policy.compat32).parsestr(head + "\n", headersonly=True))
    assert found is problem is None or problem in str(found)


class Handler:
    """One of Python's, as far as a head goes.

    Args:
        head: what it reads, of which the first line has been.
    """

    def __init__(self, head: bytes) -> None:
        self.file = self.rfile = io.BytesIO(head)
        self.raw_requestline = self.file.readline()
        self.headers: Any = None
        self.close_connection = False
        self.answers: list[Any] = []

    def parse(self) -> bool:
        lines = []
        while (line := self.rfile.readline(65537)) not in (b"\r\n", b"\n", b""):
            lines.append(line.decode("latin-1"))
        self.headers = Parser(policy=policy.compat32).parsestr("".join(lines), headersonly=True)
        return b"refused" not in self.raw_requestline

    def send_error(self, status: int, problem: str) -> None:
        self.answers.append((status, problem))


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody", None),
        (b"GET / HTTP/1.1\nHost: a\n\n", None),
        (b"GET /\0 HTTP/1.1\r\n\r\n", BENT),
        (b"GET / HTTP/1.1\r\nA: b\rHost: c\r\nD: e\r\n\r\n", BENT),
        (b"GET / HTTP/1.1\r\nA: b\r\nD: \0\r\n\r\n", BENT),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", CUT),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "several hosts"),
    ],
)
def test_a_head_that_is_not_taken_is_answered(head: bytes, problem: str | None) -> None:
    handler = Handler(head)
    assert parse_strictly(handler, handler.parse) is (problem is None)
    assert handler.answers == ([] if problem is None else [(400, problem)])
    assert handler.close_connection == (problem is not None)
    # What is behind it is read as it comes.
    assert handler.rfile is handler.file
    assert handler.file.read() == (b"body" if b"body" in head else b"")


def test_what_the_parser_refuses_it_has_answered() -> None:
    handler = Handler(b"refused\0\r\n\r\n")
    assert not parse_strictly(handler, handler.parse)
    assert (handler.answers, handler.rfile) == ([], handler.file)


def test_what_the_parser_raises_is_raised() -> None:
    handler = Handler(b"")

    def parse() -> bool:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        parse_strictly(handler, parse)
    assert handler.rfile is handler.file


def test_lines_are_read_as_they_are() -> None:
    lines = Lines(io.BytesIO(b"a\rb\r\nc\r\nlong line\r\n"))
    assert (lines.bent, lines.cut) == (False, False)
    assert (lines.readline(), lines.bent) == (b"a\rb\r\n", True)
    assert (lines.readline(), lines.bent) == (b"c\r\n", True)
    assert (lines.readline(4), lines.cut) == (b"long", False)
    assert (lines.readline(), lines.readline(), lines.cut) == (b" line\r\n", b"", True)


@pytest.mark.parametrize(
    ("line", "problem", "said"),
    [
        ("GET / HTTP/1.1", "Bad request syntax ('GET /?secret')", "'Bad request syntax'"),
        ("GET / HTTP/1.1", 'Bad "secret"', "'Bad'"),
        ("GET / HTTP/1.1", "a client's fault", '"a client\'s fault"'),
        ("\x16\x03\x01secret", "Bad request version ('secret')", "'TLS, where there is none: "),
        (None, "x" * 300, "'" + "x" * 199 + ", from"),
    ],
)
def test_what_is_refused_is_told_without_what_the_client_said(
    line: str | None, problem: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    handler = SimpleNamespace(client_address=("10.0.0.1", 4711))
    if line is not None:
        handler.requestline = line
    log_refused(handler, problem)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    assert message.startswith(f"refused as HTTP: {said}")
    assert message.endswith(", from 10.0.0.1")
    assert "secret" not in message
