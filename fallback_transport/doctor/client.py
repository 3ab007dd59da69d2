"""A WebSocket that shows what happens to it: RFC 6455 by `websockets`' sans-I/O core.

What is to be sent never holds up what is to be read: a peer, or a proxy, that reads nothing is one
of the things to be found.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NoReturn

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from ..handshake import SUBPROTOCOL
from ..websocket import READ_BYTES, framing_logger
from .findings import MAX_MESSAGE


class Ended(Exception):
    """The connection has ended; the text says how.

    Args:
        code: of the close frame, None where there was none.
    """

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class WebSocketClient:
    """See the module.

    Args:
        sock: the way to the server, connected.
        uri: beginning with ``ws:`` or ``wss:``.
        origin, headers: what the handshake has.
    """

    def __init__(
        self,
        sock: socket.socket,
        uri: str,
        origin: str,
        headers: Mapping[str, str],
    ) -> None:
        self._sock = sock
        self._framing = ClientProtocol(
            parse_uri(uri),
            origin=origin,  # type: ignore[arg-type]
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
            max_size=MAX_MESSAGE,
            logger=framing_logger,
        )
        self._pending = bytearray()
        self._messages: deque[str] = deque()
        self._part = bytearray()
        self._eof = False
        self.response: Response | None = None
        sock.setblocking(False)
        request = self._framing.connect()
        request.headers.update(headers)
        self._framing.send_request(request)

    def open(self, timeout: float) -> bool:
        """Wait for the handshake: whether there is a WebSocket; else `response` says why.

        Raises:
            TimeoutError: no answer.
            Ended: the connection ended without one, or what came is none.
        """
        framing = self._framing
        self._until(lambda: self.response is not None or framing.handshake_exc is not None, timeout)
        failed = framing.handshake_exc
        if failed is not None and not isinstance(failed, InvalidStatus):
            raise Ended(str(failed))
        if failed is None and framing.subprotocol is None:
            # No browser goes on without the one that it has asked for.
            raise Ended("the answer names no subprotocol")
        return failed is None

    def send(self, text: str) -> None:
        """Send a message, as soon as the connection takes it.

        Raises:
            Ended: it is over.
        """
        if self._framing.state is not State.OPEN:
            self._over()
        self._framing.send_text(text.encode())
        self._pump()

    def receive(self, timeout: float) -> str:
        """The next message.

        Raises:
            TimeoutError: none came.
            Ended: none will come.
        """
        self._until(lambda: bool(self._messages), timeout)
        return self._messages.popleft()

    def close(self) -> None:
        """Say goodbye, without waiting for the answer."""
        if self._framing.state is State.OPEN:
            self._framing.send_close(1000)
            self._pump()
        self._sock.close()
        self._framing.parser.close()

    def _until(self, done: Callable[[], bool], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while timeout <= 0 or not done():
            # Also where something always comes: it may never be what is waited for.
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if self._eof:
                self._over()
            if not self._pump():
                select.select([self._sock], [self._sock] if self._pending else [], [], left)

    def _over(self) -> NoReturn:
        # Not the core's `close_code`, which is there once the connection has ended, too.
        close = self._framing.close_rcvd
        raise Ended("the connection ended", None if close is None else close.code)

    def _pump(self) -> bool:
        """Write what can be written and read what there is; whether something was read."""
        self._pending += b"".join(self._framing.data_to_send())
        # What does not go now, or never: reading tells which, and what was said before the end.
        with contextlib.suppress(OSError):
            while self._pending:
                del self._pending[: self._sock.send(self._pending)]
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError:
            data = b""
        if data:
            self._framing.receive_data(data)
        else:
            self._eof = True
            self._framing.receive_eof()
        for event in self._framing.events_received():
            if isinstance(event, Response):
                self.response = event
            elif isinstance(event, Frame):
                self._frame(event)
        if self._framing.parser_exc is not None:
            # As in a browser, whatever the other does when it is told.
            self._eof = True
        return True

    def _frame(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.CONT):
            self._part += frame.data
            if frame.fin:
                self._messages.append(self._part.decode(errors="replace"))
                self._part.clear()
        elif frame.opcode is Opcode.CLOSE:
            self._eof = True
