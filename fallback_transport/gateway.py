"""The gateway: WSGI middleware that answers what is under the mount, and passes on the rest.

Here every request is checked before a transport sees it: method, size, origin.
What handlers will see of the request is cut down to plain values.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import re
import socket
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .admission import Unproven, client_address
from .polling import Answer, HeldPoll, PollingDoor, answer, retry_after
from .protocol.codes import CloseCode
from .protocol.envelope import End
from .registry import Registry
from .runtime import Runtime, UnsuitableServer, WSGIApplication, make_lock
from .websocket import BadHandshake, BlockingDriver, WebSocketConnection, handshake

logger = logging.getLogger("fallback_transport.gateway")

StartResponse = Callable[..., Any]

#: Seconds for a client that is turned away to stop sending what nobody reads.
LINGER = 5.0
#: Bodies shorter than this are not compressed: the gain is under one packet.
COMPRESS_FROM = 1400
#: Bodies shorter than this are gone from our memory at once: a socket takes them without waiting.
WEIGH_FROM = 16_384

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """What the gateway is told.

    Args:
        path: the mount, beginning with a slash and not ending with one.
        origins: further allowed origins; None for the page's own only, "*" for all.
        stock_path: the mount of the stock Socket.IO clients, None if somebody else serves it.
        max_held: see `PollingDoor`.
        trusted_proxies: see `client_address`.
        max_ungreeted, max_ungreeted_per_address: WebSockets whose hello has not come
            yet, in all and from one address; beyond, a handshake is answered with 503.
    """

    path: str = "/fallback"
    origins: tuple[str, ...] = ()
    stock_path: str | None = "/socket.io"
    max_held: int | None = None
    trusted_proxies: int = 0
    max_ungreeted: int = 1000
    max_ungreeted_per_address: int = 200


class Gateway:
    """See the module.

    Args:
        app: the WSGI application behind.
        registry, runtime: the sessions and the async mode.
        stock: answers stock clients' requests.
        options: see `GatewayOptions`.
        extra: what is added to the environ that handlers and stock clients' handlers see.
    """

    def __init__(
        self,
        app: WSGIApplication,
        registry: Registry,
        runtime: Runtime,
        stock: WSGIApplication,
        options: GatewayOptions,
        extra: dict[str, Any],
    ) -> None:
        self._app = app
        self._registry = registry
        self._runtime = runtime
        self._stock = stock
        self._options = options
        self._extra = extra
        self._door = PollingDoor(registry, options.max_held)
        self._lock = make_lock()
        self._ungreeted = Unproven[str](options.max_ungreeted, options.max_ungreeted_per_address)
        self._handshakes = itertools.count()

    def run_on(self, runtime: Runtime) -> None:
        """Run on another runtime from now on."""
        self._runtime = runtime

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        mount = self._options.path
        if path.startswith(mount + "/"):
            return self._session(path[len(mount) + 1 :], environ, start_response)
        stock = self._options.stock_path
        if stock is not None and (path == stock or path.startswith(stock + "/")):
            environ.update(self._extra)
            return self._stock(environ, start_response)
        return self._app(environ, start_response)

    def _session(
        self, name: str, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        # Requests that come without a pause must not keep a hub from everybody else.
        self._runtime.give_way()
        if name == "poll":
            return self._respond(self._poll(environ), environ, start_response)
        if name == "ws":
            return self._websocket(environ, start_response)
        if name == "fallback_transport.js":
            return self._script(environ, start_response)
        return self._respond(_refusal(404, "no such path", environ), environ, start_response)

    # -- polling -----------------------------------------------------------------

    def _poll(self, environ: dict[str, Any]) -> Answer:
        self._runtime.hurry(environ)
        if environ["REQUEST_METHOD"] != "POST":
            return _refusal(405, "POST is the only method here", environ, ("Allow", "POST"))
        origin = self._origin(environ)
        if origin is None:
            return answer(End(CloseCode.ORIGIN, "this origin is not allowed"), unread=True)
        body = self._body(environ)
        if isinstance(body, Answer):
            return body
        event = self._runtime.event()
        taken = self._door.take(
            body, lambda: self._request(environ), origin, event.set, self._address(environ)
        )
        if isinstance(taken, HeldPoll):
            try:
                event.wait(taken.patience)
            finally:
                self._door.left()
            return taken.settle()
        return taken

    def _body(self, environ: dict[str, Any]) -> bytes | Answer:
        length = environ.get("CONTENT_LENGTH", "")
        limit = self._registry.grant.body
        if "HTTP_TRANSFER_ENCODING" in environ or not re.fullmatch("[0-9]+", length, re.ASCII):
            end = End(CloseCode.MALFORMED, "a body of unstated length")
            logger.warning("poll: %s", end.reason)
            return Answer(411, answer(end).body, unread=True)
        if len(length) > 12 or int(length) > limit:
            logger.warning("poll: a body of %.20s bytes; at most %s", length, limit)
            return answer(End(CloseCode.TOO_LARGE, f"at most {limit} bytes"), unread=True)
        try:
            body: bytes = environ["wsgi.input"].read(int(length))
        except (OSError, ValueError):
            body = b""
        if len(body) < int(length):
            end = End(CloseCode.MALFORMED, "the body ended early")
            logger.warning("poll: %s", end.reason)
            return answer(end)
        return body

    # -- WebSocket ---------------------------------------------------------------

    def _websocket(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        origin = self._origin(environ)
        if origin is None:
            refusal = Answer(403, b"this origin is not allowed\n", unread=True)
            return self._respond(refusal, environ, start_response)
        address = self._address(environ)
        key = self._admit(address)
        if key is None:
            text = f"too many WebSockets from {address} wait for their hello"
            refusal = _refusal(503, text, environ, *retry_after())
            return self._respond(refusal, environ, start_response)
        try:
            request = handshake(environ)
            sock = self._runtime.take_socket(environ)
            driver = BlockingDriver(sock, self._runtime)
            connection = WebSocketConnection(
                self._registry,
                lambda: self._request(environ),
                origin,
                driver.wake,
                driver.closing,
                address=address,
                greeted=lambda: self._greeted(key),
            )
            connection.receive(request)
            driver.run(connection)
        except BadHandshake as error:
            refusal = _refusal(error.status, str(error), environ, *error.headers)
            return self._respond(refusal, environ, start_response)
        except UnsuitableServer as error:
            return self._respond(_refusal(501, str(error), environ), environ, start_response)
        finally:
            self._greeted(key)
        return self._runtime.released(environ)

    def _admit(self, address: str) -> str | None:
        """Count a WebSocket that has not said hello; None if there are too many."""
        with self._lock:
            if self._ungreeted.obstacle(address) is not None:
                return None
            key = str(next(self._handshakes))
            self._ungreeted.add(address, key, key)
        return key

    def _greeted(self, key: str) -> None:
        with self._lock:
            self._ungreeted.remove(key)

    # -- answers -------------------------------------------------------------------

    def _respond(
        self, answer: Answer, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        body = answer.body
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *answer.headers,
        ]
        if len(body) >= COMPRESS_FROM and "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""):
            # Level 1: a third of level 9's time for nearly its size, on JSON.
            packer = zlib.compressobj(1, zlib.DEFLATED, 31)
            body = packer.compress(body) + packer.flush()
            headers += [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]
        headers.append(("Content-Length", str(len(body))))
        status = f"{answer.status} {HTTPStatus(answer.status).phrase}"
        if answer.unread and _long_body(environ):
            with contextlib.suppress(UnsuitableServer):
                return self._turn_away(status, headers, body, environ)
        start_response(status, headers)
        if answer.weighs is not None and len(body) >= WEIGH_FROM:
            return _Weighed(body, answer.weighs)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _turn_away(
        self, status: str, headers: list[tuple[str, str]], body: bytes, environ: dict[str, Any]
    ) -> Iterable[bytes]:
        """Answer a request without reading its body, and end its HTTP connection.

        Left to the WSGI server, it would read the body to its end first,
        however long that is, and on a hub without giving way.
        """
        sock = self._runtime.take_socket(environ)
        lines = [f"{name}: {value}" for name, value in [*headers, ("Connection", "close")]]
        head = "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")
        until = self._runtime.now() + LINGER
        with contextlib.suppress(OSError):
            sock.settimeout(LINGER)
            sock.sendall(head + body)
            sock.shutdown(socket.SHUT_WR)
            # A client still sends; closed now, the connection would be reset, answer and all.
            while self._runtime.now() < until and sock.recv(65536):
                self._runtime.give_way()
            sock.shutdown(socket.SHUT_RDWR)
        return self._runtime.released(environ)

    def _script(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            refusal = _refusal(405, "GET is the only method here", environ, ("Allow", "GET, HEAD"))
            return self._respond(refusal, environ, start_response)
        body = script_path().read_bytes()
        etag = f'"{zlib.crc32(body):08x}-{len(body)}"'
        headers = [
            ("ETag", etag),
            ("Cache-Control", "no-cache"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        # There may be several, and a proxy that compresses makes it a weak one.
        if etag in environ.get("HTTP_IF_NONE_MATCH", ""):
            start_response("304 Not Modified", headers)
            return []
        headers += [
            ("Content-Type", "text/javascript; charset=utf-8"),
            ("Content-Length", str(len(body))),
        ]
        start_response("200 OK", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    # -- what every request goes through -------------------------------------------

    def _origin(self, environ: dict[str, Any]) -> str | None:
        """The request's origin, "" if it states none; None if it is not allowed."""
        origin: str = environ.get("HTTP_ORIGIN", "")
        allowed = self._options.origins
        if not origin or "*" in allowed or origin in allowed or _same(origin, environ):
            return origin
        logger.warning("origin %.80r is not allowed", origin)
        return None

    def _address(self, environ: dict[str, Any]) -> str:
        return client_address(environ, self._options.trusted_proxies)

    def _request(self, environ: dict[str, Any]) -> dict[str, Any]:
        """What the session's handlers see of its hello's request: plain values, no streams."""
        seen = {
            name: value
            for name, value in environ.items()
            if isinstance(value, str) and not name.startswith("HTTP_SEC_WEBSOCKET")
        }
        if not seen.get("HTTP_ORIGIN") and seen.get("HTTP_SEC_FETCH_SITE") != "same-origin":
            # Whose page sent it cannot be told, so it acts for nobody.
            seen.pop("HTTP_COOKIE", None)
        seen["REQUEST_METHOD"] = "GET"
        seen.pop("CONTENT_LENGTH", None)
        seen.pop("CONTENT_TYPE", None)
        return {
            **seen,
            "wsgi.version": (1, 0),
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            **self._extra,
        }


class _Weighed:
    """A body that counts for its session until the WSGI server has written it."""

    def __init__(self, body: bytes, weighs: Callable[[int], None]) -> None:
        self._body = [body]
        self._size = len(body)
        self._weighs = weighs
        weighs(self._size)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def __len__(self) -> int:
        return 1

    def close(self) -> None:
        """Called by the server, whatever became of it."""
        size, self._size = self._size, 0
        self._weighs(-size)


def _same(origin: str, environ: dict[str, Any]) -> bool:
    """Whether `origin` is the host that the request was sent to, and not less secure."""
    try:
        page = urlsplit(origin)
        page_port = page.port or _DEFAULT_PORTS.get(page.scheme)
        host = urlsplit("//" + environ.get("HTTP_HOST", ""))
        # A proxy that ends TLS passes on the host without its scheme's port: 443, not our 80.
        port = host.port or _DEFAULT_PORTS.get(page.scheme)
    except ValueError:
        return False
    secure = environ.get("wsgi.url_scheme") != "https" or page.scheme == "https"
    known = page.scheme in _DEFAULT_PORTS and page.hostname is not None
    same_host = known and page.hostname == host.hostname
    return secure and same_host and page_port == port


def _refusal(status: int, text: str, environ: dict[str, Any], *headers: tuple[str, str]) -> Answer:
    """The answer to a request that is none of the protocol's, and its line in the log."""
    method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
    logger.warning("%.20r %.80r: %s %.120r", method, path, status, text)
    return Answer(status, text.encode() + b"\n", headers, unread=True)


def _long_body(environ: dict[str, Any]) -> bool:
    """Whether the request's body may take longer to read than is worth it."""
    length = environ.get("CONTENT_LENGTH") or "0"
    stated = "HTTP_TRANSFER_ENCODING" not in environ and re.fullmatch("[0-9]{1,5}", length)
    return not stated


def script_path() -> Path:
    """Where the browser's half is: in the wheel's package, or beside it in a checkout.

    Raises:
        FileNotFoundError: in neither place; the text names both.
    """
    package = Path(__file__).parent
    for folder in (package / "static", package.parent / "static"):
        if (folder / "fallback_transport.js").is_file():
            return folder / "fallback_transport.js"
    raise FileNotFoundError(
        f"fallback_transport.js is neither in {package}/static nor in {package.parent}/static: "
        "the installation is incomplete"
    )
