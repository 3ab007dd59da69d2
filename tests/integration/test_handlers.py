"""What handlers are promised: order, replies, contexts, and peace from each other."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from functools import partial
from typing import Any

import pytest

from tests.client.fixtures import TRANSPORTS, served_fixture
from tests.client.session import LATER, ClientSession, Ended, RequestFailed
from tests.client.waiting import eventually
from tests.integration.served import OVER_WSGI, Served

served = served_fixture()
two_apps = served_fixture(other_app=True)
tight = served_fixture(credit_messages=20, credit_bytes=100_000)

both = pytest.mark.parametrize("transport", TRANSPORTS)

RAISED = "RuntimeError: the message handler was told to raise"


def opened(server: Served, transport: str = "websocket", **options: Any) -> ClientSession:
    """A session that is open already."""
    return ClientSession(server.port, **options).open(transport)


# -- order and replies -----------------------------------------------------------------


@both
def test_handlers_run_one_after_the_other(
    served: Served, transport: str, rng: random.Random
) -> None:
    with opened(served, transport) as client:
        for number in range(20):
            client.emit("step", [number, rng.choice([0, 0.01])])
        client.request("nothing", None)
        steps = [["step", number] for number in range(20)]
        assert served.seen(client.id) == [["connect", None], *steps, ["nothing", None]]


@both
def test_what_a_handler_returns_is_the_reply(served: Served, transport: str) -> None:
    with opened(served, transport) as client:
        for data in (0, False, "", [], {}, [1, 2], {"x": b"\x00"}, b"", "\x1e"):
            assert client.request("echo", data) == data
        assert client.request("echo", None) is None
        assert client.request("nothing", None) is None
        assert client.request("pair", 1, b"two") == [1, b"two"]
        assert client.request("pair", 1) == [1, None]
        numbers = [client.ask_for("echo", number) for number in range(100)]
        assert [client.reply_to(number) for number in numbers] == list(range(100))


@both
def test_a_handler_that_raises_answers_with_an_error_and_is_logged_once(
    served: Served, transport: str
) -> None:
    before = served.log().count(RAISED)
    with opened(served, transport) as client:
        with pytest.raises(RequestFailed) as failed:
            client.request("crash", None)
        assert failed.value.args == (1011, "the handler raised")
        eventually(lambda: served.log().count(RAISED) == before + 1)
        # Whoever did not ask is not answered; the session lives on either way.
        client.emit("crash", None)
        assert client.request("echo", "alive") == "alive"
        eventually(lambda: served.log().count(RAISED) == before + 2)
        assert client.closure is None


def test_an_event_that_nobody_takes_is_answered_too(served: Served) -> None:
    with opened(served) as client:
        with pytest.raises(RequestFailed) as failed:
            client.request("no such event", 1)
        assert failed.value.code == 4404
        assert client.request("echo", 1) == 1


def test_a_handler_that_waits_holds_up_its_own_session_only(served: Served) -> None:
    with opened(served) as client, opened(served) as other, opened(served, "polling") as third:
        slow = client.ask_for("sleep", 1.0)
        client.emit("count", 1)
        client.wait_for(lambda: client.machine.outbox.received == 3)
        assert other.request("echo", 1) == 1
        assert third.request("echo", 1) == 1
        with opened(served) as newcomer:
            assert newcomer.request("echo", 1) == 1
        # All of that while it still waits.
        assert not client.replied_to(slow)
        assert served.seen(client.id) == [["connect", None]]
        assert client.reply_to(slow) == 1.0


# -- asking the client -----------------------------------------------------------------


@both
def test_a_handler_asks_its_own_client(served: Served, transport: str) -> None:
    with opened(served, transport) as client:
        client.handlers["question"] = lambda data: data + data
        assert client.request("ask back", 21) == {"answer": 42}
        assert client.request("ask back", b"\x00") == {"answer": b"\x00\x00"}
        # Several, one behind the other, each handler waiting for its own.
        numbers = [client.ask_for("ask back", number) for number in range(20)]
        assert [client.reply_to(each)["answer"] for each in numbers] == list(range(0, 40, 2))


@both
@pytest.mark.parametrize("size", [1, 10_000], ids=["messages", "bytes"])
def test_a_handler_asks_while_the_credit_behind_it_is_used_up(
    tight: Served, transport: str, size: int
) -> None:
    with opened(tight, transport) as client:
        client.handlers["question"] = lambda *data: LATER
        asked = client.ask_for("ask back", None)
        client.wait_for(lambda: client.questions)
        for number in range(50):
            client.emit("count", [number, "x" * size])
        client.wait_for(lambda: client.machine.outbox.received >= 9)
        assert client.machine.outbox.held > 0
        # In parts, and large: all of them are outside the credit.
        answer = {"over": b"taking" * 10_000, "everything": b"x" * 30_000}
        client.reply(client.questions[0], answer)
        assert client.reply_to(asked) == {"answer": answer}
        client.request("nothing", None)
        counted = [seen[1] for seen in tight.seen(client.id) if seen[0] == "count"]
        assert counted == list(range(50))


def test_a_client_that_fails_says_so(served: Served) -> None:
    def fail(data: Any) -> None:
        raise ValueError("not this one")

    with opened(served) as client:
        client.handlers["question"] = fail
        assert client.request("ask back", 1) == {"failed": "not this one"}


def test_an_answer_that_does_not_come_is_not_waited_for(served: Served) -> None:
    with opened(served) as client:
        client.handlers["question"] = lambda *data: LATER
        assert client.request("ask once", 0.1) == "failed: no answer in 0.1 s"
        # One that comes late is nobody's.
        client.reply(client.questions[0], "late")
        assert client.request("echo", 1) == 1


@pytest.mark.parametrize("how", ["close", "end"])
def test_an_answer_is_not_waited_for_beyond_the_end_of_the_session(
    served: Served, how: str
) -> None:
    with opened(served) as client:
        client.handlers["question"] = lambda *data: LATER
        client.emit("ask once", 20)
        client.wait_for(lambda: client.questions)
        before = time.monotonic()
        if how == "close":
            client.close(4001, "bye")
        else:
            # A mark of what was never sent ends the session at once.
            with client.changed:
                client.machine.inbox.received += 50
                client.emit("count", 1)
        eventually(lambda: len(served.seen(client.id)) == 3)
        assert time.monotonic() - before < 4.0
        assert [seen[0] for seen in served.seen(client.id)] == ["connect", "failed", "disconnect"]
        assert served.seen(client.id)[1] == ["failed", "the session ended"]


def test_in_on_connect_and_on_disconnect_nobody_can_be_asked(served: Served) -> None:
    with opened(served, auth={"ask": 1, "ask at end": 1}) as client:
        client.close()
        client.wait_closed()
        asked = [seen[1] for seen in served.seen(client.id) if seen[0] == "asked"]
        assert len(asked) == 2
        for each in asked:
            assert each.startswith("RuntimeError: request() needs a connected client")


# -- many clients ----------------------------------------------------------------------


def _marked(client: ClientSession) -> bool:
    return "mark" in client.named("broadcast")


def test_rooms_broadcast_and_skip(served: Served) -> None:
    with (
        opened(served, "websocket", auth={"rooms": ["red", "all"]}) as red,
        opened(served, "polling", auth={"rooms": ["blue", "all"]}) as blue,
        opened(served, "websocket", auth={"rooms": ["all"]}) as plain,
    ):
        clients = {"red": red, "blue": blue, "plain": plain}

        def reached(*names: str, **broadcast: Any) -> None:
            """Broadcast, and see who got it; what is sent to all tells when it is over."""
            red.emit("broadcast", broadcast)
            red.emit("broadcast", {"data": "mark", "to": "all"})
            for name, client in clients.items():
                client.wait_for(partial(_marked, client))
                wanted = [broadcast["data"]] if name in names else []
                assert client.named("broadcast") == [*wanted, "mark"], name
                client.received.clear()

        reached("red", "blue", "plain", data={"everybody": b"\x00\x1e"}, to="all")
        reached("red", "blue", "plain", data="to no room")
        reached("red", data=1, to="red")
        reached("blue", data=b"bytes", to="blue")
        reached("plain", data=2, to=plain.id)
        reached("blue", "plain", data=3, skip=red.id)
        reached("plain", data=4, to="all", skip=[red.id, blue.id])
        reached(data=5, to="nobody")
        assert blue.request("rooms", {"join": ["red"], "leave": ["blue"]}) == sorted(
            [blue.id, "all", "red"]
        )
        reached("red", "blue", data=6, to="red")
        reached(data=7, to="blue")
        # Who is away for a while gets it later; who has left does not.
        blue.cut()
        red.emit("broadcast", {"data": 8, "to": "all"})
        plain.wait_for(lambda: plain.named("broadcast") == [8])
        blue.open("websocket")
        blue.wait_for(lambda: blue.named("broadcast") == [8])
        plain.close()
        plain.wait_closed()
        red.emit("broadcast", {"data": 9, "to": "all"})
        blue.wait_for(lambda: blue.named("broadcast") == [8, 9])
        assert plain.named("broadcast") == [8]


def test_broadcasts_with_attachments_stay_whole(served: Served) -> None:
    """Several sessions' workers send to one client, each packet in parts."""
    with opened(served) as target, contextlib.ExitStack() as stack:
        senders = [stack.enter_context(opened(served)) for _ in range(5)]
        for number in range(20):
            for index, sender in enumerate(senders):
                data = [index, number, bytes([index]) * 1000, bytes([number])]
                sender.emit("broadcast", {"data": data, "to": target.id})
        target.wait_for(lambda: len(target.received) == 100)
        for index in range(5):
            mine = [data for data in target.named("broadcast") if data[0] == index]
            assert mine == [
                [index, number, bytes([index]) * 1000, bytes([number])] for number in range(20)
            ]


# -- contexts --------------------------------------------------------------------------


@both
def test_handlers_see_the_hellos_request(served: Served, transport: str) -> None:
    headers = {"User-Agent": "the tester", "Sec-Fetch-Site": "same-origin"}
    with opened(served, transport, headers=headers) as client:
        context = client.request("request context")
        assert context["agent"] == "the tester"
        assert context["session"] == {}
        assert context["wrote"].startswith("flask.session cannot be written in a message handler")
        # The same over another connection: it is the session's request.
        client.cut()
        client.open("polling")
        assert client.request("request context") == context


def test_the_application_context_is_torn_down_after_each_handler(served: Served) -> None:
    with opened(served) as client:
        before = served.get("/state")["teardowns"]
        for _ in range(5):
            client.request("echo", None)
        client.request("request context")
        with pytest.raises(RequestFailed):
            client.request("crash", None)
        # And that of the first request for the state.
        assert served.get("/state")["teardowns"] == before + 8


def test_two_apps_in_one_process_keep_apart(two_apps: Served) -> None:
    # The other one's handlers were registered before it had its app.
    with opened(two_apps) as client, ClientSession(two_apps.port, mount="/other/fallback") as other:
        other.open("websocket")
        assert client.request("request context")["app"] == "application"
        assert other.request("who", None) == "the other app"
        other.emit("broadcast", "hello")
        other.wait_for(lambda: other.named("broadcast") == ["hello"])
        other.cut()
        client.emit("broadcast", {"data": "hello"})
        client.wait_for(lambda: client.named("broadcast") == ["hello"])
        other.open("polling")
        assert other.request("who", None) == "the other app"
        assert other.named("broadcast") == ["hello"]
        assert two_apps.seen(other.id) == []
        other.close(4000)
        other.wait_closed()
        assert two_apps.get("/other/seen") == ["connect", "disconnect 4000"]
        # Neither knows the other's sessions.
        client.cut()
        client._mount = "/other/fallback"
        with pytest.raises(Ended) as ended:
            client.open()
        assert (ended.value.end.code, ended.value.end.session) == (4421, False)


# -- a blocked hub ---------------------------------------------------------------------


def test_a_handler_that_blocks_the_hub_is_named() -> None:
    with Served("eventlet") as server, opened(server) as client, opened(server) as other:
        waits = other.ask_for("sleep", 1.4)
        client.request("sleep", 1.4)
        other.reply_to(waits)
        # A handler that waits for others, or works and gives way to them, is none that blocks them,
        # nor are many short ones.
        client.request("work", 1.7)
        for _ in range(20):
            client.request("block", 0.02)
        assert "blocks" not in server.log()
        client.request("block", 1.7)
        eventually(lambda: "blocks" in server.log())
        lines = [line for line in server.log().splitlines() if "blocks" in line]
        assert len(lines) == 1
        assert "handler 'block' blocks eventlet's hub for over 1 s" in lines[0]


@pytest.mark.parametrize(
    ("auth", "name"),
    [({"block": 1.7}, "on_connect"), ({"block at end": 1.7}, "on_disconnect")],
)
def test_so_are_those_of_connect_and_disconnect(auth: dict[str, float], name: str) -> None:
    with Served("eventlet") as server:
        opened(server, auth=auth).close()
        eventually(lambda: f"handler {name} blocks eventlet's hub for over 1 s" in server.log())
        assert server.log().count("blocks") == 1


# -- what they fork --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "hub"),
    [
        ("eventlet", "epolls"),
        ("eventlet", "asyncio"),
        (OVER_WSGI, "epolls"),
        (OVER_WSGI, "asyncio"),
        ("threading", ""),
    ],
)
def test_a_process_that_a_handler_forks_reads_nothing_of_its_parents(
    monkeypatch: pytest.MonkeyPatch, mode: str, hub: str
) -> None:
    monkeypatch.setenv("EVENTLET_HUB", hub)
    with (
        Served(mode) as server,
        opened(server, "websocket") as client,
        opened(server, "polling") as other,
    ):
        process = client.request("fork", 60)
        try:
            for number in range(30):
                assert client.request("echo", number) == number
                assert other.request("echo", number) == number
        finally:
            os.kill(process, signal.SIGKILL)
