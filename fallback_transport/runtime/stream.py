"""An accepted connection that is read by callbacks and written to at once."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any, Final

from .hub import Hub

logger = logging.getLogger("fallback_transport.runtime")

#: How much is read at once. Little, because a hub serves nobody else while it is taken apart.
READ_BYTES: Final = 16_384
#: The same, of what is only kept for now.
READ_AHEAD: Final = 65_536
#: How much may wait for the end of the turn.
MAX_QUEUED: Final = 16_384


class Stream:
    """An accepted connection. Nothing of it waits.

    Args:
        hub: where it is watched.
        sock: the accepted socket, not blocking, and not one of eventlet's.
        address: the peer's, as `accept` gave it.
        wsgi: takes the stream, its socket, and what was read of its next request.
        gone: told once it is closed.
    """

    __slots__ = (
        "_ending",
        "_gone",
        "_hub",
        "_names",
        "_queued",
        "_read_watch",
        "_sock",
        "_write_watch",
        "_wsgi",
        "address",
        "closed",
        "drained",
        "received",
        "rest",
    )

    def __init__(
        self,
        hub: Hub,
        sock: Any,
        address: Any,
        wsgi: Callable[[Stream, Any, bytes], None],
        gone: Callable[[Stream], None],
    ) -> None:
        self.address = address
        #: Called with what has come, and with nothing once when the peer has ended.
        self.received: Callable[[bytes], None] = _ignore
        #: Called when what would not go at once has gone, and when the stream is closed.
        self.drained: Callable[[], None] = _nothing
        #: Whether it is over here: closed, or handed over.
        self.closed = False
        self._hub = hub
        self._sock = sock
        self._wsgi = wsgi
        self._gone = gone
        self._names: tuple[str, str] | None = None
        self._read_watch: Any = None
        self._write_watch: Any = None
        #: What waits for the peer to read.
        self.rest: memoryview | bytes = b""
        self._queued = b""
        self._ending = False

    @property
    def own_address(self) -> tuple[str, str]:
        """Our host and port, as texts."""
        if self._names is None:
            try:
                name = self._sock.getsockname()
            except OSError:
                return "", ""
            self._names = str(name[0]), str(name[1])
        return self._names

    def resume(self) -> None:
        """Go on reading, if anybody does."""
        if self._read_watch is None and not self.closed and self.received is not _ignore:
            self._read_watch = self._hub.watch_readable(self._sock.fileno(), self._readable)

    def pause(self) -> None:
        """Read nothing until `resume`."""
        if self._read_watch is not None:
            self._hub.unwatch(self._read_watch)
            self._read_watch = None

    def read(self, most: int) -> bytes:
        """What has come and was not given to anybody yet, if it is wanted at once: `most` bytes.

        Nothing may also mean an end, which `received` is told of.
        """
        try:
            data: bytes = self._sock.recv(min(most, READ_AHEAD))
        except OSError:
            return b""
        return data

    def feed(self, data: bytes) -> None:
        """Give `data` to whoever reads; a defect there ends this stream, and no other."""
        try:
            self.received(data)
        except Exception:
            logger.exception("a connection failed")
            self.close()

    def queue(self, data: bytes) -> None:
        """Write with what others write in this turn.

        A peer on this machine that sleeps is woken by each write that comes alone, at several
        times the cost of one that comes while it is awake.
        """
        if self._queued or self.rest or len(data) > MAX_QUEUED:
            self.send(data)
        elif data:
            self._queued = data
            self._hub.at_writes(self._write)

    def send(self, data: bytes) -> None:
        """Write now what goes, and the rest when it can."""
        if self._queued:
            data, self._queued = b"".join((self._queued, data)), b""
        if self.closed or not data:
            return
        if self.rest:
            self.rest = b"".join((self.rest, data))
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The reader sees the same end of the stream.
            return
        if sent < len(data):
            self.rest = memoryview(data)[sent:]
            self._write_watch = self._hub.watch_writable(self._sock.fileno(), self._writable)

    def _write(self) -> None:
        data, self._queued = self._queued, b""
        if data:
            self.send(data)

    def send_end(self) -> None:
        """Nothing more will be written, which the peer is to see behind all that was."""
        self._write()
        self._ending = True
        if not self.rest:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End it now, whatever is still to be written."""
        if self.closed:
            return
        self._write()
        self._leave()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self._gone(self)
        drained = self.drained
        self.received, self.drained = _ignore, _nothing
        drained()

    def hand_over(self, head: bytes) -> None:
        """Let `eventlet.wsgi` serve the next request, of which `head` was read already.

        What is still to be written goes before it.
        """
        if self.closed:
            return
        self._write()
        if self.rest:
            self.pause()
            self.received, self.drained = _ignore, lambda: self.hand_over(head)
            return
        self._leave()
        self.received, self.drained = _ignore, _nothing
        self._wsgi(self, self._sock, head)

    def _leave(self) -> None:
        self.closed = True
        self.pause()
        if self._write_watch is not None:
            self._hub.unwatch(self._write_watch)
            self._write_watch = None
        self.rest = b""

    def _readable(self, _: int) -> None:
        if self._read_watch is None:
            # What the hub saw of this descriptor before it was paused or closed in this turn.
            return
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            # It was reset: there is nobody to tell what is still to be said.
            self.feed(b"")
            self.close()
            return
        if not data:
            self.pause()
        self.feed(data)

    def _writable(self, _: int) -> None:
        if self._write_watch is None:
            return
        try:
            sent = self._sock.send(self.rest)
        except BlockingIOError:
            return
        except OSError:
            sent = len(self.rest)
        self.rest = memoryview(self.rest)[sent:]
        if self.rest:
            return
        self.rest = b""
        self._hub.unwatch(self._write_watch)
        self._write_watch = None
        if self._ending:
            self.send_end()
        try:
            self.drained()
        except Exception:
            logger.exception("a connection failed")
            self.close()


def _ignore(_: bytes) -> None:
    """Nobody reads."""


def _nothing() -> None:
    """Nobody waits."""
