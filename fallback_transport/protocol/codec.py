"""Units as texts and bytes, and back; with `segments`, the only place that knows the bytes.

A text on the wire is a *head* and then segments, separated by U+001E. The head
is a JSON object (hello, welcome, end) or a line of tokens, each a letter and
its value (``a12 s13 c2``). ``PROTOCOL.md`` draws all of it; the transcripts in
``tests/transcripts`` test both halves against the same texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from .envelope import End, Envelope, Grant, Hello, PollRequest, Unit, Welcome
from .errors import MalformedEnvelope, UnsupportedVersion
from .message import SEPARATOR, Carried, Close, Message, Part
from .segments import TEXT_PART, read_segments, text_part

VERSION: Final = 1

#: Ends every polling body, so that a body cut by a proxy that also corrected
#: the Content-Length is recognised.
END_MARK: Final = SEPARATOR + "."
_END: Final = END_MARK.encode()

#: JavaScript counts exactly up to 2**53; fifteen digits stay below.
MAX_NUMBER: Final = 10**15 - 1

_COUNT = "[1-9][0-9]{0,14}"
_MARK = f"0|{_COUNT}"
_NAMED = "[A-Za-z0-9._-]{1,64}"
_NUMBER: Final = re.compile(rf"(?:{_MARK})\Z", re.ASCII)
# What nearly every unit of a client begins with, read in one go: an envelope with marks, and the
# number of its messages if it has any, or else what keeps a quiet connection alive; and a polling
# request. All in the order in which pages write it.
_USUAL: Final = re.compile(
    rf"a({_MARK})(?: r({_MARK}))?(?: s({_COUNT})\x1e|(?: q({_MARK}))?(?: p({_MARK}))?\Z)", re.ASCII
)
_POLL: Final = re.compile(
    rf"i({_NAMED}) k({_NAMED}) t({_MARK}) n({_MARK})"
    rf"(?: w({_MARK}))?(?: b({_MARK}))? a({_MARK})(?: r({_MARK}))?(?: s({_COUNT}))?(?: c({_MARK}))?"
    r"(?=\x1e|\Z)",
    re.ASCII,
)
_NAME: Final = re.compile(rf"{_NAMED}\Z", re.ASCII)
#: RFC 7230's token, which is what RFC 6455 makes a subprotocol's name of.
_TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PROTOCOL = re.compile(rf"(?=.{{1,256}}\Z){_TOKEN}\Z")
#: What the client says of itself is short text; these have their own form, and more room: the
#: path and query of a URL as browsers write it, and the subprotocols that the page offers.
_FACT = re.compile(r"(?s:.{0,256})\Z")
_FACTS = {
    "url": re.compile(r"/[!\"$-~]{0,2047}\Z"),
    "protocols": re.compile(rf"(?=.{{1,1024}}\Z){_TOKEN}(?:, ?{_TOKEN})*\Z"),
}
_MAX_HEAD: Final = 4096
_MAX_BINARY_HEAD: Final = 192
#: Empty messages cost two bytes on the way, and hundreds once they have arrived.
_MAX_MESSAGES: Final = 4096
#: Makes a named tuple of valid fields; its class, which is called in Python, takes thrice as long.
_new: Any = tuple.__new__

#: From so many messages on, their segments are kept together for the next recipient of the same.
FEW: Final = 4

#: The last messages that several may be sent, and their segments.
_joined: tuple[tuple[Carried, ...], str] = ((Message(""),), "m")

# -- encoding -----------------------------------------------------------------


#: `json.dumps` would make another of these each time.
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _marks(envelope: Envelope) -> dict[str, int]:
    marks = {"ack": envelope.ack, "received": envelope.received}
    if envelope.seq is not None:
        marks["seq"] = envelope.seq
    if envelope.got:
        marks["got"] = envelope.got
    return marks


def _tokens(envelope: Envelope) -> str:
    ack, received, seq, _, commit, key, ask, answer, got = envelope
    if received == ack and not got:
        # Nearly always.
        line = f"a{ack}" if seq is None else f"a{ack} s{seq}"
    else:
        line = f"a{ack}" if received == ack else f"a{ack} r{received}"
        if got:
            line = f"{line} g{got}"
        if seq is not None:
            line = f"{line} s{seq}"
    if commit is not None:
        line = f"{line} c{commit}"
    if key is not None:
        line = f"{line} k{key}"
    if ask is not None:
        line = f"{line} q{ask}"
    return line if answer is None else f"{line} p{answer}"


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _head(unit: Unit) -> tuple[str, Sequence[Carried]]:
    if isinstance(unit, Envelope):
        return _tokens(unit), unit.messages
    if isinstance(unit, PollRequest):
        tokens = [f"i{unit.id}", f"k{unit.key}", f"t{unit.attempt}", f"n{unit.number}"]
        if unit.wait is not None:
            tokens.append(f"w{_milliseconds(unit.wait)}")
        if unit.limit is not None:
            tokens.append(f"b{unit.limit}")
        return " ".join([*tokens, _tokens(unit.envelope)]), unit.envelope.messages
    if isinstance(unit, End):
        end = {"end": unit.code, "reason": unit.reason, "session": unit.session}
        return _json({**end, "ack": unit.ack, "received": unit.received}), ()
    if isinstance(unit, Hello):
        hello: dict[str, Any] = {"hello": VERSION, "attempt": unit.attempt}
        for name in ("nonce", "id", "key"):
            if getattr(unit, name) is not None:
                hello[name] = getattr(unit, name)
        if unit.client:
            hello["client"] = dict(unit.client)
        return _json({**hello, **_marks(unit.envelope)}), unit.envelope.messages
    welcome: dict[str, Any] = {"welcome": VERSION, "id": unit.id, "attempt": unit.attempt}
    if unit.key is not None:
        welcome["key"] = unit.key
    grant = unit.grant
    welcome["grant"] = {
        "messages": grant.messages,
        "bytes": grant.bytes,
        "message": grant.message,
        "body": grant.body,
        "wait": _milliseconds(grant.wait),
        "keepalive": _milliseconds(grant.keepalive),
        "inactivity": _milliseconds(grant.inactivity),
    }
    if unit.protocol:
        welcome["protocol"] = unit.protocol
    return _json({**welcome, **_marks(unit.envelope)}), unit.envelope.messages


def encode(unit: Unit) -> str:
    """`unit` as one text: a WebSocket text message."""
    head, messages = _head(unit)
    if not messages:
        return head
    return SEPARATOR.join([head, *[message.segment for message in messages]])


def encode_body(unit: Unit) -> bytes:
    """`unit` as the body of a polling request or answer, with its end mark, in UTF-8."""
    return (encode(unit) + END_MARK).encode()


def encode_frames(envelope: Envelope) -> list[str | bytes]:
    """`envelope` as WebSocket messages: runs of texts together, bytes one by one.

    A binary WebSocket message is the head, U+001E and the bytes of one message
    or part. The first frame has all the marks; each states the number of its
    first message.
    """
    global _joined
    messages = envelope.messages
    first = messages[0] if len(messages) == 1 else None
    if type(first) is Message and type(first.data) is str:
        return [f"{_tokens(envelope)}{SEPARATOR}{first.segment}"]
    # Read once: another thread may put others there meanwhile.
    known, joined = _joined
    if len(messages) >= FEW and messages[0] is known[0] and messages == known:
        # The next recipient of what several are sent.
        return [f"{_tokens(envelope)}{SEPARATOR}{joined}"]
    for item in messages:
        if not isinstance(item, Close) and type(item.data) is bytes:
            return _mixed_frames(envelope)
    if len(messages) < FEW:
        return [SEPARATOR.join([_tokens(envelope), *[item.segment for item in messages]])]
    joined = SEPARATOR.join([item.segment for item in messages])
    _joined = messages, joined
    return [f"{_tokens(envelope)}{SEPARATOR}{joined}"]


def _mixed_frames(envelope: Envelope) -> list[str | bytes]:
    """The same, where there are bytes among the messages."""
    ack, received, _, messages, _, _, _, _, got = envelope
    runs: list[list[Carried]] = []
    for item in messages:
        if runs and not (_is_binary(item) or _is_binary(runs[-1][0])):
            runs[-1].append(item)
        else:
            runs.append([item])
    frames: list[str | bytes] = []
    head, number = _tokens(envelope), envelope.seq or 0
    for run in runs:
        item = run[0]
        if isinstance(item, Close) or not isinstance(item.data, bytes):
            frames.append(SEPARATOR.join([head, *[each.segment for each in run]]))
        else:
            place = f" o{item.offset} u{item.total}" if isinstance(item, Part) else ""
            frames.append((head + place + SEPARATOR).encode() + item.data)
        number += len(run)
        # What else the first says is said.
        head = _tokens(_new(Envelope, (ack, received, number, (), None, None, None, None, got)))
    return frames


def _is_binary(item: Carried) -> bool:
    return not isinstance(item, Close) and isinstance(item.data, bytes)


# -- decoding -----------------------------------------------------------------


def _number(text: object) -> int:
    if not isinstance(text, str) or not _NUMBER.match(text):
        raise MalformedEnvelope("a number was expected")
    return int(text)


def _read_tokens(line: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for token in line.split(" "):
        letter = token[:1]
        if letter not in "arsckqpgitnwbou" or letter in values or len(token) < 2:
            raise MalformedEnvelope("a head of unknown form")
        values[letter] = token[1:]
    return values


def _name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.match(value):
        raise MalformedEnvelope("a name was expected")
    return value


def _optional(values: dict[str, str], letter: str) -> int | None:
    return _number(values[letter]) if letter in values else None


def _envelope(values: dict[str, str], messages: tuple[Carried, ...], key: bool) -> Envelope:
    ack = _number(values.get("a"))
    return Envelope(
        ack=ack,
        received=_number(values["r"]) if "r" in values else ack,
        seq=_optional(values, "s"),
        messages=messages,
        commit=_optional(values, "c"),
        key=_name(values["k"]) if key and "k" in values else None,
        ask=_optional(values, "q"),
        answer=_optional(values, "p"),
        got=_number(values.get("g", "0")),
    )


def _token_unit(line: str, messages: tuple[Carried, ...]) -> Envelope | PollRequest:
    values = _read_tokens(line)
    if values.keys() & set("ou"):
        raise MalformedEnvelope("a part's place in a text")
    if "i" not in values:
        if values.keys() & set("tnwb"):
            raise MalformedEnvelope("a polling request without its session")
        return _envelope(values, messages, key=True)
    wait = _optional(values, "w")
    return PollRequest(
        id=_name(values["i"]),
        key=_name(values.get("k")),
        attempt=_number(values.get("t")),
        number=_number(values.get("n")),
        wait=None if wait is None else wait / 1000,
        limit=_optional(values, "b"),
        envelope=_envelope(values, messages, key=False),
    )


def _matched(
    ack: str,
    received: str | None,
    seq: str | None = None,
    messages: tuple[Carried, ...] = (),
    commit: str | None = None,
    ask: str | None = None,
    answer: str | None = None,
) -> Envelope:
    """The envelope of a head that one of the patterns has taken apart."""
    handled = int(ack)
    highest = handled if received is None else int(received)
    fields = (
        handled,
        highest,
        None if seq is None else int(seq),
        messages,
        None if commit is None else int(commit),
        None,
        None if ask is None else int(ask),
        None if answer is None else int(answer),
        0,
    )
    if highest < handled or (seq is None) is bool(messages):
        # Which says what is wrong with it.
        return Envelope(*fields)
    # Valid as it is: see `SessionMachine._envelope`.
    envelope: Envelope = _new(Envelope, fields)
    return envelope


def _poll(head: re.Match[str], messages: tuple[Carried, ...]) -> PollRequest:
    attempt: str
    number: str
    wait: str | None
    limit: str | None
    id, key, attempt, number, wait, limit, handled, received, seq, commit = head.groups()
    fields = (
        id,
        key,
        int(attempt),
        int(number),
        None if wait is None else int(wait) / 1000,
        None if limit is None else int(limit),
        _matched(handled, received, seq, messages, commit),
    )
    request: PollRequest = _new(PollRequest, fields)
    return request


def _integer(head: dict[str, Any], name: str, default: int | None = None) -> int:
    value = head.get(name, default)
    if type(value) is not int or not 0 <= value <= MAX_NUMBER:
        raise MalformedEnvelope(f"{name} must be a whole number")
    return value


def _optional_name(head: dict[str, Any], name: str) -> str | None:
    value = head.get(name)
    return None if value is None else _name(value)


def _facts(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or len(value) > 16:
        raise MalformedEnvelope("client must be a small object")
    for name, fact in value.items():
        if not isinstance(fact, str) or not _FACTS.get(name, _FACT).match(fact):
            raise MalformedEnvelope(f"what client says as {name[:20]!r} cannot be")
    return tuple(value.items())


def valid_subprotocol(name: object) -> bool:
    """Whether `name` can be the name of a subprotocol."""
    return isinstance(name, str) and _PROTOCOL.match(name) is not None


def _seconds(grant: dict[str, Any], name: str) -> float:
    return _integer(grant, name) / 1000


def _grant(value: object) -> Grant:
    if not isinstance(value, dict):
        raise MalformedEnvelope("a welcome without its grant")
    return Grant(
        messages=_integer(value, "messages"),
        bytes=_integer(value, "bytes"),
        message=_integer(value, "message"),
        body=_integer(value, "body"),
        wait=_seconds(value, "wait"),
        keepalive=_seconds(value, "keepalive"),
        inactivity=_seconds(value, "inactivity"),
    )


def _json_unit(text: str, segments: list[str]) -> Hello | Welcome | End:
    try:
        head: dict[str, Any] = json.loads(text)
        # A lone surrogate is no text, escaped or not, and would fail whoever logs it.
        (_json(head) if "\\u" in text else text).encode()
    except (ValueError, RecursionError) as error:
        raise MalformedEnvelope("a head that is no JSON") from error
    if "end" in head:
        reason = head.get("reason", "")
        if not isinstance(reason, str) or segments:
            raise MalformedEnvelope("an end has a reason and no messages")
        marks = _integer(head, "ack", 0), _integer(head, "received", 0)
        return End(_integer(head, "end"), reason, head.get("session") is True, *marks)
    kind = "hello" if "hello" in head else "welcome"
    if _integer(head, kind) != VERSION:
        raise UnsupportedVersion(
            f"protocol version {head[kind]} is not spoken here, version {VERSION} is"
        )
    envelope = Envelope(
        ack=_integer(head, "ack", 0),
        received=_integer(head, "received", 0),
        seq=_integer(head, "seq") if "seq" in head else None,
        # Behind the version: another one's may be of kinds that are unknown here.
        messages=read_segments(segments),
        got=_integer(head, "got", 0),
    )
    attempt = _integer(head, "attempt")
    session_id, key = _optional_name(head, "id"), _optional_name(head, "key")
    if kind == "welcome":
        grant, protocol = _grant(head.get("grant")), head.get("protocol", "")
        if "protocol" in head and not valid_subprotocol(protocol):
            raise MalformedEnvelope("a subprotocol that cannot be")
        return Welcome(_name(session_id), attempt, key, grant, envelope, protocol)
    if (session_id is None) != (key is None):
        raise MalformedEnvelope("a resume has an id and a key")
    facts = _facts(head.get("client", {}))
    return Hello(attempt, _optional_name(head, "nonce"), session_id, key, facts, envelope)


def decode(text: str) -> Unit:
    """The unit that a WebSocket text message, or a body without its end mark, holds.

    Raises:
        MalformedEnvelope: it is no envelope of this protocol.
        UnsupportedVersion: it is a hello or welcome of another version.
    """
    usual = _USUAL.match(text)
    if usual is not None:
        handled, received, seq, ask, answer = usual.groups()
        if seq is None:
            return _matched(handled, received, ask=ask, answer=answer)
        place = TEXT_PART.match(text, usual.end())
        if place is not None and text.find(SEPARATOR, place.end()) < 0:
            # Nor is it looked through letter by letter, as `split` does.
            return _matched(handled, received, seq, (text_part(text, place),))
        segments = text[usual.end() :].split(SEPARATOR, _MAX_MESSAGES)
        if len(segments) <= _MAX_MESSAGES:
            return _matched(handled, received, seq, read_segments(segments))
    poll = _POLL.match(text)
    if poll is not None and poll.end() == len(text):
        return _poll(poll, ())
    segments = text.split(SEPARATOR, _MAX_MESSAGES + 1)
    head = segments.pop(0)
    if len(segments) > _MAX_MESSAGES:
        raise MalformedEnvelope(f"more than {_MAX_MESSAGES} messages")
    if poll is not None:
        return _poll(poll, read_segments(segments))
    if len(head) > _MAX_HEAD:
        raise MalformedEnvelope("a head that is too long")
    if head.startswith("{"):
        return _json_unit(head, segments)
    return _token_unit(head, read_segments(segments))


def decode_body(body: bytes) -> Unit:
    """The unit that a polling body holds.

    Raises:
        MalformedEnvelope: cut, altered, or never ours (an HTML page, say).
        UnsupportedVersion: it is a hello or welcome of another version.
    """
    if not body.endswith(_END):
        raise MalformedEnvelope("a body without its end mark")
    try:
        # Not of a slice, nor one of it: what is large is copied once.
        text = str(memoryview(body)[: -len(_END)], "utf-8")
    except UnicodeDecodeError as error:
        raise MalformedEnvelope("a body that is not UTF-8") from error
    return decode(text)


def decode_binary(data: bytes) -> Envelope:
    """The envelope that a WebSocket binary message holds: one message, or part, of bytes.

    Raises:
        MalformedEnvelope: it is no binary envelope of this protocol.
    """
    head, separator, content = data.partition(b"\x1e")
    if not separator or len(head) > _MAX_BINARY_HEAD or not head.isascii():
        raise MalformedEnvelope("a binary envelope without its head")
    values = _read_tokens(head.decode("ascii"))
    if values.keys() & set("itnwb"):
        raise MalformedEnvelope("a polling request on a WebSocket")
    item: Carried = Message(content)
    if values.keys() & set("ou"):
        item = Part(content, _number(values.get("o")), _number(values.get("u")))
    return _envelope(values, (item,), key=True)
