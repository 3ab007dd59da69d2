"""Flask-SocketIO: ``python -m tests.bench.subjects.flask_socketio MODE PORT``."""

from __future__ import annotations

import sys

from tests.bench.subjects import BURST, MAX_CONNECTIONS, MAX_MESSAGE, patch

if __name__ == "__main__":
    mode, port = sys.argv[1], int(sys.argv[2])
    patch(mode)

    from flask import Flask
    from flask_socketio import SocketIO, emit

    app = Flask(__name__)
    socketio = SocketIO(app, async_mode=mode, max_http_buffer_size=MAX_MESSAGE)

    @socketio.on("connect")
    def connected() -> None:
        emit("first", "")

    @socketio.on("echo")
    def echo(data: str) -> None:
        emit("echo", data)

    @socketio.on("fan")
    def fan(data: str) -> None:
        emit("fan", data, broadcast=True)

    @socketio.on("burst")
    def burst(data: str) -> None:
        for _ in range(BURST):
            emit("fan", data, broadcast=True)

    @socketio.on("sink")
    def sink(data: str) -> None:
        emit("echo", "")

    more = {"max_size": MAX_CONNECTIONS} if mode == "eventlet" else {}
    socketio.run(app, port=port, **more)
