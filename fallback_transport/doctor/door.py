"""The doctor's doors: `POST doctor/poll` and `GET doctor/ws`, as ``DOCTOR.md`` has them."""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from ..answers import Answer
from ..handshake import SUBPROTOCOL, BadHandshake, handshake
from ..options import Options
from ..runtime import Runtime, make_lock, take_socket
from ..version import __version__
from ..websocket import READ_BYTES, framing_logger
from .findings import HEADER, MAX_MESSAGE, PROOF
from .runs import Handshake, Run, Runs, valid_name

logger = logging.getLogger("fallback_transport.doctor")

COOKIE = "fallback_transport_doctor"
#: Seconds for which a request may be held.
MAX_HOLD = 300.0
#: Seconds after which a WebSocket on which nothing is said is closed: behind the longest silence
#: that a client may choose.
MAX_SILENCE = 310.0
#: Messages of a client on one WebSocket: an examination takes 4.
MAX_MESSAGES = 100
#: Bytes of the largest answer that can be asked for.
MAX_GIVEN = 1_000_000
#: What waits at once, in all, of one address, which must not keep others out, and of one run: a
#: held request, a stream and a WebSocket, each of which a network may repeat.
MAX_WAITING = 200
MAX_WAITING_PER_ADDRESS = 100
MAX_WAITING_PER_RUN = 6
#: Seconds between two parts of a stream, and the bytes of one: more than the 1 kB that a browser
#: keeps back to guess a type, and less than what proxies keep in a buffer.
STREAM_GAP = 0.5
STREAM_PARTS = 3
STREAM_BYTES = 2048

# Nothing that could be compressed, beyond what a compressor looks back for (32 kB).
_PADDING = secrets.token_urlsafe(48 * 1024).encode()


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """An answer in parts, with pauses."""

    headers: tuple[tuple[str, str], ...]
    parts: Iterator[bytes]


class Refused(Exception):
    """A request that is not served: the status, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class DoctorDoor:
    """See the module.

    Args:
        runtime: the async mode.
        options: see `Options`.
    """

    def __init__(self, runtime: Runtime, options: Options) -> None:
        self.runs = Runs(runtime.now)
        self._runtime = runtime
        self._options = options
        self._lock = make_lock()
        #: How many wait, of each address for which any does.
        self._waiting: Counter[str] = Counter()

    # -- by HTTP -------------------------------------------------------------------

    def poll(
        self,
        environ: dict[str, Any],
        body: bytes,
        address: str,
        may_begin: Callable[[], bool],
    ) -> Answer | StreamedAnswer:
        """Answer a command.

        Args:
            body: all of it.
            address: whom a new run counts for.
            may_begin: whether this client may begin a run.
        """
        try:
            command = _command(body)
            run = self._run(command.get("run"), address, may_begin)
            what = command.get("do")
            if what == "serial":
                run.serial += 1
                return _answer({"serial": run.serial})
            number = command.get("number")
            if type(number) is not int or not 0 <= number < 10**9:
                raise Refused(400, "a command has a number")
            run.numbered(number)
            if what == "begin":
                return self._begin(number)
            if what == "echo":
                facts = {"bytes": len(body), "process": self.runs.process, **_arrived(environ)}
                return _answer({"number": number, **facts})
            if what == "give":
                size = int(_number(command, "bytes", MAX_GIVEN))
                return _answer({"number": number}, size=size)
            if what == "hold":
                return self._hold(run, number, _number(command, "seconds", MAX_HOLD))
            if what == "stream":
                return StreamedAnswer(_HEADERS, self._stream(run, number))
            if what == "seen":
                trusted = self._options.trusted_proxies
                return _answer({"number": number, "seen": run.seen(environ, trusted)})
            raise Refused(400, "an unknown command")
        except Refused as refused:
            return _refusal(refused)

    def _run(self, name: object, address: str, may_begin: Callable[[], bool]) -> Run:
        if not valid_name(name):
            raise Refused(400, "a run has a name")
        assert isinstance(name, str)
        run = self.runs.find(name)
        if run is None:
            if not may_begin():
                raise Refused(403, "not allowed")
            run = self.runs.begin(name, address)
        if not run.request():
            raise Refused(429, "too many requests of one run")
        return run

    def _begin(self, number: int) -> Answer:
        # Of no path: the browser knows where it has asked, and the server may not, behind a proxy
        # that takes a part of it away.
        cookie = f"{COOKIE}=1; Max-Age=600; HttpOnly; SameSite=Strict"
        facts = {
            "number": number,
            "library": __version__,
            "body": self._options.max_body,
            "time": int(time.time() * 1000),
        }
        return _answer(facts, ("Set-Cookie", cookie))

    def _hold(self, run: Run, number: int, seconds: float) -> Answer:
        with self._place(run):
            self._runtime.sleep(seconds)
        return _answer({"number": number, "held": seconds})

    def _stream(self, run: Run, number: int) -> Iterator[bytes]:
        # Here and not before: what is never begun is never ended either.
        try:
            with self._place(run):
                yield json.dumps({"number": number}).encode() + b"\n" + _PADDING[:STREAM_BYTES]
                for _ in range(STREAM_PARTS - 1):
                    self._runtime.sleep(STREAM_GAP)
                    yield _PADDING[:STREAM_BYTES]
                yield b"."
        except Refused as refused:
            yield _refusal(refused).body

    @contextlib.contextmanager
    def _place(self, run: Run) -> Iterator[None]:
        """A place to wait in."""
        with self._lock:
            own = self._waiting[run.address]
            many = self._waiting.total() >= MAX_WAITING or own >= MAX_WAITING_PER_ADDRESS
            if many or run.waiting >= MAX_WAITING_PER_RUN:
                raise Refused(503, "too many wait")
            self._waiting[run.address] += 1
            run.waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[run.address] -= 1
                if not self._waiting[run.address]:
                    del self._waiting[run.address]
                run.waiting -= 1

    # -- by WebSocket --------------------------------------------------------------

    def websocket(
        self, environ: dict[str, Any], address: str, may_begin: Callable[[], bool]
    ) -> Answer | None:
        """Serve a request for the WebSocket; None once the socket was used, and is over.

        Raises:
            UnsuitableServer: there is no socket to be had.
        """
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        try:
            run = self._run(query.get("run", [None])[0], address, may_begin)
            if "plain" in query:
                run.plain += 1
                raise Refused(426, "a WebSocket is here")
            seen = run.handshake(environ)
            seen.status = 501
            try:
                request = handshake(environ)
                with self._place(run):
                    _Talk(take_socket(self._runtime.mode, environ), seen).run(request)
            except BadHandshake as error:
                seen.status = error.status
                return _refusal(Refused(error.status, str(error)), *error.headers)
            except Refused as refused:
                seen.status = refused.status
                raise
        except Refused as refused:
            return _refusal(refused)
        return None


class _Talk:
    """One WebSocket: what is sent unasked, and an answer to every message."""

    def __init__(self, sock: Any, seen: Handshake) -> None:
        self._sock = sock
        self._seen = seen
        self._length = 0
        self._framing = ServerProtocol(
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
            max_size=MAX_MESSAGE,
            logger=framing_logger,
        )

    def run(self, request: bytes) -> None:
        framing, seen = self._framing, self._seen
        self._sock.settimeout(MAX_SILENCE)
        try:
            framing.receive_data(request)
            for event in framing.events_received():
                if isinstance(event, Request):
                    response = framing.accept(event)
                    seen.status = response.status_code
                    framing.send_response(response)
            self._flush()
            if seen.status == 101:
                for length in PROOF:
                    framing.send_text(b"x" * length)
                    self._flush()
                    seen.down.append(length)
            while not self._receive(self._sock.recv(READ_BYTES)):
                pass
        except OSError:
            # Cut, or silent for too long: that is what it is there for.
            pass
        finally:
            seen.closed = framing.close_code if framing.close_rcvd else None
            framing.parser.close()
            with contextlib.suppress(OSError):
                # Not closed: it is the server's, and Werkzeug's would log that as a failed request.
                self._sock.shutdown(socket.SHUT_RDWR)

    def _receive(self, data: bytes) -> bool:
        """Take bytes; True at the end."""
        framing = self._framing
        if data:
            framing.receive_data(data)
        else:
            framing.receive_eof()
        for event in framing.events_received():
            if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.CONT):
                self._length += len(event.data)
                if event.fin:
                    self._got(self._length)
                    self._length = 0
        self._flush()
        return not data

    def _got(self, length: int) -> None:
        up = self._seen.up
        if len(up) < MAX_MESSAGES:
            up.append(length)
            if self._framing.state.name == "OPEN":
                self._framing.send_text(f"got {length}".encode())
        elif self._framing.state.name == "OPEN":
            self._framing.send_close(CloseCode.POLICY_VIOLATION)

    def _flush(self) -> None:
        for data in self._framing.data_to_send():
            if data:
                self._sock.sendall(data)
            else:
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_WR)


_HEADERS = ((HEADER, "1"),)


def _command(body: bytes) -> dict[str, Any]:
    line = body.partition(b"\n")[0]
    if len(line) > 1000:
        raise Refused(400, "a line of JSON is expected")
    try:
        command = json.loads(line)
    except (ValueError, RecursionError):
        command = None
    if not isinstance(command, dict):
        raise Refused(400, "a line of JSON is expected")
    return command


def _number(command: dict[str, Any], name: str, most: float) -> float:
    number: Any = command.get(name)
    known = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not known or not 0 <= number <= most:
        raise Refused(400, f"{name} is a number up to {most:g}")
    return float(number)


def _arrived(environ: dict[str, Any]) -> dict[str, bool]:
    cookies = environ.get("HTTP_COOKIE", "")
    return {
        "header": environ.get("HTTP_" + HEADER.upper().replace("-", "_")) == "1",
        "cookie": f"{COOKIE}=1" in [each.strip() for each in cookies.split(";")],
    }


def _answer(facts: dict[str, Any], *headers: tuple[str, str], size: int = 0) -> Answer:
    head = json.dumps(facts, separators=(",", ":")).encode() + b"\n"
    missing = max(0, size - len(head) - 1)
    padding = (_PADDING * (missing // len(_PADDING) + 1))[:missing]
    return Answer(200, head + padding + b".", (*_HEADERS, *headers))


def refuse_command(
    status: int, reason: str, *headers: tuple[str, str], unread: bool = False
) -> Answer:
    """The server's own refusal, in the doctor's words; `unread`: see `Answer`."""
    logger.info("%s %s", status, reason)
    body = json.dumps({"error": reason}).encode() + b"\n."
    return Answer(status, body, (*_HEADERS, *headers), unread)


def guarded(start_response: Callable[..., Any]) -> Callable[..., Any]:
    """For what the application answers whom it does not let in: so that it is taken for its own."""

    def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
        # By 404 it says that there is no doctor.
        own = () if status.startswith("404") else _HEADERS
        return start_response(status, [*headers, *own], *more)

    return start


def _refusal(refused: Refused, *headers: tuple[str, str]) -> Answer:
    return refuse_command(refused.status, str(refused), *headers)
