"""`Stats`, and what a registry's sessions put into it."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from fallback_transport.conversation import Conversation
from fallback_transport.protocol.codes import CloseCode
from fallback_transport.protocol.envelope import Envelope, Grant, Hello, PollRequest, Welcome
from fallback_transport.protocol.events import Transport
from fallback_transport.protocol.message import Close, Message
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.registry import Capacity, Registry
from fallback_transport.stats import MAX_CODES, OTHER, REASONS, UNKNOWN, Stats
from tests.fakes import FakeRuntime, Peer


class Silent:
    """A layer above that handles everything, and says nothing."""

    def __init__(self, conversation: Conversation) -> None:
        pass

    def unit(self, seq: int, data: str | bytes) -> None:
        return None

    def resumed(self, environ: dict[str, Any]) -> None:
        pass

    def over(self, code: int, reason: str, by_client: bool) -> None:
        pass


class Attached:
    """A connection that nothing is sent on."""

    def wake(self) -> None: ...
    def drop(self, code: int, reason: str) -> None: ...
    def end(self, end: Any) -> None: ...


@pytest.fixture
def registry() -> Registry:
    capacity = Capacity(10, 10, 10)
    return Registry(FakeRuntime(), Silent, grant=Grant(), bounds=Bounds(), capacity=capacity)


def test_nothing_has_happened() -> None:
    assert Stats(threading.Lock()).to_json([], 0) == {
        "sessions": {"websocket": 0, "polling": 0, "none": 0},
        "queue": {"messages": 0, "bytes": 0},
        "opened": 0,
        "closed": {},
        "switches": {"websocket": 0, "polling": 0},
        "fallbacks": {},
        "messages": {"up": 0, "down": 0},
        "replays": 0,
        "duplicates": 0,
    }


def test_switches_and_fallbacks() -> None:
    stats = Stats(threading.Lock())
    stats.carried(None, "websocket", None)
    stats.carried("websocket", "websocket", None)
    stats.carried("websocket", "polling", "half-open")
    stats.carried("polling", "polling", "half-open")
    stats.carried("polling", "websocket", "half-open")
    stats.carried(None, "polling", "refused")
    # What a client writes makes no new name.
    stats.carried(None, "polling", "x" * 200)
    stats.carried(None, "polling", None)
    told = stats.to_json([], 0)
    assert told["switches"] == {"websocket": 1, "polling": 1}
    assert told["fallbacks"] == {"half-open": 1, "refused": 1, UNKNOWN: 2}
    assert UNKNOWN not in REASONS


class Over:
    """What is counted of the machine of a session that is over."""

    outbox = SimpleNamespace(sent=0, replays=0)
    inbox = SimpleNamespace(received=0, duplicates=0)

    def __init__(self, code: int) -> None:
        self.closure = code, ""


def test_clients_make_no_names_by_the_codes_that_they_close_with() -> None:
    stats = Stats(threading.Lock())
    for _ in range(2):
        for code in range(3000, 5000):
            stats.ended(Over(code))  # type: ignore[arg-type]
    # A server's own is counted all the same, also the first one of its kind.
    stats.ended(Over(CloseCode.SERVICE_RESTART))  # type: ignore[arg-type]
    closed = stats.to_json([], 0)["closed"]
    own = {code for code in CloseCode if code >= 3000}
    assert set(closed) == {*range(3000, 3000 + MAX_CODES), *own, CloseCode.SERVICE_RESTART, OTHER}
    assert closed[OTHER] == 2 * (2000 - MAX_CODES - len(own))
    assert closed[3000] == closed[CloseCode.TOO_MANY] == 2


def greet(registry: Registry, transport: Transport, why: str) -> tuple[Conversation, Welcome]:
    first = Envelope(0, 0, 1, (Message("0"),))
    hello = Hello(1, nonce=why, client=(("why", why),), envelope=first)
    conversation, welcome = registry.greet(hello, transport, Attached(), lambda hello: {}, "")
    assert conversation is not None
    assert isinstance(welcome, Welcome)
    return conversation, welcome


def test_a_sessions_life(registry: Registry) -> None:
    conversation, _ = greet(registry, Transport.POLLING, "refused")
    assert registry.stats()["sessions"] == {"websocket": 0, "polling": 0, "none": 1}
    conversation.receive(1, Envelope(0, 0, 1, (Message("0"), Message("1")), commit=1))
    conversation.send([Message("four")])
    told = registry.stats()
    assert told["sessions"] == {"websocket": 0, "polling": 1, "none": 0}
    assert told["queue"] == {"messages": 1, "bytes": 4}
    assert told["fallbacks"] == {"refused": 1}
    assert (told["messages"], told["duplicates"]) == ({"up": 2, "down": 0}, 1)
    conversation.weigh(100)
    assert registry.stats()["queue"]["bytes"] == 104
    conversation.abort(4000, "enough")
    told = registry.stats()
    assert told["sessions"] == {"websocket": 0, "polling": 0, "none": 0}
    assert told["queue"] == {"messages": 0, "bytes": 0}
    assert (told["opened"], told["closed"]) == (1, {4000: 1})
    # It is over, and what it did counts on.
    assert (told["messages"], told["duplicates"]) == ({"up": 2, "down": 0}, 1)


def test_the_reason_of_a_websocket_is_none(registry: Registry) -> None:
    conversation, _ = greet(registry, Transport.WEBSOCKET, "proving")
    conversation.receive(1, Envelope(0, 0, commit=1))
    told = registry.stats()
    assert told["sessions"]["websocket"] == 1
    assert told["fallbacks"] == {}


def test_the_last_words_of_a_page_are_no_fallback(registry: Registry) -> None:
    conversation, _ = greet(registry, Transport.WEBSOCKET, "page")
    conversation.receive(1, Envelope(0, 0, commit=1))
    # Its browser has closed the WebSocket; this comes without a hello.
    leaving = Envelope(0, 0, 2, (Close(1001, "the page is leaving"),), commit=2)
    request = PollRequest(conversation.id, conversation.machine.key, 2, 1, envelope=leaving)
    answer = conversation.request(request, lambda *args: None, lambda hello: {})
    assert isinstance(answer, Envelope)
    told = registry.stats()
    assert told["switches"] == {"websocket": 0, "polling": 0}
    assert told["fallbacks"] == {}


def test_what_is_sent_again_is_counted(registry: Registry) -> None:
    runtime = registry.runtime
    assert isinstance(runtime, FakeRuntime)
    peer = Peer(registry, runtime, nonce=None)
    assert isinstance(peer.open("0"), Welcome)
    peer.settle()
    peer.conversation.send([Message("one")])
    carrier = peer.conversation.machine.carrier
    assert carrier is not None
    assert peer.conversation.pull(carrier.attempt) is not None
    assert registry.stats()["messages"]["down"] == 1
    hello = Hello(9, id=peer.conversation.id, key=peer.conversation.machine.key)
    registry.greet(hello, Transport.POLLING, Attached(), lambda hello: {}, "")
    peer.conversation.receive(9, Envelope(commit=99))
    peer.conversation.machine.answer(9, runtime.now(), waiting=True, limit=None)
    told = registry.stats()
    assert (told["replays"], told["messages"]["down"]) == (1, 1)
    assert told["switches"] == {"websocket": 0, "polling": 1}
    peer.conversation.abort(4000, "enough")
    told = registry.stats()
    assert (told["replays"], told["messages"]["down"]) == (1, 1)
