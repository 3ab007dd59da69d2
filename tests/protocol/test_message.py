"""Messages, parts and closes: valid by construction, encoded once."""

from __future__ import annotations

import base64
import dataclasses

import pytest

from fallback_transport.protocol.errors import MalformedEnvelope, MessageRefused
from fallback_transport.protocol.message import SEPARATOR, Close, Message, Part


@pytest.mark.parametrize(
    ("data", "size", "segment"),
    [
        ("", 0, "m"),
        ("hello", 5, "mhello"),
        ("m", 1, "mm"),
        (".", 1, "m."),
        ("é", 2, "mé"),
        ("€", 3, "m€"),
        ("\U0001f600", 4, "m\U0001f600"),
        ("\0\x1d\x1f\u2028", 6, "m\0\x1d\x1f\u2028"),
        (SEPARATOR, 1, 'e"\\u001e"'),
        (f'é{SEPARATOR}"\\\n', 6, 'e"é\\u001e\\"\\\\\\n"'),
        (b"", 0, "b"),
        (b"\0", 1, "bAA=="),
        (b"\0\x01", 2, "bAAE="),
        (b"\x1e.\xff", 3, "bHi7/"),
        (bytes(range(256)), 256, "b" + base64.b64encode(bytes(range(256))).decode()),
    ],
)
def test_a_message_knows_its_size_and_its_segment(
    data: str | bytes, size: int, segment: str
) -> None:
    message = Message(data)
    assert (message.data, message.size, message.segment) == (data, size, segment)


@pytest.mark.parametrize("data", ["a\x1e", b"\0" * 10])
def test_a_message_is_encoded_once(data: str | bytes) -> None:
    message = Message(data)
    assert message.segment is message.segment


@pytest.mark.parametrize("data", ["\ud800", "a\udfff", "\udc00\ud800", "é\ud83d"])
def test_text_that_utf8_cannot_carry_is_refused(data: str) -> None:
    with pytest.raises(MessageRefused, match="lone surrogate"):
        Message(data)


def test_messages_are_equal_by_what_they_carry() -> None:
    one, same, other = Message("a"), Message("a"), Message("b")
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != "a"
    assert Message("a") != Message(b"a")
    assert repr(one) == "Message('a')"


@pytest.mark.parametrize(
    ("code", "reason", "segment"),
    [
        (1000, "", 'c[1000,""]'),
        (4000, 'é "x" \x1e', 'c[4000,"é \\"x\\" \\u001e"]'),
    ],
)
def test_a_close_and_its_segment(code: int, reason: str, segment: str) -> None:
    close = Close(code, reason)
    assert (close.segment, close.size) == (segment, len(segment.encode()))
    assert SEPARATOR not in segment


@pytest.mark.parametrize(
    ("code", "reason"), [(999, ""), (1005, "x"), (5000, ""), (1000, "x" * 124), (1000, "\ud800")]
)
def test_a_close_that_cannot_go_over_the_wire_is_none(code: int, reason: str) -> None:
    with pytest.raises(ValueError, match=r"close code|reason"):
        Close(code, reason)


def test_a_close_and_a_part_do_not_change() -> None:
    for item in (Close(1000), Part("a", 0, 2)):
        name = dataclasses.fields(item)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(item, name, 7)


@pytest.mark.parametrize("part", [("", 0, 1), (b"", 0, 1), ("ab", 1, 2), (b"ab", 1, 2)])
def test_a_part_that_does_not_fit_its_message_is_none(part: tuple[str | bytes, int, int]) -> None:
    with pytest.raises(MalformedEnvelope, match="does not fit"):
        Part(*part)


def test_a_part_is_a_stretch_of_a_message() -> None:
    part = Message("abcdef").part(2, 3)
    assert (part.data, part.offset, part.end, part.total) == ("cde", 2, 5, 6)
    assert (part.size, part.segment, part.finished) == (3, "p2/6,mcde", False)
    assert Message("abcdef").part(5, 3).finished
