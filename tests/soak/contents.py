"""What the server's end sends: text and bytes of all sizes, which follow from a seed."""

from __future__ import annotations

import random

#: Bytes (of a text: characters) of the largest message; sizes are log-uniform from 1.
LARGEST = 50_000
_BLOCK = 3 * LARGEST
#: What JSON, the envelope and UTF-8 treat in ways of their own.
_ODD = '"\\\x1e\n\x00\x7fé漢\u2028😀'


class Contents:
    """An endless supply.

    Args:
        seed: of sizes and contents.
        binary: whether half of them are bytes.
    """

    def __init__(self, seed: str, *, binary: bool = True) -> None:
        self._dice = random.Random(seed)
        self._share = 0.5 if binary else 0.0

    def next(self) -> str | bytes:
        """The next one."""
        size = round(LARGEST ** self._dice.random())
        at = self._dice.randrange(_BLOCK - size)
        block = _BYTES if self._dice.random() < self._share else _TEXT
        return block[at : at + size]

    def pause(self, rate: float) -> float:
        """Seconds until the next one, of `rate` a second: at random, not in step."""
        return self._dice.expovariate(rate)


def _blocks() -> tuple[bytes, str]:
    dice = random.Random("contents")
    bytes_ = dice.randbytes(_BLOCK)
    # One character in a hundred is an odd one.
    text = (dice.choice(_ODD) if dice.random() < 0.01 else chr(32 + byte % 95) for byte in bytes_)
    return bytes_, "".join(text)


_BYTES, _TEXT = _blocks()
