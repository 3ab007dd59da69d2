"""What JSON of a client is looked at again, and refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fallback_transport.application import MalformedPacket
from fallback_transport.inspection import check, suspect


@pytest.mark.parametrize(
    "number",
    ["NaN", "-Infinity", "1e999", "-1E+309", "0.1e400", "9" * 310 + ".0", "1" + "0" * 309 + "e1"],
)
@pytest.mark.parametrize("before", ["", "x" * 999])
def test_a_number_that_no_browser_can_carry_is_looked_for(number: str, before: str) -> None:
    for text in (f'2["chat","{before}",{number}]', f'2["chat",{number},"{before}"]'):
        assert suspect(json.loads(text[1:]), text)
        with pytest.raises(MalformedPacket):
            check(json.loads(text[1:]), None)


@pytest.mark.parametrize("value", [0, 1e9, -1.5, "e1", "hello" * 99, "Name", "3E-7", 10**98, None])
def test_the_usual_is_not_looked_at_again(value: Any) -> None:
    for data in (["chat", value], ["chat", [value]], ["chat", [value, "x" * 5000]]):
        assert not suspect(data, "2" + json.dumps(data))


@pytest.mark.parametrize("before", [0, 1, 150, 299, 300, 301, 1234])
@pytest.mark.parametrize("behind", [0, 1, 299, 1000])
def test_digits_are_many_from_300_on(before: int, behind: int) -> None:
    for count in (298, 299, 300, 301, 599):
        text = "x" * before + "1" * count + "x" * (behind + 1)
        assert suspect([[]], text) is (count >= 300)


@pytest.mark.parametrize("many", [[[]] * 100, [{}] * 100])
@pytest.mark.parametrize("length", [0, 5000])
def test_many_brackets_are_looked_through(many: list[Any], length: int) -> None:
    data = ["chat", "x" * length, *many]
    assert suspect(data, "2" + json.dumps(data))
    assert not suspect(data[:-1], "2" + json.dumps(data[:-1]))
    check(data, None)
    # What is in texts is counted, too: on the safe side.
    text = ["chat", "x" * length, 1.5, "[" * 100]
    assert suspect(text, "2" + json.dumps(text))
    assert not suspect(["chat", "[" * 5000], "")


@pytest.mark.parametrize("nest", ["[{}]", '{{"a":{}}}'])
def test_the_deepest_that_is_taken(nest: str) -> None:
    def nested(depth: int) -> Any:
        text = "0"
        for _ in range(depth):
            text = nest.format(text)
        return json.loads(text)

    check(nested(100), None)
    with pytest.raises(MalformedPacket, match="nested deeper than 100"):
        check(nested(101), None)


@pytest.mark.parametrize("number", [True, 1.0, "1", -1, 2, None])
def test_an_attachment_that_is_not_there_is_looked_for(number: Any) -> None:
    place = {"_placeholder": True, "num": number}
    check(["chat", [place]], None)
    check(["chat", [{**place, "num": 1}, {"_placeholder": True}, {"num": number}]], 2)
    with pytest.raises(MalformedPacket, match="do not fit"):
        check(["chat", [place]], 2)


def test_an_attachment_has_one_place() -> None:
    """What is handed on would have it as often as it has places."""
    first, second = ({"_placeholder": True, "num": number} for number in (0, 1))
    check(["chat", [second], {"a": first}], 2)
    with pytest.raises(MalformedPacket, match="do not fit"):
        check(["chat", [second], {"a": first, "b": second}], 2)
