"""`Session`: what a handler holds, one client of the server, ours or stock."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

from .conversation import Conversation
from .emission import only_latest
from .engine import Engine
from .engine_client import AUTH, RESERVED_EVENTS
from .failures import RequestFailed
from .protocol.codes import CloseCode, valid_close
from .request import URL
from .rooms import in_namespace


def check_name(name: Any) -> None:
    """Raise what is to be raised where no event can have this name."""
    if not isinstance(name, str):
        raise TypeError(f"an event's name is a text: {name!r}")
    if name in RESERVED_EVENTS:
        raise ValueError(f"{name!r} is reserved: stock clients would take it for their own event")


class ConnectionRefused(Exception):
    """Raise it in an `on_connect` handler to refuse the client, in `on_resume` to end its session.

    Args:
        code: the close code that the page sees: 4000 to 4399 are the
            application's, 4401 (the default) means not authorised.
        reason: a text that the page may show, at most 123 bytes of UTF-8.

    Raises:
        ValueError: code or reason cannot go over the wire.
        TypeError: the code is no number.
    """

    def __init__(self, code: int = CloseCode.UNAUTHORIZED, reason: str = "refused") -> None:
        if not isinstance(code, int):
            raise TypeError(f"first the code, or ConnectionRefused(reason={code!r})")
        if problem := valid_close(code, reason):
            raise ValueError(problem)
        super().__init__(code, reason)
        self.code = int(code)
        self.reason = reason


class Session:
    """One client, as handlers see it: the same object in all its handlers.

    The client may be a session of ours, which outlives its connections, or a
    stock Socket.IO client; `reliable` tells which.
    """

    def __init__(self, engine: Engine, sid: str, engine_id: str, namespace: str, auth: Any) -> None:
        self.id = sid
        """Its public name: a room of its own for `emit(to=…)`; the page sees the same."""
        self.auth: Any = auth
        """What the page gave as `auth`, or None."""
        self.data: dict[str, Any] = {}
        """The application's own notes about this client, for the session's life."""
        self._engine = engine
        self._engine_id = engine_id
        self._namespace = namespace
        # Kept: the engine forgets it when it is over, and the application may not.
        self._conversation = engine.conversation(engine_id)

    def __repr__(self) -> str:
        return f"<Session {self.id} {self.transport or 'detached'}>"

    @property
    def transport(self) -> str | None:
        """``"websocket"`` or ``"polling"``; None while it has no connection. Before the page has
        confirmed one, as in `on_connect` perhaps, it is that on which it said hello."""
        try:
            return self._engine.transport(self._engine_id)
        except KeyError:
            return None

    @property
    def url(self) -> str:
        """The path of the URL that the page has connected to, with the query that the URL of a
        page's `WebSocket` has; "" for a stock client."""
        conversation = self._conversation
        url: str = conversation.environ.get(URL, "") if conversation is not None else ""
        return url

    @property
    def protocol(self) -> str:
        """The subprotocol that it and the server have agreed on, "" if on none."""
        return self._conversation.subprotocol if self._conversation is not None else ""

    @property
    def connected(self) -> bool:
        """Whether it has a connection just now."""
        return self.transport is not None

    @property
    def reliable(self) -> bool:
        """Whether this is a session of ours, not a stock Socket.IO client."""
        return self._conversation is not None

    @property
    def closure(self) -> tuple[int, str] | None:
        """The code and reason of its close, once it is closing; a stock client has none."""
        conversation = self._conversation
        if conversation is None or conversation.open:
            return None
        return conversation.closure

    @property
    def rooms(self) -> list[str]:
        """The rooms that it is in, its own among them."""
        rooms: list[str] = self._engine.server.rooms(self.id, namespace=self._namespace)
        return rooms

    def emit(self, name: str, data: Any = None, *, latest: str | None = None) -> None:
        """Send it a named event; what happens where it has no room: see `FallbackTransport.emit`.

        A session that is over ignores it; `closure` tells.

        Args:
            name: the event's name, as in the page's `session.on(name, …)`.
            data: what JSON can express, with bytes anywhere in it; a tuple is
                several arguments.
            latest: a key of your own, such as "cursor:7": what was emitted with it before and
                was not sent yet is replaced, in its place. What has bytes in it is not replaced
                and replaces nothing; to stock clients, all is sent.

        Raises:
            TypeError, ValueError: no event can have that name, or JSON cannot express the data.
            MessageRefused: it is larger than `max_message`.
        """
        if name.__class__ is not str or name in RESERVED_EVENTS:
            check_name(name)
        engine, conversation = self._engine, self._conversation
        if conversation is not None:
            group = engine.shortcut.alone(conversation.id, self._namespace, name, data)
            if group is not None:
                engine.runtime.at_home(conversation.send, group, latest)
                return
        emit, place = engine.server.emit, {"to": self.id, "namespace": self._namespace}
        if latest is None:
            emit(name, data, **place)
        else:
            with only_latest(latest):
                emit(name, data, **place)

    def send(self, data: str | bytes) -> None:
        """Send it an unnamed message, text or bytes."""
        self.emit("message", data)

    def request(self, name: str, data: Any = None, timeout: float = 60.0) -> Any:
        """Ask the client and wait for its answer, while others are served.

        Args:
            name, data: see `emit`.
            timeout: seconds to wait for the answer, once the question is sent.

        Returns:
            What its listener returned.

        Raises:
            RequestFailed: its listener raised, no answer came in time, or the
                session ended.
            TypeError, ValueError, MessageRefused: see `emit`.
            RuntimeError: called before `on_connect` has returned, when the client cannot
                answer yet, or in `on_disconnect`; or, on eventlet and gevent, in another
                thread.
        """
        check_name(name)
        server = self._engine.server
        if self._engine.runtime.elsewhere:
            raise RuntimeError(
                f"request() in async mode {self._engine.runtime.mode!r} waits in the thread that "
                "serves: call it in a handler, or in a task"
            )
        if not server.manager.is_connected(self.id, self._namespace):
            if not in_namespace(server.manager, self._namespace, self.id):
                raise RequestFailed("the session ended")
            raise RuntimeError(
                "request() needs a connected client: in on_connect it cannot answer yet, "
                "in on_disconnect not any more"
            )
        done = self._engine.runtime.event()
        answer: list[tuple[Any, ...]] = []

        def answered(*values: Any) -> None:
            answer.append(values)
            done.set()

        conversation = self._conversation
        forget = conversation.when_over(done.set) if conversation is not None else None
        try:
            server.emit(name, data, to=self.id, namespace=self._namespace, callback=answered)
            done.wait(timeout)
        finally:
            if forget is not None:
                forget()
            if not answer:
                self._unask(answered)
        if not answer:
            ended = conversation is not None and not conversation.open
            raise RequestFailed("the session ended" if ended else f"no answer in {timeout} s")
        values = answer[0]
        if len(values) == 1 and isinstance(values[0], RequestFailed):
            raise values[0]
        return values[0] if len(values) == 1 else (values or None)

    def _unask(self, answered: Any) -> None:
        """Keep nothing of a question that nobody waits for any more."""
        manager = self._engine.server.manager
        callbacks = manager.callbacks.get(self.id, {})
        second: Any = None
        for number, callback in callbacks.copy().items():
            if callback is answered:
                # One that speaks to other processes asks for them all; what calls this is another.
                second = getattr(manager, "host_id", None), self.id, self._namespace, number
            elif not isinstance(callback, partial) or callback.args != second:
                continue
            callbacks.pop(number, None)

    def join(self, room: str) -> None:
        """Enter a room. A session that is over ignores it."""
        server, namespace = self._engine.server, self._namespace
        if in_namespace(server.manager, namespace, self.id):
            # In another thread it may end just now.
            with contextlib.suppress(KeyError):
                server.enter_room(self.id, room, namespace=namespace)

    def leave(self, room: str) -> None:
        """Leave a room, if it is in it."""
        # That of everybody, to python-socketio: who is not in it is not connected.
        if room is not None:
            self._engine.server.leave_room(self.id, room, namespace=self._namespace)

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """End the session, behind all that was sent.

        Args:
            code: 1000, or 3000 to 4999, or 1005 for none; a stock client hears neither it
                nor the reason.
            reason: at most 123 bytes of UTF-8.

        Raises:
            ValueError: code or reason cannot go over the wire.
        """
        if problem := valid_close(code, reason):
            raise ValueError(problem)
        conversation = self._conversation
        if conversation is not None:
            self._engine.runtime.at_home(conversation.close, code, reason)
        else:
            self._engine.server.disconnect(self.id, namespace=self._namespace)


class Sessions:
    """Finds the `Session` of a Socket.IO id: one object for each, kept with its client."""

    _KEY = "fallback_transport.session"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, sid: str, namespace: str, auth: Any) -> Session:
        """The view of a client that connects."""
        engine_id = self._engine_id(sid, namespace)
        session = Session(self._engine, sid, engine_id, namespace, auth)
        self._engine.get_session(engine_id).setdefault(self._KEY, {})[sid] = session
        return session

    def get(self, sid: str, namespace: str) -> Session:
        """The view of a client that connected before.

        A client that no connect handler of ours was asked for has none yet; it is
        made now, for a stock client without `auth`.
        """
        try:
            kept = self._engine.get_session(self._engine_id(sid, namespace))
            session: Session = kept[self._KEY][sid]
        except KeyError:
            return self._late(sid, namespace)
        return session

    def of(self, conversation: Conversation, namespace: str) -> Session:
        """The view of a session of ours, whose id in its namespace is its own."""
        try:
            session: Session = conversation.data[self._KEY][conversation.id]
        except KeyError:
            return self._late(conversation.id, namespace)
        return session

    def all(self, namespace: str, room: str | None = None) -> list[Session]:
        """The view of each client of this process in a namespace, or in a room of it."""
        found = []
        for sid, _ in self._engine.server.manager.get_participants(namespace, room):
            # Other threads let them go meanwhile.
            with contextlib.suppress(KeyError):
                found.append(self.get(sid, namespace))
        return found

    def _late(self, sid: str, namespace: str) -> Session:
        """The view of a client that had none; it may connect just now, in another thread."""
        engine_id = self._engine_id(sid, namespace)
        kept = self._engine.get_session(engine_id)
        session = Session(self._engine, sid, engine_id, namespace, kept.get(AUTH))
        late: Session = kept.setdefault(self._KEY, {}).setdefault(sid, session)
        return late

    def _engine_id(self, sid: str, namespace: str) -> str:
        manager = self._engine.server.manager
        engine_id: str = manager.eio_sid_from_sid(sid, namespace)
        return engine_id
