"""The two transports of a `ClientSession`: threads that carry what its machine gives them."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from websockets.exceptions import ConnectionClosed, WebSocketException

from fallback_transport.protocol import codec
from fallback_transport.protocol.client import ClientMachine
from fallback_transport.protocol.envelope import End, Envelope, Hello, PollRequest, Unit
from fallback_transport.protocol.errors import RemoteProtocolError
from fallback_transport.protocol.events import Transport
from fallback_transport.protocol.state import State

from .raw import TIMEOUT, Reply, polling_headers, read_reply, websocket_connection

#: Seconds for which a waiting request may be held, and more than that for its answer.
WAIT = 10.0


class ConnectionFailed(Exception):
    """A connection that the server did not welcome, for no reason of the protocol's."""


class Owner(Protocol):
    """What a link knows of its session; `changed` is the lock of all of it."""

    machine: ClientMachine
    changed: threading.Condition

    def now(self) -> float: ...
    def patience(self) -> float | None: ...
    def tick(self) -> None: ...
    def arrived(self, attempt: int, unit: Envelope | End) -> None: ...
    def lost(self, attempt: int, why: str) -> None: ...


class Link:
    """One connection of a session.

    Args:
        owner: the session.
        attempt: its number.
        port: the server's, or a proxy's.
        mount: the path of the server's doors.
        headers: further headers of each of its requests.
    """

    transport: Transport

    def __init__(
        self,
        owner: Owner,
        attempt: int,
        port: int,
        mount: str,
        headers: Mapping[str, str] | None,
    ) -> None:
        self.attempt = attempt
        self.port = port
        self.over = False
        #: How the server closed it, on a WebSocket.
        self.close_code: int | None = None
        self._owner = owner
        self._mount = mount
        self._headers = headers
        self._threads: list[threading.Thread] = []

    def greet(self, hello: Hello) -> Unit:
        """Say hello; what came back.

        Raises:
            ConnectionFailed: nothing of the protocol's.
        """
        raise NotImplementedError

    def welcomed(self) -> None:
        """The session has taken the welcome."""

    def committed(self) -> None:
        """The session was told to go by this connection."""

    def kill(self) -> None:
        """End the connection without a word."""
        raise NotImplementedError

    def join(self) -> None:
        """Wait for its threads."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(TIMEOUT)
                assert not thread.is_alive(), f"{thread.name} does not end"

    def _start(self, run: Callable[[], None]) -> None:
        name = f"{self.transport.value} {self.attempt} {run.__name__}"
        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _lost(self, why: str) -> None:
        with self._owner.changed:
            if not self.over:
                self.over = True
                self._owner.lost(self.attempt, why)
            self._owner.changed.notify_all()


class WebSocketLink(Link):
    """A WebSocket: one thread reads, one writes."""

    transport = Transport.WEBSOCKET

    def greet(self, hello: Hello) -> Unit:
        """See `Link.greet`."""
        try:
            self._connection = websocket_connection(
                self.port, self._headers, path=self._mount + "/ws"
            )
        except (OSError, WebSocketException) as error:
            raise ConnectionFailed(str(error)) from error
        try:
            self._connection.send(codec.encode(hello))
            data = self._connection.recv(TIMEOUT)
            unit = codec.decode(data if isinstance(data, str) else data.decode())
        except (OSError, WebSocketException, RemoteProtocolError) as error:
            self.over = True
            self._shut()
            raise ConnectionFailed(str(error)) from error
        if isinstance(unit, End):
            self.over = True
            self._shut()
        return unit

    def welcomed(self) -> None:
        """Read and write from now on."""
        self._start(self._read)
        self._start(self._write)

    def kill(self) -> None:
        """The stream ends under the server."""
        with self._owner.changed:
            self.over = True
            self._owner.changed.notify_all()
        with contextlib.suppress(OSError):
            self._connection.socket.shutdown(socket.SHUT_RDWR)

    def _shut(self) -> None:
        self._connection.close()

    def _read(self) -> None:
        why = "killed"
        try:
            for data in self._connection:
                text = isinstance(data, str)
                unit = codec.decode(data) if text else codec.decode_binary(data)  # type: ignore[arg-type]
                assert isinstance(unit, (Envelope, End)), unit
                with self._owner.changed:
                    if not self.over:
                        self._owner.arrived(self.attempt, unit)
            why = "closed in order"
        except ConnectionClosed as closed:
            why = str(closed)
        finally:
            self.close_code = self._connection.close_code
            self._lost(why)
            self._shut()

    def _write(self) -> None:
        owner = self._owner
        while True:
            with owner.changed:
                while not self.over:
                    owner.tick()
                    envelope = owner.machine.pull(self.attempt, owner.now())
                    if envelope is not None:
                        break
                    owner.changed.wait(owner.patience())
                else:
                    return
            try:
                for frame in codec.encode_frames(envelope):
                    self._connection.send(frame)
            except (OSError, WebSocketException):
                # The reader learns the same, and tells.
                return


class PollingLink(Link):
    """A run of polls: one thread for the waiting requests, one for the sending ones."""

    transport = Transport.POLLING

    def __init__(
        self,
        owner: Owner,
        attempt: int,
        port: int,
        mount: str,
        headers: Mapping[str, str] | None,
    ) -> None:
        super().__init__(owner, attempt, port, mount, headers)
        self.wait = WAIT
        self.limit: int | None = None
        #: Every request that failed, and why.
        self.failures: list[str] = []
        self._lines = {name: _Line(port, mount, headers) for name in ("waiting", "sending")}

    def greet(self, hello: Hello) -> Unit:
        """See `Link.greet`; nothing more is asked until the connection is committed."""
        try:
            reply = self._lines["waiting"].ask(codec.encode_body(hello))
        except (OSError, http.client.HTTPException, RemoteProtocolError) as error:
            raise ConnectionFailed(repr(error)) from error
        if reply.unit is None:
            raise ConnectionFailed(f"status {reply.status}: {reply.body[:200]!r}")
        if isinstance(reply.unit, End):
            self.kill()
        return reply.unit

    def committed(self) -> None:
        """Begin to poll."""
        self._start(self._waiting)
        self._start(self._sending)

    def kill(self) -> None:
        """Give up every request."""
        with self._owner.changed:
            self.over = True
            self._owner.changed.notify_all()
        for line in self._lines.values():
            line.cut()

    def join(self) -> None:
        """See `Link.join`."""
        super().join()
        for line in self._lines.values():
            line.close()

    @property
    def _carries(self) -> bool:
        carrier = self._owner.machine.carrier
        return not self.over and carrier is not None and carrier.attempt == self.attempt

    def _waiting(self) -> None:
        owner = self._owner
        while True:
            with owner.changed:
                if not self._carries or owner.machine.state is State.CLOSED:
                    break
                request = owner.machine.poll(wait=self.wait, limit=self.limit)
            self._ask("waiting", request)
        with owner.changed:
            if not self._carries:
                # Another was committed while no request of this one was under way.
                self.over = True
                owner.changed.notify_all()
                return
            # The server's close is acknowledged by one more request.
            request = owner.machine.poll(wait=None)
        self._ask("waiting", request)
        self._lost("over")

    def _sending(self) -> None:
        owner = self._owner
        while True:
            with owner.changed:
                while self._carries:
                    owner.tick()
                    if owner.machine.state is State.CLOSED:
                        return
                    if owner.machine.outbox.last > owner.machine.outbox.received:
                        break
                    owner.changed.wait(owner.patience())
                else:
                    return
                request = owner.machine.poll(wait=None)
            self._ask("sending", request)

    def _ask(self, line: str, request: PollRequest) -> None:
        """Make a request, and give its answer to the session; a failed one is only noted."""
        try:
            reply = self._lines[line].ask(codec.encode_body(request))
        except (OSError, http.client.HTTPException) as error:
            self._failed(repr(error))
            return
        unit = reply.unit
        if isinstance(unit, End) and not unit.session:
            self.close_code = unit.code
            self._lost(f"ended: {unit.code} {unit.reason}")
        elif isinstance(unit, (Envelope, End)):
            with self._owner.changed:
                if not self.over:
                    self._owner.arrived(self.attempt, unit)
        else:
            self._failed(f"status {reply.status}: {reply.body[:200]!r}")

    def _failed(self, why: str) -> None:
        with self._owner.changed:
            if not self.over:
                self.failures.append(why)
                # The first time at once, then with a pause; `kill` ends it.
                pause = min(0.02 * (len(self.failures) - 1), 0.5)
                self._owner.changed.wait_for(lambda: self.over, pause)


class _Line:
    """One HTTP connection, used again and again."""

    def __init__(self, port: int, mount: str, headers: Mapping[str, str] | None) -> None:
        self._path = mount + "/poll"
        self._headers = polling_headers(headers)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT + WAIT)
        self._cut = False

    def ask(self, body: bytes) -> Reply:
        try:
            self._connection.request("POST", self._path, body, self._headers)
            if self._cut:
                raise ConnectionAbortedError("cut")
            return read_reply(self._connection.getresponse())
        except BaseException:
            self._connection.close()
            raise

    def cut(self) -> None:
        self._cut = True
        sock = self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.close()
