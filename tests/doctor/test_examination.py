"""What the terminal's doctor observes of polling, where each answer is given by the test."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from email.message import Message
from typing import Any

import pytest

from fallback_transport.doctor import examination as module
from fallback_transport.doctor.examination import Examination, NoDoctor
from fallback_transport.doctor.exchange import Answered, Failed
from fallback_transport.doctor.findings import HEADER
from fallback_transport.doctor.route import Route, Unreachable
from fallback_transport.doctor.websocket import WebSocketExamination

#: Seconds of silence.
IDLE = 9.0

#: What becomes of a request: nothing if it is answered, else how it fails, or facts of the answer.
Fate = Failed | dict[str, Any] | None


class Network(Examination):
    """A server that is none: `become` says what is of each command, and when.

    Args:
        become: gets the command and its body; may let time pass.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        become: Callable[[dict[str, Any], bytes], Fate] = lambda command, body: None,
        url: str = "http://host.test/fallback",
    ) -> None:
        super().__init__(Route(url), IDLE)
        self.now = 1000.0
        self.asked: list[tuple[dict[str, Any], int, float]] = []
        self.there = True
        self._become = become
        self._serials = 0
        monkeypatch.setattr(module, "time", self)

    def monotonic(self) -> float:
        return self.now

    time = monotonic

    def count(self, what: str) -> int:
        """How often a command was given."""
        return sum(command["do"] == what for command, _, _ in self.asked)

    def _send(self, method: str, path: str, body: bytes | None, patience: float) -> Answered:
        if body is None:
            refused = {"status": 426, "error": "a WebSocket is here"} if self.there else None
            raise Failed("status 426", 426, refused=refused)
        command = json.loads(body.partition(b"\n")[0])
        self.asked.append((command, len(body), patience))
        self._serials += 1
        facts = {
            "begin": {"library": "9.9", "body": 300_000, "time": self.now * 1000},
            "echo": {"bytes": len(body), "header": True, "cookie": True},
            "serial": {"serial": self._serials},
            "seen": {"seen": {"handshakes": []}},
        }.get(command["do"], {})
        fate = self._become(command, body)
        if isinstance(fate, Failed):
            raise fate
        if command["do"] == "hold" and fate is None:
            self.now += IDLE
        headers = Message()
        headers[HEADER] = "1"
        if command["do"] == "begin":
            headers["Set-Cookie"] = "where=a; Path=/"
        changed = dict(fate or {})
        spread, ms = changed.pop("spread", 1000.0), changed.pop("ms", 20.0)
        if changed.pop("bare", False):
            del headers[HEADER]
        number = {"number": command["number"]} if "number" in command else {}
        return Answered({**number, **facts, **changed}, headers, ms, spread)

    @property
    def polling(self) -> dict[str, Any]:
        """What is observed of it."""
        return self._polling


def first(what: str, times: int, fate: Fate) -> Callable[[dict[str, Any], bytes], Fate]:
    """The first `times` of a command end so."""
    left = [times]

    def become(command: dict[str, Any], body: bytes) -> Fate:
        if command["do"] == what and left[0]:
            left[0] -= 1
            return fate
        return None

    return become


def test_a_sound_network(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(monkeypatch)
    assert network._begin() == {"ahead": 0}
    # Whoever balances is to send the rest to the same.
    assert network._headers == {"Cookie": "where=a"}
    network._requests()
    network._hold()
    assert network._seen() == {"handshakes": []}
    assert network.polling == {
        "requests": 13,
        "failed": 0,
        "round_trips": [20.0] * 8,
        "why": None,
        "foreign": None,
        "refused": None,
        "encoded": False,
        "header": {"up": True, "down": True},
        "cookie": True,
        "processes": 1,
        "stream": {"spread": 1000},
        "cached": False,
        "body": {"passed": 256_000, "refused": None, "status": None},
        "answer": {"passed": 500_000, "refused": None},
        "hold": {"asked": IDLE, "alive": True, "seconds": IDLE, "status": None},
    }
    # Each request has a number of its own, but those that must be equal.
    numbers = [each.get("number") for each, _, _ in network.asked if each["do"] != "serial"]
    assert numbers == sorted(set(numbers))
    serials = [command for command, _, _ in network.asked if command["do"] == "serial"]
    assert serials[0] == serials[1]
    assert "number" not in serials[0]
    # As large as they are to be, and with time for the slowest line.
    large = [(size, patience) for _, size, patience in network.asked if size > 300]
    assert large == [(size, 5 + size / 8000) for size in (1000, 4000, 16_000, 64_000, 256_000)]
    given = [(c["bytes"], patience) for c, _, patience in network.asked if c["do"] == "give"]
    assert given == [(size, 5 + size / 8000) for size in (4000, 64_000, 500_000)]
    assert {p for c, size, p in network.asked if size < 300 and c["do"] == "echo"} == {5.0}
    assert {p for c, _, p in network.asked if c["do"] == "hold"} == {IDLE + 5}


@pytest.mark.parametrize(("times", "trips"), [(2, 8), (3, 7)])
def test_a_small_request_is_tried_three_times(
    times: int, trips: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = {"status": 502, "type": "text/html"}
    failed = Failed("status 502", 502, foreign)
    network = Network(monkeypatch, first("echo", times, failed))
    network._requests()
    polling = network.polling
    assert len(polling["round_trips"]) == trips
    assert polling["failed"] == times
    # 8 echoes, a stream, 2 serials, and the failures; but one that was given up.
    assert polling["requests"] == trips + 3 + times
    assert (polling["why"], polling["foreign"]) == ("status 502", foreign)


_LOST, _REFUSED = Failed("no answer", late=True), {"status": 503, "error": "too many wait"}
_STATUS = Failed("status 504", 504, {"status": 504, "type": "text/html"})


@pytest.mark.parametrize(
    ("fate", "after", "times", "alive", "asked"),
    [
        # What fails within 1 s was not cut for being held.
        (_STATUS, 0.99, 2, True, 3),
        (_STATUS, 0.99, 3, False, 3),
        (_STATUS, 1.0, 1, False, 1),
        (Failed("no whole answer"), IDLE - 0.01, 1, False, 1),
        # When it was due, it had been held.
        (Failed("no whole answer"), IDLE, 1, True, 1),
        (_LOST, IDLE + 5, 1, False, 1),
        (Failed("status 503", 503, refused=_REFUSED), 2.0, 1, None, 1),
    ],
)
def test_a_request_that_waits(
    fate: Failed,
    after: float,
    times: int,
    alive: bool | None,
    asked: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    become = first("hold", times, fate)

    def later(command: dict[str, Any], body: bytes) -> Fate:
        end = become(command, body)
        network.now += after if end else 0
        return end

    network = Network(monkeypatch, later)
    network._hold()
    assert network.count("hold") == asked
    hold = network.polling["hold"]
    if alive is None:
        assert hold is None
    elif times == 2:
        assert hold == {"asked": IDLE, "alive": True, "seconds": IDLE, "status": None}
    else:
        assert hold == {"asked": IDLE, "alive": alive, "seconds": after, "status": fate.status}


@pytest.mark.parametrize(
    ("fate", "times", "passes", "tries"),
    [
        (Failed("status 413", 413), 1, False, 1),
        (Failed("status 502", 502), 2, True, 3),
        (Failed("status 502", 502), 3, False, 3),
        (_LOST, 1, True, 2),
        (_LOST, 2, False, 2),
    ],
)
def test_sizes(
    fate: Failed, times: int, passes: bool, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = {"echo": times, "give": times}

    def become(command: dict[str, Any], body: bytes) -> Fate:
        what = command["do"]
        if (len(body) == 16_000 or command.get("bytes") == 64_000) and left[what]:
            left[what] -= 1
            return fate
        return None

    network = Network(monkeypatch, become)
    network._requests()
    assert sum(size == 16_000 for _, size, _ in network.asked) == tries
    assert sum(command.get("bytes") == 64_000 for command, _, _ in network.asked) == tries
    if passes:
        assert network.polling["body"] == {"passed": 256_000, "refused": None, "status": None}
        assert network.polling["answer"] == {"passed": 500_000, "refused": None}
    else:
        refused = {"passed": 4000, "refused": 16_000, "status": fate.status}
        assert network.polling["body"] == refused
        assert network.polling["answer"] == {"passed": 4000, "refused": 64_000}
    # What was lost is counted, of requests and of answers, where it was not for the size.
    lost = 2 * (tries - 1) if passes else 0
    assert (network.polling["requests"], network.polling["failed"]) == (11 + lost, lost)


@pytest.mark.parametrize(("times", "passed"), [(2, 256_000), (3, 4000)])
def test_a_request_that_comes_cut_has_not_passed(
    times: int, passed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [times]

    def become(command: dict[str, Any], body: bytes) -> Fate:
        if len(body) == 16_000 and left[0]:
            left[0] -= 1
            return {"bytes": 15_999}
        return None

    network = Network(monkeypatch, become)
    network._requests()
    found = network.polling["body"]
    if passed == 4000:
        assert found == {"passed": 4000, "refused": 16_000, "status": 200}
    else:
        assert found == {"passed": passed, "refused": None, "status": None}


@pytest.mark.parametrize(("most", "passed"), [(64_000, 64_000), (63_999, 16_000)])
def test_what_the_server_does_not_take_is_not_tried(
    most: int, passed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(monkeypatch, first("begin", 1, {"body": most}))
    network._begin()
    assert network._bodies() == {"passed": passed, "refused": None, "status": None}


@pytest.mark.parametrize(
    ("spreads", "found"),
    [([650], 650), ([649.4, 700], 700), ([649, 10], 649), ([10, 649], 649)],
)
def test_an_answer_in_pieces_that_is_held_back_is_asked_for_a_second_time(
    spreads: list[float], found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = list(spreads)

    def become(command: dict[str, Any], body: bytes) -> Fate:
        return {"spread": left.pop(0)} if command["do"] == "stream" else None

    network = Network(monkeypatch, become)
    network._requests()
    assert network.polling["stream"] == {"spread": found}
    assert left == []


def test_what_cannot_be_told_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Failed("status 503", 503, refused=_REFUSED)
    for what, name in (("stream", "stream"), ("serial", "cached"), ("echo", "header")):
        network = Network(monkeypatch, first(what, 100, failed))
        network._requests()
        assert network.polling.get(name) is None
        assert network.polling["refused"] == _REFUSED
    # One of two, likewise.
    network = Network(monkeypatch, first("serial", 3, failed))
    network._requests()
    assert network.polling["cached"] is None
    network = Network(monkeypatch, first("serial", 2, {"serial": 7}))
    network._requests()
    assert network.polling["cached"] is True
    assert Network(monkeypatch, first("seen", 2, failed))._seen() is not None
    assert Network(monkeypatch, first("seen", 3, failed))._seen() is None


@pytest.mark.parametrize("at", [0, 4, 7])
@pytest.mark.parametrize(
    ("echo", "header", "cookie"),
    [
        ({"header": False}, {"up": False, "down": True}, True),
        ({"cookie": False}, {"up": True, "down": True}, False),
        ({"bare": True}, {"up": True, "down": False}, True),
    ],
)
def test_a_header_that_is_dropped_once_is_dropped(
    echo: dict[str, bool],
    header: dict[str, bool],
    cookie: bool,
    at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = Network(monkeypatch)

    def become(command: dict[str, Any], body: bytes) -> Fate:
        return echo if network.count("echo") == at + 1 else None

    network._become = become
    network._requests()
    assert (network.polling["header"], network.polling["cookie"]) == (header, cookie)


def test_what_a_cache_has_kept_of_an_earlier_run_is_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its clock is of then, and its first requests are others than this one's."""
    earlier = Network(monkeypatch)
    assert earlier._begin() is not None
    earlier._small("echo")
    for command, _, _ in earlier.asked:
        network = Network(monkeypatch, lambda *asked, kept=command: {"number": kept["number"]})
        assert network._begin() is None
        assert network.polling["why"] == "the answer to another request came, as from a cache"


@pytest.mark.parametrize("ahead", [0, 60, -3600])
def test_the_clock_is_compared_with_the_middle_between_question_and_answer(
    ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def become(command: dict[str, Any], body: bytes) -> Fate:
        network.now += 0.4
        return {"time": (network.now - 0.4 - ahead) * 1000}

    network = Network(monkeypatch, become)
    # The server's was read when it was asked, 200 ms before the middle.
    assert network._begin() == {"ahead": ahead + 0.2}


@pytest.mark.parametrize("processes", [1, 2])
def test_how_many_processes_answer(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    names = itertools.cycle(["one", "two"][:processes])

    def become(command: dict[str, Any], body: bytes) -> Fate:
        return {"process": next(names)} if command["do"] == "echo" else None

    network = Network(monkeypatch, become)
    network._requests()
    assert network.polling["processes"] == processes


@pytest.mark.parametrize(
    ("attempts", "handshake", "lost"),
    [
        (["failed", "failed", "open"], "open", 2),
        (["failed", "failed", "failed"], "failed", 0),
        (["failed", "unanswered"], "unanswered", 1),
        ([{"status": 403}], "failed", 0),
        ([{"tunnel": 403}], "failed", 0),
    ],
)
def test_a_handshake_that_is_cut_is_tried_three_times(
    attempts: list[Any], handshake: str, lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = list(attempts)

    def attempt(examination: WebSocketExamination) -> dict[str, Any]:
        become = left.pop(0)
        return (
            {"handshake": become} if isinstance(become, str) else {"handshake": "failed", **become}
        )

    monkeypatch.setattr(WebSocketExamination, "_attempt", attempt)
    seen = Network(monkeypatch).observe()
    assert (seen["websocket"]["handshake"], left) == (handshake, [])
    assert (seen["polling"]["requests"], seen["polling"]["failed"]) == (13 + lost, lost)


def test_a_server_is_away_if_it_is_at_every_try(monkeypatch: pytest.MonkeyPatch) -> None:
    away = Failed("connection refused", away=True)
    network = Network(monkeypatch, first("begin", 3, away))
    with pytest.raises(Unreachable, match="connection refused"):
        network._begin()
    assert network.count("begin") == 3
    assert Network(monkeypatch, first("begin", 2, away))._begin() is not None
    lost = [away, away, _LOST]
    some = Network(monkeypatch, lambda command, body: lost.pop())
    assert some._begin() is None


def test_a_connection_that_is_lost_is_not_a_server_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first, which are for the certificate, no more than those of requests."""

    def lost(route: Route, timeout: float, **more: Any) -> Any:
        raise Unreachable("connection reset by peer")

    monkeypatch.setattr(Route, "connect", lost)
    seen = Network(monkeypatch, url="https://host.test/fallback").observe()
    assert seen["unreachable"] is None
    assert seen["tls"] == {"error": None, "issuer": None, "private": None}
    assert seen["polling"]["failed"] == 0


@pytest.mark.parametrize("status", [403, 404, 405, 410])
@pytest.mark.parametrize("there", [True, False])
def test_a_page_that_is_not_there_is_no_doctor(
    status: int, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Failed(f"status {status}", status, {"status": status, "type": "text/html"})
    network = Network(monkeypatch, first("begin", 3, failed))
    network.there = there
    if status in (404, 405) and not there:
        with pytest.raises(NoDoctor, match="no doctor at this address"):
            network._begin()
        assert network.count("begin") == 1
    else:
        assert network._begin() is None
        assert network.count("begin") == 3


@pytest.mark.parametrize(
    ("url", "location", "told"),
    [
        ("http://host.test/a", "https://host.test", "examine https://host.test/a"),
        ("http://host.test/a", "HTTPS://Host.test:8443/x", "examine HTTPS://Host.test:8443/a"),
        ("http://[::1]:80/a", "https://[::1]/a", r"examine https://\[::1\]/a"),
        ("http://host.test/a", "https://host.test.evil.test/", None),
        ("http://host.test/a", "https://hostxtest/", None),
        ("http://host.test/a", "http://host.test/login", None),
        ("http://host.test/a", "/https://host.test/", None),
        ("https://host.test/a", "https://host.test/login", None),
        ("http://host.test/a", None, None),
    ],
)
def test_a_site_that_sends_everybody_to_its_https(
    url: str, location: str | None, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = Message()
    if location is not None:
        headers["Location"] = location
    failed = Failed("status 301", 301, {"status": 301, "type": "text/plain"}, headers=headers)
    network = Network(monkeypatch, first("begin", 3, failed), url)
    if told is None:
        assert network._begin() is None
    else:
        with pytest.raises(NoDoctor, match=told):
            network._begin()
