"""What a segment of a text says: a message, a part of one, or the close.

Each begins with a letter that says what it is, and is written by what it carries
(``Message.segment`` and its like); here it is read.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from typing import Final

from .errors import MalformedEnvelope, MessageRefused
from .message import Carried, Close, Message, Part

_PLACE = "([0-9]{1,15})/([0-9]{1,15}),"
TEXT_PART: Final = re.compile(f"p{_PLACE}m", re.ASCII)
#: Of any other kind that there are parts of; of parts there are none: each would be copied whole.
_PART: Final = re.compile(f"{_PLACE}(?=[eb])", re.ASCII)


def read_segments(segments: Iterable[str]) -> tuple[Carried, ...]:
    """What several segments say.

    Raises:
        MalformedEnvelope: one of them is none.
    """
    try:
        # Nearly all are plain.
        return tuple([Message(s[1:]) if s[:1] == "m" else _item(s) for s in segments])
    except MessageRefused as error:
        raise MalformedEnvelope("a segment that is no text") from error


def text_part(text: str, place: re.Match[str]) -> Part:
    """The part of a text that stands behind its `place`, which `TEXT_PART` has found."""
    # Of what is large there is much: it is copied once.
    return Part(text[place.end() :], int(place[1]), int(place[2]))


def _item(segment: str) -> Carried:
    """What is no plain text message, of those that a segment may hold."""
    kind = segment[:1]
    if kind == "p" and (place := TEXT_PART.match(segment)):
        return text_part(segment, place)
    content = segment[1:]
    try:
        # Python's decoder lets surplus padding pass.
        if kind == "b" and len(content) % 4 == 0:
            return Message(base64.b64decode(content, validate=True))
        if kind == "e":
            value = json.loads(content)
            if isinstance(value, str):
                return Message(value)
        if kind == "c":
            code, reason = json.loads(content)
            if type(code) is int and isinstance(reason, str):
                return Close(code, reason)
        if kind == "p" and (place := _PART.match(content)):
            inner = _item(content[place.end() :])
            assert isinstance(inner, Message), "by its kind"
            return Part(inner.data, int(place[1]), int(place[2]))
    # json's own errors, base64's, a wrong count and a bad code are all ValueErrors.
    except (ValueError, TypeError, RecursionError, MessageRefused) as error:
        raise MalformedEnvelope(f"a segment of kind {kind!r} cannot be read") from error
    raise MalformedEnvelope("a segment of unknown kind")
