"""Stock Socket.IO clients for tests: python-socketio's, and npm's in a Node.js process.

Both are driven alike. Neither reconnects: what happens to one connection is seen.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import itertools
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import engineio.payload
import requests
import socketio

# Beyond 16 packets in one answer to a poll, which a server sends where there are as many, the
# Python client gives its connection up.
engineio.payload.Payload.max_decode_packets = 1000

T = TypeVar("T")
TIMEOUT = 15.0

#: How a client may be told to connect; None is its default, polling first and then an upgrade.
TRANSPORTS: tuple[tuple[str, ...] | None, ...] = (("polling",), ("websocket",), None)


def our_tracebacks(log: str) -> list[str]:
    """The tracebacks in a server's log that our package has a part in.

    The stock engine, which it calls, leaves some of its own: it sends to closed WebSockets.
    """
    found = []
    for text in log.split("Traceback (most recent call last):")[1:]:
        lines = text.splitlines()[1:]
        end = next((n for n, line in enumerate(lines) if line and line[0] != " "), len(lines))
        trace = "\n".join(lines[: end + 1])
        ours = trace.rfind("/fallback_transport/") > trace.rfind("/engineio/")
        if ours and "told to" not in "".join(lines[end : end + 1]):
            found.append(trace)
    return found


class StockClient(Protocol):
    """One connection of a stock client."""

    #: What came, in order: [name, …data]; "connect", "disconnect" and others are its own.
    events: list[list[Any]]

    @property
    def sid(self) -> str: ...
    def emit(self, name: str, *data: Any) -> None: ...
    def call(self, name: str, *data: Any) -> Any: ...
    def transport(self) -> str: ...
    def disconnect(self) -> None: ...
    def cut(self) -> None: ...
    def drop(self) -> None: ...


class _Events:
    """Events, and who waits for them."""

    def __init__(self) -> None:
        self.events: list[list[Any]] = []
        self._changed = threading.Condition()

    def came(self, *event: Any) -> None:
        with self._changed:
            self.events.append(list(event))
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], T], timeout: float = TIMEOUT) -> T:
        """Wait until `condition`; it is asked whenever something came."""
        with self._changed:
            found = self._changed.wait_for(condition, timeout)
            if not found:
                raise TimeoutError(f"not within {timeout} s; there were {self.events!r:.2000}")
            return found

    def named(self, name: str) -> list[Any]:
        """The data of each event of this name: what there was, or a list of several."""
        found = [event[1:] for event in list(self.events) if event[0] == name]
        return [data[0] if len(data) == 1 else data for data in found]

    def wait_named(self, name: str, count: int = 1) -> list[Any]:
        """The data of the events of this name, once there are so many."""
        return self.wait_for(lambda: self.named(name) if len(self.named(name)) >= count else [])


class PythonClient(_Events):
    """A `socketio.Client`. It answers every "question" with what it was asked."""

    def __init__(
        self,
        url: str,
        transports: tuple[str, ...] | None,
        auth: Any = None,
        headers: Mapping[str, str] | None = None,
        namespace: str = "/",
    ) -> None:
        super().__init__()
        self._namespace = namespace
        self._client = client = socketio.Client(reconnection=False, handle_sigint=False)
        client.on("*", self._event, namespace=namespace)
        client.on("disconnect", lambda reason: self.came("disconnect", reason), namespace=namespace)
        client.on(
            "connect_error", lambda data=None: self.came("connect_error", data), namespace=namespace
        )
        client.on("connect", lambda: self.came("connect"), namespace=namespace)
        # It would have a thread for each message, and handle them in whatever order those run.
        engine = client.eio
        trigger = engine._trigger_event
        engine._trigger_event = lambda *args, **_: trigger(*args)
        client.connect(
            url,
            transports=list(transports) if transports else None,
            auth=auth,
            headers=dict(headers or {}),
            namespaces=[namespace],
            # When it is refused it would wait for its poll, which a server may hold for 25 s.
            wait=False,
        )
        engine = client.eio
        self._url: str = engine.base_url
        self._tasks = engine.read_loop_task, engine.write_loop_task
        self._queue = engine.queue
        self._http = engine.http or requests.Session()
        self._ws = engine.ws
        if self._ws is not None:
            # It would wait 3 s for the server's close, which no threaded server sends in time.
            self._ws.close = functools.partial(self._ws.close, timeout=0)
        self.wait_for(lambda: self.named("connect") or self.named("connect_error"))
        self._sid: str = client.get_sid(namespace)

    def _event(self, name: str, *data: Any) -> Any:
        self.came(name, *data)
        return data if name == "question" else None

    @property
    def sid(self) -> str:
        return self._sid

    def emit(self, name: str, *data: Any) -> None:
        self._client.emit(name, data, namespace=self._namespace)

    def call(self, name: str, *data: Any) -> Any:
        answer = self._client.call(name, data, namespace=self._namespace, timeout=TIMEOUT)
        # As npm's client gives it.
        return answer[0] if isinstance(answer, tuple) else answer

    def transport(self) -> str:
        name: str = self._client.transport()
        return name

    def disconnect(self) -> None:
        if self._client.transport() == "polling":
            # It sends nothing more once it is told to leave: not what is still in its queue.
            self._client.eio.queue.join()
        self._client.disconnect()
        self.drop()

    def cut(self) -> None:
        with contextlib.suppress(OSError):
            self._client.eio.ws.sock.shutdown(socket.SHUT_RDWR)

    def drop(self) -> None:
        """End it, whatever it is still doing."""
        engine = self._client.eio
        if engine.current_transport == "polling":
            # What it does by itself takes up to 25 s: so the server is told that it is gone, and
            # its next poll fails.
            if self._tasks[0].is_alive():
                requests.post(self._url, data="1", timeout=TIMEOUT)
        elif engine.state == "connected":
            engine.disconnect(abort=True)
        # It can miss its own signal to end.
        self._queue.put(None)
        for task in self._tasks:
            # Its threads are daemons; whether it ends them in time is not for us to prove.
            task.join(TIMEOUT)
        self._http.close()
        if self._ws is not None:
            self._ws.shutdown()


class NodeClients:
    """The Node.js process, and its clients. A context manager."""

    def __init__(self, node: str) -> None:
        self._process = subprocess.Popen(
            [node, str(Path(__file__).with_name("stock_client.mjs"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._numbers = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._clients: dict[str, NodeClient] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> NodeClients:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # It ends with its input.
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        self._process.stdout.close()

    def open(
        self,
        url: str,
        transports: tuple[str, ...] | None,
        auth: Any = None,
        headers: Mapping[str, str] | None = None,
        namespace: str = "/",
    ) -> NodeClient:
        """A client that has connected, or was refused."""
        client = NodeClient(self, f"client {next(self._numbers)}")
        self._clients[client.name] = client
        options: dict[str, Any] = {"auth": auth or {}, "extraHeaders": dict(headers or {})}
        if transports:
            options["transports"] = list(transports)
        self.ask(client.name, "open", url=url + namespace, options=options)
        client.wait_for(lambda: client.named("connect") or client.named("connect_error"))
        return client

    def ask(self, client: str, command: str, **more: Any) -> Any:
        """Give a command; what it came to."""
        number = next(self._numbers)
        line = {"id": number, "client": client, "do": command, **more}
        assert self._process.stdin is not None
        with self._changed:
            self._process.stdin.write(json.dumps(_packed(line)) + "\n")
            self._process.stdin.flush()
            if not self._changed.wait_for(lambda: number in self._answers, TIMEOUT + 5):
                raise TimeoutError(f"{command} of {client}: no answer of Node.js")
            answer = self._answers.pop(number)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["value"]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = _unpacked(json.loads(line))
            if "event" in told:
                self._clients[told["client"]].came(*told["event"])
                continue
            with self._changed:
                self._answers[told["id"]] = told
                self._changed.notify_all()


class NodeClient(_Events):
    """One client of `NodeClients`. It answers every question with what it was asked."""

    def __init__(self, clients: NodeClients, name: str) -> None:
        super().__init__()
        self.name = name
        self._clients = clients

    @property
    def sid(self) -> str:
        connect = next(event for event in self.events if event[0] == "connect")
        sid: str = connect[1]
        return sid

    def emit(self, name: str, *data: Any) -> None:
        self._clients.ask(self.name, "emit", data=[name, *data])

    def call(self, name: str, *data: Any) -> Any:
        timeout = TIMEOUT * 1000
        return self._clients.ask(self.name, "call", data=[name, *data], timeout=timeout)

    def transport(self) -> str:
        name: str = self._clients.ask(self.name, "transport")
        return name

    def disconnect(self) -> None:
        self._clients.ask(self.name, "disconnect")

    def cut(self) -> None:
        self._clients.ask(self.name, "cut")

    def drop(self) -> None:
        self.disconnect()


def _packed(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        return [_packed(each) for each in value]
    if isinstance(value, dict):
        return {name: _packed(each) for name, each in value.items()}
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(each) for each in value]
    if isinstance(value, dict):
        if isinstance(value.get("$bytes"), str):
            return base64.b64decode(value["$bytes"])
        return {name: _unpacked(each) for name, each in value.items()}
    return value
