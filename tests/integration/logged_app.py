"""The test application, which logs all that anybody has to say."""

from __future__ import annotations

import json
import logging
import sys

from tests.integration.application import make_app, patch


def main() -> None:
    mode, port = sys.argv[1], int(sys.argv[2])
    options = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    patch(mode)
    logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s")
    app, transport = make_app(mode, options)
    # python-socketio keeps itself quiet unless told otherwise.
    logging.getLogger("socketio.server").setLevel(logging.DEBUG)
    transport.run(app, port=port)


if __name__ == "__main__":
    main()
