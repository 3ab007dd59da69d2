"""The test application, which logs all that anybody has to say."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from tests.integration.application import make_app, patch
from tests.integration.emitting_app import os_thread


class ToPages(logging.Handler):
    """Emits each line, and has not written it before that is done; though not for ever.

    Args:
        transport: whose pages are told.
        mode: the async mode.
    """

    def __init__(self, transport: Any, mode: str) -> None:
        super().__init__()
        self._transport = transport
        self._thread = os_thread(mode)

    def emit(self, record: logging.LogRecord) -> None:
        telling = self._thread(target=self._transport.emit, args=("line", record.getMessage()))
        telling.start()
        telling.join(30)


def main() -> None:
    mode, port = sys.argv[1], int(sys.argv[2])
    options = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    patch(mode)
    logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s")
    to_pages = options.pop("to_pages", False)
    app, transport = make_app(mode, options)
    if to_pages:
        logging.getLogger("fallback_transport.session.end").addHandler(ToPages(transport, mode))
    # python-socketio keeps itself quiet unless told otherwise.
    logging.getLogger("socketio.server").setLevel(logging.DEBUG)
    transport.run(app, port=port)


if __name__ == "__main__":
    main()
