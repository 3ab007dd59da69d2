"""What JSON of a client is looked at again, and refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fallback_transport.conversation import MalformedPacket
from fallback_transport.inspection import check, suspect


@pytest.mark.parametrize(
    "number",
    ["NaN", "-Infinity", "1e999", "-1E+309", "0.1e400", "9" * 310 + ".0", "1" + "0" * 309 + "e1"],
)
@pytest.mark.parametrize("before", ["", "x" * 999])
def test_a_number_that_no_browser_can_carry_is_looked_for(number: str, before: str) -> None:
    for text in (f'2["chat","{before}",{number}]', f'2["chat",{number},"{before}"]'):
        assert suspect(text)
        with pytest.raises(MalformedPacket):
            check(json.loads(text[1:]), None)


@pytest.mark.parametrize("value", [0, 1e9, -1.5, "e1", "hello" * 99, "Name", "3E-7", 10**98, None])
def test_the_usual_is_not_looked_at_again(value: Any) -> None:
    assert not suspect("2" + json.dumps(["chat", value]))
