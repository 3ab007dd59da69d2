"""Bad envelopes, packets and hellos, over either transport."""

from __future__ import annotations

import json

from ..raw import SEPARATOR, hello
from .arena import both, first

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
