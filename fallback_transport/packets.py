"""A packet class for python-socketio, quick in the plain cases, with the same wire.

A text event without attachments or namespace is nearly all there is. It is
read and written here, written by `orjson` where that is installed; whatever is less
plain goes to the stock class, and so does what `orjson` refuses.
"""

from __future__ import annotations

import json
import re
from typing import Any

from socketio import packet as sio

try:
    import orjson
except ImportError:  # an extra
    orjson = None  # type: ignore[assignment]

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
#: An application may put another in its place, by `json=`: then that one writes.
STOCK_JSON = sio.Packet.json


def _int(digits: str) -> int:
    # As `engineio.json` has it, which makes a new decoder for each text.
    if len(digits) > 100:
        raise ValueError("an integer of more than 100 digits")
    return int(digits)


# Not orjson's: it makes floats of long integers, and would let pass what is refused.
_decode = json.JSONDecoder(parse_int=_int).raw_decode
#: The bytes with which UTF-8 begins a character beyond 16 bits.
_FIRST_OF_FOUR = b"\xf0\xf1\xf2\xf3\xf4"
_BEYOND = re.compile("[\U00010000-\U0010ffff]+")
#: From here on a text is looked at for what would have to be decoded in it.
_LARGE = 16_384
_NAMED = re.compile(r'2\["([ !#-\[\]-~]*)","')
#: But for the quotation mark: RFC 8259, section 7.
_ESCAPED = ("\\", *map(chr, range(0x20)))
#: A text, which may have these words, or a number that no browser reads.
_NO_NUMBER = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|(?<=[\[:,\s])-?(?:NaN|Infinity)')
_ATTACHED = re.compile("[56]([0-9]+)-")
#: The types that JSON has no bytes in, so that they need not be looked through.
_PLAIN = frozenset({str, int, float, bool, type(None)})


def dumps(value: Any) -> str:
    """`value` as JSON; NaN and the infinities are null, as browsers write them.

    Raises:
        TypeError, ValueError: it is none.
    """
    if orjson is not None:
        try:
            return _escaped(orjson.dumps(value, option=_STRICT))
        except TypeError:
            # Also keys that are no texts, numbers of more than 64 bits, halves of surrogate pairs.
            pass
    try:
        return _encode(value)
    except ValueError:
        # No browser can read what the standard module makes of NaN.
        return _encode(json.loads(json.dumps(value), parse_constant=lambda _: None))


def _escaped(written: bytes) -> str:
    """JSON with surrogate pairs for what is beyond 16 bits, as the standard module writes it.

    edbrowse takes each such character for one, and not for the two that JavaScript has.
    """
    text = written.decode()
    if text.isascii() or not any(first in written for first in _FIRST_OF_FOUR):
        return text
    return _BEYOND.sub(lambda found: _encode(found[0])[1:-1], text)


def readable(text: str) -> str:
    """A packet's text, which any class has written, as a page can read it.

    Raises:
        ValueError: see `check_places`.
    """
    attached = _ATTACHED.match(text)
    if attached is not None:
        check_places(text, int(attached[1]))
    if "NaN" in text or "Infinity" in text:
        return _NO_NUMBER.sub(lambda found: found[0] if found[0][0] == '"' else "null", text)
    return text


def check_places(text: str, attachments: int) -> None:
    """See that JSON with so many attachments has no other value that stands for one.

    A page would find one of them there, too, or none, and take the packet for malformed.

    Raises:
        ValueError: it has. (In a text, the quotation marks are escaped.)
    """
    if text.count('"_placeholder":') > attachments:
        raise ValueError("an object with a _placeholder cannot be sent beside bytes")


#: What the standard module does not take is not to be taken: an application must not find out
#: where orjson is missing. Dates, dataclasses and subclasses go there, and dates and dataclasses
#: fail there. (orjson can be told nothing about UUIDs and members of an Enum: it takes them.)
_STRICT = (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
    if orjson is not None
    else 0
)


def plain_event(text: str) -> Any:
    """The name and the arguments of a text that is plainly an event; else None.

    Raises:
        ValueError, RecursionError: it is no packet.
    """
    if text[:2] != "2[":
        return None
    if len(text) >= _LARGE and (event := _one_text(text)) is not None:
        return event
    data, end = _decode(text, 1)
    return data if end == len(text) else None


def _one_text(text: str) -> Any:
    """The same, where the one argument is a text in which nothing is escaped; else None.

    To look for each of what JSON escapes takes less time than the decoder's look at each character.
    """
    head = _NAMED.match(text)
    if head is None or not text.isascii():
        return None
    start, end = head.end(), len(text) - 2
    if text.find('"', start) != end or text[end:] != '"]':
        return None
    if any(text.find(each, start, end) >= 0 for each in _ESCAPED):
        return None
    return [head[1], text[start:end]]


class UnwritableReply(TypeError):
    """What a handler has returned cannot be written as JSON; the text says why."""


class Packet(sio.Packet):  # type: ignore[misc]
    """See the module; for ``socketio.Server(serializer=Packet)``."""

    def __init__(
        self,
        packet_type: int = sio.EVENT,
        data: Any = None,
        namespace: str | None = None,
        id: int | None = None,
        binary: bool | None = None,
        encoded_packet: str | None = None,
    ) -> None:
        event = None
        if encoded_packet is not None and self.json is STOCK_JSON:
            event = plain_event(encoded_packet)
        if event is not None:
            self.packet_type, self.data = sio.EVENT, event
            self.namespace = self.id = None
            self.attachment_count = 0
            self.attachments: list[Any] = []
            return
        if binary is None and type(data) is list and all(type(v) in _PLAIN for v in data):
            binary = False
        super().__init__(packet_type, data, namespace, id, binary, encoded_packet)

    def encode(self) -> Any:
        """See `socketio.packet.Packet`."""
        if self.json is not STOCK_JSON:
            return super().encode()
        prefix, data, attachments = str(self.packet_type), self.data, None
        if self.packet_type in (sio.BINARY_EVENT, sio.BINARY_ACK):
            data, attachments = self.deconstruct_binary(data)
            prefix += f"{len(attachments)}-"
        if self.namespace is not None and self.namespace != "/":
            prefix += self.namespace + ","
        if self.id is not None:
            prefix += str(self.id)
        try:
            text = prefix if data is None else prefix + dumps(data)
        except (TypeError, ValueError) as error:
            if self.packet_type not in (sio.ACK, sio.BINARY_ACK):
                raise
            raise UnwritableReply(str(error)) from error
        return text if attachments is None else [text, *attachments]
