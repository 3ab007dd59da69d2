"""The doctor's doors: commands, bounds, and what the server remembers of a run."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from email.message import Message
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.request import Request
from urllib.response import addinfourl

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Close, CloseCode, Opcode
from websockets.uri import parse_uri

from fallback_transport.answers import Answer
from fallback_transport.doctor import door
from fallback_transport.doctor.door import (
    MAX_HOLD,
    MAX_MESSAGES,
    MAX_SILENCE,
    MAX_WAITING,
    MAX_WAITING_PER_ADDRESS,
    MAX_WAITING_PER_RUN,
    STREAM_BYTES,
    STREAM_GAP,
    DoctorDoor,
    StreamedAnswer,
)
from fallback_transport.doctor.findings import MAX_MESSAGE, PROOF
from fallback_transport.doctor.runs import (
    LIFETIME,
    MAX_HANDSHAKES,
    MAX_REQUESTS,
    MAX_RUNS,
    MAX_RUNS_PER_ADDRESS,
    Runs,
    valid_name,
)
from fallback_transport.handshake import SUBPROTOCOL
from fallback_transport.options import Options
from fallback_transport.runtime import UnsuitableServer
from fallback_transport.version import __version__
from tests.fakes import FakeRuntime

RUN = "a-run-of-the-tests"


class Desk:
    """A door, and commands to it."""

    def __init__(self, trusted_proxies: int = 0) -> None:
        self.runtime = FakeRuntime()
        self.door = DoctorDoor(
            self.runtime, Options(max_body=123_456, trusted_proxies=trusted_proxies)
        )
        self.number = 0
        self.asked = 0
        self.open = True
        self.answers: list[Answer | StreamedAnswer] = []

    def may_begin(self) -> bool:
        self.asked += 1
        return self.open

    def poll(
        self, body: bytes, address: str = "10.1.1.1", **environ: str
    ) -> Answer | StreamedAnswer:
        seen = {"wsgi.url_scheme": "http", **environ}
        return self.door.poll(seen, body, address, self.may_begin)

    def raw(self, body: bytes) -> tuple[int, Any]:
        answer = self.poll(body)
        assert isinstance(answer, Answer)
        assert answer.body.endswith(b"\n.")
        return answer.status, json.loads(answer.body[:-2])

    def do(
        self, what: str, *, run: str = RUN, padding: int = 0, **more: Any
    ) -> Answer | StreamedAnswer:
        self.number += 1
        environ = {name: more.pop(name) for name in list(more) if name.isupper()}
        address = more.pop("address", "10.1.1.1")
        command = {"run": run, "number": self.number, "do": what, **more}
        body = json.dumps(command).encode() + b"\n" + b"x" * padding
        return self.poll(body, address, **environ)

    def hold(self, number: int, address: str, run: str = "another-run") -> None:
        """Ask for something that waits, in a task of its own, for one of several runs."""
        hold = {"run": f"{run}-{number:06}", "address": address, "seconds": 9}
        self.runtime.spawn(lambda: self.answers.append(self.do("hold", **hold)))

    def facts(self, what: str, **more: Any) -> dict[str, Any]:
        answer = self.do(what, **more)
        assert isinstance(answer, Answer)
        assert answer.status == 200
        assert ("X-Fallback-Transport-Doctor", "1") in answer.headers
        head, _, rest = answer.body.partition(b"\n")
        assert rest.endswith(b".")
        facts: dict[str, Any] = json.loads(head)
        return facts

    def websocket(self, query: str = f"run={RUN}", **environ: Any) -> tuple[int, str]:
        """A request for the WebSocket that is refused."""
        seen = {"REQUEST_METHOD": "GET", "QUERY_STRING": query, "wsgi.input": io.BytesIO()}
        answer = self.door.websocket({**seen, **environ}, "10.1.1.1", self.may_begin)
        assert isinstance(answer, Answer)
        return answer.status, json.loads(answer.body[:-2])["error"]

    def seen(self, **environ: str) -> dict[str, Any]:
        seen: dict[str, Any] = self.facts("seen", **environ)["seen"]
        return seen


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_run_begins_with_a_cookie_and_the_clock(desk: Desk) -> None:
    answer = desk.do("begin")
    assert isinstance(answer, Answer)
    facts = json.loads(answer.body[:-2])
    told = {"number": 1, "library": __version__, "body": 123_456, "time": 0}
    assert {**facts, "time": 0} == told
    assert abs(facts["time"] / 1000 - time.time()) < 3600
    cookie = dict(answer.headers)["Set-Cookie"]
    assert cookie == "fallback_transport_doctor=1; Max-Age=600; HttpOnly; SameSite=Strict"


@pytest.mark.parametrize("place", ["", "/behind/a/prefix"])
def test_a_browser_brings_the_cookie_back_wherever_the_doctor_is_for_it(
    desk: Desk, place: str
) -> None:
    """A proxy may take a part of the path away, of which the server knows nothing."""
    began = desk.do("begin")
    assert isinstance(began, Answer)
    headers = Message()
    headers["Set-Cookie"] = dict(began.headers)["Set-Cookie"]
    browser = CookieJar()
    browser.extract_cookies(
        addinfourl(io.BytesIO(), headers, ""),
        Request(f"https://host.test{place}/fallback/doctor/poll"),
    )

    def brought(path: str) -> str | None:
        request = Request(f"https://host.test{path}")
        browser.add_cookie_header(request)
        return request.get_header("Cookie")

    assert brought(f"{place}/fallback/doctor/poll") == "fallback_transport_doctor=1"
    assert brought(f"{place}/fallback/poll") is None


def test_an_echo_tells_what_came(desk: Desk) -> None:
    facts = desk.facts("echo", padding=500)
    process = facts.pop("process")
    assert facts == {"number": 1, "bytes": facts["bytes"], "header": False, "cookie": False}
    assert 500 < facts["bytes"] < 600
    cookie = "a=b; fallback_transport_doctor=1"
    facts = desk.facts("echo", HTTP_X_FALLBACK_TRANSPORT_DOCTOR="1", HTTP_COOKIE=cookie)
    assert (facts["header"], facts["cookie"]) == (True, True)
    # Of whichever run, but of no other process.
    assert facts["process"] == desk.facts("echo", run="another-run-00001")["process"] == process
    assert Desk().facts("echo")["process"] != process


def test_a_serial_rises(desk: Desk) -> None:
    body = json.dumps({"run": RUN, "do": "serial"}).encode()
    first, *more = [desk.raw(body)[1]["serial"] for _ in range(3)]
    assert more == [first + 1, first + 2]


def test_two_processes_that_answer_in_turn_are_no_cache(desk: Desk) -> None:
    body = json.dumps({"run": RUN, "do": "serial"}).encode()
    assert desk.raw(body)[1]["serial"] != Desk().raw(body)[1]["serial"]


@pytest.mark.parametrize("size", [0, 40, 4000, 1_000_000])
def test_as_much_is_given_as_was_asked_for(desk: Desk, size: int) -> None:
    answer = desk.do("give", bytes=size)
    assert isinstance(answer, Answer)
    assert len(answer.body) == max(size, len(b'{"number":1}\n.'))
    assert answer.body.startswith(b'{"number":1}\n')
    assert answer.body.endswith(b".")


def test_a_request_is_held(desk: Desk) -> None:
    desk.runtime.spawn(lambda: desk.answers.append(desk.do("hold", seconds=3)))
    desk.runtime.advance(2.9)
    assert desk.answers == []
    desk.runtime.advance(0.2)
    [answer] = desk.answers
    assert isinstance(answer, Answer)
    assert json.loads(answer.body[:-2]) == {"number": 1, "held": 3.0}


def test_a_stream_has_pauses(desk: Desk) -> None:
    stream = desk.do("stream")
    assert isinstance(stream, StreamedAnswer)
    times: list[float] = []
    body: list[bytes] = []

    def read(parts: Iterator[bytes]) -> None:
        for part in parts:
            times.append(desk.runtime.now() - 1000)
            body.append(part)

    desk.runtime.spawn(read, stream.parts)
    desk.runtime.advance(5)
    assert times == pytest.approx([0, STREAM_GAP, 2 * STREAM_GAP, 2 * STREAM_GAP])
    assert len(b"".join(body)) == len(b'{"number": 1}\n') + 3 * STREAM_BYTES + 1
    assert body[-1] == b"."


def test_where_a_network_repeats_all_of_it_a_run_may_wait(desk: Desk) -> None:
    desk.do("begin")
    run = desk.door.runs.find(RUN)
    assert run is not None
    bodies: list[bytes] = []

    def hold() -> None:
        held = desk.do("hold", seconds=1)
        assert isinstance(held, Answer)
        bodies.append(held.body)

    def read(parts: Iterator[bytes]) -> None:
        bodies.append(b"".join(parts))

    # The places of two WebSockets, for which a real socket would be needed.
    with desk.door._place(run), desk.door._place(run):
        for _ in range(2):
            desk.runtime.spawn(hold)
            stream = desk.do("stream")
            assert isinstance(stream, StreamedAnswer)
            desk.runtime.spawn(read, stream.parts)
        desk.runtime.advance(2)
    assert len(bodies) == 4
    assert not any(b"error" in body for body in bodies)


def test_how_many_wait_is_documented() -> None:
    documented = Path(door.__file__).with_name("DOCTOR.md").read_text()
    of_one = f"{MAX_WAITING_PER_RUN} of a run, {MAX_WAITING_PER_ADDRESS} of an address"
    assert f"waits {of_one} and {MAX_WAITING} in all" in " ".join(documented.split())


def test_few_wait_at_once(desk: Desk) -> None:
    for _ in range(MAX_WAITING_PER_RUN):
        desk.runtime.spawn(lambda: desk.answers.append(desk.do("hold", seconds=9)))
    desk.runtime.run()
    refused = desk.do("hold", seconds=9)
    assert isinstance(refused, Answer)
    assert refused.status == 503
    stream = desk.do("stream")
    assert isinstance(stream, StreamedAnswer)
    assert json.loads(b"".join(stream.parts)[:-2]) == {"error": "too many wait"}
    for number in range(MAX_WAITING - MAX_WAITING_PER_RUN):
        run = number // MAX_WAITING_PER_RUN
        desk.hold(run, f"10.2.{run // (MAX_WAITING_PER_ADDRESS // MAX_WAITING_PER_RUN)}.1")
    desk.runtime.run()
    refused = desk.do("hold", run="one-more-of-the-runs", address="10.3.1.1", seconds=9)
    assert isinstance(refused, Answer)
    assert refused.status == 503
    desk.runtime.advance(10)
    assert {a.status for a in desk.answers if isinstance(a, Answer)} == {200}
    assert len(desk.answers) == MAX_WAITING
    assert not desk.door._waiting


def test_a_place_is_for_the_next_one_who_waits(desk: Desk) -> None:
    for _ in range(2):
        for _ in range(MAX_WAITING_PER_RUN):
            desk.runtime.spawn(lambda: desk.answers.append(desk.do("hold", seconds=9)))
        desk.runtime.advance(10)
    for number in range(MAX_WAITING_PER_ADDRESS):
        seconds = 9 if number else 1
        hold = {"run": f"another-run-{number:06}", "address": "10.2.1.1", "seconds": seconds}
        desk.runtime.spawn(lambda hold=hold: desk.answers.append(desk.do("hold", **hold)))
    desk.runtime.advance(2)
    # One place of this address is free, and no more.
    for number in range(2):
        desk.hold(number, "10.2.1.1", run="a-later-run")
    desk.runtime.run()
    found = [answer.status for answer in desk.answers if isinstance(answer, Answer)]
    assert found == [200] * (2 * MAX_WAITING_PER_RUN + 1) + [503]


def test_an_address_where_many_wait_is_in_nobody_elses_way(desk: Desk) -> None:
    for number in range(MAX_WAITING):
        desk.hold(number // MAX_WAITING_PER_RUN, "10.2.1.1")
    desk.runtime.run()
    assert len(desk.answers) == MAX_WAITING - MAX_WAITING_PER_ADDRESS
    assert {a.status for a in desk.answers if isinstance(a, Answer)} == {503}
    desk.answers.clear()
    desk.hold(0, "10.3.1.1", run="somebody-elses-run")
    desk.runtime.advance(10)
    assert {a.status for a in desk.answers if isinstance(a, Answer)} == {200}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "a line of JSON is expected"),
        (b"[]", "a line of JSON is expected"),
        (b"\xff", "a line of JSON is expected"),
        (b"[" * 900, "a line of JSON is expected"),
        (b'{"run":"' + b"x" * 1000, "a line of JSON is expected"),
        (b"{}", "a run has a name"),
        (b'{"run":"short"}', "a run has a name"),
        (b'{"run":"a-run-of-the-tests"}', "a command has a number"),
        (b'{"run":"a-run-of-the-tests","number":true,"do":"echo"}', "a command has a number"),
        (b'{"run":"a-run-of-the-tests","number":-1,"do":"echo"}', "a command has a number"),
        (b'{"run":"a-run-of-the-tests","number":1000000000,"do":"echo"}', "a command has a number"),
        (b'{"run":"a-run-of-the-tests","number":0}', "an unknown command"),
        (b'{"run":"a-run-of-the-tests","number":999999999}', "an unknown command"),
        (b'{"run":"a-run-of-the-tests","number":1}', "an unknown command"),
        (b'{"run":"a-run-of-the-tests","number":1,"do":{}}', "an unknown command"),
        (
            b'{"run":"a-run-of-the-tests","number":1,"do":"give","bytes":1000001}',
            "bytes is a number up to 1e+06",
        ),
        (
            b'{"run":"a-run-of-the-tests","number":1,"do":"hold","seconds":true}',
            "seconds is a number up to 300",
        ),
        (
            b'{"run":"a-run-of-the-tests","number":1,"do":"hold","seconds":NaN}',
            "seconds is a number up to 300",
        ),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(desk: Desk, body: bytes, why: str) -> None:
    assert desk.raw(body) == (400, {"error": why})


def test_a_run_has_so_many_requests(desk: Desk) -> None:
    for _ in range(MAX_REQUESTS):
        desk.facts("echo")
    refused = desk.do("echo")
    assert isinstance(refused, Answer)
    assert refused.status == 429


def test_only_who_begins_is_asked_about(desk: Desk) -> None:
    desk.open = False
    refused = desk.do("begin")
    assert isinstance(refused, Answer)
    assert refused.status == 403
    assert len(desk.door.runs) == 0
    desk.open = True
    desk.facts("begin")
    desk.open = False
    desk.facts("echo")
    assert desk.asked == 2


# -- what the server saw ----------------------------------------------------------------


def test_nothing_was_seen_yet(desk: Desk) -> None:
    assert desk.seen() == {
        "handshakes": [],
        "plain": 0,
        "repeated": 1,
        "proxies": {},
        "secure": False,
    }


def test_a_number_that_comes_again_is_seen(desk: Desk) -> None:
    body = json.dumps({"run": RUN, "number": 77, "do": "echo"}).encode()
    for _ in range(3):
        desk.raw(body)
    assert desk.seen()["repeated"] == 3


def test_a_stripped_handshake_and_a_plain_request_are_told_apart(desk: Desk) -> None:
    assert desk.websocket(HTTP_SEC_WEBSOCKET_KEY="k") == (
        426,
        "a WebSocket handshake of version 13 is expected here",
    )
    assert desk.websocket(f"run={RUN}&plain") == (426, "a WebSocket is here")
    seen = desk.seen()
    assert seen["plain"] == 1
    assert seen["handshakes"] == [
        {
            "upgrade": False,
            "connection": False,
            "key": True,
            "status": 426,
            "up": [],
            "down": [],
            "closed": None,
        }
    ]


@pytest.mark.parametrize(
    ("came", "headers"),
    [
        ("upgrade", {"HTTP_UPGRADE": "WebSocket"}),
        ("connection", {"HTTP_CONNECTION": "keep-alive, Upgrade"}),
        ("key", {"HTTP_SEC_WEBSOCKET_KEY": "k"}),
        ("", {"HTTP_UPGRADE": "h2c", "HTTP_CONNECTION": "close"}),
    ],
)
def test_each_part_of_a_handshake_is_seen_by_itself(
    desk: Desk, came: str, headers: dict[str, str]
) -> None:
    desk.websocket(**headers)
    [seen] = desk.seen()["handshakes"]
    assert [part for part in ("upgrade", "connection", "key") if seen[part]] == came.split()


class Browser:
    """One end of a connection whose handshake a door is given; it serves the other in a thread."""

    def __init__(self, desk: Desk) -> None:
        self.sock, self.served = socket.socketpair()
        self.framing = ClientProtocol(
            parse_uri("ws://host.test/"),
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
        )
        request = self.framing.connect()
        self.framing.send_request(request)
        self.framing.data_to_send()
        named = {f"HTTP_{name.upper().replace('-', '_')}": v for name, v in request.headers.items()}
        query = {"REQUEST_METHOD": "GET", "QUERY_STRING": f"run={RUN}", "wsgi.input": io.BytesIO()}
        self.environ: dict[str, Any] = {**query, **named, "werkzeug.socket": self.served}
        self._events: list[Any] = []
        self._thread = threading.Thread(
            target=lambda: desk.door.websocket(self.environ, "10.1.1.1", desk.may_begin)
        )

    def __enter__(self) -> Browser:
        self._thread.start()
        assert self.next().status_code == 101
        assert self.framing.subprotocol == SUBPROTOCOL
        assert [len(self.next().data) for _ in PROOF] == list(PROOF)
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
        self._thread.join()
        self.served.close()

    def next(self) -> Any:
        """What comes next: the answer to the handshake, or a frame; None at the end."""
        while not self._events:
            data = self.sock.recv(65536)
            if not data:
                return None
            self.framing.receive_data(data)
            self._events += self.framing.events_received()
        return self._events.pop(0)

    def say(self, text: bytes, *, fin: bool = True, begins: bool = True) -> None:
        """Send a message, or a part of one."""
        if begins:
            self.framing.send_text(text, fin)
        else:
            self.framing.send_continuation(text, fin)
        self.flush()

    def flush(self) -> None:
        self.sock.sendall(b"".join(self.framing.data_to_send()))


def test_each_message_is_answered_with_its_length(desk: Desk) -> None:
    with Browser(desk) as browser:
        for length in (*PROOF, MAX_MESSAGE, 0):
            browser.say(b"x" * length)
            assert browser.next().data == f"got {length}".encode()
        browser.say(b"ab", fin=False)
        # Which is none.
        browser.framing.send_ping(b"ping")
        browser.say(b"c", begins=False)
        assert [browser.next().opcode, browser.next().data] == [Opcode.PONG, b"got 3"]
        browser.framing.send_close(1000)
        browser.flush()
        assert browser.next().opcode is Opcode.CLOSE
        assert browser.next() is None
        # Longer than the longest silence that a client may choose.
        assert browser.served.gettimeout() == MAX_SILENCE > MAX_HOLD
    [seen] = desk.seen()["handshakes"]
    assert (seen["status"], seen["down"], seen["closed"]) == (101, list(PROOF), 1000)
    assert seen["up"] == [*PROOF, MAX_MESSAGE, 0, 3]
    assert not desk.door._waiting


def test_so_many_messages_are_answered_and_none_that_is_larger(desk: Desk) -> None:
    with Browser(desk) as browser:
        for _ in range(MAX_MESSAGES):
            browser.say(b"x")
            assert browser.next().data == b"got 1"
        browser.say(b"x")
        assert Close.parse(browser.next().data).code == CloseCode.POLICY_VIOLATION
    with Browser(desk) as browser:
        browser.say(b"x" * (MAX_MESSAGE + 1))
        assert Close.parse(browser.next().data).code == CloseCode.MESSAGE_TOO_BIG
    with Browser(desk):
        # It is cut.
        pass
    many, large, cut = desk.seen()["handshakes"]
    assert many["up"] == [1] * MAX_MESSAGES
    assert large["up"] == cut["up"] == []
    assert cut["closed"] is None
    assert not desk.door._waiting


def test_a_handshake_that_cannot_be_served_is_seen_with_its_status(desk: Desk) -> None:
    browser = Browser(desk)
    del browser.environ["werkzeug.socket"]
    with pytest.raises(UnsuitableServer):
        desk.door.websocket(browser.environ, "10.1.1.1", desk.may_begin)
    for _ in range(MAX_WAITING_PER_RUN):
        desk.runtime.spawn(lambda: desk.do("hold", seconds=9))
    desk.runtime.run()
    refused = desk.door.websocket(browser.environ, "10.1.1.1", desk.may_begin)
    assert refused is not None
    assert refused.status == 503
    assert [each["status"] for each in desk.seen()["handshakes"]] == [501, 503]
    browser.sock.close()
    browser.served.close()


def test_few_handshakes_are_remembered(desk: Desk) -> None:
    for _ in range(MAX_HANDSHAKES + 1):
        desk.websocket()
    assert len(desk.seen()["handshakes"]) == MAX_HANDSHAKES


def test_a_websocket_without_a_run_is_refused(desk: Desk) -> None:
    assert desk.websocket("") == (400, "a run has a name")
    desk.open = False
    assert desk.websocket() == (403, "not allowed")


def test_proxies_that_are_not_ours_are_seen() -> None:
    desk = Desk(trusted_proxies=1)
    environ = {"HTTP_VIA": "1.1 box", "HTTP_X_FORWARDED_FOR": "10.0.0.1, , 10.0.0.2 ,10.0.0.3"}
    assert desk.seen(**environ)["proxies"] == {"x-forwarded-for": ["10.0.0.1", "10.0.0.2"]}
    long = desk.seen(HTTP_VIA=",".join(["x" * 200] * 50))["proxies"]["via"]
    assert [len(each) for each in long] == [100] * 8


def test_nothing_is_told_of_other_runs(desk: Desk) -> None:
    desk.websocket()
    other = desk.facts("seen", run="another-run-of-the-tests")["seen"]
    assert other["handshakes"] == []


# -- runs -------------------------------------------------------------------------------


def test_names_of_runs() -> None:
    assert valid_name("abcdefghijklmno-_9")
    for name in ("x" * 15, "x" * 65, "x" * 16 + "\n", "ä" * 20, None, 5):
        assert not valid_name(name)


def test_a_run_is_forgotten() -> None:
    now = 0.0
    runs = Runs(lambda: now)
    run = runs.begin("one", "here")
    assert runs.begin("one", "here") is run
    now = LIFETIME - 1
    assert runs.find("one") is run
    now = LIFETIME
    assert runs.find("one") is None
    assert len(runs) == 0


def test_an_address_has_so_many_runs_and_all_have() -> None:
    runs = Runs(lambda: 0.0)
    for number in range(MAX_RUNS_PER_ADDRESS + 1):
        runs.begin(f"run {number}", "one address")
    assert len(runs) == MAX_RUNS_PER_ADDRESS
    assert runs.find("run 0") is None
    for number in range(MAX_RUNS - MAX_RUNS_PER_ADDRESS + 5):
        runs.begin(f"other {number}", f"address {number}")
    assert len(runs) == MAX_RUNS
    # Room was made by those who had the most.
    assert runs.find("other 0") is not None
