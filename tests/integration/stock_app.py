"""The test application, with a handler that says what its `client` is."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from tests.integration.application import make_app, patch


def main() -> None:
    mode, port = sys.argv[1], int(sys.argv[2])
    options = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    patch(mode)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    app, transport = make_app(mode, options)

    @transport.on_message("about")
    def about(client: Any, data: Any) -> Any:
        names = ("id", "reliable", "transport", "connected", "auth", "rooms", "closure")
        return {name: getattr(client, name) for name in names}

    transport.run(app, port=port)


if __name__ == "__main__":
    main()
