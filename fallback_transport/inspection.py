"""A look at the JSON that clients send, before any handler sees it."""

from __future__ import annotations

import math
import re
from typing import Any

from .application import MalformedPacket

#: Handlers and encoders walk what came by recursion, and Python's ends at 1000 calls.
_MAX_DEPTH = 100
#: What has neither depth nor odd numbers, and how many of it an event usually has.
_SIMPLE, _FEW = frozenset({str, int, bool, type(None)}), 8
#: Characters from which on to look for one after the other is quicker than to count them: that
#: there is none, Python finds out at 30 GB/s.
_LONG = 4096
# What JSON text must contain to hold a number that a browser's JSON cannot carry: one of more than
# 1.8e308. Patterns that begin with a letter are looked for at 1 GB/s, others at 100 MB/s.
_SMALL_E, _LARGE_E = re.compile(r"e(?<=[0-9]e)\+?[0-9]{2}"), re.compile(r"E(?<=[0-9]E)\+?[0-9]{2}")
_DIGIT, _DIGITS, _MANY = re.compile("[0-9]"), "0123456789", 300


def suspect(data: Any, text: str) -> bool:
    """Whether what was read of JSON text may be too deep, or have a number of no browser's JSON.

    Quick, and wrong on the safe side: `check` looks through it.
    """
    if type(data) is list and len(data) <= _FEW and _SIMPLE.issuperset(map(type, data)):
        return False
    return (
        _bracketed(text)
        or ("N" in text and "NaN" in text)
        or ("I" in text and "Infinity" in text)
        or ("e" in text and bool(_SMALL_E.search(text)))
        or ("E" in text and bool(_LARGE_E.search(text)))
        or (len(text) >= _MANY and _many_digits(text))
    )


def _many_digits(text: str) -> bool:
    """Whether there are 300 in a row: then there is one at a 300th place, and they are around it.

    A pattern would look at every character, wherever there are digits: that takes 20 times as long
    as to read the JSON. And at a run that is too short it would look from each digit on.
    """
    for found in _DIGIT.finditer(text[_MANY - 1 :: _MANY]):
        place = _MANY - 1 + _MANY * found.start()
        before, behind = text[place - _MANY + 1 : place], text[place : place + _MANY]
        left = len(before.rstrip(_DIGITS)) + len(behind.lstrip(_DIGITS))
        if len(before) + len(behind) - left >= _MANY:
            return True
    return False


def _bracketed(text: str) -> bool:
    """Whether there are more brackets than may be within one another."""
    if len(text) < _LONG:
        return text.count("[") + text.count("{") > _MAX_DEPTH
    left = _MAX_DEPTH
    for bracket in "[{":
        place = text.find(bracket)
        while place >= 0:
            if not left:
                return True
            left -= 1
            place = text.find(bracket, place + 1)
    return False


def check(data: Any, attachments: int | None) -> None:
    """Look through a packet's data, level by level.

    Args:
        attachments: how many it has, if it may have any.

    Raises:
        MalformedPacket: it is too deep, or no JSON for a browser, or wants
            attachments that there are not, or one in several places.
    """
    values: list[Any] = [data]
    placed: set[int] = set()
    for _ in range(_MAX_DEPTH + 1):
        if not all(map(math.isfinite, [value for value in values if isinstance(value, float)])):
            raise MalformedPacket("a number that JSON cannot carry")
        nests = [value for value in values if isinstance(value, (list, dict))]
        if not nests:
            return
        values = []
        for nest in nests:
            if isinstance(nest, list):
                values += nest
            else:
                values += nest.values()
                if attachments is not None:
                    _check_place(nest, attachments, placed)
    raise MalformedPacket(f"JSON nested deeper than {_MAX_DEPTH}")


def _check_place(value: dict[str, Any], attachments: int, placed: set[int]) -> None:
    """See that an attachment is there, and nowhere else, if this is where one belongs.

    Else a handler that hands on what it was given would send it once for each of its places: a
    thousand times as much as has come.
    """
    if value.get("_placeholder") and "num" in value:
        number = value["num"]
        if type(number) is not int or not 0 <= number < attachments or number in placed:
            raise MalformedPacket("attachments that do not fit their packet")
        placed.add(number)
