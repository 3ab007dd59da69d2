"""Messages, closes and envelopes: valid by construction, encoded once."""

from __future__ import annotations

import base64
import dataclasses

import pytest

from fallback_transport.protocol.envelope import (
    SEPARATOR,
    Close,
    End,
    Envelope,
    Grant,
    Hello,
    Message,
    PollRequest,
    Welcome,
)
from fallback_transport.protocol.errors import MalformedEnvelope, MessageRefused


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


MESSAGE = (Message("x"),)


def test_what_an_envelope_may_be() -> None:
    assert Envelope() == Envelope(0, 0, None, (), None, None, None, None)
    assert Envelope(ack=1, received=1, seq=1, messages=MESSAGE).messages == MESSAGE
    assert Envelope(ack=0, received=1).received == 1


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"seq": 1}, "numbered"),
        ({"messages": MESSAGE}, "numbered"),
        ({"ack": 1}, "handled more"),
        ({"ack": 2, "received": 1}, "handled more"),
        ({"seq": 0, "messages": MESSAGE}, "from 1"),
    ],
)
def test_what_an_envelope_may_not_be(parts: dict[str, object], problem: str) -> None:
    with pytest.raises(MalformedEnvelope, match=problem):
        Envelope(**parts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "unit",
    [
        Close(1000),
        Hello(1),
        Grant(),
        Welcome("s1", 1),
        End(1000),
    ],
)
def test_units_do_not_change(unit: object) -> None:
    name = dataclasses.fields(unit)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(unit, name, 7)


@pytest.mark.parametrize(
    "unit", [Envelope(1, 2, 3, MESSAGE), PollRequest("s1", "k1", 1, 1, envelope=Envelope())]
)
def test_units_that_are_tuples_do_not_change(unit: Envelope | PollRequest) -> None:
    before = tuple(unit)
    for name, value in unit._asdict().items():
        with pytest.raises(AttributeError):
            setattr(unit, name, value)
    with pytest.raises(AttributeError):
        unit.more = 1  # type: ignore[union-attr]
    assert tuple(unit) == before


def test_the_grant_of_a_client_that_was_not_welcomed_is_the_protocols() -> None:
    assert dataclasses.astuple(Grant()) == (1000, 4_000_000, 16_000_000, 1_000_000, 25, 25, 120)
