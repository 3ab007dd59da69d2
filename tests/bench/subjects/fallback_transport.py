"""This package: ``python -m tests.bench.subjects.fallback_transport MODE [BINDING] PORT``."""

from __future__ import annotations

import sys
from typing import Any

from tests.bench.subjects import BURST, patch

if __name__ == "__main__":
    mode, binding, port = sys.argv[1], (sys.argv[2:-1] or ["auto"])[0], int(sys.argv[-1])
    patch(mode)

    from flask import Flask

    from fallback_transport import FallbackTransport

    app = Flask(__name__)
    transport = FallbackTransport(app, async_mode=mode, binding=binding)

    @transport.on_connect
    def connected(client: Any) -> None:
        client.emit("first", "")

    @transport.on_message("echo")
    def echo(client: Any, data: str) -> None:
        client.emit("echo", data)

    @transport.on_message("fan")
    def fan(client: Any, data: str) -> None:
        transport.emit("fan", data)

    @transport.on_message("burst")
    def burst(client: Any, data: str) -> None:
        for _ in range(BURST):
            transport.emit("fan", data)

    @transport.on_message("sink")
    def sink(client: Any, data: str) -> None:
        client.emit("echo", "")

    transport.run(app, port=port)
