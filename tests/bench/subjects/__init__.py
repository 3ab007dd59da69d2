"""The servers that are measured, each a small program of its own: ``… MODE PORT``.

All do the same. To whoever connects they send "first"; "echo" comes back to its sender; "fan"
goes to everybody, "burst" `BURST` times over; "sink" is answered with an empty "echo". Settings
are the defaults, but for what a comment says: limits that the load would reach.
"""

from __future__ import annotations

from typing import Any

#: Messages of a burst; the .mjs subjects and measures.py have the same.
BURST = 100
#: Bytes that a peer must take for a message of 1 MB: their default is 1,000,000 with the frame.
MAX_MESSAGE = 4_000_000
#: Connections, which eventlet's server counts to 1024 by default.
MAX_CONNECTIONS = 20_000


def patch(mode: str) -> None:
    """What an application of that async mode does first."""
    if mode == "eventlet":
        import eventlet

        eventlet.monkey_patch()
    elif mode == "gevent":
        from gevent import monkey

        monkey.patch_all()


def serve(mode: str, application: Any, port: int) -> None:
    """Serve WSGI until the process ends, on the server that python-socketio names for the mode."""
    if mode == "eventlet":
        import eventlet

        eventlet.wsgi.server(
            eventlet.listen(("127.0.0.1", port)),
            application,
            max_size=MAX_CONNECTIONS,
            log_output=False,
            debug=False,
        )
    elif mode == "gevent":
        from gevent import pywsgi

        pywsgi.WSGIServer(("127.0.0.1", port), application, log=None).serve_forever()
    else:
        from werkzeug.serving import WSGIRequestHandler, run_simple

        class Quiet(WSGIRequestHandler):
            """No line per request, as the others; and connections that stay."""

            protocol_version = "HTTP/1.1"

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                pass

        run_simple("127.0.0.1", port, application, threaded=True, request_handler=Quiet)
