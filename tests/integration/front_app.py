"""A Flask app whose own routes tell what they got: what stands in front of it must not matter.

``python -m tests.integration.front_app MODE PORT [OPTIONS-AS-JSON]``. Beside those of
`FallbackTransport` there are the options ``fix``, arguments of a `ProxyFix`; ``fix_first``,
whether that is there before the transport; ``middleware``, whether there is some of another
kind, in front of all; and ``slow_log``, whether the log is written cooperatively.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

from tests.integration.application import patch


class Marking:
    """WSGI middleware that leaves its mark on each request that it sees."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        environ["HTTP_X_MARK"] = "seen by the middleware"
        return self._app(environ, start_response)


def make_app(mode: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """The app and its transport."""
    import flask
    from werkzeug.middleware.proxy_fix import ProxyFix

    from fallback_transport import FallbackTransport

    app = flask.Flask(__name__)
    fix, fix_first = options.pop("fix", None), options.pop("fix_first", False)
    middleware = options.pop("middleware", False)
    if fix is not None and fix_first:
        app.wsgi_app = ProxyFix(app.wsgi_app, **fix)
    transport = FallbackTransport(app, async_mode=mode, **options)
    if fix is not None and not fix_first:
        app.wsgi_app = ProxyFix(app.wsgi_app, **fix)
    if middleware:
        app.wsgi_app = Marking(app.wsgi_app)
    hits: list[str] = []

    @transport.on_message("request")
    def request(client: Any, data: Any) -> Any:
        """All that a handler can see of its hello's request."""
        environ = {k: v for k, v in flask.request.environ.items() if isinstance(v, str)}
        return environ, flask.request.url, flask.request.remote_addr

    @transport.on_message("echo")
    def echo(client: Any, data: Any) -> Any:
        return data

    @app.route("/echo", methods=["GET", "POST", "PUT"])
    @app.route("/fallback/mine/poll", methods=["GET", "POST"])
    def echoed() -> Any:
        hits.append(flask.request.args.get("mark", ""))
        body = flask.request.get_data()
        headers = flask.request.headers
        return {
            "method": flask.request.method,
            "body": body.decode("latin-1"),
            "mark": headers.get("X-Mark"),
            "path": flask.request.path,
        }

    @app.get("/stream")
    def stream() -> Any:
        def parts() -> Iterator[str]:
            for number in range(3):
                yield f"part {number}\n" * 1000
                transport.server.sleep(0.01)

        return flask.Response(parts())

    @app.get("/hits")
    def tell_hits() -> Any:
        return hits

    return app, transport


class SlowLog(logging.StreamHandler[Any]):
    """Writes as one that sends each line to a server does: while others run."""

    def emit(self, record: logging.LogRecord) -> None:
        import eventlet

        eventlet.sleep(0.002)
        super().emit(record)


def main() -> None:
    mode, port = sys.argv[1], int(sys.argv[2])
    options = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    patch(mode)
    form = "%(levelname)s %(name)s: %(message)s"
    handlers = [SlowLog()] if options.pop("slow_log", False) else None
    logging.basicConfig(level=logging.INFO, format=form, handlers=handlers)
    app, transport = make_app(mode, options)
    transport.run(app, port=port)


if __name__ == "__main__":
    main()
