"""Envelopes and what begins and ends a session: valid by construction."""

from __future__ import annotations

import dataclasses

import pytest

from fallback_transport.protocol.envelope import End, Envelope, Grant, Hello, PollRequest, Welcome
from fallback_transport.protocol.errors import MalformedEnvelope
from fallback_transport.protocol.message import Message

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
