"""The WebSocket transport: RFC 6455 by the `websockets` package's sans-I/O core.

A `WebSocketConnection` is driven from two sides: its reader feeds it bytes, its
writer takes what is to be written whenever the connection was woken. It never
waits itself, so that blocking calls and callbacks on a hub can both drive it
(`drivers`).
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from typing import Any, Final, Protocol

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Protocol as Framing
from websockets.protocol import Side, State
from websockets.server import ServerProtocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover - there is no wheel for every platform
    from websockets.utils import apply_mask

from .conversation import Conversation
from .handshake import SUBPROTOCOL
from .protocol.codec import decode, decode_binary, encode, encode_frames
from .protocol.codes import CloseCode
from .protocol.envelope import End, Envelope, Hello
from .protocol.errors import RemoteProtocolError, UnsupportedVersion
from .protocol.events import WEBSOCKET
from .registry import Registry

logger = logging.getLogger("fallback_transport.websocket")

# It tells of every connection at level INFO; what is worth a line is told here.
framing_logger = logging.getLogger("fallback_transport.websocket.framing")
framing_logger.setLevel(logging.WARNING)

#: How many fragments one message may have: RFC 6455 knows no limit, and empty ones cost no bytes.
MAX_FRAGMENTS: Final = 4096
#: How many pings may wait for their pongs to be written; beyond, nothing more is read.
MAX_PINGS: Final = 256
#: How many pings may come before the hello.
MAX_EARLY_PINGS: Final = 8
#: Little, because a hub serves nobody else while what was read is taken apart.
READ_BYTES = 16384

# See `protocol.state.CLOSED`.
_OPEN: Final = State.OPEN
_CLOSING: Final = State.CLOSING
_CLOSED: Final = State.CLOSED
_CONT: Final = Opcode.CONT
_TEXT: Final = Opcode.TEXT
_BINARY: Final = Opcode.BINARY
_PING: Final = Opcode.PING

#: The first byte of a message in one frame (RFC 6455, section 5.2), and what it is; the bit that
#: says in the second that it is masked.
_WHOLE: Final = {0x80 | _TEXT: _TEXT, 0x80 | _BINARY: _BINARY}
_MASKED: Final = 0x80
#: Of short messages the whole headers, by their opcode and size.
_SHORT: Final[dict[int, list[bytes]]] = {
    code: [bytes((0x80 | code, n)) for n in range(126)] for code in (_TEXT, _BINARY)
}


class Driver(Protocol):
    """What drives a connection; none of it may wait."""

    def flush(self) -> None:
        """Write what there is: the turn ends."""

    def wake(self) -> None:
        """There may be something to write; called from anywhere."""

    def closing(self) -> None:
        """This side begins to close; called once, from anywhere."""


class _Over:
    """What drives a connection that is over."""

    def flush(self) -> None: ...

    def wake(self) -> None: ...

    def closing(self) -> None: ...


class WebSocketConnection:
    """One WebSocket of a session, from its handshake to its end.

    Args:
        registry: where its hello is taken to.
        environ: makes the request that handlers will see, of the hello.
        origin, address: the request's origin, and whom a new session counts for.
        driver: what drives it.
        greeted: called when its hello has come.
    """

    __slots__ = (
        "__weakref__",
        "_address",
        "_attempt",
        "_closing",
        "_conversation",
        "_driver",
        "_environ",
        "_failed",
        "_fragments",
        "_framing",
        "_lock",
        "_on_greeted",
        "_opcode",
        "_origin",
        "_pings",
        "_plain",
        "_registry",
        "_unframed",
        "emptied",
    )

    def __init__(
        self,
        registry: Registry,
        environ: Callable[[Hello], dict[str, Any]],
        origin: str,
        driver: Driver,
        *,
        address: str = "",
        greeted: Callable[[], None] | None = None,
    ) -> None:
        self._registry = registry
        self._environ = environ
        self._origin = origin
        self._driver = driver
        self._address = address
        self._on_greeted = greeted or _nothing
        self._lock = registry.runtime.lock()
        self._framing: Framing = ServerProtocol(
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
            logger=framing_logger,
        )
        self._conversation: Conversation | None = None
        self._attempt = 0
        self._fragments: list[bytes] = []
        self._opcode = _TEXT
        self._failed = False
        self._pings = 0
        #: How many bytes the framing has in which it has found no frame yet; 0 between two frames.
        self._unframed = 0
        self._closing: tuple[End | None, int, str] | None = None
        #: Whether there is nothing to write but what the session has: the framing, a kilobyte
        #: that would have to come into the cache, need not be asked.
        self._plain = False
        #: Whether `data_to_send` is known to have no more.
        self.emptied = False

    # -- the reader's side -------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer, the handshake's request first; empty for the stream's end."""
        if data and self._plain and self._unframed == 0 and not self._fragments:
            data = self._whole(data)
            if not data:
                return
        with self._lock:
            if data:
                self._unframed += len(data)
                self._framing.receive_data(data)
            else:
                self._framing.receive_eof()
            frames = self._framing.events_received()
            failure = self._framing.parser_exc
        if failure is not None and not self._failed and not isinstance(failure, EOFError):
            self._failed = True
            self._warn(str(failure))
        # What the session has to answer to its messages, it says itself; and what ends neither a
        # frame nor the stream is not answered.
        quiet = bool(data) and failure is None and self._conversation is not None
        for frame in frames:
            if isinstance(frame, Frame):
                quiet &= self._frame(frame)
            elif isinstance(frame, Request):
                with self._lock:
                    self._shake_hands(frame)
        if not quiet:
            self._plain = False
            if frames and self._conversation is not None:
                self._conversation.heard(self._attempt)
            self._driver.wake()

    def closed(self) -> None:
        """The stream is gone, for whatever reason."""
        if self._conversation is not None:
            self._conversation.detach(self._attempt, self)
        # Circles, that would wait for the garbage collector.
        self._driver, self._on_greeted = _Over(), _nothing
        self._framing.parser.close()
        self._framing.parser_exc = None
        error: BaseException | None = self._framing.handshake_exc
        while error is not None:
            error.__traceback__ = None
            error = error.__context__

    @property
    def greeted(self) -> bool:
        """Whether the hello has come."""
        return self._conversation is not None or self._closing is not None

    @property
    def behind(self) -> bool:
        """Whether the peer causes answers faster than it takes them: nothing is to be read."""
        return self._pings > MAX_PINGS

    # -- the writer's side -------------------------------------------------------

    def data_to_send(self) -> list[bytes]:
        """What to write now; empty bytes end the stream. Call it again until nothing is left."""
        self.emptied = False
        # Also of pings that were counted when their pongs had gone: who reads waits for it.
        self._pings = 0
        if self._plain and self._closing is None:
            # No pong is among it, and what the session has is under a lock of its own.
            return self._frames()
        with self._lock:
            framing = self._framing
            frames = []
            if framing.state is _OPEN:
                frames = self._frames()
                if not frames and self._closing is not None:
                    self._send_close(*self._closing)
            written = framing.data_to_send()
            self._plain = self._conversation is not None and framing.state is _OPEN
            return written + frames

    @property
    def finished(self) -> bool:
        """Whether this side has said its last: the stream is to be closed after a grace."""
        refused = self._framing.handshake_exc is not None
        return refused or self._framing.state in (_CLOSING, _CLOSED)

    @property
    def in_vain(self) -> bool:
        """Whether nothing comes from the peer any more, so that its answer to a close won't."""
        return self._closing is not None and self._closing[1] == CloseCode.INACTIVE

    # -- the session's side (see `conversation.Attachment`) ------------------------

    def wake(self) -> None:
        """The turn ends."""
        self._driver.flush()

    def drop(self, code: int, reason: str) -> None:
        """The connection no longer belongs to the session."""
        self._close(None, code, reason)

    def end(self, end: End) -> None:
        """The session is over: its end goes out as the last text."""
        self._close(end, CloseCode.NORMAL, "")

    # -- inside ------------------------------------------------------------------

    def _shake_hands(self, request: Request) -> None:
        """Answer the handshake; what follows has a framing of its own.

        That of the handshake would keep the request for as long as it goes on.
        """
        opening = self._framing
        assert isinstance(opening, ServerProtocol), "what comes first"
        opening.send_response(opening.accept(request))
        if opening.handshake_exc is not None:
            self._warn(repr(str(opening.handshake_exc)))
            return
        opening.parser.close()
        self._framing = Framing(
            Side.SERVER, max_size=self._registry.grant.body, logger=framing_logger
        )
        self._framing.writes += opening.data_to_send()
        self._unframed = 0

    def _close(self, end: End | None, code: int, reason: str) -> None:
        # Only noted here: the session's lock is held, and the writer takes them the other way.
        if self._closing is None:
            self._closing = end, code, reason
            self._driver.closing()
        self._driver.wake()

    def _fail(self, code: int, reason: str) -> None:
        """The peer broke a rule: say so, here and there."""
        self._warn(reason)
        self._close(None, code, reason)

    def _warn(self, problem: str) -> None:
        known = self._conversation
        whose = f"from {self._address}" if known is None else f"of session {known.id}"
        logger.warning("WebSocket: %.120s, %s", problem, whose)

    def _frames(self) -> list[bytes]:
        """What the session has for this connection, in frames."""
        conversation = self._conversation
        envelope = conversation.pull(self._attempt) if conversation is not None else None
        if envelope is None:
            return []
        assert conversation is not None, "it was pulled from"
        self.emptied = self._closing is None and conversation.machine.emptied
        frames = []
        # A server's frames are not masked, and nothing was negotiated: a header, and what it is.
        # `websockets` would look each of them through again.
        for frame in encode_frames(envelope):
            if isinstance(frame, str):
                opcode, data = _TEXT, frame.encode()
            else:
                opcode, data = _BINARY, frame
            frames.append(_header(opcode, len(data)) + data)
        return frames

    def _send_close(self, end: End | None, code: int, reason: str) -> None:
        if end is not None:
            self._framing.send_text(encode(end).encode())
        self._framing.send_close(code, reason)

    def _whole(self, data: bytes) -> bytes:
        """Take what nearly all is: whole messages, each in one frame; what is left is for `Frame`.

        Only while the framing is open, between two messages. Its parser, which may stop at each
        byte, takes as long for a frame as all else that is done before the handler is called.
        """
        at, end = 0, len(data)
        while end - at >= 6:
            opcode = _WHOLE.get(data[at])
            size, begin = data[at + 1] - _MASKED, at + 6
            if size == 126:
                size, begin = data[at + 2] << 8 | data[at + 3], at + 8
                if size > self._registry.grant.body:
                    break
            elif size > 125:
                break
            if opcode is None or size < 0 or begin + size > end:
                break
            at = begin + size
            if self._closing is None:
                self._opcode = opcode
                self._message(apply_mask(data[begin:at], data[begin - 4 : begin]))
        return data[at:]

    def _frame(self, frame: Frame) -> bool:
        """Take a frame; whether it was the last of a message."""
        size = len(frame.data)
        # As a client writes it, masked; one that writes its length in more bytes than it needs is
        # never between two frames again, as far as is known here.
        self._unframed -= size + (6 if size < 126 else 8 if size < 65536 else 14)
        if frame.opcode in (_TEXT, _BINARY):
            self._opcode = frame.opcode
        elif frame.opcode is not _CONT:
            self._control(frame)
            return False
        self._fragments.append(bytes(frame.data))
        if len(self._fragments) > MAX_FRAGMENTS:
            self._fragments.clear()
            if self._closing is None:
                self._fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
        elif frame.fin:
            data = self._fragments[0] if len(self._fragments) == 1 else b"".join(self._fragments)
            self._fragments.clear()
            if self._closing is None:
                self._message(data)
        return frame.fin

    def _control(self, frame: Frame) -> None:
        if frame.opcode is not _PING:
            return
        # Its pong is queued already.
        self._pings += 1
        if self._pings > MAX_EARLY_PINGS and not self.greeted:
            self._fail(CloseCode.TOO_MANY, "pings instead of a hello")

    def _message(self, data: bytes) -> None:
        try:
            if self._opcode is _BINARY:
                self._envelope(decode_binary(data))
                return
            try:
                text = data.decode()
            except UnicodeDecodeError:
                # RFC 6455, section 8.1.
                self._fail(CloseCode.INVALID_TEXT, "not UTF-8")
                return
            unit = decode(text)
            if isinstance(unit, Envelope):
                self._envelope(unit)
            elif isinstance(unit, Hello) and self._conversation is None:
                self._hello(unit)
            else:
                self._fail(CloseCode.MALFORMED, "not what a client sends here")
        except UnsupportedVersion as error:
            # As an end, which the pages of any version can read: it is what ends the session there.
            reason = str(error)[:120]
            self._warn(reason)
            self._close(End(error.code, reason), error.code, reason)
        except RemoteProtocolError as error:
            self._fail(error.code, str(error)[:120])

    def _hello(self, hello: Hello) -> None:
        # The session may wake and close this connection while it greets; the lock comes after.
        self._on_greeted()
        self._on_greeted = _nothing
        # The request has told what it can.
        environ, self._environ = self._environ, _told
        conversation, answer = self._registry.greet(
            hello, WEBSOCKET, self, environ, self._origin, self._address
        )
        with self._lock:
            if isinstance(answer, End):
                self._closing = answer, CloseCode.NORMAL if answer.session else answer.code, ""
                return
            self._attempt = hello.attempt
            self._conversation = conversation
            if self._framing.state is _OPEN:
                # Another thread may have ended the session, and this with it, as soon as it began.
                self._framing.send_text(encode(answer).encode())

    def _envelope(self, envelope: Envelope) -> None:
        if self._conversation is None:
            self._fail(CloseCode.MALFORMED, "an envelope before the hello")
            return
        end = self._conversation.receive(self._attempt, envelope)
        if end is not None and not end.session:
            self._close(end, end.code, end.reason)


def _nothing() -> None:
    """Nobody waits to hear of it, or nobody any more."""


def _told(hello: Hello) -> dict[str, Any]:
    raise AssertionError("a connection has one hello")


def _header(opcode: int, size: int) -> bytes:
    """RFC 6455, section 5.2: a frame's, that is a whole message and not masked."""
    if size < 126:
        return _SHORT[opcode][size]
    if size < 65536:
        return struct.pack("!BBH", 0x80 | opcode, 126, size)
    return struct.pack("!BBQ", 0x80 | opcode, 127, size)
