"""HTTP answers, and how they are given over WSGI: those of the doors, refusals, and the files."""

from __future__ import annotations

import contextlib
import logging
import random
import re
import socket
import zlib
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from .files import load
from .runtime import Runtime, UnsuitableServer, released, take_socket

logger = logging.getLogger("fallback_transport.gateway")

StartResponse = Callable[..., Any]

#: Seconds after which a client that was turned away may come again; up to twice as many, at
#: random, because those that are turned away together must not come again together.
RETRY_AFTER: Final = 5
#: Seconds for a client that is turned away to stop sending what nobody reads.
LINGER = 5.0
#: Bodies shorter than this are not compressed: the gain is under one packet.
COMPRESS_FROM = 1400
#: Bodies shorter than this are gone from our memory at once: a socket takes them without waiting.
WEIGH_FROM = 16_384

#: What every answer has that is no file.
PLAIN = (
    ("Content-Type", "text/plain; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
)

#: For a page of ours: nothing of it is inline. To old browsers 'self' is no WebSocket.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


class Answer(NamedTuple):
    """An HTTP answer.

    Args:
        status: its status.
        body: its body, in UTF-8.
        headers: what it has beside the usual ones.
        unread: the request's body was left where it is.
        weighs: called with the bytes that the answer holds while it is written, and with
            as many less than 0 once it is.
    """

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    unread: bool = False
    weighs: Callable[[int], None] | None = None


def respond(
    runtime: Runtime, answer: Answer, environ: dict[str, Any], start_response: StartResponse
) -> Iterable[bytes]:
    """What a WSGI application returns to give an answer."""
    headers, body = encoded(answer, "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""))
    status = f"{answer.status} {HTTPStatus(answer.status).phrase}"
    if answer.unread and _long_body(environ):
        with contextlib.suppress(UnsuitableServer):
            return _turn_away(runtime, status, headers, body, environ, start_response)
    start_response(status, headers)
    if answer.weighs is not None and len(body) >= WEIGH_FROM:
        return _Weighed(body, answer.weighs)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def _turn_away(
    runtime: Runtime,
    status: str,
    headers: list[tuple[str, str]],
    body: bytes,
    environ: dict[str, Any],
    start_response: StartResponse,
) -> Iterable[bytes]:
    """Answer a request without reading its body, and end its HTTP connection.

    Left to the WSGI server, it would read the body to its end first,
    however long that is, and on a hub without giving way.
    """
    sock = take_socket(runtime.mode, environ)
    lines = [f"{name}: {value}" for name, value in [*headers, ("Connection", "close")]]
    head = "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")
    until = runtime.now() + LINGER
    with contextlib.suppress(OSError):
        sock.settimeout(LINGER)
        sock.sendall(head + body)
        sock.shutdown(socket.SHUT_WR)
        # A client still sends; closed now, the connection would be reset, answer and all.
        while runtime.now() < until and sock.recv(65536):
            runtime.share(environ)
        sock.shutdown(socket.SHUT_RDWR)
    return released(environ, start_response, status)


def respond_file(
    runtime: Runtime, name: str, environ: dict[str, Any], start_response: StartResponse
) -> Iterable[bytes]:
    """The same for a file of the package; one whose version is asked for is kept for ever."""
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return respond(runtime, wrong_method(environ, "GET", "HEAD"), environ, start_response)
    file = load(name)
    etag = f'"{file.version}"'
    body = file.body
    versioned = f"v={file.version}" == environ.get("QUERY_STRING")
    headers = [
        ("ETag", etag),
        # A year, the most that RFC 9111's predecessor allowed, is what caches know as for ever.
        ("Cache-Control", "public, max-age=31536000, immutable" if versioned else "no-cache"),
        ("X-Content-Type-Options", "nosniff"),
        ("Vary", "Accept-Encoding"),
        # It is no secret; a page of another origin can check its integrity, or be an isolated one.
        ("Access-Control-Allow-Origin", "*"),
        ("Cross-Origin-Resource-Policy", "cross-origin"),
    ]
    # There may be several, and a proxy that compresses makes it a weak one.
    if etag in environ.get("HTTP_IF_NONE_MATCH", ""):
        start_response("304 Not Modified", headers)
        return []
    if "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""):
        body = file.packed
        headers.append(("Content-Encoding", "gzip"))
        # Other bytes: a strong tag would name both.
        headers[0] = ("ETag", f"W/{etag}")
    headers += [("Content-Type", file.kind), ("Content-Length", str(len(body)))]
    if file.kind.startswith("text/html"):
        headers.append(("Content-Security-Policy", _POLICY))
    start_response("200 OK", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def encoded(answer: Answer, gzip: bool) -> tuple[list[tuple[str, str]], bytes]:
    """The headers and the body of an answer, to a client that may take `gzip`."""
    body = answer.body
    headers = [*PLAIN, *answer.headers]
    if gzip and len(body) >= COMPRESS_FROM:
        # Level 1: a third of level 9's time for nearly its size, on JSON.
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        body = packer.compress(body) + packer.flush()
        headers += [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]
    headers.append(("Content-Length", str(len(body))))
    return headers, body


class _Weighed:
    """A body that counts for its session until the WSGI server has written it."""

    def __init__(self, body: bytes, weighs: Callable[[int], None]) -> None:
        self._body = [body]
        self._size = len(body)
        self._weighs = weighs
        weighs(self._size)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def __len__(self) -> int:
        return 1

    def close(self) -> None:
        """Called by the server, whatever became of it."""
        size, self._size = self._size, 0
        self._weighs(-size)


def refuse(status: int, text: str, environ: dict[str, Any], *headers: tuple[str, str]) -> Answer:
    """The answer to a request that is none of the protocol's, and its line in the log."""
    method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
    logger.warning("%.20r %.80r: %s %.120r", method, path, status, text)
    return Answer(status, text.encode() + b"\n", headers, unread=True)


def retry_after(seconds: int = RETRY_AFTER) -> tuple[tuple[str, str], ...]:
    """The header that says when a client that was turned away may come again."""
    return (("Retry-After", str(random.randint(seconds, 2 * seconds))),)


def wrong_method(environ: dict[str, Any], *allowed: str) -> Answer:
    """The answer to a request by another method than these."""
    text = f"{allowed[0]} is the only method here"
    return refuse(405, text, environ, ("Allow", ", ".join(allowed)))


def _long_body(environ: dict[str, Any]) -> bool:
    """Whether the request's body may take longer to read than is worth it."""
    length = environ.get("CONTENT_LENGTH") or "0"
    stated = "HTTP_TRANSFER_ENCODING" not in environ and re.fullmatch("[0-9]{1,5}", length)
    return not stated
