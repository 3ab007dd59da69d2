"""With ``when_full="wait"`` an `emit` waits for slow clients, wherever it is; others go on.

On real sockets: clients that read and do not confirm, and such that do not read.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.client.fixtures import BINDING_PARAMS, MODE_PARAMS, TRANSPORTS, unexpected
from tests.client.links import PollingLink
from tests.client.session import ClientSession
from tests.client.waiting import eventually

from .raw import SEPARATOR, Session
from .served import Served

MODULE = "tests.integration.emitting_app"
#: What a session has room for; and the seconds for which an `emit` waits.
MESSAGES, BYTES, PATIENCE = 20, 2_000_000, 3.0
#: How many of the news it has room for: each has bytes in it, and is two messages.
NEWS = MESSAGES // 2
#: How many are emitted: the client's confirmations take some rounds.
MANY = 50
#: Seconds that a busy machine may add.
SLACK = 2.0
TOO_MANY = 4429

both = pytest.mark.parametrize("transport", TRANSPORTS)


@pytest.fixture(scope="module", params=BINDING_PARAMS)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    options = {"max_unconfirmed_messages": MESSAGES, "max_unconfirmed_bytes": BYTES}
    patience = {"when_full": "wait", "emit_timeout": PATIENCE}
    with Served(
        request.param, module=MODULE, credit_messages=MESSAGES, **options, **patience
    ) as server:
        yield server
        assert not unexpected(server.log()), server.log()


@pytest.fixture
def clients(served: Served) -> Iterator[Any]:
    """Opens clients, by a transport, that may not confirm what comes."""
    with ExitStack() as stack:

        def closed(client: ClientSession) -> None:
            # Of what the next test emits, nothing is to wait for it.
            if client.closure is None and client.transport:
                client.close()
                client.wait_closed()

        def opened(transport: str, *, holding: bool = False) -> ClientSession:
            client = stack.enter_context(ClientSession(served.port).open(transport))
            stack.callback(closed, client)
            client.holding = holding
            if isinstance(client.link, PollingLink):
                # What a page confirms goes up with its next request, at once; so that what is
                # released here does, too, no request waits for long.
                client.link.wait = 0.2
            return client

        yield opened


def emit_from(served: Served, where: str, trigger: ClientSession) -> None:
    """Have news emitted to everybody."""
    if where == "view":
        # It answers once it is done.
        path = f"/emit?text=hello&times={MANY}"
        threading.Thread(target=served.get, args=(path,), daemon=True).start()
    else:
        trigger.emit(where, MANY)


def steps(client: ClientSession, name: str = "news") -> list[Any]:
    with client.changed:
        return [event[1] for event in client.received if event[0] == name]


@both
@pytest.mark.parametrize("where", ["handler", "task", "thread", "view"])
def test_emit_waits_wherever_it_is(
    served: Served, clients: Any, transport: str, where: str
) -> None:
    room = MESSAGES if where == "view" else NEWS
    slow, quick = clients(transport, holding=True), clients(transport)
    emit_from(served, where, quick)
    # As many as the slow one has room for, and the one that waits for it.
    quick.wait_for(lambda: len(steps(quick)) >= room, PATIENCE / 2)
    time.sleep(0.2)
    assert room <= len(steps(quick)) <= room + 1
    assert not slow.closure
    # In the meantime others are served.
    assert clients("websocket").request("back", "hello") == "hello"
    slow.release()
    news = ["hello"] * MANY if where == "view" else [[n, b"\0" * (n % 3)] for n in range(MANY)]
    for client in (slow, quick):
        client.wait_for(lambda client=client: len(steps(client)) == MANY, 10)
        assert steps(client) == news
        assert client.closure is None
        assert client.breaches == []


def test_who_makes_no_room_is_given_up(served: Served, clients: Any) -> None:
    slow = [clients(transport, holding=True) for transport in TRANSPORTS]
    away, quick = clients("websocket", holding=True), clients("websocket")
    # Where its ack is cut off, too, it has room for one less than the others, and they are waited
    # for one after the other.
    away.probe()
    away.wait_for(lambda: away.answered)
    away.cut()
    began = time.monotonic()
    quick.emit("task", MANY)
    quick.wait_for(lambda: len(steps(quick)) == MANY, PATIENCE + 5)
    took = time.monotonic() - began
    print(f"{served.mode}: waited for {took:.2f} s")
    # For all of them at the same time.
    assert PATIENCE - 0.5 < took < PATIENCE + SLACK
    for client in slow:
        code, reason = client.wait_closed(5)
        assert code == TOO_MANY
        assert f"after a wait of {PATIENCE:g} s" in reason
    eventually(lambda: f"session {away.id} ended" in served.log())


def test_who_waits_goes_on_when_the_session_ends(served: Served, clients: Any) -> None:
    quick = clients("websocket")
    for number, transport in enumerate(TRANSPORTS):
        slow = clients(transport, holding=True)
        quick.emit("handler", MANY)
        quick.wait_for(lambda number=number: len(steps(quick)) >= number * MANY + NEWS, 1.5)
        slow.close()
        quick.wait_for(lambda number=number: len(steps(quick)) == (number + 1) * MANY, 1.5)


@both
def test_a_connect_handler_waits(served: Served, transport: str) -> None:
    with ClientSession(served.port, auth={"early": MANY}).open(transport) as client:
        assert client.named("early") == list(range(MANY))
        assert client.request("back", "hello") == "hello"


def test_a_callback_of_the_hub_does_not_wait(served: Served, clients: Any) -> None:
    slow, quick = clients("websocket", holding=True), clients("websocket")
    quick.emit("task", NEWS)
    quick.wait_for(lambda: len(steps(quick)) == NEWS, PATIENCE / 2)
    quick.emit("callback", 1)
    quick.wait_for(lambda: len(steps(quick)) == NEWS + 1, PATIENCE / 2)
    if served.mode == "threading":
        # There is no hub: whatever runs can wait.
        slow.release()
        slow.wait_for(lambda: len(steps(slow)) == NEWS + 1, PATIENCE / 2)
    else:
        assert slow.wait_closed(PATIENCE / 2)[0] == TOO_MANY


@both
def test_a_handler_waits_for_its_own_client_whose_credit_is_used_up(
    served: Served, clients: Any, transport: str
) -> None:
    client = clients(transport, holding=True)
    questions = [client.ask_for("back", number) for number in range(3 * MESSAGES)]
    client.wait_for(lambda: len(steps(client, "back")) >= MESSAGES // 2 - 1, 5)
    client.release()
    assert [client.reply_to(each) for each in questions] == list(range(3 * MESSAGES))
    assert steps(client, "back") == list(range(3 * MESSAGES))


@both
def test_several_who_wait_for_one_client_mix_nothing_up(
    served: Served, clients: Any, transport: str
) -> None:
    """Four threads at once, each for this client alone."""
    client = clients(transport, holding=True)
    client.emit("threads", MESSAGES)
    client.wait_for(lambda: len(steps(client, "step")) >= MESSAGES // 2 - 1, 5)
    client.release()
    client.wait_for(lambda: len(steps(client, "step")) == 4 * MESSAGES, 15)
    for number in range(4):
        seen = [step for step in steps(client, "step") if step[0] == number]
        assert seen == [[number, step, b"\0"] for step in range(MESSAGES)]


@both
def test_a_client_that_does_not_read(served: Served, transport: str) -> None:
    """Five times as much as there is room for: it comes whole, when it reads at last."""
    count, size = 100, 50_000
    produce = f'm2["produce",{count},{size}]'
    numbers: list[int] = []
    with Session(served.port, transport) as session:
        if session.ws is not None:
            session.socket.text(SEPARATOR.join(["a1 s2", produce]))
        else:
            session.post("a1 s2", produce)
        time.sleep(0.3)
        began = time.monotonic()
        while len(numbers) < count:
            assert time.monotonic() < began + 20, f"{len(numbers)} have come"
            if session.ws is not None:
                text = session.socket.next_text()
            else:
                text = session.post(f"a{1 + len(numbers)}", wait=5000).text
            came = [part for part in text.split(SEPARATOR)[1:] if part.startswith('m2["produced"')]
            numbers += [json.loads(part[2:])[1][0] for part in came]
            if session.ws is not None and came:
                session.socket.text(f"a{1 + len(numbers)}")
        assert numbers == list(range(count))
    assert f"session {session.id} ended" not in served.log()


@pytest.mark.parametrize("mode", MODE_PARAMS)
def test_a_server_that_is_told_to_end_does_not_wait_for_room(mode: str) -> None:
    with (
        Served(
            mode,
            module=MODULE,
            max_unconfirmed_messages=MESSAGES,
            when_full="wait",
            emit_timeout=60,
            drain=0.5,
        ) as server,
        ClientSession(server.port).open("websocket") as slow,
    ):
        slow.holding = True
        slow.emit("handler", MANY)
        slow.emit("thread", MANY)
        slow.wait_for(lambda: len(steps(slow)) >= NEWS - 1, 5)
        began = time.monotonic()
        process = server._process
        assert process is not None
        os.kill(server.pid, signal.SIGTERM)
        slow.wait_for(lambda: slow.closure or slow.machine.inbox.received > MESSAGES + 1, 5)
        slow.release()
        assert process.wait(10) == 0
        took = time.monotonic() - began
        print(f"{mode}: ended after {took:.2f} s")
        assert took < 0.5 + SLACK
        assert slow.wait_closed(1) == (1012, "the server restarts")
        assert not unexpected(server.log()), server.log()
