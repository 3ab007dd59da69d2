"""The server of the soak: ``python -m tests.soak.application MODE PORT OPTIONS-AS-JSON``.

Its handlers write down what they see; of the sessions nothing is kept here once they are over.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.integration.application import patch, resident_bytes

#: Every so many messages down ask for a reply; as many again are questions of `request`.
ASK_EVERY = 8
#: Seconds for an answer to a question: longer than any network here is broken.
ANSWER_WAIT = 600.0


@dataclass
class Talk:
    """What one session's handlers share."""

    name: str
    stopped: bool = False
    producing: bool = False
    questions: int = 0
    sent: int = 0


class Repeats:
    """Counts what the machines send again, and drop: around the product, not in it."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(replayed=0, dropped=0)
        self._lock = threading.Lock()
        #: The highest number that each session has sent, by its key.
        self._highest: dict[str, int] = {}

    def watch(self) -> None:
        """Count from now on, in every session."""
        from fallback_transport.protocol.machine import SessionMachine
        from fallback_transport.protocol.reliability import Inbox
        from fallback_transport.protocol.server import ServerMachine

        take = Inbox.take

        def counted_take(inbox: Inbox, seq: int, items: Any) -> Any:
            fresh = take(inbox, seq, items)
            self._add("dropped", len(items) - len(fresh))
            return fresh

        Inbox.take = counted_take  # type: ignore[method-assign]
        for owner, name in ((SessionMachine, "pull"), (ServerMachine, "answer")):
            self._count_sent(owner, name)

    def _count_sent(self, owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def counted(machine: Any, *values: Any, **named: Any) -> Any:
            envelope = original(machine, *values, **named)
            if envelope is not None and envelope.messages:
                highest = self._highest.get(machine.key, 0)
                last = envelope.seq + len(envelope.messages) - 1
                self._add("replayed", max(0, min(highest, last) - envelope.seq + 1))
                self._highest[machine.key] = max(highest, last)
            return envelope

        setattr(owner, name, counted)

    def _add(self, name: str, number: int) -> None:
        with self._lock:
            self.counts[name] += number


def make_app(mode: str, path: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """The app, which writes its records to a file, and its transport."""
    import gc

    import flask

    from fallback_transport import FallbackTransport, RequestFailed

    from .contents import Contents
    from .records import Recorder

    app = flask.Flask(__name__)
    transport = FallbackTransport(app, async_mode=mode, **options)
    server = transport.server
    recorder = Recorder(path)
    repeats = Repeats()
    repeats.watch()
    opened: set[str] = set()

    @transport.on_connect
    def connected(client: Any) -> None:
        client.data["talk"] = Talk(client.auth["session"])
        opened.add(client.id)
        recorder.write(client.auth["session"], "connect")

    @transport.on_disconnect
    def disconnected(client: Any, code: int, reason: str) -> None:
        client.data["talk"].stopped = True
        recorder.write(client.data["talk"].name, "disconnect", number=code, value=reason)
        opened.discard(client.id)

    @transport.on_message("start")
    def start(client: Any, plan: dict[str, Any]) -> None:
        """Begin to send: {seed, rate}."""
        talk = client.data["talk"]
        talk.producing = True
        server.start_background_task(produce, client, talk, plan)

    def produce(client: Any, talk: Talk, plan: dict[str, Any]) -> None:
        contents = Contents(f"{plan['seed']} {talk.name} down")
        while True:
            server.sleep(contents.pause(plan["rate"]))
            if talk.stopped:
                break
            number, data = talk.sent, contents.next()
            talk.sent += 1
            callback = None
            if number % ASK_EVERY == 0:
                recorder.write(talk.name, "asked", "down", number)
                callback = answered(talk, number)
            recorder.message(talk.name, "sent", "down", number, data)
            server.emit("down", (number, data), to=client.id, callback=callback)
            if number % ASK_EVERY == ASK_EVERY // 2:
                talk.questions += 1
                server.start_background_task(question, client, talk, number)
        talk.producing = False

    def answered(talk: Talk, number: int) -> Any:
        def callback(*values: Any) -> None:
            recorder.write(talk.name, "answered", "down", number, value=values[0])

        return callback

    def question(client: Any, talk: Talk, number: int) -> None:
        recorder.write(talk.name, "asked", "question", number)
        try:
            answer = client.request("question", number, timeout=ANSWER_WAIT)
            recorder.write(talk.name, "answered", "question", number, value=answer)
        except RequestFailed as failure:
            recorder.write(talk.name, "failed", "question", number, value=failure)
        talk.questions -= 1

    @transport.on_message("up")
    def up(client: Any, number: int, data: Any) -> int:
        recorder.message(client.data["talk"].name, "got", "up", number, data)
        return number

    @transport.on_message("finish")
    def finish(client: Any, data: Any) -> int:
        """Stop sending, and wait for the answers to all questions."""
        talk = client.data["talk"]
        talk.stopped = True
        while talk.producing or talk.questions:
            server.sleep(0.05)
        return talk.sent

    @app.get("/page")
    def page() -> str:
        return (
            "<!doctype html><meta charset=utf-8><title>soak</title>"
            # Without it the browser looks for one.
            "<link rel=icon href=data:,>"
            "<script src=/fallback/fallback_transport.js></script>"
        )

    @app.get("/state")
    def tell_state() -> Any:
        gc.collect()
        return {
            "resident": resident_bytes(),
            "open": len(opened),
            **repeats.counts,
        }

    return app, transport


def main() -> None:
    mode, port, options = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    patch(mode)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    app, transport = make_app(mode, options.pop("records"), options)
    transport.run(app, port=port)


if __name__ == "__main__":
    main()
