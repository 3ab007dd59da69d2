"""What serves one app, put together: its server, engine, sessions and doors."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import socketio
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from .binding import hub_binding
from .context import handler_context
from .dispatcher import Dispatcher
from .doctor.door import DoctorDoor
from .engine import Engine
from .engine_client import EngineClient
from .gateway import Gateway, Guard
from .metrics import Metrics
from .options import Options
from .origins import Origins
from .packets import Packet
from .registry import Capacity, Registry
from .runtime import Event, Runtime, WSGIApplication, missing, patched_otherwise
from .session import Sessions

#: Seconds beyond the time for handlers after which a drain must be over: 5 for the clients to
#: confirm, and some for the last bytes.
LAST_RESORT = 7.0


class Assembly:
    """See the module.

    Args:
        app: the Flask application, in front of which the doors are put.
        options: see `Options`.
        handed_in: the application's own server; None for one that is made here.
        mounts: those of all that serve this app, also of what comes later.
        serving: gives all that serve this app, also of what comes later, and, once it is made,
            this one: who serves it serves, and ends, them all.

    Raises:
        RuntimeError: what the async mode needs is not installed, or the process is patched for
            another; or `handed_in` is no server.
    """

    def __init__(
        self,
        app: Flask,
        options: Options,
        handed_in: Any,
        mounts: Collection[str],
        serving: Callable[[], Sequence[Assembly]],
    ) -> None:
        self.app = app
        self._serving = serving
        self.options = options
        self.origins = Origins(options.origins, partial(_trusted_hosts, app))
        self.server = _server(options, handed_in, self.origins)
        engine = self.server.eio
        if not isinstance(engine, Engine):
            engine = Engine(self.server, Runtime(self.server.eio))
        if options.patience is not None:
            engine.let_emit_wait(options.patience)
        self.engine = engine
        self.registry = Registry(
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
        self.sessions = Sessions(engine)
        self.dispatcher = Dispatcher(
            engine, self.sessions, self._contexts, shared=handed_in is not None
        )
        #: What came first has it: stock clients are not to find another server there.
        self.stock_path = options.socketio_path
        if self.stock_path in [each.stock_path for each in serving()]:
            self.stock_path = None
        own_stock_path = self.stock_path if handed_in is None else None
        self.gateway = self._put_in_front(own_stock_path, mounts)

    def serve(self, host: str, port: int) -> None:
        """Serve the app until the process ends; see `FallbackTransport.run`."""
        app, runtime, serving = self.app, self.engine.runtime, self._serving()
        for each in serving:
            if problem := each.engine.runtime.unpatched():
                raise RuntimeError(problem)
            each.registry.alone_at(each.engine.runtime.place(host, port))
        outermost = app.wsgi_app if type(app).__call__ is Flask.__call__ else app
        gateways = [each.gateway for each in serving]
        front = hub_binding(outermost, gateways, runtime, self.options.binding)
        runtime.serve(app, host, port, self.drain_all, self._last_resort, front)

    def drain(self, timeout: float | None = None) -> None:
        """End every session in order; see `FallbackTransport.drain`."""
        patience = self.options.drain if timeout is None else timeout
        drain = partial(self.registry.drain, patience)
        self.engine.runtime.complete(drain, patience + LAST_RESORT)

    def drain_all(self) -> None:
        """Drain all that serve the app, each in its own time, but together."""
        runtime = self.engine.runtime
        drained = [(each, runtime.event()) for each in self._serving()]
        for each, done in drained:
            runtime.submit(each._drain_and_tell, done)
        for _, done in drained:
            done.wait()

    def drain_on_sigterm(self) -> None:
        """See `FallbackTransport.drain_on_sigterm`."""
        # Others may serve the app by then, whose drain takes longer.
        self.engine.runtime.termination(self.drain_all, lambda: self._last_resort).go_first()

    def stats(self) -> dict[str, Any]:
        """See `FallbackTransport.stats`."""
        health = self.engine.manager_health
        return {**self.registry.stats(), "client_manager": health and health.to_json()}

    def run_on(self, runtime: Runtime) -> None:
        """Run on another runtime from now on: that of `testing`.

        Raises:
            RuntimeError: there are sessions already.
        """
        self.registry.run_on(runtime)
        self.engine.runtime = runtime

    # -- inside ------------------------------------------------------------------------

    @property
    def _last_resort(self) -> float:
        """The seconds after which `drain_all` must be over."""
        return max(each.options.drain for each in self._serving()) + LAST_RESORT

    def _drain_and_tell(self, done: Event) -> None:
        try:
            self.drain()
        finally:
            done.set()

    def _put_in_front(self, stock_path: str | None, mounts: Collection[str]) -> Gateway:
        app, options = self.app, self.options
        behind: WSGIApplication = app.wsgi_app
        fix: ProxyFix | None = None
        while isinstance(behind, ProxyFix):
            # What it makes of a request is to count for the origin, too.
            fix = behind
            behind = fix.app
        doctor = None
        if options.doctor is not False:
            doctor = DoctorDoor(self.engine.runtime, options)
        gateway = Gateway(
            behind,
            self.registry,
            options,
            origins=self.origins,
            stock=self.server.handle_request,
            stock_path=stock_path,
            # Flask-SocketIO looks for its app there; so do our handlers.
            extra={"flask.app": app},
            # Whichever stands in front, the longest mount gets the request.
            mounts=mounts,
            doctor=doctor,
            guard=_guard(app, options.doctor),
            metrics=Metrics(self.stats) if options.metrics is not False else None,
            metrics_guard=_guard(app, options.metrics),
        )
        if fix is None:
            app.wsgi_app = gateway  # type: ignore[method-assign]
        else:
            fix.app = gateway
        return gateway

    def _contexts(self, environ: dict[str, Any]) -> handler_context:
        """Those of the app whose handlers are called; a handed-in server does not name it."""
        return handler_context(environ.get("flask.app", self.app), environ)


def _trusted_hosts(app: Flask, environ: dict[str, Any]) -> Collection[str] | None:
    """The hosts that are the app's, as Flask has them for a request."""
    hosts = app.config.get("TRUSTED_HOSTS") or app.request_class.trusted_hosts
    if hasattr(hosts, "__get__"):
        # A property, as of hosts that a database has.
        hosts = app.request_class(environ).trusted_hosts
    return hosts


def _server(options: Options, handed_in: Any, origins: Origins) -> Any:
    """The `socketio.Server` to stand under."""
    if handed_in is None:
        mode = options.async_mode
        problem = missing(mode)
        if mode == "gevent":
            # No request would ever be answered. On eventlet, the server that is used may suit.
            problem = problem or patched_otherwise(mode)
        if problem:
            raise RuntimeError(problem)
        return socketio.Server(
            async_mode=options.async_mode,
            client_manager=options.client_manager,
            serializer=Packet,
            cors_allowed_origins=origins.admit_stock,
        )
    if options.client_manager is not None:
        raise RuntimeError("give client_manager to the server that is handed in")
    server = handed_in
    if not isinstance(server, socketio.Server):
        server = getattr(server, "server", None)
    if not isinstance(server, socketio.Server):
        raise RuntimeError(
            "server= takes a socketio.Server, or a flask_socketio.SocketIO whose "
            "init_app(app) was called before ours"
        )
    return server


def _guard(app: Flask, admits: bool | Callable[[], Any]) -> Guard:
    """Asks the application, in the context of the request, whether it may go on."""

    def guard(environ: dict[str, Any]) -> WSGIApplication | None:
        if not callable(admits):
            return None
        # A context of its own: the body stays unread, for whoever answers.
        with app.request_context({**environ, "wsgi.input": io.BytesIO()}) as context:
            try:
                admitted = app.ensure_sync(admits)()
                if admitted is True:
                    return None
            except Exception as error:
                # As one of a view: its handler answers, and what has none goes on from here.
                admitted = app.handle_user_exception(error)
            response = app.make_response(admitted or ("not allowed\n", 403))
            sessions = app.session_interface
            if not sessions.is_null_session(context.session):
                # What a login's page is to know: a message, or where to go on.
                sessions.save_session(app, context.session, response)
            return response

    return guard
