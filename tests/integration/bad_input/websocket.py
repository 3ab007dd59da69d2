"""Bad frames and handshakes."""

from __future__ import annotations

import struct
import threading
import time

from ..outcomes import over_http, over_websocket
from ..raw import BINARY, CLOSE, CONT, PING, PONG, TEXT, ask, frame, handshake, hello, request
from .arena import CASES, Arena, Case, case
from .http import http

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
