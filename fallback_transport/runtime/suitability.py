"""Whether the server in front calls the application in the way that the async mode needs.

Asked of a request, in the place where it is answered: each server can be started with any
application, and only there it shows in what its requests run.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
import threading
from typing import Any

_SERVERS = {
    "eventlet": "serve with transport.run(app) or eventlet.wsgi",
    "gevent": 'serve with transport.run(app), gevent.pywsgi or "gunicorn -k gevent"',
    "threading": 'serve with transport.run(app), "flask run" or "gunicorn -k gthread --threads N"',
}

#: How sockets of the standard library are made to wait in each mode's hub.
_PATCHES = {"eventlet": "eventlet.monkey_patch()", "gevent": "gevent.monkey.patch_all()"}

#: What each mode but "threading" needs, as in pyproject.toml.
_NEEDS = {"eventlet": "eventlet>=0.40,<0.42", "gevent": "gevent>=24.2"}


class UnsuitableServer(RuntimeError):
    """The WSGI server is none for this async mode; the text says what to do."""


def missing(mode: str) -> str | None:
    """What to install for the async mode, or to do instead; None if all of it is there."""
    if mode not in _NEEDS:
        return None
    state = "is not installed"
    if importlib.util.find_spec(mode) is not None:
        try:
            # As python-socketio does, which says no more than that there is no such mode.
            if mode == "eventlet":
                import engineio.async_drivers.eventlet
            else:
                import engineio.async_drivers.gevent  # noqa: F401
        except ImportError as error:
            # Something that it needs itself, or another module by its name.
            state = f"cannot be imported ({error})"
        else:
            return None
    others = " or ".join(f'"{each}"' for each in _SERVERS if each != mode)
    return (
        f"async mode {mode!r} needs {mode}, which {state}: "
        f'pip install "{_NEEDS[mode]}"; or set async_mode to {others}'
    )


def patched_otherwise(mode: str) -> str | None:
    """What to do where the other hub has patched the process; None if it has not.

    Under eventlet's patch each greenlet has a hub of gevent's to itself, which nobody runs. Under
    gevent's alone, what waits runs that hub within eventlet's, and everybody waits with it.
    """
    eventlet, gevent = sys.modules.get("eventlet.patcher"), sys.modules.get("gevent.monkey")
    by_eventlet = eventlet is not None and eventlet.is_monkey_patched("thread")
    by_gevent = gevent is not None and gevent.is_module_patched("threading")
    if mode == "gevent" and by_eventlet:
        other = "eventlet"
    elif mode == "eventlet" and by_gevent and not by_eventlet:
        other = "gevent"
    else:
        return None
    return (
        f"async mode {mode!r} does not work after {_PATCHES[other]}: call {_PATCHES[mode]} "
        f'instead, before any other import, or set async_mode to "{other}"'
    )


def unpatched(mode: str, who: str) -> str | None:
    """What to do where sockets are as they are, and somebody waits in them; None in threads."""
    if mode not in _PATCHES:
        return None
    return (
        f"in async mode {mode!r}, {who} holds up the whole server unless sockets are "
        f"monkey-patched: call {_PATCHES[mode]} before any other import, or set async_mode to "
        '"threading"'
    )


def unsuitable(mode: str, environ: dict[str, Any]) -> str | None:
    """Why a request's server does not suit the async mode, and the cure; None if it does.

    Args:
        mode: "eventlet", "gevent" or "threading".
        environ: the request's, in the thread or task that answers it.
    """
    server = environ.get("SERVER_SOFTWARE") or "this WSGI server"
    carrier = _carrier()
    if carrier == "threading" and (
        not environ.get("wsgi.multithread") or _of_gunicorn(server, "threads") == 1
    ):
        return (
            f"{server} answers one request at a time here, and a poll takes seconds: "
            f"{_SERVERS[mode]}"
        )
    if _suits(mode, carrier):
        return None
    runs = "threads" if carrier == "threading" else f"{carrier}'s greenlets"
    others = " or ".join(f'"{each}"' for each in _SERVERS if _suits(each, carrier))
    return (
        f"async mode {mode!r} does not work on {server}, whose requests run in {runs}: "
        f"{_SERVERS[mode]}; or set async_mode to {others}, as this server has it"
    )


def restarts(environ: dict[str, Any]) -> str | None:
    """What is wrong with a server that ends its process now and then; None if it does not.

    Args:
        environ: a request's.
    """
    server = environ.get("SERVER_SOFTWARE") or ""
    most = _of_gunicorn(server, "max_requests")
    if not most:
        return None
    return (
        f"{server} ends this process after {most} requests (max_requests), and nobody is served "
        "until the last WebSocket is gone, or for 30 s and more: leave that setting out"
    )


def _of_gunicorn(server: str, setting: str) -> Any:
    """A setting of the gunicorn worker that this process is; None if it is none."""
    # The worker's configuration is in no environ; the worker is in the handlers of its signals.
    worker = getattr(signal.getsignal(signal.SIGQUIT), "__self__", None)
    found = getattr(getattr(worker, "cfg", None), setting, None)
    return found if server.startswith("gunicorn") else None


def _suits(mode: str, carrier: str) -> bool:
    return mode == carrier or (mode == "threading" and _threads_are_patched_by(carrier))


def _carrier() -> str:
    """What the caller runs in: a greenlet of eventlet's or gevent's, or a thread."""
    # What is not imported runs nothing.
    if "gevent" in sys.modules:
        import gevent

        if isinstance(gevent.getcurrent(), gevent.Greenlet):
            return "gevent"
    if "eventlet.hubs" in sys.modules:
        from eventlet import hubs

        # Those of patched threads are of no class of eventlet's. One without a parent is a thread's
        # own, and asking for its hub would make one.
        parent = hubs.greenlet.getcurrent().parent
        if parent is not None and parent is hubs.get_hub().greenlet:
            return "eventlet"
    return "threading"


def _threads_are_patched_by(carrier: str) -> bool:
    """Whether this greenlet is what `threading` takes for a thread."""
    return type(threading.Lock()).__module__.split(".")[0] == carrier
