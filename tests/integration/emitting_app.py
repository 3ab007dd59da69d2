"""An app that emits from everywhere: a view, a task, an OS thread, through a client manager.

``python -m tests.integration.emitting_app MODE PORT {"redis": URL, "redis_options": {...}}``
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.integration.application import patch


def os_thread(mode: str) -> type[Any]:
    """The class of threads that no monkey patch has changed."""
    if mode == "eventlet":
        from eventlet import patcher

        found: type[Any] = patcher.original("threading").Thread
    elif mode == "gevent":
        from gevent.threading import Thread as found  # a task; the threads are in its pool
    else:
        from threading import Thread as found
    return found


def in_os_thread(mode: str, run: Callable[[], None]) -> None:
    """Run it beside everything else, in a thread of the operating system."""
    if mode == "gevent":
        import gevent

        gevent.get_hub().threadpool.spawn(run)
    else:
        os_thread(mode)(target=run, daemon=True).start()


def in_callback(mode: str, run: Callable[[], None]) -> None:
    """Run it soon: in the hub itself, if the mode has one."""
    if mode == "eventlet":
        from eventlet.hubs import get_hub

        get_hub().schedule_call_global(0, run)
    elif mode == "gevent":
        import gevent

        gevent.get_hub().loop.run_callback(run)
    else:
        threading.Timer(0, run).start()


def make_app(mode: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """The app and its transport."""
    import flask
    import socketio

    from fallback_transport import FallbackTransport

    app = flask.Flask(__name__)
    if "redis" in options:
        options["client_manager"] = socketio.RedisManager(
            options.pop("redis"), redis_options=options.pop("redis_options", None)
        )
    transport = FallbackTransport(app, async_mode=mode, **options)

    clients: dict[str, Any] = {}

    @transport.on_connect
    def enter(client: Any) -> None:
        clients[client.id] = client
        for number in range((client.auth or {}).get("early", 0)):
            client.emit("early", number)

    @transport.on_message("join")
    def join(client: Any, room: str) -> None:
        client.join(room)

    @transport.on_message("tell")
    def tell(client: Any, text: str) -> float:
        """Tell everybody; how long `emit` took."""
        begun = time.monotonic()
        transport.emit("news", text)
        return time.monotonic() - begun

    @transport.on_message("echo")
    def echo(client: Any, data: Any) -> Any:
        return data

    def several(count: int) -> None:
        for number in range(count):
            transport.emit("news", [number, b"\x00" * (number % 3)])

    @transport.on_message("task")
    def task(client: Any, count: int) -> None:
        transport.server.start_background_task(several, count)

    @transport.on_message("handler")
    def handler(client: Any, count: int) -> None:
        several(count)

    @transport.on_message("callback")
    def callback(client: Any, count: int) -> None:
        in_callback(mode, lambda: several(count))

    @transport.on_message("back")
    def back(client: Any, data: Any) -> Any:
        """To this client alone, and as the reply, too."""
        client.emit("back", data)
        return data

    @transport.on_message("produce")
    def produce(client: Any, count: int, size: int) -> None:
        for number in range(count):
            client.emit("produced", [number, "x" * size])

    @transport.on_message("thread")
    def thread(client: Any, count: int) -> None:
        in_os_thread(mode, lambda: several(count))

    @transport.on_message("threads")
    def threads(client: Any, count: int) -> None:
        """Several at once, and each for this client alone."""

        def run(number: int) -> None:
            for step in range(count):
                client.emit("step", [number, step, b"\x00"])

        for number in range(4):
            in_os_thread(mode, lambda number=number: run(number))

    @transport.on_message("close")
    def close(client: Any, data: Any) -> None:
        def run() -> None:
            client.emit("last")
            client.close(4001, "from a thread")

        in_os_thread(mode, run)

    @transport.on_message("drain")
    def drain(client: Any, seconds: float) -> None:
        """From a thread, when nothing else has woken the one that serves for a while."""

        def run() -> None:
            transport.server.sleep(seconds)
            transport.drain(1.0)

        in_os_thread(mode, run)

    @transport.on_message("ask")
    def ask(client: Any, data: Any) -> None:
        """Ask from a thread: an answer, or why there cannot be one."""

        def run() -> None:
            try:
                client.emit("answer", client.request("question", timeout=5))
            except RuntimeError as error:
                client.emit("answer", str(error))

        in_os_thread(mode, run)

    @app.get("/emit")
    def emit() -> str:
        arguments = flask.request.args
        for _ in range(int(arguments.get("times", 1))):
            transport.emit("news", arguments["text"], to=arguments.get("to"))
        return "{}"

    @app.get("/fork")
    def fork() -> str:
        """Another process emits, as a job of `multiprocessing` does, and ends sessions."""
        process = os.fork()
        if process == 0:
            transport.emit("news", flask.request.args["text"])
            for client in clients.values():
                client.emit("news", "to you")
                client.close(4001, "in a fork")
            # For what would go out by a thread.
            time.sleep(0.5)
            os._exit(0)
        os.waitpid(process, 0)
        return "{}"

    @app.get("/stats")
    def stats() -> dict[str, Any]:
        return transport.stats()

    return app, transport


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    mode, port = sys.argv[1], int(sys.argv[2])
    patch(mode)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    app, transport = make_app(mode, json.loads(sys.argv[3]))
    transport.run(app, port=port)


if __name__ == "__main__":
    main()
