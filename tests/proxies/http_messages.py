"""HTTP/1.1 as far as a proxy has to read it: heads, and where a body ends."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from .wire import EndedEarly, Wire

_REQUEST_LINE = re.compile(r"([A-Za-z-]+) (\S+) HTTP/1\.[01]")
_STATUS_LINE = re.compile(r"HTTP/1\.[01] (\d{3})(?: .*)?")
_UPGRADE_HEADERS = re.compile(rb"(?im)^(?:upgrade|connection|sec-websocket-[a-z-]+)[ \t]*:.*\r\n")
_LENGTH_HEADERS = re.compile(rb"(?im)^(?:content-length|transfer-encoding)[ \t]*:.*\r\n")


@dataclass(frozen=True)
class Framing:
    """Where a body ends: after ``length`` bytes, at the last chunk, or with the connection."""

    length: int = 0
    chunked: bool = False
    until_end: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is no body at all."""
        return not (self.length or self.chunked or self.until_end)


@dataclass(frozen=True)
class Head:
    """A message's first line and headers, with the bytes they came in."""

    raw: bytes
    line: str
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, raw: bytes) -> Head:
        """Split a head into its first line and its headers, names in lower case."""
        line, *rest = raw.decode("latin-1").split("\r\n")
        pairs = (text.partition(":") for text in rest if text)
        return cls(
            raw, line, tuple((name.strip().lower(), value.strip()) for name, _, value in pairs)
        )

    def header(self, name: str) -> str | None:
        """Return the first header of this (lower-case) name."""
        return next((value for key, value in self.headers if key == name), None)

    def tokens(self, name: str) -> set[str]:
        """Return the comma-separated tokens of a header, in lower case."""
        values = ",".join(value for key, value in self.headers if key == name)
        return {token.strip().lower() for token in values.split(",") if token.strip()}

    def framing(self) -> Framing | None:
        """Return what the headers say of the body; None: nothing."""
        if "chunked" in self.tokens("transfer-encoding"):
            return Framing(chunked=True)
        length = self.header("content-length")
        return Framing(length=int(length)) if length is not None and length.isdecimal() else None


@dataclass(frozen=True)
class Request:
    """A request's head."""

    head: Head
    method: str
    target: str
    framing: Framing

    @classmethod
    def parse(cls, raw: bytes) -> Request | None:
        """Read a head; None if it is no HTTP/1 request."""
        head = Head.parse(raw)
        match = _REQUEST_LINE.fullmatch(head.line)
        if match is None:
            return None
        return cls(head, match[1], match[2], head.framing() or Framing())

    @property
    def is_websocket(self) -> bool:
        """Whether it asks for a WebSocket."""
        return "websocket" in self.head.tokens("upgrade")

    @property
    def awaits_continue(self) -> bool:
        """Whether the client wants a 100 before it sends the body."""
        return "100-continue" in self.head.tokens("expect")

    def without_upgrade(self) -> bytes:
        """Return the head as a proxy that knows no upgrades sends it on."""
        return _UPGRADE_HEADERS.sub(b"", self.head.raw)


@dataclass(frozen=True)
class Answer:
    """An answer's head."""

    head: Head
    status: int
    framing: Framing

    @classmethod
    def parse(cls, raw: bytes, request: Request) -> Answer | None:
        """Read a head; None if it is no HTTP/1 answer."""
        head = Head.parse(raw)
        match = _STATUS_LINE.fullmatch(head.line)
        if match is None:
            return None
        status = int(match[1])
        if request.method == "HEAD" or status < 200 or status in (204, 304):
            framing = Framing()
        else:
            framing = head.framing() or Framing(until_end=True)
        return cls(head, status, framing)

    def with_length(self, length: int) -> bytes:
        """Return the head with another Content-Length, and no chunks."""
        bare = _LENGTH_HEADERS.sub(b"", self.head.raw)
        return bare[:-2] + b"Content-Length: %d\r\n\r\n" % length


async def body(wire: Wire, framing: Framing) -> AsyncIterator[bytes]:
    """Yield a body as it arrives, with the framing of its chunks.

    Raises:
        EndedEarly: the peer finished before the body was complete.
        ConnectionError: the connection was reset, or ended by the proxy.
    """
    if framing.chunked:
        size = -1
        while size:
            line = await wire.read_line()
            yield line
            size = _chunk_size(line)
            if size:
                async for piece in _exactly(wire, size + 2):
                    yield piece
        while line.strip():  # trailers, and the empty line after them
            line = await wire.read_line()
            yield line
    elif framing.until_end:
        while data := await wire.read():
            yield data
    else:
        async for piece in _exactly(wire, framing.length):
            yield piece


async def whole_body(wire: Wire, framing: Framing) -> bytes:
    """Return the complete body, with the framing of its chunks; raises what ``body`` does."""
    return b"".join([piece async for piece in body(wire, framing)])


def without_chunks(raw: bytes) -> bytes:
    """Return what a complete chunked body carries."""
    content = bytearray()
    at = 0
    while True:
        line_end = raw.index(b"\n", at) + 1
        size = _chunk_size(raw[at:line_end])
        if not size:
            return bytes(content)
        content += raw[line_end : line_end + size]
        at = line_end + size + 2


def plain_answer(
    status: int, text: str, content_type: str = "text/plain", *headers: tuple[str, str]
) -> bytes:
    """Return an answer that the proxy gives by itself; the connection stays open."""
    content = text.encode()
    lines = [
        f"HTTP/1.1 {status} Fault",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(content)}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


def switching_protocols(request: Request) -> bytes:
    """Return the 101 that a WebSocket server would give (RFC 6455, section 4.2.2)."""
    key = request.head.header("sec-websocket-key") or ""
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
    ]
    # A browser fails a handshake that names none of the protocols it offered.
    if offered := request.head.header("sec-websocket-protocol"):
        lines.append(f"Sec-WebSocket-Protocol: {offered.split(',')[0].strip()}")
    return "\r\n".join([*lines, "", ""]).encode()


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.split(b";")[0], 16)
    except ValueError:
        raise EndedEarly("not a chunk") from None


async def _exactly(wire: Wire, length: int) -> AsyncIterator[bytes]:
    while length:
        data = await wire.read(length)
        if not data:
            raise EndedEarly
        length -= len(data)
        yield data
