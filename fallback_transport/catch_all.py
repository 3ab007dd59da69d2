"""`CatchAll`: what gets the events of a namespace that no handler takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import socketio


class CatchAll(socketio.Namespace):  # type: ignore[misc]
    """Registered as a class for the namespace.

    As a handler of "*" it would not know an event of that name, whose first argument
    is the session, from another's, whose first argument is what the page calls it.

    Args:
        received: called with the name of the event, the session, and the data.
    """

    def __init__(self, namespace: str, received: Callable[..., Any]) -> None:
        super().__init__(namespace)
        self._received = received

    def trigger_event(self, event: str, *args: Any) -> Any:
        """See `socketio.Namespace`."""
        if event in self.server.reserved_events:
            return self.server.not_handled
        return self._received(event, *args)
