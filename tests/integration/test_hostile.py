"""Bad input over raw sockets: each gets its documented end, one line in the log, and no more.

The tables say what is sent and how it must end, in the words of `over_http`
and `over_websocket`. While a server of each async mode goes through all of
it, a bystander on a WebSocket echoes without a pause.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import secrets
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from fallback_transport.protocol.envelope import Envelope, Grant
from fallback_transport.protocol.events import SessionClosed, Transport
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.protocol.server import UNCOMMITTED_WAIT, ServerMachine
from tests.client.waiting import eventually

from .outcomes import UNNOTICED, Bystander, over_http, over_websocket
from .raw import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    SEPARATOR,
    TEXT,
    Closed,
    Session,
    WebSocket,
    Wire,
    ask,
    connect_packet,
    frame,
    handshake,
    hello,
    poll,
    request,
)
from .served import MODES, OVER_WSGI, Served

#: A session's id.
ID = r"[0-9a-f]{12}\.[\w-]{16}"
FRIEND = "http://friend.test"
#: Of the host that requests state.
OWN = "http://server.test"
POST = b"POST /fallback/poll HTTP/1.1\r\nHost: server.test\r\n"
LENGTH = b"Content-Length: 100\r\n\r\nabc"
SERVERS = [
    pytest.param(mode, marks=[pytest.mark.requires("gevent")] if mode == "gevent" else [])
    for mode in MODES
]
#: Where greenlets serve, of which one could keep the others from running.
GREEN = [*SERVERS[:2], OVER_WSGI]
#: A request to nobody, whose body is read all the same, to come to the next request.
CHUNKED = b"POST /nothing HTTP/1.1\r\nHost: server.test\r\nTransfer-Encoding: chunked\r\n\r\n"
#: Characters of a part.
PIECE = 900_000


class Arena:
    """A server, its bystander, and what the case of just now has opened."""

    def __init__(self, server: Served) -> None:
        self.server = server
        self.port = server.port
        self.bystander = Bystander(server.port)
        self.sessions: list[Session] = []
        self._open: list[Wire] = []
        self._logged = 0
        self._old: set[str] = set()
        #: Open through all cases: a WebSocket without a hello, and requests without an end.
        self.silent = WebSocket(server.port)
        self.half_open = [Wire(server.port) for _ in range(4)]
        for wire, data in zip(
            self.half_open, (b"", b"POST /fallb", POST, POST + LENGTH), strict=True
        ):
            wire.send(data)

    def close(self) -> None:
        self.tidy()
        self.bystander.close()
        for wire in (self.silent, *self.half_open):
            wire.close()

    def wire(self, **options: Any) -> Wire:
        """A connection that is closed after the case."""
        self._open.append(Wire(self.port, **options))
        return self._open[-1]

    def websocket(self, headers: dict[str, str] | None = None, **options: Any) -> WebSocket:
        """A WebSocket that is closed after the case."""
        websocket = WebSocket(self.port, headers, **options)
        self._open.append(websocket)
        return websocket

    def session(self, transport: str = "websocket", **options: Any) -> Session:
        """A session whose handlers are looked at after the case."""
        session = Session(self.port, transport, **options)
        self.sessions.append(session)
        if session.ws is not None:
            self._open.append(session.ws)
        return session

    def begin(self) -> None:
        """From here on the log is the case's."""
        log = self.server.log()
        self._logged = len(log)
        self._old.update(re.findall(ID, log))

    def lines(self, least: int) -> list[str]:
        """What was logged, but for other cases' sessions; waits for so many lines."""
        until = time.monotonic() + 5
        while len(self._lines()) < least and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(0.01)
        return self._lines()

    def _lines(self) -> list[str]:
        log = self.server.log()
        assert "Traceback" not in log, log[self._logged :]
        lines = [line for line in log[self._logged :].split("\n") if line]
        # What is logged of former cases' sessions, or when one has waited in vain, is not ours.
        lines = [line for line in lines if " 4408 " not in line]
        return [line for line in lines if not self._old & set(re.findall(ID, line))]

    def check_handlers(self) -> None:
        """No handler ran twice for one message."""
        for session in self.sessions:
            seen = self.server.seen(session.id)
            kinds = [event[0] for event in seen]
            assert kinds.count("connect") == 1, seen
            assert kinds.count("disconnect") <= 1, seen
            counted = [json.dumps(event[1]) for event in seen if event[0] == "count"]
            assert len(set(counted)) == len(counted), seen

    def tidy(self) -> None:
        """Close what the case has opened."""
        for wire in self._open:
            wire.close()
        self._open.clear()
        self._old.update(session.id for session in self.sessions)
        self.sessions.clear()


@pytest.fixture(scope="module", params=SERVERS)
def arena(request: pytest.FixtureRequest) -> Iterator[Arena]:
    with Served(request.param, origins=[FRIEND]) as server:
        arena = Arena(server)
        yield arena
        arena.close()


@dataclass(frozen=True)
class Case:
    """What is done, how it must end, and how many lines it is worth in the log."""

    name: str
    act: Callable[[Arena], str]
    want: str
    lines: int = 1


def case(name: str, want: str, lines: int = 1) -> Callable[[Callable[[Arena], str]], None]:
    """A case that is a function of its own."""

    def add(act: Callable[[Arena], str]) -> None:
        CASES.append(Case(name, act, want, lines))

    return add


CASES: list[Case] = []


def both(name: str, websocket: str, polling: str, head: str, *segments: str) -> None:
    """An envelope on a session, on either transport; afterwards the session is as it was."""

    def on_websocket(arena: Arena) -> str:
        session = arena.session()
        session.socket.text(SEPARATOR.join([head, *segments]))
        return over_websocket(session.socket)

    def on_polling(arena: Arena) -> str:
        session = arena.session("polling")
        # `head` comes last, or what is no head would not be looked at.
        line = session.line("").replace("  ", " ") + " " + head
        return over_http(poll(arena.port, SEPARATOR.join([line, *segments])))

    CASES.append(Case(f"{name}, on a WebSocket", on_websocket, websocket))
    CASES.append(Case(f"{name}, polled", on_polling, polling))


def first(name: str, websocket: str, polling: str, text: str | bytes) -> None:
    """The first text of a connection, on either transport."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text

    def on_websocket(arena: Arena) -> str:
        websocket = arena.websocket()
        websocket.text(data)
        return over_websocket(websocket, ask=False)

    CASES.append(Case(f"{name}, on a WebSocket", on_websocket, websocket))
    # The same nonce would be the same session.
    own = b'"nonce": "' + secrets.token_urlsafe(16).encode() + b'"'
    body = re.sub(rb'"nonce": "[\w-]{22}"', own, data) + b"\x1e."
    CASES.append(Case(f"{name}, polled", lambda a: over_http(poll(a.port, body)), polling))


# -- envelopes -------------------------------------------------------------------------

MALFORMED = "4400", "400 4400"
GAP = "1002", "400 1002"
FATAL = "1002 session", "200 1002 session"
PACKET = "4400 session", "200 4400 session"

for name, head in {
    "no ack": "q1",
    "an ack without its number": "a",
    "a negative ack": "a-1",
    "an ack with a sign": "a+1",
    "an ack with a leading zero": "a00",
    "an ack with a fraction": "a0.0",
    "an ack with an exponent": "a1e0",
    "an ack in hexadecimal": "a0x0",
    "an ack in Arabic digits": "a\u0660",
    "an ack with a superscript": "a\u00b2",
    "an ack of 16 digits": "a1000000000000000",
    "an ack of 4000 digits": "a" + "9" * 4000,
    "an ack with an underscore": "a0_0",
    "an ack with a line feed": "a0\n",
    "two spaces": "a0  q1",
    "a tab": "a0\tq1",
    "a space at the end": "a0 ",
    "an unknown token": "a0 z1",
    "a capital": "A0",
    "a token twice": "a0 a0",
    "a head of 5000 characters": "a0 q" + "1" * 5000,
    "NUL in the head": "a0\0",
    "a head in Cyrillic": "\u0430" + "0",
    "received below handled": "a1 r0",
    "a number without messages": "a0 s2",
    "a commit that is no number": "a0 cx",
    "JSON without braces": '"a"',
    "an array": "[1]",
    "a page": "<!doctype html><title>Sign in</title>",
}.items():
    both(name, *MALFORMED, head)

for name, segments in {
    "a segment without a kind": [""],
    "a segment of unknown kind": ["x"],
    "a kind of four bytes": ["\U0001f600"],
    "base64 of a wrong alphabet": ["b_-_-"],
    "base64 without its padding": ["bAAA"],
    "base64 with surplus padding": ["bAA======"],
    "base64 with line feeds": ["bAAAA\nAAA"],
    "base64 not in ASCII": ["b\u0410\u0410\u0410\u0410"],
    "an escaped text that is no JSON": ['e"'],
    "an escaped text that is a number": ["e1"],
    "an escaped text of 100,000 brackets": ["e" + "[" * 100_000],
    "an escaped lone surrogate": ['e"\\ud800"'],
    "an escaped number of 5000 digits": ["e" + "9" * 5000],
    "a close that is no JSON": ["c"],
    "a close that is an object": ["c{}"],
    "a close without a reason": ["c[1000]"],
    "a close with more": ['c[1000,"",1]'],
    "a close with a text for code": ['c["1000",""]'],
    "a close with true for code": ['c[true,""]'],
    "a close with a fraction": ['c[1000.0,""]'],
    "a close with NaN": ['c[NaN,""]'],
    "a close with a code of 5000 digits": [f'c[{"9" * 5000},""]'],
    "a close with code 0": ['c[0,""]'],
    "a close with a negative code": ['c[-1000,""]'],
    "a close with code 1005 and a reason": ['c[1005,"x"]'],
    "a close with code 1006": ['c[1006,""]'],
    "a close with code 1015": ['c[1015,""]'],
    "a close with code 2999": ['c[2999,""]'],
    "a close with code 5000": ['c[5000,""]'],
    "a close with a list for reason": ["c[1000,[]]"],
    "a close with a reason of 124 bytes": [f'c[1000,"{"x" * 124}"]'],
    "a close with a surrogate for reason": ['c[1000,"\\udfff"]'],
    "more messages than an envelope has": ["m"] * 4097,
}.items():
    both(name, *MALFORMED, "a0 s2", *segments)

both("a message without its number", *MALFORMED, "a0", "m")
both("a message number 0", *MALFORMED, "a0 s0", "m")
both("a negative message number", *MALFORMED, "a0 s-2", "m")
both("a gap", *GAP, "a0 s3", 'm2["count",1]')
both("a huge gap", *GAP, "a0 s999999999999999", 'm2["count",1]')
both("an ack beyond what was sent", *FATAL, "a2")
both("a huge ack", *FATAL, "a999999999999999")
both("received beyond what was sent", *FATAL, "a0 r2")

# -- Socket.IO packets -----------------------------------------------------------------

DEEP = "[" * 100_000
for name, messages in {
    "an empty packet": ["m"],
    "a packet of unknown type": ["m9"],
    "a packet of type 8": ["m8"],
    "a packet that begins with a letter": ["mx"],
    "a packet that begins with a superscript": ["m\u00b2"],
    "NUL for a packet": ["m\0"],
    "CONNECT twice": ["m0"],
    "CONNECT_ERROR from a client": ["m4{}"],
    "an EVENT without data": ["m2"],
    "an EVENT with an object": ["m2{}"],
    "an EVENT with a text": ['m2"echo"'],
    "an EVENT with a number": ["m21"],
    "an EVENT with null": ["m2null"],
    "an EVENT with an empty list": ["m2[]"],
    "an EVENT named by a number": ["m2[1]"],
    "an EVENT named by a list": ['m2[["echo"]]'],
    "an EVENT with cut JSON": ['m2["echo",'],
    "an EVENT with more behind its JSON": ['m2["count",1]x'],
    "an EVENT named connect": ['m2["connect"]'],
    "an EVENT named disconnect": ['m2["disconnect","x"]'],
    "an EVENT with an id of 101 digits": [f'm2{"9" * 101}["count",1]'],
    "an EVENT with 100,000 brackets": [f'm2["count",{DEEP}'],
    "an EVENT nested 100,000 deep": [f'm2["count",{DEEP}{"]" * 100_000}]'],
    "an EVENT nested 101 deep": ['m21["echo",' + "[" * 100 + "]" * 100 + "]"],
    "an EVENT nested 900 deep": ['m21["echo",' + '{"a":' * 900 + "1" + "}" * 900 + "]"],
    "an EVENT with an integer of 5000 digits": [f'm2["count",{"9" * 5000}]'],
    "an EVENT with an integer of 101 digits": [f'm2["count",{"9" * 101}]'],
    "an EVENT with NaN": ['m21["echo",NaN]'],
    "an EVENT with Infinity": ['m21["echo",[{"a":-Infinity}]]'],
    "an EVENT with a number beyond infinity": ['m21["echo",1e999]'],
    "an EVENT with a long number beyond infinity": [f'm21["echo",{"9" * 400}.0]'],
    "an EVENT in a namespace of 300 letters": [f'm2/{"n" * 300},["count",1]'],
    "an ACK without an id": ['m3["x"]'],
    "an ACK with an object": ["m31{}"],
    "an ACK without data": ["m31"],
    "an error reply without an id": ["m7{}"],
    "an error reply with a list": ["m71[]"],
    "an error reply that is none": ["m7x"],
    "an attachment alone": ["bAAAA"],
    "a text where an attachment is due": ['m51-["count",{"_placeholder":true,"num":0}]', "m2"],
    "10^9 attachments": ['m51000000000-["count",1]'],
    "10^12 attachments": ['m51000000000000-["count",1]'],
    "1001 attachments": ['m51001-["count",1]'],
    "attachments in superscript": ['m5\u00b2-["count",1]'],
    "a binary packet with cut JSON": ['m51-["count"', "bAAAA"],
    "a placeholder without attachments": ['m50-["count",{"_placeholder":true,"num":0}]'],
}.items():
    both(name, *PACKET, "a0 s2", *messages)

for number in ("1", "-1", "true", '"0"', "0.0", "null", "[]", "{}", "1e99", "9" * 50):
    packet = f'm51-["count",{{"_placeholder":true,"num":{number}}}]'
    both(f"a placeholder with num {number[:5]}", *PACKET, "a0 s2", packet, "bAAAA")

# -- hellos ----------------------------------------------------------------------------

for name, text in {
    "nothing": "",
    "cut JSON": '{"hello":1,',
    "an empty object": "{}",
    "100,000 brackets for a hello": '{"hello":' + "[" * 100_000,
    "4000 brackets for a hello": '{"hello":' + "[" * 4000,
    "a nested hello": '{"hello":' + "[" * 1500 + "]" * 1500 + "}",
    "a byte order mark": "\ufeff" + hello(),
    "NUL in a hello": hello().replace("{", "{\0", 1),
    "a lone surrogate in a hello": hello(head={"client": {"a": "\ud800"}}),
    "an envelope": "a0",
    "a welcome": '{"welcome":1,"id":"x","attempt":1,"grant":{}}',
    "a whole welcome": json.dumps(
        {
            "welcome": 1,
            "id": "x",
            "attempt": 1,
            "ack": 0,
            "received": 0,
            "grant": dict.fromkeys(
                ("messages", "bytes", "message", "body", "wait", "keepalive", "inactivity"), 1
            ),
        }
    ),
    "an end": '{"end":1000,"reason":"","session":true}',
    "an end with a message": '{"end":1000}\x1em',
    "a hello without its message": hello().split(SEPARATOR)[0],
    "a hello without its number": hello(without=("seq",)),
    "a hello with two messages": hello("m0", "m2"),
    "a hello with a malformed message": hello("x"),
    "an id without a key": hello(head={"id": "a"}),
    "a key without an id": hello(head={"key": "a"}),
    "an id that is a path": hello(head={"id": "../a", "key": "a"}),
    "an id not in ASCII": hello(head={"id": "\u00e9", "key": "a"}),
    "an id of 65 characters": hello(head={"id": "a" * 65, "key": "a"}),
    "an id of 8 kB": hello(head={"id": "a" * 8192, "key": "a"}),
    "a key of 8 kB": hello(head={"id": "a", "key": "a" * 8192}),
    "a key with a line feed": hello(head={"id": "a", "key": "a\n"}),
    "an id that is a number": hello(head={"id": 1, "key": "a"}),
    "a nonce of 8 kB": hello(head={"nonce": "a" * 8192}),
    "an empty nonce": hello(head={"nonce": ""}),
    "a nonce that is a list": hello(head={"nonce": ["a"]}),
    "an attempt in a text": hello(head={"attempt": "1"}),
    "a negative attempt": hello(head={"attempt": -1}),
    "a fractional attempt": hello(head={"attempt": 1.0}),
    "an attempt that is true": hello(head={"attempt": True}),
    "an attempt of 16 digits": hello(head={"attempt": 10**15}),
    "an attempt of 4000 digits": hello(head={"attempt": 0}).replace(
        ": 0,", ": " + "9" * 4000 + ","
    ),
    "an attempt that is NaN": hello(head={"attempt": float("nan")}),
    "an attempt that is infinite": hello(head={"attempt": float("inf")}),
    "no attempt": hello(without=("attempt",)),
    "a negative ack in a hello": hello(head={"ack": -1}),
    "an ack in a text in a hello": hello(head={"ack": "0"}),
    "a message number 0 in a hello": hello(head={"seq": 0}),
    "a message number that is null": hello(head={"seq": None}),
    "a client that is a list": hello(head={"client": []}),
    "a client of 17 facts": hello(head={"client": {str(n): "" for n in range(17)}}),
    "a client with a number": hello(head={"client": {"a": 1}}),
    "a client with a long fact": hello(head={"client": {"a": "x" * 257}}),
    "a client with a URL of 2049 characters": hello(head={"client": {"url": "/" + "x" * 2048}}),
    "a client with a whole URL": hello(head={"client": {"url": "http://host/chat"}}),
    "a client with a URL that has a line feed": hello(head={"client": {"url": "/chat\nX: y"}}),
    "a client with a URL that has a fragment": hello(head={"client": {"url": "/chat#x"}}),
    "a client with a URL not in ASCII": hello(head={"client": {"url": "/\u0430"}}),
    "a client with a URL of NULs": hello(head={"client": {"url": "/\0\0"}}),
    "a client with a subprotocol of spaces": hello(head={"client": {"protocols": "a b"}}),
    "a client with an empty subprotocol": hello(head={"client": {"protocols": "a,,b"}}),
    "a client with a header for subprotocol": hello(head={"client": {"protocols": "a\r\nX: y"}}),
    "a client with 1025 characters of subprotocols": hello(
        head={"client": {"protocols": "x" * 1025}}
    ),
    "a version that is true": hello(head={"hello": True}),
    "a version in a text": hello(head={"hello": "1"}),
}.items():
    first(name, *MALFORMED, text)

first("invalid UTF-8", "1007", "400 4400", b"\xff\xfe")
first("a surrogate in UTF-8", "1007", "400 4400", hello().encode() + b"\xed\xa0\x80")
first("an overlong NUL", "1007", "400 4400", hello().encode() + b"\xc0\x80")
first("a cut character", "1007", "400 4400", hello().encode() + b"\xf0\x9f\x98")
first("another version", "4426", "426 4426", hello(head={"hello": 2}))
first("another version's messages", "4426", "426 4426", hello(head={"hello": 2}) + "\x1ez1")
first("a version of 15 digits", "4426", "426 4426", hello(head={"hello": 10**15 - 1}))
first("a key twice", "4426", "426 4426", hello().replace('"hello": 1', '"hello": 1, "hello": 2'))
first("a hello that begins at 2", *GAP, hello(head={"seq": 2}))
first("a hello with an ack", *FATAL, hello(head={"received": 1, "ack": 1}))
first("a hello with a received", *FATAL, hello(head={"received": 999999999999999}))
first("an event for a CONNECT", "4400 session", "200 4400 session", hello('m2["count",1]'))
first("CONNECT with a list", "4400 session", "200 4400 session", hello("m0[1]"))
first("CONNECT with a text", "4400 session", "200 4400 session", hello('m0"a"'))
first("CONNECT with cut JSON", "4400 session", "200 4400 session", hello('m0{"a":'))
first("CONNECT with NaN", "4400 session", "200 4400 session", hello('m0{"a":NaN}'))
first("CONNECT nested deep", "4400 session", "200 4400 session", hello('m0{"a":' + DEEP))
first("bytes for a CONNECT", "4400 session", "200 4400 session", hello("bAAAA"))
first(
    "a session of nobody",
    "4421",
    "421 4421",
    hello(head={"id": "000000.nobody", "key": "a"}, without=("nonce",)),
)
for name in ("__proto__", "constructor", "."):
    first(
        f"a session named {name}",
        "4421",
        "421 4421",
        hello(head={"id": name, "key": "a"}, without=("nonce",)),
    )
first("a polling request of nobody", "4400", "421 4421", "i000000.nobody ka t1 n1 a0")
for missing in ("k", "t", "n", "a"):
    tokens = [t for t in ("ix", "ky", "t1", "n1", "w1", "a0") if t[0] != missing]
    first(f"a polling request without {missing}", *MALFORMED, " ".join(tokens))
for name, tokens_text in {
    "without its id": "ky t1 n1 a0",
    "with an id not in ASCII": "i\u00e9 ky t1 n1 a0",
    "with an id of 65 characters": f"i{'x' * 65} ky t1 n1 a0",
    "with a key of 8 kB": f"ix k{'y' * 8192} t1 n1 a0",
    "with NUL in its key": "ix ky\0 t1 n1 a0",
    "with a negative number": "ix ky t1 n-1 a0",
    "with a huge number": f"ix ky t1 n{'9' * 16} a0",
    "with a negative wait": "ix ky t1 n1 w-1 a0",
    "with a fractional wait": "ix ky t1 n1 w0.5 a0",
    "with a huge limit": f"ix ky t1 n1 b{'9' * 16} w1 a0",
}.items():
    first(f"a polling request {name}", *MALFORMED, tokens_text)

# -- WebSocket frames ------------------------------------------------------------------


def framed(name: str, want: str, *frames: bytes, lines: int = 1) -> None:
    """Frames on a WebSocket of a session, after which nothing is read from it."""

    def act(arena: Arena) -> str:
        session = arena.session()
        for each in frames:
            session.socket.send(each)
        return over_websocket(session.socket, ask=want == "lives")

    CASES.append(Case(name, act, want, lines))


framed("an unmasked frame", "1002", frame(TEXT, b"a0", masked=False))
framed("an unmasked ping", "1002", frame(PING, b"", masked=False))
for bit in (1, 2, 4):
    framed(f"reserved bit {bit}", "1002", frame(TEXT, b"a0", rsv=bit))
for opcode in (3, 7, 11, 15):
    framed(f"opcode {opcode}", "1002", frame(opcode, b"a0"))
for opcode in (PING, PONG, CLOSE):
    framed(f"a fragmented control frame {opcode}", "1002", frame(opcode, b"", fin=False))
    framed(f"a long control frame {opcode}", "1002", frame(opcode, b"\x03\xe8" + b"x" * 124))
framed("a continuation of nothing", "1002", frame(CONT, b"a0"))
framed("a text within a text", "1002", frame(TEXT, b"a", fin=False), frame(TEXT, b"0"))
framed("a text within bytes", "1002", frame(BINARY, b"a", fin=False), frame(TEXT, b"0"))
framed("a frame of 2^62 bytes", "1009", frame(TEXT, length=2**62))
framed("a frame of 2^63 bytes", "1009", frame(TEXT, length=2**63))
framed("a frame of 2^64 - 1 bytes", "1009", frame(TEXT, length=2**64 - 1))
framed("a frame beyond the limit", "1009", frame(TEXT, length=2_000_001))
framed("a text beyond the limit", "1009", frame(TEXT, b"x" * 2_000_001))
framed("bytes beyond the limit", "1009", frame(BINARY, b"a0 s2\x1e" + b"x" * 2_000_000))
framed(
    "fragments beyond the limit",
    "1009",
    frame(TEXT, b"x" * 65536, fin=False),
    frame(CONT, b"x" * 65536, fin=False) * 31,
)
framed("endless fragments", "1009", frame(TEXT, b"", fin=False), frame(CONT, b"", fin=False) * 5000)
framed(
    "endless fragments of bytes",
    "1009",
    frame(BINARY, b"a", fin=False) + frame(CONT, b"0", fin=False) * 5000,
)
framed("invalid UTF-8 in a session", "1007", frame(TEXT, b"a0\xff"))
framed(
    "invalid UTF-8 over two fragments", "1007", frame(TEXT, b"a0\xc3", fin=False), frame(CONT, b"(")
)
for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535):
    framed(f"close frame {code}", "1002", frame(CLOSE, struct.pack("!H", code)))
framed("a close frame of one byte", "1002", frame(CLOSE, b"\x03"))
framed("a close frame with invalid UTF-8", "1007", frame(CLOSE, b"\x03\xe8\xff"))
framed("bytes without a head", "4400", frame(BINARY, b"x" * 1000))
framed("no bytes at all", "4400", frame(BINARY, b""))
framed("bytes with a head that is too long", "4400", frame(BINARY, b"a0 " + b"q" * 300 + b"\x1ex"))
framed("bytes with a head not in ASCII", "4400", frame(BINARY, b"a0\xff\x1ex"))
framed("bytes without a number", "4400", frame(BINARY, b"a0\x1ex"))
framed("bytes with a hello for head", "4400", frame(BINARY, hello().encode()))
framed("bytes with a poll for head", "4400", frame(BINARY, b"ix ky t1 n1 a0 s2\x1ex"))
framed("bytes beyond a gap", "1002", frame(BINARY, b"a0 s9\x1ex"))
framed("bytes without their packet", "4400 session", frame(BINARY, b"a0 s2\x1ex"))
framed("a second hello", "4400", frame(TEXT, hello().encode()))
framed("a polling request in a session", "4400", frame(TEXT, b"ix ky t1 n1 a0"))
framed("an end in a session", "4400", frame(TEXT, b'{"end":1000}'))
framed("an empty text", "4400", frame(TEXT, b""))
framed("a pong that nobody asked for", "lives", frame(PONG, b"x") * 100, lines=0)
framed("an answer that nobody asked for", "lives", frame(TEXT, b"a0 p999"), lines=0)
framed("an empty fragment", "lives", frame(TEXT, b"", fin=False) + frame(CONT, b"a0"), lines=0)
framed("an old ack", "lives", frame(TEXT, b"a1"), frame(TEXT, b"a0"), lines=0)
framed("a commit 0", "lives", frame(TEXT, b"a0 c0"), lines=0)
framed("an ACK of unknown id", "lives", frame(TEXT, b"a0 s2\x1em399[1]"), lines=0)
framed("an ACK of huge id", "lives", frame(TEXT, b"a0 s2\x1em3" + b"9" * 100 + b"[1]"), lines=0)
framed("an error reply of unknown id", "lives", frame(TEXT, b"a0 s2\x1em799{}"), lines=0)
framed("an event that nobody handles", "lives", frame(TEXT, b'a0 s2\x1em2["nobody"]'))
framed(
    "an event with more arguments than its handler",
    "lives",
    frame(TEXT, b'a0 s2\x1em2["count",1,2,3]'),
)
framed(
    "attachments that never come",
    "lives",
    frame(TEXT, b'a0 s2\x1em51-["count",{"_placeholder":true,"num":0}]'),
    lines=0,
)
framed(
    "a duplicate message",
    "lives",
    *[frame(TEXT, b'a0 s2\x1em2["count",1]')] * 3,
    lines=0,
)
framed(
    "a duplicate key in an event",
    "lives",
    frame(TEXT, b'a0 s2\x1em2["count",{"a":1,"a":2}]'),
    lines=0,
)


@case("pings for a hello", "4429")
def early_pings(arena: Arena) -> str:
    websocket = arena.websocket()
    websocket.send(frame(PING, b"") * 100)
    return over_websocket(websocket, ask=False)


@case("a flood of pings, unread", "sent", lines=0)
def ping_flood(arena: Arena) -> str:
    session = arena.session()
    before = arena.server.get("/state")["resident"]
    session.socket.flood(frame(PING, b"x" * 125) * 500, 0.5)
    grown = arena.server.get("/state")["resident"] - before
    assert grown < 4_000_000, f"{grown} bytes for pongs that nobody takes"
    session.socket.reset()
    return "sent"


@case("a flood of pings", "lives", lines=0)
def read_ping_flood(arena: Arena) -> str:
    session = arena.session()
    reader = threading.Thread(target=lambda: [session.socket.next_frame() for _ in range(20_000)])
    reader.start()
    session.socket.send(frame(PING, b"") * 20_000)
    reader.join()
    return over_websocket(session.socket)


@case("a hundred questions", "lives", lines=0)
def questions(arena: Arena) -> str:
    session = arena.session()
    session.socket.send(frame(TEXT, b"a0 q1") * 100)
    # Few are kept for a peer that does not read; one answer is all that is needed.
    while "p1" not in session.socket.next_text().split(" "):
        pass
    time.sleep(0.1)
    return over_websocket(session.socket)


@case("a flood of requests", "405")
def request_flood(arena: Arena) -> str:
    wire = arena.wire()
    reader = threading.Thread(target=wire.read_rest)
    reader.start()
    wire.send(request("GET", "/fallback/poll") * 20_000)
    wire.finish()
    reader.join()
    # It is worth as many lines as it has requests; they may be written after its end.
    assert over_http(ask(arena.port, "PUT", "/fallback/poll")) == "405"
    until = time.monotonic() + 5
    while "'PUT' '/fallback/poll'" not in "\n".join(arena.lines(1)):
        assert time.monotonic() < until
    arena.begin()
    return over_http(ask(arena.port, "GET", "/fallback/poll"))


# -- HTTP ------------------------------------------------------------------------------


def http(name: str, want: str, data: bytes, *, lines: int = 1, finish: bool = False) -> None:
    """A request as bytes. ``cut`` is the end of a connection without an answer of HTTP/1.1."""

    def act(arena: Arena) -> str:
        wire = arena.wire()
        wire.send(data)
        if finish:
            wire.finish()
        try:
            return over_http(wire.reply(bare=data.startswith(b"HEAD")))
        except (Closed, ValueError, IndexError):
            return "cut"

    CASES.append(Case(name, act, want, lines))


http("no length", "411 4400", POST + b"\r\n")
http("chunks", "411 4400", POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
http(
    "chunks without end",
    "411 4400",
    POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"3\r\nabc\r\n" * 9999,
)
http("chunks that are none", "411 4400", POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n")
http(
    "a length and chunks",
    "400",
    POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
)
for coding in (
    "gzip, chunked",
    "chunked, identity",
    "identity",
    "chunked\r\nTransfer-Encoding: chunked",
    "\x0bchunked",
    "chunked\xa0",
):
    http(
        f"the coding {coding[:30]!r}",
        "400",
        POST + b"Transfer-Encoding: " + coding.encode("latin-1") + b"\r\n\r\n0\r\n\r\n",
    )
http("two lengths", "400", POST + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde")
http("one length twice", "400", POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc")
for length in (
    "-5",
    "+3",
    "1_0",
    "0x3",
    "3.0",
    "1e1",
    "three",
    "3, 3",
    "\u00b2",
    "\x0b3",
    "3\x85",
    "3\xa0",
    "\r\n 3",
    "9" * 20,
    "9" * 5000,
):
    http(
        f"Content-Length {length[:24]}",
        "400",
        request("POST", "/fallback/poll", b"abc", {"Content-Length": length}),
    )
http("an empty length", "400|411 4400", POST + b"Content-Length:\r\n\r\n")
http("a body of 100 GB", "413 4413", POST + b"Content-Length: 100000000000\r\n\r\n")
http("a body of 2 MB and a byte", "413 4413", request("POST", "/fallback/poll", b"x" * 2_000_001))
http("a body of 20 MB", "413 4413", request("POST", "/fallback/poll", b"x" * 20_000_000))
http("a body that ends early", "400 4400", POST + LENGTH, finish=True)
http("an empty body", "400 4400", POST + b"Content-Length: 0\r\n\r\n")
http("a body without its end mark", "400 4400", request("POST", "/fallback/poll", hello().encode()))
http(
    "a body with half its end mark",
    "400 4400",
    request("POST", "/fallback/poll", hello().encode() + b"\x1e"),
)
http(
    "a form",
    "400 4400",
    request(
        "POST", "/fallback/poll", b"a=1&b=2", {"Content-Type": "application/x-www-form-urlencoded"}
    ),
)
# Whatever the body says that it is: proxies change that, and pages of other origins choose it.
for kind in (
    "application/json",
    "text/xml",
    "application/octet-stream",
    "multipart/form-data",
    "x",
):
    http(
        f"a hello of type {kind}",
        "200",
        request("POST", "/fallback/poll", (hello() + "\x1e.").encode(), {"Content-Type": kind}),
        lines=0,
    )
http("a header that is none", "400", POST + b"nonsense\r\nContent-Length: 3\r\n\r\nabc")
http("a header without a name", "400", POST + b": x\r\nContent-Length: 3\r\n\r\nabc")
for bent in ("X: a\rY: b", "X: a\r", "X: a\0b"):
    http(
        f"the line {bent!r}",
        "400",
        POST + bent.encode() + b"\r\nContent-Length: 3\r\n\r\nabc",
    )
http("a length behind a carriage return", "400", POST + b"X: a\rContent-Length: 3\r\n\r\nabc")
http("a carriage return in the request line", "400", POST.replace(b" HTTP", b"\rHTTP") + LENGTH)
http("two hosts", "400", POST + b"Host: other.test\r\nContent-Length: 3\r\n\r\nabc")
for name, cut in {
    "a cut host": b"GET /fallback/fallback_transport.js HTTP/1.1\r\nHost: 127.0",
    "a cut length": POST + b"Content-Length: 3",
    "a cut origin": POST + b"Origin: http://127.0.0.1",
    "a head without its last line": POST + b"Content-Length: 0\r\n",
}.items():
    http(name, "400", cut, finish=True)
# As of HTTP/0.9, whose answers are bare bodies: a whole script is none of them.
http("a cut path", "400|cut", b"GET /fallback/fallback_transport.js", finish=True)
http(
    "a header of 70 kB",
    "400|431",
    POST + b"X: " + b"x" * 70_000 + b"\r\nContent-Length: 3\r\n\r\nabc",
)
http("300 headers", "400|431", POST + b"".join(b"X%d: x\r\n" % n for n in range(300)) + b"\r\n")
http("a greeting of TLS", "400|cut", b"\x16\x03\x01\x00\xee\x01\x00\x00\xea\x03\x03\x00\r\n\r\n")
http("bytes for a request", "400|cut", bytes(range(256)) + b"\r\n\r\n", finish=True)
http("one word for a request", "400|cut", b"hello\r\n\r\n")
http("another HTTP", "400|505|cut", b"GET /fallback/poll HTTP/9.9\r\nHost: x\r\n\r\n")
http("HTTP/2", "400|405|505|cut", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "POSTS", "post"):
    http(f"{method} on poll", "405", request(method, "/fallback/poll"))
http("PUT with a body", "405", request("PUT", "/fallback/poll", b"x" * 100))
http("PUT with a long body", "405", request("PUT", "/fallback/poll", b"x" * 20_000_000))
http("POST of the script", "405", request("POST", "/fallback/fallback_transport.js", b""))
for path in (
    "/fallback/",
    "/fallback/nothing",
    "/fallback/poll/",
    "/fallback/poll%00",
    "/fallback/POLL",
    "/fallback//poll",
    "/fallback/./poll",
    "/fallback/../PROTOCOL.md",
    "/fallback/../../../../../../etc/passwd",
    "/fallback/%2e%2e/%2e%2e/etc/passwd",
    "/fallback/..%2f..%2fetc/passwd",
    "/fallback/..\\PROTOCOL.md",
    "/fallback/static/fallback_transport.js",
    "/fallback/fallback_transport.js/",
    "/fallback/fallback_transport.js%00.png",
    "/fallback/fallback_transport.py",
    "/fallback/\u00e9",
):
    # What is no door is the application's, which has nothing there.
    http(f"the path {path}", "404", request("GET", path), lines=0)


@case("GET of the script", "200", lines=0)
def script(arena: Arena) -> str:
    reply = ask(arena.port, "GET", "/fallback/fallback_transport.js")
    assert reply.headers["content-type"] == "text/javascript; charset=utf-8"
    assert len(reply.body) > 1000
    for tags in (reply.headers["etag"], f'"x", W/{reply.headers["etag"]}'):
        again = ask(
            arena.port, "GET", "/fallback/fallback_transport.js", None, {"If-None-Match": tags}
        )
        assert (again.status, again.body) == (304, b"")
    other = ask(arena.port, "GET", "/fallback/fallback_transport.js", None, {"If-None-Match": "x"})
    assert other.status == 200
    return str(reply.status)


@case("HEAD of the script", "200", lines=0)
def script_head(arena: Arena) -> str:
    wire = arena.wire()
    wire.send(request("HEAD", "/fallback/fallback_transport.js", None, {"Connection": "close"}))
    head, _, body = wire.read_rest().partition(b"\r\n\r\n")
    assert b"content-length: " in head.lower()
    assert body == b""
    return head.split(b" ")[1].decode()


@case("OPTIONS on poll names POST", "405")
def options(arena: Arena) -> str:
    reply = ask(arena.port, "OPTIONS", "/fallback/poll")
    assert reply.headers["allow"] == "POST"
    assert "access-control-allow-origin" not in reply.headers
    return over_http(reply)


@case("a dripped body", "200", lines=0)
def dripped(arena: Arena) -> str:
    wire = arena.wire()
    wire.drip(request("POST", "/fallback/poll", (hello() + "\x1e.").encode()), 7, 0.001)
    return over_http(wire.reply())


@case("a body that is cut by a reset", "reset")
def reset_in_body(arena: Arena) -> str:
    wire = arena.wire()
    wire.send(POST + LENGTH)
    time.sleep(0.05)
    wire.reset()
    return "reset"


@case("resets everywhere", "reset", lines=0)
def resets(arena: Arena) -> str:
    for data in (b"", b"POST /fall", POST, POST + b"Content-Length: 3\r\n"):
        wire = arena.wire()
        wire.send(data)
        time.sleep(0.02)
        wire.reset()
    arena.websocket().reset()
    websocket = arena.websocket()
    websocket.text(hello())
    websocket.reset()
    session = arena.session()
    session.socket.send(frame(TEXT, b"x" * 1000, length=2000))
    session.socket.reset()
    session = arena.session("polling")
    wire = arena.wire()
    body = session.line("a1", wait=20_000) + "\x1e."
    wire.send(request("POST", "/fallback/poll", body.encode()))
    time.sleep(0.05)
    wire.reset()
    arena.lines(0)
    # How far the server was with a request that was cut is not for us to say.
    arena.begin()
    return "reset"


# -- origins ---------------------------------------------------------------------------


def origin(name: str, allowed: bool, headers: dict[str, str]) -> None:
    """A hello from somewhere, at both doors."""
    lines = 0 if allowed else 1

    def on_polling(arena: Arena) -> str:
        return over_http(poll(arena.port, hello(), headers))

    def on_websocket(arena: Arena) -> str:
        wire = arena.wire()
        wire.send(handshake(headers))
        return over_http(wire.reply())

    CASES.append(Case(f"{name}, polled", on_polling, "200" if allowed else "403 4403", lines))
    CASES.append(Case(f"{name}, on a WebSocket", on_websocket, "101" if allowed else "403", lines))


for name, value in {
    "another origin": "http://evil.test",
    "the origin null": "null",
    "another port": "http://server.test:8080",
    "a longer name": "http://server.test.evil.test",
    "a shorter name": "http://test",
    "a user name": "http://server.test@evil.test",
    "an origin that is none": "http://[::1",
    "an origin not in ASCII": "http://server.test\u00e9",
    "a port that is none": "http://server.test:x",
    "an origin of 8 kB": "http://" + "x" * 8000,
    "two origins": "http://server.test, http://evil.test",
    "a script's origin": "file://server.test",
}.items():
    origin(name, False, {"Origin": value})
origin(
    "an origin that is told by proxies' headers",
    False,
    {
        "Origin": "http://evil.test",
        "X-Forwarded-Host": "evil.test",
        "X-Forwarded-Server": "evil.test",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Port": "80",
        "X-Original-Host": "evil.test",
        "X-Host": "evil.test",
        "Forwarded": "host=evil.test;proto=http",
    },
)
origin("the page's own origin", True, {"Origin": "http://server.test"})
origin("the page's own, behind TLS", True, {"Origin": "https://server.test"})
origin(
    "the page's own, whatever proxies' headers say",
    True,
    {
        "Origin": "http://server.test",
        "X-Forwarded-Host": "evil.test",
        "X-Forwarded-Proto": "https",
        "Forwarded": "host=evil.test;proto=https",
    },
)
origin("an origin of the options", True, {"Origin": FRIEND})
origin("no origin", True, {})

# -- handshakes ------------------------------------------------------------------------


def shake(
    name: str, want: str, headers: dict[str, str], method: str = "GET", lines: int = 1
) -> None:
    """A handshake with other headers."""

    def act(arena: Arena) -> str:
        wire = arena.wire()
        wire.send(handshake(headers, method))
        reply = wire.reply(bare=method == "HEAD")
        if reply.status == 426:
            assert reply.headers["sec-websocket-version"] == "13"
        return over_http(reply)

    CASES.append(Case(f"a handshake: {name}", act, want, lines))


for version in ("0", "7", "8", "12", "14", "013", "13, 8", "x"):
    shake(f"version {version}", "426", {"Sec-WebSocket-Version": version})
shake("no version", "426", {"Sec-WebSocket-Version": ""})
shake("no key", "426", {"Sec-WebSocket-Key": ""})
DRAFT = {"Sec-WebSocket-Key": "", "Sec-WebSocket-Version": "", "Sec-WebSocket-Protocol": ""}
shake("hixie-75", "426", DRAFT)
shake(
    "hixie-76, which is hybi-00",
    "426",
    {
        **DRAFT,
        "Sec-WebSocket-Key1": "4 @1  46546xW%0l 1 5",
        "Sec-WebSocket-Key2": "12998 5 Y3 1  .P00",
    },
)
shake("no upgrade", "426", {"Upgrade": ""}, lines=1)
shake("another upgrade", "426", {"Upgrade": "h2c"})
shake("no connection", "426", {"Connection": ""})
shake("a short key", "400", {"Sec-WebSocket-Key": "abc"})
shake("a long key", "400", {"Sec-WebSocket-Key": "A" * 100})
shake("a key of 8 kB", "400", {"Sec-WebSocket-Key": "A" * 8000})
shake("a key that is no base64", "400", {"Sec-WebSocket-Key": "!" * 24})
shake("a key not in ASCII", "400", {"Sec-WebSocket-Key": "\u00ff" * 24})
shake("a key with a control character", "400", {"Sec-WebSocket-Key": "\x01" * 24})
shake("no subprotocol", "400", {"Sec-WebSocket-Protocol": ""})
shake("another subprotocol", "400", {"Sec-WebSocket-Protocol": "fallback.v2, graphql-ws"})
shake("a subprotocol that is none", "400", {"Sec-WebSocket-Protocol": ";;\u00ff"})
shake("extensions that are none", "101", {"Sec-WebSocket-Extensions": "\u00ff;;"}, lines=0)
shake("an extension", "101", {"Sec-WebSocket-Extensions": "permessage-deflate"}, lines=0)
for method in ("POST", "HEAD", "PUT", "OPTIONS"):
    shake(method, "405", {}, method)
http("a browser on ws", "426", request("GET", "/fallback/ws"))
http("a long body on ws", "405", request("POST", "/fallback/ws", b"x" * 5_000_000))

# -- sessions --------------------------------------------------------------------------


def resumed(name: str, want: tuple[str, str], act: Callable[[Session, Session], str]) -> None:
    """A hello for one of two sessions, at both doors."""

    def on_websocket(arena: Arena) -> str:
        text = act(arena.session(), arena.session())
        websocket = arena.websocket()
        websocket.text(text)
        return over_websocket(websocket, ask=False)

    def on_polling(arena: Arena) -> str:
        return over_http(poll(arena.port, act(arena.session(), arena.session())))

    CASES.append(Case(f"{name}, on a WebSocket", on_websocket, want[0]))
    CASES.append(Case(f"{name}, polled", on_polling, want[1]))


GONE = "4404 session", "200 4404 session"
resumed("a wrong key", GONE, lambda one, two: one.resume(key="x" * 32))
resumed("a key that is too short", GONE, lambda one, two: one.resume(key=one.key[:-1]))
resumed("someone else's id", GONE, lambda one, two: one.resume(id=two.id))
resumed("an id that is unknown", GONE, lambda one, two: one.resume(id=one.id[:-1]))
resumed("an ack beyond in a resume", FATAL, lambda one, two: one.resume(ack=2, received=2))
resumed("a gap in a resume", GAP, lambda one, two: one.resume("m2", seq=9))
resumed(
    "a nonce with another auth",
    MALFORMED,
    lambda one, two: hello(connect_packet({"other": 1}), head={"nonce": one.nonce}),
)
resumed(
    "another's polling request",
    ("4400", "200 4404 session"),
    lambda one, two: f"i{one.id} k{two.key} t1 n1 c1 a0",
)


@case("a nonce with another origin, polled", "400 4400")
def other_origin(arena: Arena) -> str:
    first = hello()
    assert over_http(poll(arena.port, first, {"Origin": OWN})) == "200"
    return over_http(poll(arena.port, first, {"Origin": FRIEND}))


@case("a nonce with another origin, on a WebSocket", "4400")
def other_origin_websocket(arena: Arena) -> str:
    first = hello()
    assert over_http(poll(arena.port, first, {"Origin": OWN})) == "200"
    websocket = arena.websocket({"Origin": FRIEND})
    websocket.text(first)
    return over_websocket(websocket, ask=False)


def keyless(arena: Arena) -> tuple[Session, WebSocket]:
    """A committed session, and a connection by its nonce, which must prove the key."""
    session = arena.session()
    # What answers has read the commit before it.
    assert over_websocket(session.socket) == "lives"
    websocket = arena.websocket()
    websocket.text(session.hello.replace('"attempt": 1', '"attempt": 2'))
    welcome = json.loads(websocket.next_text())
    assert welcome["id"] == session.id
    assert "key" not in welcome
    return session, websocket


@case("a commit without the key", "4404")
def commit_without_key(arena: Arena) -> str:
    session, websocket = keyless(arena)
    websocket.text("a0 c2")
    assert over_websocket(session.socket) == "lives"
    return over_websocket(websocket, ask=False)


@case("messages and marks without the key", "lives", lines=0)
def messages_without_key(arena: Arena) -> str:
    session, websocket = keyless(arena)
    websocket.text('a9 s2\x1em2["x"]\x1ec[4000,"bye"]')
    assert over_websocket(websocket) == "lives"
    return over_websocket(session.socket)


@case("the carrier's attempt without its key", "lives")
def attempt_without_key(arena: Arena) -> str:
    session = arena.session()
    assert over_websocket(session.socket) == "lives"
    websocket = arena.websocket()
    websocket.text(session.hello)
    assert over_websocket(websocket, ask=False) == "4400"
    return over_websocket(session.socket)


@case("a commit with a wrong key", "4404")
def commit_with_wrong_key(arena: Arena) -> str:
    session, websocket = keyless(arena)
    websocket.text("a0 c2 k" + "x" * 32)
    assert over_websocket(session.socket) == "lives"
    return over_websocket(websocket, ask=False)


@case("a polling commit with a wrong key", "200 4404 session")
def polling_commit_with_wrong_key(arena: Arena) -> str:
    session = arena.session("polling")
    again = poll(arena.port, session.hello)
    assert "key" not in again.head
    return over_http(poll(arena.port, f"i{session.id} k{'x' * 32} t1 n9 c2 a0"))


@case("a commit that is too low", "4409")
def low_commit(arena: Arena) -> str:
    session = arena.session()
    websocket = arena.websocket()
    websocket.text(session.resume())
    websocket.next_text()
    websocket.text("a0 c1")
    assert over_websocket(session.socket) == "lives"
    return over_websocket(websocket, ask=False)


@case("a polling commit that is too low still delivers", "200 4409")
def low_polling_commit(arena: Arena) -> str:
    session = arena.session("polling")
    assert poll(arena.port, session.resume()).status == 200
    assert session.post("a0", attempt=2, commit=2).status == 200
    reply = session.post("a0 s2", 'm2["count",1]', attempt=1, commit=1)
    deadline = time.monotonic() + 5
    while ["count", 1] not in arena.server.seen(session.id) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert arena.server.seen(session.id).count(["count", 1]) == 1
    return over_http(reply)


@case("a fourth candidate", "4429")
def candidates(arena: Arena) -> str:
    session = arena.session()
    sockets = [arena.websocket() for _ in range(4)]
    for attempt, websocket in enumerate(sockets, 2):
        websocket.text(session.resume(attempt=attempt))
        websocket.next_text()
    assert [over_websocket(each) for each in sockets[1:]] == ["lives"] * 3
    assert over_websocket(session.socket) == "lives"
    return over_websocket(sockets[0], ask=False)


@case("a hello for the connection that carries", "4409")
def same_attempt(arena: Arena) -> str:
    session = arena.session()
    websocket = arena.websocket()
    websocket.text(session.resume(attempt=1))
    websocket.next_text()
    return over_websocket(session.socket, ask=False)


@case("a bad hello for the connection that carries", "lives")
def bad_same_attempt(arena: Arena) -> str:
    session = arena.session()
    websocket = arena.websocket()
    websocket.text(session.resume("m2", seq=9, attempt=1))
    assert over_websocket(websocket, ask=False) == "1002"
    return over_websocket(session.socket)


@case("request numbers that go down", "200", lines=0)
def falling_numbers(arena: Arena) -> str:
    session = arena.session("polling")
    session.number = 100
    held = arena.wire()
    body = session.line("a1", wait=20_000) + "\x1e."
    held.send(request("POST", "/fallback/poll", body.encode()))
    time.sleep(0.1)
    for number in (99, 1, 0):
        session.number = number - 1
        began = time.monotonic()
        assert SEPARATOR not in session.post("a1", wait=20_000).text
        assert time.monotonic() - began < 5
    # The held one still gets what comes.
    session.number = 200
    session.post("a1 s2", 'm21["echo","here"]')
    reply = held.reply()
    assert reply.text.endswith('m31["here"]')
    return over_http(reply)


@case("a poll repeated ten times", "200", lines=0)
def repeated_poll(arena: Arena) -> str:
    session = arena.session("polling")
    body = session.line("a1", wait=20_000) + "\x1e."
    held = [arena.wire() for _ in range(10)]
    for wire in held:
        wire.send(request("POST", "/fallback/poll", body.encode()))
        time.sleep(0.02)
    # Few are held for the same answer; the oldest are let go.
    assert [over_http(wire.reply()) for wire in held[:6]] == ["200 4409"] * 6
    session.post("a1 s2", 'm21["echo","here"]')
    answers = [wire.reply() for wire in held[6:]]
    assert all(answer.text.endswith('m31["here"]') for answer in answers)
    return over_http(answers[0])


@case("a thousand messages and one, unhandled", "4429 session")
def over_credit(arena: Arena) -> str:
    session = arena.session()
    session.socket.text(SEPARATOR.join(["a0 s2", 'm2["sleep",2]', *['m2["count",0]'] * 1000]))
    return over_websocket(session.socket)


@case("more bytes than the credit", "4429 session")
def over_credit_in_bytes(arena: Arena) -> str:
    session = arena.session()
    session.socket.text(SEPARATOR.join(["a0 s2", 'm2["sleep",60]']))
    # An event alone may have as many more as a message.
    for number in range(3, 27):
        session.socket.text(f"a0 s{number}\x1e" + 'm2["count","' + "x" * 900_000 + '"]')
    return over_websocket(session.socket)


@case("a reason with line feeds", "4000 session")
def reason_with_lines(arena: Arena) -> str:
    session = arena.session()
    session.socket.text('a0 s2\x1ec[4000,"over\\nERROR root: forged"]')
    return over_websocket(session.socket, ask=False)


@case("a close and more behind it", "4001 session")
def behind_a_close(arena: Arena) -> str:
    session = arena.session()
    session.socket.text('a0 s2\x1ec[4001,""]\x1em2["count",1]\x1ec[4002,""]')
    outcome = over_websocket(session.socket, ask=False)
    assert ["count", 1] not in arena.server.seen(session.id)
    return outcome


@case("a namespace that nobody serves", "4401 session")
def unknown_namespace(arena: Arena) -> str:
    websocket = arena.websocket()
    websocket.text(hello('m0/{"nobody,'))
    welcome = json.loads(websocket.next_text().split(SEPARATOR)[0])
    websocket.text("a0 c1")
    outcome = "lives"
    with contextlib.suppress(Closed):
        # The close comes behind the refusal, in the same envelope or the next.
        while f"[4401,{json.dumps('Unable to connect')}]" not in websocket.next_text():
            pass
        websocket.text("a2")
        outcome = over_websocket(websocket, ask=False)
    # Its session is not one of the arena's, whose connect handlers are counted.
    line = f"session {welcome['id']} ended"
    deadline = time.monotonic() + 5
    while line not in arena.server.log() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert arena.server.log().count(line) == 1
    return outcome


# -- the tests -------------------------------------------------------------------------


@pytest.mark.parametrize("bad", CASES, ids=[each.name for each in CASES])
def test_bad_input(arena: Arena, bad: Case) -> None:
    arena.begin()
    try:
        outcome = bad.act(arena)
        assert re.fullmatch(bad.want, outcome), f"{outcome}, not {bad.want}"
        lines = arena.lines(bad.lines)
        assert len(lines) == bad.lines, "\n".join(lines)
        arena.check_handlers()
        arena.bystander.check()
    finally:
        arena.tidy()


def test_a_websocket_without_a_hello_is_closed(arena: Arena) -> None:
    assert over_websocket(arena.silent, ask=False) == "4408"
    arena.bystander.check()


def test_half_open_requests_hurt_nobody(arena: Arena) -> None:
    arena.bystander.check()
    # Whoever completes his request is answered; on eventlet's hub a head has 10 s, a body 30, and
    # on gevent each piece has 75.
    late = {"eventlet": "408|", "gevent": "400|"}.get(arena.server.mode, "")
    for wire in arena.half_open[2:]:
        wire.send(b"x" * 97 if wire is arena.half_open[3] else LENGTH + b"x" * 97)
        assert re.fullmatch(late + "400 4400", over_http(wire.reply()))


@pytest.mark.parametrize(
    "chunks",
    [
        "0x3\r\nabc\r\n",
        "+3\r\nabc\r\n",
        "0_3\r\nabc\r\n",
        "3\xa0\r\nabc\r\n",
        "3\r\nabcXX\r\n",
    ],
)
def test_behind_chunks_that_are_none_there_is_no_request(arena: Arena, chunks: str) -> None:
    wire = arena.wire()
    wire.send(CHUNKED + (chunks + "0\r\n\r\n").encode("latin-1") + request("GET", "/seen"))
    assert re.findall(rb"HTTP/1\.1 (\d+)", wire.read_rest()) == [b"404"]
    arena.tidy()
    arena.bystander.check()


@pytest.mark.parametrize("mode", ["eventlet", OVER_WSGI])
def test_who_sends_chunks_is_told_that_the_answer_is_the_last(mode: str) -> None:
    with Served(mode) as server, Wire(server.port) as wire:
        wire.send(CHUNKED)
        assert (reply := wire.reply()).status == 404
        assert reply.headers["connection"] == "close"
        # What is sent before that is known resets nothing.
        wire.send(b"3\r\nabc\r\n" * 100_000 + b"0\r\n\r\n")
        with pytest.raises(Closed) as ended:
            wire.read(1)
        assert ended.value.__cause__ is None


@pytest.mark.parametrize("mode", SERVERS)
def test_attachments_that_never_come_end_with_their_session(mode: str) -> None:
    """Two are announced, one comes, and then nobody any more."""
    packet = 'm52-["count",{"_placeholder":true,"num":0}]'
    with Served(mode, inactivity=1) as server:
        bystander = Bystander(server.port)
        left = [Session(server.port), Session(server.port, "polling")]
        left[0].socket.text(SEPARATOR.join(["a0 s2", packet, "bAAAA"]))
        left[0].socket.close()
        assert over_http(left[1].post("a0 s2", packet, "bAAAA")) == "200"
        for session in left:
            until = time.monotonic() + 10
            while f"session {session.id} ended" not in server.log() and time.monotonic() < until:
                time.sleep(0.02)
            assert over_http(poll(server.port, session.resume())) == "200 4408 session"
            assert server.log().count(session.id) == 1, server.log()
            assert [event[0] for event in server.seen(session.id)] == ["connect", "disconnect"]
        bystander.check()
        bystander.close()
        assert "Traceback" not in server.log()


@pytest.mark.parametrize("mode", GREEN)
@pytest.mark.parametrize(
    ("head", "piece"),
    [
        pytest.param(CHUNKED, b"1\r\na\r\n" * 2000, id="in chunks"),
        pytest.param(
            CHUNKED.replace(b"Transfer-Encoding: chunked", b"Content-Length: 999999999999"),
            b"x" * 65536,
            id="of a length",
        ),
    ],
)
def test_a_body_that_always_comes_holds_up_nobody(mode: str, head: bytes, piece: bytes) -> None:
    with Served(mode) as server, Wire(server.port) as wire:
        session = Session(server.port)
        over = threading.Event()

        def flood() -> None:
            while not over.is_set():
                wire.flood(piece, 0.1)

        wire.send(head)
        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            for _ in range(10):
                began = time.monotonic()
                assert over_websocket(session.socket) == "lives"
                assert time.monotonic() - began < UNNOTICED
        finally:
            over.set()
            flooding.join()
            session.socket.close()


def parts_within_parts(port: int) -> str:
    return over_http(poll(port, hello("p0/9," * 190_000)))


def runs_of_digits_that_are_too_short(port: int) -> str:
    session = Session(port)
    packet = '2["count",["' + ("1" * 299 + "a") * 50_000 + '"]]'
    for start in range(0, len(packet), PIECE):
        piece = packet[start : start + PIECE]
        session.socket.text(f"a0 s2{SEPARATOR}p{start}/{len(packet)},m{piece}")
    with session.socket:
        return over_websocket(session.socket)


@pytest.mark.parametrize(
    ("send", "want"),
    [(parts_within_parts, "400 4400"), (runs_of_digits_that_are_too_short, "lives")],
)
def test_what_would_take_long_to_look_through_holds_up_nobody(
    send: Callable[[int], str], want: str
) -> None:
    """Each took seconds once, for what is looked at anew with each of its parts."""
    with Served("eventlet") as server:
        bystander = Bystander(server.port)
        assert send(server.port) == want
        bystander.check()
        bystander.close()


@pytest.mark.parametrize("mode", GREEN)
@pytest.mark.parametrize("before", [b"", b"0\r\n"], ids=["of a chunk", "behind all chunks"])
def test_a_line_without_an_end_ends_its_connection(mode: str, before: bytes) -> None:
    with Served(mode) as server, Wire(server.port) as wire:
        wire.send(CHUNKED + before + b"f" * 1_000_000)
        wire.read_rest()
        assert "Traceback" not in server.log()


@pytest.mark.parametrize("mode", [*GREEN, "threading"])
def test_a_connection_on_which_nothing_comes_is_closed(mode: str) -> None:
    with Served(mode, client_wait=0.5) as server:
        session = Session(server.port, "polling")
        closing = POST + b"Connection: close\r\n" + LENGTH
        requests = [b"", b"GET / HTTP/1.1\r\n", closing, request("GET", "/nothing")]
        requests.append(request("POST", "/fallback/poll", b"no session's"))
        wires = [Wire(server.port) for _ in requests]
        for wire, data in zip(wires, requests, strict=True):
            wire.send(data)
        # Who is waited for by us is not closed.
        with Wire(server.port) as held:
            body = session.line("a1", wait=1500) + "\x1e."
            held.send(request("POST", "/fallback/poll", body.encode()))
            for wire in wires:
                wire.read_rest()
                wire.close()
            assert held.reply().status == 200
        assert "Traceback" not in server.log()


@pytest.mark.parametrize("mode", ["eventlet", OVER_WSGI])
def test_who_does_not_read_is_closed_and_who_reads_slowly_is_not(mode: str) -> None:
    with Served(mode, client_wait=1.0) as server:
        session = Session(server.port, "polling")
        session.post("a1 s2", 'm2["message","' + "x" * 900_000 + '"]')

        def ask_for_it() -> Wire:
            wire = Wire(server.port, receive_buffer=2048, segment=536)
            body = session.line("a1", wait=5000) + "\x1e."
            wire.send(request("POST", "/fallback/poll", body.encode()))
            assert wire.read(15) == b"HTTP/1.1 200 OK"
            return wire

        def count() -> int:
            return len(os.listdir(f"/proc/{server.pid}/fd"))

        with ask_for_it() as slow, ask_for_it():
            before = count()
            # For three times as long as he may do nothing.
            for _ in range(60):
                slow.read(6_000)
                time.sleep(0.05)
            until = time.monotonic() + 15
            while count() == before:
                assert time.monotonic() < until
                time.sleep(0.02)
            assert slow.read_rest().endswith(b"\x1e.")


@pytest.mark.parametrize("mode", [*GREEN, "threading"])
def test_who_sends_slowly_is_answered(mode: str) -> None:
    with Served(mode, client_wait=0.5) as server, Wire(server.port) as wire:
        body = (hello() + "\x1e.").encode()
        data = request("POST", "/fallback/poll", body, {"Connection": "close"})
        wire.drip(data, len(data) // 8, 0.2)
        assert wire.reply().status == 200


@pytest.mark.parametrize("mode", SERVERS)
def test_a_server_out_of_file_descriptors_goes_on(mode: str) -> None:
    with Served(mode) as server:
        bystander = Bystander(server.port)
        _, most = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        wires = []
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (60, most))
        for _ in range(100):
            wires.append(Wire(server.port))
        time.sleep(1)
        bystander.check()
        for wire in wires:
            wire.close()
        server.get("/state")
        bystander.check()
        bystander.close()
        log = server.log()
        assert "Traceback" not in log
        assert log.count("no connection can be accepted") == 1


@pytest.mark.parametrize("mode", [*SERVERS, OVER_WSGI])
def test_who_has_left_before_there_was_a_descriptor_holds_up_nobody(mode: str) -> None:
    """What clients gave up before it was accepted is gone through without a pause each."""
    with Served(mode) as server:
        server.get("/state")
        used = {int(name) for name in os.listdir(f"/proc/{server.pid}/fd")}
        free = [number for number in range(1000) if number not in used]
        _, most = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        # One for a connection, and one for what the view opens.
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (free[1] + 1, most))
        wires = [Wire(server.port) for _ in range(200)]
        eventually(lambda: "no connection can be accepted" in server.log())
        for wire in wires:
            wire.close()
        began = time.monotonic()
        server.get("/state")
        took = time.monotonic() - began
        print(f"{mode}: {took:.2f} s behind 200 that have left")
        assert took < UNNOTICED
        assert server.log().count("no connection can be accepted") == 1


def test_connections_that_no_thread_is_to_be_had_for() -> None:
    """They are closed, and told of once, not by a traceback each."""
    with Served("threading", module="tests.integration.few_threads_app") as server:
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(Wire(server.port)) for _ in range(30)]
            assert wires[-1].read_rest() == b""
        log = server.log()
        assert "Traceback" not in log
        assert log.count("no connection can be accepted just now: can't start new thread") == 1


def test_sessions_that_nobody_commits_make_room() -> None:
    with Served("eventlet", max_uncommitted=3) as server:
        known = [hello() for _ in range(3)]
        first = [poll(server.port, text).head for text in known]
        reply = poll(server.port, hello())
        assert over_http(reply) == "503 1013"
        assert 5 <= int(reply.headers["retry-after"]) <= 10
        with WebSocket(server.port) as websocket:
            websocket.text(hello())
            assert over_websocket(websocket, ask=False) == "1013"
        eventually(lambda: server.log().count("the server is full") == 2)
        # Whoever is known already is welcome again, and whoever commits counts no more.
        assert poll(server.port, known[1]).head["id"] == first[1]["id"]
        line = f"i{first[0]['id']} k{first[0]['key']} t1 n1 c1 a0"
        assert over_http(poll(server.port, line)) == "200"
        assert over_http(poll(server.port, hello())) == "200"
        assert over_http(poll(server.port, hello())) == "503 1013"
        time.sleep(5.1)
        # The oldest one that was never committed ends; its hello would begin another session.
        assert over_http(poll(server.port, hello())) == "200"
        line = f"i{first[1]['id']} k{first[1]['key']} t1 n1 c1 a0"
        assert over_http(poll(server.port, line)) == "200 4404 session"
        assert poll(server.port, known[1]).head["id"] != first[1]["id"]


def test_a_session_that_is_never_committed_ends_soon() -> None:
    machine = ServerMachine(key="k", grant=Grant(), bounds=Bounds(), now=0)
    machine.welcome(1, Transport.POLLING, Envelope(), 5)
    machine.timeout(5 + UNCOMMITTED_WAIT - 0.1)
    # A repeated hello shows that somebody is there.
    machine.welcome(2, Transport.POLLING, Envelope(), 30)
    events = machine.timeout(30 + UNCOMMITTED_WAIT - 0.1)
    assert not any(isinstance(event, SessionClosed) for event in events)
    (closed,) = machine.timeout(30 + UNCOMMITTED_WAIT)
    assert isinstance(closed, SessionClosed)
    assert closed.code == 4408


def test_a_committed_session_lives_as_long_as_granted() -> None:
    machine = ServerMachine(key="k", grant=Grant(), bounds=Bounds(), now=0)
    machine.welcome(1, Transport.WEBSOCKET, Envelope(), 0)
    machine.receive(1, Envelope(commit=1), 1)
    machine.detach(1, 2)
    assert machine.timeout(2 + Grant().inactivity - 0.1) == []
    assert len(machine.timeout(2 + Grant().inactivity)) == 1
