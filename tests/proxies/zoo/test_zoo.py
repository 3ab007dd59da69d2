"""Each proxy does to WebSocket, and to polls, what its entry says: looked at without a browser.

All that were chosen run at once, and are watched at once: what takes time is waiting.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from http.client import HTTPException, IncompleteRead
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from fallback_transport.protocol import codec
from fallback_transport.protocol.envelope import Envelope, PollRequest, Unit, Welcome
from fallback_transport.protocol.errors import MalformedEnvelope
from tests.client.raw import new_hello
from tests.integration.served import ROOT, Served, free_port
from tests.proxies.tiny_upstream import TinyUpstream, eventually

from . import ZOO, Hop, addresses
from .parallel import each_chosen, parameter
from .program import NOBODY, Program, ProxyFailed, running
from .route import Answer, NoWebSocket, request, websocket

pytestmark = pytest.mark.integration

#: Seconds after which some of them end what is silent.
TIMEOUT = 5.0
#: Seconds for which a WebSocket is idle and a poll is held, where nothing is to happen to them;
#: and where that time-out is to strike one of them.
SHORT, LONG = 1.0, 7.0
#: Seconds for an answer that will not come.
SILENCE = 3.0
#: Seconds that a busy machine may add to a time-out.
SLACK = 1.5


@dataclass(frozen=True, slots=True)
class Expected:
    """What there is to see behind a proxy.

    Args:
        handshake: of a WebSocket: "works", or how it does not.
        idle_cut: seconds after which an idle WebSocket is cut.
        poll_cut: seconds after which a held poll is cut.
        cut_status: the status of its answer then; None where there is no whole answer.
    """

    handshake: str = "works"
    idle_cut: float | None = None
    poll_cut: float | None = None
    cut_status: int | None = None

    @property
    def watch(self) -> float:
        """Seconds for which nothing is said."""
        return LONG if TIMEOUT in (self.idle_cut, self.poll_cut) else SHORT


#: 426 is our server's answer to a request at its WebSocket door that asks for no upgrade.
EXPECTED: Mapping[str, Expected] = {
    "direct": Expected(),
    "nginx-no-upgrade": Expected("426"),
    "nginx-upgrade": Expected(),
    "nginx-buffering": Expected(),
    "nginx-timeout-5s": Expected(idle_cut=TIMEOUT, poll_cut=TIMEOUT, cut_status=504),
    "nginx-body-1k": Expected("426"),
    "haproxy-server-5s": Expected(idle_cut=TIMEOUT, poll_cut=TIMEOUT, cut_status=504),
    "haproxy-tunnel-5s": Expected(idle_cut=TIMEOUT),
    "apache-no-upgrade": Expected("426"),
    "apache-upgrade": Expected(),
    "varnish-pass": Expected("426"),
    "varnish-pipe": Expected(),
    "squid-default": Expected("CONNECT 403"),
    "squid-no-connect": Expected("CONNECT 403"),
    "squid-open": Expected(),
    "squid-credentials": Expected(),
    "tinyproxy-443": Expected("CONNECT 403"),
    "tinyproxy-open": Expected(),
    "privoxy": Expected(),
    "mitmproxy-strip": Expected("426"),
    "mitmproxy-swallow": Expected("silent"),
    # The held poll is the second one of two.
    "mitmproxy-truncate": Expected("426", poll_cut=SHORT),
    "mitmproxy-twice": Expected("426"),
    "mitmproxy-headers": Expected("426"),
    "fault-accept-silent": Expected("silent"),
    "fault-drop-up": Expected("silent"),
    "fault-drop-down": Expected("silent"),
    "fault-swallow-upgrade": Expected("no answer"),
    "fault-reset-upgrade": Expected("reset"),
    "fault-duplicate-posts": Expected("403"),
    "fault-drop-responses": Expected("403"),
}


EACH = pytest.mark.parametrize("name", [parameter(name) for name in ZOO])
#: One of each program.
PROGRAMS = ("nginx-upgrade", "haproxy-tunnel-5s", "squid-credentials", "apache-upgrade")
PROGRAMS += ("varnish-pass", "tinyproxy-443", "privoxy", "mitmproxy-strip", "fault-drop-up")
EACH_PROGRAM = pytest.mark.parametrize("name", [parameter(name) for name in PROGRAMS])


# -- watching --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Watched:
    """What happened to a WebSocket and to a poll."""

    handshake: str
    idle_cut: float | None
    poll_status: int | None
    poll_seconds: float
    released: bool


def poll(hop: Hop, unit: Unit) -> tuple[Answer, Unit | None]:
    """A request to the polling door; no unit where the answer is somebody else's."""
    answer = request(hop, "/fallback/poll", codec.encode_body(unit))
    try:
        return answer, codec.decode_body(answer.body)
    except MalformedEnvelope:
        return answer, None


def insist(hop: Hop, unit: Unit) -> Unit:
    """The same, until there is a whole answer: some of these proxies lose every second one."""
    for _ in range(3):
        try:
            unit_back = poll(hop, unit)[1]
        except (OSError, HTTPException):
            continue
        if unit_back is not None:
            return unit_back
    raise AssertionError(f"no answer by {hop}")


def watch_poll(hop: Hop, seconds: float) -> tuple[int | None, float, bool]:
    """Open a session, and let a poll be held: its status, its seconds, and whether it is ours."""
    welcome = insist(hop, new_hello())
    assert isinstance(welcome, Welcome)
    assert welcome.key is not None
    marks = Envelope(ack=1, received=1, commit=1)
    id, key = welcome.id, welcome.key
    # The answer to CONNECT, if it did not come with the welcome.
    insist(hop, PollRequest(id, key, 1, 1, 5.0, None, marks._replace(ack=0, received=0)))
    started = time.monotonic()
    try:
        answer, unit = poll(hop, PollRequest(id, key, 1, 2, seconds, None, marks))
    except (OSError, HTTPException):
        return None, time.monotonic() - started, False
    return answer.status, time.monotonic() - started, isinstance(unit, Envelope)


def watch_websocket(hop: Hop, seconds: float) -> tuple[str, float | None]:
    """Open a session, and say nothing for a while: how it went, and when it was cut."""
    try:
        connection = websocket(hop, "/fallback/ws", timeout=SILENCE)
    except NoWebSocket as error:
        return str(error), None
    with connection:
        connection.send(codec.encode(new_hello()))
        try:
            assert isinstance(codec.decode(str(connection.recv(SILENCE))), Welcome)
        except TimeoutError:
            return "silent", None
        connection.send("a0 c1")
        connection.recv(SILENCE)
        # As pages do; else it is asked for.
        connection.send("a1")
        started = time.monotonic()
        try:
            connection.recv(seconds)
        except TimeoutError:
            connection.send("a1 q1")
            assert "p1" in str(connection.recv(SILENCE))
            return "works", None
        except ConnectionClosed:
            return "works", time.monotonic() - started
        raise AssertionError("the server had nothing to say")


def watched(hop: Hop, seconds: float) -> Watched:
    """Both at once."""
    with ThreadPoolExecutor(1) as beside:
        other = beside.submit(watch_websocket, hop, seconds)
        status, taken, ours = watch_poll(hop, seconds)
        handshake, cut = other.result()
    return Watched(handshake, cut, status, taken, ours)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Served(host=addresses.server_address()) as server:
        yield server


@pytest.fixture
def upstream() -> Iterator[TinyUpstream]:
    """A server that tells what arrived."""
    server = TinyUpstream(addresses.server_address())
    yield server
    server.stop()


@pytest.fixture(scope="module")
def all_watched(
    request: pytest.FixtureRequest, served: Served
) -> Iterator[Mapping[str, Future[Watched]]]:
    """What is seen behind each proxy whose test was chosen and that is installed."""

    def watch(name: str, hop: Hop) -> Watched:
        return watched(hop, EXPECTED[name].watch)

    with each_chosen(request, served.port, watch) as seen:
        yield seen


def test_the_table_is_about_every_entry() -> None:
    assert list(EXPECTED) == list(ZOO)


@EACH
def test_what_it_does(name: str, all_watched: Mapping[str, Future[Watched]]) -> None:
    expected, seen = EXPECTED[name], all_watched[name].result()
    print(seen)
    assert seen.handshake == expected.handshake
    assert ZOO[name].websocket is (seen.handshake == "works")
    if expected.idle_cut is None:
        assert seen.idle_cut is None
    else:
        assert seen.idle_cut is not None, "still there"
        assert expected.idle_cut - 0.1 <= seen.idle_cut <= expected.idle_cut + SLACK
    if expected.poll_cut is None:
        assert (seen.poll_status, seen.released) == (200, True)
        assert expected.watch - 0.1 <= seen.poll_seconds <= expected.watch + SLACK + ZOO[name].slow
    else:
        assert (seen.poll_status, seen.released) == (expected.cut_status, False)
        assert expected.poll_cut - 0.1 <= seen.poll_seconds <= expected.poll_cut + SLACK


# -- what only some of them do -----------------------------------------------------------


@pytest.mark.requires("nginx")
def test_a_body_limit(upstream: TinyUpstream) -> None:
    with ZOO["nginx-body-1k"].start(upstream.port) as hop:
        assert request(hop, "/fallback/poll", b"x" * 1024).status == 200
        assert request(hop, "/fallback/poll", b"x" * 1025).status == 413
    assert [len(body) for body in upstream.seen.bodies] == [1024]


@pytest.mark.requires("squid")
def test_credentials_are_demanded(upstream: TinyUpstream) -> None:
    with ZOO["squid-credentials"].start(upstream.port) as hop:
        for credentials in (None, ("user", "wrong")):
            stranger = replace(hop, credentials=credentials)
            assert request(stranger, "/page").status == 407
            with pytest.raises(NoWebSocket, match="CONNECT 407"):
                websocket(stranger, "/ws")
        assert request(hop, "/page").status == 200
    assert upstream.seen.requests == [("GET", "/page")]


TWICE = [parameter("fault-duplicate-posts"), parameter("mitmproxy-twice")]


@pytest.mark.parametrize("name", TWICE)
def test_posts_are_sent_twice(name: str, upstream: TinyUpstream) -> None:
    with ZOO[name].start(upstream.port) as hop:
        assert request(hop, "/fallback/poll", b"once").body == b"once"
        assert eventually(lambda: len(upstream.seen.bodies) == 2)
        request(hop, "/page")
    assert upstream.seen.bodies == [b"once", b"once", b""]


def test_one_answer_in_five_is_lost(upstream: TinyUpstream) -> None:
    lost = []
    with ZOO["fault-drop-responses"].start(upstream.port) as hop:
        for number in range(10):
            try:
                request(hop, "/fallback/poll", b"x")
            except (OSError, HTTPException):
                lost.append(number)
        assert request(hop, "/page").status == 200
    assert lost == [4, 9]
    assert len(upstream.seen.bodies) == 11


@pytest.mark.requires("mitmproxy", "nginx")
def test_every_second_answer_is_cut(upstream: TinyUpstream) -> None:
    with ZOO["mitmproxy-truncate"].start(upstream.port) as hop:
        assert request(hop, "/fallback/poll", b"0123456789").body == b"0123456789"
        with pytest.raises(IncompleteRead) as cut:
            request(hop, "/fallback/poll", b"0123456789")
        assert cut.value.partial == b"01234"
        # What is no poll comes as it is.
        assert [request(hop, "/page").body for _ in range(2)] == [b"/page"] * 2


@pytest.mark.requires("mitmproxy", "nginx")
def test_custom_headers_and_cookies_are_dropped(upstream: TinyUpstream, served: Served) -> None:
    sent = {"X-Custom": "1", "Cookie": "a=b", "Sec-Fetch-Site": "same-origin", "Origin": "null"}
    with ZOO["mitmproxy-headers"].start(upstream.port) as hop:
        arrived = {name.lower() for name in json.loads(request(hop, "/headers", None, sent).body)}
    assert arrived & {name.lower() for name in sent} == {"origin"}
    with ZOO["mitmproxy-headers"].start(served.port) as hop:
        answer, unit = poll(hop, new_hello())
        assert isinstance(unit, Welcome)
        assert request(hop, "/login?user=me").headers["Set-Cookie"] is None
        assert answer.headers["X-Content-Type-Options"] is None
    assert request(Hop(served.url), "/login?user=me").headers["Set-Cookie"] is not None


# -- processes ---------------------------------------------------------------------------


def alive(pid: int) -> bool:
    """Whether there is such a process, and it runs."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "State:\tZ" not in status


def identity(pid: int, of: str) -> int:
    """The effective user ("Uid") or group ("Gid") of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(of)]
    return int(line.split()[2])


@EACH_PROGRAM
def test_it_runs_as_nobody_and_ends(name: str) -> None:
    with ZOO[name].start(free_port()) as hop:
        assert hop.pids
        assert all(alive(pid) for pid in hop.pids)
        if os.getuid() == 0 and not name.startswith("fault"):
            assert {identity(pid, "Gid") for pid in hop.pids} == {NOBODY}
            users = {identity(pid, "Uid") for pid in hop.pids}
            assert users == ({NOBODY, 0} if name.startswith("mitmproxy") else {NOBODY})
    assert not any(alive(pid) for pid in hop.pids)


#: Starts what is named, says which processes that are, and waits to be killed.
STARTS = """
import sys, time
from contextlib import ExitStack
from tests.proxies.zoo import ZOO
with ExitStack() as stack:
    hops = [stack.enter_context(ZOO[name].start(9)) for name in sys.argv[1:]]
    print(*(pid for hop in hops for pid in hop.pids), flush=True)
    time.sleep(60)
"""


@EACH_PROGRAM
def test_it_ends_with_its_parent(name: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", STARTS, name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert pids
        assert all(alive(pid) for pid in pids)
        parent.kill()
    assert eventually(lambda: not any(alive(pid) for pid in pids), 10.0)


@pytest.mark.requires("nginx")
def test_what_does_not_start_says_why() -> None:
    program = Program("nginx", ["-c", "@{folder}/config"], "nginx.conf", "haproxy-server-5s.cfg")
    with pytest.raises(ProxyFailed, match=r"it said:\n.*emerg"), running(program):
        pass


@pytest.mark.parametrize("change", [{"name": "No Name"}, {"title": ""}, {"slow": -1.0}], ids=str)
def test_an_entry_is_checked(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"name|title|seconds"):
        replace(ZOO["direct"], **change)
