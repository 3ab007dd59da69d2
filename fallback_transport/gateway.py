"""The gateway: WSGI middleware that answers at the doors, and passes on the rest.

Here every request is checked before a transport sees it: method, size, origin.
"""

from __future__ import annotations

import io
import itertools
import logging
import re
from collections.abc import Callable, Collection, Iterable
from enum import Enum, auto
from typing import Any, NamedTuple

from .admission import Unproven, client_address
from .answers import (
    PLAIN,
    Answer,
    StartResponse,
    refuse,
    respond,
    respond_file,
    retry_after,
    wrong_method,
)
from .doctor.door import DoctorDoor, StreamedAnswer, guarded, refuse_command
from .drivers import BlockingDriver
from .files import FILES, keep
from .handshake import BadHandshake, handshake, is_ours
from .metrics import Metrics
from .options import Options
from .origins import Origins
from .polling import HeldPoll, PollingDoor, answer
from .protocol.codec import END_MARK
from .protocol.codes import CloseCode
from .protocol.envelope import End, Hello
from .registry import Registry
from .request import CREDENTIALS, plain_request
from .runtime import Runtime, UnsuitableServer, WSGIApplication, hurry, released, take_socket
from .websocket import WebSocketConnection

logger = logging.getLogger("fallback_transport.gateway")

#: What is at a mount. The first two are in every path below it, too.
_DOORS = ("ws", "poll", *FILES)
_FOREIGN_ORIGIN = "this origin is not allowed"
#: The answer to a handshake.
_FOREIGN = Answer(403, f"{_FOREIGN_ORIGIN}\n".encode(), unread=True)
#: What a page is told of a server that does not suit the async mode; the log knows more.
UNSUITABLE = "the server is started in a way that cannot work; its log says why"

#: The doctor's page, and what it needs: paths below a mount, and files.
_PAGE = {
    "doctor": "doctor.html",
    "doctor/doctor.js": "doctor.js",
    "doctor/doctor.css": "doctor.css",
    "doctor/findings.json": "doctor_findings.json",
}
_DOCTOR = (*_PAGE, "doctor/poll", "doctor/ws")


class Nearness(Enum):
    """Where a path is.

    At a mount the doors are ours. Below, they may as well be the application's, so that only who
    asks for them in our protocol gets them.
    """

    MOUNT = auto()
    BELOW = auto()
    ELSEWHERE = auto()


class _BadBody(NamedTuple):
    """A body that is not taken; `unread`: it was left where it is."""

    status: int
    end: End
    unread: bool = True


#: Gives what answers a request, if it may not go on.
Guard = Callable[[dict[str, Any]], "WSGIApplication | None"]


class Gateway:
    """See the module.

    Args:
        app: the WSGI application behind.
        registry: the sessions.
        options: see `Options`.
        origins: whose pages are let in.
        stock, stock_path: answers stock clients' requests, and their mount; None if somebody else
            serves it.
        extra: what is added to the environ that handlers and stock clients' handlers see.
        mounts: the mounts of all gateways of this application, also of later ones.
        doctor: the doctor's doors; None where there are none.
        guard: asked for the doctor; gives what answers instead, if it says no.
        metrics: the page for Prometheus; None where there is none.
        metrics_guard: asked for that one.
    """

    def __init__(
        self,
        app: WSGIApplication,
        registry: Registry,
        options: Options,
        *,
        origins: Origins,
        stock: WSGIApplication,
        stock_path: str | None,
        extra: dict[str, Any],
        mounts: Collection[str],
        doctor: DoctorDoor | None = None,
        guard: Guard = lambda environ: None,
        metrics: Metrics | None = None,
        metrics_guard: Guard = lambda environ: None,
    ) -> None:
        # Not with the first request: a worker may be forked when another release is there already.
        keep()
        self.origins = origins
        #: What is behind.
        self.app = app
        self.registry = registry
        self._stock = stock
        self._stock_path = stock_path
        self._trusted_proxies = options.trusted_proxies
        #: Where its sessions' doors are, and those of all gateways of the application.
        self.mounts = options.paths
        self._all_mounts = mounts
        self.extra = extra
        self._doctor = doctor
        names = [*(_DOCTOR if doctor else ()), *(("metrics",) if metrics else ())]
        #: What is beside the sessions' doors, by its whole path.
        self._beside = {
            mount.rstrip("/") + "/" + name: name for mount in options.paths for name in names
        }
        self._guard = guard
        self._metrics = metrics
        self._metrics_guard = metrics_guard
        self.door = PollingDoor(registry, options.max_held_polls)
        self._lock = self.runtime.lock()
        self._ungreeted = Unproven[str](options.max_ungreeted, options.max_ungreeted_per_address)
        self._handshakes = itertools.count()
        self._said_missed = False

    @property
    def runtime(self) -> Runtime:
        """The async mode."""
        return self.registry.runtime

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        beside = self._beside.get(path)
        if beside is not None:
            self.runtime.share(environ)
            if beside == "metrics":
                return self._measure(environ, start_response)
            return self._examine(beside, environ, start_response)
        place, _, name = path.rpartition("/")
        if name in _DOORS and self._has(place, name, environ):
            return self._session(place, name, environ, start_response)
        stock = self._stock_path
        if stock is not None and (path == stock or path.startswith(stock + "/")):
            environ.update(self.extra)
            return self._stock(self._own(environ), start_response)
        return self.app(environ, start_response)

    def _has(self, place: str, name: str, environ: dict[str, Any]) -> bool:
        """Whether the door `name` in the path `place` is one of ours."""
        near = self.nearness(place)
        if near is not Nearness.BELOW:
            if name == "ws" and not self._mount_of(place):
                self._missed(place, environ)
            return near is Nearness.MOUNT
        if name == "ws":
            return is_ours(environ)
        return name == "poll" and self._is_poll(environ)

    def nearness(self, place: str) -> Nearness:
        """Where the path `place` is, to our mounts."""
        if place in self.mounts and place != "/":
            return Nearness.MOUNT
        mount = self._mount_of(place)
        if mount not in self.mounts:
            return Nearness.ELSEWHERE
        return Nearness.MOUNT if place == mount.rstrip("/") else Nearness.BELOW

    def _mount_of(self, place: str) -> str:
        """The mount at or below which the path `place` is, be it another gateway's; "" if none."""
        mounts = [m for m in self._all_mounts if (place + "/").startswith(m.rstrip("/") + "/")]
        return max(mounts, key=len, default="")

    def _missed(self, place: str, environ: dict[str, Any]) -> None:
        """Say, once, that a page looks for sessions where there are none.

        Of an application's gateways, one does: the first mount's.
        """
        first = next(iter(self._all_mounts)) in self.mounts
        if self._said_missed or not first or not is_ours(environ):
            return
        self._said_missed = True
        logger.warning(
            "a page looks for sessions at %.80r, and they are at %s: the URL of its connect(), the "
            "option path, or the prefix that a proxy strips or adds is another",
            place,
            ", ".join(self._all_mounts),
        )

    def is_beside(self, path: str) -> bool:
        """Whether something else than a session's door is there, or may be."""
        stock = self._stock_path
        return path in self._beside or (stock is not None and path.startswith(stock + "/"))

    def _is_poll(self, environ: dict[str, Any]) -> bool:
        """Whether the request's body ends as those of our clients do; it can be read again."""
        length = environ.get("CONTENT_LENGTH") or ""
        stated = re.fullmatch("[0-9]{1,12}", length, re.ASCII)
        if environ["REQUEST_METHOD"] != "POST" or "HTTP_TRANSFER_ENCODING" in environ:
            return False
        if not stated or int(length) > self.registry.grant.body:
            return False
        # While the server's own stream is still there.
        hurry(self.runtime.mode, environ)
        body = self._read(environ)
        environ["wsgi.input"] = io.BytesIO(body)
        return body.endswith(END_MARK.encode())

    def _session(
        self, place: str, name: str, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        # Requests that come without a pause must not keep a hub from everybody else.
        self.runtime.share(environ)
        if name not in ("poll", "ws"):
            return respond_file(self.runtime, name, environ, start_response)
        try:
            self.runtime.check(environ)
        except UnsuitableServer as error:
            # The page is told, too, and does not try for ever.
            text = f"{error}\n".encode()
            end = answer(End(CloseCode.INTERNAL_ERROR, UNSUITABLE)).body
            body, readable = (text, ()) if name == "ws" else (end, self.origins.readable(environ))
            refusal = Answer(501, body, readable, unread=True)
            return respond(self.runtime, refusal, environ, start_response)

        def request(hello: Hello) -> dict[str, Any]:
            trusted = self.origins.trusts(environ)
            return plain_request(environ, place, hello, self.extra, trusted=trusted)

        if name == "ws":
            return self._websocket(environ, request, start_response)
        polled = self._poll(environ, request)
        if readable := self.origins.readable(environ):
            polled = polled._replace(headers=(*polled.headers, *readable))
        return respond(self.runtime, polled, environ, start_response)

    # -- polling -----------------------------------------------------------------

    def _poll(self, environ: dict[str, Any], request: Callable[[Hello], dict[str, Any]]) -> Answer:
        hurry(self.runtime.mode, environ)
        if environ["REQUEST_METHOD"] != "POST":
            return wrong_method(environ, "POST")
        origin = self.origins.of(environ)
        if origin is None:
            return answer(End(CloseCode.ORIGIN, _FOREIGN_ORIGIN), unread=True)
        body = self._body(environ)
        if isinstance(body, _BadBody):
            return Answer(body.status, answer(body.end).body, unread=body.unread)
        event = self.runtime.event()
        taken = self.door.take(body, request, origin, event.set, lambda: self.address(environ))
        if isinstance(taken, HeldPoll):
            try:
                event.wait(taken.patience)
            finally:
                self.door.left()
            return taken.settle()
        return taken

    def _body(self, environ: dict[str, Any]) -> bytes | _BadBody:
        length = environ.get("CONTENT_LENGTH", "")
        limit = self.registry.grant.body
        if "HTTP_TRANSFER_ENCODING" in environ or not re.fullmatch("[0-9]+", length, re.ASCII):
            end = End(CloseCode.MALFORMED, "a body of unstated length")
            logger.warning("poll: %s, from %s", end.reason, self.address(environ))
            return _BadBody(411, end)
        if len(length) > 12 or int(length) > limit:
            told = "poll: a body of %.20s bytes; at most %s, from %s"
            logger.warning(told, length, limit, self.address(environ))
            return _BadBody(413, End(CloseCode.TOO_LARGE, f"at most {limit} bytes"))
        body = self._read(environ)
        if len(body) < int(length):
            end = End(CloseCode.MALFORMED, "the body ended early")
            logger.warning("poll: %s, from %s", end.reason, self.address(environ))
            return _BadBody(400, end, unread=False)
        return body

    def _read(self, environ: dict[str, Any]) -> bytes:
        try:
            body: bytes = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        except (OSError, ValueError):
            return b""
        return body

    # -- WebSocket ---------------------------------------------------------------

    def _websocket(
        self,
        environ: dict[str, Any],
        request: Callable[[Hello], dict[str, Any]],
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        origin = self.origins.of(environ)
        if origin is None:
            return respond(self.runtime, _FOREIGN, environ, start_response)
        address = self.address(environ)
        key = self.admit(address)
        if key is None:
            whose = f" from {address}" if self._ungreeted.is_crowded(address) else ""
            text = f"too many WebSockets{whose} wait for their hello"
            refusal = refuse(503, text, environ, *retry_after())
            return respond(self.runtime, refusal, environ, start_response)
        try:
            opening = handshake(environ)
            sock = take_socket(self.runtime.mode, environ)
            driver = BlockingDriver(sock, self.runtime)
            connection = WebSocketConnection(
                self.registry,
                request,
                origin,
                driver,
                address=address,
                greeted=lambda: self.greeted(key),
            )
            connection.receive(opening)
            driver.run(connection)
        except BadHandshake as error:
            refusal = refuse(error.status, str(error), environ, *error.headers)
            return respond(self.runtime, refusal, environ, start_response)
        except UnsuitableServer as error:
            return respond(self.runtime, refuse(501, str(error), environ), environ, start_response)
        finally:
            self.greeted(key)
        return released(environ, start_response)

    def admit(self, address: str) -> str | None:
        """Count a WebSocket that has not said hello; None if there are too many."""
        with self._lock:
            if self._ungreeted.obstacle(address) is not None:
                return None
            key = str(next(self._handshakes))
            self._ungreeted.add(address, key, key)
        return key

    def greeted(self, key: str) -> None:
        """Its hello has come, or it is gone."""
        with self._lock:
            self._ungreeted.remove(key)

    # -- the doctor ----------------------------------------------------------------

    def _examine(
        self, name: str, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        doctor = self._doctor
        assert doctor is not None, "else there is no such path"
        if self.origins.of(environ) is None:
            refusal = refuse_command(403, _FOREIGN_ORIGIN, unread=True)
            return respond(self.runtime, refusal, environ, start_response)
        if name in _PAGE:
            refused = self._guard(environ) if name == "doctor" else None
            if refused is not None:
                return refused(environ, start_response)
            return respond_file(self.runtime, _PAGE[name], environ, start_response)
        refusals: list[WSGIApplication] = []

        def may_begin() -> bool:
            # Whoever has chosen its name goes on with a run: none begins in the name of a user
            # whose browser was made to ask by a page of another site.
            own = self._own(environ)
            refused = self._guard(own)
            if refused is not None and own is environ:
                # Else what is noted of somebody without cookies would take their place.
                refusals.append(refused)
            return refused is None

        address = self.address(environ)
        # As they are: what is compressed, something on the way has compressed.
        environ.pop("HTTP_ACCEPT_ENCODING", None)
        taken: Answer | StreamedAnswer | None
        if name == "doctor/poll" and environ["REQUEST_METHOD"] == "POST":
            hurry(self.runtime.mode, environ)
            body = self._body(environ)
            if isinstance(body, _BadBody):
                refusal = refuse_command(body.status, body.end.reason, unread=body.unread)
                return respond(self.runtime, refusal, environ, start_response)
            taken = doctor.poll(environ, body, address, may_begin)
        elif name == "doctor/ws":
            try:
                taken = doctor.websocket(environ, address, may_begin)
            except UnsuitableServer as error:
                taken = refuse(501, str(error), environ)
        else:
            taken = wrong_method(environ, "POST")
        if refusals:
            return refusals[0](environ, guarded(start_response))
        if taken is None:
            return released(environ, start_response)
        if isinstance(taken, Answer):
            return respond(self.runtime, taken, environ, start_response)
        # Else eventlet's server gathers what is short.
        environ["eventlet.minimum_write_chunk_size"] = 0
        start_response("200 OK", [*PLAIN, *taken.headers])
        return taken.parts

    def _measure(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        metrics = self._metrics
        assert metrics is not None, "else there is no such path"
        refused = self._metrics_guard(environ)
        if refused is not None:
            return refused(environ, start_response)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            refusal = wrong_method(environ, "GET", "HEAD")
            return respond(self.runtime, refusal, environ, start_response)
        body = metrics.text()
        headers = [
            ("Content-Type", metrics.content_type),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Content-Length", str(len(body))),
        ]
        start_response("200 OK", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    # -- what every request goes through -------------------------------------------

    def _own(self, environ: dict[str, Any]) -> dict[str, Any]:
        """A request without what its browser adds, if it is some other site's page that asks."""
        if self.origins.trusts_unstated(environ):
            return environ
        return {name: environ[name] for name in environ if name not in CREDENTIALS}

    def address(self, environ: dict[str, Any]) -> str:
        """The address that a request counts for."""
        return client_address(environ, self._trusted_proxies)
