"""The server of each async mode: strict about a request's head, and hard to stop by accident."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterable
from http.client import HTTPException
from typing import Any

from .headers import read_headers
from .hub import Hub
from .hub_server import ACCEPT_PAUSE, HubServer
from .stream import Stream
from .strictness import BENT, is_bent, log_refused, misfit, parse_strictly
from .wire import Reader, Wire

logger = logging.getLogger("fallback_transport.runtime")

WSGIApplication = Callable[[dict[str, Any], Any], Iterable[bytes]]
#: Told of each connection that is accepted, where the hub's binding serves.
Front = Callable[[Stream], None]
#: Told how to end the serving, from within the async mode.
Stoppable = Callable[[Callable[[], None]], None]

#: A burst of reconnecting clients must find room to wait; the kernel caps it (somaxconn).
BACKLOG = 1024
#: Seconds between two lines in the log about that.
ACCEPT_QUIET = 10.0
#: What is raised where a client has gone, or does not read.
_AWAY = (ConnectionError, TimeoutError)
#: Seconds for the last bytes on every connection, before a server that was drained ends.
FAREWELL = 0.25
#: Seconds that a client may pause amid what nobody wants of its request (as long as nginx's
#: `lingering_timeout`), and how much of that is read at once.
REST_PAUSE = 5.0
REST_BYTES = 65_536
#: See `keep_heap`. A message of 1 MB takes 3 MB: its parts, the whole, and what is read of it.
HEAP_BLOCK = 4_000_000


def keep_heap() -> None:
    """Let glibc keep what is free at the end of its heap, up to 8 MB, for what comes next.

    It gives back what exceeds twice the largest block that it was ever given back, and 128 kB until
    then (mallopt(3), M_TRIM_THRESHOLD): all that a large message took, for each of them, and to
    take it again costs as much as all else that is done for it. An environment that sets its
    thresholds has its way, and other C libraries have theirs.
    """
    # Not touched, and so never there.
    bytes(HEAP_BLOCK)


def _listening(host: str, port: int, sockets: Any = socket) -> socket.socket:
    """A socket of the module `sockets`; on "::" it has IPv4, too, where the system has it so."""
    name, _, zone = host.partition("%")
    address: Any = name, port
    if zone:
        # Of "fe80::1%eth0" it would be left out.
        address = name, port, 0, int(zone) if zone.isdigit() else socket.if_nametoindex(zone)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    made: socket.socket = sockets.create_server(
        address, family=family, backlog=BACKLOG, dualstack_ipv6=both
    )
    # Inherited by the accepted sockets; without it a small answer can wait 40 ms for an ack.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # And without that, what waits for a peer whose machine is gone waits for ever.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return made


def serve_eventlet(
    app: WSGIApplication,
    host: str,
    port: int,
    stoppable: Stoppable,
    share: Callable[[], None],
    hub: Hub,
    front: Front | None,
) -> None:
    """Serve by `eventlet.wsgi`, on `hub`, behind `front` where there is one.

    While a request is read, `share` gives way to the others now and then.
    """
    import eventlet
    import eventlet.hubs
    import eventlet.wsgi

    class Failures(eventlet.wsgi.LoggerNull):  # type: ignore[misc]
        """What `eventlet.wsgi` has to say, of which only one thing is of interest."""

        def info(self, msg: str, *args: Any, **kwargs: Any) -> None:
            # It answers with 500, or cuts the answer short, and nobody else says why.
            error = sys.exc_info()[1]
            # An `eventlet.Timeout` is no `Exception`; what ends the server is no failure.
            if error is not None and not isinstance(error, (*_AWAY, KeyboardInterrupt, SystemExit)):
                logger.error("a request failed", exc_info=True)

    failures = Failures()

    class Handler(eventlet.wsgi.HttpProtocol):  # type: ignore[misc]
        """Strict about a request's head; what is wrong with it is one line in the log."""

        #: What was read of the connection before.
        head = b""
        environ: Any = None

        def setup(self) -> None:
            self.server.log = failures
            self.connection = self.request
            self.rfile = Reader(self.request, share, self.head)
            self.wfile = io.BufferedWriter(Wire(self.request), self.wbufsize)

        def parse_request(self) -> bool:
            try:
                return parse_strictly(self, super().parse_request)
            except (eventlet.wsgi.HeaderLineTooLong, eventlet.wsgi.HeadersTooLarge) as error:
                log_refused(self, type(error).__name__)
                raise

        def handle_one_response(self) -> None:
            chunked = "Transfer-Encoding" in self.headers
            if chunked:
                # Where such a body ends, eventlet is told by more than other servers are: nothing
                # that comes behind it is to be taken for a request.
                self.close_connection = True
            body = self.environ["eventlet.input"]
            super().handle_one_response()
            # Who waits to be told to go on, and was not, sends none.
            chunked = chunked and not body.should_send_hundred_continue
            if chunked and not eventlet.wsgi.WSGI_LOCAL.already_handled:
                # As it would have done: who still sends would see a reset, and not the answer.
                with contextlib.suppress(OSError, eventlet.wsgi.ChunkReadError):
                    body.discard()

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle()

        def finish(self) -> None:
            try:
                super().finish()
            finally:
                # It has a function that has this handler: a circle, which with the
                # connection's buffers would wait for the garbage collector.
                self.environ = None

        def log_error(self, format: str, *args: Any) -> None:
            log_refused(self, (format, *args)[-1])

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    class Pool(eventlet.GreenPool):  # type: ignore[misc]
        """Does not wait for connections that do not end, once the server is stopped."""

        stopped = False

        def waitall(self) -> None:
            with eventlet.Timeout(FAREWELL if self.stopped else None, False):
                super().waitall()

    server = eventlet.getcurrent()
    # Its size counts connections, idle ones too: the default of 1024 would be the server's limit.
    pool = Pool(1_000_000)

    def stop() -> None:
        pool.stopped = True
        # What the server takes for the wish to end.
        eventlet.hubs.get_hub().schedule_call_global(0, server.throw, SystemExit)

    # Not eventlet's own, whatever is patched: connections are accepted by callbacks.
    listener = _listening(host, port, eventlet.patcher.original("socket"))
    hub_server = HubServer(app, listener, Handler, hub, front, _AcceptTrouble().tell, pool)
    stoppable(stop)
    hub_server.start()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            eventlet.Event().wait()
    except SystemExit as wish:
        # A handler's, unless it is that of `stop`: who restarts what has failed is to see it.
        if wish.code is not None:
            raise
    finally:
        pool.stopped = True
        hub_server.stop()


def serve_gevent(
    app: WSGIApplication,
    host: str,
    port: int,
    stoppable: Stoppable,
    share: Callable[[], None],
) -> None:
    """Serve by gevent's pywsgi; `share` as in `serve_eventlet`."""
    from gevent import pywsgi
    from gevent import socket as green

    class Handler(pywsgi.WSGIHandler):  # type: ignore[misc]
        """Gives the application its socket, for WebSocket; strict as the other servers' are."""

        def __init__(self, sock: Any, address: Any, server: Any) -> None:
            super().__init__(sock, address, server, Reader(sock, share))

        def get_environ(self) -> dict[str, Any]:
            environ: dict[str, Any] = super().get_environ()
            environ["fallback_transport.socket"] = self.socket
            return environ

        def MessageClass(self, file: Any, *args: Any) -> Any:
            return read_headers(file, self._parsed)

        def _parsed(self, file: Any) -> Any:
            headers = super().MessageClass(file, 0)
            if problem := misfit(headers):
                raise ValueError(problem)
            return headers

        def read_request(self, raw_requestline: str) -> Any:
            if is_bent(raw_requestline.encode("latin-1")):
                raise ValueError(BENT)
            try:
                return super().read_request(raw_requestline)
            except (OSError, HTTPException) as error:
                # A ValueError is what is answered with 400, without a traceback.
                raise ValueError(str(error)) from None

        def handle_one_response(self) -> None:
            super().handle_one_response()
            if self.wsgi_input._chunked_input_error:
                self.close_connection = True

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle()

        def log_error(self, msg: str, *args: Any) -> None:
            log_refused(self, (msg, *args)[-1])

        def log_request(self) -> None:
            pass

        def _sendall(self, data: bytes) -> None:
            # Nearly always all of it goes at once; gevent's own would ask about the socket first.
            try:
                sent = self.socket._sock.send(data)
            except OSError:
                # Whatever that is, it comes again, and is dealt with there.
                sent = 0
            self.response_length += sent
            if sent < len(data):
                super()._sendall(memoryview(data)[sent:])

    class Server(pywsgi.WSGIServer):  # type: ignore[misc]
        """Goes on listening when the process is out of file descriptors."""

        trouble = _AcceptTrouble()

        def do_read(self) -> Any:
            try:
                return super().do_read()
            except OSError as error:
                self.trouble.tell(error)
                self.stop_accepting()
                self._timer = self.loop.timer(ACCEPT_PAUSE)
                self._timer.start(self._start_accepting_if_started)
                return None

    # Where nothing is patched, it would wait in the hub for the next connection.
    listener = green.socket(fileno=_listening(host, port).detach())
    server = Server(listener, app, handler_class=Handler, log=None, error_log=logger)
    stoppable(server.stop)
    server.serve_forever()


def serve_threads(
    app: WSGIApplication,
    host: str,
    port: int,
    stoppable: Stoppable,
    start: Callable[..., None],
) -> None:
    """Serve by Werkzeug's threaded server, each connection in a thread that `start` has for it.

    One that there is no thread for is closed at once.
    """
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        """HTTP/1.1, which WebSocket needs, strict, and no line per request."""

        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            # Else who says nothing has a thread for as long as he likes.
            self.rfile.close()
            self.rfile = Reader(self.connection)

        def parse_request(self) -> bool:
            return parse_strictly(self, super().parse_request)

        def make_environ(self) -> dict[str, Any]:
            environ: dict[str, Any] = super().make_environ()
            rest: Any = _Rest(self.connection, self.rfile.close)
            self.rfile = rest
            return environ

        def connection_dropped(
            self, error: BaseException, environ: dict[str, Any] | None = None
        ) -> None:
            # Also where we took the socket: what it has read ahead is no request.
            self.close_connection = True

        def log_error(self, format: str, *args: Any) -> None:
            # Not where no request came: browsers open connections in advance.
            if not isinstance(sys.exc_info()[1], TimeoutError):
                log_refused(self, (format, *args)[-1])

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    listener = _listening(host, port)
    server: Any = make_server(
        host, port, app, threaded=True, request_handler=Handler, fd=listener.fileno()
    )
    accept, trouble = server.get_request, _AcceptTrouble()

    def get_request() -> Any:
        try:
            return accept()
        except OSError as error:
            trouble.tell(error)
            time.sleep(ACCEPT_PAUSE)
            raise

    def process_request(request: Any, address: Any) -> None:
        try:
            start(server.process_request_thread, request, address)
        except RuntimeError as error:
            # Left to the server, each is a traceback on standard error.
            trouble.tell(error)
            server.shutdown_request(request)

    # It closes each connection behind an answer, so that a new thread each would be one per poll.
    server.process_request = process_request
    server.get_request = get_request
    stoppable(server.shutdown)
    server.serve_forever()


class _Rest:
    """What is left of a request that was answered, as Werkzeug reads it, to discard it.

    From the file it would wait for ten megabytes or for the client's end, and who waits for the
    end of the answer does not end before that has come: here it goes first.

    Args:
        sock: the connection.
        close: closes the file.
    """

    def __init__(self, sock: socket.socket, close: Callable[[], None]) -> None:
        self._sock = sock
        self.close = close

    def read(self, size: int) -> bytes:
        """As many bytes as come without a pause, `size` at most; not themselves."""
        count = 0
        # Who is gone is sent nothing more, but the application is still told of the end.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
            self._sock.settimeout(REST_PAUSE)
            while count < size and (data := self._sock.recv(REST_BYTES)):
                count += len(data)
        return bytes(count)


class _AcceptTrouble:
    """Tells now and then that connections cannot be accepted."""

    def __init__(self) -> None:
        self._quiet_until = 0.0

    def tell(self, error: Exception) -> None:
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + ACCEPT_QUIET
            logger.error("no connection can be accepted just now: %s", error)
