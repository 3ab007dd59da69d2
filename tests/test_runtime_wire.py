"""`runtime.wire`: what a WSGI server reads requests from, and writes answers to."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from fallback_transport.runtime.headers import MAX_LINE
from fallback_transport.runtime.servers import _listening
from fallback_transport.runtime.wire import CLIENT_WAIT, Reader, Wire

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
    assert Reader(ours, nothing).rest() == b""
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


class Silent:
    """A socket whose peer neither sends nor takes anything."""

    def __init__(self) -> None:
        self.timeout: float | None = None
        #: For how long it was waited.
        self.waited: list[float | None] = []

    def settimeout(self, seconds: float | None) -> None:
        self.timeout = seconds

    def wait(self, data: Any) -> int:
        self.waited.append(self.timeout)
        raise TimeoutError

    recv_into = sendall = wait


def test_a_client_that_sends_nothing_has_ended() -> None:
    sock = Silent()
    reader = Reader(sock, nothing)
    with pytest.raises(TimeoutError):
        reader.readline(99)
    # Whoever goes on all the same, with what is behind a body, does not wait again.
    assert reader.read() == b""
    assert sock.waited == [CLIENT_WAIT]
    assert sock.timeout is None


def test_a_client_that_takes_nothing_is_sent_nothing_more() -> None:
    sock = Silent()
    writer = io.BufferedWriter(Wire(sock))
    writer.write(b"an answer")
    with pytest.raises(TimeoutError):
        writer.flush()
    writer.close()
    assert sock.waited == [CLIENT_WAIT]
    assert sock.timeout is None


def test_of_what_is_accepted_it_is_asked_whether_it_is_still_there() -> None:
    with (
        _listening("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
