"""Whether a client manager's connection lives: what it publishes must come back to it.

A manager that publishes and listens, such as python-socketio's `RedisManager`, hears what it has
published itself, too. So a small message of our own, which python-socketio has no use for, tries
all of the way; that no other message goes by proves nothing.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from enum import Enum
from functools import partial
from typing import Any

import socketio

from .publishing import HomePublisher, WritableEmits
from .runtime import Runtime

logger = logging.getLogger("fallback_transport.client_manager")

#: What python-socketio passes over: it has no such method.
PROBE = "fallback_transport.probe"
#: Seconds between two probes, and until one that has not come back is missed.
INTERVAL = 3.0
#: Seconds between the first ones, before the manager has subscribed.
FIRST_INTERVAL = 0.05
#: Seconds for which the first clients of a process may wait until it has.
FIRST_WAIT = 1.0
#: Seconds until a manager that raised instead of listening is asked to listen again.
PAUSE = 1.0
#: Whose libraries wait in sockets of the standard library; `ZmqManager`'s has its own.
BLOCKING = (socketio.RedisManager, socketio.KombuManager, socketio.KafkaManager)

_NOTHING = object()
#: Whether this is a manager that waits for what others say, and does nothing else.
_listens: ContextVar[bool] = ContextVar("fallback_transport.listens", default=False)


class ManagerState(Enum):
    """What is known of a client manager's connection."""

    #: It has not begun to listen: python-socketio lets it at the first connect.
    UNKNOWN = "unknown"
    CONNECTED = "connected"
    LOST = "lost"


class ManagerHealth:
    """Watches a manager, from when it begins to listen.

    Args:
        manager: a `socketio.PubSubManager`; what it publishes, hears and logs goes by here.
        runtime: the async mode.
    """

    def __init__(self, manager: Any, runtime: Runtime) -> None:
        self._manager, self._runtime = manager, runtime
        self._kind = type(manager).__name__
        self._state = ManagerState.UNKNOWN
        self._since = time.time()
        self._error: str | None = None
        #: What it has complained of since a probe was heard.
        self._complaint: str | None = None
        self._watched = self._asking = self._heard = False
        #: Tells that what the connection does is known; until when somebody may wait for that.
        self._known = runtime.event()
        self._wait_until: float | None = None
        if isinstance(manager, BLOCKING):
            runtime.waits_in_sockets = self._kind
        #: A twin of the manager with a connection of its own, so that nothing else is held up by a
        #: probe that is stuck.
        self._prober: Any = None
        manager.logger = _Ears(manager._get_logger(), self._failed, manager.logger is None)
        if isinstance(manager, socketio.RedisManager):
            WritableEmits(manager)
        #: By a client of its own: one that is replaced after it has published in vain, and then
        #: collected as garbage, closes all of its connections, and that which listens.
        self._listen: Callable[[], Iterator[Any]] = (
            copy.copy(manager) if isinstance(manager, socketio.RedisManager) else manager
        )._listen
        HomePublisher(manager, runtime)
        manager._listen = self._messages

    @classmethod
    def of(cls, manager: Any, runtime: Runtime) -> ManagerHealth | None:
        """That of a server's manager; None for one that has no connection to listen on."""
        if not isinstance(manager, socketio.PubSubManager):
            return None
        if manager.write_only:
            manager.initialize = partial(_deaf, manager.initialize)
            return None
        return cls(manager, runtime)

    def rename(self) -> None:
        """This is a fork: under one name each would pass over what the others say."""
        self._manager.host_id = uuid.uuid4().hex

    def wait(self) -> None:
        """Wait for the manager to hear what others emit, so that a client that connects gets it.

        It begins to listen at the first connect, and a process that has just been started
        would miss what others say until it has subscribed.
        """
        if self._state is ManagerState.UNKNOWN and isinstance(self._manager, BLOCKING):
            now = self._runtime.now()
            if self._wait_until is None:
                self._wait_until = now + FIRST_WAIT
            if now < self._wait_until:
                self._known.wait(self._wait_until - now)

    def to_json(self) -> dict[str, Any]:
        """What is known, without a word of where it connects to."""
        return {
            "kind": self._kind,
            "state": self._state.value,
            "since": self._since,
            "error": self._error,
        }

    def _messages(self) -> Iterator[Any]:
        """What the manager hears, without what was to be heard here."""
        if not self._watched:
            self._watched = True
            self._prober = copy.copy(self._manager)
            del self._prober._publish
            # `RedisManager` makes a connection, then; others have no such attribute.
            self._prober.connected = False
            self._runtime.submit(self._watch)
        while True:
            listening = self._listen()
            try:
                while (message := _next(listening)) is not _NOTHING:
                    if self._is_own_probe(message):
                        self._heard, self._complaint = True, None
                        self._become(ManagerState.CONNECTED)
                    else:
                        yield message
                return
            except Exception as error:
                # python-socketio would log a traceback and ask again at once, for ever.
                self._failed(type(error))
                self._become(ManagerState.LOST)
                self._runtime.sleep(PAUSE)

    def _is_own_probe(self, message: Any) -> bool:
        if isinstance(message, (bytes, str)):
            # Only what may be one is worth the parsing.
            sought: Any = PROBE if isinstance(message, str) else PROBE.encode()
            if sought not in message:
                return False
            try:
                message = json.loads(message)
            except ValueError:
                return False
        return (
            isinstance(message, dict)
            and message.get("method") == PROBE
            and message.get("host_id") == self._manager.host_id
        )

    def _watch(self) -> None:
        until = self._runtime.now() + INTERVAL
        while self._state is ManagerState.UNKNOWN and self._runtime.now() < until:
            self._ask()
            self._runtime.sleep(FIRST_INTERVAL)
        while True:
            self._heard = False
            self._ask()
            self._runtime.sleep(INTERVAL)
            if not self._heard:
                self._become(ManagerState.LOST)

    def _ask(self) -> None:
        """Publish a probe, unless one is stuck."""
        if not self._asking:
            self._asking = True
            self._runtime.submit(self._publish)

    def _publish(self) -> None:
        try:
            self._prober._publish({"method": PROBE, "host_id": self._manager.host_id})
        except Exception as error:
            self._failed(type(error))
        finally:
            self._asking = False

    def _failed(self, error: type[BaseException]) -> None:
        self._error = self._complaint = error.__name__
        if _listens.get():
            # It hears nothing until it has subscribed again; soon, perhaps, but what is said
            # meanwhile is lost.
            self._become(ManagerState.LOST)

    def _become(self, state: ManagerState) -> None:
        before = self._state
        if state is before:
            return
        self._state, self._since = state, time.time()
        self._known.set()
        if state is ManagerState.LOST:
            logger.error(
                "%s: its connection is lost (%s); what is emitted reaches the clients of this "
                "process only, and nothing comes from others",
                self._kind,
                self._complaint or "nothing comes back",
            )
        elif before is ManagerState.LOST:
            # As loud as the loss, nearly: who has heard of the one waits for the other.
            logger.warning("%s: its connection is back", self._kind)
        else:
            logger.info("%s: connected", self._kind)


def _next(listening: Iterator[Any]) -> Any:
    token = _listens.set(True)
    try:
        return next(listening, _NOTHING)
    finally:
        _listens.reset(token)


def _deaf(initialize: Callable[[], None]) -> None:
    """Called at the first client: a process without any, which only emits, is right to be so."""
    logger.warning(
        "with write_only=True this process does not hear what others emit: leave it out where "
        "clients are served"
    )
    initialize()


class _Ears:
    """A manager's logger: learns what it complains of, which it keeps to itself otherwise.

    Args:
        logger: the one that it has.
        failed: called with the class of each exception that it complains of.
        quiet: two lines for each event that is emitted, while there is no connection, go out
            at DEBUG: who gave it no logger of its own did not ask for them.
    """

    def __init__(
        self, logger: Any, failed: Callable[[type[BaseException]], None], quiet: bool
    ) -> None:
        self._logger, self._failed = logger, failed
        self._level = logging.DEBUG if quiet else logging.ERROR

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)

    def error(self, text: str, *args: Any, **_: Any) -> None:
        """It complains; without `extra`, where an exception's text may quote a URL."""
        error = sys.exc_info()[0]
        if error is not None:
            self._failed(error)
        self._logger.log(self._level, text, *args)
