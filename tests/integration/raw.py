"""HTTP and WebSocket by hand, legal or not: what a hostile client sends over a raw socket.

Nothing here corrects anything. `Wire` writes and reads bytes, `WebSocket` frames of any
kind, `Session` speaks just enough of the protocol to be a session worth disturbing.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import select
import socket
import struct
import time
import zlib
from dataclasses import dataclass
from typing import Any

SEPARATOR = "\x1e"
SUBPROTOCOL = "fallback.v1"
#: Seconds for an answer of a server on a slow and busy machine.
PATIENCE = 15.0

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body of a polling answer, without its end mark."""
        body = self.body.decode()
        assert body.endswith(SEPARATOR + "."), f"no end mark: {body[-80:]!r}"
        return body[:-2]

    @property
    def head(self) -> dict[str, Any]:
        """The head of a hello's answer, or the end."""
        head: dict[str, Any] = json.loads(self.text.split(SEPARATOR)[0])
        return head

    @property
    def end(self) -> dict[str, Any] | None:
        """The end that it carries, if it does."""
        text = self.body.decode(errors="replace")
        return self.head if text.startswith('{"end"') else None


class Closed(Exception):
    """The server closed the stream."""


class Wire:
    """A TCP connection to a server on this machine."""

    def __init__(
        self, port: int, *, receive_buffer: int | None = None, segment: int | None = None
    ) -> None:
        self.port = port
        self._sock = socket.socket()
        if segment is not None:
            # What a real network takes; with loopback's the server's kernel buffers megabytes.
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
        if receive_buffer is not None:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._sock.settimeout(PATIENCE)
        self._sock.connect(("127.0.0.1", port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Write all of it; a server that has closed already is no error."""
        with contextlib.suppress(ConnectionError):
            self._sock.sendall(data)

    def drip(self, data: bytes, size: int = 1, pause: float = 0.005) -> None:
        """Write it in small pieces."""
        for start in range(0, len(data), size):
            self.send(data[start : start + size])
            time.sleep(pause)

    def flood(self, data: bytes, seconds: float) -> int:
        """Write it over and over, as fast as the server reads; how much went out."""
        until, sent = time.monotonic() + seconds, 0
        while (left := until - time.monotonic()) > 0:
            if select.select([], [self._sock], [], left)[1]:
                try:
                    sent += self._sock.send(data, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    time.sleep(0.001)
                except ConnectionError:
                    break
        return sent

    def finish(self) -> None:
        """Say that nothing more comes."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with a RST instead of a FIN."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def close(self) -> None:
        """Close it."""
        self._sock.close()

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        while len(self._buffer) < size:
            self._more()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def read_line(self) -> bytes:
        """Up to a line feed, without the line's end."""
        while b"\n" not in self._buffer:
            self._more()
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer[:] = rest
        return line.rstrip(b"\r")

    def read_rest(self) -> bytes:
        """All that comes until the server closes."""
        with contextlib.suppress(Closed):
            while True:
                self._more()
        return bytes(self._buffer)

    def reply(self, *, bare: bool = False) -> Reply:
        """The next HTTP answer; `bare`, without a body whatever it says, as to a HEAD.

        Raises:
            Closed: there is none.
        """
        status = int(self.read_line().split(b" ")[1])
        headers: dict[str, str] = {}
        while line := self.read_line().decode("latin-1"):
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if bare or status in (101, 204, 304):
            body = b""
        elif "content-length" in headers:
            body = self.read(int(headers["content-length"]))
        else:
            body = self.read_rest()
        if headers.get("content-encoding") == "gzip":
            body = zlib.decompress(body, 31)
        return Reply(status, headers, body)

    def _more(self) -> None:
        try:
            data = self._sock.recv(65536)
        except ConnectionError as error:
            raise Closed from error
        if not data:
            raise Closed
        self._buffer += data


def request(
    method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> bytes:
    """An HTTP request. Headers whose value is empty are left out, the usual ones too."""
    usual = {"Host": "server.test", "Content-Length": None if body is None else str(len(body))}
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in {**usual, **(headers or {})}.items() if value]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def ask(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    """One request on a connection of its own, and its answer."""
    with Wire(port) as wire:
        wire.send(request(method, path, body, headers))
        return wire.reply()


def poll(port: int, text: str | bytes, headers: dict[str, str] | None = None) -> Reply:
    """One polling request; the end mark is added to a text, not to bytes."""
    body = text if isinstance(text, bytes) else (text + SEPARATOR + ".").encode()
    return ask(port, "POST", "/fallback/poll", body, headers)


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    length: int | None = None,
) -> bytes:
    """A WebSocket frame.

    Args:
        rsv: the three reserved bits.
        masked: as a client's must be.
        length: what is stated, if not what is sent.
    """
    size = len(payload) if length is None else length
    first = fin << 7 | rsv << 4 | opcode
    mark = masked << 7
    if size < 126:
        head = struct.pack("!BB", first, mark | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, mark | 126, size)
    else:
        head = struct.pack("!BBQ", first, mark | 127, size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    veiled = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return head + mask + veiled.to_bytes(len(payload), "big")


def handshake(headers: dict[str, str] | None = None, method: str = "GET") -> bytes:
    """A WebSocket handshake of version 13; `headers` replace its own, empty ones remove."""
    usual = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": SUBPROTOCOL,
    }
    return request(method, "/fallback/ws", None, {**usual, **(headers or {})})


@dataclass(frozen=True)
class Closure:
    """How a WebSocket ended: the close frame's code and reason, and the end before it."""

    code: int | None
    reason: str
    end: dict[str, Any] | None


class WebSocket(Wire):
    """A WebSocket after its handshake; with `later` only that far that `opened` is to be called."""

    def __init__(
        self,
        port: int,
        headers: dict[str, str] | None = None,
        *,
        receive_buffer: int | None = None,
        later: bool = False,
    ) -> None:
        super().__init__(port, receive_buffer=receive_buffer)
        self.send(handshake(headers))
        if not later:
            self.opened()

    def opened(self) -> None:
        """Read the handshake's answer."""
        reply = self.reply()
        assert reply.status == 101, reply

    def text(self, text: str | bytes) -> None:
        """Send a text message."""
        self.send(frame(TEXT, text if isinstance(text, bytes) else text.encode()))

    def binary(self, data: bytes) -> None:
        """Send a binary message."""
        self.send(frame(BINARY, data))

    def next_frame(self) -> tuple[int, bytes]:
        """The next frame's opcode and payload."""
        first, second = self.read(2)
        assert first & 0x80, "this server never fragments"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self.read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.read(8))
        return first & 15, self.read(size)

    def next_text(self) -> str:
        """The next text message; pings are skipped.

        Raises:
            Closed: a close frame came instead.
        """
        while True:
            opcode, payload = self.next_frame()
            if opcode == TEXT:
                return payload.decode()
            if opcode == CLOSE:
                raise Closed

    def answers(self, question: int = 77) -> bool:
        """Whether it answers the protocol's question."""
        self.text(f"a0 q{question}")
        try:
            while f"p{question}" not in self.next_text().split(SEPARATOR)[0].split(" "):
                pass
        except Closed:
            return False
        return True

    def closure(self) -> Closure:
        """How it ends; what comes before the end is dropped."""
        end = None
        try:
            while True:
                opcode, payload = self.next_frame()
                if opcode == TEXT and payload.startswith(b'{"end"'):
                    end = json.loads(payload)
                elif opcode == CLOSE:
                    code = struct.unpack("!H", payload[:2])[0] if payload else None
                    return Closure(code, payload[2:].decode(), end)
        except Closed:
            return Closure(None, "", end)


def connect_packet(auth: object = None) -> str:
    """The Socket.IO CONNECT as a segment."""
    return "m0" + ("" if auth is None else json.dumps(auth))


def hello(*segments: str, head: dict[str, Any] | None = None, without: tuple[str, ...] = ()) -> str:
    """The hello of a new session; `head` replaces parts of it, `without` leaves them out."""
    fields: dict[str, Any] = {
        "hello": 1,
        "attempt": 1,
        "nonce": secrets.token_urlsafe(16),
        "ack": 0,
        "received": 0,
        "seq": 1,
        **(head or {}),
    }
    shown = {name: value for name, value in fields.items() if name not in without}
    return SEPARATOR.join([json.dumps(shown), *(segments or [connect_packet()])])


class Session:
    """A session with its credentials, on a WebSocket or on polling."""

    def __init__(
        self,
        port: int,
        transport: str = "websocket",
        *,
        auth: object = None,
        commit: bool = True,
        nonce: str | None = None,
    ) -> None:
        self.port = port
        self.nonce = nonce or secrets.token_urlsafe(16)
        self.hello = hello(connect_packet(auth), head={"nonce": self.nonce})
        self.ws: WebSocket | None = None
        self.number = 0
        if transport == "websocket":
            self.ws = WebSocket(port)
            self.ws.text(self.hello)
            welcome = json.loads(self.ws.next_text().split(SEPARATOR)[0])
            if commit:
                self.ws.text("a0 c1")
        else:
            welcome = poll(port, self.hello).head
        self.id: str = welcome["id"]
        self.key: str = welcome["key"]
        self.grant: dict[str, int] = welcome["grant"]
        if commit:
            # The answer to CONNECT: from here on both directions have one message.
            answer = self.ws.next_text() if self.ws else self.post("a0", wait=5000).text
            while "m0" not in answer:
                answer = self.ws.next_text() if self.ws else self.post("a0", wait=5000).text
            if self.ws:
                # As pages do; else it is asked for.
                self.ws.text("a1")

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        if self.ws is not None:
            self.ws.close()

    @property
    def socket(self) -> WebSocket:
        """Its WebSocket."""
        assert self.ws is not None, "a session on a WebSocket"
        return self.ws

    def line(
        self, marks: str, *, attempt: int = 1, commit: int = 1, wait: int | None = None
    ) -> str:
        """The head of its next polling request."""
        self.number += 1
        waits = "" if wait is None else f" w{wait}"
        return f"i{self.id} k{self.key} t{attempt} n{self.number}{waits} {marks}" + (
            f" c{commit}" if commit else ""
        )

    def post(
        self,
        marks: str,
        *segments: str,
        attempt: int = 1,
        commit: int = 1,
        wait: int | None = None,
    ) -> Reply:
        """Its next polling request."""
        line = self.line(marks, attempt=attempt, commit=commit, wait=wait)
        return poll(self.port, SEPARATOR.join([line, *segments]))

    def resume(self, *segments: str, **head: Any) -> str:
        """A hello that resumes it."""
        fields = {"attempt": 2, "id": self.id, "key": self.key, "ack": 0, "received": 1, **head}
        without = ("nonce",) if "seq" in head or segments else ("nonce", "seq")
        if segments:
            return hello(*segments, head={"seq": 2, **fields}, without=without)
        return hello(head=fields, without=without).split(SEPARATOR)[0]
