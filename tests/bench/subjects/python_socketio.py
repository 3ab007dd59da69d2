"""python-socketio without Flask: ``python -m tests.bench.subjects.python_socketio MODE PORT``.

It stands on the server that its documentation names for the mode: eventlet.wsgi, gevent.pywsgi,
Werkzeug's threaded one.
"""

from __future__ import annotations

import sys
from typing import Any

from tests.bench.subjects import BURST, MAX_MESSAGE, patch, serve

if __name__ == "__main__":
    mode, port = sys.argv[1], int(sys.argv[2])
    patch(mode)

    import socketio

    server = socketio.Server(async_mode=mode, max_http_buffer_size=MAX_MESSAGE)

    @server.event
    def connect(sid: str, environ: dict[str, Any]) -> None:
        server.emit("first", "", to=sid)

    @server.event
    def echo(sid: str, data: str) -> None:
        server.emit("echo", data, to=sid)

    @server.event
    def fan(sid: str, data: str) -> None:
        server.emit("fan", data)

    @server.event
    def burst(sid: str, data: str) -> None:
        for _ in range(BURST):
            server.emit("fan", data)

    @server.event
    def sink(sid: str, data: str) -> None:
        server.emit("echo", "", to=sid)

    serve(mode, socketio.WSGIApp(server), port)
