"""The client's packets, against python-socketio's own class."""

from __future__ import annotations

from typing import Any

import pytest
from socketio import packet as sio

from tests.client.packets import (
    ACK,
    BINARY_EVENT,
    CONNECT,
    ERROR,
    EVENT,
    Packet,
    PacketReader,
    encode,
)

PACKETS = [
    Packet(CONNECT),
    Packet(CONNECT, {"token": "t"}),
    Packet(EVENT, ["chat", "hello"]),
    Packet(EVENT, ["chat", {"n": [1, None, "\x1e\ud800"]}], 12),
    Packet(EVENT, ["picture", b"\x00\xff", {"two": [b"", b"x"]}], 0),
    Packet(ACK, [], 3),
    Packet(ACK, [b"bytes"], 4),
]


@pytest.mark.parametrize("packet", PACKETS, ids=str)
def test_a_packet_comes_back(packet: Packet) -> None:
    reader = PacketReader()
    *first, last = [reader.feed(message) for message in encode(packet)]
    assert first == [None] * len(first)
    assert last == packet


@pytest.mark.parametrize("packet", PACKETS, ids=str)
def test_python_socketio_writes_what_we_read(packet: Packet) -> None:
    written: Any = sio.Packet(packet.kind, packet.data, id=packet.id).encode()
    reader = PacketReader()
    messages = written if isinstance(written, list) else [written]
    assert [reader.feed(message) for message in messages][-1] == packet


@pytest.mark.parametrize("packet", PACKETS, ids=str)
def test_python_socketio_reads_what_we_write(packet: Packet) -> None:
    text, *attachments = encode(packet)
    read = sio.Packet(encoded_packet=text)
    for attachment in attachments:
        read.add_attachment(attachment)
    assert (read.data, read.id) == (packet.data, packet.id)


def test_an_error_reply_is_read() -> None:
    read = PacketReader().feed('75{"code":1011,"message":"no"}')
    assert read == Packet(ERROR, {"code": 1011, "message": "no"}, 5)


@pytest.mark.parametrize("messages", [[b"x"], ["x"], ["51-[]", "2[]"], ["2[]", b"x"]], ids=str)
def test_what_is_out_of_place_is_refused(messages: list[str | bytes]) -> None:
    reader = PacketReader()
    *first, last = messages
    for message in first:
        reader.feed(message)
    with pytest.raises(ValueError, match=r"attachment|no packet|place|announced"):
        reader.feed(last)


def test_a_binary_packet_says_so() -> None:
    assert str(encode(Packet(EVENT, ["x", b""]))[0]).startswith(f"{BINARY_EVENT}1-")
