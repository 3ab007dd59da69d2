"""`EngineClient`: one session as python-socketio sees it, packets in, handlers called in order."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from socketio import packet as sio

from .application import REPLY_PART, MalformedPacket, Unit
from .conversation import Conversation
from .engine import Engine, connecting
from .failures import EventRefused, RequestFailed
from .inspection import check, suspect
from .packets import UnwritableReply
from .protocol.codes import CloseCode
from .protocol.message import Message

logger = logging.getLogger("fallback_transport.session")

#: The packet type, ours alone, that answers an event whose handler raised.
ERROR_REPLY: Final = "7"

_MAX_NAMESPACE = 256
#: What a client's connection is told of by, and no event.
RESERVED_EVENTS = frozenset({"connect", "disconnect"})
#: Where a session has what its page gave as `auth`, whoever's connect handler is asked.
AUTH = "fallback_transport.auth"
_EARLY = "a packet before CONNECT"
#: How many names of events that no handler takes are logged.
_MAX_STRAYS = 20


class EventHandler:
    """What an application's handler of an event is registered as.

    python-socketio calls it as any other. A session of ours, which knows it, takes its event
    there itself, where nothing is to be answered: half of the calls on the way are spared.
    """

    def __call__(self, sid: str, *data: Any) -> Any:
        """Handle an event of the client `sid`; what is returned is the answer."""
        raise NotImplementedError

    def take(self, conversation: Conversation, data: tuple[Any, ...]) -> None:
        """Handle an event of a session, which asks for no answer.

        Raises:
            EventRefused: instead of what the handler has raised.
        """
        raise NotImplementedError


class EngineClient:
    """The layer above one conversation.

    Args:
        engine: whose client it is.
        conversation: the session, which the engine admits.
    """

    __slots__ = ("_connected", "_conversation", "_engine", "_namespace", "_server", "_waiting")

    def __init__(self, engine: Engine, conversation: Conversation) -> None:
        engine.admit(conversation)
        self._engine = engine
        self._server = engine.server
        self._conversation = conversation
        self._waiting: tuple[Any, list[int]] | None = None
        self._connected = False
        self._namespace = "/"

    def unit(self, seq: int, data: str | bytes) -> Unit | None:
        """See `Application`."""
        if self._waiting is not None:
            return self._attachment(seq, data)
        if not isinstance(data, str):
            raise MalformedPacket("an attachment without its packet")
        if data[:1] == ERROR_REPLY:
            return self._error_reply(seq, data)
        try:
            event = self._engine.shortcut.read(data)
            packet = None if event is not None else self._server.packet_class(encoded_packet=data)
        except Exception as error:
            # The decoder answers hostile text with whatever its parts raise.
            raise MalformedPacket("no Socket.IO packet") from error
        if packet is None:
            if suspect(event, data):
                check(event, None)
            return self._event_unit((seq,), None, None, event)
        binary = packet.packet_type in (sio.BINARY_EVENT, sio.BINARY_ACK)
        if binary and packet.attachment_count > self._conversation.machine.grant.messages:
            raise MalformedPacket("more attachments than messages are granted")
        if binary or suspect(packet.data, data):
            check(packet.data, packet.attachment_count if binary else None)
        if binary and packet.attachment_count > 0:
            self._waiting = packet, [seq]
            return _part(packet)
        return self._checked(packet, (seq,))

    def resumed(self, environ: dict[str, Any]) -> None:
        """See `Application`."""
        engine, manager = self._engine, self._server.manager
        sid = manager.sid_from_eio_sid(self._conversation.id, self._namespace)
        # It may have been refused, or disconnected just now.
        handler = engine.on_resume.get(self._namespace)
        if handler is None or not manager.is_connected(sid, self._namespace):
            return
        try:
            refused = self._engine.runtime.call_handler("on_resume", handler, sid, environ)
        except BaseException:
            # Nobody could say whether it is still welcome.
            reason = "the resume handler raised"
            self._conversation.refuse(CloseCode.INTERNAL_ERROR, reason)
            raise
        if refused is not None:
            self._conversation.refuse(*refused)

    def over(self, code: int, reason: str, by_client: bool, gone: Callable[[], None]) -> None:
        """See `Application`."""
        reasons = self._engine.stock.reason
        if by_client:
            name = reasons.CLIENT_DISCONNECT
        elif code == CloseCode.INACTIVE:
            name = reasons.PING_TIMEOUT
        else:
            name = reasons.SERVER_DISCONNECT
        self._engine.endings.run(self._conversation.id, partial(self._end, name, gone))

    def _end(self, reason: str, gone: Callable[[], None]) -> None:
        try:
            if self._connected:
                disconnect = self._engine.stock.handlers["disconnect"]
                call = self._engine.runtime.call_handler
                call("on_disconnect", disconnect, self._conversation.id, reason)
        finally:
            self._engine.forget(self._conversation)
            gone()

    def _attachment(self, seq: int, data: str | bytes) -> Unit | None:
        assert self._waiting is not None, "called with a packet that waits"
        packet, seqs = self._waiting
        if not isinstance(data, bytes):
            raise MalformedPacket("a packet where an attachment was announced")
        seqs.append(seq)
        # Where each belongs was looked at with the packet.
        if not packet.add_attachment(data):
            return _part(packet)
        self._waiting = None
        return self._checked(packet, tuple(seqs))

    def _checked(self, packet: Any, seqs: tuple[int, ...]) -> Unit:
        """The unit of a packet, after the checks that python-socketio leaves out."""
        kind, data = packet.packet_type, packet.data
        if len(packet.namespace or "") > _MAX_NAMESPACE:
            raise MalformedPacket("a namespace that is too long")
        if kind == sio.CONNECT:
            if not (data is None or isinstance(data, dict)):
                raise MalformedPacket("what a page gives as auth must be an object")
            if self._connected:
                raise MalformedPacket("CONNECT comes once")
            self._connected = True
            self._namespace = packet.namespace or "/"
            return Unit(seqs, self._connect, (packet,))
        if kind in (sio.EVENT, sio.BINARY_EVENT):
            return self._event_unit(seqs, packet.namespace, packet.id, data)
        if not self._connected:
            raise MalformedPacket(_EARLY)
        if kind in (sio.ACK, sio.BINARY_ACK):
            # Ids begin at 1; with 0 python-socketio would call, and lose, its counter.
            if not packet.id or not isinstance(data, list):
                raise MalformedPacket("an ACK without an id or its list")
            return Unit(seqs, self._reply, (packet.namespace, packet.id, data), urgent=True)
        if kind == sio.DISCONNECT:
            return Unit(seqs, self._disconnect, (packet,))
        raise MalformedPacket(f"a packet of type {kind!r}"[:60])

    def _event_unit(
        self, seqs: tuple[int, ...], namespace: str | None, id: int | None, data: Any
    ) -> Unit:
        if not self._connected:
            raise MalformedPacket(_EARLY)
        named = isinstance(data, list) and data and isinstance(data[0], str)
        if not named or data[0] in RESERVED_EVENTS:
            raise MalformedPacket("an event without a name, or with a reserved one")
        if id is None:
            # Nearly always: without its `__new__`, which is in Python.
            return tuple.__new__(Unit, (seqs, self._event, (namespace, data), False))
        return Unit(seqs, self._question, (namespace, id, data))

    def _error_reply(self, seq: int, text: str) -> Unit:
        """Our own packet: the client's handler raised. The callback gets a `RequestFailed`."""
        if not self._connected:
            raise MalformedPacket(_EARLY)
        try:
            # Same shape as an ACK, with an object for the list.
            packet = self._server.packet_class(encoded_packet="3" + text[1:])
        except Exception as error:
            raise MalformedPacket("no error reply") from error
        if not packet.id or not isinstance(packet.data, dict):
            raise MalformedPacket("an error reply without an id or its object")
        failure = RequestFailed(str(packet.data.get("message", "the client's handler raised")))
        return Unit((seq,), self._reply, (packet.namespace, packet.id, [failure]), urgent=True)

    def _connect(self, packet: Any) -> None:
        conversation = self._conversation
        if packet.data is not None:
            conversation.data[AUTH] = packet.data
        self._engine.stock.handlers["connect"](conversation.id, conversation.environ)
        if self._engine.manager_health is not None:
            self._engine.manager_health.wait()
        token = connecting.set(conversation)
        try:
            connect = self._server._handle_connect
            with self._engine.patient():
                call = self._engine.runtime.call_handler
                call("on_connect", connect, conversation.id, packet.namespace, packet.data)
        except BaseException:
            conversation.close(CloseCode.INTERNAL_ERROR, "the connect handler raised")
            raise
        finally:
            connecting.reset(token)

    def _event(self, namespace: str | None, data: list[Any]) -> None:
        """Handle an event that asks for no answer."""
        handler = self._engine.shortcut.handler(self._namespace, data[0])
        call: tuple[Any, ...]
        if isinstance(handler, EventHandler) and self._addresses(namespace):
            call = handler.take, self._conversation, tuple(data[1:])
        else:
            call = self._server._handle_event, self._conversation.id, namespace, None, data
            if handler is None and not self._is_taken(namespace or "/", data[0]):
                self._stray(namespace, data[0])
        try:
            self._engine.runtime.call_handler(f"{data[0]!r:.100}", *call)
        except EventRefused:
            # Nobody has asked.
            return

    def _question(self, namespace: str | None, id: int, data: list[Any]) -> None:
        """Handle an event that is to be answered; the answer waits for room as an `emit` does."""
        with self._engine.patient():
            self._answer(namespace, id, data)

    def _answer(self, namespace: str | None, id: int, data: list[Any]) -> None:
        unanswered, session = self._engine.unanswered, self._conversation.id
        unanswered.add(session)
        try:
            self._engine.runtime.call_handler(f"{data[0]!r:.100}", self._ask, namespace, id, data)
        except EventRefused as refused:
            self._answer_error(namespace, id, refused.code, refused.message)
        except BaseException:
            # Also the time-outs of eventlet and gevent, which are no `Exception`.
            self._answer_error(namespace, id, CloseCode.INTERNAL_ERROR, "the handler raised")
            raise
        else:
            if session in unanswered:
                self._answer_error(namespace, id, CloseCode.GONE, "no handler takes this event")
                self._stray(namespace, data[0])
        finally:
            unanswered.discard(session)

    def _ask(self, namespace: str | None, id: int, data: list[Any]) -> None:
        """Have an event handled, and its answer sent."""
        try:
            self._server._handle_event(self._conversation.id, namespace, id, data)
        except UnwritableReply as error:
            # Its traceback has nothing of the handler, which has returned.
            text = f"the reply to {data[0]!r:.100} cannot be written as JSON: {error}"
            raise TypeError(text) from None

    def _is_taken(self, namespace: str, name: str) -> bool:
        """Whether the application has anything that takes an event."""
        server = self._server
        handler, _ = server._get_event_handler(name, namespace, ())
        return bool(handler or server._get_namespace_handler(namespace, ())[0])

    def _stray(self, namespace: str | None, name: str) -> None:
        """Log, once for each name, an event that no handler takes; it is misspelt, perhaps."""
        strays = self._engine.strays
        # Whoever chooses the names must not fill the log, nor the memory.
        name = name[:100]
        if self._addresses(namespace) and name not in strays and len(strays) < _MAX_STRAYS:
            strays.add(name)
            logger.warning("a page sent %r: no handler of %r takes it", name, namespace or "/")

    def _addresses(self, namespace: str | None) -> bool:
        """Whether an event is for the namespace that the client is connected to."""
        namespace = namespace or "/"
        connected: bool = namespace == self._namespace and self._server.manager.is_connected(
            self._conversation.id, namespace
        )
        return connected

    def _answer_error(self, namespace: str | None, id: int, code: int, message: str) -> None:
        error = {"code": code, "message": message}
        prefix = "" if namespace in (None, "/") else f"{namespace},"
        answer = Message(f"{ERROR_REPLY}{prefix}{id}{json.dumps(error)}")
        self._engine.hand_over(self._conversation, [answer])

    def _reply(self, namespace: str | None, id: int, data: list[Any]) -> None:
        """Call the callback of an `emit`: application code, too."""
        call, answered = self._engine.runtime.call_handler, self._server._handle_ack
        call("of a reply", answered, self._conversation.id, namespace, id, data)

    def _disconnect(self, packet: Any) -> None:
        reason = self._engine.stock.reason.CLIENT_DISCONNECT
        disconnect = self._server._handle_disconnect
        sid = self._conversation.id
        call = self._engine.runtime.call_handler
        end = partial(call, "on_disconnect", disconnect, sid, packet.namespace, reason)
        try:
            self._engine.endings.run(sid, end)
        finally:
            self._conversation.close(CloseCode.NORMAL, "disconnected by the client")


def _part(packet: Any) -> Unit | None:
    """What a packet whose attachments are not all there is, to the session."""
    return REPLY_PART if packet.packet_type == sio.BINARY_ACK else None
