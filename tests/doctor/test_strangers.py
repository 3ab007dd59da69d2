"""The doctor in a terminal, where whatever answers is none of ours, and never comes to an end."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from fallback_transport.doctor import client as websocket_client
from fallback_transport.doctor import websocket
from fallback_transport.doctor.client import WebSocketClient
from fallback_transport.doctor.examination import Examination
from fallback_transport.doctor.exchange import MAX_ANSWER, Failed
from fallback_transport.doctor.route import Route
from fallback_transport.doctor.websocket import WebSocketExamination

#: Seconds for a request here, and in which what is to end has ended, on a busy machine.
PATIENCE, SOON = 0.5, 10.0
OK = b"HTTP/1.1 200 OK\r\n"


@contextlib.contextmanager
def stranger(begin: bytes, then: bytes, pause: float) -> Iterator[Route]:
    """What answers a request by `begin`, and goes on with `then` while somebody listens."""

    def answer() -> None:
        sock, _ = listener.accept()
        with sock, contextlib.suppress(OSError):
            sock.recv(65536)
            sock.sendall(begin)
            while then:
                sock.sendall(then)
                time.sleep(pause)
            # Closed with a part of the request unread, it would be a reset, and no answer.
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        yield Route(f"http://127.0.0.1:{listener.getsockname()[1]}/fallback")
        thread.join()


@pytest.mark.parametrize(
    ("begin", "then", "pause"),
    [(OK + b"X-Long: ", b"x", 0.1), (OK + b"\r\n", b"x", 0.1), (OK + b"\r\n", b"{}\n.", 0.05)],
    ids=["of a header", "of a body", "of a body that is one of the doctor's each time"],
)
def test_what_comes_piece_by_piece_has_no_more_time(
    begin: bytes, then: bytes, pause: float
) -> None:
    with stranger(begin, then, pause) as route:
        began = time.monotonic()
        with pytest.raises(Failed, match="no answer") as failed:
            Examination(route, 1.0)._ask({"do": "begin"}, PATIENCE)
        assert failed.value.late
        assert time.monotonic() - began < SOON


def test_an_answer_without_end_is_none() -> None:
    with stranger(OK + b"\r\n", b"x" * 100_000, 0) as route, pytest.raises(Failed) as failed:
        Examination(route, 1.0)._ask({"do": "begin"}, SOON)
    assert failed.value.foreign is not None


@pytest.mark.parametrize("what", ["echo", "serial"])
def test_the_answer_to_another_request_is_none(what: str) -> None:
    """As a cache gives it that goes by the address alone."""
    with (
        stranger(OK + b'\r\n{"number":9,"library":"","body":1,"time":1}\n.', b"", 0) as route,
        pytest.raises(Failed, match="the answer to another request") as failed,
    ):
        Examination(route, 1.0)._ask({"do": what}, SOON, numbered=what == "echo")
    assert failed.value.foreign is failed.value.refused is None


def no_whole_answer(serve: Callable[[socket.socket], None]) -> Failed:
    """What the examination says where `serve` has the one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as sock:
                serve(sock)

        thread = threading.Thread(target=answer)
        thread.start()
        route = Route(f"http://127.0.0.1:{listener.getsockname()[1]}/fallback")
        with pytest.raises(Failed, match="no whole answer") as failed:
            Examination(route, 1.0)._ask({"do": "begin"}, SOON)
        thread.join()
    return failed.value


@pytest.mark.parametrize("begin", [b"", b"{", b'{"number":1}\n'])
def test_what_is_cut_is_no_whole_answer_and_no_strangers(begin: bytes) -> None:
    def cut(sock: socket.socket) -> None:
        asked = b""
        while not asked.endswith(b'"begin"}\n'):
            asked += sock.recv(65536)
        sock.sendall(OK + b"Content-Length: 100\r\n\r\n" + begin)

    assert no_whole_answer(cut).foreign is None


def test_a_reset_is_no_whole_answer() -> None:
    def reset(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.recv(1)

    assert not no_whole_answer(reset).away


@pytest.mark.parametrize(
    ("status", "said", "error"),
    [
        # What was begun with this status: an answer in pieces.
        ("200 OK", b'{"error":"too many wait"}\n.', "too many wait"),
        ("503 Busy", b"{}\n.", ""),
        ("200 OK", b"[1]\n.", None),
        ("200 OK", b'{"number":1}\n', None),
        ("200 OK", b"x" * 2 * MAX_ANSWER, None),
    ],
)
def test_a_refusal_is_the_doctors_by_its_form(status: str, said: bytes, error: str | None) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(said)}\r\nLocation: /login\r\n\r\n"
    with stranger(head.encode() + said, b"", 0) as route, pytest.raises(Failed) as failed:
        Examination(route, 1.0)._ask({"do": "begin"}, SOON)
    number = int(status[:3])
    where = failed.value.headers.get("Location")
    found = (failed.value.status, failed.value.refused, failed.value.foreign, where)
    if error is not None:
        assert found == (number, {"status": number, "error": error}, None, None)
    else:
        assert found == (number, None, {"status": number, "type": "text/plain"}, "/login")


def test_what_cannot_be_unpacked_is_no_answer() -> None:
    head = OK + b"Content-Encoding: br\r\nContent-Length: 4\r\n\r\n"
    with stranger(head + b"{}\n.", b"", 0) as route, pytest.raises(Failed, match="encoding"):
        Examination(route, 1.0)._ask({"do": "begin"}, SOON)


def test_a_little_that_unpacks_to_much_is_no_answer() -> None:
    bomb = gzip.compress(b"0" * 50 * MAX_ANSWER)
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    tracemalloc.start()
    try:
        with stranger(head + bomb, b"", 0) as route, pytest.raises(Failed, match="encoding"):
            Examination(route, 1.0)._ask({"do": "begin"}, SOON)
        assert tracemalloc.get_traced_memory()[1] < 10 * MAX_ANSWER
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("status", "said", "ours"),
    [
        ("200 OK", b'{"number":1}\n.', True),
        ("503 Busy", b'{"error":"too many wait"}\n.', True),
        ("502 Bad Gateway", b"<html>", False),
        ("200 OK", b"<html>Log in", False),
    ],
)
def test_only_a_doctors_answer_tells_that_answers_are_compressed(
    status: str, said: bytes, ours: bool
) -> None:
    """Others compress what they say themselves."""
    body = gzip.compress(said)
    head = f"HTTP/1.1 {status}\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    with stranger(head.encode() + body, b"", 0) as route, contextlib.suppress(Failed):
        examination = Examination(route, 1.0)
        examination._ask({"do": "begin"}, SOON)
    assert examination._polling["encoded"] is ours


def test_json_that_is_too_deep_is_no_answer() -> None:
    deep = b"[" * 100_000 + b"\n."
    with (
        stranger(OK + b"Content-Length: %d\r\n\r\n" % len(deep) + deep, b"", 0) as route,
        pytest.raises(Failed) as failed,
    ):
        Examination(route, 1.0)._ask({"do": "begin"}, SOON)
    assert failed.value.foreign is not None


@pytest.mark.parametrize("frame", [b"\x81\x01x", b"\x89\x00"], ids=["messages", "pings"])
def test_a_websocket_on_which_something_always_comes_has_no_more_time(
    frame: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "PATIENCE", PATIENCE)
    monkeypatch.setattr(websocket, "SLOWEST", 1_000_000)
    # Or to take apart what comes while the proof is sent takes a third of that patience.
    monkeypatch.setattr(websocket_client, "READ_BYTES", 300)
    ours, theirs = socket.socketpair()
    client = WebSocketClient(ours, "ws://host.test/", "http://host.test", {})
    with contextlib.closing(client), theirs:
        # As after the handshake.
        client._framing.state = client._framing.state.OPEN
        client._framing.parser = client._framing.parse()
        next(client._framing.parser)

        def flood() -> None:
            with contextlib.suppress(OSError):
                for _ in itertools.count():
                    theirs.sendall(frame * 1000)

        # Whenever the thread gets to run, the first are there.
        theirs.sendall(frame * 1000)
        thread = threading.Thread(target=flood)
        thread.start()
        route = Route("http://host.test")
        examination = WebSocketExamination(route, "run", 1.0, {}, lambda check, result: None)
        seen: dict[str, list[int]] = {"up": [], "down": []}
        began = time.monotonic()
        examination._prove(client, seen)
        assert time.monotonic() - began < SOON
        assert seen["up"] == []
        assert seen["down"] == ([1, 1, 1] if frame[0] == 0x81 else [])
        theirs.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_cookie_that_no_header_may_hold_is_not_sent_back() -> None:
    """Else the examination of WebSocket would fail of it, and there would seem to be none."""
    given = {"Accept-Language": "en", "cookie": "login=1"}
    examination = Examination(Route("http://host.test"), 1.0, given)
    examination._keep(["a=b\r\n c=d; Path=/", "e=\x01", " ", "where=s\xfcd 1 ; Path=/", "f\x85=g"])
    kept = {"Accept-Language": "en", "cookie": "login=1; where=s\xfcd 1"}
    assert examination._headers == kept
    ours, theirs = socket.socketpair()
    with theirs:
        WebSocketClient(ours, "ws://host.test/", "http://host.test", examination._headers).close()
