"""The opening handshake of a WebSocket, as WSGI has it, by RFC 6455, section 4.2.1."""

from __future__ import annotations

import re
from typing import Any

#: The name of our protocol, its version with it, among those that a page offers.
SUBPROTOCOL = "fallback.v1"

_UNPRINTABLE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_MAX_HEADER = 4096


class BadHandshake(Exception):
    """A request for a WebSocket that is none of RFC 6455, version 13.

    Args:
        status, reason: what it is answered with.
        headers: and these.
    """

    def __init__(self, status: int, reason: str, *headers: tuple[str, str]) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers


def is_ours(environ: dict[str, Any]) -> bool:
    """Whether a handshake asks for our protocol."""
    return SUBPROTOCOL in environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", "")


def handshake(environ: dict[str, Any]) -> bytes:
    """The handshake's request as bytes, from a WSGI environ: just the part that RFC 6455 reads.

    Raises:
        BadHandshake: it is none; what is left of RFC 6455's rules is checked by `websockets`.
    """
    if environ["REQUEST_METHOD"] != "GET":
        raise BadHandshake(405, "GET is the only method here", ("Allow", "GET"))
    upgrades = environ.get("HTTP_UPGRADE", "").lower() == "websocket"
    upgrades = upgrades and "upgrade" in environ.get("HTTP_CONNECTION", "").lower()
    version = environ.get("HTTP_SEC_WEBSOCKET_VERSION")
    if not upgrades or version != "13" or "HTTP_SEC_WEBSOCKET_KEY" not in environ:
        # Also the drafts before RFC 6455, which sent two keys of another name, or none.
        raise BadHandshake(
            426,
            "a WebSocket handshake of version 13 is expected here",
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
        )
    lines = ["GET / HTTP/1.1"]
    for name, value in environ.items():
        if name in ("HTTP_CONNECTION", "HTTP_UPGRADE") or name.startswith("HTTP_SEC_WEBSOCKET_"):
            if _UNPRINTABLE.search(value) or len(value) > _MAX_HEADER:
                raise BadHandshake(400, f"a header {name[5:]} that cannot be read")
            lines.append(f"{name[5:].replace('_', '-')}: {value}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
