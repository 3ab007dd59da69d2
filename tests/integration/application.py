"""The Flask app that the integration tests talk to, in a process of its own.

``python -m tests.integration.application MODE PORT [OPTIONS-AS-JSON]`` serves it in
an async mode of python-socketio and prints one JSON line once it listens. What
its handlers saw can be asked over plain HTTP, so that a test needs no session
to learn what happened to another one.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections import defaultdict
from typing import Any


def patch(mode: str) -> None:
    """What an application of that mode does first."""
    if mode == "eventlet":
        import eventlet

        eventlet.monkey_patch()
    elif mode == "gevent":
        from gevent import monkey

        monkey.patch_all()


def resident_bytes() -> int:
    """The resident memory of this process (Linux)."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def make_app(mode: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """The app and its transport."""
    import gc

    import flask

    from fallback_transport import ConnectionRefused, FallbackTransport, RequestFailed

    app = flask.Flask(__name__)
    app.secret_key = "only for tests"
    transport = FallbackTransport(app, async_mode=mode, **options)
    #: What each session's handlers saw, in order: [kind, …].
    seen: dict[str, list[list[Any]]] = defaultdict(list)

    @transport.on_connect
    def connected(client: Any) -> None:
        seen[client.id].append(["connect", client.auth])
        auth = client.auth or {}
        if "refuse" in auth:
            raise ConnectionRefused(*auth["refuse"])
        if "crash" in auth:
            raise RuntimeError("the connect handler was told to raise")
        if flask.request.headers.get("X-Connect") == "TypeError":
            raise TypeError("the connect handler was told to raise")
        if "slow" in auth:
            transport.server.sleep(auth["slow"])
        if "block" in auth:
            busy(auth["block"])
        if "emit" in auth:
            client.emit("early", auth["emit"])
        if "ask" in auth:
            seen[client.id].append(["asked", ask(client)])
        for room in auth.get("rooms", ()):
            client.join(room)

    def busy(seconds: float) -> None:
        """Pass the time without giving way to anybody."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass

    def ask(client: Any) -> str:
        """How a request goes where none can be answered."""
        try:
            return f"answered {client.request('question', timeout=5)}"
        except RuntimeError as error:
            return f"RuntimeError: {error}"
        except RequestFailed as failure:
            return f"RequestFailed: {failure}"

    @transport.on_disconnect
    def disconnected(client: Any, code: int, reason: str) -> None:
        seen[client.id].append(["disconnect", code, reason])
        busy((client.auth or {}).get("block at end", 0))
        if "ask at end" in (client.auth or {}):
            seen[client.id].append(["asked", ask(client)])

    @transport.on_message
    def unnamed(client: Any, data: Any) -> Any:
        """An unnamed message comes back."""
        client.send(data)

    @transport.on_message("echo")
    def echo(client: Any, data: Any) -> Any:
        return data

    @transport.on_message("count")
    def count(client: Any, data: Any) -> None:
        """Numbered messages: only their numbers are kept."""
        seen[client.id].append(["count", data[0] if isinstance(data, list) else data])

    @transport.on_message("step")
    def step(client: Any, data: Any) -> None:
        """Numbered, and taking so many seconds: [number, seconds]."""
        transport.server.sleep(data[1])
        seen[client.id].append(["step", data[0]])

    @transport.on_message("noted")
    def noted(client: Any, data: Any) -> None:
        """Numbered, and noted where it outlives the process: [number, seconds]."""
        transport.server.sleep(data[1])
        client.emit("done", data[0])
        # In one piece, whatever other threads write.
        os.write(1, f"noted {client.id} {data[0]}\n".encode())

    @transport.on_message("pair")
    def pair(client: Any, data: Any = None, more: Any = None) -> Any:
        """Several values in, several out."""
        return data, more

    @transport.on_message("nothing")
    def nothing(client: Any, data: Any) -> None:
        seen[client.id].append(["nothing", data])

    @transport.on_message("produce")
    def produce(client: Any, data: Any) -> None:
        """Send `number` numbered messages of `size` bytes, `pause` seconds apart."""

        def run() -> None:
            for number in range(data["number"]):
                client.emit("produced", [number, "x" * data.get("size", 0), time.time()])
                transport.server.sleep(data.get("pause", 0))

        transport.server.start_background_task(run)

    @transport.on_message("broadcast")
    def broadcast(client: Any, data: Any) -> None:
        transport.emit("broadcast", data["data"], to=data.get("to"), skip=data.get("skip"))

    @transport.on_message("sleep")
    def sleep(client: Any, data: float) -> float:
        """Wait cooperatively."""
        transport.server.sleep(data)
        return data

    @transport.on_message("block")
    def block(client: Any, data: float) -> float:
        busy(data)
        return data

    @transport.on_message("work")
    def work(client: Any, data: float) -> float:
        """Work, and give way to the others again and again."""
        until = time.monotonic() + data
        while time.monotonic() < until:
            busy(0.1)
            transport.server.sleep(0)
        return data

    @transport.on_message("exit")
    def leave(client: Any, data: Any) -> None:
        """End the process, in the modes that have only one thread."""
        sys.exit(data)

    @transport.on_message("fork")
    def fork(client: Any, data: float) -> int:
        """Have another process, which waits for so many seconds as workers do for work."""
        process = os.fork()
        if process == 0:
            time.sleep(data)
            os._exit(0)
        return process

    @transport.on_message("crash")
    def crash(client: Any, data: Any) -> None:
        raise RuntimeError("the message handler was told to raise")

    @transport.on_message("ask back")
    def ask_back(client: Any, data: Any) -> Any:
        """Ask the client while it waits for us."""
        try:
            answer = client.request("question", data, timeout=20)
        except RequestFailed as failure:
            return {"failed": str(failure)}
        return {"answer": answer}

    @transport.on_message("ask once")
    def ask_once(client: Any, data: Any) -> str:
        """Ask the client, and give it `data` seconds."""
        try:
            answer = client.request("question", None, timeout=data)
        except RequestFailed as failure:
            seen[client.id].append(["failed", str(failure)])
            return f"failed: {failure}"
        return f"answered: {answer}"

    @transport.on_message("close")
    def close(client: Any, data: Any) -> None:
        client.close(*data)

    @transport.on_message("close later")
    def close_later(client: Any, data: Any) -> None:
        """Close when the client has lost its connection: [code, reason]."""
        while client.connected:
            transport.server.sleep(0.01)
        client.close(*data)
        seen[client.id].append(["closing"])

    @transport.on_message("rooms")
    def rooms(client: Any, data: Any) -> Any:
        for room in data.get("join", ()):
            client.join(room)
        for room in data.get("leave", ()):
            client.leave(room)
        return sorted(client.rooms)

    @transport.on_message("request context")
    def request_context(client: Any, data: Any) -> Any:
        try:
            flask.session["written"] = 1
            wrote = "written"
        except RuntimeError as error:
            wrote = str(error)
        return {
            "agent": flask.request.headers.get("User-Agent"),
            "app": flask.current_app.name,
            "session": dict(flask.session),
            "wrote": wrote,
        }

    @transport.on_message("place")
    def place(client: Any, data: Any) -> Any:
        """What the page has connected to."""
        request = flask.request
        return {
            "url": client.url,
            "protocol": client.protocol,
            "path": request.path,
            "query": request.args.to_dict(),
            "full": request.url,
            "view": request.endpoint,
            "offered": request.headers.get("Sec-WebSocket-Protocol"),
        }

    @app.route("/chat", methods=["GET", "POST"])
    @app.route("/chat/<path:below>", methods=["GET", "POST"])
    def chat(below: str = "") -> Any:
        """An application's own pages where a mount is."""
        return {"below": below, "body": flask.request.get_data(as_text=True)}

    @app.teardown_appcontext
    def torn_down(_: Any) -> None:
        app.config["TEARDOWNS"] = app.config.get("TEARDOWNS", 0) + 1

    @app.get("/")
    def page() -> str:
        return (
            "<!doctype html><meta charset=utf-8><title>test</title>"
            "<script src=/fallback/fallback_transport.js></script>"
        )

    @app.get("/broken")
    def broken() -> Any:
        """An answer whose rest is a defect, which is none of Flask's to see."""

        def parts() -> Any:
            yield "a" * 100
            raise RuntimeError("the view was told to raise")

        return parts()

    @app.get("/late")
    def late() -> Any:
        """A view that lets a time-out of the async mode out, which is no `Exception` to Flask."""
        if mode == "eventlet":
            from eventlet import Timeout
        else:
            from gevent import Timeout
        with Timeout(0.01):
            transport.server.sleep(60)

    @app.get("/endless")
    def endless() -> Any:
        """An answer that goes on until its reader is gone."""

        def parts() -> Any:
            try:
                while True:
                    yield "a" * 1000
                    transport.server.sleep(0.001)
            finally:
                app.config["ENDLESS"] = "over"

        return parts()

    @app.get("/seen")
    def tell_seen() -> Any:
        session_id = flask.request.args.get("session")
        return seen.get(session_id, []) if session_id else dict(seen)

    @app.get("/forget")
    def forget() -> Any:
        seen.clear()
        return {}

    @app.get("/state")
    def tell_state() -> Any:
        gc.collect()
        return {
            "resident": resident_bytes(),
            "threads": threading.active_count(),
            "teardowns": app.config.get("TEARDOWNS", 0),
            "endless": app.config.get("ENDLESS"),
            "sessions": len(transport.server.eio._conversations),
        }

    @app.get("/websockets")
    def tell_websockets() -> Any:
        """How many there still are; from now on, no garbage is collected."""
        gc.disable()
        found = [each for each in gc.get_objects() if type(each).__name__ == "WebSocketConnection"]
        return {"number": len(found)}

    @app.get("/held")
    def tell_held() -> Any:
        """The number of each poll of a session that is held."""
        conversation = transport.server.eio.conversation(flask.request.args["session"])
        runs = list(conversation._attachments.values()) if conversation is not None else []
        held = [dict(run._held) for run in runs if hasattr(run, "_held")]
        return [number for polls in held for number in polls for _ in polls[number]]

    @app.get("/login")
    def login() -> str:
        flask.session["user"] = flask.request.args["user"]
        return "logged in"

    return app, transport


def add_other_app(app: Any, mode: str) -> None:
    """A second app with its own sessions, below ``/other``; its handlers come before its app."""
    import flask
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    from fallback_transport import FallbackTransport

    transport = FallbackTransport(async_mode=mode)
    seen: list[str] = []

    @transport.on_connect
    def connected(client: Any) -> None:
        seen.append("connect")
        client.join("everybody")

    @transport.on_disconnect
    def disconnected(client: Any, code: int, reason: str) -> None:
        seen.append(f"disconnect {code}")

    @transport.on_message("who")
    def who(client: Any, data: Any) -> Any:
        return flask.current_app.name

    @transport.on_message("broadcast")
    def broadcast(client: Any, data: Any) -> None:
        transport.emit("broadcast", data, to="everybody")

    other = flask.Flask("the other app")
    transport.init_app(other)

    @other.get("/seen")
    def tell_seen() -> Any:
        return seen

    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/other": other.wsgi_app})


def wait_for_clients(seconds: float | None) -> None:
    """Have a client's deadline in a test's time."""
    if seconds is not None:
        from fallback_transport import hub_gateway
        from fallback_transport.runtime import wire

        wire.CLIENT_WAIT = hub_gateway.CLIENT_WAIT = seconds


def main() -> None:
    # Whoever runs the tests in the background of a shell has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    mode, port = sys.argv[1], int(sys.argv[2])
    options = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    host = options.pop("host", "127.0.0.1")
    patch(mode)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    with_other = options.pop("other_app", False)
    wait_for_clients(options.pop("client_wait", None))
    app, transport = make_app(mode, options)
    if with_other:
        add_other_app(app, mode)
    transport.run(app, host=host, port=port)


if __name__ == "__main__":
    main()
