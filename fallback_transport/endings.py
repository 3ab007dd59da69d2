"""What ends a session for the application: one at a time, whoever asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Endings:
    """Calls what ends sessions, of each session one after the other.

    Args:
        lock: the async mode's.
    """

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        #: Of each session that is ended just now, what waits to be called.
        self._waiting: dict[str, list[Callable[[], Any]]] = {}

    def run(self, sid: str, end: Callable[[], Any]) -> None:
        """Call `end`, which calls the disconnect handler of a session and forgets it.

        Where another is at that, it does so next: two at once would both call the handler, or
        the one take away what the other's is to see.
        """
        with self._lock:
            waiting = self._waiting.get(sid)
            if waiting is not None:
                waiting.append(end)
                return
            waiting = self._waiting[sid] = []
        failed: BaseException | None = None
        while True:
            try:
                end()
            except BaseException as error:
                failed = failed or error
            with self._lock:
                if not waiting:
                    del self._waiting[sid]
                    break
                end = waiting.pop(0)
        if failed is not None:
            raise failed
