"""The bytes: what each unit looks like, and that nothing hostile gets further than an error.

The golden cases in `tests/transcripts/codec_*.json` say what single texts mean;
here is what they cannot say: what is large, what JavaScript cannot tell apart,
and properties of all texts and all units.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fallback_transport.protocol import codec, segments
from fallback_transport.protocol.codec import (
    END_MARK,
    FEW,
    MAX_NUMBER,
    decode,
    decode_binary,
    decode_body,
    encode,
    encode_body,
    encode_frames,
)
from fallback_transport.protocol.codes import MAX_REASON_BYTES, valid_close
from fallback_transport.protocol.envelope import (
    End,
    Envelope,
    Grant,
    Hello,
    PollRequest,
    Unit,
    Welcome,
)
from fallback_transport.protocol.errors import (
    MalformedEnvelope,
    RemoteProtocolError,
    UnsupportedVersion,
)
from fallback_transport.protocol.message import SEPARATOR, Carried, Close, Item, Message

X = Message("x")
GRANT_TEXT = (
    '"grant":{"messages":1,"bytes":2,"message":3,"body":4,'
    '"wait":1500,"keepalive":25000,"inactivity":120000}'
)
GRANT = Grant(1, 2, 3, 4, 1.5, 25.0, 120.0)

UNITS: list[tuple[Unit, str]] = [
    (Envelope(), "a0"),
    (Envelope(ack=3, received=3), "a3"),
    (Envelope(ack=3, received=4), "a3 r4"),
    (Envelope(seq=1, messages=(X,)), "a0 s1\x1emx"),
    (Envelope(commit=0, ask=0, answer=0), "a0 c0 q0 p0"),
    (Envelope(key="k1"), "a0 kk1"),
    (
        Envelope(1, 2, 3, (X, Message(b"\0")), commit=4, key="k", ask=5, answer=6),
        "a1 r2 s3 c4 kk q5 p6\x1emx\x1ebAA==",
    ),
    (Envelope(ack=MAX_NUMBER, received=MAX_NUMBER), "a999999999999999"),
    (PollRequest("s1", "k1", 2, 3), "is1 kk1 t2 n3 a0"),
    (
        PollRequest("s1", "k1", 2, 3, 1.5, 64, Envelope(1, 2, 3, (X,), commit=4)),
        "is1 kk1 t2 n3 w1500 b64 a1 r2 s3 c4\x1emx",
    ),
    (PollRequest("s1", "k1", 2, 3, 0.0, 0), "is1 kk1 t2 n3 w0 b0 a0"),
    (End(1000), '{"end":1000,"reason":"","session":false,"ack":0,"received":0}'),
    (End(4000, "é", True, 1, 2), '{"end":4000,"reason":"é","session":true,"ack":1,"received":2}'),
    (Hello(1), '{"hello":1,"attempt":1,"ack":0,"received":0}'),
    (
        Hello(1, nonce="n", client=(("b", "2"), ("a", "1")), envelope=Envelope(0, 0, 1, (X,))),
        '{"hello":1,"attempt":1,"nonce":"n","client":{"b":"2","a":"1"},'
        '"ack":0,"received":0,"seq":1}\x1emx',
    ),
    (
        Hello(3, id="s1", key="k1", envelope=Envelope(1, 2)),
        '{"hello":1,"attempt":3,"id":"s1","key":"k1","ack":1,"received":2}',
    ),
    (
        Welcome("s1", 1, "k1", GRANT),
        f'{{"welcome":1,"id":"s1","attempt":1,"key":"k1",{GRANT_TEXT},"ack":0,"received":0}}',
    ),
    (
        Welcome("s1", 1, None, GRANT, Envelope(1, 2, 3, (X, Close(1000)))),
        f'{{"welcome":1,"id":"s1","attempt":1,{GRANT_TEXT},"ack":1,"received":2,"seq":3}}'
        '\x1emx\x1ec[1000,""]',
    ),
    (
        Hello(1, client=(("url", "/a?b=%22&c={|}"), ("protocols", "a, b"))),
        '{"hello":1,"attempt":1,"client":{"url":"/a?b=%22&c={|}","protocols":"a, b"},'
        '"ack":0,"received":0}',
    ),
    (
        Welcome("s1", 1, "k1", GRANT, protocol="chat.v2"),
        f'{{"welcome":1,"id":"s1","attempt":1,"key":"k1",{GRANT_TEXT},"protocol":"chat.v2",'
        '"ack":0,"received":0}',
    ),
]


@pytest.mark.parametrize(("unit", "text"), UNITS)
def test_a_unit_and_its_text(unit: Unit, text: str) -> None:
    assert encode(unit) == text
    assert decode(text) == unit
    assert encode_body(unit) == f"{text}\x1e.".encode()
    assert decode_body(f"{text}\x1e.".encode()) == unit


# -- WebSocket frames ---------------------------------------------------------------

T, B, C = Message("t"), Message(b"b"), Close(1000)


@pytest.mark.parametrize(
    ("items", "frames"),
    [
        ((), ["a1 r2 c3 kk q4 p5"]),
        ((T,), ["a1 r2 s7 c3 kk q4 p5\x1emt"]),
        ((T, T, C), ['a1 r2 s7 c3 kk q4 p5\x1emt\x1emt\x1ec[1000,""]']),
        ((B,), [b"a1 r2 s7 c3 kk q4 p5\x1eb"]),
        ((B, B), [b"a1 r2 s7 c3 kk q4 p5\x1eb", b"a1 r2 s8\x1eb"]),
        ((T, B), ["a1 r2 s7 c3 kk q4 p5\x1emt", b"a1 r2 s8\x1eb"]),
        ((B, T, T), [b"a1 r2 s7 c3 kk q4 p5\x1eb", "a1 r2 s8\x1emt\x1emt"]),
        (
            (T, T, B, T, B, B, C),
            [
                "a1 r2 s7 c3 kk q4 p5\x1emt\x1emt",
                b"a1 r2 s9\x1eb",
                "a1 r2 s10\x1emt",
                b"a1 r2 s11\x1eb",
                b"a1 r2 s12\x1eb",
                'a1 r2 s13\x1ec[1000,""]',
            ],
        ),
    ],
)
def test_texts_go_together_and_bytes_alone(
    items: tuple[Item, ...], frames: list[str | bytes]
) -> None:
    envelope = Envelope(1, 2, 7 if items else None, items, 3, "k", 4, 5)
    assert encode_frames(envelope) == frames


def test_the_longest_head_of_a_binary_frame_can_be_read() -> None:
    most = MAX_NUMBER
    envelope = Envelope(most - 1, most, most, (B,), most, "k" * 64, most, most)
    [frame] = encode_frames(envelope)
    assert isinstance(frame, bytes)
    assert decode_binary(frame) == envelope


# -- what is hostile -----------------------------------------------------------------

DEEP = 100_000

HOSTILE = {
    "nothing": "",
    "a page": "<!DOCTYPE html>\n<html><body>Please sign in</body></html>",
    "a page behind a head": "a0 <html>",
    "deep brackets": "[" * DEEP,
    "deep objects": '{"a":' * DEEP,
    "deep, within the longest head": "{" + '"a":[' * 800,
    "a deep escaped text": "a0 s1\x1ee" + "[" * DEEP,
    "a deep close": "a0 s1\x1ec" + "[" * DEEP,
    "a deep close that ends": "a0 s1\x1ec" + "[" * DEEP + "]" * DEEP,
    "a huge number": "a" + "9" * DEEP,
    "a huge number in JSON": '{"end":' + "9" * 4000 + "}",
    "a huge code": "a0 s1\x1ec[" + "9" * DEEP + ',""]',
    "a huge exponent": '{"end":1e999999}',
    "no number": '{"end":NaN}',
    "infinity": '{"end":-Infinity}',
    "a whole float": '{"end":1000.0}',
    "a whole float as code": 'a0 s1\x1ec[1000.0,""]',
    "a code that is true": 'a0 s1\x1ec[true,""]',
    "a long head": "a1 " + "x" * 5000,
    "many tokens": " ".join(["a1"] * 1000),
    "many empty messages": "a0 s1" + "\x1em" * 4097,
    "many separators": "\x1e" * DEEP,
    "Arabic digits": "a\u0661\u0662",
    "fullwidth digits": "a\uff11\uff12",
    "superscript digits": "a\u00b2",
    "a number and a newline": "a1\n",
    "a name and a newline": "a0 kk\n",
    "a name with a NUL": "a0 kk\0",
    "a fullwidth name": "a0 k\uff4b",
    "a lone surrogate": "a0 s1\x1em\ud800",
    "a lone surrogate in a head": "a\ud800",
    "a lone surrogate in JSON": '{"end":1000,"reason":"\ud800"}',
    "a lone surrogate in base64": "a0 s1\x1eb\ud800AAA",
    "an escaped lone surrogate": 'a0 s1\x1ee"\\ud800"',
    "an escaped lone surrogate in a reason": '{"end":1000,"reason":"\\ud800"}',
    "an escaped lone surrogate in a fact": '{"hello":1,"attempt":1,"client":{"a":"\\udfff"}}',
    "an escaped lone surrogate as a name": '{"hello":1,"attempt":1,"client":{"\\udfff":""}}',
    "a NUL": "\0",
    "a byte order mark": "\ufeffa0",
    "a line separator": "a0\u2028",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_is_malformed(name: str) -> None:
    with pytest.raises(MalformedEnvelope):
        decode(HOSTILE[name])


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_is_malformed_in_a_body(name: str) -> None:
    body = HOSTILE[name].encode("utf-8", "surrogatepass")
    for end in (b"", END_MARK.encode()):
        with pytest.raises(MalformedEnvelope):
            decode_body(body + end)


HEADS = [name for name, text in HOSTILE.items() if SEPARATOR not in text]


@pytest.mark.parametrize("name", HEADS)
def test_a_hostile_head_is_malformed_in_a_binary_frame(name: str) -> None:
    with pytest.raises(MalformedEnvelope):
        decode_binary(HOSTILE[name].encode("utf-8", "surrogatepass") + b"\x1econtent")


HELLO = {"hello": 1, "attempt": 1}
TERMS = [field.name for field in fields(Grant)]
WELCOME = {"welcome": 1, "attempt": 1, "id": "s1", "grant": dict.fromkeys(TERMS, 1)}
END = {"end": 1000}
NUMBERS = [None, True, False, "1", -1, 0.5, 10**15, 10**100, [], [1], {}]
WRONG_URLS = [
    None,
    1,
    "",
    "chat",
    "http://host/chat",
    "?room=1",
    "/chat#top",
    "/a b",
    "/\0",
    "/\n",
    "/\x7f",
    "/é",
    "/" + "x" * 2048,
]
WRONG_OFFERS = [1, "", " ", ",", "a,", ",a", "a b", "a,,b", "a;b", "é", "a\0", "a\n", "x" * 1025]
NAMES = [True, 1, 0, "", "a b", "a/b", "é", "a\n", "\0", "k" * 65, [], ["a"], {}]


@pytest.mark.parametrize("head", [HELLO, WELCOME, END], ids=["hello", "welcome", "end"])
def test_what_another_release_adds_to_a_head_is_passed_over(head: dict[str, object]) -> None:
    more = {"later": {"a": [1]}, "another": None}
    known = decode(json.dumps(head))
    assert decode(json.dumps({**head, **more})) == known
    if head is WELCOME:
        grant = {**dict.fromkeys(TERMS, 1), **more}
        assert decode(json.dumps({**head, "grant": grant})) == known


@pytest.mark.parametrize(
    ("head", "name", "wrong"),
    [
        (HELLO, "hello", NUMBERS),
        (HELLO, "attempt", NUMBERS),
        (HELLO, "ack", NUMBERS),
        (HELLO, "received", NUMBERS),
        (HELLO, "seq", [*NUMBERS, 0, 1]),
        (HELLO, "nonce", NAMES),
        (HELLO, "client", [None, True, 1, "a", [], ["a"], {"a": 1}, {"a": None}, {"a": ["b"]}]),
        ({**HELLO, "key": "k1"}, "id", [None, *NAMES]),
        ({**HELLO, "id": "s1"}, "key", [None, *NAMES]),
        (WELCOME, "welcome", NUMBERS),
        (WELCOME, "attempt", NUMBERS),
        (WELCOME, "id", [None, *NAMES]),
        (WELCOME, "key", NAMES),
        (WELCOME, "grant", [None, True, 1, "a", [], {}, {"messages": 1}]),
        (
            WELCOME,
            "protocol",
            [None, True, 1, [], {}, "", "a b", "a,b", "é", "a\n", "x" * 257],
        ),
        (HELLO, "client", [{"url": url} for url in WRONG_URLS]),
        (HELLO, "client", [{"protocols": offer} for offer in WRONG_OFFERS]),
        (END, "end", NUMBERS),
        (END, "reason", [None, True, 1, [], {}, "\ud800"]),
        (END, "ack", NUMBERS),
        (END, "received", NUMBERS),
    ],
)
def test_a_wrong_value_in_a_head(head: dict[str, object], name: str, wrong: list[object]) -> None:
    for value in wrong:
        with pytest.raises(MalformedEnvelope):
            decode(json.dumps({**head, name: value}))


@pytest.mark.parametrize("name", TERMS)
def test_a_wrong_value_in_a_grant(name: str) -> None:
    for value in NUMBERS:
        terms = {**dict.fromkeys(TERMS, 1), name: value}
        with pytest.raises(MalformedEnvelope):
            decode(json.dumps({**WELCOME, "grant": terms}))


@pytest.mark.parametrize("head", [HELLO, WELCOME, END])
def test_those_heads_are_right_otherwise(head: dict[str, object]) -> None:
    decode(json.dumps(head))
    for left_out in head:
        with pytest.raises(MalformedEnvelope):
            decode(json.dumps({name: value for name, value in head.items() if name != left_out}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"a0",
        b"a0\x1e",
        b"a0.",
        b"a0 s1\x1emcut in the mid",
        b"a0\x1e.\n",
        b"a0\x1e.\x1e",
        b"\xef\xbb\xbfa0\x1e.",
        b"a0 s1\x1em\xff\x1e.",
        b"a0 s1\x1em\xc3\x1e.",
        b"a0 s1\x1em\xed\xa0\x80\x1e.",
        b"a0 s1\x1em\xc0\x80\x1e.",
        b"a0 s1\x1em\xf4\x90\x80\x80\x1e.",
        bytes(range(256)),
        "a0\x1e.".encode("utf-16"),
        "a0\x1e.".encode("utf-32"),
        b"<html>\x1e.",
    ],
)
def test_a_body_that_is_not_ours(body: bytes) -> None:
    with pytest.raises(MalformedEnvelope):
        decode_body(body)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x1e",
        b"a0 s1",
        b"a0\x1ex",
        b"s1\x1ex",
        b"a0 s0\x1ex",
        b"a0 s1\xff\x1ex",
        "a0 s\u0661\x1ex".encode(),
        b"a0 s1" + b" " * 300 + b"\x1ex",
        b'{"end":1000}\x1ex',
        b"is1 kk1 t1 n1 a0 s1\x1ex",
        b"a0 s1 o0\x1ex",
        b"a0 s1 u9\x1ex",
        bytes(range(256)),
    ],
)
def test_a_binary_frame_that_is_not_ours(data: bytes) -> None:
    with pytest.raises(MalformedEnvelope):
        decode_binary(data)


def test_every_body_that_is_cut_is_malformed() -> None:
    body = encode_body(Envelope(1, 2, 3, (X, Message("\x1e."), Message(b"\x1e."), Message("é."))))
    for length in range(len(body)):
        with pytest.raises(MalformedEnvelope):
            decode_body(body[:length])


def test_a_refusal_of_a_version_names_both() -> None:
    with pytest.raises(UnsupportedVersion, match="version 2 is not spoken here, version 1 is"):
        decode('{"hello":2}')


def test_a_version_is_refused_whatever_comes_with_it() -> None:
    with pytest.raises(UnsupportedVersion):
        decode('{"hello":2,"seq":1}\x1ez of a kind that is unknown here')


def hello_of(client: object) -> str:
    return json.dumps({"hello": 1, "attempt": 1, "client": client})


@pytest.mark.parametrize(
    ("facts", "url", "protocols"),
    [
        ({}, "", []),
        ({"url": "/" + "~" * 2047}, "/" + "~" * 2047, []),
        ({"url": "//x/../y?a=/?&b"}, "//x/../y?a=/?&b", []),
        ({"protocols": "a,b, c"}, "", ["a", "b", "c"]),
        ({"protocols": "x" * 1024}, "", ["x" * 1024]),
        ({"protocols": "!#$%&'*+-.^_`|~09azAZ"}, "", ["!#$%&'*+-.^_`|~09azAZ"]),
    ],
)
def test_what_the_page_connects_to(facts: object, url: str, protocols: list[str]) -> None:
    hello = decode(hello_of(facts))
    assert isinstance(hello, Hello)
    assert (hello.url, hello.protocols) == (url, protocols)


def end_of(length: int) -> str:
    return '{"end":1,"x":"' + "x" * (length - 16) + '"}'


@pytest.mark.parametrize(
    ("most", "beyond"),
    [
        ("a999999999999999", "a1000000000000000"),
        ('{"end":999999999999999}', '{"end":1000000000000000}'),
        ("a0 k" + "k" * 64, "a0 k" + "k" * 65),
        ("a0 s1" + "\x1em" * 4096, "a0 s1" + "\x1em" * 4097),
        (
            hello_of({str(number): "" for number in range(16)}),
            hello_of({str(number): "" for number in range(17)}),
        ),
        (hello_of({"a": "x" * 256}), hello_of({"a": "x" * 257})),
        (end_of(4096), end_of(4097)),
    ],
)
def test_the_largest_that_is_taken(most: str, beyond: str) -> None:
    decode(most)
    with pytest.raises(MalformedEnvelope):
        decode(beyond)


def test_the_largest_binary_head_that_is_taken() -> None:
    head = b"a1 s1 k" + b"k" * 64
    assert decode_binary(head + b"\x1ex").key == "k" * 64


# -- every character, every byte --------------------------------------------------------

CLASSES = [
    *(chr(code) for code in range(0x80)),
    *"\x80\x9f\xa0\xff\u0100\u07ff\u0800\u200b\u2028\u2029\ud7ff\ue000\ufdd0\ufeff\ufffd\ufffe\uffff",
    *"\U00010000\U0001f600\U0001ffff\U0010fffe\U0010ffff",
    "e\u0301",
    "\r\n",
]


@pytest.mark.parametrize("text", CLASSES, ids=ascii)
def test_every_kind_of_character_arrives(text: str) -> None:
    for data in (text, f"a{text}", f"{text}{text}b"):
        envelope = Envelope(seq=1, messages=(Message(data), Message(""), Message(data)))
        assert decode(encode(envelope)) == envelope
        assert decode_body(encode_body(envelope)) == envelope
        reason = End(1000, data)
        assert decode(encode(reason)) == reason
        close = Envelope(seq=1, messages=(Close(1000, data),))
        assert decode(encode(close)) == close


def test_all_bytes_arrive() -> None:
    data = bytes(range(256)) * 3 + b"\x1e."
    envelope = Envelope(seq=1, messages=(Message(data),))
    assert decode_body(encode_body(envelope)) == envelope
    [frame] = encode_frames(envelope)
    assert frame == b"a0 s1\x1e" + data
    assert decode_binary(frame) == envelope


def test_a_decoded_text_keeps_its_segment() -> None:
    segment = "m" + "x" * 100
    unit = decode(f"a0 s1\x1e{segment}")
    assert isinstance(unit, Envelope)
    [message] = unit.messages
    assert isinstance(message, Message)
    assert message.segment == segment


# -- properties ----------------------------------------------------------------------------

numbers = st.integers(0, MAX_NUMBER) | st.sampled_from([0, 1, MAX_NUMBER])
names = st.text("abcXYZ019._-", min_size=1, max_size=64)
texts = st.text() | st.text('\x1e.mebc"\\{}[] 0\n')
seconds = st.integers(0, MAX_NUMBER).map(lambda milliseconds: milliseconds / 1000)
reasons = texts.filter(lambda text: len(text.encode()) <= MAX_REASON_BYTES)
closes = (
    st.tuples(st.integers(0, 5000), reasons)
    .filter(lambda close: valid_close(*close) is None)
    .map(lambda close: Close(*close))
)
items = st.builds(Message, texts) | st.builds(Message, st.binary()) | closes


@st.composite
def envelopes(draw: st.DrawFn, *, tokens: tuple[str, ...] = ()) -> Envelope:
    ack, received = sorted([draw(numbers), draw(numbers)])
    messages = tuple(draw(st.lists(items, max_size=5)))
    seq = draw(st.integers(1, MAX_NUMBER - len(messages))) if messages else None
    rest = {name: draw(st.none() | (names if name == "key" else numbers)) for name in tokens}
    return Envelope(ack, received, seq, messages, **rest)


free = envelopes(tokens=("commit", "key", "ask", "answer"))
marks = envelopes()
facts = st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5).map(
    lambda found: tuple(found.items())
)
grants = st.builds(Grant, numbers, numbers, numbers, numbers, seconds, seconds, seconds)
hellos = st.builds(Hello, numbers, st.none() | names, st.none(), st.none(), facts, marks)
resumes = st.builds(Hello, numbers, st.none() | names, names, names, facts, marks)
welcomes = st.builds(Welcome, names, numbers, st.none() | names, grants, marks, st.just("") | names)
ends = st.builds(End, numbers, st.text(max_size=200), st.booleans(), numbers, numbers)
polls = st.builds(
    PollRequest,
    names,
    names,
    numbers,
    numbers,
    st.none() | seconds,
    st.none() | numbers,
    envelopes(tokens=("commit", "ask", "answer")),
)
units = free | hellos | resumes | welcomes | ends | polls


@given(units)
def test_every_unit_comes_back_from_text_and_body(unit: Unit) -> None:
    assert decode(encode(unit)) == unit
    assert decode_body(encode_body(unit)) == unit
    # One text for one unit: whoever repeats it repeats it exactly.
    assert encode(decode(encode(unit))) == encode(unit)


@given(free)
def test_every_envelope_comes_back_from_frames(envelope: Envelope) -> None:
    frames = encode_frames(envelope)
    found = [
        decode_binary(frame) if isinstance(frame, bytes) else decode(frame) for frame in frames
    ]
    assert all(isinstance(unit, Envelope) for unit in found)
    got = [unit for unit in found if isinstance(unit, Envelope)]
    assert tuple(item for unit in got for item in unit.messages) == envelope.messages
    # Each frame says where it begins, and all say the marks; the rest is said once.
    number = envelope.seq
    for unit in got:
        assert unit.seq == number
        assert (unit.ack, unit.received) == (envelope.ack, envelope.received)
        number = number and number + len(unit.messages)
    once = [(unit.commit, unit.key, unit.ask, unit.answer) for unit in got]
    assert once[0] == (envelope.commit, envelope.key, envelope.ask, envelope.answer)
    assert set(once[1:]) <= {(None, None, None, None)}


def gives_a_unit_or_refuses(read: Callable[[], Unit]) -> None:
    try:
        unit = read()
    except RemoteProtocolError:
        return
    assert isinstance(unit, Unit)
    assert decode(encode(unit)) == unit


letters = "arsckqpitnwb"
heads = st.lists(
    st.builds(str.__add__, st.sampled_from(letters) | st.text(max_size=2), st.text("0123456789k-")),
    max_size=6,
).map(" ".join)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
fields = ["hello", "welcome", "end", "attempt", "ack", "received", "seq", "nonce", "id", "key"]
objects = st.dictionaries(
    st.sampled_from([*fields, "reason", "session", "client", "grant", "protocol"]),
    st.just(1) | names | json_values,
).map(json.dumps)
any_segment = st.builds(
    str.__add__, st.sampled_from("mebc") | st.text(max_size=1), st.text() | objects
)
almost = st.builds(
    lambda head, rest: SEPARATOR.join([head, *rest]),
    heads | objects | st.text(),
    st.lists(any_segment, max_size=3),
)


@given(st.text(st.characters()) | almost)
@example("a0 s1\x1em\ud800")
def test_any_text_gives_a_unit_or_is_refused(text: str) -> None:
    gives_a_unit_or_refuses(lambda: decode(text))


@given(st.binary() | almost.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_body_gives_a_unit_or_is_refused(body: bytes) -> None:
    gives_a_unit_or_refuses(lambda: decode_body(body))
    gives_a_unit_or_refuses(lambda: decode_body(body + END_MARK.encode()))


@given(
    st.binary() | st.builds(lambda head, data: head.encode() + b"\x1e" + data, heads, st.binary())
)
def test_any_binary_frame_gives_an_envelope_or_is_refused(data: bytes) -> None:
    gives_a_unit_or_refuses(lambda: decode_binary(data))


@given(units, st.data())
def test_a_text_that_something_altered_gives_a_unit_or_is_refused(
    unit: Unit, data: st.DataObject
) -> None:
    text = encode(unit)
    at = data.draw(st.integers(0, len(text)))
    until = data.draw(st.integers(at, min(len(text), at + 3)))
    altered = text[:at] + data.draw(st.text(max_size=3)) + text[until:]
    gives_a_unit_or_refuses(lambda: decode(altered))


def test_what_several_are_sent_is_the_same_for_each() -> None:
    messages = tuple(Message(f"number {number}") for number in range(2 * FEW))
    others = (*messages[:-1], Message("another"))
    for carried in (messages, messages, others, messages[:FEW], messages[: FEW - 1], messages):
        for seq in (1, 1000):
            [frame] = encode_frames(Envelope(seq=seq, messages=carried))
            assert isinstance(frame, str)
            assert decode(frame) == Envelope(seq=seq, messages=carried)
    with_bytes = (*messages, Message(b"bytes"))
    text, data = encode_frames(Envelope(seq=1, messages=with_bytes))
    assert isinstance(text, str)
    assert isinstance(data, bytes)
    assert decode(text).messages + decode_binary(data).messages == with_bytes  # type: ignore[union-attr]


def test_what_another_thread_encodes_meanwhile_is_not_sent_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, others = (tuple(Message(f"{word}{n}") for n in range(FEW)) for word in ("one", "two"))
    tokens = codec._tokens

    def interrupted(envelope: Envelope) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(codec, "_tokens", tokens)
            encode_frames(Envelope(seq=1, messages=others))
        return tokens(envelope)

    encode_frames(Envelope(seq=1, messages=ours))
    monkeypatch.setattr(codec, "_tokens", interrupted)
    [frame] = encode_frames(Envelope(seq=1, messages=ours))
    assert isinstance(frame, str)
    assert decode(frame) == Envelope(seq=1, messages=ours)


@pytest.mark.parametrize("end", ["", "m", "eb", 'e"x"', "c[1000,1]"])
def test_parts_within_parts_are_not_taken_apart(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """Each would be copied with all that is in it: a megabyte a thousand times over."""
    looked: list[str] = []

    def look(segment: str) -> Carried:
        looked.append(segment)
        return item(segment)

    item = segments._item
    monkeypatch.setattr(segments, "_item", look)
    with pytest.raises(MalformedEnvelope):
        decode(f"a0 s1{SEPARATOR}" + "p0/9," * 1000 + end)
    assert len(looked) <= 1


@pytest.mark.parametrize(
    "text",
    [
        "a5 r3",
        "a5 r3 q1",
        "a5 r3 s1\x1emx",
        "iname kkey t1 n1 a5 r3 c1",
        "iname kkey t1 n1 a5 r3 s1 c1\x1emx",
        # Numbers without messages, and messages without their numbers.
        "iname kkey t1 n1 a5 s1 c1",
        "iname kkey t1 n1 a5 c1\x1emx",
    ],
)
def test_what_a_pattern_lets_pass_keeps_the_rules_of_an_envelope(text: str) -> None:
    with pytest.raises(MalformedEnvelope):
        decode(text)
