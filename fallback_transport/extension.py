"""`FallbackTransport`: the Flask extension, and the only importer of Flask."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar, overload

import socketio
from flask import Flask

from .context import handler_context
from .conversation import MalformedPacket
from .engine import Engine
from .gateway import Gateway, GatewayOptions
from .options import Options, configured
from .protocol.codes import CloseCode
from .registry import Capacity, Registry
from .runtime import Runtime
from .session import ConnectionRefused, Session, Sessions

logger = logging.getLogger("fallback_transport")

Handler = TypeVar("Handler", bound=Callable[..., Any])

NAMESPACE = "/"
#: Seconds beyond the time for handlers after which a drain must be over: 5 for the clients to
#: confirm, and some for the last bytes.
LAST_RESORT = 7.0
#: What `on_message` cannot take: events of the server's own, and all others together.
_RESERVED = {
    "connect": "use on_connect",
    "disconnect": "use on_disconnect",
    "*": "use transport.server.on, whose handlers get other arguments",
}


class FallbackTransport:
    """Sessions between browsers and a Flask app, over WebSocket or long polling.

    Args:
        app: the Flask application; or call `init_app` later.
        server: a `socketio.Server` or `flask_socketio.SocketIO` to stand
            under; its handlers, rooms and namespaces then work over our
            sessions too. Without it one is made: `server`.
        options: see `Options`; they win over `app.config`.

    Raises:
        TypeError: an option of an unknown name.
        ValueError: an option of an impossible value.
    """

    def __init__(self, app: Flask | None = None, *, server: Any = None, **options: Any) -> None:
        known = {field.name for field in fields(Options)}
        if unknown := options.keys() - known:
            raise TypeError(
                f"unknown option {sorted(unknown)[0]!r}; there are {', '.join(sorted(known))}"
            )
        self._given = options
        self._handed_in = server
        self._app: Flask | None = None
        self._server: Any = None
        self._runtime: Runtime | None = None
        self._sessions: Sessions | None = None
        self._registry: Registry | None = None
        self._engine: Engine | None = None
        self._gateway: Gateway | None = None
        self._path = ""
        self._drain = 0.0
        self._pending: list[Callable[[], None]] = []
        self._registered: set[str] = set()
        if app is not None:
            self.init_app(app)

    # -- setting up ------------------------------------------------------------------

    def init_app(self, app: Flask) -> None:
        """Put the sessions in front of `app`.

        Reads every field of `Options` from ``app.config`` in upper case behind
        ``FALLBACK_TRANSPORT_``. One `FallbackTransport` serves one app: its
        handlers run in that app's context.

        Raises:
            RuntimeError: it serves an app already, or `app` has one already at this path.
        """
        if self._server is not None:
            raise RuntimeError(
                "this FallbackTransport serves an app already; make one for each app"
            )
        options = Options(**{**configured(app.config), **self._given})
        mounted: dict[str, FallbackTransport] = app.extensions.setdefault("fallback_transport", {})
        if options.path in mounted:
            raise RuntimeError(f"the app has a FallbackTransport at {options.path} already")
        server = self._socketio_server(options)
        engine = server.eio
        if not isinstance(engine, Engine):
            engine = Engine(server, Runtime(server.eio))
        registry = Registry(
            engine.runtime,
            engine.application,
            grant=options.grant,
            bounds=options.bounds,
            capacity=Capacity(
                options.max_sessions,
                options.max_uncommitted,
                options.max_uncommitted_per_address,
            ),
        )
        door = GatewayOptions(
            path=options.path,
            origins=options.origins,
            stock_path=options.socketio_path if self._handed_in is None else None,
            max_held=options.max_held_polls,
            trusted_proxies=options.trusted_proxies,
            max_ungreeted=options.max_ungreeted,
            max_ungreeted_per_address=options.max_ungreeted_per_address,
        )
        gateway = Gateway(
            app.wsgi_app,
            registry,
            engine.runtime,
            server.handle_request,
            door,
            # Flask-SocketIO looks for its app there; so do our handlers.
            {"flask.app": app},
        )
        app.wsgi_app = gateway  # type: ignore[method-assign]
        mounted[options.path] = self
        self._app, self._server, self._runtime = app, server, engine.runtime
        self._registry, self._drain = registry, options.drain
        self._engine, self._gateway, self._path = engine, gateway, options.path
        self._sessions = Sessions(engine)
        if self._handed_in is None:
            # Without a handler of the application's, every client is welcome.
            self._register_connect(None)
        for register in self._pending:
            register()
        self._pending.clear()

    @property
    def server(self) -> Any:
        """The `socketio.Server` underneath: events, rooms, namespaces, managers.

        Raises:
            RuntimeError: before `init_app`.
        """
        if self._server is None:
            raise RuntimeError("call init_app(app) first: there is no server yet")
        return self._server

    def run(self, app: Flask, host: str = "127.0.0.1", port: int = 5000) -> None:
        """Serve `app` with the async mode's own server, until the process ends.

        It patches nothing; what the application has patched is logged. SIGTERM drains
        (see `drain`) and then returns from here; a second one ends the process at once, and
        so does, with status 1, a handler that lets nothing else run.
        Where the application handles SIGTERM itself, that stays so.

        Args:
            host: the address to listen on.
            port: its port.
        """
        if self._server is None:
            self.init_app(app)
        assert self._runtime is not None, "set by init_app"
        assert self._registry is not None, "set by init_app"
        self._registry.alone_at(self._runtime.place(host, port))
        self._runtime.serve(app, host, port, self.drain, self._drain + LAST_RESORT)

    def drain(self, timeout: float | None = None) -> None:
        """End every session in order, before the process ends; blocks until it is done.

        New sessions are told to come again later. Handlers finish what is received by
        now; then each session is closed with 1012, behind all that was sent on it, and
        its client has 5 s to confirm. What no handler has begun is not acknowledged,
        and the page is told so. `run` does it on SIGTERM; with another server, call it
        in a thread or task of the async mode while that server still serves.

        Args:
            timeout: seconds for the handlers; None for the option `drain`.

        Raises:
            RuntimeError: before `init_app`.
        """
        if self._registry is None:
            raise RuntimeError("call init_app(app) first: there is nothing to drain yet")
        self._registry.drain(self._drain if timeout is None else timeout)

    # -- handlers ----------------------------------------------------------------------

    def on_connect(self, handler: Handler) -> Handler:
        """Register ``f(client)``, called once for each session.

        Raise `ConnectionRefused` in it to refuse the client.
        """
        self._once("connect")
        self._when_ready(lambda: self._register_connect(handler))
        return handler

    @overload
    def on_message(self, name: str) -> Callable[[Handler], Handler]: ...
    @overload
    def on_message(self, name: Handler) -> Handler: ...

    def on_message(self, name: Any) -> Any:
        """Register ``f(client, data)`` for messages.

        ``@on_message`` takes the unnamed ones (`session.send` in the page),
        ``@on_message("chat")`` those named "chat". What it returns is the
        reply, if one was asked for; if it raises, the asker gets an error.
        """
        if callable(name):
            return self.on_message("message")(name)
        if not isinstance(name, str):
            raise TypeError(f"on_message takes the name of an event, or a handler: {name!r}")
        if name in _RESERVED:
            raise ValueError(f"{name!r} is no message: {_RESERVED[name]}")

        def register(handler: Handler) -> Handler:
            self._once(name)
            self._when_ready(lambda: self._register_message(name, handler))
            return handler

        return register

    def on_disconnect(self, handler: Handler) -> Handler:
        """Register ``f(client, code, reason)``, called once when a session is over."""
        self._once("disconnect")
        self._when_ready(lambda: self._register_disconnect(handler))
        return handler

    # -- sending -----------------------------------------------------------------------

    def emit(self, name: str, data: Any = None, to: Any = None, skip: Any = None) -> None:
        """Send a named event to many, through the server's client manager.

        Args:
            name, data: see `Session.emit`.
            to: a session, its id, or a room, or a list of them; None for everybody.
            skip: a session or id that does not get it, or a list of them.

        Raises:
            ValueError: `to` is empty, and no list.
        """
        target = _id(to)
        if target == []:
            return
        if to is not None and not target:
            # To python-socketio, whatever is empty is everybody.
            raise ValueError(f"to={to!r} names nobody: give a session, a room, or None for all")
        self.server.emit(name, data, to=target, skip_sid=_id(skip))

    def send(self, data: str | bytes, to: Any = None, skip: Any = None) -> None:
        """Send an unnamed message to many; see `emit`."""
        self.emit("message", data, to=to, skip=skip)

    # -- inside ------------------------------------------------------------------------

    def _run_on(self, runtime: Runtime) -> None:
        """Run on another runtime from now on: that of `testing`.

        Raises:
            RuntimeError: there are sessions already.
        """
        assert self._registry is not None, "set by init_app"
        assert self._engine is not None, "set by init_app"
        assert self._gateway is not None, "set by init_app"
        self._registry.run_on(runtime)
        self._gateway.run_on(runtime)
        self._engine.runtime = self._runtime = runtime

    def _socketio_server(self, options: Options) -> Any:
        server = self._handed_in
        if server is None:
            return socketio.Server(
                async_mode=options.async_mode,
                cors_allowed_origins=_stock_origins(options.origins),
            )
        if not isinstance(server, socketio.Server):
            server = getattr(server, "server", None)
        if not isinstance(server, socketio.Server):
            raise RuntimeError(
                "server= takes a socketio.Server, or a flask_socketio.SocketIO whose "
                "init_app(app) was called before ours"
            )
        return server

    def _once(self, name: str) -> None:
        if name in self._registered:
            raise ValueError(f"there is a handler for {name!r} already; only one would be called")
        self._registered.add(name)

    def _when_ready(self, register: Callable[[], None]) -> None:
        if self._server is None:
            self._pending.append(register)
        else:
            register()

    def _register_connect(self, handler: Callable[..., Any] | None) -> None:
        # `auth` has no default: on a TypeError python-socketio calls again without it, which
        # must fail here and not run the application's handler a second time.
        def connected(sid: str, environ: dict[str, Any], auth: Any) -> None:
            assert self._sessions is not None, "set by init_app"
            client = self._sessions.create(sid, NAMESPACE, auth)
            if handler is None:
                return
            try:
                with handler_context(self._flask(environ), environ):
                    handler(client)
            except ConnectionRefused as refused:
                raise socketio.exceptions.ConnectionRefusedError(
                    refused.reason, {"code": refused.code, "reason": refused.reason}
                ) from refused

        self._register("connect", connected)

    def _register_message(self, name: str, handler: Callable[..., Any]) -> None:
        fits = _takes(handler)

        def received(sid: str, *data: Any) -> Any:
            client, environ = self._client(sid)
            if not fits(len(data) or 1):
                raise MalformedPacket(f"event {name!r} with {len(data)} arguments")
            with handler_context(self._flask(environ), environ):
                return handler(client, *(data or (None,)))

        self._register(name, received)

    def _register_disconnect(self, handler: Callable[..., Any]) -> None:
        def disconnected(sid: str, reason: str) -> None:
            client, environ = self._client(sid)
            code, text = client.closure or (CloseCode.NORMAL, reason)
            with handler_context(self._flask(environ), environ):
                handler(client, int(code), text)

        self._register("disconnect", disconnected)

    def _register(self, name: str, function: Callable[..., Any]) -> None:
        handlers = self.server.handlers.get(NAMESPACE, {})
        if self._handed_in is not None and name in handlers:
            raise ValueError(
                f"the server that was handed in has a handler for {name!r} already; "
                "only one would be called: keep that one, or this one"
            )
        self.server.on(name, function, namespace=NAMESPACE)

    def _flask(self, environ: dict[str, Any]) -> Flask:
        """The app whose handlers are called; a handed-in server's own doors do not name it."""
        assert self._app is not None, "set by init_app"
        named: Flask = environ.get("flask.app", self._app)
        return named

    def _client(self, sid: str) -> tuple[Session, dict[str, Any]]:
        assert self._sessions is not None, "set by init_app"
        environ: dict[str, Any] = self.server.get_environ(sid, NAMESPACE)
        return self._sessions.get(sid, NAMESPACE), environ


def _takes(handler: Callable[..., Any]) -> Callable[[int], bool]:
    """Whether `handler` can be called with its client and so many arguments."""
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        return lambda count: True
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    least = sum(p.default is p.empty for p in places) - 1
    many = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return lambda count: count >= least and (many or count < len(places))


def _id(target: Any) -> Any:
    if isinstance(target, (list, tuple, set, frozenset)):
        return [_id(each) for each in target]
    return target.id if isinstance(target, Session) else target


def _stock_origins(origins: tuple[str, ...]) -> Any:
    """Our origin rule in python-socketio's words: None is the page's own."""
    if "*" in origins:
        return "*"
    return list(origins) or None
