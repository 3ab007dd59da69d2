"""The handlers of an application, and the decorators that register them."""

from __future__ import annotations

import inspect
import json
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, Literal, TypeVar, overload

from .session import Session

#: What each decorator takes, for mypy; as texts, because Python 3.10 cannot make the types.
OnConnect = TypeVar("OnConnect", bound="Callable[[Session], object]")
OnMessage = TypeVar("OnMessage", bound="Callable[Concatenate[Session, ...], object]")
OnAny = TypeVar("OnAny", bound="Callable[Concatenate[Session, str, ...], object]")
OnDisconnect = TypeVar("OnDisconnect", bound="Callable[[Session, int, str], object]")
OnError = TypeVar("OnError", bound="Callable[[Session, Exception, str], str | None]")

CONNECT, DISCONNECT, MESSAGE, ANY = "connect", "disconnect", "message", "*"
#: No event of the server's, so that it is nobody's name.
ERROR = ""
RESUME = "\0resume"
#: What `on_message` cannot take: the events that have a decorator of their own.
_OTHERS = {
    CONNECT: "use on_connect",
    DISCONNECT: "use on_disconnect",
    RESUME: "use on_resume",
    ERROR: "give it a name",
}
#: What the handlers are called with that are no messages'.
_ARGUMENTS = {
    CONNECT: "client",
    RESUME: "client",
    DISCONNECT: "client, code, reason",
    ERROR: "client, error, name",
}


@dataclass(frozen=True, slots=True)
class Registration:
    """One handler, and what it is for.

    Args:
        name: of the event; `ERROR` for the handler of errors, `RESUME` for that of resumes.
        namespace: the Socket.IO namespace.
        handler: the application's function.
        max_bytes: how large the event's data may be; None: as large as any message.
    """

    name: str
    namespace: str
    handler: Callable[..., Any]
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.namespace, str) or not self.namespace.startswith("/"):
            raise ValueError(f"a namespace begins with a slash: {self.namespace!r}")
        size = self.max_bytes
        if size is not None and (type(size) is not int or size < 0):
            raise ValueError(f"max_bytes must be a whole number, 0 or more: {size!r}")
        if problem := _misfit(self.name, self.handler):
            raise TypeError(f"{title(self.handler)} {problem}")

    def __str__(self) -> str:
        what = {ERROR: "errors", RESUME: "resumes"}.get(self.name, repr(self.name))
        return what if self.namespace == "/" else f"{what} in {self.namespace}"


class Handlers:
    """Handlers of a part of an application, for `FallbackTransport.register`.

    It has the decorators of `FallbackTransport`, and can be registered on several.

    Args:
        namespace: the Socket.IO namespace of all handlers that name no other.
    """

    def __init__(self, *, namespace: str = "/") -> None:
        self._namespace = namespace
        self._registrations: list[Registration] = []
        # Not to keep apps alive, of which each test may make one.
        self._users: weakref.WeakSet[Handlers] = weakref.WeakSet()

    @overload
    def on_connect(
        self, handler: None = None, *, namespace: str | None = None
    ) -> Callable[[OnConnect], OnConnect]: ...
    @overload
    def on_connect(self, handler: OnConnect) -> OnConnect: ...

    def on_connect(self, handler: Any = None, *, namespace: str | None = None) -> Any:
        """Register ``f(client)``, called once for each session.

        Raise `ConnectionRefused` in it to refuse the client, or return False. As a decorator of
        views refuses, with ``abort(401)``, ``abort(403)`` or a view's answer (a text, a tuple, a
        `Response`), it does, too. Each namespace has its own; where there is none, everybody is
        welcome.
        """
        return self._decorate(CONNECT, handler, namespace)

    @overload
    def on_message(
        self, name: Literal["*"], *, namespace: str | None = None, max_bytes: int | None = None
    ) -> Callable[[OnAny], OnAny]: ...
    @overload
    def on_message(
        self,
        name: str = MESSAGE,
        *,
        namespace: str | None = None,
        max_bytes: int | None = None,
    ) -> Callable[[OnMessage], OnMessage]: ...
    @overload
    def on_message(self, name: OnMessage) -> OnMessage: ...

    def on_message(
        self,
        name: Any = MESSAGE,
        *,
        namespace: str | None = None,
        max_bytes: int | None = None,
    ) -> Any:
        """Register ``f(client, data)`` for messages.

        ``@on_message`` takes the unnamed ones (`session.send` in the page),
        ``@on_message("chat")`` those named "chat". An event with several arguments
        calls ``f(client, *data)``, one with none ``f(client, None)``, or ``f(client)`` where
        it takes no more. What it returns is the reply, if one was asked for, a tuple as
        several values; if it raises, the asker gets an error.
        ``@on_message("*")`` registers ``f(client, name, *data)`` for all that nobody
        else takes.

        Args:
            namespace: the Socket.IO namespace, "/" unless given; a session has one.
            max_bytes: a larger event's handler is not run, and who asked for a reply
                gets an error, 4413; the session goes on.
        """
        if callable(name):
            return self._decorate(MESSAGE, name, namespace)
        if not isinstance(name, str):
            raise TypeError(f"on_message takes the name of an event, or a handler: {name!r}")
        if name in _OTHERS:
            raise ValueError(f"{name!r} is no message: {_OTHERS[name]}")
        return self._decorate(name, None, namespace, max_bytes)

    @overload
    def on_resume(
        self, handler: None = None, *, namespace: str | None = None
    ) -> Callable[[OnConnect], OnConnect]: ...
    @overload
    def on_resume(self, handler: OnConnect) -> OnConnect: ...

    def on_resume(self, handler: Any = None, *, namespace: str | None = None) -> Any:
        """Register ``f(client)``, called when a new connection resumes a session.

        That is after each loss of the last one and for each change of transport, not for
        each poll; before anything that the connection brings is handled. `flask.request` is the
        request that resumes, with the cookies of now: for what has to be asked again, as
        whether a login still holds.

        Raise `ConnectionRefused` in it to end the session, or do what else refuses in
        `on_connect`; what waits for its handlers then stays unconfirmed. So does whatever else
        it raises, with 1011.
        """
        return self._decorate(RESUME, handler, namespace)

    @overload
    def on_disconnect(
        self, handler: None = None, *, namespace: str | None = None
    ) -> Callable[[OnDisconnect], OnDisconnect]: ...
    @overload
    def on_disconnect(self, handler: OnDisconnect) -> OnDisconnect: ...

    def on_disconnect(self, handler: Any = None, *, namespace: str | None = None) -> Any:
        """Register ``f(client, code, reason)``, called once when a session is over."""
        return self._decorate(DISCONNECT, handler, namespace)

    @overload
    def on_error(
        self, handler: None = None, *, namespace: str | None = None
    ) -> Callable[[OnError], OnError]: ...
    @overload
    def on_error(self, handler: OnError) -> OnError: ...

    def on_error(self, handler: Any = None, *, namespace: str | None = None) -> Any:
        """Register ``f(client, error, name)``, called with what a handler has raised.

        `name` is the event's, "connect", "resume" or "disconnect". The asker gets an error all the
        same; a text that it returns is the error's. Nothing is logged then: that is
        left to it.
        """
        return self._decorate(ERROR, handler, namespace)

    def register(self, handlers: Handlers) -> None:
        """Take the handlers of a `Handlers` here, also those that it gets later.

        Raises:
            ValueError: there is a handler for one of its events already.
            TypeError: it is something else.
        """
        if not isinstance(handlers, Handlers):
            raise TypeError(f"register takes a group, as Handlers() is: {handlers!r}")
        for each in handlers._registrations:
            self._add(each)
        handlers._users.add(self)

    # -- inside ------------------------------------------------------------------------

    def _decorate(
        self,
        name: str,
        handler: Callable[..., Any] | None,
        namespace: str | None,
        max_bytes: int | None = None,
    ) -> Any:
        def register(handler: Callable[..., Any]) -> Any:
            self._add(Registration(name, namespace or self._namespace, handler, max_bytes))
            return handler

        return register if handler is None else register(handler)

    def _add(self, registration: Registration) -> None:
        for each in self._registrations:
            if (each.name, each.namespace) == (registration.name, registration.namespace):
                raise ValueError(f"there is a handler for {each} already; only one would be called")
        self._registrations.append(registration)
        for user in list(self._users):
            user._add(registration)


def takes(handler: Callable[..., Any]) -> range:
    """With how many arguments, beside its client, `handler` can be called."""
    try:
        # That of a decorator's function, which may give other arguments on.
        parameters = inspect.signature(handler, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):
        return range(sys.maxsize)
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
        return range(0)
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    least = sum(p.default is p.empty for p in places) - 1
    many = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return range(least, sys.maxsize if many else len(places))


def title(handler: Any) -> str:
    """What a handler is called where it is defined."""
    name = getattr(handler, "__qualname__", None)
    return f"{handler.__module__}.{name}" if name else repr(handler)


def not_plain(function: Any) -> str | None:
    """Why nothing would run if the function were called; None if it is a plain one."""
    for each in (function, getattr(function, "__call__", None)):  # noqa: B004
        if inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each):
            return "is async"
        if inspect.isgeneratorfunction(each):
            return "is a generator"
    return None


def _misfit(name: str, handler: Any) -> str | None:
    """Why something can be no handler of an event, or None."""
    if not callable(handler):
        return "is no function"
    if problem := not_plain(handler):
        return f"{problem}: handlers are plain functions"
    counts = takes(handler)
    if name in _ARGUMENTS:
        arguments = _ARGUMENTS[name]
        fits = arguments.count(",") in counts
    else:
        arguments = "client, name, *data" if name == ANY else "client, data"
        fits = counts.stop > (name == ANY)
    return None if fits else f"cannot be called as f({arguments})"


def size(data: tuple[Any, ...]) -> int:
    """The bytes of an event's arguments, as a page sends them."""
    attached = 0

    def take_out(value: Any) -> None:
        nonlocal attached
        attached += len(value)

    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=take_out)
    return len(text.encode("utf-8", "surrogatepass")) - len("[]") + attached
