"""`websocket`: what comes on a WebSocket, and how what a server says is framed. No sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Protocol, Side
from websockets.utils import apply_mask

from fallback_transport.application import Unit
from fallback_transport.conversation import Conversation
from fallback_transport.handshake import handshake
from fallback_transport.protocol.codec import decode, decode_binary, encode
from fallback_transport.protocol.envelope import End, Envelope, Grant, Hello, Welcome
from fallback_transport.protocol.message import Message
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.registry import Capacity, Registry
from fallback_transport.websocket import (
    MAX_EARLY_PINGS,
    MAX_FRAGMENTS,
    MAX_PINGS,
    WebSocketConnection,
    _header,
)
from tests.fakes import FakeRuntime
from tests.test_handshake import ENVIRON

TEXT, BINARY, CONT, PING = Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING
HELLO = encode(Hello(1, nonce="nonce", envelope=Envelope(0, 0, 1, (Message("0"),))))


class Layer:
    """A layer above that notes what it handles."""

    def __init__(self, conversation: Conversation) -> None:
        self.log: list[str | bytes] = []

    def unit(self, seq: int, data: str | bytes) -> Unit:
        return Unit((seq,), self.log.append, (data,))

    def resumed(self, environ: dict[str, Any]) -> None:
        pass

    def over(self, code: int, reason: str, by_client: bool, gone: Callable[[], None]) -> None:
        gone()


class Line:
    """A WebSocket, from the browser's side."""

    def __init__(self, *, greeted: bool = True, grant: Grant = Grant()) -> None:  # noqa: B008
        self.runtime = FakeRuntime()
        self.layers: list[Layer] = []
        self.registry = Registry(
            self.runtime, self._layer, grant=grant, bounds=Bounds(), capacity=Capacity()
        )
        self.closings = self.woken = 0
        self.connection = WebSocketConnection(
            self.registry,
            lambda hello: {},
            "",
            self,
            address="10.0.0.1",
        )
        self._framing = Protocol(Side.CLIENT)
        self.connection.receive(handshake(ENVIRON))
        head, _, rest = b"".join(self.connection.data_to_send()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"\r\nSec-WebSocket-Protocol: fallback.v1" in head
        assert rest == b""
        if greeted:
            self.say(HELLO)
            [welcome] = self.heard()
            assert isinstance(welcome, Welcome)
            self.welcome = welcome
            self.say("a0 c1")

    def _layer(self, conversation: Conversation) -> Layer:
        self.layers.append(Layer(conversation))
        return self.layers[-1]

    # -- as its driver --

    def flush(self) -> None:
        pass

    def wake(self) -> None:
        self.woken += 1

    def closing(self) -> None:
        self.closings += 1

    # -- what a test does --

    def send(self, *frames: tuple[Opcode, bytes, bool]) -> None:
        """Frames, each with whether it is the last of its message; then every task runs."""
        data = [Frame(opcode, data, fin).serialize(mask=True) for opcode, data, fin in frames]
        self.connection.receive(b"".join(data))
        self.runtime.run()

    def say(self, text: str) -> None:
        self.send((TEXT, text.encode(), True))

    def heard(self) -> list[Any]:
        """What has come: units, the data of pongs, and the code of a close."""
        while data := b"".join(self.connection.data_to_send()):
            self._framing.receive_data(data)
        found: list[Any] = []
        for frame in self._framing.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode is TEXT:
                found.append(decode(bytes(frame.data).decode()))
            elif frame.opcode is BINARY:
                found.append(decode_binary(bytes(frame.data)))
            elif frame.opcode is Opcode.CLOSE:
                found.append(Close.parse(frame.data).code)
            else:
                found.append(bytes(frame.data))
        return found


@pytest.mark.parametrize("greeted", [True, False])
def test_the_log_says_whose_it_is_that_breaks_a_rule(
    greeted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    # No text of ours, no UTF-8, and no frame.
    broken = (b"\x81\x85\0\0\0\0what?", b"\x81\x81\0\0\0\0\xff", b"\x83\x80\0\0\0\0")
    for frame in broken:
        line = Line(greeted=greeted)
        line.connection.receive(frame)
        whose = f"of session {line.welcome.id}" if greeted else "from 10.0.0.1"
        [told] = caplog.messages
        assert told.startswith("WebSocket: ")
        assert told.endswith(f", {whose}")
        caplog.clear()


def test_a_message_may_come_in_fragments_with_a_ping_amid() -> None:
    line = Line()
    line.send((TEXT, b"a0 s2\x1emo", False), (PING, b"there?", True), (CONT, b"n", False))
    assert line.layers[0].log == ["0"]
    assert line.heard() == [b"there?"]
    line.send((CONT, b"", False), (CONT, b"e", True), (TEXT, b"a0 s3\x1emtwo", True))
    assert line.layers[0].log == ["0", "one", "two"]


def test_a_message_has_so_many_fragments_at_most() -> None:
    line = Line()
    fragments = [(CONT, b"", False)] * (MAX_FRAGMENTS - 2)
    line.send((TEXT, b"a0 s2\x1emone", False), *fragments, (CONT, b"", True))
    assert line.layers[0].log == ["0", "one"]
    line.send((TEXT, b"a0 s3\x1emtwo", False), *fragments, (CONT, b"", False), (CONT, b"", True))
    assert line.heard()[-1] == 1009
    assert line.layers[0].log == ["0", "one"]


@pytest.mark.parametrize(
    ("greeted", "opcode", "data", "code"),
    [
        (True, TEXT, b"\xff", 1007),
        (True, TEXT, b"nonsense", 4400),
        (True, BINARY, b"nonsense", 4400),
        (True, TEXT, HELLO.encode(), 4400),
        (True, TEXT, b"a0 s9\x1emgap", 1002),
        (False, TEXT, b"a0 c1", 4400),
        (False, TEXT, b"nonsense", 4400),
    ],
)
def test_what_breaks_a_rule_ends_the_connection_alone(
    greeted: bool, opcode: Opcode, data: bytes, code: int
) -> None:
    line = Line(greeted=greeted)
    line.send((opcode, data, True), (TEXT, b"a0 s2\x1emlate", True))
    assert line.heard()[-1] == code
    assert line.connection.finished
    assert line.closings == 1
    assert len(line.registry) == greeted
    assert [layer.log for layer in line.layers] == [["0"]] * greeted


def test_messages_go_down_as_texts_and_as_bytes() -> None:
    line = Line()
    conversation = line.registry.find(line.welcome.id)
    assert conversation is not None
    sent = [Message("one"), Message(b"\x00\xff"), Message("two")]
    conversation.send(sent)
    found = [message for unit in line.heard() for message in unit.messages]
    assert found == sent
    conversation.send([Message("three")])
    assert [list(unit.messages) for unit in line.heard()] == [[Message("three")]]
    assert line.heard() == []


def test_what_only_the_session_has_to_say_waits_for_nobody_who_reads() -> None:
    line = Line()
    conversation = line.registry.find(line.welcome.id)
    assert conversation is not None
    conversation.send([Message("a")])
    line.heard()
    conversation.send([Message("b")])
    # Whoever reads just now has it for the framing, of which nothing is asked here.
    lock, line.connection._lock = line.connection._lock, None
    data = b"".join(line.connection.data_to_send())
    line.connection._lock = lock
    assert data.endswith(b"\x1emb")


def test_whole_messages_are_not_taken_to_the_framing() -> None:
    line = Line()
    line.heard()
    # Nor is its lock, which whoever writes may have.
    lock, line.connection._lock = line.connection._lock, None
    for seq in (2, 3):
        line.send((TEXT, b"a0 s%d\x1emone" % seq, True), (TEXT, b"a0", True))
    line.connection._lock = lock
    assert line.layers[0].log == ["0", "one", "one"]


@pytest.mark.parametrize("size", [20, 125, 126, 65535, 65536])
def test_behind_a_message_that_came_cut_whole_ones_are_taken_so_again(size: int) -> None:
    line = Line()
    text = b"a0 s2\x1em".ljust(size, b"x")
    frame = Frame(TEXT, text).serialize(mask=True)
    line.heard()
    line.connection.receive(frame[:7])
    line.connection.receive(frame[7:])
    line.connection._lock = None
    line.send((TEXT, b"a0 s3\x1emwhole", True))
    assert line.layers[0].log == ["0", text[7:].decode(), "whole"]


def test_a_connection_that_is_dropped_says_why_and_once() -> None:
    line = Line()
    for code in (4409, 4408):
        woken = line.woken
        line.connection.drop(code, "why")
        assert line.woken > woken
    assert line.heard() == [4409]
    assert line.connection.finished
    assert not line.connection.in_vain
    assert line.closings == 1
    silent = Line()
    silent.connection.drop(4408, "silent")
    assert silent.connection.in_vain


def test_the_end_of_a_session_is_the_last_text() -> None:
    line = Line()
    conversation = line.registry.find(line.welcome.id)
    assert conversation is not None
    conversation.abort(4005, "enough")
    assert line.heard() == [End(4005, "enough", True, 1, 1), 1000]


def test_a_session_that_ends_before_its_welcome_says_just_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = Line(greeted=False)
    greet = line.registry.greet
    said: list[bytes] = []

    def ended_meanwhile(*args: Any) -> Any:
        conversation, answer = greet(*args)
        assert conversation is not None
        conversation.abort(4001, "enough")
        # The thread that writes is quicker than the one that reads.
        said.extend(line.connection.data_to_send())
        return conversation, answer

    monkeypatch.setattr(line.registry, "greet", ended_meanwhile)
    line.say(HELLO)
    assert b"4001" in b"".join(said)
    assert line.connection.data_to_send() == []
    assert line.connection.finished


def test_few_pings_may_come_before_the_hello() -> None:
    line = Line(greeted=False)
    line.send(*[(PING, b"", True)] * MAX_EARLY_PINGS)
    assert line.heard() == [b""] * MAX_EARLY_PINGS
    assert line.closings == 0
    late = Line(greeted=False)
    late.send(*[(PING, b"", True)] * (MAX_EARLY_PINGS + 1))
    assert late.heard()[-1] == 4429


def test_who_does_not_read_the_pongs_is_not_read() -> None:
    line = Line()
    line.send(*[(PING, b"", True)] * MAX_PINGS)
    assert not line.connection.behind
    line.send((PING, b"", True))
    assert line.connection.behind
    assert line.heard() == [b""] * (MAX_PINGS + 1)
    assert not line.connection.behind


def test_pings_that_are_counted_while_their_pongs_go_hold_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever reads has them counted only when another thread has looked for what to write."""
    line = Line()
    line.heard()
    connection, asked, counted = line.connection, threading.Event(), threading.Event()
    control, pull = WebSocketConnection._control, Conversation.pull
    writer = threading.Thread(target=connection.data_to_send)

    def count(self: WebSocketConnection, frame: Frame) -> None:
        if not asked.is_set():
            writer.start()
            assert asked.wait(10)
        control(self, frame)

    def ask(self: Conversation, attempt: int) -> Any:
        asked.set()
        assert counted.wait(10)
        return pull(self, attempt)

    def wake() -> None:
        counted.set()
        writer.join()

    line.send((PING, b"", True))
    with monkeypatch.context() as patch:
        patch.setattr(WebSocketConnection, "_control", count)
        patch.setattr(Conversation, "pull", ask)
        patch.setattr(line, "wake", wake)
        line.send(*[(PING, b"", True)] * (MAX_PINGS + 1))
    assert connection.behind
    # As who wakes does.
    connection.data_to_send()
    assert not connection.behind


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_length_is_stated_in_as_few_bytes_as_it_needs(opcode: Opcode, size: int) -> None:
    data = b"x" * size
    assert _header(opcode, size) + data == Frame(opcode, data).serialize(mask=False)


def _frame(
    first: int,
    data: bytes,
    *,
    length: bytes | None = None,
    masked: bool = True,
    mask: bytes = b"\1\2\3\4",
) -> bytes:
    """A client's frame, whose first byte and length need not be those that it should have."""
    size = len(data)
    short = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    said = length or short
    if not masked:
        return bytes([first]) + said + data
    said = bytes([0x80 | said[0]]) + said[1:]
    return bytes([first]) + said + mask + apply_mask(data, mask)


def _text(seq: int, first: int = 0x81, **more: Any) -> bytes:
    return _frame(first, b"a0 s%d\x1emmessage %d" % (seq, seq), **more)


@pytest.mark.parametrize(
    "frames",
    [
        (_text(2), _text(3), _frame(0x82, b"a0 s4\x1ebytes"), _text(5)),
        (_frame(0x81, b"a0 s2\x1em" + b"x" * 300), _text(3)),
        # What looks like a frame, amid one.
        (_frame(0x82, b"a0 s2\x1e" + _text(3), mask=bytes(4)), _text(3)),
        (_text(2), _frame(0x89, b"ping"), _text(3), _frame(0x8A, b""), _text(4)),
        (_text(2), _frame(0x01, b"a0 s3\x1emo"), _frame(0x80, b"ne"), _text(4), _text(5)),
        # What breaks a rule, between what does not.
        (_text(2), _frame(0x01, b"a0 s3\x1emo"), _text(3), _text(4)),
        (_text(2), _frame(0x80, b"more"), _text(3)),
        (_text(2), _text(3, masked=False), _text(4)),
        (_text(2), _text(3, first=0xC1), _text(4)),
        (_text(2), _text(3, first=0x91), _text(4)),
        (_text(2), _text(3, first=0x83), _text(4)),
        (_text(2), _frame(0x81, b"\xff"), _text(3)),
        (_text(2), _frame(0x81, b""), _text(3)),
        (_text(2), _frame(0x88, b"\x03\xe8"), _text(3)),
        (_text(2), _frame(0x88, b"\x03"), _text(3)),
        # A length in more bytes than it needs, and more than is taken.
        (_text(2), _text(3, length=b"\x7e\x00\x10"), _text(4), _text(5)),
        (_text(2), _text(3, length=b"\x7f" + (16).to_bytes(8, "big")), _text(4), _text(5)),
        (_text(2), _frame(0x81, b"x" * 30_001), _text(3)),
        (_text(2), _frame(0x81, b"", length=b"\x7f" + (1 << 20).to_bytes(8, "big")), _text(3)),
    ],
)
def test_however_a_stream_is_cut_it_is_taken_alike(frames: tuple[bytes, ...]) -> None:
    def taken(*pieces: bytes) -> tuple[Any, ...]:
        line = Line(grant=Grant(body=30_000))
        line.heard()
        found: list[Any] = []
        for piece in pieces:
            line.connection.receive(piece)
            line.runtime.run()
            # Where the marks are stated differs with the pieces; all else does not.
            found += [each for each in line.heard() if not isinstance(each, Envelope)]
        return line.layers[0].log, found

    stream = b"".join(frames)
    # None of these is ever whole.
    expected = taken(*[bytes([each]) for each in stream])
    assert taken(stream) == taken(*frames) == expected
    for at in range(1, min(len(stream), 100)):
        assert taken(stream[:at], stream[at:]) == expected
