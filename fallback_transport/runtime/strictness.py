"""The heads of requests that no server here takes, whatever its own parser makes of them.

Two parsers that disagree on where a line, a head or a body ends let one request hide in another.
"""

from __future__ import annotations

import email.errors
import logging
import re
from collections.abc import Callable
from email.message import Message
from typing import Any, BinaryIO

logger = logging.getLogger("fallback_transport.runtime")

#: What some parsers take for the end of a line, or of everything, and others do not.
_BARE = re.compile(rb"\r(?!\n)|\0")
#: Why a head that has it is refused.
BENT = "a carriage return or NUL amid a line"
#: And one that the stream's end cuts, which those parsers take for a whole one: a path, a length or
#: an origin may be half of what was meant, and what would have forbidden it not there yet.
CUT = "a head without an end"
#: What Python's parser found and got over: a line that is no header, which for it ends the
#: headers and so hides those behind it.
_HEADER_DEFECTS = (
    email.errors.MissingHeaderBodySeparatorDefect,
    email.errors.InvalidHeaderDefect,
    email.errors.FirstHeaderLineIsContinuationDefect,
    email.errors.MisplacedEnvelopeHeaderDefect,
)
#: Where what is wrong with a request is quoted in what the servers say of it; no apostrophe.
_QUOTED = re.compile(r"""\W*(?<!\w\w)['"].*""", re.DOTALL)
#: How a TLS handshake begins: a record of version 3.
_TLS = "\x16\x03"


def is_bent(text: bytes) -> bool:
    """Whether parsers disagree on where its lines end."""
    return _BARE.search(text) is not None


class Lines:
    """A file whose lines a parser of headers reads, which are looked at on the way.

    Args:
        file: where they are.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        #: Whether one of them was bent, and whether the stream has ended before the head.
        self.bent = self.cut = False

    def readline(self, size: int = -1) -> bytes:
        """The next line."""
        line = self._file.readline(size)
        self.bent = self.bent or is_bent(line)
        self.cut = not line
        return line


def misfit(headers: Message) -> str | None:
    """Why a request's headers are not to be trusted, or None.

    Two lengths, or a header that only one of two parsers sees, are how a
    request is smuggled past a proxy inside another one.
    """
    if any(isinstance(defect, _HEADER_DEFECTS) for defect in headers.defects):
        return "a line that is no header"
    codings = headers.get_all("Transfer-Encoding", [])
    if codings and [coding.strip(" \t").lower() for coding in codings] != ["chunked"]:
        # Some servers take another for none, and the body for the next request.
        return "a Transfer-Encoding that is not chunked"
    lengths = headers.get_all("Content-Length", [])
    if len(lengths) > 1 or (lengths and "Transfer-Encoding" in headers):
        return "two lengths of one body"
    if lengths and not re.fullmatch("[0-9]{1,18}", lengths[0].strip(" \t"), re.ASCII):
        return "a Content-Length that is no number"
    if len(headers.get_all("Host", [])) > 1:
        return "several hosts"
    return None


def parse_strictly(handler: Any, parse: Callable[[], Any]) -> bool:
    """Whether `parse` finds a head that can be trusted; otherwise it is answered with 400."""
    file = handler.rfile
    handler.rfile = lines = Lines(file)
    try:
        if not parse():
            return False
    finally:
        handler.rfile = file
    bent = lines.bent or is_bent(handler.raw_requestline)
    problem = CUT if lines.cut else BENT if bent else misfit(handler.headers)
    if problem is not None:
        handler.close_connection = True
        handler.send_error(400, problem)
    return problem is None


def log_refused(handler: Any, problem: object) -> None:
    """Say what is wrong, and not with what: that is the client's, a cookie or a key perhaps."""
    unquoted = _QUOTED.sub("", str(problem))
    if str(getattr(handler, "requestline", "")).startswith(_TLS):
        unquoted = "TLS, where there is none: the URL begins with http: or ws:, not https: or wss:"
    logger.warning("refused as HTTP: %.200r, from %s", unquoted, handler.client_address[0])
