"""The quick packet class beside the stock one: the same wire, the same refusals."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from socketio import packet as sio

from fallback_transport import packets
from fallback_transport.packets import Packet, UnwritableReply


class Colour(str, enum.Enum):
    RED = "red"


class Own(dict):  # type: ignore[type-arg]
    """What orjson would have to be told about."""


@dataclasses.dataclass
class Point:
    x: int = 1


@pytest.fixture(params=["orjson", "json"])
def writer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With orjson, and as where it is not installed."""
    if request.param == "json":
        monkeypatch.setattr(packets, "orjson", None)
    else:
        assert packets.orjson is not None, "the tests install it"
    return str(request.param)


CYCLE: list[Any] = []
CYCLE.append(CYCLE)

#: Depths, because orjson gives up at 254 and the standard module near 1,000.
DEEP: Any = "bottom"
for _ in range(300):
    DEEP = [DEEP]

PLAIN: dict[str, Any] = {
    "event": ["chat", "hello"],
    "object": ["chat", {"text": "x", "n": 1, "f": 1.5, "yes": True, "no": None}],
    "no arguments": ["chat"],
    "nested": ["chat", [[], {}, {"a": [1, {"b": 2}]}]],
    "text that JSON escapes": ["chat", '"\\\n\x00\x1e\x7f\u2028'],
    "text beyond ASCII": ["grüße", "日本 \U0001f600"],
    "half of a pair": ["chat", "\ud83d"],
    "keys that are no texts": ["chat", {2: "a", None: "b", True: "c"}],
    "more than 64 bits": ["chat", 2**70, -(2**70)],
    "large floats": ["chat", 1e300, 1e16, -0.0, 5e-324],
    "enum of texts": ["chat", Colour.RED],
    "own kind of dict": ["chat", Own(a=1)],
    "tuple": ["chat", (1, 2)],
    "deep": ["chat", DEEP],
}

REFUSED: dict[str, Any] = {
    "a set": {1},
    "an object": object(),
    "a date": datetime.datetime(2020, 1, 1),
    "a dataclass": Point(),
    "a cycle": CYCLE,
    "a memoryview": memoryview(b"x"),
    "a key that is a tuple": {(1, 2): 3},
}


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize(
    ("kind", "namespace", "number"),
    [
        (sio.EVENT, None, None),
        (sio.EVENT, "/", None),
        (sio.EVENT, "/room", 7),
        (sio.EVENT, None, 0),
        (sio.ACK, None, 12),
        (sio.CONNECT, "/", None),
        (sio.CONNECT_ERROR, "/room", None),
    ],
)
def test_the_wire_says_the_same(
    writer: str, name: str, kind: int, namespace: str | None, number: int | None
) -> None:
    stock = sio.Packet(kind, PLAIN[name], namespace, number).encode()
    ours = Packet(kind, PLAIN[name], namespace, number).encode()
    # Only the writing of text beyond ASCII, of spaces and of floats may differ.
    start = stock.index("[")
    assert ours[:start] == stock[:start]
    assert json.loads(ours[start:]) == json.loads(stock[start:])
    assert sio.Packet(encoded_packet=ours).data == sio.Packet(encoded_packet=stock).data


def test_a_packet_without_data(writer: str) -> None:
    assert Packet(sio.DISCONNECT, namespace="/room").encode() == "1/room,"
    assert Packet(sio.CONNECT).encode() == "0"


def test_what_is_beyond_16_bits_is_escaped_with_and_without_orjson(writer: str) -> None:
    """edbrowse has other texts of it, and no packets: it ended sessions with 4400."""
    data = ["\U0001f600", {"\U00010000": 'a\\\U0010ffff"é'}]
    written = packets.dumps(data)
    assert max(written) < "\U00010000"
    assert json.loads(written) == data


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_json_is_refused_with_and_without_orjson(writer: str, name: str) -> None:
    with pytest.raises((TypeError, ValueError, RecursionError)):
        Packet(sio.EVENT, ["chat", REFUSED[name]]).encode()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_no_browser_can_read_is_null(writer: str, number: float) -> None:
    assert Packet(sio.EVENT, ["chat", {"n": [number, 1]}]).encode() == '2["chat",{"n":[null,1]}]'


@pytest.mark.parametrize("kind", [sio.EVENT, sio.ACK])
def test_what_no_browser_can_read_is_null_beside_bytes_too(writer: str, kind: int) -> None:
    """The page took the packet for malformed, and ended its session."""
    encoded = Packet(kind, ["chat", {"mean": math.nan, "samples": b"x"}], "/room", 3).encode()
    place = '{"_placeholder":true,"num":0}'
    text = f'{kind + 3}1-/room,3["chat",{{"mean":null,"samples":{place}}}]'
    assert encoded == [text, b"x"]


def test_a_reply_with_bytes_that_is_no_json_is_told_as_one_without(writer: str) -> None:
    with pytest.raises(UnwritableReply, match="set is not JSON serializable"):
        Packet(sio.ACK, [b"x", {1}], id=3).encode()


def test_a_reply_with_a_number_that_cannot_be_written_is_told_so(writer: str) -> None:
    with pytest.raises(UnwritableReply, match="4300 digits"):
        Packet(sio.ACK, [10**5000], id=3).encode()


@pytest.mark.parametrize("data", [["chat", b"x"], ["chat", {"a": [bytearray(b"y")]}]])
def test_attachments_travel_as_in_the_stock_class(writer: str, data: Any) -> None:
    assert Packet(sio.EVENT, data).encode() == sio.Packet(sio.EVENT, data).encode()
    assert Packet(sio.ACK, data, id=3).encode() == sio.Packet(sio.ACK, data, id=3).encode()


def test_who_says_that_there_are_bytes_is_believed(writer: str) -> None:
    ours, stock = (kind(sio.EVENT, ["chat"], binary=True) for kind in (Packet, sio.Packet))
    assert ours.encode() == stock.encode()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('2["chat",NaN,-Infinity,Infinity]', '2["chat",null,null,null]'),
        ('2["chat",Infinity]', '2["chat",null]'),
        ('2["chat",{"NaN": NaN,"a":[NaN]}]', '2["chat",{"NaN": null,"a":[null]}]'),
        (
            r'2["NaN",",NaN",":Infinity\\",NaN,"\",NaN"]',
            r'2["NaN",",NaN",":Infinity\\",null,"\",NaN"]',
        ),
        (
            '51-/NaN,["chat",NaN,{"_placeholder":true,"num":0}]',
            '51-/NaN,["chat",null,{"_placeholder":true,"num":0}]',
        ),
        ('2["chat",1]', '2["chat",1]'),
    ],
)
def test_what_any_class_writes_a_page_can_read(written: str, read: str) -> None:
    assert packets.readable(written) == read


@pytest.mark.parametrize("attachments", [1, 12])
def test_a_value_that_would_be_taken_for_an_attachment_is_refused(attachments: int) -> None:
    place = '{"_placeholder":true,"num":0}'
    text = f'5{attachments}-["chat",{",".join([place] * attachments)}'
    assert packets.readable(text + "]") == text + "]"
    with pytest.raises(ValueError, match="_placeholder"):
        packets.readable(f"{text},{place}]")


HOSTILE = [
    "",
    "2",
    "2[",
    "2[]",
    "2{}",
    '2["chat"',
    '2["chat"]]',
    '2["chat",NaN]',
    '2["chat",1e999]',
    '2["chat",123456789012345678901234567890]',
    '2["chat","\\ud83d"]',
    '2["chat","\ud83d"]',
    '2["chat",{"_placeholder":true,"num":0}]',
    '2["a","b"]\x00',
    '2 ["chat"]',
    '2/room,["chat"]',
    '2/room?x=1,7["chat"]',
    '27["chat"]',
    "2" + "9" * 101 + "[]",
    '51-["chat",{"_placeholder":true,"num":0}]',
    "599999999999-[]",
    '3["a"]',
    "9[]",
    "x",
    "2" + "[" * 100_000,
    *('2["chat",' + "9" * digits + "]" for digits in (100, 101, 5_000)),
]


def read(packets: type[Any], text: str) -> str:
    """What a class makes of a text, as a text: NaN is not itself."""
    try:
        packet = packets(encoded_packet=text)
    except (ValueError, RecursionError) as error:
        return repr(type(error))
    read = packet._to_dict()
    return repr((read, packet.attachments, packet.attachment_count))


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:24]))
def test_bad_packets_are_read_as_by_the_stock_class(writer: str, text: str) -> None:
    assert read(Packet, text) == read(sio.Packet, text)


#: Where a * is, there is much.
LARGE = [
    '2["chat","*"]',
    '2["","*"]',
    '2["*","*"]',
    '2["*"]',
    '2["chat","*","*"]',
    '2["chat","*",1]',
    '2["chat",["*"]]',
    '2["chat","*',
    '2["chat","*"',
    '2["chat","*]',
    '2["chat","*"}',
    '2["chat","*"]]',
    '2["chat","*"] ',
    '2["chat","*"\n]',
    '2["chat", "*"]',
    '2 ["chat","*"]',
    '2["ch\\u0061t","*"]',
    '2["ch\x00at","*"]',
    '2["chät","*"]',
    '2["chat","*ä*"]',
    '2["chat","*\ud83d*"]',
    '2["chat","*\x7f*"]',
    *(f'2["chat","{text}"]' for text in ("?*", "*?*", "*?")),
    *(f'2["chat","{text}"]' for text in ("\\?*", "*\\?*", "*\\?", "*\\\\?")),
]


@pytest.mark.parametrize("text", LARGE)
def test_what_is_large_is_read_as_by_the_stock_class(text: str) -> None:
    for odd in ['"', "\\", "n", "u0041", *map(chr, range(0x20))] if "?" in text else ["?"]:
        large = text.replace("?", odd).replace("*", "x" * packets._LARGE)
        assert read(Packet, large) == read(sio.Packet, large), repr(odd)


def test_of_what_is_large_and_plain_nothing_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets, "_decode", None)
    text = "".join(map(chr, range(0x20, 0x80))).replace('"', "").replace("\\", "") * 1000
    assert Packet(encoded_packet=f'2["ch[a]t!","{text}"]').data == ["ch[a]t!", text]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.lists(values, max_size=4))
def test_what_is_written_is_read_again(data: list[Any]) -> None:
    read = Packet(encoded_packet=Packet(sio.EVENT, ["chat", *data]).encode())
    assert read.packet_type == sio.EVENT
    # Through the standard module, which also makes one of two keys that become the same.
    assert read.data == json.loads(json.dumps(["chat", *data]))


def test_the_applications_own_json_writes_and_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own:
        @staticmethod
        def dumps(value: Any, **options: Any) -> str:
            return "[1]"

        @staticmethod
        def loads(text: str, **options: Any) -> Any:
            return ["own"]

    monkeypatch.setattr(Packet, "json", Own)
    assert Packet(sio.EVENT, ["chat"]).encode() == "2[1]"
    assert Packet(encoded_packet='2["chat"]').data == ["own"]
