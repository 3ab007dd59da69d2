"""What a client manager that publishes to other processes lacks, put in front of its own methods.

Such a manager, as python-socketio's `RedisManager`, is an application's own object.
"""

from __future__ import annotations

import copy
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from .packets import check_places
from .runtime import Runtime

logger = logging.getLogger("fallback_transport.client_manager")

#: The key of what stands for an error among the values of an answer.
FAILED = "fallback_transport.failed"
#: How many messages of other threads may wait to be published until those threads wait.
MAX_WAITING = 1000


class HomePublisher:
    """Publishes, in the thread that serves, what others emit; of each thread in its order.

    A manager's connections, and the locks around them, are those of one hub. Of two
    threads that publish at once on eventlet or gevent, one would wait for ever.

    Args:
        manager: a `socketio.PubSubManager`.
        runtime: the async mode.
    """

    def __init__(self, manager: Any, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stock: Callable[[Any], Any] = manager._publish
        self._waiting: deque[Any] = deque()
        self._working = False
        manager._publish = self._publish

    def _publish(self, data: Any) -> Any:
        if not self._runtime.elsewhere:
            return self._stock(data)
        while len(self._waiting) >= MAX_WAITING:
            self._runtime.pause()
        # As it is now: what goes on there, next, may change what it has emitted.
        self._waiting.append(copy.deepcopy(data))
        self._runtime.at_home(self._begin)
        return None

    def _begin(self) -> None:
        if not self._working:
            self._working = True
            self._runtime.spawn(self._work)

    def _work(self) -> None:
        try:
            while self._waiting:
                try:
                    self._stock(self._waiting.popleft())
                except Exception:
                    # There is no caller to tell any more.
                    logger.exception("what another thread has emitted was not published")
        finally:
            self._working = False


class WritableEmits:
    """Raises, where it is called, what an `emit` raises that cannot cross processes.

    They speak JSON. What is none `RedisManager` only logs, once the clients of this process have
    it, or none of them has because there are none; what JSON makes of it they get here, too.

    Args:
        manager: a `socketio.RedisManager`.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._handle: Callable[[Any], None] = manager._handle_emit
        manager._handle_emit = self._handle_emit

    def _handle_emit(self, message: Any) -> None:
        if message.get("host_id") == self._manager.host_id:
            # As it will be published, next, and as others will read it, who pass over what they
            # cannot read, such as a number of more than 100 digits.
            json, data = self._manager.json, message["data"]
            text = json.dumps(message)
            if message["binary"]:
                check_places(text, len(data) - 1)
            message = {**message, "data": json.loads(text)["data"]}
        # What comes from others was read already.
        self._handle(message)


class ErrorReplies:
    """Lets what a callback gets in place of an answer cross processes, which speak JSON.

    Args:
        manager: a `socketio.PubSubManager`.
        error: its class; it is made of a text, which is its first argument.
    """

    def __init__(self, manager: Any, error: type[Exception]) -> None:
        self._manager = manager
        self._error = error
        self._publish: Callable[[Any], Any] = manager._publish
        self._answered: Callable[[Any], None] = manager._handle_callback
        manager._publish = self._pack
        manager._handle_callback = self._unpack

    def _pack(self, data: Any) -> Any:
        if data.get("method") == "callback":
            args = [{FAILED: a.args[0]} if isinstance(a, self._error) else a for a in data["args"]]
            try:
                self._manager.json.dumps(args)
            except TypeError:
                # Who asks is told now, and does not wait for what could not be published.
                args = [{FAILED: "an answer with bytes does not cross processes"}]
            data = {**data, "args": args}
        return self._publish(data)

    def _unpack(self, message: Any) -> None:
        args = [
            self._error(a[FAILED]) if isinstance(a, dict) and FAILED in a else a
            for a in message["args"]
        ]
        self._answered({**message, "args": args})
