"""A chat: users log in, enter rooms, say things, upload pictures; a clock ticks for everybody."""

from __future__ import annotations

import hashlib
from typing import Any

import flask
import flask_login

from fallback_transport import ConnectionRefused, FallbackTransport, Session


class User(flask_login.UserMixin):
    """Whoever gives a name."""

    def __init__(self, name: str) -> None:
        self.id = name


def create_app(async_mode: str = "eventlet", **options: Any) -> tuple[flask.Flask, Any]:
    """The application, and its transport."""
    app = flask.Flask(__name__)
    app.secret_key = "only for tests"
    login = flask_login.LoginManager(app)
    login.user_loader(User)
    transport = FallbackTransport(app, async_mode=async_mode, **options)
    #: What was said, in order: the application's "database".
    app.config["SAID"] = said = []
    ticking = False

    @app.post("/login")
    def log_in() -> str:
        flask_login.login_user(User(flask.request.form["name"]))
        return "welcome"

    @app.post("/announce")
    def announce() -> str:
        transport.emit("announcement", flask.request.form["text"])
        return "announced"

    @transport.on_connect
    def connected(client: Session) -> None:
        if not flask_login.current_user.is_authenticated:
            raise ConnectionRefused(reason="log in first")
        client.data["name"] = flask_login.current_user.id
        client.emit("hello", client.data["name"])

    @transport.on_message("enter")
    def enter(client: Session, room: str) -> int:
        client.join(room)
        transport.emit("entered", client.data["name"], to=room, skip=client)
        client.data["room"] = room
        return len(said)

    @transport.on_message("say")
    def say(client: Session, text: str) -> str:
        if not text:
            raise ValueError("say something")
        said.append(text)
        transport.emit("said", text, to=client.data["room"])
        return f"number {len(said)}"

    @transport.on_message("upload")
    def upload(client: Session, picture: bytes) -> dict[str, Any]:
        return {"size": len(picture), "sum": hashlib.sha256(picture).digest()}

    @transport.on_message("duel")
    def duel(client: Session, rounds: int) -> int:
        return sum(client.request("draw", number) for number in range(rounds))

    @transport.on_message("tick")
    def tick(client: Session, seconds: float) -> None:
        nonlocal ticking
        if not ticking:
            ticking = True
            transport.server.start_background_task(ticker, seconds)

    def ticker(seconds: float) -> None:
        number = 0
        while True:
            transport.server.sleep(seconds)
            number += 1
            transport.emit("tick", number)

    @transport.on_message
    def unnamed(client: Session, data: str | bytes) -> None:
        client.send(data)

    @transport.on_disconnect
    def disconnected(client: Session, code: int, reason: str) -> None:
        if "room" in client.data:
            transport.emit("left", [client.data["name"], code], to=client.data["room"])

    return app, transport
