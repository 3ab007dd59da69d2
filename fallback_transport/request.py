"""The request that a session's handlers see: its hello's, cut down to plain values.

Where the hello tells what the page has connected to, it is a request for that, and not for
the door.
"""

from __future__ import annotations

import io
import sys
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from .protocol.envelope import Hello

#: Where `Session.url` finds the page's path and query.
URL = "fallback_transport.url"

#: What a browser adds by itself, whatever page it is that asks.
CREDENTIALS = ("HTTP_COOKIE", "HTTP_AUTHORIZATION")
#: What is about the body, or the connection: Flask would look for routes of WebSockets.
_DOORS_OWN = ("CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_CONNECTION", "HTTP_UPGRADE")
#: What servers add of the path as it came: the door's.
_RAW = ("RAW_URI", "REQUEST_URI", "RAW_PATH_INFO")
#: What says which page a session is for.
_PAGE = ("PATH_INFO", "QUERY_STRING", "HTTP_SEC_WEBSOCKET_PROTOCOL", URL)
#: What a path may hold as it is, by RFC 3986, section 3.3.
_SAFE = "/:@!$&'()*+,;="


class _Empty(io.BytesIO):
    """A body without a byte, the same for all sessions."""

    def write(self, data: object) -> int:
        raise io.UnsupportedOperation("not writable")

    def close(self) -> None:
        """Others will want to read it."""


_NO_BODY = _Empty()


def plain_request(
    environ: dict[str, Any],
    place: str,
    hello: Hello,
    extra: dict[str, Any],
    *,
    trusted: bool,
) -> dict[str, Any]:
    """What handlers see of the request `environ`, which came to a door in the path `place`.

    Args:
        extra: what is added.
        trusted: whether its page may act for the browser's user.
    """
    seen = {
        name: value
        for name, value in environ.items()
        if isinstance(value, str) and not name.startswith("HTTP_SEC_WEBSOCKET")
    }
    if not trusted:
        for name in CREDENTIALS:
            seen.pop(name, None)
    seen["REQUEST_METHOD"] = "GET"
    for name in _DOORS_OWN:
        seen.pop(name, None)
    if hello.protocols:
        seen["HTTP_SEC_WEBSOCKET_PROTOCOL"] = ", ".join(hello.protocols)
    here = seen.get("SCRIPT_NAME", "") + place
    seen[URL] = quote_from_bytes(here.encode("latin-1"), _SAFE) or "/"
    if hello.url:
        path, mark, query = hello.url.partition("?")
        inner = _below(here, path)
        seen[URL] = (seen[URL] if inner is None else path) + mark + query
        # A browser that opens a WebSocket does not say which page it is for; one that polls does.
        for name in (*_RAW, "HTTP_REFERER"):
            seen.pop(name, None)
        seen["PATH_INFO"] = place + (inner or "") or "/"
        seen["QUERY_STRING"] = query
    return {
        **seen,
        "wsgi.version": (1, 0),
        "wsgi.input": _NO_BODY,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **extra,
    }


def for_page_of(seen: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """A polling request, which does not say which page it is for, as the `first` hello did."""
    return {**seen, **{name: first[name] for name in _PAGE if name in first}}


def _below(place: str, path: str) -> str | None:
    """What a URL's `path` has beyond `place`, as WSGI has it; None if it does not lie there.

    A proxy in front may have rewritten the path; and what it keeps people from must not be
    named in another path that it lets pass.
    """
    whole = unquote_to_bytes(path).decode("latin-1")
    if not (whole + "/").startswith(place + "/") or {".", ".."} & set(whole.split("/")):
        return None
    return whole[len(place) :]
