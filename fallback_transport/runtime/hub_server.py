"""An accept loop of our own in front of `eventlet.wsgi`: a connection costs no greenlet.

Whoever has a `Stream` reads by callbacks of the hub and writes straight to the
descriptor. What it does not want to serve, it hands over to `eventlet.wsgi`
with the bytes that it has read, for one request; then the connection, and what
was read beyond that request, comes back. Where nobody is in front, `eventlet.wsgi`
has each connection from its beginning to its end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from .hub import Hub
from .stream import Stream

#: How many connections are accepted before the others have their turn.
ACCEPT_BATCH = 64
#: Seconds until a server that could not accept a connection tries again. Short, because of those
#: that waited for it most have left: each of these is accepted, too, and costs a descriptor's turn.
ACCEPT_PAUSE = 0.01


class HubServer:
    """Accepts, and gives each stream to `front`; what that hands over goes to `eventlet.wsgi`.

    Args:
        app: the WSGI application.
        listener: the listening socket, not one of eventlet's.
        protocol: the class of `eventlet.wsgi.HttpProtocol` that serves what is handed over.
        hub: where all of it runs.
        front: told of each stream, to set what is `received`; None: there is nobody in front.
        trouble: told of what keeps connections from being accepted.
        pool: of the greenlets that serve what is handed over.
    """

    def __init__(
        self,
        app: Any,
        listener: Any,
        protocol: type[Any],
        hub: Hub,
        front: Callable[[Stream], None] | None,
        trouble: Callable[[OSError], None],
        pool: Any,
    ) -> None:
        from eventlet import greenio, wsgi

        self._hub = hub
        self._listener = listener
        self._front = front
        self._trouble = trouble
        self._pool = pool
        self._green = greenio.GreenSocket
        self._streams: set[Stream] = set()
        # One of each, not one for each connection.
        self._wsgi, self._gone = self._hand_over, self._closed
        self._server = wsgi.Server(
            listener,
            listener.getsockname(),
            app,
            protocol=_handing_back(protocol) if front is not None else protocol,
            log_output=False,
            debug=False,
        )
        self._watch: Any = None
        #: What tries again to accept, after it could not.
        self._retry: Any = None
        listener.setblocking(False)

    def start(self) -> None:
        """Accept from now on."""
        self._watch = self._hub.watch_readable(self._listener.fileno(), self._accept)

    def stop(self) -> None:
        """Accept no more, and end what is there; what is being served over WSGI has its time."""
        self._pause()
        self._listener.close()
        for stream in list(self._streams):
            stream.close()
        self._pool.waitall()

    def _accept(self, _: int) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError as error:
                self._trouble(error)
                self._pause()
                self._retry = self._hub.call_later(ACCEPT_PAUSE, self._accept_again)
                return
            sock.setblocking(False)
            self._hub.opened(sock.fileno())
            self._open(sock, address, b"")

    def _pause(self) -> None:
        if self._watch is not None:
            self._hub.unwatch(self._watch)
            self._watch = None

    def _accept_again(self) -> None:
        self._retry = None
        if self._listener.fileno() >= 0:
            self.start()

    def _closed(self, stream: Stream) -> None:
        self._streams.discard(stream)
        if self._retry is not None:
            # Perhaps for want of the descriptor that is free now.
            self._retry.cancel()
            self._accept_again()

    def _open(self, sock: Any, address: Any, read: bytes) -> None:
        if self._front is None:
            self._pool.spawn(self._serve, sock, address, read)
            return
        stream = Stream(self._hub, sock, address, self._wsgi, self._gone)
        self._streams.add(stream)
        self._front(stream)
        stream.resume()
        if read:
            stream.feed(read)

    def _hand_over(self, stream: Stream, sock: Any, head: bytes) -> None:
        self._streams.discard(stream)
        self._pool.spawn(self._serve, sock, stream.address, head)

    def _serve(self, sock: Any, address: Any, head: bytes) -> None:
        """In a greenlet: by `eventlet.wsgi`, until the connection ends or is handed back."""
        green = self._green(sock)
        # What it calls a connection: address, socket, state; the rest is for `_handing_back`.
        connection = [address, green, "request", head]
        self._server.process_request(connection)
        if len(connection) == 4:
            return
        # Or it would be closed with the last reference to its green half.
        green.close = _not_now
        if self._listener.fileno() < 0:
            sock.close()
            return
        rest = connection[4]
        self._hub.at_end_of_turn(lambda: self._open(sock, address, rest))


def _handing_back(protocol: type[Any]) -> type[Any]:
    class Protocol(protocol):  # type: ignore[misc]
        """Serves one request of a connection, and gives it back if it goes on."""

        def setup(self) -> None:
            self.head = self.conn_state[3]
            super().setup()
            self._kept = False

        def handle(self) -> None:
            self.close_connection = True
            with contextlib.suppress(ConnectionError):
                self.handle_one_request()
                if not self.close_connection:
                    self.wfile.flush()
                    self._kept = True

        def finish(self) -> None:
            if not self._kept:
                super().finish()
                return
            self.conn_state.append(self.rfile.rest())
            # See the handler's own `finish`.
            self.environ = None

    return Protocol


def _not_now() -> None:
    """The socket goes on without its green half."""
