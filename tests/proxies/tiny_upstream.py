"""A small real server behind the proxy under test, and bare sockets to talk to both."""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from .faults import How

PATIENCE = 5.0

UPGRADE: Mapping[str, str] = {"Connection": "Upgrade", "Upgrade": "websocket"}
_NONE: Mapping[str, str] = {}


def eventually(condition: Callable[[], bool], within: float = PATIENCE) -> bool:
    """Return whether a condition came true."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def numbered(count: int) -> bytes:
    """Return bytes of which none may be lost unnoticed."""
    cycle = bytes(range(251))
    return (cycle * (count // len(cycle) + 1))[:count]


@dataclass
class Seen:
    """What the server saw."""

    requests: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    #: How WebSocket connections were ended by the other side.
    websocket_ends: list[How] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._note(b"")
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        if url.path == "/ws" and self.headers["Upgrade"]:
            self._websocket()
        elif url.path == "/ws":
            self._answer(b"no upgrade was asked for", 400)
        elif url.path == "/wait":
            self.server.seen.released.wait(PATIENCE)
            self._answer(b"waited")
        elif url.path == "/chunks":
            self._chunks(int(query["count"]), query.get("hold") == "yes")
        elif url.path == "/bytes":
            self._answer(numbered(int(query["count"])))
        elif url.path == "/until-end":
            self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
            self.close_connection = True
        elif url.path == "/headers":
            self._answer(json.dumps(dict(self.headers)).encode())
        else:
            self._answer(url.path.encode())

    def do_POST(self) -> None:
        if self.headers["Transfer-Encoding"] == "chunked":
            body = bytearray()
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size + 2)[:-2]
            self.rfile.readline()
        else:
            body = bytearray(self.rfile.read(int(self.headers["Content-Length"])))
        self._note(bytes(body))
        self._answer(bytes(body))

    def _note(self, body: bytes) -> None:
        self.server.seen.requests.append((self.command, self.path))
        self.server.seen.bodies.append(body)

    def _answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _chunks(self, count: int, hold: bool) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for index in range(count):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(b"chunk %d;" % index), b"chunk %d;" % index))
            if hold and not index:
                self.server.seen.released.wait(PATIENCE)
        self.wfile.write(b"0\r\nX-Trailer: yes\r\n\r\n")

    def _websocket(self) -> None:
        """Echo text; end the connection when the other side does."""
        protocol = ServerProtocol(max_size=None)
        head = f"GET {self.path} HTTP/1.1\r\n{self.headers}"
        protocol.receive_data(head.replace("\r\n", "\n").replace("\n", "\r\n").encode())
        (request,) = protocol.events_received()
        assert isinstance(request, Request)
        protocol.send_response(protocol.accept(request))
        seen, self.close_connection = self.server.seen, True
        try:
            while True:
                for data in protocol.data_to_send():
                    if data:
                        self.wfile.write(data)
                data = self.connection.recv(65536)
                if not data:
                    seen.websocket_ends.append("fin")
                    return
                protocol.receive_data(data)
                for event in protocol.events_received():
                    if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                        seen.messages.append(bytes(event.data).decode())
                        protocol.send_text(event.data)
        except ConnectionError:
            seen.websocket_ends.append("rst")

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True
    block_on_close = False

    def __init__(self, seen: Seen, host: str) -> None:
        super().__init__((host, 0), _Handler)
        self.seen = seen

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # connections are broken here on purpose


class TinyUpstream:
    """A threaded server: echo, waiting, chunks and an echo WebSocket at ``/ws``."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.seen = Seen()
        self._server = _Server(self.seen, host)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def forget(self) -> None:
        """Start a new test: nothing has been seen, and what waited is let go."""
        self.seen.released.set()
        self.seen = self._server.seen = Seen()

    def stop(self) -> None:
        """End the server."""
        self.seen.released.set()
        self._server.shutdown()
        self._server.server_close()


@dataclass(frozen=True)
class Reply:
    """An answer as a client sees it."""

    status: int
    headers: dict[str, str]
    body: bytes


class RawClient:
    """A bare socket that speaks just enough HTTP."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(
        self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] = _NONE
    ) -> None:
        """Send a request."""
        lines = [f"{method} {target} HTTP/1.1", "Host: test"]
        if method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def ask(self, method: str, target: str, body: bytes = b"") -> Reply:
        """Send a request and return the answer."""
        self.send(method, target, body)
        return self.reply()

    def reply(self) -> Reply:
        """Return the next answer; whatever is missing of its body raises."""
        head = self.head()
        line, *rest = head.decode().split("\r\n")
        pairs = (text.split(": ", 1) for text in rest if text)
        headers = {name.lower(): value for name, value in pairs}
        if "chunked" in headers.get("transfer-encoding", ""):
            body = self.rest_of_chunks()
        else:
            body = self.exactly(int(headers.get("content-length", "0")))
        return Reply(int(line.split()[1]), headers, body)

    def head(self) -> bytes:
        """Return the bytes up to the first empty line."""
        return self._until(b"\r\n\r\n")

    def rest_of_chunks(self) -> bytes:
        """Return what is left of a chunked body, its framing included."""
        body = b""
        while size := int((line := self._until(b"\r\n")).split(b";")[0], 16):
            body += line + self.exactly(size + 2)
        body += line
        while (line := self._until(b"\r\n")) != b"\r\n":
            body += line
        return body + line

    def _until(self, mark: bytes) -> bytes:
        data = b""
        while not data.endswith(mark):
            data += self.exactly(1)
        return data

    def exactly(self, count: int) -> bytes:
        """Return that many bytes."""
        data = bytearray()
        while len(data) < count:
            piece = self.socket.recv(min(count - len(data), 1 << 20))
            if not piece:
                raise EOFError(f"{len(data)} bytes of {count}")
            data += piece
        return bytes(data)

    def rest(self) -> tuple[bytes, How]:
        """Return what comes until the connection ends, and how it ends."""
        data = b""
        try:
            while piece := self.socket.recv(65536):
                data += piece
        except ConnectionError:
            return data, "rst"
        return data, "fin"

    def silent(self, seconds: float = 0.15) -> bool:
        """Return whether for a while nothing comes, not even the end."""
        return not select.select([self.socket], [], [], seconds)[0]

    def close(self, how: How = "fin") -> None:
        """Leave."""
        if how == "rst":
            linger = struct.pack("ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()


class RawWebSocket(RawClient):
    """A WebSocket client on a bare socket."""

    def __init__(self, port: int, path: str = "/ws") -> None:
        super().__init__(port)
        self._protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}{path}"), max_size=None)
        self._texts: list[str] = []
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def open(self) -> RawWebSocket:
        """Wait for a valid 101."""
        while self._protocol.state is not OPEN:
            data = self.socket.recv(65536)
            assert data, "the connection ended before the 101"
            self._protocol.receive_data(data)
            if self._protocol.handshake_exc:
                raise self._protocol.handshake_exc
        self._protocol.events_received()
        return self

    def send_text(self, text: str) -> None:
        """Send a message."""
        self._protocol.send_text(text.encode())
        self._flush()

    def receive_text(self) -> str:
        """Return the next message."""
        while not self._texts:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self._protocol.receive_data(data)
            self._texts += [
                bytes(event.data).decode()
                for event in self._protocol.events_received()
                if isinstance(event, Frame) and event.opcode is Opcode.TEXT
            ]
        return self._texts.pop(0)

    def echo(self, text: str) -> str:
        """Send a message and return the answer."""
        self.send_text(text)
        return self.receive_text()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            self.socket.sendall(data)


class RawDoor:
    """A listening socket, for tests that play the server themselves."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(PATIENCE)
        self._accepted: list[RawClient] = []
        self.port: int = self._socket.getsockname()[1]

    def accept(self) -> RawClient:
        """Return the next connection."""
        connection = RawClient.__new__(RawClient)
        connection.socket, _ = self._socket.accept()
        connection.socket.settimeout(PATIENCE)
        self._accepted.append(connection)
        return connection

    def close_accepted(self) -> None:
        """Close the connections."""
        while self._accepted:
            self._accepted.pop().close()

    def close(self) -> None:
        """Close them, and stop listening."""
        self.close_accepted()
        self._socket.close()
