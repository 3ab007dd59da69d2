"""`FallbackTransport`: the Flask extension."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import socketio
from flask import Flask, current_app, has_app_context
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from .binding import hub_binding
from .context import handler_context
from .dispatcher import Dispatcher
from .doctor.door import DoctorDoor
from .engine import Engine, only_latest, server_at_work
from .engine_client import RESERVED_EVENTS, EngineClient
from .gateway import Gateway, GatewayOptions, Guard
from .handlers import Handlers, Registration, not_plain, title
from .metrics import Metrics
from .options import Options, configured
from .packets import Packet
from .protocol.codes import CloseCode, valid_close
from .registry import Capacity, Registry
from .runtime import Runtime, WSGIApplication, missing
from .script_tag import script_tag
from .session import Session, Sessions, check_name
from .version import __version__

#: Seconds beyond the time for handlers after which a drain must be over: 5 for the clients to
#: confirm, and some for the last bytes.
LAST_RESORT = 7.0


class FallbackTransport(Handlers):
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
        super().__init__()
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
        #: That whose handlers this one has, for another app; and whether there are such.
        self._origin: FallbackTransport | None = None
        self._several = False
        self._dispatcher: Dispatcher | None = None
        self._binding = "auto"
        self._drain = 0.0
        if app is not None:
            self.init_app(app)

    # -- setting up ------------------------------------------------------------------

    def init_app(self, app: Flask) -> None:
        """Put the sessions in front of `app`.

        Reads every field of `Options` from ``app.config`` in upper case behind
        ``FALLBACK_TRANSPORT_``. One may serve several apps, as where each test makes
        its own: they share the handlers, and nothing else. Which of them `emit`, `send`,
        `server` and `drain` mean is said by the session that is named, by Flask's current
        app, or by the server whose task runs; otherwise they raise.

        Raises:
            RuntimeError: `app` has one already at this path; or a second app is given
                where there can be one server only; or what the async mode needs is not
                installed.
            TypeError: `app` is no Flask application.
        """
        if not isinstance(app, Flask):
            raise TypeError(f"the app must be a Flask application, as Flask(__name__) is: {app!r}")
        if self._server is not None:
            self._init_another(app)
            return
        options = Options(**{**configured(app.config), **self._given})
        mounted: dict[str, FallbackTransport] = app.extensions.setdefault("fallback_transport", {})
        for path in options.paths:
            if path in mounted:
                raise RuntimeError(f"the app has a FallbackTransport at {path} already")
        server = self._socketio_server(options)
        engine = server.eio
        if not isinstance(engine, Engine):
            engine = Engine(server, Runtime(server.eio))
        registry = Registry(
            engine.runtime,
            partial(EngineClient, engine),
            grant=options.grant,
            bounds=options.bounds,
            capacity=Capacity(
                options.max_sessions,
                options.max_uncommitted,
                options.max_uncommitted_per_address,
            ),
            subprotocols=options.subprotocols,
            patience=options.patience,
        )
        if options.patience is not None:
            engine.let_emit_wait(options.patience)
        door = GatewayOptions(
            paths=options.paths,
            origins=options.origins,
            stock_path=options.socketio_path if self._handed_in is None else None,
            max_held=options.max_held_polls,
            trusted_proxies=options.trusted_proxies,
            max_ungreeted=options.max_ungreeted,
            max_ungreeted_per_address=options.max_ungreeted_per_address,
        )
        doctor = None
        if options.doctor is not False:
            doctor = DoctorDoor(
                engine.runtime, __version__, options.max_body, options.trusted_proxies
            )
        behind: WSGIApplication = app.wsgi_app
        fix: ProxyFix | None = None
        while isinstance(behind, ProxyFix):
            # What it makes of a request is to count for the origin, too.
            fix = behind
            behind = fix.app
        gateway = Gateway(
            behind,
            registry,
            engine.runtime,
            server.handle_request,
            door,
            # Flask-SocketIO looks for its app there; so do our handlers.
            {"flask.app": app},
            # Whichever stands in front, the longest mount gets the request.
            mounted,
            doctor,
            _guard(app, options.doctor),
            Metrics(partial(_stats, registry, engine)) if options.metrics is not False else None,
            _guard(app, options.metrics),
        )
        if fix is None:
            app.wsgi_app = gateway  # type: ignore[method-assign]
        else:
            fix.app = gateway
        if not mounted:
            app.context_processor(lambda: {"fallback_transport": partial(script_tag, mounted)})
        mounted.update(dict.fromkeys(options.paths, self))
        self._app, self._server, self._runtime = app, server, engine.runtime
        self._registry, self._drain = registry, options.drain
        self._binding = options.binding
        self._engine, self._gateway, self._path = engine, gateway, options.paths[0]
        self._sessions = Sessions(engine)
        self._dispatcher = Dispatcher(
            engine, self._sessions, self._contexts, shared=self._handed_in is not None
        )
        for each in self._registrations:
            self._dispatcher.add(each)

    @property
    def server(self) -> Any:
        """The `socketio.Server` underneath: events, rooms, namespaces, managers.

        Raises:
            RuntimeError: before `init_app`, or several apps have one.
        """
        return self._meant()._server

    def run(self, app: Flask, host: str = "127.0.0.1", port: int = 5000) -> None:
        """Serve `app` with the async mode's own server, until the process ends.

        On eventlet, sessions are served on its hub, past WSGI middleware; see the option
        `binding`. It patches nothing; what the application has patched is logged. SIGTERM drains
        (see `drain`) and then returns from here; a second one ends the process at once, and
        so does, with status 1, a handler that lets nothing else run.
        Where the application handles SIGTERM itself, that stays so.

        Args:
            host: the address to listen on, of IPv4 or IPv6.
            port: its port.

        Raises:
            RuntimeError: the client manager needs a monkey patch that is missing.
        """
        its = self._of(app)
        if its is None:
            self.init_app(app)
            its = self._of(app)
        assert its is not None, "made by init_app"
        assert its._runtime is not None, "set by init_app"
        assert its._registry is not None, "set by init_app"
        if problem := its._runtime.unpatched():
            raise RuntimeError(problem)
        its._registry.alone_at(its._runtime.place(host, port))
        outermost = app.wsgi_app if type(app).__call__ is Flask.__call__ else app
        mounted = app.extensions["fallback_transport"].values()
        gateways = list(dict.fromkeys(each._gateway for each in mounted))
        front = hub_binding(outermost, gateways, its._runtime, its._binding)
        its._runtime.serve(app, host, port, its._drain_now, its._drain + LAST_RESORT, front)

    def drain(self, timeout: float | None = None) -> None:
        """End every session in order, before the process ends; blocks until it is done.

        New sessions are told to come again later. Handlers finish what is received by
        now; then each session is closed with 1012, behind all that was sent on it, and
        its client has 5 s to confirm. What no handler has begun is not acknowledged,
        and the page is told so. `run` does it on SIGTERM; with another server, see
        `drain_on_sigterm`, or call it in a thread or task of the async mode while that server
        still serves.

        Args:
            timeout: seconds for the handlers; None for the option `drain`.

        Raises:
            RuntimeError: before `init_app`, or several apps have one.
        """
        its = self._meant()
        assert its._registry is not None, "set by init_app"
        its._registry.drain(its._drain if timeout is None else timeout)

    def drain_on_sigterm(self) -> None:
        """Drain at the next SIGTERM, for servers other than `run`'s.

        To be called once, in the main thread of the process that serves, before it does: at the
        end of the module that has the app, or in gunicorn's `post_worker_init`, which
        ``--preload`` needs. When all are told, the signal is sent again to whom it went before:
        gunicorn's worker, or nobody, which ends the process. So does a second SIGTERM meanwhile.

        Raises:
            ValueError: this is not the main thread.
            RuntimeError: before `init_app`, or several apps have one; or what handles
                SIGTERM is not Python's.
        """
        its = self._meant()
        assert its._runtime is not None, "set by init_app"
        its._runtime.termination(its._drain_now, its._drain + LAST_RESORT).go_first()

    def stats(self) -> dict[str, Any]:
        """What has happened to the sessions of this process, in numbers that name nobody.

        ``sessions`` (now, by what carries them), ``queue`` (``messages`` and ``bytes`` that
        clients have not confirmed), and since the process began: sessions ``opened``; sessions
        ``closed``, by code; ``switches`` of transport, by the new one; ``fallbacks``, each time
        that long polling began to carry a session, by the reason that the page had;
        ``messages`` ``up`` and ``down``; ``replays``, messages that were sent again; and
        ``duplicates``, messages that came again and were dropped. ``client_manager`` is None, or
        tells of its connection: its ``kind``, its ``state`` ("connected", "lost", or "unknown"
        before the first client) ``since`` when in Unix time, and the class of its last ``error``.

        Raises:
            RuntimeError: before `init_app`, or several apps have one.
        """
        its = self._meant()
        assert its._registry is not None, "set by init_app"
        assert its._engine is not None, "set by init_app"
        return _stats(its._registry, its._engine)

    # -- sending -----------------------------------------------------------------------

    def emit(
        self,
        name: str,
        data: Any = None,
        to: Any = None,
        skip: Any = None,
        namespace: str | None = None,
        *,
        latest: str | None = None,
    ) -> None:
        """Send a named event to many, through the server's client manager.

        A session that has no room for it (see the options `max_unconfirmed_messages` and
        `max_unconfirmed_bytes`) ends with 4429. With the option ``when_full="wait"``, all that
        have room get it, and this returns once each of the others has, too, or is over: one that
        has made no room after `emit_timeout` ends with 4429 then. Callbacks of a hub cannot
        wait, and end it at once. Whoever is interrupted as they wait, by a time-out of eventlet
        or gevent, takes back what still waits.

        Args:
            name, data, latest: see `Session.emit`; sessions of other processes get all.
            to: a session, its id, or a room, or a list of them; None for everybody.
            skip: a session or id that does not get it, or a list of them.
            namespace: the Socket.IO namespace; None for that of the session `to`, else "/".

        Raises:
            ValueError: `to` is empty, and no list; or the name is reserved.
            TypeError: the name is no text.
            RuntimeError: before `init_app`, or it does not say which app is meant.
        """
        if name.__class__ is not str or name in RESERVED_EVENTS:
            check_name(name)
        target = _id(to)
        if target == []:
            return
        if to is not None and not target:
            # To python-socketio, whatever is empty is everybody.
            raise ValueError(f"to={to!r} names nobody: give a session, a room, or None for all")
        if namespace is None:
            namespace = to._namespace if isinstance(to, Session) else "/"
        server = to._engine.server if isinstance(to, Session) else self.server
        with only_latest(latest):
            server.emit(name, data, to=target, skip_sid=_id(skip), namespace=namespace)

    def send(
        self,
        data: str | bytes,
        to: Any = None,
        skip: Any = None,
        namespace: str | None = None,
    ) -> None:
        """Send an unnamed message to many; see `emit`."""
        self.emit("message", data, to=to, skip=skip, namespace=namespace)

    # -- ending ------------------------------------------------------------------------

    def disconnect(
        self,
        to: Any,
        code: int = CloseCode.NORMAL,
        reason: str = "",
        namespace: str | None = None,
    ) -> None:
        """End sessions, each behind all that was sent on it, as where a user logs out.

        Args:
            to: a session, its id, or a room, or a list of them; or a function that is given
                each `Session` and says whether it is meant.
            code, reason: see `Session.close`.
            namespace: the Socket.IO namespace; None for every one.

        With a client manager, ids are looked for in all processes, without code and
        reason; rooms and functions mean the clients of this one.

        Raises:
            ValueError: `to` is empty, and no list; or code or reason cannot go over the wire.
            TypeError: `to` is an async function, whose word is always true.
            RuntimeError: before `init_app`, or it does not say which app is meant.
        """
        if problem := valid_close(code, reason):
            raise ValueError(problem)
        if isinstance(to, (list, tuple, set, frozenset)):
            for each in to:
                self.disconnect(each, code, reason, namespace)
            return
        if isinstance(to, Session):
            to.close(code, reason)
            return
        if not to:
            raise ValueError(f"to={to!r} names nobody: give a session, a room, or a function")
        if wrong := not_plain(to):
            raise TypeError(f"{title(to)} {wrong}: give a plain function")
        its = self._meant()
        server, sessions = its._server, its._sessions
        assert sessions is not None, "set by init_app"
        namespaces = {*server.handlers, *server.namespace_handlers} - {"*"}
        namespaces.update(list(server.manager.get_namespaces()))
        for each in namespaces if namespace is None else [namespace]:
            if callable(to):
                meant = [client for client in sessions.all(each) if to(client)]
            else:
                meant = sessions.all(each, to)
                if not meant:
                    server.disconnect(to, namespace=each)
            for client in meant:
                client.close(code, reason)

    # -- inside ------------------------------------------------------------------------

    def _init_another(self, app: Flask) -> None:
        if self._handed_in is not None:
            raise RuntimeError(
                "the server that was handed in serves an app already; make a server and a "
                "FallbackTransport for each app"
            )
        if self._given.get("client_manager") is not None:
            raise RuntimeError(
                "a client_manager is one server's; give each app its own, in "
                'app.config["FALLBACK_TRANSPORT_CLIENT_MANAGER"]'
            )
        another = FallbackTransport(**self._given)
        another._origin = self
        another.register(self)
        another.init_app(app)
        self._several = True

    def _of(self, app: Flask) -> FallbackTransport | None:
        """What serves `app` with these handlers; None if nothing does."""
        for each in app.extensions.get("fallback_transport", {}).values():
            if each is self or each._origin is self:
                found: FallbackTransport = each
                return found
        return None

    def _meant(self) -> FallbackTransport:
        """The one, of several apps' with these handlers, that the caller means."""
        if self._server is None:
            raise RuntimeError("call init_app(app) first: there is no server yet")
        if not self._several:
            return self
        found = self._of(current_app) if has_app_context() else None
        if found is None:
            server = server_at_work()
            all_of_them = [self, *(each for each in self._users if isinstance(each, type(self)))]
            found = next((each for each in all_of_them if each._server is server), None)
        if found is None:
            raise RuntimeError(
                "this FallbackTransport serves several apps, and none of them is Flask's "
                "current app here; say which one is meant: with app.app_context(): ..."
            )
        return found

    def _drain_now(self) -> None:
        # Also where there are several apps: who is told to end has no current one.
        assert self._registry is not None, "set by init_app"
        self._registry.drain(self._drain)

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
            if problem := missing(options.async_mode):
                raise RuntimeError(problem)
            return socketio.Server(
                async_mode=options.async_mode,
                client_manager=options.client_manager,
                serializer=Packet,
                cors_allowed_origins=_stock_origins(options.origins),
            )
        if options.client_manager is not None:
            raise RuntimeError("give client_manager to the server that is handed in")
        if not isinstance(server, socketio.Server):
            server = getattr(server, "server", None)
        if not isinstance(server, socketio.Server):
            raise RuntimeError(
                "server= takes a socketio.Server, or a flask_socketio.SocketIO whose "
                "init_app(app) was called before ours"
            )
        return server

    def _add(self, registration: Registration) -> None:
        super()._add(registration)
        if self._dispatcher is not None:
            self._dispatcher.add(registration)

    def _contexts(self, environ: dict[str, Any]) -> handler_context:
        """Those of the app whose handlers are called; a handed-in server does not name it."""
        assert self._app is not None, "set by init_app"
        return handler_context(environ.get("flask.app", self._app), environ)


def _stats(registry: Registry, engine: Engine) -> dict[str, Any]:
    health = engine.manager_health
    return {**registry.stats(), "client_manager": health and health.to_json()}


def _guard(app: Flask, admits: bool | Callable[[], Any]) -> Guard:
    """Asks the application, in the context of the request, whether it may go on."""

    def guard(environ: dict[str, Any]) -> WSGIApplication | None:
        if not callable(admits):
            return None
        # A context of its own: the body stays unread, for whoever answers.
        with app.request_context({**environ, "wsgi.input": io.BytesIO()}):
            try:
                admitted = app.ensure_sync(admits)()
                if admitted is True:
                    return None
            except HTTPException as aborted:
                admitted = app.handle_http_exception(aborted)
            response: WSGIApplication = app.make_response(admitted or ("not allowed\n", 403))
            return response

    return guard


def _id(target: Any) -> Any:
    if isinstance(target, (list, tuple, set, frozenset)):
        return [_id(each) for each in target]
    return target.id if isinstance(target, Session) else target


def _stock_origins(origins: tuple[str, ...]) -> Any:
    """Our origin rule in python-socketio's words: None is the page's own."""
    if "*" in origins:
        return "*"
    return list(origins) or None
