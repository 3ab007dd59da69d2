"""One request to the doctor, and what came of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any

from .findings import HEADER
from .route import Route, TunnelRefused, Unreachable, Untrusted
from .websocket import PATIENCE

#: Bytes of an answer, also of what is compressed in it, beyond which it is none of the doctor's:
#: twice the largest that is asked for.
MAX_ANSWER = 1_000_000


class Failed(Exception):
    """A request without a whole answer of the doctor's.

    Args:
        status: of the answer, if there was one.
        foreign: what else there was.
        headers: of that.
        refused: the server's own refusal, if it is one.
        late: whether it was waited for in vain.
        away: whether there was nobody to ask.
        encoded: whether it came compressed.
    """

    def __init__(
        self,
        why: str,
        status: int | None = None,
        foreign: Mapping[str, Any] | None = None,
        *,
        headers: Message | None = None,
        refused: Mapping[str, Any] | None = None,
        late: bool = False,
        away: bool = False,
        encoded: bool = False,
    ) -> None:
        super().__init__(why)
        self.status = status
        self.foreign = foreign
        self.headers = Message() if headers is None else headers
        self.refused = refused
        self.late = late
        self.away = away
        self.encoded = encoded


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer of the doctor's.

    Args:
        facts: its first line.
        ms: from the last byte of the request to the last of the answer.
        spread: milliseconds from its body's first byte to its last.
        encoded: whether it came compressed.
    """

    facts: Mapping[str, Any]
    headers: Message
    ms: float
    spread: float
    encoded: bool = False


def exchange(
    route: Route,
    method: str,
    path: str,
    body: bytes | None,
    own: Mapping[str, str],
    patience: float,
) -> Answered:
    """One request on a connection of its own, so that nothing is repeated unasked.

    Args:
        own: the headers that it has beside the doctor's.
        patience: seconds for all of it.

    Raises:
        Failed: no whole answer of the doctor's.
    """
    try:
        connection, before, headers = route.connect(PATIENCE)
    except TunnelRefused as refused:
        raise Failed(f"status {refused.status}", refused.status) from refused
    except (Unreachable, Untrusted) as error:
        raise Failed(str(error), away=True) from error
    headers.update(own)
    headers |= {HEADER: "1", "Accept-Encoding": "gzip", "Origin": route.origin}
    headers["Content-Type"] = "text/plain;charset=UTF-8"
    try:
        with _within(connection.sock, patience):
            return _exchange(connection, method, before + path, body, headers, patience)
    except TimeoutError as error:
        raise Failed("no answer", late=True) from error
    except (OSError, http.client.HTTPException) as error:
        raise Failed("no whole answer") from error
    finally:
        connection.close()


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    body: bytes | None,
    headers: Mapping[str, str],
    patience: float,
) -> Answered:
    connection.sock.settimeout(patience)
    began = time.monotonic()
    connection.request(method, target, body, dict(headers))
    with connection.getresponse() as response:
        content = response.read(1)
        first = time.monotonic()
        content += response.read(MAX_ANSWER)
        now = time.monotonic()
        if response.length and len(content) <= MAX_ANSWER:
            # Cut, which is not said of what is read up to a bound; and nobody else's for that.
            raise http.client.IncompleteRead(content, response.length)
    encoding = response.headers.get("Content-Encoding")
    if encoding is not None:
        unpacker = zlib.decompressobj(47)
        with contextlib.suppress(zlib.error):
            content = unpacker.decompress(content, MAX_ANSWER)
        if not unpacker.eof:
            raise Failed("an answer in an unknown encoding", response.status)
    try:
        facts = json.loads(content.partition(b"\n")[0])
        ours = isinstance(facts, dict) and content.endswith(b".")
    except (ValueError, RecursionError):
        ours = False
    if not ours:
        kind = response.headers.get_content_type()
        foreign = {"status": response.status, "type": kind}
        why = f"status {response.status}"
        raise Failed(why, response.status, foreign, headers=response.headers)
    encoded = encoding is not None
    # Also refused is what was begun with status 200: an answer in pieces.
    if response.status != 200 or "error" in facts:
        refused = {"status": response.status, "error": str(facts.get("error", ""))}
        raise Failed(f"status {response.status}", response.status, refused=refused, encoded=encoded)
    ms, spread = (now - began) * 1000, (now - first) * 1000
    return Answered(facts, response.headers, ms, spread, encoded)


@contextlib.contextmanager
def _within(sock: socket.socket, seconds: float) -> Iterator[None]:
    """Give a request its time: all of it, for what comes piece by piece may never end.

    Raises:
        TimeoutError: it was over.
    """
    over = threading.Event()

    def end() -> None:
        over.set()
        with contextlib.suppress(OSError):
            # Not as TLS does it, which would take away what the reader is at.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (Failed, OSError, http.client.HTTPException):
        if not over.is_set():
            raise
    finally:
        timer.cancel()
    if over.is_set():
        raise TimeoutError
