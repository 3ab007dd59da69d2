"""The head of an HTTP request, read strictly by llhttp, in C.

Two parsers that disagree on where a request ends let one request hide in another. So what
is in any way ambiguous is not read here at all: it is for the WSGI server, which refuses it
or reads on from its first byte.
"""

from __future__ import annotations

import re
from typing import Any, Final

try:
    import httptools
except ImportError:  # pragma: no cover - there is no wheel for every platform
    httptools = None  # type: ignore[assignment]

#: Header names and values that are kept once, whichever requests have them: browsers of one
#: kind differ in few.
MAX_INTERNED = 4096
MAX_INTERNED_VALUE = 256

HEAD_END: Final = b"\r\n\r\n"
#: What parsers disagree on: a line feed alone, a carriage return or NUL amid a line, a line
#: that goes on with the one before, a blank before the colon.
AMBIGUOUS = re.compile(rb"(?<!\r)\n|\r(?!\n)|\0|\n[ \t]|\n[^:\r]*[ \t]:")
#: A path that is the same before and after decoding, and no query.
_PLAIN_PATH = re.compile(r"/[\w.~!$&'()*+,;=:@/-]*\Z", re.ASCII)
#: What is behind a length, other servers take for a part of it.
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*[0-9]{1,12}\r", re.IGNORECASE)

_interned: dict[str, str] = {}


def possible() -> bool:
    """Whether the parser is installed."""
    return httptools is not None


def read_head(text: bytes) -> dict[str, Any] | None:
    """The WSGI environ of a head, which ends with `HEAD_END`, without what the socket says.

    None if it is not plainly the head of a request of HTTP/1.1 for a path alone whose body,
    if it has one, is of a stated length, and that leaves the connection open.
    """
    if AMBIGUOUS.search(text):
        return None
    parser = _Parser()
    if not parser.feed(text) or not _PLAIN_PATH.match(parser.path):
        return None
    environ: dict[str, Any] = {
        "REQUEST_METHOD": _intern(parser.method),
        "SCRIPT_NAME": "",
        "PATH_INFO": _intern(parser.path),
        # As eventlet's server has it, when there is none.
        "CONTENT_TYPE": "text/plain",
        "RAW_PATH_INFO": _intern(parser.path),
        "SERVER_PROTOCOL": "HTTP/1.0",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "wsgi.url_scheme": "http",
    }
    for name, value in parser.headers:
        if "_" in name:
            # Another header's name could hide behind it.
            continue
        name = name.upper().replace("-", "_")
        if name == "CONTENT_LENGTH":
            if name in environ or not _LENGTH.search(text):
                return None
        elif name != "CONTENT_TYPE":
            name = "HTTP_" + name
            if name == "HTTP_HOST" and name in environ:
                return None
            if name in environ:
                value = f"{environ[name]},{value}"
        environ[_intern(name)] = _intern(value)
    if "HTTP_TRANSFER_ENCODING" in environ or "HTTP_EXPECT" in environ:
        return None
    return environ


class _Parser:
    """What llhttp finds in a head."""

    def __init__(self) -> None:
        self.headers: list[tuple[str, str]] = []
        self.method = self.path = ""
        self._url = b""
        self._complete = False

    def feed(self, head: bytes) -> bool:
        """Whether it is one whole head of a request of HTTP/1.1."""
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError:
            return False
        if not self._complete or parser.get_http_version() != "1.1":
            return False
        self.method = parser.get_method().decode("ascii")
        self.path = self._url.decode("latin-1")
        return True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1"), value.decode("latin-1").strip(" \t")))

    def on_headers_complete(self) -> None:
        self._complete = True


def _intern(text: str) -> str:
    if len(text) > MAX_INTERNED_VALUE:
        return text
    if len(_interned) >= MAX_INTERNED:
        _interned.clear()
    return _interned.setdefault(text, text)
