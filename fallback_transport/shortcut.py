"""`Shortcut`: past python-socketio's calls, for plain events that nobody watches.

An event in the default encoding, without attachments, is most of what there is, and most of its
cost was to be handed from call to call. Whatever is less plain, or watched, goes python-socketio's
own way: what each of these gives in its place is held against that in ``tests/test_shortcut.py``,
``tests/test_dispatcher.py`` and ``tests/test_engine.py``.
"""

from __future__ import annotations

import logging
from typing import Any

import socketio
from socketio import packet as sio

from .packets import STOCK_JSON, Packet, dumps, plain_event, readable
from .protocol.message import Message

_NONE: dict[str, Any] = {}
_BYTES = frozenset({bytes, bytearray})
_SOCKETIO = (socketio.server.__name__, socketio.base_server.__name__)
#: What python-socketio calls between an event and its handler.
_ON_THE_WAY = ("_handle_event", "_handle_event_internal", "_trigger_event")


class Shortcut:
    """What python-socketio would do with plain events, for one server.

    Args:
        server: the `socketio.Server`.
        emit: what its manager sends with; None where that speaks to other processes.
    """

    __slots__ = ("_emit", "_plain_emit", "_plain_events", "_plain_packets", "_server")

    def __init__(self, server: Any, emit: Any) -> None:
        self._server = server
        self._emit = emit
        #: Whether an `emit`, and an event that comes, take python-socketio's own way and no other;
        #: whether its packets are ours.
        self._plain_emit = _own(server, "emit")
        self._plain_events = _own(server, *_ON_THE_WAY, "_get_event_handler")
        self._plain_packets = server.packet_class is Packet

    def read(self, text: str) -> Any:
        """The name and the arguments of a text that is plainly an event; else None.

        Raises:
            ValueError, RecursionError: it is no packet.
        """
        ours = self._plain_packets and Packet.json is STOCK_JSON
        return plain_event(text) if ours else None

    def messages(self, event: Any, data: Any, namespace: str) -> list[Message]:
        """The messages of an event, whose name need not be a text."""
        if isinstance(data, tuple):
            values = [event, *data]
        else:
            values = [event] if data is None else [event, data]
        plain = self._plain_packets and Packet.json is STOCK_JSON
        if plain and _BYTES.isdisjoint(map(type, values)):
            try:
                text = dumps(values)
            except TypeError:
                # It has attachments further within, or cannot be sent: the packet class knows.
                pass
            else:
                return [Message("2" + text if namespace == "/" else f"2{namespace},{text}")]
        packet = self._server.packet_class(sio.EVENT, namespace=namespace, data=values).encode()
        return [message_of(part) for part in (packet if isinstance(packet, list) else [packet])]

    def alone(self, sid: str, namespace: str, event: Any, data: Any) -> list[Message] | None:
        """What the server's `emit` to the room that a session has for itself would send it.

        None where that would be more, or nothing: the session left that room, into which
        python-socketio lets nobody else; or somebody wants to know of each `emit`, or to have it
        wait.
        """
        server = self._server
        manager = server.manager
        if (
            not self._plain_emit
            or manager.emit is not self._emit
            or "emit" in server.__dict__
            or _logs(server)
        ):
            return None
        if sid not in manager.rooms.get(namespace, _NONE):
            return None
        return self.messages(event, data, namespace)

    def handler(self, namespace: str, event: str) -> Any:
        """What python-socketio would call for an event, by its name; None where it would do more.

        That is where there is none, or where somebody wants to know of each call.
        """
        server = self._server
        own = server.__dict__
        watched = "_trigger_event" in own or "_handle_event" in own
        if watched or "_handle_event_internal" in own or not self._plain_events or _logs(server):
            return None
        return server.handlers.get(namespace, _NONE).get(event)


def message_of(data: Any) -> Message:
    """A part of a packet as a message.

    Raises:
        ValueError: see `packets.readable`.
    """
    if isinstance(data, str):
        return Message(readable(data))
    # It is kept until it is confirmed, and whoever made a bytearray may change it. What is made of
    # bytes, as a database's own kind is, would go in base64 on a WebSocket, too.
    return Message(data if type(data) is bytes else bytes(data))


def _own(server: Any, *names: str) -> bool:
    """Whether these methods are python-socketio's own, and not a subclass's or a monitor's."""
    methods = [getattr(type(server), name) for name in names]
    return not any(
        method.__module__ not in _SOCKETIO or hasattr(method, "__wrapped__") for method in methods
    )


def _logs(server: Any) -> bool:
    """Whether it may log what it does; an application's own logger need not say."""
    logger = server.logger
    if type(logger) is logging.Logger and logger.level > logging.INFO:
        # Its own word, whatever those above it say.
        return False
    enabled = getattr(logger, "isEnabledFor", None)
    return enabled is None or bool(enabled(logging.INFO))
