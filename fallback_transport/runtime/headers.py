"""The headers of a request for gevent's server, which else go through Python's parser of e-mails.

That takes more of a polling request's time than all that we do about it. What is in any way
out of the ordinary still goes there; but for a bent line, in which that parser finds more headers
than others do: it is refused, by every server.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any, BinaryIO

from .strictness import BENT, CUT, is_bent

#: As in `http.client`: bytes of a line, and lines.
MAX_LINE = 65536
MAX_LINES = 100

#: RFC 9112, section 5, without its folded lines; a name is a token of RFC 9110, section 5.6.2.
_PLAIN = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*\r\n)*\r\n")
#: What two parsers could take for two ends of one body, unless it is looked at closely.
_LENGTHS = re.compile(
    rb"(?:^|\n)(?:content-length|transfer-encoding):[ \t]*([^\r]*)", re.IGNORECASE
)
_NUMBER = re.compile(rb"[0-9]{1,18}")
_HOST = re.compile(rb"(?:^|\n)host:", re.IGNORECASE)


class PlainHeaders:
    """What `pywsgi.WSGIHandler` asks of a request's headers.

    Args:
        lines: each a name, a colon and a value.
    """

    __slots__ = ("_values", "headers", "status", "typeheader")

    def __init__(self, lines: list[str]) -> None:
        self.headers = lines
        #: What is wrong with them.
        self.status = ""
        self._values: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            # Of several, the first.
            self._values.setdefault(name.lower(), value.strip(" \t\r\n"))
        self.typeheader = self._values.get("content-type")

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a header, or `default`."""
        return self._values.get(name.lower(), default)

    getheader = get


def read_headers(file: BinaryIO, parse: Callable[[BinaryIO], Any]) -> Any:
    """The headers that come next in `file`: `PlainHeaders`, or what `parse` makes of them.

    Raises:
        ValueError: there is a carriage return or NUL amid a line, or no end.
        whatever `parse` raises.
    """
    lines: list[bytes] = []
    while len(lines) <= MAX_LINES:
        line = file.readline(MAX_LINE + 1)
        lines.append(line)
        if line in (b"\r\n", b"\n", b"") or len(line) > MAX_LINE:
            break
    text = b"".join(lines)
    lengths = _LENGTHS.findall(text)
    # One length at most, and no coding: where this body ends is beyond doubt. So is one host.
    doubtful = len(lengths) > 1 or (lengths and not _NUMBER.fullmatch(lengths[0].strip(b" \t")))
    if doubtful or not _PLAIN.fullmatch(text) or len(_HOST.findall(text)) > 1:
        if not lines[-1]:
            # First: it may be cut behind a line's carriage return.
            raise ValueError(CUT)
        if is_bent(text):
            raise ValueError(BENT)
        return parse(io.BytesIO(text))
    return PlainHeaders([line.decode("latin-1") for line in lines[:-1]])
