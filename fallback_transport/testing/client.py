"""`TestClient`: a page without a browser, for the tests of an application."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

# Not from `flask`, where an instrumentation puts a class derived from it.
from flask.app import Flask
from socketio.pubsub_manager import PubSubManager
from werkzeug.test import Client as HTTPClient

from ..assembly import Assembly
from ..extension import FallbackTransport
from ..failures import RequestFailed
from ..protocol.codes import CloseCode
from ..protocol.envelope import End, Welcome
from ..protocol.events import Transport
from .links import Link
from .page import Doors, Page, one
from .stock_clients import live_beside
from .tasks import VirtualRuntime

#: Seconds, by the virtual clock, for which a client waits for what must come.
TIMEOUT = 60.0
#: The reason of the session's end where the page goes.
LEAVING = "the page is leaving"

Listener = TypeVar("Listener", bound=Callable[..., Any])


class ConnectionFailed(Exception):
    """The server did not welcome the client.

    Args:
        code: the close code of the protocol's answer, or the HTTP status of another.
        reason: its text.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = int(code)
        self.reason = reason


class TestClient:
    """A client of the application, without a socket, with a clock of its own.

    It is connected when it is made. The server's handlers run within the calls
    of the client, to their end or until they wait, and in the same order every
    time. Time goes by only in `advance`, and where a call has to wait for an
    answer; all clients of one transport, and its server, have one clock. It
    connects again only when it is told to.

    A context manager: at its end the page goes, and the session with it, behind what is under
    way; also where it is cut off.

    Args:
        transport: the application's, `init_app` called; or the application, where it
            has one, for one that serves several.
        over: ``"websocket"`` or ``"polling"``.
        auth: what handlers see as `client.auth`: an object, or None.
        headers: further headers of all its requests. The origin is the page's own
            unless one is given here.
        cookies: a Flask test client, whose cookies are sent with each request, or a
            mapping of names to values.
        namespace: the Socket.IO namespace.
        raise_server_exceptions: whether what handlers raise is raised here again, by
            the call in which it happened or the next. Otherwise it is only logged,
            as in production.

    Raises:
        ConnectionFailed: the server did not welcome it: the origin is not allowed,
            the server is full, and so on. A client that `on_connect` refuses is
            merely `closed`.
        RuntimeError: there is no app yet, or it serves in real time already, or has a
            client manager that listens to other processes.
        TypeError: `transport` is neither of the two.
        ValueError: `over` is no transport, or the namespace none.
    """

    # Not one of pytest's classes, whatever its name says.
    __test__ = False

    def __init__(
        self,
        transport: FallbackTransport | Flask,
        *,
        over: str = "websocket",
        auth: Any = None,
        headers: Mapping[str, str] | None = None,
        cookies: HTTPClient | Mapping[str, str] | None = None,
        namespace: str = "/",
        raise_server_exceptions: bool = True,
    ) -> None:
        self._over = _kind(over)
        if not isinstance(namespace, str) or not namespace.startswith("/"):
            raise ValueError(f"a namespace begins with a slash: {namespace!r}")
        its = _assembly(transport)
        self._registry = its.registry
        self._runtime = _virtual(its)
        self._tasks = self._runtime.tasks
        self._raises = raise_server_exceptions
        doors = Doors(its.app, its.options.paths[0], headers or {}, cookies)
        self._page = Page(self._runtime, doors, namespace, auth)
        self._tasks.peers.append(self._page)
        try:
            self._connect(self._over)
        except BaseException:
            self._leave()
            self._forget()
            raise

    def __enter__(self) -> TestClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        page = self._page
        page.latency = 0.0
        try:
            # What is under way arrives first.
            for link in page.links:
                link.up.flush()
                link.down.flush()
            self._tasks.settle()
            page.close(CloseCode.GOING_AWAY, LEAVING)
            self._tasks.settle()
        finally:
            self._leave()
        if error is None:
            self._raise()
        else:
            # What else was raised is not the next test's.
            self._forget()

    def __repr__(self) -> str:
        page = self._page
        carrier = page.machine.transport
        how = page.closed or (carrier.value if carrier else "detached")
        return f"<TestClient {page.machine.id} {how}>"

    # -- how things are ------------------------------------------------------------------

    @property
    def id(self) -> str:
        """What handlers have as `client.id`."""
        assert self._page.machine.id is not None, "it was welcomed"
        return self._page.machine.id

    @property
    def transport(self) -> str | None:
        """``"websocket"`` or ``"polling"``; None while nothing carries the session."""
        self._settle()
        link = self._page.link
        return link.transport.value if link is not None else None

    @property
    def connected(self) -> bool:
        """Whether a connection carries the session."""
        return self.transport is not None

    @property
    def closed(self) -> tuple[int, str] | None:
        """The code and reason with which the session has ended; None while it goes on."""
        self._settle()
        return self._page.closed

    def received(self, name: str | None = None) -> list[Any]:
        """What came, in order, since it was made.

        Args:
            name: of these events only: a list of their data, a tuple where there were
                several arguments. Without it a list of tuples: name, arguments.
        """
        self._settle()
        if name is None:
            return [(each, *data) for each, data in self._page.received]
        return [one(data) for each, data in self._page.received if each == name]

    # -- what a page does ----------------------------------------------------------------

    def emit(
        self,
        name: str,
        *data: Any,
        callback: Callable[[RequestFailed | None, Any], None] | None = None,
    ) -> None:
        """Send an event; without a connection it is kept, and sent by the next.

        What it raises of this package's is in `fallback_transport.protocol.errors`.

        Args:
            name: of the event.
            data: its arguments: what JSON can express, with bytes anywhere in it.
            callback: ``f(error, reply)``, called once; if it raises, the test fails.

        Raises:
            SessionOver: the session has ended.
            TypeError, ValueError: no event can have that name, JSON cannot express the data, or
                `callback` is no function.
            MessageRefused: it is larger than `max_message`.
            OutboxFull: as much as a page keeps is unconfirmed: 10,000 messages, or 32 MB.
        """
        if not (callback is None or callable(callback)):
            raise TypeError(
                f"callback is f(error, reply), and not {callback!r}; request() returns the reply"
            )
        self._page.emit(name, data, callback)
        self._settle()

    def send(self, data: str | bytes) -> None:
        """Send text or bytes, unnamed."""
        self.emit("message", data)

    def request(self, name: str, *data: Any, timeout: float = TIMEOUT) -> Any:
        """Send an event, and wait for its reply, by the virtual clock.

        Returns:
            What the handler returned; of several values a tuple.

        Raises:
            RequestFailed: the handler raised (and `raise_server_exceptions` is off), no
                handler takes the event, no reply came in time, or the session ended.
        """
        answers: list[tuple[RequestFailed | None, Any]] = []
        self.emit(name, *data, callback=lambda error, reply: answers.append((error, reply)))
        self._tasks.drive(lambda: bool(answers), timeout)
        self._raise()
        error, reply = answers[0] if answers else (RequestFailed(f"no reply in {timeout} s"), None)
        if error is not None:
            raise error
        return reply

    def on(self, name: str, listener: Listener) -> Listener:
        """Call ``listener(*data)`` for events of this name.

        What it returns answers a handler's `client.request`; if it raises, that fails,
        and the test too.

        Raises:
            TypeError: `listener` is no function.
        """
        if not callable(listener):
            raise TypeError(f"a listener is a function: {listener!r}")
        self._page.listeners.setdefault(name, []).append(listener)
        return listener

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close the session, behind all that was sent.

        Without a connection it is `closed` 5 seconds later.

        Raises:
            ValueError: code or reason cannot go over the wire.
        """
        self._page.close(code, reason)
        self._settle()

    # -- what the network does -----------------------------------------------------------

    def cut(self, lose: str | None = None) -> None:
        """End the connection under both ends; `reconnect` or `switch` make another.

        The server hears of it at once on a WebSocket; with polls, when none has come for
        too long.

        Args:
            lose: what is lost of that which is under way (see `delay`): ``"sent"``,
                what this client has sent, while what was sent to it still comes;
                ``"received"``, the reverse: the server handles what was sent, and all
                that it says to that is lost. None: both.

        Raises:
            RuntimeError: nothing carries the session; or there was nothing to lose.
        """
        if lose not in (None, "sent", "received"):
            raise ValueError(f"lose is 'sent', 'received' or None: {lose!r}")
        link = self._link()
        if lose is not None:
            gone, safe = (link.up, link.down) if lose == "sent" else (link.down, link.up)
            gone.sever()
            safe.flush()
            self._tasks.settle()
            if not gone.lost:
                # Then it is no cut, and what is sent from now on is not lost either.
                gone.broken = False
                raise RuntimeError(
                    f"cut(lose={lose!r}) lost nothing, for nothing was under way; "
                    "after delay(seconds), what is sent takes its time"
                )
        link.kill()
        self._page.lost(link.attempt)
        self._settle()

    def reconnect(self) -> None:
        """Connect again, by the same transport, in the same session.

        Where the server does not have it any more, it is `closed` then.

        Raises:
            ConnectionFailed: see the class.
            RuntimeError: something carries the session, or it has ended.
        """
        if self.connected:
            raise RuntimeError("something carries the session still: cut() it, or switch()")
        self._connect(self._over)

    def switch(self, transport: str) -> None:
        """Let a new connection carry the session, as a page does without a pause.

        Args:
            transport: ``"websocket"`` or ``"polling"``.

        Raises:
            ConnectionFailed: see the class; the old connection goes on.
            RuntimeError: the session has ended.
            ValueError: it is neither of them.
        """
        self._connect(_kind(transport))

    def delay(self, seconds: float) -> None:
        """What is sent from now on, either way, is under way for so long."""
        if not seconds >= 0:
            raise ValueError(f"a delay is a number of seconds, 0 or more: {seconds!r}")
        self._page.latency = seconds

    def repeat(self) -> None:
        """Send the last sending request (or hello) again, as proxies and browsers do.

        Raises:
            RuntimeError: there are none on a WebSocket; or nothing carries the session.
        """
        self._link().repeat()
        self._settle()

    def advance(self, seconds: float) -> None:
        """Let time go by, with all that becomes due: timers, handlers that sleep, polls."""
        if not 0 <= seconds < math.inf:
            raise ValueError(f"time goes by for a number of seconds, 0 or more: {seconds!r}")
        self._tasks.advance(seconds)
        self._raise()

    # -- inside --------------------------------------------------------------------------

    def _connect(self, transport: Transport) -> None:
        self._settle()
        if self._page.closed is not None:
            raise RuntimeError("the session has ended: {} {}".format(*self._page.closed))
        link = self._page.greet(transport)
        self._tasks.drive(lambda: link.answer is not None or link.over, TIMEOUT)
        self._raise()
        answer = link.answer
        if isinstance(answer, Welcome):
            self._over = transport
        elif isinstance(answer, End):
            if not answer.session:
                raise ConnectionFailed(answer.code, answer.reason)
        else:
            raise ConnectionFailed(*(answer or (0, "no answer")))

    def _link(self) -> Link:
        self._settle()
        link = self._page.link
        if link is None:
            raise RuntimeError("nothing carries the session")
        return link

    def _leave(self) -> None:
        page = self._page
        for link in page.links:
            link.kill()
        self._tasks.settle()
        left = page.machine.id and self._registry.find(page.machine.id)
        if left:
            # It could not say so, and is not to be in the next test.
            left.abort(CloseCode.GOING_AWAY, LEAVING)
            self._tasks.settle()
        if page in self._tasks.peers:
            self._tasks.peers.remove(page)

    def _settle(self) -> None:
        self._tasks.settle()
        self._raise()

    def _raise(self) -> None:
        """Raise what handlers, tasks, listeners and callbacks have raised meanwhile."""
        runtime = self._runtime
        # The test's own first: what it raised may have made a handler raise.
        errors = [*runtime.failed]
        if self._raises:
            errors += [*runtime.raised, *self._tasks.errors]
        self._forget()
        if errors:
            raise errors[0]

    def _forget(self) -> None:
        for errors in (self._runtime.failed, self._runtime.raised, self._tasks.errors):
            errors.clear()


def _kind(name: str) -> Transport:
    if name not in ("websocket", "polling"):
        raise ValueError(f"a transport is 'websocket' or 'polling': {name!r}")
    return Transport(name)


def _assembly(given: FallbackTransport | Flask) -> Assembly:
    """The one that is meant."""
    if isinstance(given, FallbackTransport):
        return given._meant()
    if not isinstance(given, Flask):
        raise TypeError(f"give a FallbackTransport, or the Flask app that has one: {given!r}")
    # One at several paths is one.
    found = list(dict.fromkeys(given.extensions.get("fallback_transport", {}).values()))
    if len(found) != 1:
        raise RuntimeError(f"the app has {len(found)} transports: give the one that is meant")
    transport: FallbackTransport = found[0]
    return transport._made()


def _virtual(its: Assembly) -> VirtualRuntime:
    """The runtime in virtual time, on which it runs from now on."""
    manager = its.server.manager
    if isinstance(manager, PubSubManager) and not manager.write_only:
        raise RuntimeError(
            f"{type(manager).__name__} waits for other processes, which have another clock: "
            "leave client_manager out in tests"
        )
    engine = its.engine
    runtime = engine.runtime
    if not isinstance(runtime, VirtualRuntime):
        runtime = VirtualRuntime(runtime.lock, runtime.driver)
        live_beside(its.server, lambda sid: engine.conversation(sid) is not None)
    # Another's of the same server may have moved to it before.
    if its.registry.runtime is not runtime:
        its.run_on(runtime)
    return runtime
