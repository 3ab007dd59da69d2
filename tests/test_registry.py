"""`Registry`: the process's sessions, and their ends."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from fallback_transport import registry as module
from fallback_transport.application import Unit
from fallback_transport.conversation import Conversation
from fallback_transport.protocol.codes import CloseCode
from fallback_transport.protocol.envelope import End, Envelope, Grant, Hello, Welcome
from fallback_transport.protocol.events import Transport
from fallback_transport.protocol.message import Message, Part
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.protocol.server import UNCOMMITTED_WAIT
from fallback_transport.registry import Capacity, Registry
from tests.fakes import FakeRuntime, Peer

GONE = End(CloseCode.GONE, "no such session", True)


class Silent:
    """A layer above that does nothing."""

    def __init__(self, conversation: Conversation) -> None:
        self.ends: list[tuple[int, str, bool]] = []

    def unit(self, seq: int, data: str | bytes) -> None:
        return None

    def resumed(self, environ: dict[str, Any]) -> None:
        pass

    def over(self, code: int, reason: str, by_client: bool, gone: Callable[[], None]) -> None:
        self.ends.append((code, reason, by_client))
        gone()


class Attached:
    """A connection that notes what is done to it."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def wake(self) -> None:
        self.log.append("wake")

    def drop(self, code: int, reason: str) -> None:
        self.log.append(("drop", code, reason))

    def end(self, end: End) -> None:
        self.log.append(("end", end))


class Desk:
    """A registry, and hellos to it."""

    def __init__(
        self,
        sessions: int = 3,
        uncommitted: int = 3,
        per_address: int = 3,
        grant: Grant | None = None,
        *,
        turns: bool = False,
    ) -> None:
        self.runtime = FakeRuntime(turns=turns)
        self.layers: list[Silent] = []
        self.environs = 0
        self.registry = Registry(
            self.runtime,
            self.application,
            grant=grant or Grant(),
            bounds=Bounds(),
            capacity=Capacity(sessions, uncommitted, per_address),
        )

    def application(self, conversation: Conversation) -> Silent:
        self.layers.append(Silent(conversation))
        return self.layers[-1]

    def environ(self, hello: Hello) -> dict[str, Any]:
        self.environs += 1
        return {"number": self.environs}

    def greet(
        self,
        nonce: str | None = "nonce",
        *,
        origin: str = "",
        first: str | None = "0",
        client: tuple[tuple[str, str], ...] = (),
        attempt: int = 1,
        transport: Transport = Transport.WEBSOCKET,
        address: str = "",
    ) -> Any:
        envelope = Envelope() if first is None else Envelope(0, 0, 1, (Message(first),))
        hello = Hello(attempt, nonce=nonce, client=client, envelope=envelope)
        _, answer = self.registry.greet(hello, transport, Attached(), self.environ, origin, address)
        return answer

    def resume(self, id: str, key: str, attempt: int = 2) -> Any:
        hello = Hello(attempt, id=id, key=key)
        return self.registry.greet(hello, Transport.WEBSOCKET, Attached(), self.environ, "")[1]

    def peer(self, **options: Any) -> Peer:
        peer = Peer(self.registry, self.runtime, nonce=None, **options)
        assert isinstance(peer.open("0"), Welcome)
        return peer


@pytest.fixture
def desk() -> Desk:
    return Desk()


# -- new sessions -------------------------------------------------------------------


def test_a_new_session_has_an_id_of_this_process_and_a_key(desk: Desk) -> None:
    welcome = desk.greet()
    assert welcome.id.startswith(desk.registry.tag + ".")
    assert len(welcome.key) == 32
    assert welcome.grant == desk.registry.grant
    conversation = desk.registry.find(welcome.id)
    assert conversation is not None
    assert desk.registry.all() == [conversation]
    assert conversation.environ == {"number": 1}
    assert len(desk.registry) == 1


def test_ids_and_keys_are_random(desk: Desk) -> None:
    one, two = desk.greet("one"), desk.greet("two")
    assert one.id != two.id
    assert one.key != two.key


def test_a_full_server_turns_away_and_takes_again() -> None:
    desk = Desk(sessions=1)
    welcome = desk.greet("one")
    assert desk.greet("two") == End(CloseCode.TRY_AGAIN_LATER, "the server is full")
    assert desk.environs == 1
    # Who is in already is not turned away.
    assert isinstance(desk.greet("one"), Welcome)
    assert isinstance(desk.resume(welcome.id, welcome.key), Welcome)
    desk.registry.find(welcome.id).abort(1000, "")
    # Over, but its handlers have not heard of it yet.
    assert desk.greet("two").code == CloseCode.TRY_AGAIN_LATER
    desk.runtime.run()
    assert isinstance(desk.greet("two"), Welcome)


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        ({"sessions": 1}, "1 sessions, 0 whose handlers go on (max_sessions)"),
        ({"uncommitted": 1}, "1 are not committed (max_uncommitted)"),
        (
            {"per_address": 1},
            "1 of this address are not committed "
            "(max_uncommitted_per_address; if it is a proxy's, see trusted_proxies)",
        ),
    ],
)
def test_the_log_says_of_what_it_is_full(
    bounds: dict[str, int], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(**bounds)
    desk.greet("one", address="10.0.0.1")
    assert desk.greet("two", address="10.0.0.1").code == CloseCode.TRY_AGAIN_LATER
    assert caplog.messages == [f"hello from 10.0.0.1: the server is full: {told}"]


def test_sessions_that_nobody_commits_make_room_for_new_ones() -> None:
    desk = Desk(sessions=10, uncommitted=2)
    one = desk.peer()
    stranger = desk.greet("stranger")
    assert isinstance(desk.greet("other"), Welcome)
    # A slow client gets its time.
    assert desk.greet("more").code == CloseCode.TRY_AGAIN_LATER
    desk.runtime.advance(module.UNCOMMITTED_GRACE)
    assert isinstance(desk.greet("more"), Welcome)
    # Of what nobody ever committed nothing is remembered.
    assert desk.resume(stranger.id, stranger.key) == GONE
    assert one.conversation.open


def test_an_address_with_too_many_hellos_is_in_nobody_elses_way() -> None:
    desk = Desk(sessions=100, uncommitted=6, per_address=2)
    others = [desk.greet(f"other {number}", address=f"10.0.0.{number}") for number in range(3)]
    mine = [desk.greet(f"mine {number}", address="10.1.0.1") for number in range(2)]
    assert desk.greet("third", address="10.1.0.1").code == CloseCode.TRY_AGAIN_LATER
    desk.runtime.advance(module.UNCOMMITTED_GRACE)
    # Now its own oldest makes room, though others are older.
    assert isinstance(desk.greet("third", address="10.1.0.1"), Welcome)
    assert [desk.registry.find(each.id) is not None for each in others + mine] == [
        True,
        True,
        True,
        False,
        True,
    ]
    # Where all is full, somebody else's hello takes the place of one of theirs.
    assert isinstance(desk.greet("other 3", address="10.0.0.3"), Welcome)
    desk.runtime.advance(module.UNCOMMITTED_GRACE)
    assert isinstance(desk.greet("other 4", address="10.0.0.4"), Welcome)
    assert [desk.registry.find(each.id) is not None for each in others + mine] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_committed_sessions_of_one_address_do_not_count() -> None:
    desk = Desk(sessions=100, uncommitted=2, per_address=1)
    for _ in range(50):
        desk.peer()
    assert len(desk.registry) == 50
    assert len(desk.registry._uncommitted) == 0


# -- the same hello again -----------------------------------------------------------


def test_the_same_hello_is_the_same_session(desk: Desk) -> None:
    one = desk.greet()
    two = desk.greet(attempt=2, transport=Transport.POLLING)
    assert (two.id, two.key) == (one.id, one.key)
    assert len(desk.registry) == len(desk.layers) == desk.environs == 1


@pytest.mark.parametrize(("one", "other"), [("0", None), (None, "0"), (None, None)])
def test_it_may_be_without_its_message(desk: Desk, one: str | None, other: str | None) -> None:
    first = desk.greet(first=one)
    again = desk.greet(first=other, attempt=2, transport=Transport.POLLING)
    assert (again.id, again.key) == (first.id, first.key)
    assert len(desk.registry) == len(desk.layers) == 1


def test_it_may_have_another_reason_for_its_transport(desk: Desk) -> None:
    one = desk.greet(client=(("library", "1"), ("why", "proving")))
    two = desk.greet(attempt=2, client=(("library", "1"), ("why", "silent")))
    assert (two.id, two.key) == (one.id, one.key)


def test_after_the_first_commit_it_yields_no_key(desk: Desk) -> None:
    welcome = desk.greet()
    conversation = desk.registry.find(welcome.id)
    assert conversation.receive(1, Envelope(commit=1)) is None
    again = desk.greet(attempt=2)
    assert (again.id, again.key) == (welcome.id, None)


@pytest.mark.parametrize(
    "other",
    [
        {"first": "1"},
        {"origin": "https://elsewhere"},
        {"client": (("url", "/other"),)},
        {"client": (("protocols", "other"),)},
    ],
)
def test_another_hello_with_its_nonce_gets_nothing(
    desk: Desk, other: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    desk.greet(origin="https://here")
    end = desk.greet(attempt=2, address="10.0.0.1", **other)
    assert end == End(CloseCode.MALFORMED, "a nonce that is in use, with another hello")
    assert caplog.messages == [f"hello from 10.0.0.1: {end.reason}"]
    assert len(desk.registry) == 1


@pytest.mark.parametrize(
    ("attempt", "transport"),
    [(1, Transport.POLLING), (2, Transport.POLLING), (2, Transport.WEBSOCKET)],
)
def test_after_the_first_commit_it_brings_no_message(
    desk: Desk, attempt: int, transport: Transport
) -> None:
    """Where the first hello was without one, nobody could say whether it is the same."""
    welcome = desk.greet(first=None, transport=Transport.POLLING)
    conversation = desk.registry.find(welcome.id)
    assert conversation is not None
    conversation.receive(1, Envelope(commit=1))
    again = desk.greet(first="0{}", attempt=attempt, transport=transport)
    assert (again.key, again.envelope.received) == (None, 0)
    assert conversation.machine.inbox.received == 0


@pytest.mark.parametrize(("first", "again"), [("https://here", ""), ("", "https://here")])
def test_the_same_hello_may_come_without_its_origin(desk: Desk, first: str, again: str) -> None:
    """As the hedge of a browser that states it on a WebSocket alone."""
    welcome = desk.greet(origin=first)
    polled = desk.greet(attempt=2, transport=Transport.POLLING, origin=again)
    assert (polled.id, polled.key) == (welcome.id, welcome.key)


@pytest.mark.parametrize("offset", [0, 5])
def test_a_hello_with_a_part_begins_no_session(desk: Desk, offset: int) -> None:
    envelope = Envelope(0, 0, 1, (Part("abc", offset, 20),))
    hello = Hello(1, nonce="nonce", envelope=envelope)
    greeted = desk.registry.greet(hello, Transport.POLLING, Attached(), desk.environ, "")
    assert greeted == (None, End(CloseCode.MALFORMED, "a hello carries no parts"))
    assert (len(desk.registry), desk.layers) == (0, [])


def test_without_a_nonce_every_hello_is_new(desk: Desk) -> None:
    assert desk.greet(None).id != desk.greet(None).id
    assert len(desk.registry) == 2


def test_a_nonce_remembers_its_end(desk: Desk) -> None:
    welcome = desk.greet()
    desk.registry.find(welcome.id).abort(4005, "enough")
    end = desk.greet(attempt=2)
    assert (end.code, end.reason, end.session) == (4005, "enough", True)
    assert len(desk.registry) == 0
    desk.runtime.advance(module.TOMBSTONE_SECONDS + 1)
    desk.registry.resume("any", "key")
    assert desk.greet(attempt=3).id != welcome.id


# -- resuming -----------------------------------------------------------------------


def test_a_session_is_resumed_with_its_key(desk: Desk) -> None:
    welcome = desk.greet()
    again = desk.resume(welcome.id, welcome.key)
    assert (again.id, again.attempt, again.key) == (welcome.id, 2, None)
    assert len(desk.registry) == 1
    # The request that resumes it is for `on_resume`.
    assert desk.environs == 2


def test_unknown_id_and_wrong_key_are_answered_alike(desk: Desk) -> None:
    welcome = desk.greet()
    before = desk.registry.find(welcome.id).machine.deadline()
    assert desk.resume(welcome.id, "wrong") == GONE
    assert desk.resume(welcome.id, "") == GONE
    assert desk.resume(desk.registry.tag + ".unknown", welcome.key) == GONE
    assert desk.registry.find(welcome.id).machine.deadline() == before
    desk.registry.find(welcome.id).abort(4005, "enough")
    assert desk.resume(welcome.id, "wrong") == GONE


def test_another_processs_session_is_not_gone(desk: Desk) -> None:
    end = desk.resume("ffffff.unknown", "key")
    assert (end.code, end.session) == (CloseCode.MISDIRECTED, False)
    assert desk.resume("", "key").code == CloseCode.MISDIRECTED


def test_an_end_is_remembered_with_its_marks(desk: Desk) -> None:
    peer = desk.peer()
    peer.conversation.abort(4005, "enough")
    end = desk.resume(peer.id, peer.machine.key)
    assert end == End(4005, "enough", True, 0, 1)
    desk.runtime.advance(module.TOMBSTONE_SECONDS - 1)
    assert desk.resume(peer.id, peer.machine.key) == end
    desk.runtime.advance(2)
    assert desk.resume(peer.id, peer.machine.key) == GONE


def test_few_ends_are_remembered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TOMBSTONES", 5)
    welcomes = []
    for number in range(20):
        welcomes.append(desk.greet(str(number)))
        desk.registry.find(welcomes[-1].id).abort(4005, "enough")
        desk.runtime.run()
        # Also while nobody asks for any.
        remembered = sum(map(len, desk.registry._tombstones))
        assert remembered == len(desk.registry._nonces) == min(number + 1, 5)
    assert [desk.resume(w.id, w.key).code for w in welcomes] == [4404] * 15 + [4005] * 5
    assert len(desk.registry._nonces) == 5
    assert len(desk.registry._nonce_of) == 0


def test_ends_of_what_was_never_committed_push_out_no_others(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TOMBSTONES", 5)
    peer = desk.peer()
    peer.conversation.abort(4001, "logged out")
    desk.runtime.run()
    for number in range(20):
        # As one that is refused, or whose first message is no packet.
        desk.registry.find(desk.greet(str(number)).id).abort(4400, "no Socket.IO packet")
        desk.runtime.run()
    assert desk.resume(peer.id, peer.machine.key) == End(4001, "logged out", True, 0, 1)


def test_few_ends_of_what_was_committed_are_remembered_beside_the_others(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TOMBSTONES", 5)
    desk.registry.find(desk.greet().id).abort(4400, "no Socket.IO packet")
    desk.runtime.run()
    peers = []
    for _ in range(20):
        peers.append(desk.peer())
        peers[-1].conversation.abort(4001, "logged out")
        desk.runtime.run()
    assert [len(kept) for kept in desk.registry._tombstones] == [1, 5]
    codes = [desk.resume(peer.id, peer.machine.key).code for peer in peers]
    assert codes == [4404] * 15 + [4001] * 5


# -- before this process ---------------------------------------------------------------


def test_a_process_that_served_here_before_is_gone(desk: Desk) -> None:
    desk.registry.alone_at("host 127.0.0.1 5000")
    mine = desk.greet().id
    later = Desk()
    # Some other process, and then the one that serves in the place of the first.
    assert later.resume(mine, "key").code == CloseCode.MISDIRECTED
    later.registry.alone_at("host 127.0.0.1 5001")
    assert later.resume(mine, "key").code == CloseCode.MISDIRECTED
    later.registry.alone_at("host 127.0.0.1 5000")
    assert later.resume(mine, "key") == End(CloseCode.GONE, "the server was restarted", True)
    own = later.registry.tag + ".unknown"
    assert later.resume(own, "key") == GONE


def test_a_hello_that_comes_while_the_first_is_looked_at_is_the_same(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked of the application may take its time."""
    answers = []

    def environ(hello: Hello) -> dict[str, Any]:
        monkeypatch.undo()
        answers.append(desk.greet(attempt=2))
        return {}

    monkeypatch.setattr(desk, "environ", environ)
    answers.append(desk.greet())
    first, second = answers
    assert (first.id, first.key) == (second.id, second.key)
    assert len(desk.registry) == len(desk.layers) == 1


# -- draining --------------------------------------------------------------------------


class Slow(Silent):
    """A layer above whose handlers take as many seconds as they are told."""

    def __init__(self, conversation: Conversation) -> None:
        super().__init__(conversation)
        self.handled: list[str | bytes] = []
        self._conversation = conversation

    def unit(self, seq: int, data: str | bytes) -> Unit:
        def run() -> None:
            if data != "0":
                self._conversation.runtime.sleep(float(data))
            self.handled.append(data)
            self._conversation.send([Message(f"done {data!r}")])

        return Unit((seq,), run)


class Drained(Desk):
    """A desk that drains."""

    def __init__(self) -> None:
        super().__init__(sessions=10)
        self.done_at: float | None = None

    def application(self, conversation: Conversation) -> Slow:
        self.layers.append(Slow(conversation))
        return self.layers[-1]

    def drain(self, timeout: float) -> None:
        def run() -> None:
            self.registry.drain(timeout)
            self.done_at = self.runtime.now()

        self.began = self.runtime.now()
        self.runtime.spawn(run)
        self.runtime.run()

    def overrun(self, *texts: str) -> Peer:
        """A client whose handlers, of these texts, a drain of 3 s has given their time."""
        peer = self.peer()
        peer.send(*texts)
        peer.exchange()
        self.drain(3)
        self.runtime.advance(3.1)
        peer.exchange()
        assert peer.closed == RESTARTS
        return peer

    @property
    def took(self) -> float | None:
        """Seconds that the drain took, once it is over."""
        return None if self.done_at is None else self.done_at - self.began


RESTARTS = (CloseCode.SERVICE_RESTART, "the server restarts")


def test_nobody_there_is_nothing_to_drain() -> None:
    desk = Drained()
    desk.drain(10)
    assert desk.took == 0


def test_who_is_with_the_next_process_already_is_to_come_again() -> None:
    """Not turned away: for a while both may answer, and after some 4421 a page gives up."""
    desk = Drained()
    desk.drain(10)
    end = End(*RESTARTS, False)
    assert desk.resume("ffffff.unknown", "key") == end
    assert desk.resume(desk.registry.tag + ".unknown", "key") == GONE


def test_a_drain_waits_for_what_is_received_and_says_it_all() -> None:
    desk = Drained()
    one, two = desk.peer(), desk.peer()
    one.send("2", "1")
    one.exchange()
    desk.drain(10)
    # It goes on as before, for all of them.
    two.send("0")
    two.exchange()
    assert "done '0'" in two.texts
    # What it does not acknowledge for long would cost it its connection.
    desk.runtime.advance(0.3)
    two.exchange()
    desk.runtime.advance(2.6)
    one.exchange()
    assert one.texts[-1] == "done '2'"
    assert two.closed is None
    desk.runtime.advance(0.2)
    one.exchange()
    two.exchange()
    assert one.texts[-1] == "done '1'"
    assert one.closed == two.closed == RESTARTS
    # Confirmed by both, so nothing is waited for.
    desk.runtime.advance(2 * module.DRAIN_LOOK)
    assert desk.took is not None
    assert desk.took < 3.2
    assert len(one.machine.outbox) == 0
    assert [end[:2] for layer in desk.layers for end in layer.ends] == [RESTARTS] * 2
    assert len(desk.registry) == 0


def test_what_comes_without_end_does_not_hold_up_a_drain() -> None:
    desk = Drained()
    peer = desk.peer()
    peer.send("1", "1")
    peer.exchange()
    desk.drain(10)
    sent = 0
    while peer.closed is None:
        peer.send("1")
        sent += 1
        peer.exchange()
        desk.runtime.advance(0.1)
        assert desk.runtime.now() < desk.began + 3.5
    desk.runtime.advance(2)
    # The two, and the one that was begun meanwhile; not the rest, which is not confirmed.
    assert desk.layers[0].handled == ["0", "1", "1", "1"]
    assert peer.texts[-1] == "done '1'"
    assert desk.took is not None
    assert len(peer.machine.outbox) == sent - 1 >= 27


def test_a_handler_that_never_returns_does_not_hold_up_a_drain() -> None:
    desk = Drained()
    peer = desk.overrun("1e9", "0")
    # The client has confirmed, and nobody else is waited for.
    desk.runtime.advance(0.1)
    assert desk.took is not None
    assert 3 <= desk.took < 3.3
    assert desk.layers[0].handled == ["0"]
    assert len(peer.machine.outbox) == 2


def test_who_has_a_handler_that_never_returns_has_as_long_to_confirm_as_others() -> None:
    desk = Drained()
    peer = desk.peer()
    peer.send("1e9")
    peer.exchange()
    desk.drain(3)
    desk.runtime.advance(4)
    assert desk.took is None
    peer.exchange()
    assert peer.closed == RESTARTS
    desk.runtime.advance(0.1)
    assert desk.took is not None
    assert 4 <= desk.took < 4.3


def test_a_handler_that_began_late_is_waited_for_beyond_the_time() -> None:
    """Behind others: it has not had all the time, and `on_disconnect` comes behind it."""
    desk = Drained()
    peer = desk.overrun("2", "2", "2")
    desk.runtime.advance(0.5)
    assert desk.took is None
    desk.runtime.advance(0.5)
    assert desk.took is not None
    assert 4 <= desk.took < 4.1
    assert desk.layers[0].handled == ["0", "2", "2"]
    assert [end[:2] for end in desk.layers[0].ends] == [RESTARTS]
    # It could say no more: its client was told that it is unconfirmed, like the one behind it.
    assert len(peer.machine.outbox) == 2


def test_a_handler_that_began_on_an_idle_session_is_waited_for_beyond_the_time() -> None:
    """While another session's is waited for: it has not had all the time, either."""
    desk = Drained()
    held, peer = desk.peer(), desk.peer()
    held.send("1e9")
    held.exchange()
    desk.drain(3)
    # What it does not acknowledge for long would cost it its connection.
    desk.runtime.advance(0.3)
    peer.exchange()
    desk.runtime.advance(2.6)
    peer.send("1")
    peer.exchange()
    desk.runtime.advance(0.2)
    held.exchange()
    peer.exchange()
    assert held.closed == peer.closed == RESTARTS
    desk.runtime.advance(0.7)
    assert desk.took is None
    desk.runtime.advance(0.2)
    assert desk.took is not None
    assert 3.9 <= desk.took < 4
    assert desk.layers[1].handled == ["0", "1"]
    assert [end[:2] for end in desk.layers[1].ends] == [RESTARTS]


@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_handler_has_its_time_also_where_its_session_is_over(meanwhile: bool) -> None:
    desk = Drained()
    peer = desk.peer()
    peer.send("8")
    peer.exchange()
    [session] = desk.registry.all()
    if meanwhile:
        desk.drain(10)
    session.abort(CloseCode.NORMAL, "over")
    if not meanwhile:
        desk.drain(10)
    desk.runtime.advance(7.9)
    assert desk.took is None
    desk.runtime.advance(0.2)
    assert desk.took is not None
    assert 8 <= desk.took < 8.1
    assert desk.layers[0].handled == ["0", "8"]
    assert [end[:2] for end in desk.layers[0].ends] == [(CloseCode.NORMAL, "over")]


def test_a_handler_that_never_returns_has_no_more_where_its_session_is_over() -> None:
    desk = Drained()
    peer = desk.peer()
    peer.send("1e9")
    peer.exchange()
    desk.registry.all()[0].abort(CloseCode.NORMAL, "over")
    desk.drain(3)
    desk.runtime.advance(2.9)
    assert desk.took is None
    desk.runtime.advance(0.2)
    assert desk.took is not None


def test_a_late_handler_that_never_returns_does_not_hold_up_a_drain() -> None:
    desk = Drained()
    desk.overrun("2", "1e9")
    desk.runtime.advance(5.2)
    assert desk.took is not None
    assert 8 <= desk.took < 8.4


def test_an_on_disconnect_that_never_returns_does_not_hold_up_a_drain() -> None:
    desk = Drained()
    peer = desk.peer()
    desk.layers[0].over = lambda *end: desk.runtime.sleep(1e9)  # type: ignore[method-assign]
    desk.drain(3)
    peer.exchange()
    assert peer.closed == RESTARTS
    desk.runtime.advance(5)
    assert desk.took is None
    desk.runtime.advance(0.5)
    assert desk.took is not None
    assert len(desk.registry) == 0


def test_a_client_that_does_not_confirm_does_not_hold_up_a_drain() -> None:
    desk = Drained()
    peer = desk.peer()
    peer.detach()
    desk.drain(3)
    desk.runtime.advance(5.2)
    assert desk.took is not None
    assert 5 <= desk.took < 5.1
    assert [end[:2] for end in desk.layers[0].ends] == [RESTARTS]


def test_a_server_that_drains_takes_who_is_in_and_nobody_else() -> None:
    desk = Drained()
    welcome = desk.greet("known")
    peer = desk.peer()
    peer.send("2")
    peer.exchange()
    desk.drain(10)
    assert desk.greet("new") == End(*RESTARTS)
    assert isinstance(desk.greet("known", attempt=2), Welcome)
    assert isinstance(desk.resume(welcome.id, welcome.key, attempt=3), Welcome)
    desk.runtime.advance(10)
    assert desk.took is not None
    assert desk.greet("new") == End(*RESTARTS)


# -- time ---------------------------------------------------------------------------


def test_a_session_that_nobody_commits_ends_soon(desk: Desk) -> None:
    welcome = desk.greet()
    desk.runtime.advance(UNCOMMITTED_WAIT - 1)
    assert len(desk.registry) == 1
    desk.runtime.advance(2)
    assert len(desk.registry) == 0
    assert [code for code, *_ in desk.layers[0].ends] == [CloseCode.INACTIVE]
    assert desk.resume(welcome.id, welcome.key) == GONE
    # Its client may never have heard of it: the same hello begins another.
    assert desk.greet().id != welcome.id


def test_a_session_without_connection_lives_for_its_inactivity() -> None:
    desk = Desk(grant=Grant(inactivity=150.0))
    peer = desk.peer()
    desk.runtime.advance(20)
    peer.detach()
    desk.runtime.advance(149)
    assert len(desk.registry) == 1
    desk.runtime.advance(2)
    assert desk.layers[0].ends == [(CloseCode.INACTIVE, "no connection for 150 s", False)]
    assert desk.runtime.errors == []


@pytest.mark.parametrize("turns", [False, True])
def test_who_is_silent_is_asked_each_keepalive_and_not_waited_for_much_longer(turns: bool) -> None:
    desk = Desk(turns=turns)
    peer = desk.peer()
    peer.settle()
    heard = []
    for _ in range(1500):
        desk.runtime.advance(0.1)
        peer.exchange()
        # A peer says nothing of itself, it only answers.
        heard.append(peer.conversation.machine.carrier.heard_at)
    answered = sorted(set(heard))
    assert len(answered) >= 6
    assert all(25 <= now - before < 25.3 for before, now in itertools.pairwise(answered))
    assert peer.dropped is None
    while peer.dropped is None and desk.runtime.now() < answered[-1] + 100:
        desk.runtime.advance(0.1)
    assert peer.dropped is not None
    assert 55 <= desk.runtime.now() - answered[-1] < 55.2


def test_nothing_is_kept_of_a_session_that_is_over(desk: Desk) -> None:
    peer = desk.peer()
    peer.settle()
    conversation = weakref.ref(peer.conversation)
    peer.conversation.abort(1000, "")
    desk.runtime.advance(10)
    del peer
    desk.layers.clear()
    gc.collect()
    assert conversation() is None
