"""Where the async mode in use is known, and nowhere else.

python-socketio has three modes for a synchronous server: ``eventlet``,
``gevent`` and ``threading``. Its engine brings the drivers (background tasks,
events, sleep); what it lacks is here: the socket behind a WSGI request
(`handover`), a server to run (`servers`), and the watch over handlers that block
eventlet's hub (`hub_watch`). Nothing here monkey-patches: that is the application's
decision.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from .alarm import Alarm, TaskAlarm, TimerAlarm
from .batch import MAX_BYTES, Batch
from .deferral import Deferral, defer_in_threads, defer_nothing_here
from .flusher import Flusher
from .handover import hurry, released, take_socket
from .home import Home, in_hub, leave_at_forks, make_lock, original
from .hub import TURN, Deadlines, Hub
from .hub_watch import HubWatch
from .servers import (
    Front,
    WSGIApplication,
    keep_heap,
    serve_eventlet,
    serve_gevent,
    serve_threads,
)
from .stream import MAX_QUEUED, Stream
from .suitability import (
    UnsuitableServer,
    missing,
    patched_otherwise,
    restarts,
    unpatched,
    unsuitable,
)
from .termination import Termination
from .wire import CLIENT_WAIT
from .workers import Workers

__all__ = [
    "CLIENT_WAIT",
    "MAX_BYTES",
    "MAX_QUEUED",
    "TURN",
    "Alarm",
    "Batch",
    "Deadlines",
    "Driver",
    "Event",
    "Front",
    "Hub",
    "Runtime",
    "Stream",
    "TaskAlarm",
    "TimerAlarm",
    "UnsuitableServer",
    "WSGIApplication",
    "defer_nothing_here",
    "hurry",
    "make_lock",
    "missing",
    "patched_otherwise",
    "released",
    "take_socket",
]

logger = logging.getLogger("fallback_transport.runtime")


class Event(Protocol):
    """What the drivers' events have in common with `threading.Event`."""

    def set(self) -> None: ...
    def clear(self) -> None: ...
    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> Any: ...


class Driver(Protocol):
    """The part of an Engine.IO server that is its driver of the async mode."""

    async_mode: str

    def start_background_task(
        self, target: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any: ...
    def create_event(self, *args: Any, **kwargs: Any) -> Any: ...
    def sleep(self, seconds: float) -> Any: ...


class Runtime:
    """The async mode that an Engine.IO server was made for.

    Args:
        driver: the stock engine of a `socketio.Server`.
    """

    #: By so many seconds a deadline that is far away may be late, to be one with others.
    grain = 1 / 16

    def __init__(self, driver: Driver) -> None:
        self.mode = driver.async_mode
        #: What python-socketio calls for its own tasks and events, and the application's.
        self.driver = driver
        #: Calls application code, under a name; on eventlet it is watched.
        self.call_handler = HubWatch().call if self.mode == "eventlet" else _called
        self._home: Home | None = None
        self._hub: Hub | None = None
        #: Calls what does not wait once all is done that is due now, see `Hub`. Only eventlet's hub
        #: knows when that is; in the other modes a task does it, once it runs (`Flusher`).
        self.at_end_of_turn: Callable[[Callable[[], None]], None] = _now
        #: Called by what is called so: writes, which neither wait nor raise, are called together.
        self.at_writes: Callable[[Callable[[], None]], None] = _now
        self._make_lock = make_lock
        if self.mode in ("eventlet", "gevent"):
            self._make_lock = original(self.mode, "RLock")
        #: Begins a task that is short, or mostly.
        self._begin: Callable[..., Any] = self.spawn
        self._workers: Workers | None = None
        if self.mode == "threading":
            self._workers = Workers(self.spawn)
            self._begin = self._workers.submit
        elif self.mode == "gevent":
            from gevent import spawn_raw

            # Without the notes that gevent takes of where each was begun.
            self._begin = spawn_raw
        if self.mode in ("gevent", "threading"):
            self._take_turns(Flusher(self.submit, self.event))
        #: What sessions are sent together, where `has_turns`.
        self.batch: Batch[Any] = Batch(lambda flush: self.at_end_of_turn(flush))
        self._deferral: Deferral | None = None
        #: Who waits in sockets of the standard library, if anybody does.
        self.waits_in_sockets: str | None = None
        self._suits = False
        self._complained = False
        self._gave_way = 0.0

    def check(self, environ: dict[str, Any]) -> None:
        """See whether the server that asks suits the async mode; cheap once one did.

        Raises:
            UnsuitableServer: it does not, or see `unpatched`; which is logged, once.
        """
        if self._suits:
            return
        problem = self.unpatched() or unsuitable(self.mode, environ)
        if problem is None:
            self._suits = True
        else:
            if not self._complained:
                logger.error("%s", problem)
            self._complained = True
            raise UnsuitableServer(problem)
        if problem := restarts(environ):
            logger.error("%s", problem)
        if environ.get("wsgi.multiprocess"):
            logger.error(
                "%s runs several processes behind one port, and they share no sessions: start it "
                "with one, or give each a port of its own behind a balancer that sends a client "
                "to the same one every time",
                environ.get("SERVER_SOFTWARE") or "this WSGI server",
            )

    #: Seconds on a clock that never goes back; called too often for a function of its own.
    now: Callable[[], float] = staticmethod(time.monotonic)

    def spawn(self, function: Callable[..., Any], *args: Any) -> None:
        """Run `function` beside everything else."""
        self.driver.start_background_task(function, *args)

    def settle(self) -> None:
        """This is the thread that serves; what others hand over is done here."""
        if self._home is None and self.mode in ("eventlet", "gevent"):
            ident = original(self.mode, "get_ident")
            self._home = Home(ident, self._socket_pair(), self.spawn, self.give_way)
            if self.mode == "eventlet":
                leave_at_forks(ident())
                self._hub = Hub()
                self._take_turns(self._hub)
                self._begin = self._hub.submit
            self._deferral = Deferral(self._home.here, self.submit)
            self._deferral.start()
        elif self.mode == "threading":
            defer_in_threads()

    def asked(self, environ: dict[str, Any]) -> None:
        """A request has come: this is the thread that serves, on a server that suits the mode."""
        hubs = self.mode in ("eventlet", "gevent")
        if hubs and self._home is None and unsuitable(self.mode, environ) is None:
            self.settle()

    @property
    def hub(self) -> Hub:
        """The hub of the thread that serves, which is this; on eventlet only."""
        self.settle()
        assert self._hub is not None, "eventlet's"
        return self._hub

    @property
    def has_turns(self) -> bool:
        """Whether what is put off to the end of a turn is done by the one thread that serves."""
        return self._hub is not None

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Run `function` soon, beside everything else; cheaper than `spawn` for what is short.

        Where a thread cannot be started, `spawn` fails; this lets it wait for one.
        """
        self._begin(function, *args)

    def _take_turns(self, turn: Hub | Flusher) -> None:
        # Not by a method of this class: for each message it would be a call more, twice.
        self.at_end_of_turn, self.at_writes = turn.at_end_of_turn, turn.at_writes

    def lock(self) -> Any:
        """A re-entrant lock for what does not wait while it has it.

        On eventlet and gevent it keeps out other threads only, and what does not wait is alone
        anyway: their own locks, in Python, cost ten times as much. In each mode, what is logged
        meanwhile waits for its turn, see `deferral`.
        """
        return self._make_lock()

    @property
    def elsewhere(self) -> bool:
        """Whether this is a thread that cannot wait for what happens in the one that serves."""
        return self._home is not None and not self._home.here()

    def pause(self) -> None:
        """Wait a little in a thread that is elsewhere."""
        if self.mode == "eventlet":
            from eventlet import patcher

            patcher.original("time").sleep(0.01)
        else:
            # On gevent a thread of its pool has a hub of its own to wait in.
            self.driver.sleep(0.01)

    def at_home(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` in the thread that serves: at once, or soon if this is another."""
        home = self._home
        if home is None or home.here():
            function(*args)
        else:
            home.call(function, *args)

    @property
    def can_wait(self) -> bool:
        """Whether who calls can wait: everybody but a callback of the hub, which all wait for."""
        return self._home is None or not self._home.here() or not in_hub(self.mode)

    def complete(self, function: Callable[[], None], timeout: float) -> None:
        """Call `function`, which waits, and return when it has: here, or where it can wait.

        What another thread calls waits in a task of the thread that serves; that other thread
        is held up meanwhile, for `timeout` seconds at most.
        """
        home = self._home
        if home is None or home.here():
            function()
            return
        done = original(self.mode, "Lock")()
        done.acquire()

        def run() -> None:
            try:
                function()
            finally:
                done.release()

        # Behind all that the thread has handed over before.
        home.call(self.spawn, run)
        done.acquire(timeout=timeout)

    def event(self) -> Event:
        """A new event of the async mode."""
        event: Event = self.driver.create_event()
        return event

    def alarm(self, ring: Callable[[], None]) -> Alarm:
        """What calls `ring`, which must not wait, at a time; asked for where it is to ring."""
        if self._hub is None:
            return TaskAlarm(self, ring)
        return TimerAlarm(self._hub.call_later, self.now, ring)

    def sleep(self, seconds: float) -> None:
        """Let the others run for so many seconds."""
        self.driver.sleep(seconds)

    def give_way(self) -> None:
        """Let the others run, if there are any, from within work that never waits."""
        # On gevent, 50 tasks that only sleep(0) go round before it looks at a socket again.
        self.driver.sleep(1e-6 if self.mode == "gevent" else 0)

    def share(self, environ: dict[str, Any] | None = None) -> None:
        """Give way now and then, for what may come without a pause and is nearly always short.

        Args:
            environ: of the request that it is for; None on a server of `serve`. On one that does
                not suit the mode there is nobody to give way to; to try may be to wait for ever,
                in another mode's hub.
        """
        if self.now() - self._gave_way >= TURN and (
            self._suits or environ is None or unsuitable(self.mode, environ) is None
        ):
            self.give_way()
            self._gave_way = self.now()

    def sender(self, sock: socket.socket) -> Callable[[bytes], int]:
        """What sends on a taken socket without waiting, and says how much has gone."""
        raw: Any = None
        if self.mode == "eventlet":
            raw = getattr(sock, "fd", None)
        elif self.mode == "gevent":
            raw = getattr(sock, "_sock", None)
        elif type(sock) is socket.socket:
            raw = sock
        # What encrypts has to wait for more than room to write.
        if raw is None or isinstance(sock, ssl.SSLSocket) or hasattr(sock, "do_handshake"):
            return lambda data: 0

        def send(data: bytes) -> int:
            try:
                sent: int = raw.send(data, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return 0
            return sent

        return send

    def patched(self) -> list[str]:
        """Which standard modules are monkey-patched already, for the log."""
        if self.mode == "eventlet":
            from eventlet.patcher import is_monkey_patched as is_patched

            threads = "thread"
        elif self.mode == "gevent":
            from gevent.monkey import is_module_patched as is_patched

            threads = "threading"
        else:
            return []
        return [name for name in ("os", "select", "socket", threads, "time") if is_patched(name)]

    def unpatched(self) -> str | None:
        """What to do first, where `waits_in_sockets` would hold up everybody; None elsewhere."""
        if self.waits_in_sockets is None or "socket" in self.patched():
            return None
        return unpatched(self.mode, self.waits_in_sockets)

    def serve(
        self,
        app: WSGIApplication,
        host: str,
        port: int,
        drain: Callable[[], None],
        patience: float,
        front: Front | None = None,
    ) -> None:
        """Serve `app` with the server of the async mode, until the process ends.

        On eventlet, `front` is told of every connection; `app` gets what it hands over.

        The first SIGTERM calls `drain`, beside everything else, and then ends the
        serving; a second one ends the process at once. So does a handler that lets
        nothing else run: the process is ended `patience` seconds after the first.

        Raises:
            RuntimeError: the other hub has patched the process.
        """
        if problem := patched_otherwise(self.mode):
            raise RuntimeError(problem)
        logger.info(
            "serving on http://%s:%s in async mode %s, sessions %s; "
            "monkey-patched by the application: %s",
            f"[{host}]" if ":" in host else host,
            port,
            self.mode,
            "over WSGI" if front is None else "on its hub",
            ", ".join(self.patched()) or "nothing",
        )

        keep_heap()
        stoppable = self.termination(drain, lambda: patience).then
        try:
            if self.mode == "eventlet":
                serve_eventlet(app, host, port, stoppable, self.share, self.hub, front)
            elif self.mode == "gevent":
                serve_gevent(app, host, port, stoppable, self.share)
            else:
                assert self._workers is not None, "threading"
                serve_threads(app, host, port, stoppable, self._workers.start)
        finally:
            if self._deferral is not None:
                self._deferral.stop()

    def termination(self, drain: Callable[[], None], patience: Callable[[], float]) -> Termination:
        """What SIGTERM is to do; see there."""
        return Termination(drain, patience, self._socket_pair, self.spawn, self.sleep)

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


def _now(function: Callable[[], None]) -> None:
    """Call it where there are no turns."""
    function()


def _called(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call it where nobody watches."""
    return function(*args)
