"""An application without sockets: its clients are `Peer`s, and stock ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask
import socketio
from socketio import packet as sio
from werkzeug.test import EnvironBuilder

from fallback_transport import FallbackTransport, Session
from fallback_transport.engine import Engine
from fallback_transport.gateway import Gateway
from tests.fakes import FakeRuntime, Peer


class Place:
    """An app with a transport over a server, and the sessions that its handlers got."""

    def __init__(self, **options: Any) -> None:
        self.runtime = FakeRuntime()
        self.server = socketio.Server(async_mode="threading", **options)
        self.engine = Engine(self.server, self.runtime)
        self.app = flask.Flask(__name__)
        self.transport = FallbackTransport(self.app, server=self.server, subprotocols=["v1"])
        self.clients: dict[str, Session] = {}
        self.ends: list[Any] = []
        self.transport.on_connect(self._connected)
        self.transport.on_disconnect(lambda *args: self.ends.append(args))

    def _connected(self, client: Session) -> None:
        self.clients[client.id] = client

    def peer(self, auth: Any = None, **facts: str) -> tuple[Session, Peer]:
        """A session of ours, and its other end."""
        assert isinstance(self.app.wsgi_app, Gateway)
        environ = EnvironBuilder("/fallback/poll").get_environ()
        if "url" in facts:
            environ["fallback_transport.url"] = facts["url"]
        told = tuple(facts.items())
        peer = Peer(self.app.wsgi_app.registry, self.runtime, environ, nonce=None, facts=told)
        peer.connect(auth)
        peer.texts.clear()
        return self.clients[peer.id], peer

    def stock(self, auth: Any = None) -> tuple[Session, StockSocket]:
        """A stock client, and its other end."""
        sock = StockSocket()
        eio_sid = f"stock-{len(self.engine.sockets)}"
        self.engine.sockets[eio_sid] = sock
        environ = EnvironBuilder("/socket.io/").get_environ()
        self.engine.handlers["connect"](eio_sid, environ)
        self.engine.handlers["message"](eio_sid, sio.Packet(sio.CONNECT, auth).encode())
        sock.handler = lambda text: self.engine.handlers["message"](eio_sid, text)
        sock.packets.clear()
        sid = self.server.manager.sid_from_eio_sid(eio_sid, "/")
        return self.clients[sid], sock

    def task(self, function: Callable[[], Any]) -> list[Any]:
        """Run `function` as a handler would; its result or its error, once there is one."""
        found: list[Any] = []

        def run() -> None:
            try:
                found.append(function())
            except Exception as error:
                found.append(error)

        self.runtime.spawn(run)
        self.runtime.run()
        return found


class StockSocket:
    """A stock client's end in the stock engine."""

    upgraded = True
    closed = False

    def __init__(self) -> None:
        self.session: dict[Any, Any] = {}
        self.packets: list[Any] = []
        self.left: list[str] = []
        self.handler: Any = None

    @property
    def sent(self) -> list[Any]:
        """What is in the packets that it was sent."""
        return [packet.data for packet in self.packets]

    def send(self, packet: Any) -> None:
        self.packets.append(packet)

    def close(self, reason: str) -> None:
        self.left.append(reason)
