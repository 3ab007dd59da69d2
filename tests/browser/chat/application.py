"""The chat's server as a Flask application, and the page with another constructor.

``python -m tests.browser.chat.application MODE PORT [OPTIONS-AS-JSON]``.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from tests.browser.chat.rooms import PAGE, SUBPROTOCOL, Rooms
from tests.integration.application import patch

PLAIN, OURS = "new WebSocket(", "new FallbackTransport.WebSocket("
SCRIPT = '<script src="/chat/fallback_transport.js"></script>\n'


def main() -> None:
    mode, port = sys.argv[1], int(sys.argv[2])
    patch(mode)

    import flask

    from fallback_transport import FallbackTransport

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    app = flask.Flask(__name__)
    transport = FallbackTransport(
        app,
        async_mode=mode,
        path="/chat",
        subprotocols=[SUBPROTOCOL],
        socketio_path=None,
        # Firefox now and then does not send the beacon of a page that is closed.
        inactivity=10.0,
    )
    rooms = Rooms()
    closures: list[list[Any]] = []

    @transport.on_connect
    def connected(client: Any) -> None:
        rooms.enter(client.id, flask.request.args["room"], client.send)

    @transport.on_message
    def said(client: Any, text: str) -> None:
        rooms.take(client.id, text)

    @transport.on_disconnect
    def gone(client: Any, code: int, reason: str) -> None:
        closures.append([client.url, client.protocol, code, reason])
        rooms.leave(client.id)

    @app.get("/")
    def page() -> str:
        # The one word, and where it is to be had.
        assert PAGE.count(PLAIN) == 1
        return PAGE.replace(PLAIN, OURS).replace("<script>", SCRIPT + "<script>")

    @app.get("/closures")
    def tell_closures() -> Any:
        return closures

    transport.run(app, port=port)


if __name__ == "__main__":
    main()
