"""The server of the runs: serves their page, exchanges messages with it, keeps what each end saw.

``python -m tests.engines.application MODE PORT [OPTIONS-AS-JSON]``, like the
integration tests' application. A run is opened at ``/run/NAME/?number=…`` and
asked for at ``/record?run=NAME``.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.engines.contents import ASKS, CHARACTERS, KINDS, SIZES, content, digest, reply_to
from tests.integration.application import patch

PAGE = Path(__file__).with_name("page.js")
#: Milliseconds after which a page reports what it has, complete or not.
LIMIT = 45_000
DOWN = 2


@dataclass
class Log:
    """What this end saw of one run, in order, and the page's report once it has come.

    `sessions` has the id of each session that on_connect got: there should be one.
    """

    sessions: list[str] = field(default_factory=list)
    received: list[list[Any]] = field(default_factory=list)
    replies: list[list[Any]] = field(default_factory=list)
    disconnects: list[list[Any]] = field(default_factory=list)
    report: dict[str, Any] | None = None


def make_app(mode: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """The app and its transport."""
    import flask

    from fallback_transport import FallbackTransport, RequestFailed

    policy = options.pop("policy", None)
    app = flask.Flask(__name__)
    transport = FallbackTransport(app, async_mode=mode, **options)
    logs: dict[str, Log] = {}
    violations: list[str] = []

    @transport.on_connect
    def connected(client: Any) -> None:
        log = logs[client.auth["run"]]
        log.sessions.append(client.id)
        transport.server.start_background_task(produce, client, log, client.auth)

    @transport.on_disconnect
    def disconnected(client: Any, code: int, reason: str) -> None:
        logs[client.auth["run"]].disconnects.append([code, reason])

    @transport.on_message("up")
    def up(client: Any, number: int, data: str | bytes) -> int:
        logs[client.auth["run"]].received.append([number, *digest(data)])
        return reply_to(number)

    @transport.on_message("report")
    def report(client: Any, data: dict[str, Any]) -> None:
        logs[client.auth["run"]].report = data

    def produce(client: Any, log: Log, plan: dict[str, Any]) -> None:
        """The other direction: half of it at once, the rest after the pause."""
        for number in range(plan["number"]):
            if number == plan["number"] // 2:
                transport.server.sleep(plan["pause"] / 1000)
            values = (number, content(DOWN, number))
            if number % ASKS:
                client.emit("down", values)
                continue
            try:
                # As long as the page has: the path may be a slow one.
                reply = client.request("ask", values, timeout=plan["limit"] / 1000)
                log.replies.append([number, reply])
            except RequestFailed as failure:
                log.replies.append([number, str(failure)])

    @app.get("/run/<run>/")
    def page(run: str) -> Any:
        logs.setdefault(run, Log())
        query = flask.request.query_string.decode()
        # Only with a policy: it should come to nothing, and the browser should say so.
        inline = "<script>inline = 1;</script>" if "inline" in flask.request.args else ""
        response = flask.make_response(
            "<!doctype html><html><head><meta charset=utf-8><title>run</title>"
            # Without it a browser looks for one.
            "<link rel=icon href=/icon></head><body>"
            f"{inline}<script src=/fallback/fallback_transport.js></script>"
            f"<script src=page.js?{query}></script></body></html>"
        )
        if policy:
            response.headers["Content-Security-Policy"] = policy
        return response

    @app.get("/icon")
    def icon() -> Any:
        return "", 204

    @app.get("/run/<run>/page.js")
    def script(run: str) -> Any:
        asked = flask.request.args
        plan = {
            "run": run,
            "number": asked.get("number", 0, int),
            "pause": asked.get("pause", 0, int),
            "limit": asked.get("limit", LIMIT, int),
            "sizes": SIZES,
            "kinds": KINDS,
            "asks": ASKS,
            "characters": CHARACTERS,
        }
        # ASCII alone: what an old engine takes a script's encoding for is not the question here.
        text = f"var RUN = {json.dumps(plan)};\n{PAGE.read_text()}"
        return flask.Response(text, content_type="application/javascript")

    @app.post("/run/<run>/report")
    def reported(run: str) -> str:
        logs[run].report = json.loads(flask.request.get_data())
        return "reported"

    @app.post("/violation")
    def violated() -> Any:
        """What a browser says of a Content-Security-Policy that was violated."""
        violations.append(flask.request.get_data(as_text=True))
        return "", 204

    @app.get("/violations")
    def tell_violations() -> Any:
        return violations

    @app.get("/record")
    def record() -> Any:
        return asdict(logs.get(flask.request.args["run"], Log()))

    return app, transport


def main() -> None:
    mode, port = sys.argv[1], int(sys.argv[2])
    options = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    patch(mode)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    host = options.pop("host", "127.0.0.1")
    app, transport = make_app(mode, options)
    transport.run(app, host=host, port=port)


if __name__ == "__main__":
    main()
