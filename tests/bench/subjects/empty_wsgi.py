"""A floor, a WSGI application that answers with the request's body: ``… MODE PORT``."""

from __future__ import annotations

import sys
from typing import Any

from tests.bench.subjects import patch, serve


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """What came, as it came."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


if __name__ == "__main__":
    mode, port = sys.argv[1], int(sys.argv[2])
    patch(mode)
    serve(mode, echo, port)
