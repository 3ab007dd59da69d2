"""What python-socketio calls, and how an application's handlers are called from there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import socketio

from .context import handler_context
from .conversation import MalformedPacket
from .engine import Engine, EventRefused, Resumed
from .handlers import ANY, CONNECT, DISCONNECT, ERROR, RESUME, Registration, size, takes
from .protocol.codes import CloseCode
from .session import ConnectionRefused, Session, Sessions


class Dispatcher:
    """Registers handlers with a server, and calls them in their contexts.

    Args:
        engine: the server's.
        sessions: what handlers are given.
        contexts: makes the contexts of a call, of the request that the session is of.
        shared: whether the server has handlers of its own, too.
    """

    def __init__(
        self,
        engine: Engine,
        sessions: Sessions,
        contexts: Callable[[dict[str, Any]], handler_context],
        *,
        shared: bool,
    ) -> None:
        self._engine = engine
        self._server = engine.server
        self._sessions = sessions
        self._contexts = contexts
        self._shared = shared
        self._on_error: dict[str, Callable[..., Any]] = {}
        if not shared:
            self._welcome_all("/")

    def add(self, registration: Registration) -> None:
        """Register a handler.

        Raises:
            ValueError: the shared server has one for the same.
        """
        name, namespace, handler = registration.name, registration.namespace, registration.handler
        if not self._shared and name != CONNECT:
            self._welcome_all(namespace)
        if name == ERROR:
            self._on_error[namespace] = handler
        elif name == RESUME:
            self._engine.on_resume[namespace] = self._resumed(namespace, handler)
        elif name == CONNECT:
            self._register(name, namespace, self._connected(namespace, handler))
        elif name == DISCONNECT:
            self._register(name, namespace, self._disconnected(namespace, handler))
        else:
            self._register(name, namespace, self._received(registration))

    def _welcome_all(self, namespace: str) -> None:
        """Without a handler of the application's, every client is welcome."""
        if CONNECT not in self._server.handlers.get(namespace, {}):
            self._server.on(CONNECT, self._connected(namespace, None), namespace=namespace)

    def _connected(self, namespace: str, handler: Callable[..., Any] | None) -> Callable[..., Any]:
        # `auth` has no default: on a TypeError python-socketio calls again without it, which
        # must fail here and not run the application's handler a second time.
        def connected(sid: str, environ: dict[str, Any], auth: Any) -> None:
            client = self._sessions.create(sid, namespace, auth)
            if handler is None:
                return
            try:
                self._call(environ, client, CONNECT, handler)
            except ConnectionRefused as refused:
                raise socketio.exceptions.ConnectionRefusedError(
                    refused.reason, {"code": refused.code, "reason": refused.reason}
                ) from refused

        return connected

    def _resumed(self, namespace: str, handler: Callable[..., Any]) -> Resumed:
        def resumed(sid: str, environ: dict[str, Any]) -> tuple[int, str] | None:
            client, _ = self._client(sid, namespace)
            try:
                self._call(environ, client, RESUME, handler)
            except ConnectionRefused as refused:
                return refused.code, refused.reason
            return None

        return resumed

    def _received(self, registration: Registration) -> Callable[..., Any]:
        namespace, handler, most = (
            registration.namespace,
            registration.handler,
            registration.max_bytes,
        )
        fits = takes(handler)

        def received(sid: str, *data: Any) -> Any:
            return handle(registration.name, sid, data, data or (None,))

        def anything(name: str, sid: str, *data: Any) -> Any:
            return handle(name, sid, data, (name, *data))

        def handle(name: str, sid: str, data: tuple[Any, ...], arguments: tuple[Any, ...]) -> Any:
            client, environ = self._client(sid, namespace)
            if not fits(len(arguments)):
                raise MalformedPacket(f"event {name!r} with {len(data)} arguments")
            try:
                if most is not None and size(data) > most:
                    raise EventRefused(CloseCode.TOO_LARGE, f"{name!r} takes {most} bytes at most")
                return self._call(environ, client, name, handler, *arguments)
            except EventRefused:
                if client.reliable:
                    raise
                # Of errors, a stock client's protocol knows nothing.
                return self._server.not_handled

        return anything if registration.name == ANY else received

    def _disconnected(self, namespace: str, handler: Callable[..., Any]) -> Callable[..., Any]:
        def disconnected(sid: str, reason: str) -> None:
            client, environ = self._client(sid, namespace)
            code, text = client.closure or (CloseCode.NORMAL, reason)
            # Its error was handled, and there is nobody to tell.
            with contextlib.suppress(EventRefused):
                self._call(environ, client, DISCONNECT, handler, int(code), text)

        return disconnected

    def _call(
        self,
        environ: dict[str, Any],
        client: Session,
        name: str,
        handler: Callable[..., Any],
        *data: Any,
    ) -> Any:
        """Call a handler in its contexts; what it raises goes to the handler of errors first."""
        with self._contexts(environ):
            try:
                return handler(client, *data)
            except ConnectionRefused:
                raise
            except Exception as error:
                on_error = self._on_error.get(client._namespace)
                if on_error is None:
                    raise
                text = on_error(client, error, name.removeprefix("\0"))
                if name in (CONNECT, RESUME):
                    # There is no session for whom nobody could say whether it is welcome.
                    raise
                raise EventRefused(
                    CloseCode.INTERNAL_ERROR, str(text or "the handler raised")
                ) from error

    def _register(self, name: str, namespace: str, function: Callable[..., Any]) -> None:
        handlers = self._server.handlers.get(namespace, {})
        if self._shared and name in handlers:
            raise ValueError(
                f"the server that was handed in has a handler for {name!r} already; "
                "only one would be called: keep that one, or this one"
            )
        if name == ANY:
            if namespace in self._server.namespace_handlers:
                raise ValueError(
                    f"the server has a class for {namespace}, which takes all events that "
                    "no handler takes: keep that one, or this one"
                )
            self._server.register_namespace(_CatchAll(namespace, function))
        else:
            self._server.on(name, function, namespace=namespace)

    def _client(self, sid: str, namespace: str) -> tuple[Session, dict[str, Any]]:
        environ: dict[str, Any] = self._server.get_environ(sid, namespace)
        return self._sessions.get(sid, namespace), environ


class _CatchAll(socketio.Namespace):  # type: ignore[misc]
    """Gets the events of a namespace that no handler takes.

    As a handler of "*" it would not know an event of that name, whose first argument
    is the session, from another's, whose first argument is what the page calls it.

    Args:
        received: called with the name of the event, the session, and the data.
    """

    def __init__(self, namespace: str, received: Callable[..., Any]) -> None:
        super().__init__(namespace)
        self._received = received

    def trigger_event(self, event: str, *args: Any) -> Any:
        if event in (CONNECT, DISCONNECT):
            return self.server.not_handled
        return self._received(event, *args)
