"""Numbered messages whose content follows from a seed: whoever has one knows what it must be."""

from __future__ import annotations

import base64
import random
from typing import Any

#: Bytes of the largest message.
LARGEST = 100_000
#: Log-uniform sizes have a mean of 8.7 kB. The exponent is bent until it is 4 kB, so that 5,000
#: messages are 20 MB: size = LARGEST ** (u ** BEND), u uniform. All sizes stay possible.
BEND = 2.2976
_BLOCK = 3 * LARGEST
#: What JSON, the envelope and UTF-8 treat in ways of their own; no surrogate pairs, which the two
#: languages would cut at different places.
_ODD = '"\\\x1e\n\x00\x7fé漢\u2028'
_PAIR = "😀"


class Payloads:
    """The messages of one direction: about half of them text, the others bytes.

    The sizes are spread evenly over their distribution and then shuffled: the
    total is the same for every seed.

    Args:
        seed: of the content, the sizes and their order.
        number: how many messages.
        bend: see `BEND`.
        largest: bytes of the largest message.
    """

    def __init__(
        self, seed: str, number: int, *, bend: float = BEND, largest: int = LARGEST
    ) -> None:
        dice = random.Random(seed)
        self.seed = seed
        self.sizes = [round(largest ** (((i + 0.5) / number) ** bend)) for i in range(number)]
        dice.shuffle(self.sizes)
        self._offsets = [dice.randrange(_BLOCK - size) for size in self.sizes]
        self._binary = [dice.random() < 0.5 for _ in self.sizes]
        self._bytes = dice.randbytes(_BLOCK)
        letters = "".join(chr(32 + byte % 95) for byte in self._bytes)
        # One character in a hundred is an odd one.
        self._text = "".join(
            dice.choice(_ODD) if byte == 7 and dice.random() < 2.56 else letter
            for byte, letter in zip(dice.randbytes(_BLOCK), letters, strict=True)
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, number: int) -> str | bytes:
        """The content of message `number`, from 0."""
        size, at = self.sizes[number], self._offsets[number]
        if self._binary[number]:
            return self._bytes[at : at + size]
        text = self._text[at : at + size]
        return _PAIR + text[2:] if size > 8 else text

    def to_json(self) -> dict[str, Any]:
        """What a page needs to work out the same; see harness.js."""
        return {
            "sizes": self.sizes,
            "offsets": self._offsets,
            "binary": self._binary,
            "bytes": base64.b64encode(self._bytes).decode(),
            "text": self._text,
            "pair": _PAIR,
        }
