"""A plain python-socketio app with namespaces as classes, beside Flask, and handed in.

``python -m tests.integration.python_socketio_app MODE PORT [OPTIONS-AS-JSON]``. With
``{"outer": true}`` the whole is wrapped by `socketio.WSGIApp`, as python-socketio's own
documents have it; else the Flask app is, from within. It is served as each async mode's
users serve it, not by `FallbackTransport.run`.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from tests.integration.application import patch


def make_app(mode: str, outer: bool, server_options: dict[str, Any]) -> tuple[Any, Any]:
    """The WSGI application and the server."""
    import flask
    import socketio

    from fallback_transport import FallbackTransport

    sio = socketio.Server(async_mode=mode, **server_options)
    app = flask.Flask("handed in")
    #: What the handlers saw, for the tests: [event, sid, …].
    seen: list[list[Any]] = []

    @app.route("/seen")
    def tell_seen() -> Any:
        sid = flask.request.args["session"]
        return [[event, *rest] for event, of, *rest in seen if of == sid]

    class Chat(socketio.Namespace):
        def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> Any:
            seen.append(["connect", sid, auth, environ["REMOTE_ADDR"]])
            if (auth or {}).get("refuse"):
                raise socketio.exceptions.ConnectionRefusedError("no", {"code": 4020})
            if (auth or {}).get("reject"):
                return False
            with self.session(sid) as session:
                session["name"] = (auth or {}).get("name")
            self.enter_room(sid, "lobby")
            return None

        def on_disconnect(self, sid: str, reason: str) -> None:
            seen.append(["disconnect", sid, reason, self.get_session(sid).get("name")])

        def on_say(self, sid: str, text: Any, room: str = "lobby") -> int:
            name = self.get_session(sid)["name"]
            self.emit("said", {"name": name, "text": text}, room=room)
            return len(list(self.server.manager.get_participants(self.namespace, room)))

        def on_say_to_others(self, sid: str, text: Any) -> None:
            self.emit("said", {"text": text}, room="lobby", skip_sid=sid)

        def on_move(self, sid: str, room: str) -> list[str]:
            self.leave_room(sid, "lobby")
            self.enter_room(sid, room)
            return self.rooms(sid)

        def on_ask(self, sid: str, data: Any) -> Any:
            return {"answer": self.call("question", data, to=sid, timeout=10)}

        def on_ask_other(self, sid: str, other: str, data: Any) -> Any:
            return {"answer": self.call("question", data, to=other, timeout=10)}

        def on_leave(self, sid: str) -> None:
            self.disconnect(sid)

        def on_close_room(self, sid: str, room: str) -> None:
            self.close_room(room)

        def on_about(self, sid: str) -> Any:
            server = self.server
            return {
                "sid": sid,
                "transport": server.transport(sid, self.namespace),
                "path": server.get_environ(sid, self.namespace)["PATH_INFO"],
                "session": self.get_session(sid)["name"],
            }

    sio.register_namespace(Chat("/chat"))
    # Handlers of ours, in the default namespace of the same server, for both kinds of clients.
    transport = FallbackTransport(server=sio)

    @transport.on_connect
    def connected(client: Any) -> None:
        client.join("lobby")

    @transport.on_message("hello")
    def hello(client: Any, data: Any) -> Any:
        transport.emit("greeted", {"by": client.id, "data": data}, to="lobby")
        return [flask.current_app.name, client.reliable]

    if not outer:
        app.wsgi_app = socketio.WSGIApp(sio, app.wsgi_app)  # type: ignore[method-assign]
    transport.init_app(app)
    return (socketio.WSGIApp(sio, app) if outer else app), sio


def serve(mode: str, application: Any, port: int) -> None:
    if mode == "eventlet":
        import eventlet
        import eventlet.wsgi

        eventlet.wsgi.server(eventlet.listen(("127.0.0.1", port)), application, log_output=False)
    elif mode == "gevent":
        from gevent import pywsgi

        pywsgi.WSGIServer(("127.0.0.1", port), application, log=None).serve_forever()
    else:
        from werkzeug.serving import run_simple

        run_simple("127.0.0.1", port, application, threaded=True)


def main() -> None:
    mode, port = sys.argv[1], int(sys.argv[2])
    options = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    patch(mode)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    application, _ = make_app(mode, options.pop("outer", False), options)
    serve(mode, application, port)


if __name__ == "__main__":
    main()
