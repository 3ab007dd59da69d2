"""An app whose users log in: by Flask-Login's cookie, or by a token in `auth`.

``python -m tests.integration.login_app MODE PORT [OPTIONS-AS-JSON]``, as `application`. It logs
at level DEBUG, so that a test can look for what must not be in a log.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import defaultdict
from typing import Any

from tests.integration.application import patch

#: Logs a page in without a cookie.
TOKEN = "a-token-that-is-in-no-log"


def make_app(mode: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """The app and its transport."""
    import flask
    import flask_login

    from fallback_transport import ConnectionRefused, FallbackTransport

    app = flask.Flask(__name__)
    app.secret_key = "only for tests"
    manager = flask_login.LoginManager(app)
    transport = FallbackTransport(app, async_mode=mode, **options)
    #: What the handlers of each user's sessions saw, in order.
    seen: dict[str, list[list[Any]]] = defaultdict(list)
    #: Users whose logins do not hold any more.
    expired: set[str] = set()

    class User(flask_login.UserMixin):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            self.id = name

    @manager.user_loader
    def load(name: str) -> User | None:
        return None if name in expired else User(name)

    @transport.on_connect
    def connected(client: Any) -> None:
        user = flask_login.current_user
        if client.auth is not None:
            if client.auth.get("token") != TOKEN:
                raise ConnectionRefused(reason="a valid token, please")
            user = User(client.auth["user"])
        if not user.is_authenticated:
            raise ConnectionRefused(4001, "log in first")
        client.data["user"] = user.id
        client.join(f"user:{user.id}")
        seen[user.id].append(["connect"])

    @transport.on_resume
    def resumed(client: Any) -> None:
        name = client.data["user"]
        user = flask_login.current_user
        seen[name].append(["resume", user.is_authenticated, client.transport])
        if flask.request.headers.get("X-Resume") == "raise":
            raise RuntimeError("the resume handler was told to raise")
        if not user.is_authenticated or user.id != name:
            raise ConnectionRefused(4002, "the login has expired")

    @transport.on_disconnect
    def disconnected(client: Any, code: int, reason: str) -> None:
        seen[client.data.get("user", "nobody")].append(["disconnect", code, reason])

    @transport.on_message("who")
    def who(client: Any, data: Any) -> Any:
        seen[client.data["user"]].append(["who", data])
        return client.data["user"]

    @app.get("/login")
    def login() -> str:
        flask_login.login_user(User(flask.request.args["user"]))
        return "logged in"

    @app.get("/logout")
    @flask_login.login_required  # type: ignore[untyped-decorator]
    def logout() -> str:
        transport.disconnect(f"user:{flask_login.current_user.id}", 4003, "logged out")
        flask_login.logout_user()
        return "logged out"

    @app.get("/expire")
    def expire() -> Any:
        """The login of `user` holds no more; with `now`, its sessions end."""
        name = flask.request.args["user"]
        expired.add(name)
        if "now" in flask.request.args:
            transport.disconnect(lambda client: client.data.get("user") == name, 4004, "expired")
        return {}

    @app.get("/seen")
    def tell_seen() -> Any:
        return seen[flask.request.args["user"]]

    return app, transport


def main() -> None:
    mode, port = sys.argv[1], int(sys.argv[2])
    options = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    patch(mode)
    logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s")
    app, transport = make_app(mode, options)
    transport.run(app, port=port)


if __name__ == "__main__":
    main()
