"""The socket behind a WSGI request, which a server hands over, and what it gets back instead.

WSGI (PEP 3333) has no way to do so; each server has one of its own.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from .suitability import UnsuitableServer


def take_socket(mode: str, environ: dict[str, Any]) -> socket.socket:
    """The socket behind a WSGI request, for the transport to use from now on.

    Raises:
        UnsuitableServer: the server does not give it; the text names the cure.
    """
    taken = environ.get("fallback_transport.socket") or environ.get("werkzeug.socket")
    taken = taken or environ.get("gunicorn.socket")
    if taken is None and "eventlet.input" in environ:
        taken = environ["eventlet.input"].get_socket()
    if taken is None:
        taken = pywsgi_socket(environ)
    if taken is None:
        raise UnsuitableServer(
            f"WebSocket in async mode {mode!r} does not work on "
            f"{environ.get('SERVER_SOFTWARE', 'this WSGI server')}: serve with "
            "FallbackTransport.run(), or with a server made for that mode"
        )
    sock: socket.socket = taken
    sock.settimeout(None)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def hurry(mode: str, environ: dict[str, Any]) -> None:
    """Let the answer to a request go out at once, on a server that does not see to it.

    With gevent's pywsgi, as Flask-SocketIO runs it, each answer on a connection that is
    used again would wait 40 ms for an ack.
    """
    if mode == "gevent" and "fallback_transport.socket" not in environ:
        sock = pywsgi_socket(environ)
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def released(
    environ: dict[str, Any],
    start_response: Callable[..., Any],
    status: str = "101 Switching Protocols",
) -> list[bytes]:
    """What the WSGI application returns once it is done with a taken socket.

    Args:
        environ, start_response: the request's.
        status: what was answered on the socket, for the server's log.
    """
    # First: socketio.WSGIApp adds eventlet's name to gunicorn's.
    taken = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if taken is not None:
        # Its own answer then fails like one to a client that has gone, which is no error to it;
        # an exception of ours, also the one that gunicorn knows, would be one to a debugger, to
        # Sentry, and to all that stands in front.
        with contextlib.suppress(OSError):
            taken.shutdown(socket.SHUT_RDWR)
        start_response(status, [])
    elif "eventlet.input" in environ:
        from eventlet.wsgi import WSGI_LOCAL

        WSGI_LOCAL.already_handled = True
    elif hasattr(environ["wsgi.input"], "_chunked_input_error"):
        # pywsgi's word for a body whose rest is not to be read.
        environ["wsgi.input"]._chunked_input_error = True
    return []


def pywsgi_socket(environ: dict[str, Any]) -> socket.socket | None:
    """The socket of a request to gevent's pywsgi; None if it is another server's."""
    if not environ.get("SERVER_SOFTWARE", "").startswith("gevent"):
        return None
    # It is kept behind the buffered reader, which an upgrade is given bare.
    reader = getattr(environ["wsgi.input"], "rfile", environ["wsgi.input"])
    sock: socket.socket | None = getattr(getattr(reader, "raw", None), "_sock", None)
    return sock
