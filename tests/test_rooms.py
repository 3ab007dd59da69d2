"""`rooms.share`: python-socketio's tables, where threads share them."""

from __future__ import annotations

import itertools
import logging
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import socketio

from fallback_transport.engine import Engine
from fallback_transport.rooms import in_namespace, share
from fallback_transport.runtime import Runtime
from tests.fakes import FakeRuntime


class Lock:
    """Which says whether somebody has it."""

    def __init__(self) -> None:
        self.held = 0

    def __enter__(self) -> None:
        self.held += 1

    def __exit__(self, *error: Any) -> None:
        self.held -= 1


class Table(dict[Any, Any]):
    """That is looked at and changed under a lock only."""

    def __init__(self, lock: Lock, content: dict[Any, Any]) -> None:
        super().__init__(content)
        self._lock = lock

    def _under_the_lock(name: str) -> Any:  # type: ignore[misc]
        def checked(self: Table, *args: Any) -> Any:
            assert self._lock.held, f"{name} without the lock"
            return getattr(dict, name)(self, *args)

        return checked

    __contains__ = _under_the_lock("__contains__")
    __getitem__ = _under_the_lock("__getitem__")
    __setitem__ = _under_the_lock("__setitem__")
    __delitem__ = _under_the_lock("__delitem__")
    get = _under_the_lock("get")
    items = _under_the_lock("items")
    copy = _under_the_lock("copy")


def make(lock: Any) -> Any:
    """A manager whose tables are shared, and who is in the room "a": "id-0", alone."""
    manager = socketio.Manager()
    ids = (f"id-{number}" for number in itertools.count())
    manager.set_server(
        SimpleNamespace(
            eio=SimpleNamespace(generate_id=lambda: next(ids)), packet_class=socketio.packet.Packet
        )
    )
    share(manager, lock)
    manager.connect("eio-0", "/")
    manager.enter_room("id-0", "/", "a")
    return manager


@pytest.mark.parametrize(
    "use",
    [
        lambda manager: manager.pre_connect("eio-1", "/"),
        lambda manager: manager.connect("eio-1", "/"),
        lambda manager: manager.enter_room("id-0", "/", "b"),
        lambda manager: manager.leave_room("id-0", "/", "a"),
        lambda manager: manager.close_room("a", "/"),
        lambda manager: manager.get_rooms("id-0", "/"),
        lambda manager: list(manager.get_participants("/", ["a", None])),
        lambda manager: manager.pre_disconnect("id-0", "/"),
        lambda manager: manager.disconnect("id-0", "/"),
        lambda manager: manager._generate_ack_id("id-0", print),
        lambda manager: manager.trigger_callback("id-0", 1, []),
    ],
)
def test_one_thread_is_in_the_tables_at_a_time(use: Callable[[Any], Any]) -> None:
    lock = Lock()
    manager = make(lock)
    manager._generate_ack_id("id-0", lambda: None)
    for name in ("rooms", "callbacks", "pending_connect", "pending_disconnect"):
        setattr(manager, name, Table(lock, getattr(manager, name)))
    use(manager)
    assert not lock.held


def test_who_is_in_a_namespace() -> None:
    manager = make(Lock())
    assert in_namespace(manager, "/", "id-0")
    assert not in_namespace(manager, "/", "id-1")
    assert not in_namespace(manager, "/none", "id-0")


def test_who_is_gone_leaves_no_empty_room() -> None:
    manager = make(Lock())
    for namespace in ("/", "/none"):
        with pytest.raises(KeyError, match="nobody"):
            manager.enter_room("nobody", namespace, "b")
    assert list(manager.rooms) == ["/"]
    assert list(manager.rooms["/"]) == [None, "id-0", "a"]


@pytest.mark.parametrize("namespace", ["/", "/none"])
def test_who_is_not_there_is_told_of_as_by_a_stock_manager(namespace: str) -> None:
    stock = socketio.Manager()
    stock.rooms = {"/": {None: {}}}
    with pytest.raises((KeyError, ValueError)) as told:
        stock.enter_room("nobody", namespace, "b")
    with pytest.raises(told.type):
        make(Lock()).enter_room("nobody", namespace, "b")


def test_who_goes_through_a_room_does_so_without_the_lock() -> None:
    lock = Lock()
    manager = make(lock)
    for sid, engine_id in manager.get_participants("/", "a"):
        assert (sid, engine_id, lock.held) == ("id-0", "eio-0", 0)
        manager.leave_room(sid, "/", "a")
    assert list(manager.get_participants("/", "a")) == []


def test_a_callback_is_called_once_and_without_the_lock(caplog: pytest.LogCaptureFixture) -> None:
    lock = Lock()
    manager = make(lock)
    called: list[Any] = []

    def answered(*values: Any) -> None:
        called.append((values, lock.held))
        # Who waited for it has given up just now.
        manager.callbacks["id-0"].pop(1, None)

    manager._generate_ack_id("id-0", answered)
    manager.logger = logging.getLogger("tests.rooms")
    for _ in range(2):
        manager.trigger_callback("id-0", 1, ["answer", 2])
    assert called == [(("answer", 2), 0)]
    assert caplog.messages == ["Unknown callback received, ignoring."]


@pytest.mark.parametrize(("table", "looks"), [("pending_connect", 2), ("pending_disconnect", 3)])
def test_what_ends_between_two_looks_is_no_error(table: str, looks: int) -> None:
    """Another client's connect or disconnect handler returns: the last one's that ran."""
    manager = make(Lock())
    getattr(manager, table)["/"] = ["another"]
    left = [looks]

    class Namespace(str):
        __slots__ = ()
        __eq__ = str.__eq__

        def __hash__(self) -> int:
            left[0] -= 1
            if left[0] == 0:
                del getattr(manager, table)["/"]
            return hash("/")

    assert manager.is_connected("id-0", Namespace("/"))
    assert getattr(manager, table) == {}


def test_threads_share_them_whatever_else_the_mode_has_and_tests_do_not_pay() -> None:
    server = socketio.Server(async_mode="threading")
    before = dict(vars(server.manager))
    engine = Engine(server, FakeRuntime())
    assert vars(server.manager) == {**before, "emit": engine._emit}
    for mode in ("eventlet", "gevent", "threading"):
        server = socketio.Server(async_mode="threading")
        runtime = Runtime(server.eio)
        runtime.mode = mode
        Engine(server, runtime)
        manager = server.manager
        for name in ("basic_enter_room", "get_participants", "_generate_ack_id"):
            assert name in vars(manager)
    # Each takes the lock again within another.
    sid = manager.connect("eio-0", "/")
    manager.enter_room(sid, "/", "room")
    manager.close_room("room", "/")
    assert manager.get_rooms(sid, "/") == [sid]


def test_a_fork_does_not_wait_for_a_thread_that_only_its_parent_has() -> None:
    # Of a process of its own: one that has threads, as this one may have, is not to be forked.
    program = """
import os
import threading
import socketio
from fallback_transport.engine import Engine
from fallback_transport.runtime import Runtime

has, may_go = threading.Event(), threading.Event()
made = []

class Lock:
    def __init__(self):
        self.real = threading.RLock()
        made.append(self.real)
        self.release = self.real.release

    def acquire(self):
        may_go.set()
        return self.real.acquire()

    def __enter__(self):
        return self.real.acquire()

    def __exit__(self, *error):
        self.real.release()

server = socketio.Server(async_mode="threading")
server.manager.get_rooms = lambda *who: (has.set(), may_go.wait())
runtime = Runtime(server.eio)
runtime.lock = Lock
engine = Engine(server, runtime)
threading.Thread(target=server.manager.get_rooms).start()
has.wait()
if (process := os.fork()) == 0:
    os._exit(not all(each.acquire(blocking=False) for each in made))
may_go.set()
print(os.waitpid(process, 0)[1], all(each.acquire(blocking=False) for each in made))
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert said == "0 True\n"
