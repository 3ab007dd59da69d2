"""Where the async mode in use is known, and nowhere else.

python-socketio has three modes for a synchronous server: ``eventlet``,
``gevent`` and ``threading``. Its engine brings the drivers (background tasks,
events, sleep); what it lacks is here: the socket behind a WSGI request, a
server to run, and the watch over handlers that block eventlet's hub. Nothing
here monkey-patches: that is the application's decision.
"""

from __future__ import annotations

import contextlib
import email.errors
import faulthandler
import logging
import re
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from email.message import Message
from http.client import HTTPException
from types import FrameType
from typing import Any, Protocol

logger = logging.getLogger("fallback_transport.runtime")

WSGIApplication = Callable[[dict[str, Any], Any], Iterable[bytes]]

#: Seconds for which a handler may hold up eventlet's hub before it is named in the log.
BLOCKED_AFTER = 1.0
#: How often the watch looks, while handlers run.
WATCH_INTERVAL = 0.25
#: A burst of reconnecting clients must find room to wait; the kernel caps it (somaxconn).
BACKLOG = 1024
#: Seconds until a server that could not accept a connection tries again.
ACCEPT_PAUSE = 0.2
#: Seconds between two lines in the log about that.
ACCEPT_QUIET = 10.0
#: Seconds of work after which a task that never waits gives way to the others.
TURN = 0.005
#: Seconds for the last bytes on every connection, before a server that was drained ends.
FAREWELL = 0.25


class Event(Protocol):
    """What the drivers' events have in common with `threading.Event`."""

    def set(self) -> None: ...
    def clear(self) -> None: ...
    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> Any: ...


class Driver(Protocol):
    """The part of an Engine.IO server that is its driver of the async mode."""

    async_mode: str

    def start_background_task(self, target: Callable[..., Any], *args: Any) -> Any: ...
    def create_event(self) -> Any: ...
    def sleep(self, seconds: float) -> Any: ...


class UnsuitableServer(RuntimeError):
    """The WSGI server gives no access to the connection that a WebSocket needs."""


class Runtime:
    """The async mode that an Engine.IO server was made for.

    Args:
        driver: the stock engine of a `socketio.Server`.
    """

    def __init__(self, driver: Driver) -> None:
        self.mode = driver.async_mode
        self._driver = driver
        self._watch = _HubWatch() if self.mode == "eventlet" else None

    @staticmethod
    def now() -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def spawn(self, function: Callable[..., Any], *args: Any) -> None:
        """Run `function` beside everything else."""
        self._driver.start_background_task(function, *args)

    def event(self) -> Event:
        """A new event of the async mode."""
        event: Event = self._driver.create_event()
        return event

    def sleep(self, seconds: float) -> None:
        """Let the others run for so many seconds."""
        self._driver.sleep(seconds)

    def give_way(self) -> None:
        """Let the others run, if there are any, from within work that never waits."""
        # On gevent, 50 tasks that only sleep(0) go round before it looks at a socket again.
        self._driver.sleep(1e-6 if self.mode == "gevent" else 0)

    def call_handler(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call application code; on eventlet it is watched, under its `name`."""
        if self._watch is None:
            return function(*args)
        return self._watch.call(name, function, *args)

    def take_socket(self, environ: dict[str, Any]) -> socket.socket:
        """The socket behind a WSGI request, for the transport to use from now on.

        Raises:
            UnsuitableServer: the server does not give it; the text names the cure.
        """
        taken = environ.get("fallback_transport.socket") or environ.get("werkzeug.socket")
        taken = taken or environ.get("gunicorn.socket")
        if taken is None and "eventlet.input" in environ:
            taken = environ["eventlet.input"].get_socket()
        if taken is None:
            taken = _pywsgi_socket(environ)
        if taken is None:
            raise UnsuitableServer(
                f"WebSocket in async mode {self.mode!r} does not work on "
                f"{environ.get('SERVER_SOFTWARE', 'this WSGI server')}: serve with "
                "FallbackTransport.run(), or with a server made for that mode"
            )
        sock: socket.socket = taken
        sock.settimeout(None)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def hurry(self, environ: dict[str, Any]) -> None:
        """Let the answer to a request go out at once, on a server that does not see to it.

        With gevent's pywsgi, as Flask-SocketIO runs it, each answer on a connection that is
        used again would wait 40 ms for an ack.
        """
        if self.mode == "gevent" and "fallback_transport.socket" not in environ:
            sock = _pywsgi_socket(environ)
            if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def released(self, environ: dict[str, Any]) -> list[bytes]:
        """What the WSGI application returns once it is done with a taken socket."""
        # First: socketio.WSGIApp adds eventlet's name for it.
        if "gunicorn.socket" in environ:
            raise StopIteration
        if "eventlet.input" in environ:
            from eventlet.wsgi import WSGI_LOCAL

            WSGI_LOCAL.already_handled = True
        elif "werkzeug.socket" in environ:
            # The only way to keep werkzeug from writing an answer into the closed socket.
            raise ConnectionError("the connection was a WebSocket, and is over")
        elif hasattr(environ["wsgi.input"], "_chunked_input_error"):
            # pywsgi's word for a body whose rest is not to be read.
            environ["wsgi.input"]._chunked_input_error = True
        return []

    def patched(self) -> list[str]:
        """Which standard modules are monkey-patched already, for the log."""
        if self.mode == "eventlet":
            from eventlet import patcher

            return sorted(
                n
                for n in ("os", "select", "socket", "thread", "time")
                if patcher.is_monkey_patched(n)
            )
        if self.mode == "gevent":
            from gevent import monkey

            return sorted(
                n
                for n in ("os", "select", "socket", "threading", "time")
                if monkey.is_module_patched(n)
            )
        return []

    def serve(
        self,
        app: WSGIApplication,
        host: str,
        port: int,
        drain: Callable[[], None],
        patience: float,
    ) -> None:
        """Serve `app` with the server of the async mode, until the process ends.

        The first SIGTERM calls `drain`, beside everything else, and then ends the
        serving; a second one ends the process at once. So does a handler that lets
        nothing else run: the process is ended `patience` seconds after the first.
        """
        logger.info(
            "serving on http://%s:%s in async mode %s; monkey-patched by the application: %s",
            host,
            port,
            self.mode,
            ", ".join(self.patched()) or "nothing",
        )
        serve = {"eventlet": _serve_eventlet, "gevent": _serve_gevent}.get(
            self.mode, _serve_threads
        )
        serve(app, host, port, lambda stop: self._when_terminated(drain, patience, stop))

    def _when_terminated(
        self, drain: Callable[[], None], patience: float, stop: Callable[[], None]
    ) -> None:
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            # The application's own, or its parent's wish.
            return
        ears, voice = self._socket_pair()

        def tell(number: int, frame: FrameType | None) -> None:
            # Whatever runs just now is interrupted, the hub itself perhaps: only a byte goes out,
            # which wakes the hub, too.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            # It needs nobody to give way, says where everybody is, and ends with status 1.
            with contextlib.suppress(OSError, ValueError):
                faulthandler.dump_traceback_later(patience, exit=True)
            voice.send(b"!")

        def listen() -> None:
            ears.recv(1)
            try:
                drain()
                self.sleep(FAREWELL)
            finally:
                faulthandler.cancel_dump_traceback_later()
                stop()

        # Only possible in the main thread; in any other there are no signals to see to.
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, tell)
            self.spawn(listen)

    def _socket_pair(self) -> tuple[socket.socket, socket.socket]:
        """Two connected sockets, on which tasks of the async mode can wait."""
        if self.mode == "eventlet":
            from eventlet.green import socket as green

            ears, voice = green.socketpair()
        elif self.mode == "gevent":
            from gevent import socket as cooperative

            ears, voice = cooperative.socketpair()
        else:
            ears, voice = socket.socketpair()
        return ears, voice

    @staticmethod
    def place(host: str, port: int) -> str:
        """Names this address of this machine: only one process at a time serves there."""
        return f"{socket.gethostname()} {uuid.getnode()} {host} {port}"


def _listening(listener: Any) -> Any:
    # Inherited by the accepted sockets; without it a small answer can wait 40 ms for an ack.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


#: Told how to end the serving, from within the async mode.
Stoppable = Callable[[Callable[[], None]], None]


def _serve_eventlet(app: WSGIApplication, host: str, port: int, stoppable: Stoppable) -> None:
    import eventlet
    import eventlet.hubs
    import eventlet.wsgi

    class Handler(eventlet.wsgi.HttpProtocol):  # type: ignore[misc]
        """Strict about a request's head; what is wrong with it is one line in the log."""

        def parse_request(self) -> bool:
            try:
                return bool(super().parse_request()) and _strict(self)
            except (eventlet.wsgi.HeaderLineTooLong, eventlet.wsgi.HeadersTooLarge) as error:
                self.log_error("%s", type(error).__name__)
                raise

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
            _log_refused(format, *args)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    class Listener:
        """Goes on listening when the process is out of file descriptors."""

        def __init__(self, sock: Any) -> None:
            self._sock = sock
            self._trouble = _AcceptTrouble()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sock, name)

        def accept(self) -> Any:
            while True:
                try:
                    return self._sock.accept()
                except OSError as error:
                    if self._sock.fileno() < 0:
                        raise
                    self._trouble.tell(error)
                    eventlet.sleep(ACCEPT_PAUSE)

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

    listener = _listening(eventlet.listen((host, port), backlog=BACKLOG, reuse_port=False))
    stoppable(stop)
    eventlet.wsgi.server(
        Listener(listener),
        app,
        custom_pool=pool,
        protocol=Handler,
        log_output=False,
        debug=False,
        socket_timeout=None,
    )


def _pywsgi_socket(environ: dict[str, Any]) -> socket.socket | None:
    """The socket of a request to gevent's pywsgi; None if it is another server's."""
    if not environ.get("SERVER_SOFTWARE", "").startswith("gevent"):
        return None
    # It is kept behind the buffered reader, which an upgrade is given bare.
    reader = getattr(environ["wsgi.input"], "rfile", environ["wsgi.input"])
    sock: socket.socket | None = getattr(getattr(reader, "raw", None), "_sock", None)
    return sock


def _serve_gevent(app: WSGIApplication, host: str, port: int, stoppable: Stoppable) -> None:
    from gevent import pywsgi
    from gevent import socket as green

    class Handler(pywsgi.WSGIHandler):  # type: ignore[misc]
        """Gives the application its socket, for WebSocket; strict as the other servers' are."""

        def get_environ(self) -> dict[str, Any]:
            environ: dict[str, Any] = super().get_environ()
            environ["fallback_transport.socket"] = self.socket
            return environ

        def MessageClass(self, *args: Any) -> Any:
            headers = super().MessageClass(*args)
            if problem := _misfit(headers):
                raise ValueError(problem)
            return headers

        def read_request(self, raw_requestline: str) -> Any:
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
            _log_refused(msg, *args)

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

    listener = _listening(green.create_server((host, port), backlog=BACKLOG))
    server = Server(listener, app, handler_class=Handler, log=None, error_log=logger)
    stoppable(server.stop)
    server.serve_forever()


def _serve_threads(app: WSGIApplication, host: str, port: int, stoppable: Stoppable) -> None:
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        """HTTP/1.1, which WebSocket needs, strict, and no line per request."""

        protocol_version = "HTTP/1.1"

        def parse_request(self) -> bool:
            return super().parse_request() and _strict(self)

        def connection_dropped(
            self, error: BaseException, environ: dict[str, Any] | None = None
        ) -> None:
            # Also where we took the socket: what it has read ahead is no request.
            self.close_connection = True

        def log_error(self, format: str, *args: Any) -> None:
            _log_refused(format, *args)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    listener = _listening(socket.create_server((host, port), backlog=BACKLOG))
    server = make_server(
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

    server.get_request = get_request  # type: ignore[method-assign]
    stoppable(server.shutdown)
    server.serve_forever()


class _AcceptTrouble:
    """Tells now and then that connections cannot be accepted."""

    def __init__(self) -> None:
        self._quiet_until = 0.0

    def tell(self, error: OSError) -> None:
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + ACCEPT_QUIET
            logger.error("no connection can be accepted just now: %s", error)


#: What Python's parser found and got over: a line that is no header, which for it ends the
#: headers and so hides those behind it.
_HEADER_DEFECTS = (
    email.errors.MissingHeaderBodySeparatorDefect,
    email.errors.InvalidHeaderDefect,
    email.errors.FirstHeaderLineIsContinuationDefect,
    email.errors.MisplacedEnvelopeHeaderDefect,
)


def _misfit(headers: Message) -> str | None:
    """Why a request's headers are not to be trusted, or None.

    Two lengths, or a header that only one of two parsers sees, are how a
    request is smuggled past a proxy inside another one.
    """
    if any(isinstance(defect, _HEADER_DEFECTS) for defect in headers.defects):
        return "a line that is no header"
    lengths = headers.get_all("Content-Length", [])
    if len(lengths) > 1 or (lengths and "Transfer-Encoding" in headers):
        return "two lengths of one body"
    if lengths and not re.fullmatch("[0-9]{1,18}", lengths[0].strip(), re.ASCII):
        return "a Content-Length that is no number"
    return None


def _strict(handler: Any) -> bool:
    """Whether the headers can be trusted; otherwise they are answered with 400."""
    problem = _misfit(handler.headers)
    if problem is not None:
        handler.close_connection = True
        handler.send_error(400, problem)
    return problem is None


def _log_refused(format: str, *args: Any) -> None:
    logger.warning("refused as HTTP: %.200r", format % args if args else format)


class _HubWatch:
    """Names the handler that blocks eventlet's hub.

    While handlers run, a real thread looks at the stack of the hub's thread.
    One that shows the same handler at every look for a second has not given
    way to the hub: a handler that waits cooperatively is not on that stack.
    """

    def __init__(self) -> None:
        from eventlet import patcher

        self._thread_module = patcher.original("threading")
        self._time_module = patcher.original("time")
        self._running = 0
        self._wanted = self._thread_module.Event()
        self._hub_thread: int | None = None

    def call(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        self._running += 1
        if not self._wanted.is_set():
            self._start()
        try:
            return function(*args)
        finally:
            self._running -= 1

    def _start(self) -> None:
        if self._hub_thread is None:
            self._hub_thread = _original_ident()
            thread = self._thread_module.Thread(target=self._look, daemon=True)
            thread.name = "fallback_transport hub watch"
            thread.start()
        self._wanted.set()

    def _look(self) -> None:
        seen: FrameType | None = None
        since = told = 0.0
        while True:
            if not self._running:
                seen = None
                self._wanted.clear()
            self._wanted.wait()
            self._time_module.sleep(WATCH_INTERVAL)
            frame, now = self._frame(), self._time_module.monotonic()
            if frame is None or frame is not seen:
                seen, since, told = frame, now, 0.0
            elif not told and now - since >= BLOCKED_AFTER:
                told = now
                logger.warning(
                    "handler %s blocks eventlet's hub for over %.0f s: every client waits; "
                    "use cooperative calls, or eventlet.tpool",
                    frame.f_locals["name"],
                    BLOCKED_AFTER,
                )

    def _frame(self) -> FrameType | None:
        """The `call` frame that the hub's thread is in just now, if it runs a handler."""
        frame = sys._current_frames().get(self._hub_thread or 0)
        while frame is not None and frame.f_code is not _HubWatch.call.__code__:
            frame = frame.f_back
        return frame


def _original_ident() -> int:
    from eventlet import patcher

    ident: int = patcher.original("threading").get_ident()
    return ident


def make_lock() -> Any:
    """A re-entrant lock; where `threading` is patched, a cooperative one."""
    return threading.RLock()
