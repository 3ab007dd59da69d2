"""`runtime.hub`, `runtime.stream` and `runtime.deferral`, on eventlet's own hub."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import eventlet
import pytest

from fallback_transport.runtime.deferral import Deferral
from fallback_transport.runtime.hub import MAX_IDLE, MAX_WRITES, Deadlines, Hub
from fallback_transport.runtime.stream import MAX_QUEUED, Stream


@pytest.fixture
def hub() -> Hub:
    return Hub()


def turn() -> None:
    """Let the hub do what is due."""
    eventlet.sleep(0)
    eventlet.sleep(0)


def until(condition: Callable[[], Any]) -> None:
    with eventlet.Timeout(5):
        while not condition():
            eventlet.sleep(0.001)


# -- tasks and flushes ----------------------------------------------------------------------


def test_flushes_come_behind_the_tasks_of_their_turn(hub: Hub) -> None:
    done: list[str] = []
    hub.at_end_of_turn(lambda: done.append("flush"))
    hub.submit(lambda: hub.submit(done.append, "task of a task"))
    hub.submit(done.append, "task")
    assert done == []
    turn()
    assert done == ["task", "task of a task", "flush"]


def test_a_task_that_waits_holds_up_nobody(hub: Hub) -> None:
    done: list[int] = []
    go = eventlet.Event()

    def waits(number: int) -> None:
        go.wait()
        done.append(number)

    for number in range(3):
        hub.submit(waits, number)
    hub.submit(done.append, 99)
    turn()
    assert done == [99]
    go.send()
    until(lambda: len(done) == 4)
    assert sorted(done) == [0, 1, 2, 99]
    # The workers are kept, and not too many.
    assert 0 < len(hub._idle) <= MAX_IDLE


def test_workers_are_used_again_and_forget_the_task_before(hub: Hub) -> None:
    place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")
    seen: list[Any] = []

    def task() -> None:
        seen.append((place.get(), eventlet.getcurrent()))
        place.set("somewhere")

    for _ in range(3):
        hub.submit(task)
        turn()
    assert {where for where, _ in seen} == {"nowhere"}
    assert len({id(worker) for _, worker in seen}) == 1


def test_what_raises_ends_only_itself(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    def fails() -> None:
        raise RuntimeError("told to")

    # In two turns: to write a traceback may take one of 5 ms whole, and then a flush comes first.
    hub.submit(fails)
    hub.submit(done.append, "task")
    until(lambda: done)
    hub.at_end_of_turn(fails)
    hub.at_end_of_turn(lambda: done.append("flush"))
    turn()
    assert done == ["task", "flush"]
    assert caplog.messages == ["a task failed", "a flush failed"]


def test_tasks_without_end_let_others_run(hub: Hub) -> None:
    ran, others = [0], [0]

    def again() -> None:
        ran[0] += 1
        if others[0] < 3:
            hub.submit(again)

    hub.submit(again)
    with eventlet.Timeout(5):
        while others[0] < 3:
            eventlet.sleep(0)
            others[0] += 1
    assert ran[0] > 3


# -- deadlines --------------------------------------------------------------------------------


def test_each_waits_for_as_long_as_all(hub: Hub) -> None:
    late: list[str] = []
    deadlines = Deadlines[str](hub, 0.02, late.append)
    for name in ("a", "b", "c", "d"):
        deadlines.start(name)
    deadlines.stop("b")
    deadlines.stop("never started")
    eventlet.sleep(0.01)
    deadlines.start("a")
    until(lambda: "a" in late)
    assert late == ["c", "d", "a"]
    assert len(deadlines) == 0
    deadlines.start("e")
    until(lambda: "e" in late)


def test_a_hub_outlives_a_time_that_epoll_does_not_take() -> None:
    """Such as that of a session that may be away for a month."""
    program = """
import os, signal, socket
import eventlet
from fallback_transport.runtime.hub import Deadlines, Hub

hub = Hub()
near, far = socket.socketpair()
hub.watch_readable(near.fileno(), print)
Deadlines(hub, 30 * 86400.0, print).start("away")
signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
signal.setitimer(signal.ITIMER_REAL, 0.5)
eventlet.Event().wait()
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    process = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert process.returncode == 0, process.stderr


def test_one_that_fails_stops_no_clock(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    late: list[str] = []

    def tell(name: str) -> None:
        if name == "bad":
            raise RuntimeError("told to")
        late.append(name)

    deadlines = Deadlines[str](hub, 0.01, tell)
    for name in ("bad", "good"):
        deadlines.start(name)
    until(lambda: late)
    assert late == ["good"]
    assert caplog.messages == ["a deadline failed"]


# -- streams ----------------------------------------------------------------------------------


class Peers:
    """Two ends of a connection, one of them a stream."""

    def __init__(self, hub: Hub) -> None:
        ours, self.theirs = socket.socketpair()
        for each in (ours, self.theirs):
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.got: list[bytes] = []
        self.gone: list[Stream] = []
        self.drained = 0
        self.handed: list[bytes] = []
        self.stream = Stream(hub, ours, ("peer", 1), self._wsgi, self.gone.append)
        self.stream.received = self.got.append
        self.stream.drained = self._drain
        self.stream.resume()

    def _drain(self) -> None:
        self.drained += 1

    def _wsgi(self, stream: Stream, sock: Any, head: bytes) -> None:
        self.handed.append(head)
        with contextlib.suppress(BlockingIOError):
            self.handed.append(sock.recv(99))
        sock.close()

    def arrived(self) -> str:
        """What has come by now."""
        try:
            return self.theirs.recv(65536).decode()
        except BlockingIOError:
            return ""

    def read_all(self) -> bytes:
        """All that comes until nothing has for a while, or the end, which is `<end>`."""
        found, idle = b"", 0
        while idle < 20:
            try:
                data = self.theirs.recv(65536)
            except BlockingIOError:
                idle += 1
                eventlet.sleep(0.001)
                continue
            if not data:
                return found + b"<end>"
            found, idle = found + data, 0
        return found

    def close(self) -> None:
        self.stream.close()
        self.theirs.close()


@pytest.fixture
def peers(hub: Hub) -> Iterator[Peers]:
    peers = Peers(hub)
    yield peers
    peers.close()


def test_what_does_not_go_at_once_goes_later_and_the_end_behind_it(peers: Peers) -> None:
    data = bytes(range(256)) * 1000
    peers.stream.send(data[:100_000])
    assert peers.stream.rest
    peers.stream.send(data[100_000:])
    peers.stream.send_end()
    assert peers.drained == 0
    assert peers.read_all() == data + b"<end>"
    assert not peers.stream.rest
    assert peers.drained == 1


def test_what_is_queued_goes_at_the_end_of_the_turn_in_order(peers: Peers, hub: Hub) -> None:
    seen: list[str] = []

    def flush() -> None:
        peers.stream.queue(b"one ")
        seen.append(peers.arrived())
        peers.stream.queue(b"two ")
        seen.append(peers.arrived())

    hub.at_end_of_turn(flush)
    until(lambda: seen)
    # The second does not wait with the first: one write for both.
    assert seen == ["", "one two "]
    peers.stream.queue(b"three ")
    peers.stream.send(b"four ")
    assert peers.arrived() == "three four "
    peers.stream.queue(b"five")
    peers.stream.send_end()
    assert peers.read_all() == b"five<end>"


def test_nothing_is_read_that_nobody_would_have(peers: Peers) -> None:
    # What the peer does not read goes first, and then the request to `eventlet.wsgi`.
    peers.stream.send(b"x" * 1_000_000)
    peers.stream.hand_over(b"GET /")
    assert peers.handed == []
    # As whoever has handed over part of what it has read goes on with the rest.
    peers.stream.resume()
    peers.theirs.send(b" HTTP/1.1")
    turn()
    assert peers.read_all() == b"x" * 1_000_000 + b"<end>"
    assert peers.handed == [b"GET /", b" HTTP/1.1"]


def test_what_is_there_is_read_at_once(peers: Peers) -> None:
    assert peers.stream.read(10) == b""
    peers.theirs.send(b"0123456789")
    assert peers.stream.read(4) == b"0123"
    turn()
    assert peers.got == [b"456789"]
    peers.theirs.close()
    # Of the end, who reads is told by the callback.
    assert peers.stream.read(4) == b""
    until(lambda: peers.got[1:] == [b""])


def test_many_that_are_written_to_do_not_wait_for_all(hub: Hub) -> None:
    many = [Peers(hub) for _ in range(MAX_WRITES + 1)]
    arrived: list[str] = []

    def flush() -> None:
        for each in many:
            each.stream.queue(b"x")
        arrived.extend([each.arrived() for each in many])

    hub.at_end_of_turn(flush)
    until(lambda: arrived)
    assert arrived == ["x"] * MAX_WRITES + [""]
    turn()
    assert many[-1].arrived() == "x"
    for each in many:
        each.close()


@pytest.mark.parametrize("how", ["close", "hand_over"])
def test_what_is_queued_goes_before_the_stream_does(hub: Hub, how: str) -> None:
    peers = Peers(hub)
    peers.stream.queue(b"last")
    if how == "close":
        peers.stream.close()
    else:
        peers.stream.hand_over(b"head")
    assert peers.read_all() == b"last<end>"
    peers.theirs.close()


def test_of_a_stream_that_ends_nothing_stays(peers: Peers) -> None:
    """Its number is the next connection's, and a fork may have its socket still."""
    peers.stream.send(b"x" * 1_000_000)
    number = peers.stream._sock.fileno()
    waiting = eventlet.hubs.get_hub().get_writers()
    assert [each.fileno for each in waiting] == [number]
    with peers.stream._sock.dup():
        peers.stream.close()
        assert peers.read_all().endswith(b"x<end>")
    assert list(eventlet.hubs.get_hub().get_writers()) == []
    assert not peers.stream.rest
    assert peers.drained == 1


def test_a_reset_is_no_error_to_who_ends_a_stream(hub: Hub) -> None:
    gone: list[Stream] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, address = listener.accept()
    stream = Stream(hub, ours, address, lambda *_: None, gone.append)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    with pytest.raises(ConnectionResetError):
        ours.recv(1)
    stream.send_end()
    stream.close()
    assert gone == [stream]


def test_much_is_not_queued(peers: Peers) -> None:
    peers.stream.queue(bytes(MAX_QUEUED + 1))
    assert peers.stream.rest
    assert len(peers.read_all()) == MAX_QUEUED + 1


def test_nothing_is_read_while_it_is_paused(peers: Peers) -> None:
    peers.theirs.send(b"one")
    until(lambda: peers.got)
    peers.stream.pause()
    peers.theirs.send(b"two")
    turn()
    assert peers.got == [b"one"]
    peers.stream.resume()
    until(lambda: len(peers.got) == 2)
    peers.theirs.shutdown(socket.SHUT_WR)
    until(lambda: len(peers.got) == 3)
    turn()
    assert peers.got == [b"one", b"two", b""]
    # It can still be written to.
    peers.stream.send(b"three")
    assert peers.read_all() == b"three"


def test_a_reader_that_fails_ends_its_stream(
    peers: Peers, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(data: bytes) -> None:
        raise RuntimeError("told to")

    peers.stream.received = fails
    peers.theirs.send(b"x")
    until(lambda: peers.stream.closed)
    assert caplog.messages == ["a connection failed"]
    assert peers.gone == [peers.stream]
    assert peers.drained == 1


def test_a_stream_that_is_closed_or_handed_over_is_silent(peers: Peers, hub: Hub) -> None:
    other = Peers(hub)
    other.stream.hand_over(b"head")
    assert other.handed == [b"head"]
    assert other.gone == []
    other.theirs.close()
    peers.stream.close()
    for stream in (peers.stream, other.stream):
        stream.send(b"x")
        stream.resume()
        stream.close()
        assert stream.closed
        assert not stream.rest
    turn()
    assert peers.got == other.got == []


def test_what_waits_to_be_read_goes_before_the_stream_is_handed_over(peers: Peers) -> None:
    data = bytes(range(256)) * 1000
    peers.stream.send(data)
    assert peers.stream.rest
    peers.stream.hand_over(b"head")
    assert peers.handed == []
    assert peers.read_all() == data + b"<end>"
    assert peers.handed == [b"head"]


def test_a_stream_that_is_closed_is_handed_over_to_nobody(peers: Peers) -> None:
    peers.stream.send(bytes(1_000_000))
    peers.stream.hand_over(b"head")
    peers.stream.close()
    turn()
    assert peers.handed == []


# -- the log -----------------------------------------------------------------------------------


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, Kept]]:
    logger, kept = logging.getLogger("fallback_transport.a_test"), Kept()
    logger.addHandler(kept)
    yield logger, kept
    logger.removeHandler(kept)
    for name in list(logging.root.manager.loggerDict):
        for each in list(logging.getLogger(name).filters):
            if isinstance(each, Deferral):
                logging.getLogger(name).removeFilter(each)


def test_what_is_logged_in_the_hub_is_written_by_a_task(
    log: tuple[logging.Logger, Kept],
) -> None:
    logger, kept = log
    tasks: list[Callable[[], None]] = []
    here = [True]
    deferral = Deferral(lambda: here[0], tasks.append)
    deferral.start()
    # Of a second server in the same process.
    Deferral(lambda: here[0], tasks.append).start()
    logger.warning("one %s", 1)
    try:
        raise RuntimeError("told to")
    except RuntimeError:
        logger.exception("two")
    assert kept.lines == []
    assert len(tasks) == 1
    tasks.pop()()
    assert kept.lines[0] == "one 1"
    assert kept.lines[1].startswith("two\nTraceback")
    here[0] = False
    logger.warning("of another thread")
    assert kept.lines[2:] == ["of another thread"]


def test_at_the_end_nothing_is_kept(log: tuple[logging.Logger, Kept]) -> None:
    logger, kept = log
    deferral = Deferral(lambda: True, lambda write: None)
    deferral.start()
    logger.warning("one")
    deferral.stop()
    logger.warning("two")
    assert kept.lines == ["one", "two"]


def test_the_last_lines_of_a_process_are_written() -> None:
    program = (
        "import logging\n"
        "from fallback_transport.runtime.deferral import Deferral\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "logger = logging.getLogger('fallback_transport.a_test')\n"
        "Deferral(lambda: True, lambda write: None).start()\n"
        "logger.info('the last line')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert "the last line" in ended.stderr
