"""`Engine`: what python-socketio sees as its Engine.IO server.

It stands in front of the server's own engine by composition. Our sessions are
presented to python-socketio as clients that never drop; every stock client
goes to the stock engine untouched. What it relies on in python-socketio is
pinned by a contract test (``tests/test_engine_contract.py``).
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from types import SimpleNamespace
from typing import Any

import socketio
from engineio import packet as eio
from socketio import packet as sio

from .client_manager import ManagerHealth
from .conversation import Conversation
from .emission import Emission, current_emission, latest_key
from .endings import Endings
from .failures import RequestFailed
from .protocol.codes import MAX_REASON_BYTES, CloseCode, valid_close
from .protocol.message import Message
from .publishing import ErrorReplies
from .rooms import share
from .runtime import MAX_BYTES, Runtime
from .shortcut import Shortcut, message_of

#: Bytes of what is put off to the end of a turn, to be handed over with what else is sent to the
#: same sessions. A quarter of what is put off at most: what is larger gains nothing by company.
SMALL = 16_384

#: The reason of a close that python-socketio asks for.
SERVER_DISCONNECT = "disconnected by the server"

#: Seconds beyond all patience for which another thread waits to hear from the one that serves.
HOME_MARGIN = 1.0

#: The session whose CONNECT is being handled: its first namespace shares its id.
connecting: contextvars.ContextVar[Conversation | None] = contextvars.ContextVar(
    "fallback_transport.connecting", default=None
)

#: The server whose background task this is.
_task_of: contextvars.ContextVar[Any] = contextvars.ContextVar(
    "fallback_transport.task_of", default=None
)

_NONE: dict[str, Any] = {}
_PARTICIPANTS = socketio.Manager.get_participants

#: For whatever waits for nobody.
_IMPATIENT = contextlib.nullcontext()


def together(engines: list[Engine]) -> AbstractContextManager[None]:
    """What is sent within, by one after the other, waits for nobody before all of it is sent."""
    if len(engines) < 2:
        return _IMPATIENT
    return max(engines, key=lambda each: each.patience or 0.0).patient(joint=True)


def server_at_work() -> Any:
    """The `socketio.Server` that has started the task that calls, or None."""
    return _task_of.get()


#: Given the Socket.IO id of a session and the request that resumes it; gives the code and the
#: reason that it ends with, if it may not go on.
Resumed = Callable[[str, dict[str, Any]], "tuple[int, str] | None"]


class Engine:
    """An Engine.IO server whose sessions do not lose messages.

    Args:
        server: the `socketio.Server` to stand under; its `eio` is replaced.
        runtime: the async mode.
    """

    def __init__(self, server: Any, runtime: Runtime) -> None:
        packets = server.packet_class
        if not issubclass(packets, sio.Packet) or not packets.uses_binary_events:
            raise ValueError(
                "fallback_transport speaks Socket.IO's default encoding: make the server "
                "without serializer=, or with a subclass of socketio.packet.Packet"
            )
        self.server = server
        self.stock = server.eio
        self.runtime = runtime
        self._conversations: dict[str, Conversation] = {}
        self._partial: dict[tuple[str, int], tuple[int, list[Message]]] = {}
        #: The largest message that goes with what else is sent to several: every session takes it.
        self._small = SMALL
        self.endings = Endings(runtime.lock())
        #: Sessions whose event of just now is still to be answered.
        self.unanswered: set[str] = set()
        #: For each namespace, what is told of our sessions that are resumed.
        self.on_resume: dict[str, Resumed] = {}
        #: The most seconds that an `emit` may wait for room; None: they never wait.
        self.patience: float | None = None
        self.manager_health = ManagerHealth.of(server.manager, runtime)
        if self.manager_health is not None:
            ErrorReplies(server.manager, RequestFailed)
        #: What of our own says who is in a room, for the manager.
        self._participants: Any = None
        if runtime.mode in ("eventlet", "gevent", "threading"):
            # With a hub there may be other threads, too; only a test has one alone.
            lock = runtime.lock()
            self._participants = share(server.manager, lock)
            # Whoever has it in a fork, another thread of the parent's, would not release it there.
            release = {"after_in_parent": lock.release, "after_in_child": lock.release}
            os.register_at_fork(before=lock.acquire, **release)
        server.eio = self
        self._disconnect: Callable[..., None] = server.disconnect
        server.disconnect = self._disconnect_alone
        emit: Callable[..., None] | None = None
        # Who has put another in its place wants to know of each.
        if type(server.manager) is socketio.Manager and "emit" not in vars(server.manager):
            emit = server.manager.emit = self._emit
        self.shortcut = Shortcut(server, emit)
        #: The names of events that no handler takes, as far as they are logged.
        self.strays: set[str] = set()
        os.register_at_fork(after_in_child=partial(_forked, weakref.ref(self)))

    def __getattr__(self, name: str) -> Any:
        # Whatever is not about our sessions is the stock engine's.
        return getattr(self.stock, name)

    def conversation(self, sid: str) -> Conversation | None:
        """Our session with this engine id, or None: it is a stock client's.

        A session that is over is found until its disconnect handler has run.
        """
        return self._conversations.get(sid)

    # -- what python-socketio calls ------------------------------------------------

    def handle_request(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Answer a stock client, who may be the first to come: other threads emit to it, too."""
        self.runtime.asked(environ)
        return self.stock.handle_request(environ, start_response)

    def send(self, sid: str, data: Any) -> None:
        """Send one text or bytes to a client."""
        conversation = self.conversation(sid)
        if conversation is None:
            self.runtime.at_home(self.stock.send, sid, data)
        else:
            self._send(conversation, message_of(data))

    def send_packet(self, sid: str, pkt: Any) -> None:
        """Send an Engine.IO packet, which several recipients may share, to a client."""
        conversation = self.conversation(sid)
        if conversation is None:
            # A packet keeps its first encoding, for polling or for WebSocket; the other kind of
            # client cannot read that of bytes. So each gets one of its own.
            own = eio.Packet(pkt.packet_type, pkt.data) if pkt.binary else pkt
            self.runtime.at_home(self.stock.send_packet, sid, own)
            return
        # Kept with the packet, for the other recipients.
        try:
            message = pkt.fallback_message
        except AttributeError:
            message = pkt.fallback_message = message_of(pkt.data)
        self._send(conversation, message)

    def disconnect(self, sid: str | None = None) -> None:
        """End a client's connection, or everybody's."""
        conversation = self.conversation(sid) if sid is not None else None
        if conversation is not None:
            self.runtime.at_home(conversation.close, CloseCode.NORMAL, "")
            return
        if sid is None:
            for each in list(self._conversations.values()):
                self.runtime.at_home(each.close, CloseCode.NORMAL, "")
        self.runtime.at_home(self.stock.disconnect, sid)

    def get_session(self, sid: str) -> dict[Any, Any]:
        """The user session of a client."""
        conversation = self.conversation(sid)
        if conversation is not None:
            return conversation.data
        session: dict[Any, Any] = self.stock.get_session(sid)
        return session

    def save_session(self, sid: str, session: dict[Any, Any]) -> None:
        """Store the user session of a client."""
        conversation = self.conversation(sid)
        if conversation is None:
            self.stock.save_session(sid, session)
        else:
            conversation.data = session

    def transport(self, sid: str) -> str | None:
        """The name of the transport that carries a client."""
        conversation = self.conversation(sid)
        if conversation is not None:
            return conversation.transport
        name: str = self.stock.transport(sid)
        return name

    def _get_socket(self, sid: str) -> Any:
        """What Socket.IO's Admin UI asks about the connection of a client."""
        conversation = self.conversation(sid)
        if conversation is None:
            return self.stock._get_socket(sid)
        return SimpleNamespace(upgraded=conversation.transport == "websocket")

    def generate_id(self) -> str:
        """A new Socket.IO id: the session's own for the namespace that it connects to."""
        conversation = connecting.get()
        if conversation is None:
            fresh: str = self.stock.generate_id()
            return fresh
        connecting.set(None)
        return conversation.id

    def start_background_task(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Start a task; but a handler of our sessions runs in its session's own order."""
        # python-socketio starts handlers here if its async_handlers option is set.
        if target == self.server._handle_event_internal:
            conversation = self.conversation(args[2])
            if conversation is not None:
                target(*args, **kwargs)
                return None
        return self.runtime.driver.start_background_task(self._own, target, args, kwargs)

    def _own(self, target: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a task, which may ask whose it is."""
        _task_of.set(self.server)
        return target(*args, **kwargs)

    def sleep(self, seconds: float = 0) -> Any:
        """Let the others run for so many seconds."""
        return self.runtime.driver.sleep(seconds)

    def create_event(self, *args: Any, **kwargs: Any) -> Any:
        """A new event of the async mode."""
        return self.runtime.driver.create_event(*args, **kwargs)

    # -- sending ---------------------------------------------------------------------

    def let_emit_wait(self, patience: float) -> None:
        """From now on the server's `emit` waits, for sessions that have that much patience."""
        if self.patience is None:
            emit = self.server.emit

            def patiently(*args: Any, **kwargs: Any) -> None:
                with self.patient():
                    emit(*args, **kwargs)

            # For all that emit: Flask-SocketIO, namespaces and `server.send` call it, too.
            self.server.emit = patiently
        self.patience = max(patience, self.patience or 0.0)

    def patient(self, *, joint: bool = False) -> AbstractContextManager[None]:
        """What is sent within goes to all that have room, and then waits for the others.

        Where it is `joint`, what is to wait by itself within waits with it.
        """
        if self.patience is None or not self.runtime.can_wait:
            return _IMPATIENT
        emission = current_emission.get()
        if emission is not None and emission.joint and not emission.over:
            return _IMPATIENT
        return self._waiting(Emission(joint=joint), self.patience + HOME_MARGIN)

    @contextlib.contextmanager
    def _waiting(self, emission: Emission, timeout: float) -> Iterator[None]:
        token = current_emission.set(emission)
        try:
            yield
        finally:
            current_emission.reset(token)
            self.runtime.complete(lambda: emission.wait(self.runtime.now), timeout)

    def _emit(
        self,
        event: str,
        data: Any,
        namespace: str,
        room: Any = None,
        skip_sid: Any = None,
        callback: Callable[..., Any] | None = None,
        to: Any = None,
        **kwargs: Any,
    ) -> None:
        """Do what `socketio.Manager.emit` does, without its calls for each recipient."""
        manager = self.server.manager
        if callback:
            # Each recipient is asked by a number of its own.
            places = {"room": room, "skip_sid": skip_sid, "to": to, **kwargs}
            type(manager).emit(manager, event, data, namespace, callback=callback, **places)
            return
        if namespace not in manager.rooms:
            return
        group = self.shortcut.messages(event, data, namespace)
        recipients = self._recipients(namespace, to or room, skip_sid)
        self.runtime.at_home(
            self._deliver, recipients, group, latest_key.get(), current_emission.get()
        )

    def _recipients(self, namespace: str, room: Any, skip_sid: Any) -> list[str]:
        """The engine's ids of those in a room or several, but for one or several."""
        manager = self.server.manager
        if not skip_sid and (room is None or isinstance(room, str)) and self._own_rooms():
            # As `get_participants` has it; in one go, for another thread may let somebody in.
            members = manager.rooms.get(namespace, _NONE).get(room)
            return [] if members is None else list(members._fwdm.values())
        skipped = skip_sid if isinstance(skip_sid, list) else [skip_sid]
        participants = manager.get_participants(namespace, room)
        return [engine_id for sid, engine_id in participants if sid not in skipped]

    def _own_rooms(self) -> bool:
        """Whether who is in a room is for python-socketio to say, and for nobody in its place."""
        manager = self.server.manager
        own = type(manager).get_participants is _PARTICIPANTS
        return own and manager.__dict__.get("get_participants") is self._participants

    def _deliver(
        self,
        recipients: list[str],
        group: list[Message],
        latest: str | None,
        emission: Emission | None,
    ) -> None:
        """Send messages that belong together to several clients."""
        if emission is not None and emission.over:
            emission = None
        alone = len(group) == 1 and latest is None and emission is None
        if alone and group[0].size <= self._small and self.runtime.has_turns:
            try:
                ours = list(map(self._conversations.__getitem__, recipients))
            except KeyError:
                # A stock client is among them.
                pass
            else:
                self.runtime.batch.add(ours, group)
                return
        packets: list[eio.Packet] = []
        for sid in recipients:
            conversation = self._conversations.get(sid)
            if conversation is None:
                packets = packets or [eio.Packet(eio.MESSAGE, message.data) for message in group]
                for packet in packets:
                    # Where a test client of Flask-SocketIO listens.
                    self.server._send_eio_packet(sid, packet)
            elif emission is None:
                conversation.send(group, latest)
            else:
                emission.offer(conversation, group, latest)

    def _send(self, conversation: Conversation, message: Message) -> None:
        """Send, holding a packet's text back until its attachments are there too.

        python-socketio hands them over one by one, each thread its own.
        """
        if not self._partial and isinstance(message.data, str) and message.data[:1] == "2":
            # An event without attachments: nothing is to be seen to. A client manager that
            # speaks to other processes sends one to each recipient here.
            self.hand_over(conversation, [message])
            return
        slot = conversation.id, threading.get_ident()
        missing, group = self._partial.pop(slot, (0, []))
        if isinstance(message.data, str):
            group, missing = [message], _attachments(message.data)
        else:
            group.append(message)
            missing -= 1
        if missing > 0:
            self._partial[slot] = missing, group
            return
        self.hand_over(conversation, group)
        text = group[0].data
        kind = text[:1] if isinstance(text, str) else ""
        if kind in ("3", "6"):
            self.unanswered.discard(conversation.id)
        elif isinstance(text, str) and kind in ("1", "4"):
            self._refused_or_disconnected(conversation, text)

    def hand_over(self, conversation: Conversation, group: list[Message]) -> None:
        """Send messages that belong together; where there is no room, as who sends them waits."""
        latest = latest_key.get()
        emission = None if self.patience is None else current_emission.get()
        if emission is None or emission.over:
            self.runtime.at_home(conversation.send, group, latest)
        else:
            self.runtime.at_home(emission.offer, conversation, group, latest)

    def _refused_or_disconnected(self, conversation: Conversation, text: str) -> None:
        # What follows the namespace is an object of ours, or a text of python-socketio's.
        content = text[1:].partition(",")[2] if text[1:2] == "/" else text[1:]
        if text[0] == "1" and not content:
            self.runtime.at_home(conversation.close, CloseCode.NORMAL, SERVER_DISCONNECT)
            return
        # A DISCONNECT with content refuses, on a server with always_connect.
        error = json.loads(content) if content else ""
        data = error.get("data") if isinstance(error, dict) else None
        code = data.get("code") if isinstance(data, dict) else None
        reason = str(error.get("message", "") if isinstance(error, dict) else error)
        reason = reason.encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore")
        if type(code) is not int or valid_close(code, reason):
            code = CloseCode.UNAUTHORIZED
        conversation.close(code, reason)

    # -- receiving -------------------------------------------------------------------

    def admit(self, conversation: Conversation) -> None:
        """A session begins."""
        self.runtime.settle()
        machine = conversation.machine
        self._small = min(self._small, machine.grant.message)
        if machine.outbox.bounds.bytes < MAX_BYTES + SMALL:
            # What comes alone is taken where there is nothing else: all of it at once would pass.
            self._small = 0
        self._conversations[conversation.id] = conversation

    def _disconnect_alone(
        self, sid: str, namespace: str | None = None, ignore_queue: bool = False
    ) -> None:
        """Do what the server's `disconnect` does, which any thread may call."""
        conversation = self.conversation(sid)
        if conversation is None:
            self._disconnect(sid, namespace, ignore_queue)
        elif not ignore_queue:
            self.endings.run(sid, lambda: self._disconnect(sid, namespace))
        elif self.server.manager.is_connected(sid, namespace or "/"):
            # Another process says so. What hears it hears all others, too, and is not to wait for
            # a disconnect handler; which comes behind the session's other handlers.
            self.runtime.at_home(conversation.close, CloseCode.NORMAL, SERVER_DISCONNECT)

    def forget(self, conversation: Conversation) -> None:
        """The disconnect handler of a session has run."""
        # Where a connect or disconnect handler raised, python-socketio leaves these behind.
        manager = self.server.manager
        for namespace in list(manager.get_namespaces()):
            sid = manager.sid_from_eio_sid(conversation.id, namespace)
            if sid is not None:
                manager.disconnect(sid, namespace, ignore_queue=True)
        self.server.environ.pop(conversation.id, None)
        # It has the client's `Session`, and that has the conversation.
        conversation.data = {}
        del self._conversations[conversation.id]


def _forked(known: weakref.ref[Engine]) -> None:
    """Let a process that was forked have none of the clients of its parent.

    What it emits would else go out on connections that its parent goes on with, under numbers
    that its parent gives to something else.
    """
    engine = known()
    if engine is not None:
        for conversation in engine._conversations.values():
            conversation.mute()
        engine._conversations.clear()
        engine.server.manager.rooms.clear()
        if engine.manager_health is not None:
            engine.manager_health.rename()


def _attachments(text: str) -> int:
    """How many attachments an encoded packet announces."""
    if text[:1] not in ("5", "6"):
        return 0
    return int(text[1 : text.index("-")])
