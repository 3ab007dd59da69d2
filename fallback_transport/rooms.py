"""python-socketio's tables of who is in which room, for threads that share them.

A manager looks and changes in several steps, and its bidicts are Python code: of two threads in
them at once, one loses what the other does, or finds half of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

#: The methods of a manager that look twice, or change something. They call nothing of an
#: application's, and wait for nothing.
_WHOLE = (
    "pre_connect",
    "connect",
    "pre_disconnect",
    "basic_disconnect",
    "basic_leave_room",
    "basic_close_room",
    "get_rooms",
    "_generate_ack_id",
)


class _Lists(dict[Any, Any]):
    """Whose list is gone between two looks has nobody in it."""

    def __missing__(self, key: Any) -> tuple[()]:
        return ()


class _NotConnected(KeyError, ValueError):
    """A stock manager raises the former where others are in the namespace, else the latter."""


def share(manager: Any, lock: Any) -> Any:
    """Let threads share the tables of a manager, one at a time.

    Returns:
        What says now who is in a room; None where somebody else than python-socketio does.
    """
    for name in _WHOLE:
        setattr(manager, name, _alone(getattr(manager, name), lock))
    # `is_connected`, which each event asks, looks at these without the lock.
    for name in ("pending_connect", "pending_disconnect"):
        setattr(manager, name, _Lists(getattr(manager, name)))
    manager.basic_enter_room = _entering(manager, lock)
    manager.trigger_callback = _taking(manager, lock)
    if "get_participants" in manager.__dict__:
        return None
    stock: Callable[..., Iterator[Any]] = manager.get_participants

    def participants(namespace: str, room: Any) -> Iterator[Any]:
        # All of it now: who goes through them may wait, or call an application's code.
        with lock:
            return iter(list(stock(namespace, room)))

    manager.get_participants = participants
    return participants


def in_namespace(manager: Any, namespace: str, sid: str) -> bool:
    """Whether this is a client of the namespace."""
    everybody = manager.rooms.get(namespace, {}).get(None)
    return everybody is not None and sid in everybody


def _alone(method: Callable[..., Any], lock: Any) -> Callable[..., Any]:
    def alone(*args: Any, **kwargs: Any) -> Any:
        with lock:
            return method(*args, **kwargs)

    return alone


def _entering(manager: Any, lock: Any) -> Callable[..., Any]:
    """What lets clients into a room; who is gone meanwhile leaves no empty one."""
    stock = manager.basic_enter_room

    def enter(sid: str, namespace: str, room: Any, eio_sid: str | None = None) -> Any:
        with lock:
            if eio_sid is None and not in_namespace(manager, namespace, sid):
                raise _NotConnected(sid)
            return stock(sid, namespace, room, eio_sid)

    return enter


def _taking(manager: Any, lock: Any) -> Callable[..., Any]:
    """What calls the callback of a question, which others may forget meanwhile."""
    stock = manager.trigger_callback

    def trigger(sid: str, id: int, data: Any) -> None:
        with lock:
            callback = manager.callbacks.get(sid, {}).pop(id, None)
        if callback is None:
            # It complains.
            stock(sid, id, data)
        else:
            callback(*data)

    return trigger
