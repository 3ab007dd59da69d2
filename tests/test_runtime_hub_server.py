"""The accept loop in front of `eventlet.wsgi`, where the test is the hub and the clients."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fallback_transport.runtime import Stream
from fallback_transport.runtime.hub_server import ACCEPT_BATCH, ACCEPT_PAUSE, HubServer
from tests.fakes import FakeRuntime, FakeSocket

pytest.importorskip("eventlet")

NO_DESCRIPTOR = OSError(errno.EMFILE, "Too many open files")


class Accepted(FakeSocket):
    """As far as one that is accepted goes."""

    blocking = True
    closed = False

    def setblocking(self, flag: bool) -> None:
        self.blocking = flag

    def close(self) -> None:
        self.closed = True


class Listener(Accepted):
    """What is to be accepted, and what keeps it from that."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: deque[Accepted | OSError] = deque()

    def accept(self) -> tuple[Accepted, Any]:
        first = self.waiting.popleft() if self.waiting else BlockingIOError()
        if isinstance(first, OSError):
            raise first
        return first, ("192.0.2.1", first.fileno())

    def fileno(self) -> int:
        return -1 if self.closed else super().fileno()


class Protocol:
    """As far as `eventlet.wsgi` uses one, but for what it serves."""

    def __init__(self, state: list[Any], server: Any) -> None:
        self.conn_state = state
        self.environ: Any = {}
        self.finished = False
        self.flushed = False
        self.rfile = self.wfile = self
        self.setup()
        self.handle()
        self.finish()

    def setup(self) -> None:
        self.conn_state[1].served.append(self)

    def handle_one_request(self) -> None:
        assert self.close_connection, "what is not known to go on does not"
        self.conn_state[1].serve(self)

    def finish(self) -> None:
        self.finished = True

    def flush(self) -> None:
        self.flushed = True

    def rest(self) -> bytes:
        return b"the next"

    head: bytes
    close_connection: bool


class Green:
    """What a socket is for `eventlet.wsgi`."""

    served: list[Protocol]
    serve: Callable[[Protocol], None]

    def __init__(self, sock: Accepted) -> None:
        self.sock = sock
        self.served = Server.served
        self.serve = Server.serve

    def close(self) -> None:
        self.sock.close()


class Server(HubServer):
    """One that a test looks into."""

    served: list[Protocol] = []  # noqa: RUF012
    serve: Callable[[Protocol], None] = staticmethod(lambda protocol: None)

    def __init__(self) -> None:
        self.runtime = FakeRuntime(turns=True)
        self.fake: Any = self.runtime.hub._hub
        self.reopened: list[int] = []
        self.fake.mark_as_reopened = self.reopened.append
        self.listener = Listener()
        self.streams: list[Stream] = []
        self.read: list[bytes] = []
        self.troubles: list[OSError] = []
        self.waited = 0
        Server.served = []
        hub, front, tell = self.runtime.hub, self.front, self.troubles.append
        super().__init__(None, self.listener, Protocol, hub, front, tell, self)
        self._green = Green

    def front(self, stream: Stream) -> None:
        stream.received = self.read.append
        self.streams.append(stream)

    def spawn(self, function: Callable[..., None], *args: Any) -> None:
        """As the pool."""
        self.runtime.spawn(function, *args)

    def waitall(self) -> None:
        """As the pool."""
        self.waited += 1

    def come(self, *waiting: Accepted | OSError) -> None:
        """Let them be accepted."""
        self.listener.waiting.extend(waiting)
        self.fake.tell("read", self.listener.fileno())

    @property
    def accepting(self) -> bool:
        """Whether it watches for those who come."""
        return any(fileno == self.listener._fileno for _, fileno in self.fake.watched)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    assert not server.accepting
    assert not server.listener.blocking
    server.start()
    yield server
    assert server.runtime.errors == []


def test_who_comes_is_read_by_the_front(server: Server) -> None:
    one, two = Accepted(), Accepted()
    server.come(one, two)
    assert [one.blocking, two.blocking] == [False, False]
    assert server.reopened == [one.fileno(), two.fileno()]
    assert [stream.address[1] for stream in server.streams] == server.reopened
    two.there = b"hello"
    server.fake.tell("read", two.fileno())
    assert server.read == [b"hello"]
    assert server.troubles == []


@pytest.mark.parametrize("error", [BlockingIOError(), ConnectionAbortedError()])
def test_who_has_left_is_no_trouble(error: OSError, server: Server) -> None:
    server.come(error, Accepted())
    assert (server.streams, server.troubles, server.accepting) == ([], [], True)
    server.come()
    assert len(server.streams) == 1


def test_others_have_their_turn_before_many_are_accepted(server: Server) -> None:
    server.come(*[Accepted() for _ in range(ACCEPT_BATCH + 1)])
    assert len(server.streams) == ACCEPT_BATCH
    server.come()
    assert len(server.streams) == ACCEPT_BATCH + 1


def test_what_cannot_be_accepted_is_tried_again(server: Server) -> None:
    server.come(NO_DESCRIPTOR, NO_DESCRIPTOR, Accepted())
    # Not in each turn of the hub: the one who comes would be there in each.
    assert (server.troubles, server.accepting) == ([NO_DESCRIPTOR], False)
    server.runtime.advance(ACCEPT_PAUSE / 2)
    assert not server.accepting
    server.runtime.advance(ACCEPT_PAUSE / 2)
    assert server.accepting
    server.come()
    assert (len(server.troubles), server.accepting) == (2, False)
    server.runtime.advance(ACCEPT_PAUSE)
    server.come()
    assert len(server.streams) == 1
    # It is tried already: who ends has nothing to do with it.
    del server.fake.watched["read", server.listener.fileno()]
    server.streams[0].close()
    assert not server.accepting


def test_who_ends_lets_in_who_waits(server: Server) -> None:
    server.come(Accepted(), Accepted())
    server.streams[0].close()
    server.come(NO_DESCRIPTOR, Accepted())
    assert not server.accepting
    server.streams[1].close()
    assert server.accepting
    server.come()
    assert len(server.streams) == 3
    # Nor is it tried once more at the time that was meant.
    server._pause()
    server.runtime.advance(ACCEPT_PAUSE)
    assert not server.accepting


def test_at_the_end_nobody_is_kept(server: Server) -> None:
    one = Accepted()
    server.come(one, NO_DESCRIPTOR)
    server.stop()
    server.runtime.advance(1)
    assert one.closed
    assert server.listener.closed
    assert (server.accepting, server.waited) == (False, 1)
    assert server.streams[0].closed


def hand_over(server: Server) -> Accepted:
    """One whose request `eventlet.wsgi` is to serve."""
    sock = Accepted()
    server.come(sock)
    server.streams[-1].hand_over(b"GET / HTTP/1.1\r\n")
    server.runtime.run()
    return sock


def test_what_goes_on_comes_back(server: Server) -> None:
    def keep(protocol: Protocol) -> None:
        assert protocol.head == b"GET / HTTP/1.1\r\n"
        assert server.streams[0].closed
        protocol.close_connection = False

    Server.serve = staticmethod(keep)
    sock = hand_over(server)
    [protocol] = server.served
    assert protocol.flushed
    assert not protocol.finished
    assert protocol.environ is None
    assert not sock.closed
    assert len(server.streams) == 2
    assert server.streams[1].address == server.streams[0].address
    assert server.read == [b"the next"]
    # What its green half closes with its last reference is not it.
    protocol.conn_state[1].close()
    assert not sock.closed
    assert server._streams == {server.streams[1]}
    server.stop()
    assert sock.closed
    assert not server.accepting
    assert server._streams == set()


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
def test_what_does_not_go_on_ends_as_in_eventlets_own(
    error: Exception | None, server: Server
) -> None:
    def end(protocol: Protocol) -> None:
        if error is not None:
            raise error

    Server.serve = staticmethod(end)
    hand_over(server)
    [protocol] = server.served
    assert protocol.finished
    assert (len(server.streams), server.read) == (1, [])


def test_what_goes_on_once_the_server_has_ended_is_closed(server: Server) -> None:
    def keep(protocol: Protocol) -> None:
        protocol.close_connection = False
        server.stop()

    Server.serve = staticmethod(keep)
    assert hand_over(server).closed
    assert (len(server.streams), server.read) == (1, [])
