"""The chat's server as a tutorial has it, on WebSockets alone.

``python -m tests.browser.chat.plain MODE PORT [OPTIONS-AS-JSON]``; there is but one mode.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from tests.browser.chat.rooms import PAGE, SUBPROTOCOL, Rooms


def main() -> None:
    rooms = Rooms()

    def page(connection: ServerConnection, request: Any) -> Any:
        if urlsplit(request.path).path == "/chat":
            return None
        response = connection.respond(HTTPStatus.OK, PAGE)
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "text/html; charset=utf-8"
        return response

    def chat(socket: ServerConnection) -> None:
        assert socket.request is not None, "the handshake is over"
        [room] = parse_qs(urlsplit(socket.request.path).query)["room"]

        def send(text: str) -> None:
            # Who is going is told no more.
            with suppress(ConnectionClosed):
                socket.send(text)

        rooms.enter(socket, room, send)
        try:
            for text in socket:
                assert isinstance(text, str), "the page sends no bytes"
                rooms.take(socket, text)
        finally:
            rooms.leave(socket)

    server = serve(
        chat,
        "127.0.0.1",
        int(sys.argv[2]),
        process_request=page,
        subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
    )
    server.serve_forever()


if __name__ == "__main__":
    main()
