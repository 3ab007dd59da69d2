"""What python-socketio calls, and how an application's handlers are called from there."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import socketio
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from .application import MalformedPacket
from .catch_all import CatchAll
from .context import handler_context
from .conversation import Conversation
from .engine import Engine, Resumed
from .engine_client import EventHandler
from .failures import EventRefused
from .handlers import (
    ANY,
    CONNECT,
    DISCONNECT,
    ERROR,
    RESUME,
    Registration,
    size,
    takes,
    title,
)
from .protocol.codes import CloseCode
from .session import ConnectionRefused, Session, Sessions

#: Instead of an argument that python-socketio leaves out: after a TypeError it takes the handler
#: for one of an older kind and calls again, which must not run the application's a second time.
_AGAIN: Any = object()

#: What a view answers with, and so how a decorator of views, as a `login_required`, says no.
_VIEWS_ANSWERS = (Response, HTTPException, tuple, str, bytes)


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
        self.server = engine.server
        self.sessions = sessions
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
        elif name == ANY:
            self._register_for_any(namespace, _Received(self, registration))
        else:
            self._register(name, namespace, _Received(self, registration))

    def _welcome_all(self, namespace: str) -> None:
        """Without a handler of the application's, every client is welcome."""
        if CONNECT not in self.server.handlers.get(namespace, {}):
            self.server.on(CONNECT, self._connected(namespace, None), namespace=namespace)

    def _connected(self, namespace: str, handler: Callable[..., Any] | None) -> Callable[..., Any]:
        def connected(sid: str, environ: dict[str, Any], auth: Any = _AGAIN) -> None:
            if auth is _AGAIN:
                raise _raised()
            client = self.sessions.create(sid, namespace, auth)
            if handler is None:
                return
            refused = self._ask(environ, client, CONNECT, handler)
            if refused is not None:
                code, reason = refused
                raise socketio.exceptions.ConnectionRefusedError(
                    reason, {"code": code, "reason": reason}
                )

        return connected

    def _resumed(self, namespace: str, handler: Callable[..., Any]) -> Resumed:
        def resumed(sid: str, environ: dict[str, Any]) -> tuple[int, str] | None:
            client, _ = self.client(sid, namespace)
            return self._ask(environ, client, RESUME, handler)

        return resumed

    def _disconnected(self, namespace: str, handler: Callable[..., Any]) -> Callable[..., Any]:
        def disconnected(sid: str, reason: Any = _AGAIN) -> None:
            if reason is _AGAIN:
                raise _raised()
            client, environ = self.client(sid, namespace)
            code, text = client.closure or (CloseCode.NORMAL, reason)
            # Its error was handled, and there is nobody to tell.
            with contextlib.suppress(EventRefused):
                self.call(environ, client, DISCONNECT, handler, int(code), text)

        return disconnected

    def _ask(
        self, environ: dict[str, Any], client: Session, name: str, handler: Callable[..., Any]
    ) -> tuple[int, str] | None:
        """Why a client is not welcome, or None; False is no, as it is to python-socketio."""

        def ask(client: Session) -> Any:
            try:
                return handler(client)
            except HTTPException as error:
                if error.response is None and error.code not in (401, 403):
                    raise
                # A view's word for it, as Flask-Login's, or its answer, and no error.
                raise ConnectionRefused from error

        try:
            result = self.call(environ, client, name, ask)
            if result is False or isinstance(result, _VIEWS_ANSWERS):
                raise ConnectionRefused
        except ConnectionRefused as refused:
            return refused.code, refused.reason
        except EventRefused as refused:
            # Its error was handled, but nobody could say.
            return refused.code, "the {} handler raised".format(name.removeprefix("\0"))
        return None

    def call(
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
                # Nor is python-socketio's way to refuse a client an error.
                refusal = socketio.exceptions.ConnectionRefusedError
                if on_error is None or (name == CONNECT and isinstance(error, refusal)):
                    raise
                text = on_error(client, error, name.removeprefix("\0"))
                raise EventRefused(
                    CloseCode.INTERNAL_ERROR, str(text or "the handler raised")
                ) from error

    def _register(self, name: str, namespace: str, function: Callable[..., Any]) -> None:
        handlers = self.server.handlers.get(namespace, {})
        if self._shared and name in handlers:
            raise ValueError(
                f"the server that was handed in has a handler for {name!r} already; "
                "only one would be called: keep that one, or this one"
            )
        self.server.on(name, function, namespace=namespace)

    def _register_for_any(self, namespace: str, received: _Received) -> None:
        if namespace in self.server.namespace_handlers:
            raise ValueError(
                f"the server has a class for {namespace}, which takes all events that "
                "no handler takes: keep that one, or this one"
            )
        self.server.register_namespace(CatchAll(namespace, received.named))

    def client(self, sid: str, namespace: str) -> tuple[Session, dict[str, Any]]:
        """Whom an event is of, and the request that its handlers see."""
        environ: dict[str, Any] = self.server.get_environ(sid, namespace)
        return self.sessions.get(sid, namespace), environ


class _Received(EventHandler):
    """The application's handler of an event.

    Args:
        dispatcher: which calls it in its contexts.
        registration: the handler, and what it takes.
    """

    __slots__ = ("_dispatcher", "_handler", "_most", "_name", "_namespace", "_nothing", "_takes")

    def __init__(self, dispatcher: Dispatcher, registration: Registration) -> None:
        self._dispatcher = dispatcher
        self._name = registration.name
        self._namespace = registration.namespace
        self._handler = registration.handler
        self._most = registration.max_bytes
        self._takes = takes(registration.handler)
        #: What stands for no data.
        self._nothing: tuple[Any, ...] = (None,) if 1 in self._takes else ()

    def __call__(self, sid: str, *data: Any) -> Any:
        """As python-socketio calls a handler."""
        client, environ = self._dispatcher.client(sid, self._namespace)
        return self._handle(client, environ, self._name, data, data or self._nothing)

    def named(self, name: str, sid: str, *data: Any) -> Any:
        """As it calls that of a class for a namespace."""
        client, environ = self._dispatcher.client(sid, self._namespace)
        return self._handle(client, environ, name, data, (name, *data))

    def take(self, conversation: Conversation, data: tuple[Any, ...]) -> None:
        """See `EventHandler`."""
        dispatcher = self._dispatcher
        client = dispatcher.sessions.of(conversation, self._namespace)
        environ = dispatcher.server.environ[conversation.id]
        self._handle(client, environ, self._name, data, data or self._nothing)

    def _handle(
        self,
        client: Session,
        environ: dict[str, Any],
        name: str,
        data: tuple[Any, ...],
        arguments: tuple[Any, ...],
    ) -> Any:
        if len(arguments) not in self._takes:
            taken = _counted(self._takes, len(arguments) - len(data))
            raise MalformedPacket(
                f"the handler of {name!r:.100} ({title(self._handler)}) takes {taken} arguments, "
                f"the page sent {len(data)}"
            )
        most = self._most
        try:
            if most is not None and size(data) > most:
                raise EventRefused(CloseCode.TOO_LARGE, f"{name!r} takes {most} bytes at most")
            return self._dispatcher.call(environ, client, name, self._handler, *arguments)
        except EventRefused:
            if client.reliable:
                raise
            # Of errors, a stock client's protocol knows nothing.
            return self._dispatcher.server.not_handled


def _raised() -> BaseException:
    """What the handler has raised, because of which it is called again."""
    error = sys.exc_info()[1]
    assert error is not None, "called where it was caught"
    return error


def _counted(counts: range, beside: int) -> str:
    """How many arguments are taken, not counting those that are `beside` the page's."""
    least, most = max(counts.start - beside, 0), counts.stop - 1 - beside
    if least == most:
        return str(most)
    return f"{least} or more" if counts.stop == sys.maxsize else f"{least} to {most}"
