"""A server for `FallbackTransport.WebSocket`: what it does with one is said by the URL's path.

``python -m tests.browser.interface.application MODE PORT [OPTIONS-AS-JSON]``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.integration.application import patch

SCRIPT = Path(__file__).with_name("cases.js")
PAGE = """<!doctype html>
<meta charset="utf-8">
<script src="/mount/fallback_transport.js"></script>
<script src="/cases.js"></script>
"""


def main() -> None:
    mode, port = sys.argv[1], int(sys.argv[2])
    patch(mode)

    import flask

    from fallback_transport import ConnectionRefused, FallbackTransport

    app = flask.Flask(__name__)
    transport = FallbackTransport(
        app, async_mode=mode, path="/mount", subprotocols=["one", "two"], socketio_path=None
    )
    closures: list[list[Any]] = []

    @transport.on_connect
    def connected(client: Any) -> None:
        arguments = flask.request.args
        match flask.request.path.removeprefix("/mount/"):
            case "tell":
                client.send(f"{client.url} {client.protocol}")
            case "slow":
                transport.server.sleep(0.5)
            case "refuse":
                raise ConnectionRefused(4401, "not you")
            case "close":
                client.send("before")
                client.close(int(arguments["code"]), arguments["reason"])
            case "burst":
                for number in range(20):
                    client.send(str(number))

    @transport.on_message
    def said(client: Any, data: Any) -> None:
        if data == "close":
            client.close(4321, "you said so")
        elif data == "carrier":
            client.send(client.transport)
        else:
            client.send(data)

    @transport.on_disconnect
    def gone(client: Any, code: int, reason: str) -> None:
        closures.append([client.url, code, reason])

    @app.get("/")
    def page() -> str:
        return PAGE

    @app.get("/cases.js")
    def script() -> Any:
        return flask.send_file(SCRIPT)

    @app.get("/later")
    def later() -> str:
        transport.server.sleep(0.3)
        return ""

    @app.get("/closures")
    def tell_closures() -> Any:
        return closures

    transport.run(app, port=port)


if __name__ == "__main__":
    main()
