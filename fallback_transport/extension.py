"""`FallbackTransport`: the Flask extension."""

from __future__ import annotations

import inspect
import logging
import os
from dataclasses import fields
from functools import partial
from typing import Any

import click
from flask import current_app, has_app_context

# Not from `flask`, where an instrumentation puts a class derived from it.
from flask.app import Flask
from flask.cli import FlaskGroup

from .assembly import Assembly
from .emission import only_latest
from .engine import server_at_work, together
from .engine_client import RESERVED_EVENTS
from .handlers import Handlers, Registration, not_plain, title
from .options import Options, configured
from .protocol.codes import CloseCode, valid_close
from .script_tag import script_tag
from .session import Session, check_name

logger = logging.getLogger("fallback_transport.runtime")


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
        self._assembly: Assembly | None = None
        #: That whose handlers this one has, for another app; and whether there are such.
        self._origin: FallbackTransport | None = None
        self._several = False
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
                installed, or the process is monkey-patched for another.
            TypeError: `app` is no Flask application.
        """
        _check_app(app)
        if self._assembly is not None:
            self._init_another(app)
            return
        options = Options(**{**configured(app.config), **self._given})
        mounted: dict[str, FallbackTransport] = app.extensions.setdefault("fallback_transport", {})
        for path in options.paths:
            if path in mounted:
                raise RuntimeError(f"the app has a FallbackTransport at {path} already")
        assembly = Assembly(app, options, self._handed_in, mounted, partial(_serving, mounted))
        if not mounted:
            app.context_processor(lambda: {"fallback_transport": partial(script_tag, mounted)})
        mounted.update(dict.fromkeys(options.paths, self))
        self._assembly = assembly
        for each in self._registrations:
            assembly.dispatcher.add(each)

    @property
    def server(self) -> Any:
        """The `socketio.Server` underneath: events, rooms, namespaces, managers.

        Raises:
            RuntimeError: before `init_app`, or several apps have one.
        """
        return self._meant().server

    def run(self, app: Flask, host: str = "127.0.0.1", port: int = 5000) -> None:
        """Serve `app` with the async mode's own server, until the process ends.

        On eventlet, sessions are served on its hub, past WSGI middleware; see the option
        `binding`. It patches nothing; what the application has patched is logged. SIGTERM drains
        (see `drain`) and then returns from here; a second one ends the process at once, and
        so does, with status 1, a handler that lets nothing else run.
        Where the application handles SIGTERM itself, that stays so.

        As `app.run()`, it does nothing where the command ``flask`` imports the application.

        Args:
            host: the address to listen on, of IPv4 or IPv6.
            port: its port.

        Raises:
            RuntimeError: the client manager needs a monkey patch that is missing, or the process
                has that of another async mode, or a `TestClient` has tested the app.
            TypeError: `app` is no Flask application.
        """
        _check_app(app)
        its = self._of(app)
        if its is None:
            self.init_app(app)
            its = self._of(app)
        assert its is not None, "made by init_app"
        if _flask_imports():
            logger.warning(
                "transport.run(app) does nothing where Flask's command line imports the "
                'application: put it under  if __name__ == "__main__":'
            )
            return
        its.serve(host, port)

    def drain(self, timeout: float | None = None) -> None:
        """End every session in order, before the process ends; blocks until it is done.

        New sessions are told to come again later. Handlers finish what is received by
        now; then each session is closed with 1012, behind all that was sent on it, and
        its client has 5 s to confirm. What no handler has begun is not acknowledged,
        and the page is told so. `run` does it on SIGTERM; with another server, see
        `drain_on_sigterm`, or call it in a thread or a task while that server still serves.

        Args:
            timeout: seconds for the handlers; None for the option `drain`. One that began
                meanwhile has 5 s more, and `on_disconnect` runs behind it.

        Raises:
            RuntimeError: before `init_app`, or several apps have one.
        """
        self._meant().drain(timeout)

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
        self._meant().drain_on_sigterm()

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
        return self._meant().stats()

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
            to: a session, its id, or a room, or several of them, as a list, a set, what a dict
                has, or a generator; None for everybody.
            skip: a session or id that does not get it, or several of them.
            namespace: the Socket.IO namespace; None for that of each session in `to`, else "/".

        Raises:
            ValueError: `to` is empty, and no list, or has what is empty in it; or see
                `Session.emit`.
            TypeError: `to` is a function, or has one in it.
            TypeError, MessageRefused: see `Session.emit`; not for what nobody would get. With a
                `RedisManager` the former also if nobody of this process would.
            RuntimeError: before `init_app`, or it does not say which app is meant.
        """
        if name.__class__ is not str or name in RESERVED_EVENTS:
            check_name(name)
        several = _are_several(to)
        skipped = _id(skip)
        meant: dict[tuple[Any, str], list[Any]] = {}
        for each in to if several else (to,):
            if not each and (several or each is not None):
                # To python-socketio, whatever is empty is everybody, one of several as well.
                raise ValueError(f"to={to!r} names nobody: give a session, a room, or None for all")
            if inspect.isroutine(each):
                # A room to python-socketio, in which nobody is.
                raise TypeError(
                    f"to={to!r} is a function: only disconnect takes one; give the sessions for "
                    "which it is true"
                )
            if isinstance(each, Session):
                where = each._engine.server, namespace or each._namespace
            else:
                where = self.server, namespace or "/"
            meant.setdefault(where, []).append(_id(each))
        with only_latest(latest), together([server.eio for server, _ in meant]):
            for (server, place), targets in meant.items():
                target = targets if several else targets[0]
                server.emit(name, data, to=target, skip_sid=skipped, namespace=place)

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
            to: a session, its id, or a room, or several of them, see `emit`; or a function that
                is given each `Session` and says whether it is meant.
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
        if _are_several(to):
            # What ends may leave what the application keeps.
            for each in list(to):
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
        server, sessions = its.server, its.sessions
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

    def _of(self, app: Flask) -> Assembly | None:
        """What serves `app` with these handlers; None if nothing does."""
        for each in app.extensions.get("fallback_transport", {}).values():
            if each is self or each._origin is self:
                found: Assembly = each._made()
                return found
        return None

    def _made(self) -> Assembly:
        """What `init_app` has made."""
        if self._assembly is None:
            raise RuntimeError("call init_app(app) first: there is no server yet")
        return self._assembly

    def _meant(self) -> Assembly:
        """The one, of several apps' with these handlers, that the caller means."""
        if not self._several:
            return self._made()
        found = self._of(current_app) if has_app_context() else None
        if found is None:
            at_work = server_at_work()
            users = [each for each in (self, *self._users) if isinstance(each, FallbackTransport)]
            made = (each._assembly for each in users)
            found = next((its for its in made if its is not None and its.server is at_work), None)
        if found is None:
            raise RuntimeError(
                "this FallbackTransport serves several apps, and none of them is Flask's "
                "current app here; say which one is meant: with app.app_context(): ..."
            )
        return found

    def _add(self, registration: Registration) -> None:
        super()._add(registration)
        if self._assembly is not None:
            self._assembly.dispatcher.add(registration)


def _check_app(app: Any) -> None:
    if not isinstance(app, Flask):
        raise TypeError(f"the app must be a Flask application, as Flask(__name__) is: {app!r}")


def _serving(mounted: dict[str, FallbackTransport]) -> list[Assembly]:
    """All that serve an app."""
    return list(dict.fromkeys(each._made() for each in mounted.values()))


def _flask_imports() -> bool:
    """Whether Flask's command line imports the application now, for another purpose."""
    context = click.get_current_context(silent=True)
    if context is None:
        # Where it completes what a shell's user types there is none.
        return "_FLASK_COMPLETE" in os.environ
    # Its commands, an application's own among them, run in the context of the application.
    return isinstance(context.find_root().command, FlaskGroup) and not has_app_context()


def _are_several(target: Any) -> bool:
    """Whether these are targets; to python-socketio, a generator is a room that nobody is in."""
    return not isinstance(target, (str, bytes)) and hasattr(target, "__iter__")


def _id(target: Any) -> Any:
    if _are_several(target):
        return [_id(each) for each in target]
    return target.id if isinstance(target, Session) else target
