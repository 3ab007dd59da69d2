"""The servers in Python: ``python -m tests.soak.peers.servers LIBRARY PORT OPTIONS-AS-JSON``.

The libraries are flask_socketio and fallback_transport, both on eventlet. Options and doors are
those of servers.mjs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_NPM = Path(__file__).resolve().parents[2] / "node_modules"
_PAGE = (
    "<!doctype html><meta charset=utf-8><title>peer</title>"
    "<link rel=icon href=data:,><script src={}></script>"
)


class Users:
    """Who has come, and the messages for them.

    Args:
        options: {records, plan, pause}.
        background: starts a task.
        sleep: waits in it.
    """

    def __init__(
        self,
        options: dict[str, Any],
        background: Callable[..., Any],
        sleep: Callable[[float], Any],
    ) -> None:
        from tests.soak.records import Recorder

        self._texts = json.loads(Path(options["plan"]).read_text())["down"]
        self._recorder = Recorder(options["records"])
        self._pause = options["pause"]
        self._background = background
        self._sleep = sleep
        self._known: set[str] = set()
        self.sending = False

    def connected(self, name: str, send: Callable[[int, str], None]) -> None:
        """A user has come, again perhaps: from the first time on there are messages for them."""
        self._recorder.write(name, "connect")
        if name not in self._known:
            self._known.add(name)
            self._background(self._produce, name, send)

    def got(self, name: str, number: int, data: str) -> None:
        """A message has come from a user."""
        self._recorder.message(name, "got", "up", number, data)

    def _produce(self, name: str, send: Callable[[int, str], None]) -> None:
        for number, text in enumerate(self._texts):
            self._sleep(self._pause)
            if not self.sending:
                break
            self._recorder.message(name, "sent", "down", number, text)
            send(number, text)


def _add_doors(app: Any, users: Users, script: str) -> None:
    @app.get("/page")
    def page() -> str:
        return _PAGE.format(script)

    @app.get("/start")
    def start() -> Any:
        users.sending = True
        return {}

    @app.get("/stop")
    def stop() -> Any:
        users.sending = False
        return {}


def flask_socketio(port: int, options: dict[str, Any]) -> None:
    """Flask-SocketIO."""
    import flask
    from flask_socketio import SocketIO, join_room

    app = flask.Flask(__name__)
    socketio = SocketIO(app, async_mode="eventlet")
    users = Users(options, socketio.start_background_task, socketio.sleep)
    names: dict[str, str] = {}

    @socketio.on("connect")
    def connected(auth: Any) -> None:
        name = names[flask.request.sid] = auth["session"]  # type: ignore[attr-defined]
        join_room(name)
        users.connected(name, lambda number, text: socketio.emit("down", (number, text), to=name))

    @socketio.on("up")
    def up(number: int, data: str) -> None:
        users.got(names[flask.request.sid], number, data)  # type: ignore[attr-defined]

    @app.get("/client.js")
    def client() -> Any:
        return flask.send_file(_NPM / "socket.io-client/dist/socket.io.min.js")

    _add_doors(app, users, "/client.js")
    socketio.run(app, port=port)


def fallback_transport(port: int, options: dict[str, Any]) -> None:
    """This package."""
    import flask

    from fallback_transport import FallbackTransport

    app = flask.Flask(__name__)
    transport = FallbackTransport(app, async_mode="eventlet")
    users = Users(options, transport.server.start_background_task, transport.server.sleep)

    @transport.on_connect
    def connected(client: Any) -> None:
        name = client.auth["session"]
        client.join(name)
        users.connected(name, lambda number, text: transport.emit("down", (number, text), to=name))

    @transport.on_message("up")
    def up(client: Any, number: int, data: str) -> None:
        users.got(client.auth["session"], number, data)

    _add_doors(app, users, "/fallback/fallback_transport.js")
    transport.run(app, port=port)


if __name__ == "__main__":
    import eventlet

    eventlet.monkey_patch()
    serve = {"flask_socketio": flask_socketio, "fallback_transport": fallback_transport}
    serve[sys.argv[1]](int(sys.argv[2]), json.loads(sys.argv[3]))
