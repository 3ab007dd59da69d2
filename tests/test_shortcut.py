"""What a shortcut gives in the place of python-socketio's packets; its handlers and emits are in
test_dispatcher.py and test_engine.py, each beside python-socketio's own way."""

from __future__ import annotations

import enum
import json
from types import SimpleNamespace
from typing import Any

import pytest
import socketio
from hypothesis import given
from hypothesis import strategies as st
from socketio import packet as sio

from fallback_transport.packets import Packet
from fallback_transport.protocol.codec import encode_frames
from fallback_transport.protocol.envelope import Envelope
from fallback_transport.shortcut import Shortcut

DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


class Name(enum.Enum):
    NEWS = "news"


class Bytes(bytes):
    """As a database has them."""


def shortcut(packets: type[sio.Packet] = Packet) -> Shortcut:
    return Shortcut(socketio.Server(async_mode="threading", serializer=packets), None)


@given(st.text(), DATA, st.sampled_from(["/", "/chat"]))
def test_an_event_is_written_as_the_packet_class_writes_it(
    name: str, data: Any, namespace: str
) -> None:
    arguments = data if isinstance(data, tuple) else () if data is None else (data,)
    try:
        written = Packet(sio.EVENT, namespace=namespace, data=[name, *arguments]).encode()
    except TypeError:
        # Bytes in a tuple within.
        with pytest.raises(TypeError):
            shortcut().messages(name, data, namespace)
        return
    parts = written if isinstance(written, list) else [written]
    assert [message.data for message in shortcut().messages(name, data, namespace)] == parts


@pytest.mark.parametrize("value", [object(), {1, 2}, {"a": object()}])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        shortcut().messages("x", value, "/")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('2["x"]', ["x"]),
        ('2["x",{"a":[1,2.5,null]},"\u00e9"]', ["x", {"a": [1, 2.5, None]}, "\u00e9"]),
        ("2[]", []),
        # For the packet class: an id, a namespace, attachments, other packets, and what it refuses.
        ('21["x"]', None),
        ('2/chat,["x"]', None),
        ('51-["x",{"_placeholder":true,"num":0}]', None),
        ("0", None),
        ("2", None),
        ("", None),
        ('2["x"] ', None),
        ('2["x"]2', None),
    ],
)
def test_only_plain_events_are_read(text: str, found: Any) -> None:
    assert shortcut().read(text) == found


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("2[", ValueError),
        ('2["x"', ValueError),
        ("2[,]", ValueError),
        ("2[" + "9" * 101 + "]", ValueError),
        ("2" + "[" * 100_000, RecursionError),
    ],
)
def test_what_is_no_packet_raises(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        shortcut().read(text)


@pytest.mark.parametrize("name", [5, b"x", Name.NEWS, None, ["x"]])
def test_a_name_need_not_be_a_text(name: Any) -> None:
    written = Packet(sio.EVENT, data=[name, {"a": 1}]).encode()
    parts = written if isinstance(written, list) else [written]
    assert [message.data for message in shortcut().messages(name, {"a": 1}, "/")] == parts


@pytest.mark.parametrize("kind", [Bytes, bytearray])
def test_a_kind_of_bytes_goes_as_bytes(kind: Any) -> None:
    text, attachment = shortcut().messages("x", kind(b"a\xff"), "/")
    assert type(attachment.data) is bytes
    assert encode_frames(Envelope(0, 0, 1, (text, attachment))) == [
        'a0 s1\x1em51-["x",{"_placeholder":true,"num":0}]',
        b"a0 s2\x1ea\xff",
    ]


def test_another_packet_class_reads_and_writes_for_itself() -> None:
    class Own(Packet):
        def encode(self) -> Any:
            return "own"

    own = shortcut(Own)
    assert own.read('2["x"]') is None
    assert [message.data for message in own.messages("x", None, "/")] == ["own"]


def test_the_applications_own_json_reads_and_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    own = SimpleNamespace(loads=json.loads, dumps=lambda value, **more: '["own"]')
    mine = shortcut()
    monkeypatch.setattr(Packet, "json", own)
    assert mine.read('2["x"]') is None
    assert [message.data for message in mine.messages("x", None, "/")] == ['2["own"]']
