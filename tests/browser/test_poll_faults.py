"""Polls that the network cuts, replaces or repeats: each costs a retry, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.browser.payloads import Payloads
from tests.browser.tabs import Tab, View
from tests.integration.served import Served
from tests.proxies.fault_process import FaultProxy
from tests.proxies.faults import (
    Cut,
    Duplicate,
    Fault,
    Gateway,
    LoginPage,
    LostReply,
    Reset,
    Truncate,
)
from tests.proxies.journal import RequestRecord, busiest
from tests.proxies.rules import Rule

pytestmark = pytest.mark.requires("chromium")

#: The contract: requests a second that come of a fault, while it lasts.
A_SECOND = 2
#: Messages a second, each way.
RATE = 20
#: Seconds with a fault now and then, and with nothing but faults.
SPORADIC, LASTING = 1.2, 3.0
#: What a busy machine may add to a deadline.
SLACK = 1.0
EVERY = 3
#: Requests beside those that carry the messages: the word that starts and stops them, its reply,
#: and a poll that was released or ran out.
BESIDE = 6


def only(fault: Fault, every: int = 1) -> Rule:
    """The fault, on session requests."""
    return Rule(fault, method="POST", path="/fallback/poll$", every=every)


@dataclass
class Polls:
    """The session requests that the proxy has seen since it was made."""

    proxy: FaultProxy

    def __post_init__(self) -> None:
        self._since = self.proxy.statistics().at

    def all(self) -> list[RequestRecord]:
        return [r for r in self.proxy.requests(self._since) if r.target == "/fallback/poll"]

    def struck(self) -> int:
        """How many the fault has met."""
        return sum(bool(each.faults) for each in self.all())


def polling(tab: Callable[..., Tab], proxy: FaultProxy) -> View:
    """A session on long polling."""
    view = tab(proxy.url, websocket=False).connect()
    view.until(lambda now: now.state == "open", "open")
    return view


def network_is_back(view: View) -> None:
    """As the browser says it; without it the backoff would have to run out."""
    view.do("() => { window.dispatchEvent(new Event('online')); }")


def untouched(view: View, server: Served) -> None:
    """It is the same session still, and its handlers have run once for each message."""
    status = view.status()
    assert [status.count(type) for type in ("open", "reset", "close", "error")] == [1, 0, 0, 0]
    assert status.id is not None
    assert server.seen(status.id) == [["connect", None]]


@pytest.mark.parametrize(
    ("fault", "resent"),
    [
        pytest.param(Gateway(504), False, id="504"),
        pytest.param(LoginPage(), False, id="a login page"),
        pytest.param(Truncate(0.5), False, id="truncated"),
        pytest.param(Truncate(0.5, visible=False), False, id="truncated, unnoticed"),
        pytest.param(Cut(after_bytes=2), False, id="reset in the body"),
        # Chromium sends a POST again by itself if a connection that it has used before dies.
        pytest.param(Reset(), True, id="reset"),
        pytest.param(LostReply("rst"), True, id="reply lost"),
    ],
)
def test_cut(
    fault: Fault, resent: bool, tab: Callable[..., Tab], proxy: FaultProxy, server: Served
) -> None:
    view = polling(tab, proxy)
    polls, sent_before = Polls(proxy), view.tab.requests()
    view.stream({"number": 10_000, "rate": RATE})

    # Now and then: it costs a retry.
    proxy.rules(only(fault, every=EVERY))
    view.tab.page.wait_for_timeout(SPORADIC * 1000)
    status = view.status()
    assert status.stream is not None
    seen, sent = polls.all(), view.tab.requests() - sent_before
    struck = [each for each in seen if each.faults]
    messages = status.stream["sent"] + status.stream["received"]
    print(
        f"every {EVERY}rd: {messages} messages, {len(seen)} requests, {len(struck)} of them "
        f"struck; the page itself sent {sent}"
    )
    assert len(struck) >= 5
    assert messages >= RATE * SPORADIC
    assert len(seen) - len(struck) <= messages + BESIDE
    if resent:
        assert len(seen) > sent, "the browser was expected to send requests again"

    # All of them: nothing gets through in both directions, and nobody runs in circles.
    proxy.rules(only(fault))
    proxy.kill()
    lasting = Polls(proxy)
    view.tab.page.wait_for_timeout(LASTING * 1000)
    seen = lasting.all()
    print(f"all: {len(seen)} in {LASTING} s, at most {busiest(seen)} in one second")
    # Beside the two, one waiting and one sending, that were struck first.
    assert len(seen) - 2 <= A_SECOND * LASTING

    proxy.clear()
    network_is_back(view)
    view.finish(server)
    untouched(view, server)


@pytest.mark.parametrize("visible", [True, False], ids=["noticed", "unnoticed"])
def test_half_a_compressed_answer(
    visible: bool, tab: Callable[..., Tab], proxy: FaultProxy, server: Served
) -> None:
    """Whatever a browser makes of it, it is not taken for an answer."""
    view = polling(tab, proxy)
    compressed: list[str] = []
    view.tab.page.on(
        "response",
        lambda response: compressed.append(response.headers.get("content-encoding", "")),
    )
    polls = Polls(proxy)
    proxy.rules(only(Truncate(0.5, visible=visible), every=EVERY))
    number = 200
    up, down = (Payloads(f"halved {way}", number) for way in ("up", "down"))
    # For two seconds: on a slow machine one answer has all that came within 50 ms.
    view.stream({"seed": "halved", "number": number, "rate": 100}, up.to_json(), down.to_json())
    view.until(lambda now: polls.struck() >= 5, "five answers are halved")
    # Of a third of all, each of half the size, more would take long.
    proxy.clear()
    view.until(lambda now: now.stream and now.stream["received"] == number, "all messages down")
    view.finish(server)
    print(f"{polls.struck()} of {len(polls.all())} halved, {compressed.count('gzip')} in gzip")
    assert polls.struck() >= 5
    assert compressed.count("gzip") >= 5
    untouched(view, server)


@pytest.mark.parametrize("answer", ["first", "second"])
@pytest.mark.parametrize("mode", ["concurrent", "sequential"])
def test_sent_twice(
    mode: str, answer: str, tab: Callable[..., Tab], proxy: FaultProxy, server: Served
) -> None:
    """Every request reaches the server twice, polls and messages."""
    view = polling(tab, proxy)
    polls = Polls(proxy)
    proxy.rules(only(Duplicate(mode=mode, answer=answer)))  # type: ignore[arg-type]
    view.stream({"number": 10_000, "rate": RATE})
    view.tab.page.wait_for_timeout(SPORADIC * 1000)
    _, served = view.finish(server)
    seen = polls.all()
    messages = served["received"] + served["sent"]
    print(f"{messages} messages, {len(seen)} requests, all of them sent twice")
    # The one before the rule was in force is not.
    assert sum(each.faults == ["duplicate"] for each in seen) >= len(seen) - 1
    assert messages >= RATE * SPORADIC
    assert len(seen) <= messages + BESIDE
    untouched(view, server)

    # With nothing to carry, too.
    idle = Polls(proxy)
    view.tab.page.wait_for_timeout(1000)
    assert len(idle.all()) <= A_SECOND


def test_a_poll_alone(tab: Callable[..., Tab], proxy: FaultProxy, server: Served) -> None:
    """Without messages there is one request to be cut; then two a second at most, and fewer."""
    view = polling(tab, proxy)
    proxy.rules(only(Gateway(504)))
    polls = Polls(proxy)
    proxy.kill()
    view.tab.page.wait_for_timeout(4000)
    seen = polls.all()
    print([round(each.at - seen[0].at, 2) for each in seen])
    # The first is the one that was cut, the others come of that.
    assert busiest(seen[1:]) <= A_SECOND
    proxy.clear()
    # It comes back by itself: the next pause is 4 s at most. And the page is told soon, though
    # there is nothing to say on a poll that may be held for 25 s: this one is held for 2.
    view.until(lambda now: now.state == "open", "open again", 4.0 + 2.0 + SLACK)
    assert view.ask("echo", "here again") == "here again"
    untouched(view, server)
