"""Bad requests, and those of pages of other origins."""

from __future__ import annotations

import time

from ..outcomes import over_http
from ..raw import TEXT, Closed, ask, frame, handshake, hello, poll, request
from .arena import CASES, FRIEND, LENGTH, POST, Arena, Case, case

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
