"""What the numbered messages of a run contain: worked out by page.js and, independently, here.

Only whole numbers below 2 ** 53, which every engine has alike; no ``Math.pow``, whose last bit
differs between them.
"""

from __future__ import annotations

#: Characters, or bytes, of the messages: each in turn. 125 to 127 and 65,535 are where WebSocket's
#: lengths change their form; 10,000 is more than one TCP segment.
SIZES = (1, 2, 3, 7, 16, 50, 125, 126, 127, 200, 1000, 3000, 10_000)
#: Every third message is bytes; 3 and the number of sizes have no common divisor, so that 39
#: messages have every size of either kind.
KINDS = 3
#: Every fifth message asks for a reply.
ASKS = 5
#: What JSON, UTF-8, C strings and proxies may treat in ways of their own: the control characters
#: (the separator of envelopes among them), quotes, line separators that JavaScript had not in
#: strings, marks that decoders strip, the ends of the surrogates' range, non-characters, pairs.
CHARACTERS = (
    *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    *" !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    *map(chr, range(32)),
    *"\x7f\x80\x85\x9f\xa0\xad\xe9\xdf\u0301\u03a9\u200b\u200d\u200e\u2028\u2029\u202e\u6f22",
    *"\ud7ff\ue000\ufdd0\ufeff\ufff9\ufffd\ufffe\uffff",
    *"\U00010000\U0001f600\U0001f469\U0010fffd\U0010ffff",
)

#: Park and Miller's generator: products stay below 2 ** 46.
_MULTIPLIER, _MODULUS = 16_807, 2_147_483_647
#: A prime below 2 ** 32; times 31 it stays far below 2 ** 53.
_DIGEST_MODULUS = 4_294_967_291


def content(direction: int, number: int) -> str | bytes:
    """Message `number` (from 0) of a direction: 1 is up, to the server, 2 is down."""
    state = direction * 1_000_003 + number * 7919 + 1
    size = SIZES[number % len(SIZES)]
    numbers = []
    for _ in range(size):
        state = state * _MULTIPLIER % _MODULUS
        numbers.append(state)
    if number % KINDS == 2:
        return bytes(each % 256 for each in numbers)
    return "".join(CHARACTERS[each % len(CHARACTERS)] for each in numbers)


def digest(data: str | bytes) -> tuple[str, int, int]:
    """Kind, length (in UTF-16 units, as JavaScript counts, or bytes) and a checksum."""
    units: memoryview | bytes
    if isinstance(data, str):
        units = memoryview(data.encode("utf-16-le", "surrogatepass")).cast("H")
        kind = "text"
    else:
        units, kind = data, "bytes"
    checksum = 0
    for unit in units:
        checksum = (checksum * 31 + unit) % _DIGEST_MODULUS
    return kind, len(units), checksum


def reply_to(number: int) -> int:
    """What the other end replies to a message that asks."""
    return 2 * number + 1
