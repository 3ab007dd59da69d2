"""What is numbered: messages, parts of them, and the close behind them.

All are frozen and valid by construction. A message keeps its own part of the encoding, so that a
broadcast encodes once.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Final

from .codes import valid_close
from .errors import MalformedEnvelope, MessageRefused

#: RFC 20's "record separator". JSON text never contains it raw, so Socket.IO
#: packets pass as they are; any other text that does contain it is escaped.
SEPARATOR: Final = "\x1e"


class Message:
    """One opaque text or bytes, with its encodings kept for further recipients.

    Args:
        data: what the layer above sends; of bytes, no copy is made.

    Raises:
        MessageRefused: text that UTF-8 cannot carry (a lone surrogate).
    """

    __slots__ = ("_segment", "_units", "_wide", "data", "size")

    def __init__(self, data: str | bytes) -> None:
        self.data = data
        self._segment: str | None = None
        self._units: int | None = None
        self._wide = b""
        if isinstance(data, bytes) or data.isascii():
            self.size = len(data)
        else:
            try:
                self.size = len(data.encode())
            except UnicodeEncodeError as error:
                raise MessageRefused("text with a lone surrogate cannot be sent") from error

    @property
    def segment(self) -> str:
        """The message as a segment of a text envelope; made once, whoever receives it."""
        segment = self._segment
        if segment is None:
            data = self.data
            if isinstance(data, bytes):
                segment = "b" + base64.b64encode(data).decode("ascii")
            elif SEPARATOR in data:
                segment = "e" + json.dumps(data, ensure_ascii=False)
            else:
                segment = "m" + data
            self._segment = segment
        return segment

    @property
    def units(self) -> int:
        """Its length in what both halves can count and cut: bytes, of a text UTF-16 units."""
        if self._units is None:
            self._units = _units(self.data)
        return self._units

    def part(self, offset: int, size: int) -> Part:
        """The stretch from unit `offset` on that takes about `size` bytes on the way."""
        data = self.data
        if isinstance(data, bytes):
            return Part(data[offset : offset + max(1, size)], offset, self.units)
        # One unit takes up to three bytes of UTF-8; escaped, as with U+001E in it, six.
        offset, text = self._cut(offset, size if data.isascii() else size // 3)
        if SEPARATOR in text:
            offset, text = self._cut(offset, size // 6)
        return Part(text, offset, self.units)

    def _cut(self, offset: int, count: int) -> tuple[int, str]:
        """About `count` units of the text, and where they begin: never amid a surrogate pair."""
        assert isinstance(self.data, str), "bytes have no pairs"
        # Two at least: one pair.
        end = offset + max(2, count)
        if self.units == len(self.data):
            return offset, self.data[offset:end]
        self._wide = self._wide or self.data.encode("utf-16-le")
        offset -= _is_low(self._wide, offset)
        end -= _is_low(self._wide, end)
        return offset, self._wide[2 * offset : 2 * end].decode("utf-16-le")

    def __eq__(self, other: object) -> bool:
        return type(other) is Message and other.data == self.data

    def __hash__(self) -> int:
        return hash(self.data)

    def __repr__(self) -> str:
        return f"Message({self.data!r})"


@dataclass(frozen=True, slots=True)
class Close:
    """The last numbered message of a direction: the session's close code and reason."""

    code: int
    reason: str = ""
    #: Asked for by all who count what is under way.
    segment: str = field(init=False, repr=False, compare=False)
    size: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if problem := valid_close(self.code, self.reason):
            raise ValueError(problem)
        said = json.dumps([self.code, self.reason], ensure_ascii=False, separators=(",", ":"))
        object.__setattr__(self, "segment", "c" + said)
        object.__setattr__(self, "size", len(said.encode()) + 1)


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a message that does not fit an envelope.

    Args:
        data: that much of the text or bytes.
        offset: the unit of the message at which it begins, see `Message.units`.
        total: the units of the whole message.
    """

    data: str | bytes
    offset: int
    total: int

    def __post_init__(self) -> None:
        if not self.data or self.end > self.total:
            raise MalformedEnvelope("a part that does not fit its message")

    @property
    def end(self) -> int:
        """The unit behind its last."""
        return self.offset + _units(self.data)

    @property
    def finished(self) -> bool:
        """Whether its message ends with it."""
        return self.end == self.total

    @property
    def size(self) -> int:
        data = self.data
        return len(data if isinstance(data, bytes) or data.isascii() else data.encode())

    @property
    def segment(self) -> str:
        return f"p{self.offset}/{self.total},{Message(self.data).segment}"


Item = Message | Close
#: What an envelope carries: its first may go on with a message, its last may be unfinished.
Carried = Message | Close | Part


def _units(data: str | bytes) -> int:
    if isinstance(data, bytes) or data.isascii():
        return len(data)
    return len(data.encode("utf-16-le")) // 2


def _is_low(wide: bytes, unit: int) -> bool:
    """Whether this unit of UTF-16 is the second of a surrogate pair."""
    return 2 * unit < len(wide) and 0xDC <= wide[2 * unit + 1] < 0xE0
