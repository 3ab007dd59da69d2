"""`runtime.wire`: what a WSGI server reads requests from, and writes answers to."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from fallback_transport.runtime.headers import MAX_LINE
from fallback_transport.runtime.wire import Reader

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def nothing() -> None:
    """There is nobody to give way to."""


def test_a_reader_gives_back_what_nobody_has_read(pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(b" from the socket\nrest")
    reader = Reader(ours, nothing, b"head")
    assert reader.readline() == b"head from the socket\n"
    theirs.send(b"not read")
    assert reader.rest() == b"rest"
    assert Reader(ours, nothing, b"all").rest() == b"all"
    long = b"x" * 100_000
    assert Reader(ours, nothing, long).rest() == long
    assert ours.recv(100) == b"not read"


def test_whoever_reads_from_the_socket_gives_way(pair: Pair) -> None:
    ours, theirs = pair
    shared: list[None] = []
    reader = Reader(ours, lambda: shared.append(None), b"head")
    assert reader.read(4) == b"head"
    # That was read already.
    assert shared == []
    for number in (1, 2, 3):
        theirs.send(b"1\r\na\r\n")
        assert reader.read1() == b"1\r\na\r\n"
        assert len(shared) == number


def test_a_line_has_an_end(pair: Pair) -> None:
    ours, theirs = pair
    theirs.sendall(b"x" * (MAX_LINE - 1) + b"\n" + b"y" * MAX_LINE + b"\n")
    reader = Reader(ours, nothing)
    assert len(reader.readline()) == MAX_LINE
    with pytest.raises(ConnectionError):
        reader.readline()


def test_whoever_sets_a_line_a_bound_has_it(pair: Pair) -> None:
    ours, theirs = pair
    theirs.sendall(b"x" * 2 * MAX_LINE + b"\n")
    reader = Reader(ours, nothing)
    assert len(reader.readline(10)) == 10
    assert len(reader.readline(3 * MAX_LINE)) == 2 * MAX_LINE - 9
