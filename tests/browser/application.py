"""The server of the browser tests: the integration tests' application, and streams of messages.

``python -m tests.browser.application MODE PORT [OPTIONS-AS-JSON]``, as there.
A page says "stream" with what is to come, then both ends send numbered
messages, and each checks every one that it gets: its number, its content, and
how long it was under way.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.browser.payloads import Payloads
from tests.integration.application import make_app, patch

#: Bytes that may be unconfirmed before the production pauses, far below the outbox's bound.
BACKLOG = 1_000_000
#: How many violations are kept for the report.
KEPT = 20


@dataclass
class Stream:
    """What one session has sent and got.

    Args:
        up: the contents that are to come; None: whatever comes is taken.
        number: how many messages are to be sent.
    """

    up: Payloads | None
    number: int
    sent: int = 0
    received: int = 0
    bytes: int = 0
    wrong: list[str] = field(default_factory=list)
    #: When each message came, and the seconds that it was under way.
    delays: list[tuple[float, float]] = field(default_factory=list)

    def take(self, number: int, data: Any, sent_at: float) -> None:
        """Check a message."""
        now = time.time()
        if number != self.received:
            self._wrong(f"expected {self.received}, got {number}")
        elif self.up is not None and data != self.up[number]:
            self._wrong(f"the content of {number} is wrong: {data!r:.60}")
        self.received += 1
        self.bytes += len(data)
        self.delays.append((now, now - sent_at))

    def _wrong(self, what: str) -> None:
        if len(self.wrong) < KEPT:
            self.wrong.append(what)


def add_streams(app: Any, transport: Any) -> None:
    """Add the handlers, a page, and ``/stream``, which tells what they saw."""
    import flask

    streams: dict[str, Stream] = {}

    def payloads(plan: dict[str, Any], direction: str) -> Payloads | None:
        if "seed" not in plan:
            return None
        return Payloads(f"{plan['seed']} {direction}", plan["number"])

    @transport.on_message("stream")
    def stream(client: Any, plan: dict[str, Any]) -> None:
        """Take, and produce, `number` messages, `rate` a second; of the contents of `seed`."""
        mine = streams[client.id] = Stream(payloads(plan, "up"), plan["number"])
        down = payloads(plan, "down")
        transport.server.start_background_task(produce, client, mine, down, plan)

    def produce(client: Any, mine: Stream, down: Payloads | None, plan: dict[str, Any]) -> None:
        outbox = client._conversation.machine.outbox
        due = time.monotonic()
        while mine.sent < mine.number and client._conversation is not None:
            due += 1 / plan["rate"]
            while outbox.bytes > BACKLOG and client._conversation is not None:
                transport.server.sleep(0.01)
            transport.server.sleep(max(0.0, due - time.monotonic()))
            if mine.sent >= mine.number:
                break
            data = "x" if down is None else down[mine.sent]
            client.emit("down", (mine.sent, data, time.time()))
            mine.sent += 1

    @transport.on_message("up")
    def up(client: Any, number: int, data: Any, sent_at: float) -> int:
        streams[client.id].take(number, data, sent_at)
        return number

    @transport.on_message("stop stream")
    def stop_stream(client: Any, data: Any) -> int:
        mine = streams[client.id]
        mine.number = mine.sent
        return mine.sent

    @app.get("/stream")
    def tell_stream() -> Any:
        mine = streams[flask.request.args["session"]]
        told = asdict(mine, dict_factory=lambda pairs: {k: v for k, v in pairs if k != "up"})
        if "brief" in flask.request.args:
            del told["delays"]
        return told

    @app.get("/page")
    def empty_page() -> str:
        return (
            "<!doctype html><meta charset=utf-8><title>test</title>"
            # Without it the browser looks for one, and complains on the console.
            "<link rel=icon href=data:,>"
            "<script src=/fallback/fallback_transport.js></script>"
        )


def main() -> None:
    mode, port = sys.argv[1], int(sys.argv[2])
    options = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    host = options.pop("host", "127.0.0.1")
    patch(mode)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    app, transport = make_app(mode, options)
    add_streams(app, transport)
    transport.run(app, host=host, port=port)


if __name__ == "__main__":
    main()
