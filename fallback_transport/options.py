"""Every option of `FallbackTransport`: its default, its bounds, and what becomes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import socketio

from .origins import valid_origin
from .protocol.codec import MAX_NUMBER, valid_subprotocol
from .protocol.envelope import Grant
from .protocol.reliability import Bounds

#: What stands before an option's name in `app.config`.
PREFIX = "FALLBACK_TRANSPORT_"
#: What these options may be.
CHOICES = {
    "async_mode": ("eventlet", "gevent", "threading"),
    "when_full": ("close", "wait"),
    "binding": ("auto", "hub", "wsgi"),
}
#: Beyond, a time is no time; below, it is exact in a browser's milliseconds.
MAX_SECONDS = 1e9
#: What browsers ask for, and servers hand on, as it is, spaces and the like decoded again.
_REACHABLE = re.compile(r"(?!//|.*/\.\.?(/|$))[^?#%\\\x00-\x1f\x7f-\U0010ffff]*")
#: Bytes of the smallest `max_body`.
MIN_BODY = 16_384
#: What a welcome tells the page, in numbers that it has to be able to read.
GRANTED = ("max_message", "max_body", "credit_messages", "credit_bytes")
WHOLE_NUMBERS = (
    *GRANTED,
    "max_unconfirmed_messages",
    "max_unconfirmed_bytes",
    "max_sessions",
    "max_uncommitted",
    "max_uncommitted_per_address",
    "max_ungreeted",
    "max_ungreeted_per_address",
    "max_held_polls",
)


@dataclass(frozen=True, slots=True)
class Options:
    """Every option of `FallbackTransport`; ``FALLBACK_TRANSPORT_<NAME>`` in `app.config`.

    Args:
        async_mode: "eventlet", "gevent" or "threading", for a server made here.
        path: the mount of the sessions' doors and of the browser's file, or several.
        socketio_path: the mount for stock Socket.IO clients, for a server made
            here; None for none.
        origins: origins that may connect besides the page's own, as browsers state them:
            "https://shop.example"; "*" for all.
        subprotocols: what a page can choose from, as a WebSocket's; it gets the
            first of those that it offers.
        wait: seconds for which a poll may be held; never more than half of `inactivity`.
        keepalive: seconds of silence after which an end asks whether the other lives.
        inactivity: seconds for which a session lives with no connection; at least 120 is wise.
        max_message: bytes of the largest single message; a larger one is refused.
        max_body: bytes of the largest envelope on either transport; larger messages
            travel in parts.
        credit_messages, credit_bytes: what a client may send before it is handled.
        max_unconfirmed_messages, max_unconfirmed_bytes: what is kept for a
            client that does not confirm; beyond, see `when_full`.
        when_full: what an `emit` does beyond that: "close" ends the session with 4429; "wait"
            waits until there is room, see `FallbackTransport.emit`.
        emit_timeout: seconds for which it waits at most; after that, it closes all the same.
        max_sessions: sessions in this process, those included that are over and
            whose handlers have not returned; beyond, 1013.
        max_uncommitted, max_uncommitted_per_address: those of them whose client has not
            confirmed the welcome yet, in all and from one address; beyond, the
            oldest makes room for another once it is 5 s old, until then 1013.
        max_ungreeted, max_ungreeted_per_address: WebSockets that have not said hello
            yet, in all and from one address; beyond, 503.
        trusted_proxies: how many proxies in front append to X-Forwarded-For, which
            says whose address a client has; 0: nobody is to be believed.
        max_held_polls: polls held at once; None for no limit. On a server with
            a fixed number of threads, half of them.
        binding: what `FallbackTransport.run` serves sessions over: "wsgi", the WSGI server;
            "hub", callbacks on eventlet's hub in front of that server; "auto", the hub, and
            WSGI where WSGI middleware other than `ProxyFix` stands in front of sessions.
        drain: seconds for which handlers may finish what is received, when the server
            is told to end; see `FallbackTransport.drain`.
        doctor: the doctor at ``<path>/doctor``: True for everybody, False for none. Or a
            function without arguments, called in the context of the request that asks: True
            lets it in; a response, or whatever else a view may return, is given instead; and
            anything false is answered with 403.
        metrics: `FallbackTransport.stats` at ``<path>/metrics``, for Prometheus; as `doctor`.
        client_manager: a client manager of python-socketio, such as `RedisManager`,
            for a server made here; None for a process that is alone.
    """

    async_mode: str = "eventlet"
    path: str | tuple[str, ...] = "/fallback"
    socketio_path: str | None = "/socket.io"
    origins: tuple[str, ...] = ()
    subprotocols: tuple[str, ...] = ()
    wait: float = 25.0
    keepalive: float = 25.0
    inactivity: float = 120.0
    max_message: int = 16_000_000
    max_body: int = 1_000_000
    credit_messages: int = 1000
    credit_bytes: int = 4_000_000
    max_unconfirmed_messages: int = 10_000
    max_unconfirmed_bytes: int = 32_000_000
    when_full: str = "close"
    emit_timeout: float = 10.0
    max_sessions: int = 20_000
    max_uncommitted: int = 1_000
    max_uncommitted_per_address: int = 200
    max_ungreeted: int = 1_000
    max_ungreeted_per_address: int = 200
    trusted_proxies: int = 0
    max_held_polls: int | None = None
    binding: str = "auto"
    drain: float = 10.0
    doctor: bool | Callable[[], Any] = True
    metrics: bool | Callable[[], Any] = False
    client_manager: Any = None

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is one of {', '.join(choices)}: {getattr(self, name)!r}")
        for name in ("path", "origins", "subprotocols"):
            value = getattr(self, name)
            if name == "origins" and not value:
                # As from an environment variable that is not set.
                value = ()
            single = isinstance(value, str) or not isinstance(value, Iterable)
            object.__setattr__(self, name, (value,) if single else tuple(value))
        for path in self.paths:
            # The root does both, and is a mount, too.
            if path != "/":
                _check_path("path", path)
        if not self.paths or len(set(self.paths)) < len(self.paths):
            raise ValueError(f"path must be one mount, or several different ones: {self.path!r}")
        # None switches stock clients' door off.
        if self.socketio_path is not None:
            _check_path("socketio_path", self.socketio_path)
        if self.socketio_path in self.paths:
            raise ValueError(f"path and socketio_path must differ: {self.socketio_path!r}")
        for origin in self.origins:
            if origin != "*" and not (isinstance(origin, str) and valid_origin(origin)):
                raise ValueError(
                    'origins are "*", "null", or what a browser states, such as '
                    '"https://shop.example" or "http://localhost:8080", all in lower case, without '
                    f"a path, a wildcard or the port that goes without saying: {origin!r}"
                )
        if isinstance(self.client_manager, str):
            # Which may have a password in it.
            raise ValueError(
                "client_manager must be a client manager, such as socketio.RedisManager(url), "
                "and not its URL"
            )
        manager = self.client_manager
        if manager is not None and not isinstance(manager, socketio.Manager):
            raise ValueError(
                "client_manager must be a client manager that is not async, such as "
                f"socketio.RedisManager(url), and not of class {type(manager).__name__}"
            )
        for subprotocol in self.subprotocols:
            if not valid_subprotocol(subprotocol):
                raise ValueError(f"{subprotocol!r} is no name of a subprotocol")
        for name in ("wait", "keepalive", "inactivity", "emit_timeout"):
            seconds = getattr(self, name)
            if not isinstance(seconds, (int, float)) or not 0 < seconds < MAX_SECONDS:
                raise ValueError(f"{name} must be a number of seconds above 0: {seconds!r}")
        if not isinstance(self.drain, (int, float)) or not 0 <= self.drain < MAX_SECONDS:
            raise ValueError(f"drain must be a number of seconds, 0 or more: {self.drain!r}")
        if type(self.trusted_proxies) is not int or self.trusted_proxies < 0:
            raise ValueError(
                f"trusted_proxies must be a whole number, 0 or more: {self.trusted_proxies!r}"
            )
        for name in ("doctor", "metrics"):
            admits = getattr(self, name)
            if not isinstance(admits, bool) and not callable(admits):
                raise ValueError(f"{name} must be True, False or a function: {admits!r}")
        for name in WHOLE_NUMBERS:
            number = getattr(self, name)
            if number is None and name == "max_held_polls":
                continue
            if type(number) is not int or number < 1:
                raise ValueError(f"{name} must be a whole number above 0: {number!r}")
        for name in GRANTED:
            if getattr(self, name) > MAX_NUMBER:
                raise ValueError(f"{name} must be at most {MAX_NUMBER}: {getattr(self, name)}")
        # A head has up to 4096 characters, and something must fit behind it.
        if self.max_body < MIN_BODY:
            raise ValueError(f"max_body must be at least {MIN_BODY} bytes: {self.max_body}")

    @property
    def paths(self) -> tuple[str, ...]:
        """Every mount."""
        assert isinstance(self.path, tuple), "made one when the options were"
        return self.path

    @property
    def grant(self) -> Grant:
        """What each session is granted."""
        return Grant(
            self.credit_messages,
            self.credit_bytes,
            self.max_message,
            self.max_body,
            # A client hears nothing meanwhile, and is not to take that for the end of the session.
            min(self.wait, self.inactivity / 2),
            self.keepalive,
            self.inactivity,
        )

    @property
    def patience(self) -> float | None:
        """Seconds for which an `emit` waits for room; None if it does not."""
        return self.emit_timeout if self.when_full == "wait" else None

    @property
    def bounds(self) -> Bounds:
        """What each session's outbox may hold."""
        return Bounds(self.max_unconfirmed_messages, self.max_unconfirmed_bytes, self.max_message)


def _check_path(name: str, path: Any) -> None:
    if not isinstance(path, str) or not path.startswith("/") or path.endswith("/"):
        raise ValueError(f"{name} must begin with a slash and not end with one: {path!r}")
    if not _REACHABLE.fullmatch(path):
        raise ValueError(
            f"{name} must be a path that requests can have as it is written: of ASCII, without "
            f"?, #, % and \\, without the segments . and .., and with one slash first: {path!r}"
        )


def configured(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that ``app.config`` has.

    Raises:
        ValueError: one of an unknown name.
    """
    names = {field.name for field in fields(Options)}
    found = {key[len(PREFIX) :].lower(): config[key] for key in config if key.startswith(PREFIX)}
    if unknown := found.keys() - names:
        known = ", ".join(sorted(PREFIX + name.upper() for name in names))
        wrong = PREFIX + sorted(unknown)[0].upper()
        raise ValueError(f"unknown configuration key {wrong}; there are {known}")
    return found
