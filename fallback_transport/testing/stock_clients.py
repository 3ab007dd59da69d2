"""What a `socketio.Server` sends with, beside test clients of Flask-SocketIO.

Such a client puts functions of its own in the place of two of the server's methods, for as long as
the server lives. They know its kind alone, and drop what is for anybody else.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import getattr_static
from typing import Any

Send = Callable[[str, Any], None]
IsOurs = Callable[[str], bool]


def live_beside(server: Any, is_ours: IsOurs) -> None:
    """Have the server's own methods send to sessions of ours, whatever takes their place.

    Args:
        server: a `socketio.Server`; once is enough, and more do no harm.
        is_ours: whether a session of this id is.
    """
    kind = type(server)
    if not isinstance(getattr_static(kind, "_send_packet"), _Sorted):
        methods = {name: _Sorted(is_ours) for name in ("_send_packet", "_send_eio_packet")}
        # Of this server alone: others of its kind stay as they are.
        server.__class__ = type(kind.__name__, (kind,), methods)


class _Sorted:
    """In place of a method: sends to ours, and leaves the rest to what was put there."""

    def __init__(self, is_ours: IsOurs) -> None:
        self._is_ours = is_ours

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, server: Any, kind: type) -> Send:
        # Not `kind`: somebody else may have derived another one.
        if server is None:
            own: Send = getattr(super(self._owner, kind), self._name)
            return own
        own = getattr(super(self._owner, server), self._name)
        theirs: Send = vars(server).get(self._name, own)
        return lambda sid, packet: (own if self._is_ours(sid) else theirs)(sid, packet)

    def __set__(self, server: Any, theirs: Send) -> None:
        vars(server)[self._name] = theirs

    def __delete__(self, server: Any) -> None:
        del vars(server)[self._name]
