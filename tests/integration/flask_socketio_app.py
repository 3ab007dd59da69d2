"""A Flask-SocketIO app as its tutorial and example write one; the hand-in is the only change.

``python -m tests.integration.flask_socketio_app MODE PORT [OPTIONS-AS-JSON]``; with
``{"plain": true}`` the hand-in is left out, and it is nothing but Flask-SocketIO.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from threading import Lock
from typing import Any

from tests.integration.application import patch


def make_app(mode: str, plain: bool, socketio_options: dict[str, Any]) -> tuple[Any, Any]:
    from flask import Flask, copy_current_request_context, request, session
    from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
    from flask_socketio import (
        ConnectionRefusedError,
        Namespace,
        SocketIO,
        close_room,
        disconnect,
        emit,
        join_room,
        leave_room,
        rooms,
        send,
    )

    app = Flask(__name__)
    app.config["SECRET_KEY"] = "secret!"
    login_manager = LoginManager(app)
    socketio = SocketIO(app, async_mode=mode, **socketio_options)

    if not plain:
        from fallback_transport import FallbackTransport

        FallbackTransport(app, server=socketio)

    thread = None
    thread_lock = Lock()
    #: What the handlers saw, for the tests: [event, sid, …].
    seen: list[list[Any]] = []

    class User(UserMixin):
        def __init__(self, name: str) -> None:
            self.id = name

    @login_manager.user_loader
    def load_user(name: str) -> User:
        return User(name)

    # -- HTTP ----------------------------------------------------------------------

    @app.route("/login/<name>")
    def login(name: str) -> str:
        login_user(User(name))
        session["from the view"] = name
        return "logged in"

    @app.route("/logout")
    def logout() -> str:
        logout_user()
        return "logged out"

    @app.route("/announce/<text>")
    def announce(text: str) -> Any:
        socketio.emit("announcement", {"text": text})
        socketio.emit("announcement", {"text": text, "to": "admins"}, namespace="/admin")
        return {"announced": text}

    @app.route("/seen")
    def tell_seen() -> Any:
        sid = request.args["session"]
        return [[event, *rest] for event, of, *rest in seen if of == sid]

    # -- the chat ------------------------------------------------------------------

    def background_thread() -> None:
        """Example of how to send server generated events to clients."""
        count = 0
        while True:
            socketio.sleep(0.05)
            count += 1
            socketio.emit("tick", {"count": count}, to="ticks")

    @socketio.on("connect")
    def test_connect(auth: Any) -> None:
        nonlocal thread
        seen.append(["connect", request.sid, auth])
        if (auth or {}).get("refuse"):
            raise ConnectionRefusedError("unauthorized!", {"code": 4010})
        with thread_lock:
            if thread is None:
                thread = socketio.start_background_task(background_thread)
        session["receive_count"] = 0
        emit("my_response", {"data": "Connected", "count": 0})

    @socketio.on("disconnect")
    def test_disconnect(reason: str) -> None:
        seen.append(["disconnect", request.sid, reason, session.get("receive_count")])

    @socketio.event
    def my_event(message: Any) -> None:
        session["receive_count"] = session.get("receive_count", 0) + 1
        emit("my_response", {"data": message["data"], "count": session["receive_count"]})

    @socketio.event
    def my_broadcast_event(message: Any) -> None:
        emit("my_response", {"data": message["data"]}, broadcast=True)

    @socketio.event
    def others_event(message: Any) -> None:
        emit("my_response", {"data": message["data"]}, broadcast=True, include_self=False)

    @socketio.event
    def join(message: Any) -> Any:
        join_room(message["room"])
        return rooms()

    @socketio.event
    def leave(message: Any) -> Any:
        leave_room(message["room"])
        return rooms()

    @socketio.on("close_room")
    def on_close_room(message: Any) -> None:
        emit("my_response", {"data": f"Room {message['room']} is closing."}, to=message["room"])
        close_room(message["room"])

    @socketio.event
    def my_room_event(message: Any) -> None:
        emit("my_response", {"data": message["data"]}, to=message["room"])

    @socketio.event
    def disconnect_request() -> None:
        @copy_current_request_context
        def can_disconnect() -> None:
            disconnect()

        # For this emit we use a callback function; when it is invoked we know that the message
        # has been received and it is safe to disconnect.
        emit("my_response", {"data": "Disconnected!"}, callback=can_disconnect)

    @socketio.event
    def my_ping() -> None:
        emit("my_pong")

    @socketio.on("message")
    def handle_message(data: Any) -> None:
        send(data)

    @socketio.on("json")
    def handle_json(data: Any) -> None:
        send(data, json=True)

    # -- acknowledgements ------------------------------------------------------------

    @socketio.event
    def my_event_with_ack(one: Any, two: Any = None) -> Any:
        return "received", one, two

    @socketio.event
    def ask(data: Any) -> None:
        """The answer comes back as an event of its own."""

        def answered(*values: Any) -> None:
            emit("answered", {"values": list(values), "sid": request.sid})

        emit("question", data, callback=answered)

    @socketio.event
    def call(data: Any) -> Any:
        return {"answer": socketio.call("question", data, to=request.sid, timeout=10)}

    # -- files, users, errors --------------------------------------------------------

    @socketio.event
    def upload(name: str, content: bytes) -> Any:
        emit("uploaded", {"name": name, "parts": [content[:3], {"rest": content[3:]}]})
        return hashlib.sha256(content).hexdigest()

    @socketio.event
    def whoami() -> Any:
        environ = socketio.server.get_environ(request.sid)
        return {
            "sid": request.sid,
            "namespace": request.namespace,
            "event": request.event["message"],
            "agent": request.headers.get("User-Agent"),
            "user": current_user.get_id(),
            "session": {name: session[name] for name in ("from the view",) if name in session},
            "same request": environ["REMOTE_ADDR"] == request.remote_addr,
        }

    @socketio.event
    def transport() -> Any:
        return socketio.server.transport(request.sid)

    @socketio.event
    def user_session(value: Any) -> Any:
        """python-socketio's own."""
        with socketio.server.session(request.sid) as kept:
            before = kept.get("value")
            kept["value"] = value
        return before

    @socketio.event
    def crash(data: Any) -> None:
        raise ValueError(data)

    @socketio.on_error()
    def chat_error_handler(error: Exception) -> Any:
        seen.append(["error", request.sid, str(error)])
        return {"error": str(error)}

    @socketio.event
    def step(number: int, seconds: float) -> None:
        socketio.sleep(seconds)
        seen.append(["step", request.sid, number])

    @socketio.on("*")
    def catch_all(event: str, *data: Any) -> Any:
        return {"event": event, "data": list(data)}

    # -- a namespace -------------------------------------------------------------------

    class Admin(Namespace):
        def on_connect(self, auth: Any = None) -> Any:
            if not current_user.is_authenticated:
                return False
            seen.append(["admin connect", request.sid, current_user.get_id()])
            join_room("admins")
            return None

        def on_disconnect(self, reason: str) -> None:
            seen.append(["admin disconnect", request.sid, reason])

        def on_announce(self, text: str) -> str:
            emit("announced", {"text": text, "by": current_user.get_id()}, to="admins")
            # And to those in the other namespace.
            emit("announced", {"text": text}, namespace="/", broadcast=True)
            return request.namespace

        def on_crash(self, data: Any) -> None:
            raise ValueError(data)

    @socketio.on_error_default
    def default_error_handler(error: Exception) -> Any:
        return {"default": str(error)}

    socketio.on_namespace(Admin("/admin"))
    return app, socketio


def main() -> None:
    mode, port = sys.argv[1], int(sys.argv[2])
    options = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    patch(mode)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    app, socketio = make_app(mode, options.pop("plain", False), options)
    more = {"allow_unsafe_werkzeug": True} if mode == "threading" else {}
    socketio.run(app, port=port, **more)


if __name__ == "__main__":
    main()
