"""SIGTERM: what was received is finished, what was said arrives, everybody is told, and it ends.

And SIGKILL, after which the next server tells the clients at once that their sessions are gone.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from fallback_transport.protocol.message import Message
from tests.client.fixtures import BINDING_PARAMS, MODE_PARAMS, TRANSPORTS, unexpected
from tests.client.raw import new_hello, post, raw_websocket
from tests.client.session import ClientSession, Ended
from tests.client.waiting import eventually

from .served import OVER_WSGI, Served

RESTARTS = (1012, "the server restarts")
#: Seconds beyond `drain` for a server to end: 5 for clients that do not confirm, and some.
ENDS = 6.0
#: Seconds that a busy machine may add.
SLACK = 1.5
#: Seconds, for a handler, without end.
EVER = 1e6


class Ending:
    """A server that is told to end."""

    def __init__(self, server: Served) -> None:
        self.server = server
        self.at = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.at

    def code(self, within: float) -> int:
        """Its exit code, which must be there in time."""
        process = self.server._process
        assert process is not None
        try:
            code = process.wait(max(0.0, within + SLACK - self.seconds))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there after {self.seconds:.1f} s") from None
        print(f"ended after {self.seconds:.2f} s")
        return code

    def wait_begun(self) -> None:
        """Wait until the server has taken the signal: of two that come before, it sees one."""
        eventually(lambda: "draining:" in self.server.log())


@pytest.fixture(params=BINDING_PARAMS)
def server(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A server that gives its handlers 4 s to finish."""
    with Served(request.param, drain=4) as served:
        yield served
        log = served.log()
        assert not unexpected(log), log


def noted(server: Served, session: str) -> list[int]:
    """The numbers that the handlers of a session have noted, in order."""
    return [int(n) for n in re.findall(rf"^noted {re.escape(session)} (\d+)$", server.log(), re.M)]


def wait_received(client: ClientSession) -> None:
    """Wait until the server has all that was sent: handlers run, or have what is before them."""
    outbox = client.machine.outbox
    client.wait_for(lambda: outbox.received == outbox.last)


def test_nothing_acknowledged_is_lost(server: Served) -> None:
    """While both kinds of clients send without a pause, beyond the end."""
    clients = [ClientSession(server.port).open(transport) for transport in TRANSPORTS]
    sent = 0
    for _ in range(100):
        for client in clients:
            client.emit("noted", [sent, 0.002])
        sent += 1
    for client in clients:
        client.wait_for(lambda client=client: len(client.named("done")) > 10)
    ending = Ending(server)
    while not all(client.closure for client in clients):
        for client in clients:
            if not client.closure and client.machine.state.accepts_messages:
                client.emit("noted", [sent, 0.002])
        sent += 1
        time.sleep(0.005)
        assert ending.seconds < 4 + SLACK, clients
    assert ending.code(ENDS) == 0
    for client in clients:
        client.stop()
        assert client.closure == RESTARTS
        handled = noted(server, client.id)
        assert handled == list(range(len(handled)))
        # The first message was CONNECT.
        acknowledged = client.machine.outbox.confirmed - 1
        print(f"{sent} sent, {acknowledged} acknowledged, {len(handled)} handled")
        assert len(handled) > 90, "what was received then is finished"
        # No handler was interrupted, so that what was handled is known to be, on both sides.
        assert acknowledged == len(handled)
        assert client.named("done") == handled
        left = [str(item.data) for item in client.unconfirmed if isinstance(item, Message)]
        assert left[0] == f'2["noted",[{acknowledged},0.002]]'
        assert client.breaches == []


def test_a_handler_that_runs_is_finished_and_new_sessions_are_turned_away(server: Served) -> None:
    slow = ClientSession(server.port).open("websocket")
    other = ClientSession(server.port).open("polling")
    away = ClientSession(server.port).open("websocket")
    away.cut()
    question = slow.ask_for("sleep", 2.0)
    slow.emit("noted", [0, 0])
    wait_received(slow)
    ending = Ending(server)
    ending.wait_begun()
    # Who is in goes on.
    assert other.request("echo", "still here") == "still here"
    away.open("polling")
    assert away.request("echo", "back") == "back"
    # Who is not hears when to come again.
    reply = post(server.port, new_hello())
    assert (reply.status, reply.end().code, reply.end().session) == (503, 1012, False)
    assert 2 <= int(reply.headers["Retry-After"]) <= 4
    with raw_websocket(server.port) as socket:
        socket.send(new_hello())
        end, code, _ = socket.ended()
    assert end is not None
    assert (end.code, end.session, code) == (1012, False, 1012)
    with ClientSession(server.port) as late, pytest.raises(Ended):
        late.open("polling")
    assert slow.reply_to(question) == 2.0
    assert ending.seconds > 1.5
    for client in (slow, other, away):
        assert client.wait_closed() == RESTARTS
    assert ending.code(2.0 + 0.5) == 0
    for client in (slow, other, away):
        assert client.unconfirmed == ()
        client.stop()
    assert noted(server, slow.id) == [0]
    assert slow.named("done") == [0]
    assert len(re.findall(r"ended after .* 1012 .* 0 messages unconfirmed", server.log())) == 3


def test_a_handler_that_never_returns_holds_up_nobody(server: Served) -> None:
    stuck, other = (ClientSession(server.port).open(transport) for transport in TRANSPORTS)
    stuck.emit("sleep", EVER)
    stuck.emit("noted", [0, 0])
    wait_received(stuck)
    ending = Ending(server)
    for client in (other, stuck):
        assert client.wait_closed() == RESTARTS
    told = ending.seconds
    assert 4 - 0.1 <= told < 4 + SLACK
    assert [str(item.data)[:8] for item in stuck.unconfirmed] == ['2["sleep', '2["noted']
    # It is told like the others, and has confirmed.
    assert ending.code(4 + 0.5) == 0
    for client in (other, stuck):
        client.stop()
    assert noted(server, stuck.id) == []
    assert "1 sessions have handlers that go on" in server.log()


def test_a_second_signal_ends_it_at_once(server: Served) -> None:
    with ClientSession(server.port).open() as client:
        client.emit("sleep", EVER)
        wait_received(client)
        ending = Ending(server)
        ending.wait_begun()
        os.kill(server.pid, signal.SIGTERM)
        assert ending.code(0.5) == -signal.SIGTERM


def test_a_handler_that_lets_nothing_else_run_does_not_keep_a_server_alive() -> None:
    """On a hub nobody can say goodbye then: it ends with status 1, and names the handler."""
    with Served("eventlet", drain=0.1) as server, ClientSession(server.port).open() as client:
        client.emit("block", EVER)
        time.sleep(0.5)
        ending = Ending(server)
        assert ending.code(0.1 + ENDS + 1) == 1
        assert "in block" in server.log()


def test_a_client_that_does_not_confirm_is_waited_for_and_not_for_ever() -> None:
    with Served("eventlet", drain=1) as server:
        client = ClientSession(server.port).open()
        client.cut()
        ending = Ending(server)
        assert ending.code(ENDS) == 0
        assert ending.seconds > 5


@pytest.mark.parametrize(
    "mode", [*(mode for mode in MODE_PARAMS if mode.values != ("threading",)), OVER_WSGI]
)
def test_a_handler_that_ends_the_process_says_with_what_status(mode: str) -> None:
    with Served(mode) as server, ClientSession(server.port).open() as client:
        client.emit("exit", 3)
        process = server._process
        assert process is not None
        assert process.wait(5) == 3


@pytest.mark.parametrize("mode", MODE_PARAMS)
def test_sigint_raises_keyboardinterrupt_as_before(mode: str) -> None:
    with Served(mode) as server:
        os.kill(server.pid, signal.SIGINT)
        process = server._process
        assert process is not None
        assert process.wait(5) is not None
        assert "draining" not in server.log()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_sigint_waits_for_nobody_who_is_connected(transport: str) -> None:
    with Served(OVER_WSGI) as server, ClientSession(server.port).open(transport):
        os.kill(server.pid, signal.SIGINT)
        process = server._process
        assert process is not None
        assert process.wait(5) == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_after_a_kill_the_next_server_says_so_at_once(transport: str) -> None:
    with Served("eventlet") as server, ClientSession(server.port).open(transport) as client:
        server.end(signal.SIGKILL)
        server.start()
        client.wait_for(lambda: client.machine.transport is None or client.closure)
        if client.closure is None:
            with pytest.raises(Ended) as ended:
                client.open(transport)
            assert (ended.value.end.code, ended.value.end.session) == (4404, True)
        assert client.closure == (4404, "the server was restarted")
