"""A look at the JSON that clients send, before any handler sees it."""

from __future__ import annotations

import math
import re
from typing import Any

from .application import MalformedPacket

#: Handlers and encoders walk what came by recursion, and Python's ends at 1000 calls.
_MAX_DEPTH = 100
# What JSON text must contain to hold a number that a browser's JSON cannot carry: one of more than
# 1.8e308. Patterns that begin with a letter are looked for at 1 GB/s, others at 100 MB/s.
_SMALL_E, _LARGE_E = re.compile(r"e(?<=[0-9]e)\+?[0-9]{2}"), re.compile(r"E(?<=[0-9]E)\+?[0-9]{2}")
#: Characters from which on it takes longer to look through them than through what was read.
_LONG = 4096
_DIGIT, _DIGITS = re.compile("[0-9]"), re.compile("[0-9]{300}")


def suspect(data: str) -> bool:
    """Whether JSON text may be too deep, or hold a number that no browser's JSON can.

    Quick, and wrong on the safe side: `check` looks at what it read.
    """
    return (
        len(data) > _LONG
        or data.count("[") + data.count("{") > _MAX_DEPTH
        or ("N" in data and "NaN" in data)
        or ("I" in data and "Infinity" in data)
        or bool(_SMALL_E.search(data) or _LARGE_E.search(data))
        # Where there are 300 in a row, there is one at each 300th place.
        or (len(data) > 300 and bool(_DIGIT.search(data[299::300]) and _DIGITS.search(data)))
    )


def check(data: Any, attachments: int | None) -> None:
    """Look through a packet's data, level by level.

    Args:
        attachments: how many it has, if it may have any.

    Raises:
        MalformedPacket: it is too deep, or no JSON for a browser, or wants
            attachments that there are not.
    """
    values: list[Any] = [data]
    for _ in range(_MAX_DEPTH + 1):
        if not all(map(math.isfinite, [value for value in values if type(value) is float])):
            raise MalformedPacket("a number that JSON cannot carry")
        nests = [value for value in values if type(value) is list or type(value) is dict]
        if not nests:
            return
        values = []
        for nest in nests:
            if isinstance(nest, list):
                values += nest
            else:
                values += nest.values()
                if attachments is not None:
                    _check_place(nest, attachments)
    raise MalformedPacket(f"JSON nested deeper than {_MAX_DEPTH}")


def _check_place(value: dict[str, Any], attachments: int) -> None:
    """See that an attachment is there, if this is where one belongs."""
    if value.get("_placeholder") and "num" in value:
        number = value["num"]
        if type(number) is not int or not 0 <= number < attachments:
            raise MalformedPacket("attachments that do not fit their packet")
