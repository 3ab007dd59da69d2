"""The heads of session requests, recognised and remembered: whose door each is for.

What is in any way unusual is none, and goes to the WSGI server and to the same gateways there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from .gateway import Gateway, Nearness
from .handshake import is_ours
from .heads import read_head
from .runtime import Stream

#: How many heads are remembered with what they mean, and how long: browsers repeat theirs to
#: the byte, but for the length. A few MB at most.
REMEMBERED: Final = 512
MAX_REMEMBERED = 2048
#: Of a body's length.
MAX_DIGITS: Final = 12

_LINE = re.compile(rb"(?:(POST)|GET) ((?:/[!-~]*)?/(?(1)poll|ws)) HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]{1,%d})\r\n" % MAX_DIGITS)


@dataclass(slots=True, eq=False)
class Head:
    """The head of a session request.

    Args:
        gateway: whose door it is for.
        place: the path that the door is in.
        below: whether that is below a mount, so that a poll's body has to show whose it is.
        environ: as WSGI has it, but for the addresses.
        origin: the request's, which is allowed; "" if it states none.
        trusted: see `plain_request`.
        readable: what lets a page of another origin read the answer.
        gzip: whether that may be compressed.
        before, behind: what stands on either side of its body's length; empty if it has none.
    """

    gateway: Gateway
    place: str
    below: bool
    environ: dict[str, Any]
    origin: str
    trusted: bool
    readable: tuple[tuple[str, str], ...]
    gzip: bool
    before: bytes = b""
    behind: bytes = b""
    #: The last that was found again, up to its body, and what was found: whoever polls asks for
    #: as much each time.
    _same: bytes = b""
    _found: tuple[int, int] = (0, 0)

    def again(self, buffer: bytes | bytearray) -> tuple[int, int] | None:
        """Where the body begins and ends, if `buffer` has this head, but for its length."""
        if self._same and buffer.startswith(self._same):
            return self._found
        if not self.before or not buffer.startswith(self.before):
            return None
        begin = len(self.before)
        end = buffer.find(b"\r", begin, begin + MAX_DIGITS + 1)
        digits = buffer[begin:end]
        if end < 0 or not digits.isdigit() or not buffer.startswith(self.behind, end):
            return None
        body, length = end + len(self.behind), int(digits)
        if length > self.gateway.registry.grant.body:
            return None
        self._same, self._found = bytes(buffer[:body]), (body, body + length)
        return self._found


class SessionHeads:
    """Finds them among the requests of a server.

    Args:
        gateways: whose doors there are, in the order in which WSGI comes to them.
        fix: does to an environ what stands in front of them there.
    """

    def __init__(
        self, gateways: Sequence[Gateway], fix: Callable[[dict[str, Any]], object] | None
    ) -> None:
        self._gateways = gateways
        self._fix = fix
        self._heads: dict[bytes, Head] = {}

    def may_be_ours(self, begin: bytes) -> bool:
        """Whether a request that begins so may be for one of the doors."""
        if b"\n" in begin:
            line = _LINE.match(begin)
            return line is not None and self._door(line[2].decode("ascii")) is not None
        # Of a door elsewhere not even the path is of interest.
        method, _, path = begin.partition(b" ")
        if not path:
            return b"POST ".startswith(begin) or b"GET ".startswith(begin)
        return method in (b"POST", b"GET") and self._leads(path)

    def _leads(self, path: bytes) -> bool:
        """Whether a path that begins so may lead to a mount."""
        for gateway in self._gateways:
            for mount in gateway.mounts:
                place = mount.rstrip("/").encode("latin-1", "replace") + b"/"
                if path.startswith(place) or place.startswith(path):
                    return True
        return False

    def _door(self, path: str) -> tuple[Gateway, str, bool] | None:
        """The gateway of the door, the path that the door is in, and whether below a mount."""
        if any(gateway.is_beside(path) for gateway in self._gateways):
            return None
        place = path.rpartition("/")[0]
        for gateway in self._gateways:
            near = gateway.nearness(place)
            if near is not Nearness.ELSEWHERE:
                return gateway, place, near is Nearness.BELOW
        return None

    def find(self, text: bytes) -> tuple[Head, int] | None:
        """A session request's head, and its body's length; None if it is not plainly one."""
        stated = _LENGTH.search(text)
        if stated is None or len(text) > MAX_REMEMBERED:
            # Also a handshake, which has a key of its own.
            head = self._read(text)
            length = 0 if head is None else int(head.environ.get("CONTENT_LENGTH", 0))
        else:
            before, behind = text[: stated.start(1)], text[stated.end(1) :]
            head, length = self._heads.get(before + behind), int(stated[1])
            if head is None:
                head = self._read(text)
                if head is None:
                    return None
                head = replace(head, before=before, behind=behind)
                if len(self._heads) >= REMEMBERED:
                    self._heads.clear()
                self._heads[before + behind] = head
        if head is None or length > head.gateway.registry.grant.body:
            return None
        return head, length

    def _read(self, text: bytes) -> Head | None:
        environ = read_head(text) if self.may_be_ours(text) else None
        if environ is None:
            return None
        door = self._door(environ["PATH_INFO"])
        if door is None:
            return None
        gateway, place, below = door
        name = environ["PATH_INFO"].rpartition("/")[2]
        asked = environ["REQUEST_METHOD"], name, "CONTENT_LENGTH" in environ
        if asked == ("GET", "ws", False):
            fits = is_ours(environ) or not below
        else:
            kept = environ.get("HTTP_CONNECTION", "keep-alive").lower() == "keep-alive"
            fits = asked == ("POST", "poll", True) and kept
        seen = self._fixed(dict(environ))
        origin = gateway.origins.of(seen, told=False) if fits else None
        if origin is None:
            return None
        return Head(
            gateway,
            place,
            below,
            environ,
            origin,
            gateway.origins.trusts(seen),
            gateway.origins.readable(seen),
            "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""),
        )

    def _fixed(self, environ: dict[str, Any]) -> dict[str, Any]:
        if self._fix is not None:
            self._fix(environ)
        return environ

    def environ(self, head: Head, stream: Stream) -> dict[str, Any]:
        """A request's environ, as the gateway would see it behind WSGI."""
        host, port = stream.own_address
        peer = stream.address
        return self._fixed(
            {
                **head.environ,
                "SERVER_NAME": host,
                "SERVER_PORT": port,
                "REMOTE_ADDR": str(peer[0]),
                "REMOTE_PORT": str(peer[1]),
            }
        )
