"""A WSGI server's connection as files: no client holds up the others, or is kept for nothing.

`eventlet.wsgi` and gevent's pywsgi read what a client sends for as long as it sends it, give way
only where there is nothing to read, and wait there for as long as it takes; so do Werkzeug's
threads.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from .headers import MAX_LINE

#: Seconds for which a client may neither send nor take anything, while that is waited for. nginx
#: waits as long for its clients (keepalive_timeout), and gives up its own idle connections to a
#: server before that, after 60 s, as balancers do: what they still use is not closed under them.
CLIENT_WAIT = 75.0


class Wire(io.RawIOBase):
    """A socket without time-out as a file, of which something was read already.

    Only here the socket has a time-out: whoever takes it, for a WebSocket, has none.

    Args:
        sock: the socket.
        share: gives way to the others, if it is time to.
        head: what was read.
    """

    # One for each connection, also for those that are idle.
    __slots__ = ("_lost", "_share", "_sock", "dry", "head")

    def __init__(
        self, sock: Any, share: Callable[[], None] | None = None, head: bytes = b""
    ) -> None:
        #: By this name the socket is known below a reader, as that of `socket.SocketIO`.
        self._sock = sock
        self._share = share
        #: What nobody has taken of it.
        self.head = memoryview(head)
        #: Whether nothing more is to be read from the socket.
        self.dry = False
        #: Whether the peer was waited for in vain: it has ended, then, and takes nothing more.
        self._lost = False

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.head:
            size = min(len(buffer), len(self.head))
            buffer[:size] = self.head[:size]
            self.head = self.head[size:]
            return size
        if self.dry:
            return None
        if self._lost:
            return 0
        if self._share is not None:
            # Of a socket that always has data, to read is not to wait.
            self._share()
        count: int = self._wait(self._sock.recv_into, buffer)
        return count

    def write(self, data: Any) -> int:
        if not self._lost:
            self._wait(self._sock.sendall, data)
        return len(data)

    def _wait(self, call: Callable[[Any], Any], data: Any) -> Any:
        self._sock.settimeout(CLIENT_WAIT)
        try:
            return call(data)
        except TimeoutError:
            self._lost = True
            raise
        finally:
            self._sock.settimeout(None)


class Reader(io.BufferedReader):
    """What a server reads requests from.

    Args:
        sock, share, head: see `Wire`.
    """

    def __init__(
        self, sock: Any, share: Callable[[], None] | None = None, head: bytes = b""
    ) -> None:
        super().__init__(Wire(sock, share, head))

    def readline(self, size: int | None = -1) -> bytes:
        """A line; whoever sets it no bound, as `eventlet.wsgi` for those of chunks, has ours.

        Raises:
            ConnectionError: it is longer than that.
        """
        if size is not None and size >= 0:
            return super().readline(size)
        line = super().readline(MAX_LINE + 1)
        if len(line) > MAX_LINE:
            raise ConnectionAbortedError("a line without an end")
        return line

    def rest(self) -> bytes:
        """What was read from the socket and nobody has taken."""
        wire = self.raw
        assert isinstance(wire, Wire), "made above"
        wire.dry = True
        return self.peek(1) + bytes(wire.head)
