"""One TCP connection, with what asyncio's streams do not tell or cannot do.

A stream reader hides whether the peer sent FIN or RST until somebody reads; a
proxy has to pass on the one it got. And latency must delay each byte by the
same time, in order, without lowering the throughput: a line of due times, not
a sleep between reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
from collections import deque
from collections.abc import Callable

#: A head that is longer is not HTTP as the proxy understands it.
HEAD_LIMIT = 64 * 1024

# Unread bytes, above which the peer is made to wait.
_UNREAD_LIMIT = 256 * 1024
# What a delay line may hold: 160 MB a second at a tenth of a second.
_DELAYED_LIMIT = 16 * 1024 * 1024
# How long a connection that we ended in order may wait for the peer to end it.
_LINGER = 2.0


class End(enum.Enum):
    """How a direction of a connection ended."""

    FIN = "fin"
    RST = "rst"


class EndedEarly(EOFError):
    """The peer finished sending in the middle of a message."""


class _DelayLine:
    """Delivers what is pushed, in order, each item the same time later."""

    def __init__(
        self, deliver: Callable[[bytes | End], None], latency: Callable[[], float], opens_at: float
    ) -> None:
        self.size = 0
        self._deliver = deliver
        self._latency = latency
        self._opens_at = opens_at
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[float, bytes | End]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def push(self, item: bytes | End) -> None:
        latency = self._latency()
        if latency <= 0 and not self._queue:
            self._deliver(item)
            return
        due = max(self._loop.time(), self._opens_at) + latency
        self._queue.append((due, item))
        self.size += len(item) if isinstance(item, bytes) else 0
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._release)

    def clear(self) -> None:
        self._queue.clear()
        self.size = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _release(self) -> None:
        self._timer = None
        now = self._loop.time()
        # Only the first may go: where the latency was lowered meanwhile, the
        # bytes behind it are due already, and must not overtake.
        while self._queue and self._queue[0][0] <= now:
            _, item = self._queue.popleft()
            self.size -= len(item) if isinstance(item, bytes) else 0
            self._deliver(item)
        if self._queue and self._timer is None:
            self._timer = self._loop.call_at(self._queue[0][0], self._release)


class Wire(asyncio.Protocol):
    """One TCP connection. At most one task reads it at a time.

    Args:
        latency: asked for every chunk; seconds, each way.
        on_lost: called once, when the socket is closed.
    """

    def __init__(
        self,
        latency: Callable[[], float] = lambda: 0.0,
        on_lost: Callable[[Wire], None] = lambda wire: None,
    ) -> None:
        #: Bytes so far, as the peer sent and was sent them.
        self.received = 0
        self.sent = 0
        #: How the peer ended its direction; None while it has not.
        self.ended: End | None = None
        #: Called when ``ended`` is set.
        self.when_ended: Callable[[End], None] | None = None
        self._latency = latency
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = asyncio.Event()
        self._made = False
        self._closing = False
        self._lost = False
        self._finished = False
        self._fin_sent = False
        self._peer_finished = False
        self._paused = False
        self._stopped = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start, with the connect's own round trip if there is latency."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._made = True
        self._loop = asyncio.get_running_loop()
        opens_at = self._loop.time() + 2 * self._latency()
        self._inbound = _DelayLine(self._arrive, self._latency, opens_at)
        self._outbound = _DelayLine(self._depart, self._latency, opens_at=0.0)

    def data_received(self, data: bytes) -> None:
        """Take what the peer sent."""
        self.received += len(data)
        if not self._closing:
            self._inbound.push(data)
            self._regulate()

    def eof_received(self) -> bool:
        """Note that the peer has finished sending; we may still send."""
        self._peer_finished = True
        if self._closing:
            return False
        self._inbound.push(End.FIN)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits; a reset reaches the reader as any byte does: in its turn."""
        self._lost = True
        self._gone.set()
        self._outbound.clear()
        if exc is not None and not self._closing:
            self._writable.set()
            self._inbound.push(End.RST)
        else:
            self._end_here()
        self._on_lost(self)

    def pause_writing(self) -> None:
        """Note that the peer reads too slowly."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let the writer go on."""
        self._writable.set()

    # Reading.

    @property
    def usable(self) -> bool:
        """Whether neither side has ended anything."""
        return self.ended is None and not (self._closing or self._lost or self._finished)

    @property
    def made(self) -> bool:
        """Whether there is a socket yet, as a moment after it was accepted."""
        return self._made

    @property
    def lost(self) -> bool:
        """Whether the socket is closed."""
        return self._lost

    @property
    def ended_here(self) -> bool:
        """Whether the proxy itself has ended the connection."""
        return self._closing

    @property
    def unread(self) -> int:
        """The number of bytes that have arrived and were not read."""
        return len(self._buffer)

    async def read(self, limit: int = _UNREAD_LIMIT) -> bytes:
        """Return what has arrived, at least a byte; nothing when the peer has finished.

        Raises:
            ConnectionError: a reset, or the proxy itself ended the connection.
        """
        while not self._buffer:
            if self.ended is End.FIN and not self._closing:
                return b""
            await self._more()
        return self._take(min(limit, len(self._buffer)))

    async def read_head(self) -> bytes | None:
        """Return the bytes up to the first empty line.

        None, and nothing is taken, if the peer finished before that or sent
        more than a head may hold.
        """
        searched = 0
        while True:
            at = self._buffer.find(b"\r\n\r\n", max(0, searched - 3))
            if at >= 0:
                return self._take(at + 4)
            searched = len(self._buffer)
            if searched > HEAD_LIMIT or (self.ended is End.FIN and not self._closing):
                return None
            await self._more()

    async def read_line(self) -> bytes:
        """Return the bytes up to and with the first line feed."""
        while (at := self._buffer.find(b"\n")) < 0:
            if self.ended is End.FIN or len(self._buffer) > HEAD_LIMIT:
                raise EndedEarly
            await self._more()
        return self._take(at + 1)

    async def wait_until_gone(self) -> None:
        """Throw away whatever comes, until the connection has ended in whatever way."""
        with contextlib.suppress(ConnectionError):
            while await self.read():
                pass

    async def until_lost(self) -> None:
        """Wait until the socket is closed."""
        await self._gone.wait()

    def stop_reading(self) -> None:
        """Leave what the peer sends in the kernel, for ever."""
        self._stopped = self._paused = True
        self._transport.pause_reading()

    async def _more(self) -> None:
        if self._closing:
            raise ConnectionAbortedError("ended by the proxy")
        if self.ended is End.RST:
            raise ConnectionResetError("reset by the peer")
        self._news.clear()
        await self._news.wait()

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        if self._paused:
            self._regulate()
        return data

    def _arrive(self, item: bytes | End) -> None:
        if self._closing:
            return
        if isinstance(item, bytes):
            self._buffer += item
        else:
            self.ended = item
        self._news.set()
        if self._paused:
            self._regulate()
        if isinstance(item, End) and self.when_ended is not None:
            self.when_ended(item)

    def _regulate(self) -> None:
        if self._stopped:
            return
        full = len(self._buffer) > _UNREAD_LIMIT or self._inbound.size > _DELAYED_LIMIT
        if full is not self._paused and not self._lost:
            self._paused = full
            if full:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # Writing.

    def write(self, data: bytes) -> None:
        """Send; what follows an end is dropped, as the network would."""
        if data and not self._closing and not self._finished:
            self._outbound.push(data)

    async def drain(self) -> None:
        """Wait until more may be written.

        Raises:
            ConnectionError: the peer will never get it.
        """
        while True:
            if self._closing or self._lost:
                raise ConnectionResetError("the connection is gone")
            if self._outbound.size > _DELAYED_LIMIT:
                await asyncio.sleep(0.005)
            elif not self._writable.is_set():
                await self._writable.wait()
            else:
                return

    def finish(self) -> None:
        """Send FIN after what was written, and go on reading."""
        if not self._finished and not self._closing:
            self._finished = True
            self._outbound.push(End.FIN)

    # Ending. The first of these decides how; later ones change nothing.

    def end(self, how: End) -> None:
        """Close or reset, after what was written."""
        if how is End.FIN:
            self.close()
        else:
            self.reset()

    def close(self) -> None:
        """End in order: FIN after what was written, then nothing more is read."""
        if not self._closing:
            self.finish()
            self._end_here()
            if self._fin_sent:
                self._settle()

    def reset(self) -> None:
        """End by a reset, after what was written has left."""
        if not self._closing:
            self._outbound.push(End.RST)
            self._end_here()

    def abort(self) -> None:
        """End by a reset at once, and drop what is still under way."""
        self._outbound.clear()
        self._end_here()
        self._depart(End.RST)

    def _end_here(self) -> None:
        self._closing = True
        self._inbound.clear()
        self._buffer.clear()
        self._news.set()
        self._writable.set()
        if self._paused and not self._lost:
            # Somebody has to see the peer's end.
            self._paused = False
            self._transport.resume_reading()

    def _settle(self) -> None:
        """Close the socket once the peer has finished too, or has had the time for it.

        Closing it at once would make the kernel answer what is still coming
        with a reset, which can overtake the bytes just sent.
        """
        if self._lost:
            return
        if self._peer_finished:
            self._transport.close()
        else:
            self._loop.call_later(_LINGER, self._give_up)

    def _give_up(self) -> None:
        if self._transport.get_write_buffer_size():
            # A slow reader: what was written is still owed to it.
            self._loop.call_later(_LINGER, self._give_up)
        else:
            self._transport.abort()

    def _depart(self, item: bytes | End) -> None:
        if self._lost:
            return
        if isinstance(item, bytes):
            self.sent += len(item)
            self._transport.write(item)
        elif item is End.FIN:
            self._fin_sent = True
            try:
                self._transport.write_eof()
            except OSError:  # reset by the peer after it had finished, which nobody reads any more
                self._transport.abort()
            if self._closing:
                self._settle()
        else:
            peer = self._transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
