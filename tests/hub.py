"""A hub of a test's: gateways in virtual time, over streams that are only bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fallback_transport.gateway import Gateway
from fallback_transport.hub_gateway import HubGateway
from fallback_transport.options import Options
from fallback_transport.origins import Origins
from fallback_transport.protocol.envelope import Grant
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.registry import Capacity, Registry
from fallback_transport.runtime import Stream

from .fakes import FakeHub, FakeRuntime, FakeSocket
from .integration.raw import SEPARATOR, hello, request

END = SEPARATOR + "."


class Client:
    """The other end of an accepted connection, which its gateway serves."""

    def __init__(self, place: Place, address: str) -> None:
        self._place = place
        self.socket = FakeSocket()
        #: What `eventlet.wsgi` was given.
        self.handed_over: bytes | None = None
        accepted = address, 4711
        self.stream = Stream(place.hub, self.socket, accepted, self._wsgi, lambda stream: None)
        place.front(self.stream)
        self.stream.resume()

    def _wsgi(self, stream: Stream, sock: Any, head: bytes) -> None:
        self.handed_over = head

    def send(self, data: bytes) -> None:
        """Let `data` arrive, and be read as far as it is."""
        self.socket.there += data
        while self.socket.there and self.tell("read"):
            pass

    def end(self) -> None:
        """Nothing more is sent."""
        self.socket.ended = True
        self.tell("read")

    def read(self) -> None:
        """Read what waits, and from now on what comes."""
        self.socket.reads = True
        self.tell("write")

    def tell(self, kind: str) -> bool:
        return self._place.fake.tell(kind, self.socket.fileno())

    @property
    def paused(self) -> bool:
        """Whether nobody reads what it sends."""
        return ("read", self.socket.fileno()) not in self._place.fake.watched

    @property
    def closed(self) -> bool:
        return self.stream.closed

    @property
    def received(self) -> bytes:
        """What it has read."""
        self._place.advance(0)
        return self.socket.sent

    @property
    def statuses(self) -> list[int]:
        return [int(part[:3]) for part in self.received.split(b"HTTP/1.1 ")[1:]]


class Layer:
    """The layer above, which takes nothing."""

    def unit(self, seq: int, data: Any) -> None:
        return None

    def resumed(self, environ: dict[str, Any]) -> None:
        pass

    def over(self, code: int, reason: str, by_client: bool, gone: Callable[[], None]) -> None:
        gone()


class Place:
    """Gateways on a hub whose time is a test's."""

    def __init__(
        self,
        *,
        grant: Grant | None = None,
        fix: Any = None,
        origins: Origins | None = None,
        **options: Any,
    ) -> None:
        given = Options(**options)
        self.runtime = FakeRuntime(turns=True)
        self.hub = self.runtime.hub
        self.fake: FakeHub = self.hub._hub
        # Where a test calls its mode eventlet, the real one is not to begin.
        self.runtime.settle = lambda: None  # type: ignore[method-assign]
        self.runtime.at_end_of_turn = lambda flush: flush()
        self.runtime.submit = self.runtime.spawn  # type: ignore[method-assign]
        self.environs: list[dict[str, Any]] = []
        self.registry = Registry(
            self.runtime,
            self._layer,
            grant=grant or Grant(),
            bounds=Bounds(),
            capacity=Capacity(),
        )
        self.gateway = Gateway(
            lambda environ, start_response: [],
            self.registry,
            given,
            origins=origins or Origins(),
            stock=lambda environ, start_response: [],
            stock_path="/socket.io",
            extra={"flask.app": "the app"},
            mounts=given.paths,
        )
        self.front = HubGateway([self.gateway], fix, self.runtime)

    def _layer(self, conversation: Any) -> Layer:
        self.environs.append(conversation.environ)
        return Layer()

    def client(self, address: str = "192.0.2.1") -> Client:
        return Client(self, address)

    def session(self, **headers: str) -> tuple[Client, dict[str, Any]]:
        """A new session by polling, and its welcome."""
        client = self.client()
        client.send(hello_request(headers))
        self.advance(0.1)
        welcome = client.received.partition(b"\r\n\r\n")[2].decode().split(SEPARATOR)[0]
        return client, json.loads(welcome)

    def advance(self, seconds: float) -> None:
        """Let time go by."""
        self.runtime.advance(seconds)


def hello_request(headers: dict[str, str] | None = None, path: str = "/fallback/poll") -> bytes:
    return request("POST", path, (hello() + END).encode(), headers)


def waiting(
    welcome: dict[str, Any],
    number: int,
    wait: int = 20_000,
    headers: dict[str, str] | None = None,
) -> bytes:
    line = f"i{welcome['id']} k{welcome['key']} t1 n{number} w{wait} c1 a0"
    return request("POST", "/fallback/poll", (line + END).encode(), headers)
