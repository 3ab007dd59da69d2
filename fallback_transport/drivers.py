"""What drives a `WebSocketConnection`: blocking calls, or callbacks on eventlet's hub."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from .protocol.codes import CloseCode
from .runtime import MAX_QUEUED, TURN, Deadlines, Runtime, Stream
from .websocket import READ_BYTES, WebSocketConnection

#: Seconds for which a new WebSocket may be silent before its hello.
HELLO_WAIT = 10.0
#: Seconds for the closing handshake, and for the last bytes to a slow reader.
CLOSE_WAIT = 5.0


class BlockingDriver:
    """Drives a connection with blocking reads, and a writer beside them.

    What goes at once is written by whoever flushes, at the end of a turn; the writer has what
    would block, and the farewell.

    Args:
        sock: the accepted socket, blocking (or green) and without time-out.
        runtime: the async mode.
    """

    def __init__(self, sock: socket.socket, runtime: Runtime) -> None:
        self._sock = sock
        self._runtime = runtime
        #: Tells the writer that there may be something for it.
        self._wake = runtime.event()
        #: Tells the reader that what there was to say was taken, so that it need not wait.
        self._flushed = runtime.event()
        self._reader_over = runtime.event()
        self._writer_over = runtime.event()
        self._connection: WebSocketConnection | None = None
        self._send = runtime.sender(sock)
        self._lock = runtime.lock()
        self._dirty = False
        #: Whether only the writer may write: it has, or will have, what did not go at once.
        self._blocked = False
        self._rest = b""
        #: What is written with what others write in this turn.
        self._queued = b""
        #: Whether the stream ends behind that.
        self._ending = False

    def wake(self) -> None:
        """There may be something to write."""
        if not self._dirty:
            self._dirty = True
            self._runtime.at_end_of_turn(self.flush)

    def flush(self) -> None:
        """Write what goes at once, and leave the rest to the writer."""
        self._dirty = False
        connection = self._connection
        with self._lock:
            if connection is None or self._blocked:
                # The writer looks again before it waits.
                return
            while not self._blocked:
                chunks = connection.data_to_send()
                # Also where there was nothing to write: the reader may have counted pings whose
                # pongs were gone already, and wait.
                self._flushed.set()
                if not chunks:
                    break
                self._write_soon(b"".join(chunks), ending=b"" in chunks)
                if connection.emptied:
                    break
        if self._blocked or connection.finished:
            self._wake.set()

    def _write_soon(self, data: bytes, *, ending: bool) -> None:
        """With what others write in this turn, but for what is large or the end of the stream."""
        if self._queued:
            data, self._queued = self._queued + data, b""
        elif not ending and len(data) <= MAX_QUEUED:
            self._queued = data
            self._runtime.at_writes(self._write_queued)
            return
        self._write_now(data, ending=ending)

    def _write_queued(self) -> None:
        with self._lock:
            data, self._queued = self._queued, b""
            if data:
                self._write_now(data, ending=False)
        if self._blocked:
            self._wake.set()

    def _write_now(self, data: bytes, *, ending: bool) -> None:
        """As far as it goes; the rest is the writer's."""
        try:
            sent = self._send(data) if data else 0
        except OSError:
            # The writer sees it, too.
            sent = 0
        if ending or sent < len(data):
            self._blocked, self._rest, self._ending = True, data[sent:], ending

    def closing(self) -> None:
        """This side begins to close; a peer that does not read must not hold it up."""
        self._runtime.submit(self._end_late)

    def run(self, connection: WebSocketConnection) -> None:
        """Serve the connection; returns when it is over."""
        self._connection = connection
        self._runtime.spawn(self._run_writer, connection)
        try:
            data = b"-"
            busy = 0.0
            while data:
                try:
                    data = self._sock.recv(READ_BYTES)
                except (OSError, ValueError):
                    # The latter is gevent's, of a socket that encrypts and was shut meanwhile.
                    data = b""
                began = self._runtime.now()
                connection.receive(data)
                busy += self._runtime.now() - began
                if busy > TURN:
                    # Where there is always something to read, reading never waits.
                    busy = 0.0
                    self._runtime.give_way()
                self._keep_pace(connection)
        finally:
            connection.closed()
            self._reader_over.set()
            self._wake.set()
            self._writer_over.wait(CLOSE_WAIT)
            _shut(self._sock)

    def _keep_pace(self, connection: WebSocketConnection) -> None:
        """Read no more while the peer causes answers faster than it takes them."""
        while connection.behind and not self._writer_over.is_set():
            self._flushed.clear()
            if connection.behind and not self._writer_over.is_set():
                self._flushed.wait()

    def _end_late(self) -> None:
        """End the stream of a peer that has not let the writer finish in time."""
        if not self._writer_over.wait(CLOSE_WAIT):
            _shut(self._sock)

    def _run_writer(self, connection: WebSocketConnection) -> None:
        """In a task: write what did not go at once, see that the hello comes, and say goodbye."""
        deadline = self._runtime.now() + HELLO_WAIT
        try:
            while not self._reader_over.is_set():
                self._wake.clear()
                self._write_waiting(connection)
                if connection.finished:
                    self._part(connection)
                    return
                if connection.greeted:
                    self._wake.wait()
                    continue
                told = self._wake.wait(max(0.0, deadline - self._runtime.now()))
                if not told and not connection.greeted:
                    connection.drop(CloseCode.INACTIVE, "no hello")
        except OSError:
            # The reader sees the same end of the stream, and tells the session.
            pass
        finally:
            with self._lock:
                self._blocked = True
            self._writer_over.set()
            self._flushed.set()
            _shut(self._sock)

    def _part(self, connection: WebSocketConnection) -> None:
        """End the stream once the peer has answered the close, which it waits for in turn."""
        if connection.in_vain:
            # At once: until the stream ends, a browser waits for as much as 2 s with its `onclose`.
            return
        until = self._runtime.now() + CLOSE_WAIT
        while not self._reader_over.is_set() and self._runtime.now() < until:
            self._wake.wait(until - self._runtime.now())
            self._wake.clear()
            self._write_waiting(connection)

    def _write_waiting(self, connection: WebSocketConnection) -> None:
        """Write all there is, and wait for the peer to take it; nobody else writes meanwhile."""
        with self._lock:
            self._blocked = True
            # Where something is queued, nothing was blocked before it.
            data, ending = self._rest or self._queued, self._ending
            self._rest, self._queued, self._ending = b"", b"", False
        while True:
            if data:
                self._sock.sendall(data)
            if ending:
                self._sock.shutdown(socket.SHUT_WR)
            with self._lock:
                chunks = connection.data_to_send()
                self._flushed.set()
                if not chunks:
                    self._blocked = False
                    return
            data, ending = b"".join(chunks), b"" in chunks


class CallbackDriver:
    """Drives a connection by callbacks: nothing of it waits, and it costs no task.

    Args:
        stream: the accepted connection.
        runtime: eventlet's.
        ungreeted: those whose hello has not come, until it is late.
        gone: told once it is over; whoever is told sooner may replace it.
    """

    __slots__ = (
        "_dirty",
        "_grace",
        "_greeting",
        "_over",
        "_runtime",
        "_stream",
        "_ungreeted",
        "connection",
        "gone",
    )

    connection: WebSocketConnection

    def __init__(
        self,
        stream: Stream,
        runtime: Runtime,
        ungreeted: Deadlines[CallbackDriver],
        gone: Callable[[], None],
    ) -> None:
        self._stream = stream
        self._runtime = runtime
        self._ungreeted = ungreeted
        self.gone = gone
        self._dirty = False
        self._over = False
        self._greeting = True
        self._grace: Any = None
        stream.received = self._received
        stream.drained = self.flush

    def start(self, request: bytes) -> None:
        """Begin with the handshake's request; the hello has its time from now on."""
        self._ungreeted.start(self)
        self.connection.receive(request)

    def impatient(self) -> None:
        """The hello has not come in its time."""
        self._greeting = False
        if not self.connection.greeted:
            self.connection.drop(CloseCode.INACTIVE, "no hello")

    def wake(self) -> None:
        """There may be something to write."""
        if not self._dirty:
            self._dirty = True
            self._runtime.at_end_of_turn(self.flush)

    def closing(self) -> None:
        """This side begins to close; a peer that does not answer, or read, is not waited for."""
        self._greeted()
        if self._grace is None and not self._over:
            self._grace = self._runtime.hub.call_later(CLOSE_WAIT, self._stream.close)

    def flush(self) -> None:
        """Write what there is, as far as it goes."""
        self._dirty = False
        stream, connection = self._stream, self.connection
        if stream.closed:
            self._closed()
            return
        while not stream.rest:
            chunks = connection.data_to_send()
            if not chunks:
                break
            stream.queue(chunks[0] if len(chunks) == 1 else b"".join(chunks))
            if connection.emptied:
                break
            if chunks[-1] == b"":
                stream.send_end()
        # Nobody ends who has just said all there is: that spares a look at the framing's state.
        if not connection.emptied and connection.finished and not stream.rest:
            self._part()
        elif not connection.behind:
            stream.resume()

    def _received(self, data: bytes) -> None:
        connection = self.connection
        connection.receive(data)
        if not data:
            # What is left to say is said, as far as it goes.
            self.flush()
            self._stream.close()
        elif connection.behind:
            self._stream.pause()
        elif self._greeting and connection.greeted:
            self._greeted()

    def _greeted(self) -> None:
        if self._greeting:
            self._greeting = False
            self._ungreeted.stop(self)

    def _part(self) -> None:
        """The last was said: the peer, that answers it, ends the stream, or is not waited for."""
        if self.connection.in_vain:
            self._stream.close()
        elif self._grace is None:
            self._grace = self._runtime.hub.call_later(CLOSE_WAIT, self._stream.close)

    def _closed(self) -> None:
        if self._over:
            return
        self._over = True
        self._greeted()
        if self._grace is not None:
            self._grace.cancel()
        self.connection.closed()
        self.gone()


def _shut(sock: socket.socket) -> None:
    # An error means that it is closed already.
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
