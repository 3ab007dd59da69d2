"""The terminal's WebSocket, and what it says of one that is refused, or ends."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator

import pytest
from websockets.utils import accept_key

from fallback_transport.doctor.client import Ended, WebSocketClient

#: Seconds in which what is there has come, on a busy machine.
SOON = 10.0
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
OURS = b"Sec-WebSocket-Protocol: fallback.v1\r\n"
TOO_BIG = b"\x88\x02\x03\xf1"


@pytest.fixture
def pair() -> Iterator[tuple[WebSocketClient, socket.socket]]:
    """A client before its handshake is answered, and who has its other end."""
    ours, theirs = socket.socketpair()
    client = WebSocketClient(ours, "ws://host.test/", "http://host.test", {"Cookie": "login=1"})
    with contextlib.closing(client), theirs:
        yield client, theirs


@pytest.fixture
def opened(
    pair: tuple[WebSocketClient, socket.socket],
) -> tuple[WebSocketClient, socket.socket]:
    """The same, open."""
    client, theirs = pair
    accept(client, theirs, OURS)
    assert client.open(SOON)
    return client, theirs


def accept(client: WebSocketClient, theirs: socket.socket, named: bytes) -> None:
    """Answer the handshake, with such a subprotocol."""
    client._pump()
    asked = theirs.recv(65536)
    assert b"\r\nOrigin: http://host.test\r\n" in asked
    assert b"\r\nCookie: login=1\r\n" in asked
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", asked)
    assert key
    accepted = b"Sec-WebSocket-Accept: " + accept_key(key[1].decode()).encode() + b"\r\n"
    theirs.sendall(UPGRADE + accepted + named + b"\r\n")


def test_a_handshake_whose_answer_names_no_subprotocol_has_failed(
    pair: tuple[WebSocketClient, socket.socket],
) -> None:
    """As in every browser."""
    client, theirs = pair
    accept(client, theirs, b"")
    with pytest.raises(Ended, match="no subprotocol"):
        client.open(SOON)
    assert client.response is not None


def test_a_handshake_that_is_refused(pair: tuple[WebSocketClient, socket.socket]) -> None:
    client, theirs = pair
    theirs.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    assert not client.open(SOON)
    assert client.response is not None
    assert client.response.status_code == 403


@pytest.mark.parametrize(
    "answer", [UPGRADE + OURS + b"Sec-WebSocket-Accept: another\r\n\r\n", b"SSH-2.0-x\r\n", b""]
)
def test_an_answer_that_is_none(answer: bytes, pair: tuple[WebSocketClient, socket.socket]) -> None:
    client, theirs = pair
    theirs.sendall(answer)
    if not answer:
        theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(Ended):
        client.open(SOON)
    assert (client.response is not None) == answer.startswith(UPGRADE)


@pytest.mark.parametrize(
    ("last", "ends", "code"),
    [(TOO_BIG, False, 1009), (TOO_BIG, True, 1009), (b"\x88\0", False, 1005), (b"", True, None)],
)
def test_how_it_was_closed(
    last: bytes, ends: bool, code: int | None, opened: tuple[WebSocketClient, socket.socket]
) -> None:
    client, theirs = opened
    theirs.sendall(b"\x81\x01x" + last)
    if ends:
        theirs.shutdown(socket.SHUT_WR)
    assert client.receive(SOON) == "x"
    for ended in (lambda: client.receive(SOON), lambda: client.send("x")):
        with pytest.raises(Ended) as caught:
            ended()
        assert caught.value.code == code


@pytest.mark.parametrize("garbled", [b"\xc1\x01x", b"\x83\0", b"\x81\x81abcdx", b"\x88\x01a"])
def test_what_is_no_websocket_any_more_has_ended(
    garbled: bytes, opened: tuple[WebSocketClient, socket.socket]
) -> None:
    """As in every browser; whoever garbles it need not end it."""
    client, theirs = opened
    theirs.sendall(b"\x81\x01x" + garbled)
    assert client.receive(SOON) == "x"
    with pytest.raises(Ended) as caught:
        client.receive(SOON)
    assert caught.value.code is None


def test_who_refuses_what_comes_says_so_before_it_goes(
    opened: tuple[WebSocketClient, socket.socket],
) -> None:
    """As where a message is too large: the rest of it cannot be sent any more."""
    client, theirs = opened
    theirs.sendall(TOO_BIG)
    theirs.close()
    client.send("x" * 100_000)
    with pytest.raises(Ended) as caught:
        client.receive(SOON)
    assert caught.value.code == 1009


def test_text_that_is_none_is_shown(opened: tuple[WebSocketClient, socket.socket]) -> None:
    client, theirs = opened
    theirs.sendall(b"\x01\x01a\x80\x01\xff")
    assert client.receive(SOON) == "a\ufffd"


def test_what_is_sent_goes_while_something_is_waited_for(
    opened: tuple[WebSocketClient, socket.socket],
) -> None:
    client, theirs = opened
    size = 14 + 5_000_000
    heard = bytearray()

    def answer() -> None:
        while len(heard) < size:
            heard.extend(theirs.recv(65536))
        theirs.sendall(b"\x81\x01x")

    client.send("x" * 5_000_000)
    thread = threading.Thread(target=answer)
    thread.start()
    assert client.receive(SOON) == "x"
    thread.join()
    assert heard[:10] == b"\x81\xff" + (5_000_000).to_bytes(8, "big")
    client.close()
    goodbye = theirs.recv(65536)
    assert goodbye[:2] == b"\x88\x82"
    assert bytes([goodbye[6] ^ goodbye[2], goodbye[7] ^ goodbye[3]]) == b"\x03\xe8"
    assert theirs.recv(1) == b""
