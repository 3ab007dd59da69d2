"""A Flask app like its users', for all the ways in which they start one.

In the environment are the async mode (ASYNC_MODE), whether a Flask-SocketIO is handed in
(HANDED_IN), whether SIGTERM drains (DRAIN), and whether nothing is monkey-patched (UNPATCHED).
``python -m tests.integration.launched_app SERVER PORT`` starts it as a program of one's own
would, with one of SERVERS.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

MODE = os.environ.get("ASYNC_MODE", "threading")
if __name__ == "__main__" and "UNPATCHED" not in os.environ:
    if MODE == "eventlet":
        import eventlet

        eventlet.monkey_patch()
    elif MODE == "gevent":
        from gevent import monkey

        monkey.patch_all()

from flask import Flask  # noqa: E402 - only now, as a program that patches has it

from fallback_transport import FallbackTransport  # noqa: E402

app = Flask(__name__)
if "HANDED_IN" in os.environ:
    from flask_socketio import SocketIO

    socketio = SocketIO(app, async_mode=MODE)
    transport = FallbackTransport(app, server=socketio, wait=5.0)
else:
    transport = FallbackTransport(app, async_mode=MODE, wait=5.0)


@app.get("/")
def index() -> str:
    return "an ordinary page"


@transport.on_message("echo")
def echo(client: Any, data: Any) -> Any:
    return data


@transport.on_message("tell")
def tell(client: Any, data: Any) -> None:
    transport.emit("told", data)


@transport.on_message("sleep")
def sleep(client: Any, data: Any) -> None:
    time.sleep(data)


@transport.on_message("fork")
def fork(client: Any, data: Any) -> int:
    """What SIGTERM makes of a process that was forked from this one: its exit code."""
    ears, voice = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(voice, b"!")
        time.sleep(60)
        os._exit(0)
    # Until it runs Python again, it forgets signals.
    os.read(ears, 1)
    os.kill(child, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def by_run(port: int) -> None:
    transport.run(app, port=port)


def by_socketio(port: int) -> None:
    more = {"allow_unsafe_werkzeug": True} if MODE == "threading" else {}
    socketio.run(app, port=port, **more)


def by_flask(port: int) -> None:
    app.run(port=port)


def by_eventlet(port: int) -> None:
    import eventlet
    from eventlet import wsgi

    wsgi.server(eventlet.listen(("127.0.0.1", port)), app)


def by_gevent(port: int) -> None:
    from gevent.pywsgi import WSGIServer

    WSGIServer(("127.0.0.1", port), app).serve_forever()


def by_wsgiref(port: int) -> None:
    from wsgiref.simple_server import make_server

    make_server("127.0.0.1", port, app).serve_forever()


SERVERS: dict[str, Callable[[int], None]] = {
    "run": by_run,
    "socketio": by_socketio,
    "flask": by_flask,
    "eventlet": by_eventlet,
    "gevent": by_gevent,
    "wsgiref": by_wsgiref,
}

if "DRAIN" in os.environ:
    transport.drain_on_sigterm()

if __name__ == "__main__":
    SERVERS[sys.argv[1]](int(sys.argv[2]))
