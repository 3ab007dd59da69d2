"""The page of a `TestClient`: the client's half of a session, and what it does with packets."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

from flask import Flask
from flask.testing import EnvironBuilder
from socketio import packet as sio
from werkzeug.datastructures import Headers
from werkzeug.test import Client as HTTPClient

from ..engine_client import ERROR_REPLY
from ..failures import RequestFailed
from ..packets import Packet
from ..protocol.client import ClientMachine
from ..protocol.codes import CloseCode
from ..protocol.envelope import End, Envelope, Grant, Welcome
from ..protocol.events import (
    CloseReceived,
    ConnectionDropped,
    Event,
    MessageReceived,
    SessionClosed,
    Transport,
)
from ..protocol.message import Message
from ..protocol.reliability import Bounds
from ..session import check_name
from ..shortcut import message_of
from .links import Link, PollingLink, WebSocketLink
from .tasks import VirtualRuntime

Callback = Callable[[RequestFailed | None, Any], None]

#: What the test's own functions return when they raise.
_RAISED: Any = object()

_LINKS: dict[Transport, type[Link]] = {
    Transport.WEBSOCKET: WebSocketLink,
    Transport.POLLING: PollingLink,
}


class Doors:
    """The application's WSGI callable, and the requests that a page makes there.

    Args:
        app, path: the application, and the mount of the session's doors.
        headers, cookies: see `TestClient`.
    """

    def __init__(
        self,
        app: Flask,
        path: str,
        headers: Mapping[str, str],
        cookies: HTTPClient | Mapping[str, str] | None,
    ) -> None:
        self._app = app
        self._path = path
        self._headers = headers
        self._cookies = cookies
        builder = EnvironBuilder(app, environ_base={"REMOTE_ADDR": "127.0.0.1"})
        # The page comes from where its requests go to, as an app may trust one host only.
        host = Headers(headers).get("Host", builder.host)
        builder.headers["Origin"] = f"{builder.url_scheme}://{host}"
        self._base = builder.get_environ()
        #: For each door, the jar of the test client and what of it is sent there.
        self._sent: dict[str, tuple[dict[Any, Any], str | None]] = {}

    def request(self, door: str, body: bytes | None, headers: Mapping[str, str]) -> dict[str, Any]:
        """The environ of a request; made by hand, for an hour of polls has many."""
        environ = {**self._base, "PATH_INFO": f"{self._path}/{door}"}
        for name, value in (*headers.items(), *self._headers.items()):
            key = name.upper().replace("-", "_")
            environ[key if key == "CONTENT_TYPE" else "HTTP_" + key] = value
        if body is not None:
            environ["REQUEST_METHOD"] = "POST"
            environ["CONTENT_LENGTH"] = str(len(body))
            environ["wsgi.input"] = BytesIO(body)
        if isinstance(self._cookies, HTTPClient):
            self._add_cookies(self._cookies, door, environ)
        elif self._cookies:
            environ["HTTP_COOKIE"] = "; ".join(f"{k}={v}" for k, v in self._cookies.items())
        return environ

    def _add_cookies(self, client: HTTPClient, door: str, environ: dict[str, Any]) -> None:
        jar, (known, cookie) = client._cookies or {}, self._sent.get(door, ({}, None))
        if jar != known:
            # It goes through its jar, and through the address, each time.
            client._add_cookies_to_wsgi(environ)
            self._sent[door] = dict(jar), environ.get("HTTP_COOKIE")
        elif cookie is not None:
            environ["HTTP_COOKIE"] = cookie

    def answer(self, environ: dict[str, Any]) -> tuple[int, bytes]:
        """Status and body of the answer; status 0 if it was a WebSocket, and is over."""
        status = [0]

        def start_response(line: str, headers: Any, error: Any = None) -> Callable[[bytes], None]:
            status[0] = int(line[:3])
            return lambda data: None

        chunks = self._app(environ, start_response)
        try:
            # First: one that is a generator begins only now.
            body = b"".join(chunks)
            return status[0], body
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()


class Page:
    """See the module. It is what its links, and the tasks, know of their client.

    Args:
        runtime: the server's.
        doors: where its requests go.
        namespace, auth: see `TestClient`.
    """

    def __init__(self, runtime: VirtualRuntime, doors: Doors, namespace: str, auth: Any) -> None:
        self.runtime = runtime
        self.tasks = runtime.tasks
        self.doors = doors
        self.machine = ClientMachine(grant=Grant(), bounds=Bounds(), now=runtime.now())
        self.latency = 0.0
        self.links: list[Link] = []
        #: Whether something has happened to it, or a link of it, since it was last its turn.
        self.stirred = True
        #: The deadline of its machine, or one before it.
        self._due = math.inf
        #: Each event that came: its name and its arguments.
        self.received: list[tuple[str, tuple[Any, ...]]] = []
        self.listeners: dict[str, list[Callable[..., Any]]] = {}
        self.closed: tuple[int, str] | None = None
        self._namespace = namespace
        self._nonce = secrets.token_urlsafe(16)
        self._attempt = 0
        self._callbacks: dict[int, Callback] = {}
        self._next_id = 0
        self._partial: Any = None
        self._send(Packet(sio.CONNECT, data=auth, namespace=namespace))

    # -- for the client ------------------------------------------------------------------

    @property
    def link(self) -> Link | None:
        """The connection that carries the session."""
        carrier = self.machine.carrier
        attempt = carrier.attempt if carrier is not None and self.closed is None else None
        return next((link for link in self.links if link.attempt == attempt), None)

    def greet(self, transport: Transport) -> Link:
        """Say hello on a new connection."""
        self.stirred = True
        self._attempt += 1
        link = _LINKS[transport](self, self._attempt)
        self.links.append(link)
        nonce = self._nonce if self.machine.id is None else None
        link.greet(self.machine.hello(link.attempt, transport, nonce, self.tasks.time))
        return link

    def emit(self, name: str, data: tuple[Any, ...], callback: Callback | None) -> None:
        """Send an event.

        Raises:
            TypeError, ValueError: no event can have that name, or it is not JSON's.
        """
        check_name(name)
        number = None
        if callback is not None:
            number = self._next_id = self._next_id + 1
        packet = Packet(sio.EVENT, data=[name, *data], namespace=self._namespace, id=number)
        self._send(packet)
        if number is not None and callback is not None:
            self._callbacks[number] = callback

    def close(self, code: int, reason: str) -> None:
        """Close the session."""
        self._act(self.machine.close(code, reason, self.tasks.time))

    # -- for its links ---------------------------------------------------------------------

    def answered(self, link: Link) -> None:
        """A hello has its `answer`."""
        answer = link.answer
        if isinstance(answer, Welcome):
            events = self.machine.welcomed(answer, self.tasks.time)
            # First: the welcome may bring the server's close, which only what carries confirms.
            self._act(self.machine.commit(link.attempt) + events)
            return
        link.kill()
        self.lost(link.attempt)
        if isinstance(answer, End) and answer.session:
            self._act(self.machine.ended(answer))

    def arrived(self, attempt: int, unit: Envelope | End) -> None:
        """Something came on a connection."""
        if isinstance(unit, Envelope):
            self._act(self.machine.receive(attempt, unit, self.tasks.time))
        elif unit.session:
            self._act(self.machine.ended(unit))

    def lost(self, attempt: int) -> None:
        """A connection has ended by itself."""
        self._act(self.machine.detach(attempt, self.tasks.time))

    # -- for the tasks (see `tasks.Peer`) --------------------------------------------------

    def exchange(self) -> bool:
        if not self.stirred and self.deadline() > self.tasks.time:
            return False
        moved = False
        for link in list(self.links):
            moved = link.read() or moved
        if self.deadline() <= self.tasks.time:
            self._act(self.machine.timeout(self.tasks.time))
        # What writing stirs up is for the next turn.
        self.stirred = False
        for link in list(self.links):
            moved = link.write() or moved
        self.links = [link for link in self.links if not link.over]
        if self.closed is not None and not self.links:
            # Nothing more comes. An app of all tests is not to keep each page that one has closed.
            self.tasks.peers.remove(self)
        return moved

    def deadline(self) -> float:
        soonest = self.machine.soonest
        if soonest < self._due:
            # Where it is 0, nobody has looked.
            when = soonest or self.machine.deadline()
            self._due = math.inf if when is None else when
        return self._due

    # -- inside --------------------------------------------------------------------------

    def _act(self, events: list[Event]) -> None:
        self.stirred = True
        for event in events:
            if isinstance(event, MessageReceived):
                self._take(event.data)
                self._act(self.machine.handled(event.seq, self.tasks.time))
            elif isinstance(event, CloseReceived):
                self._act(self.machine.handled(event.seq, self.tasks.time))
            elif isinstance(event, ConnectionDropped):
                for link in self.links:
                    if link.attempt == event.attempt:
                        link.kill()
            elif isinstance(event, SessionClosed):
                self.closed = int(event.code), event.reason
                callbacks, self._callbacks = self._callbacks, {}
                error = RequestFailed(f"the session ended: {int(event.code)} {event.reason}")
                for callback in callbacks.values():
                    self._guard(callback, error, None)

    def _send(self, packet: Any, *, urgent: bool = False) -> None:
        self.stirred = True
        encoded = packet.encode()
        parts = encoded if isinstance(encoded, list) else [encoded]
        self.machine.send([message_of(part) for part in parts], urgent=urgent)

    def _take(self, data: str | bytes) -> None:
        if isinstance(data, bytes):
            if self._partial.add_attachment(data):
                self._packet(self._partial)
        elif data[:1] == ERROR_REPLY:
            # The same shape as an ACK, with an object for the list.
            packet = sio.Packet(encoded_packet="3" + data[1:])
            self._reply(packet.id, RequestFailed(packet.data["message"]), None)
        else:
            self._partial = packet = sio.Packet(encoded_packet=data)
            if not packet.attachment_count:
                self._packet(packet)

    def _packet(self, packet: Any) -> None:
        if packet.packet_type in (sio.EVENT, sio.BINARY_EVENT):
            name, *data = packet.data
            self.received.append((name, tuple(data)))
            self._listen(name, data, packet.id)
        elif packet.packet_type in (sio.ACK, sio.BINARY_ACK):
            self._reply(packet.id, None, one(tuple(packet.data)))

    def _reply(self, number: int, error: RequestFailed | None, reply: Any) -> None:
        callback = self._callbacks.pop(number, None)
        if callback is not None:
            self._guard(callback, error, reply)

    def _guard(self, function: Callable[..., Any], *values: Any) -> Any:
        """Call what the test has given; what it raises fails that, and harms nothing here.

        Returns:
            What it returned, or `_RAISED`.
        """
        try:
            return function(*values)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self.runtime.failed.append(error)
            return _RAISED

    def _listen(self, name: str, data: list[Any], number: int | None) -> None:
        replies = [self._guard(each, *data) for each in self.listeners.get(name, [])]
        if number is None or not self.machine.state.accepts_messages:
            return
        raised = any(each is _RAISED for each in replies)
        # Also what it returns may be impossible to send.
        if not replies or raised or self._guard(self._answer, number, replies[-1]) is _RAISED:
            what = "the listener raised" if replies else f"no listener for {name}"
            namespace = "" if self._namespace == "/" else self._namespace + ","
            error = json.dumps({"code": CloseCode.INTERNAL_ERROR, "message": what})
            self.machine.send([Message(f"{ERROR_REPLY}{namespace}{number}{error}")], urgent=True)

    def _answer(self, number: int, reply: Any) -> None:
        # None is nothing, as to python-socketio's client, and as `reply()` in a page.
        values = [] if reply is None else list(reply) if isinstance(reply, tuple) else [reply]
        self._send(Packet(sio.ACK, data=values, namespace=self._namespace, id=number), urgent=True)


def one(data: tuple[Any, ...]) -> Any:
    """One value as it is, none as None, several as a tuple."""
    return data if len(data) > 1 else data[0] if data else None
