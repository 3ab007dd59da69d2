"""The WebSocket transport: RFC 6455 by the `websockets` package's sans-I/O core.

A `WebSocketConnection` is driven from two sides: its reader feeds it bytes, its
writer takes what is to be written whenever the connection was woken. It never
waits itself, so that `BlockingDriver` here and callbacks on a hub can both
drive it.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any

from websockets.exceptions import ProtocolError as FramingError
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from .conversation import Conversation
from .protocol.codec import decode, decode_binary, encode, encode_frames
from .protocol.codes import CloseCode
from .protocol.envelope import End, Envelope, Hello
from .protocol.errors import RemoteProtocolError
from .protocol.events import Transport
from .registry import Registry
from .runtime import Runtime, make_lock

logger = logging.getLogger("fallback_transport.websocket")

# It tells of every connection at level INFO; what is worth a line is told here.
framing_logger = logging.getLogger("fallback_transport.websocket.framing")
framing_logger.setLevel(logging.WARNING)

SUBPROTOCOL = "fallback.v1"
#: Seconds for which a new WebSocket may be silent before its hello.
HELLO_WAIT = 10.0
#: Seconds for the closing handshake, and for the last bytes to a slow reader.
CLOSE_WAIT = 5.0
#: How many fragments one message may have: RFC 6455 knows no limit, and empty ones cost no bytes.
MAX_FRAGMENTS = 4096
READ_BYTES = 65536


class WebSocketConnection:
    """One WebSocket of a session, from its handshake to its end.

    Args:
        registry: where its hello is taken to.
        environ: makes the request that handlers will see.
        origin: the request's origin.
        woken: called, from anywhere, when there may be something to write.
        closing: called once, from anywhere, when this side begins to close.
    """

    def __init__(
        self,
        registry: Registry,
        environ: Callable[[], dict[str, Any]],
        origin: str,
        woken: Callable[[], None],
        closing: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._environ = environ
        self._origin = origin
        self._woken = woken
        self._on_closing = closing
        self._lock = make_lock()
        self._framing = ServerProtocol(
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
            max_size=registry.grant.body,
            logger=framing_logger,
        )
        self._conversation: Conversation | None = None
        self._attempt = 0
        self._fragments: list[bytes] = []
        self._opcode = Opcode.TEXT
        self._failed = False
        self._closing: tuple[End | None, int, str] | None = None

    # -- the reader's side -------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer, the handshake's request first; empty for the stream's end."""
        with self._lock:
            if data:
                self._framing.receive_data(data)
            else:
                self._framing.receive_eof()
            frames = self._framing.events_received()
            failure = self._framing.parser_exc
        if failure is not None and not self._failed and isinstance(failure, FramingError):
            self._failed = True
            logger.warning("WebSocket: %s", failure)
        for frame in frames:
            if isinstance(frame, Frame):
                self._frame(frame)
            elif isinstance(frame, Request):
                with self._lock:
                    self._framing.send_response(self._framing.accept(frame))
        if frames and self._conversation is not None:
            self._conversation.heard(self._attempt)
        self._woken()

    def closed(self) -> None:
        """The stream is gone, for whatever reason."""
        if self._conversation is not None:
            self._conversation.detach(self._attempt, self)

    @property
    def greeted(self) -> bool:
        """Whether the hello has come."""
        return self._conversation is not None or self._closing is not None

    # -- the writer's side -------------------------------------------------------

    def data_to_send(self) -> list[bytes]:
        """What to write now; empty bytes end the stream. Call it again until nothing is left."""
        with self._lock:
            if self._framing.state is State.OPEN:
                self._fill()
            return self._framing.data_to_send()

    @property
    def finished(self) -> bool:
        """Whether this side has said its last: the stream is to be closed after a grace."""
        return self._framing.state in (State.CLOSING, State.CLOSED)

    # -- the session's side (see `conversation.Attachment`) ------------------------

    def wake(self) -> None:
        """There may be something to pull."""
        self._woken()

    def drop(self, code: int, reason: str) -> None:
        """The connection no longer belongs to the session."""
        self._close(None, code, reason)

    def end(self, end: End) -> None:
        """The session is over: its end goes out as the last text."""
        self._close(end, CloseCode.NORMAL, "")

    # -- inside ------------------------------------------------------------------

    def _close(self, end: End | None, code: int, reason: str) -> None:
        # Only noted here: the session's lock is held, and the writer takes them the other way.
        if self._closing is None:
            self._closing = end, code, reason
            self._on_closing()
        self._woken()

    def _fill(self) -> None:
        """Frame what the session has for this connection, then the end if there is one."""
        conversation = self._conversation
        envelope = conversation.pull(self._attempt) if conversation is not None else None
        if envelope is not None:
            self._send(envelope)
        elif self._closing is not None:
            end, code, reason = self._closing
            if end is not None:
                self._framing.send_text(encode(end).encode())
            self._framing.send_close(code, reason)

    def _send(self, envelope: Envelope) -> None:
        for frame in encode_frames(envelope):
            if isinstance(frame, str):
                self._framing.send_text(frame.encode())
            else:
                self._framing.send_binary(frame)

    def _frame(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._opcode = frame.opcode
        elif frame.opcode is not Opcode.CONT:
            return
        self._fragments.append(bytes(frame.data))
        if len(self._fragments) > MAX_FRAGMENTS:
            self._fragments.clear()
            self._close(None, CloseCode.MESSAGE_TOO_BIG, "too many fragments")
        elif frame.fin:
            data = self._fragments[0] if len(self._fragments) == 1 else b"".join(self._fragments)
            self._fragments.clear()
            if self._closing is None:
                self._message(data)

    def _message(self, data: bytes) -> None:
        try:
            if self._opcode is Opcode.BINARY:
                self._envelope(decode_binary(data))
                return
            try:
                text = data.decode()
            except UnicodeDecodeError:
                # RFC 6455, section 8.1.
                self._close(None, 1007, "not UTF-8")
                return
            unit = decode(text)
            if isinstance(unit, Envelope):
                self._envelope(unit)
            elif isinstance(unit, Hello) and self._conversation is None:
                self._hello(unit)
            else:
                self._close(None, CloseCode.MALFORMED, "not what a client sends here")
        except RemoteProtocolError as error:
            logger.warning("WebSocket: %s", error)
            self._close(None, error.code, str(error)[:120])

    def _hello(self, hello: Hello) -> None:
        # The session may wake and close this connection while it greets; the lock comes after.
        conversation, answer = self._registry.greet(
            hello, Transport.WEBSOCKET, self, self._environ, self._origin
        )
        with self._lock:
            if isinstance(answer, End):
                self._closing = answer, CloseCode.NORMAL if answer.session else answer.code, ""
                return
            self._framing.send_text(encode(answer).encode())
            self._attempt = hello.attempt
            self._conversation = conversation

    def _envelope(self, envelope: Envelope) -> None:
        if self._conversation is None:
            self._close(None, CloseCode.MALFORMED, "an envelope before the hello")
            return
        end = self._conversation.receive(self._attempt, envelope)
        if end is not None and not end.session:
            self._close(end, end.code, end.reason)


class BlockingDriver:
    """Drives a connection with blocking reads, and a writer beside them.

    Args:
        sock: the accepted socket, blocking (or green) and without time-out.
        runtime: the async mode.
    """

    def __init__(self, sock: socket.socket, runtime: Runtime) -> None:
        self._sock = sock
        self._runtime = runtime
        self._wake = runtime.event()
        self._read = runtime.event()
        self._written = runtime.event()

    def wake(self) -> None:
        """There may be something to write."""
        self._wake.set()

    def closing(self) -> None:
        """This side begins to close; a peer that does not read must not hold it up."""
        self._runtime.spawn(self._guard)

    def run(self, connection: WebSocketConnection) -> None:
        """Serve the connection; returns when it is over."""
        self._runtime.spawn(self._write, connection)
        try:
            data = b"-"
            while data:
                try:
                    data = self._sock.recv(READ_BYTES)
                except OSError:
                    data = b""
                connection.receive(data)
        finally:
            connection.closed()
            self._read.set()
            self._wake.set()
            self._written.wait(CLOSE_WAIT)
            _shut(self._sock)

    def _guard(self) -> None:
        if not self._written.wait(CLOSE_WAIT):
            _shut(self._sock)

    def _write(self, connection: WebSocketConnection) -> None:
        deadline = self._runtime.now() + HELLO_WAIT
        try:
            while not self._read.is_set():
                self._wake.clear()
                self._flush(connection)
                if connection.finished:
                    # The peer closes the stream once it has read the close.
                    self._read.wait(CLOSE_WAIT)
                    return
                if connection.greeted:
                    self._wake.wait()
                elif not self._wake.wait(max(0.0, deadline - self._runtime.now())):
                    connection.drop(CloseCode.INACTIVE, "no hello")
        except OSError:
            # The reader sees the same end of the stream, and tells the session.
            pass
        finally:
            self._written.set()
            _shut(self._sock)

    def _flush(self, connection: WebSocketConnection) -> None:
        while chunks := connection.data_to_send():
            data = b"".join(chunks)
            if data:
                self._sock.sendall(data)
            if b"" in chunks:
                self._sock.shutdown(socket.SHUT_WR)


def _shut(sock: socket.socket) -> None:
    # An error means that it is closed already.
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def handshake(environ: dict[str, Any]) -> bytes:
    """The handshake's request as bytes, from a WSGI environ: just the part that RFC 6455 reads."""
    lines = ["GET / HTTP/1.1"]
    for name, value in environ.items():
        if name in ("HTTP_CONNECTION", "HTTP_UPGRADE") or name.startswith("HTTP_SEC_WEBSOCKET_"):
            lines.append(f"{name[5:].replace('_', '-')}: {value}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
