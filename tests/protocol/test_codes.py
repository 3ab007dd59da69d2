"""Close codes: which may be used, and that PROTOCOL.md lists exactly those there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import fallback_transport.protocol
from fallback_transport.protocol.codes import MAX_REASON_BYTES, CloseCode, valid_close

PROTOCOL = Path(fallback_transport.protocol.__path__[0]).parent / "PROTOCOL.md"


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1005, 1007, 1011, 1014, 3000, 3999, 4000, 4400, 4499, 4999]
)
def test_a_valid_code(code: int) -> None:
    assert valid_close(code, "") is None


@pytest.mark.parametrize("code", [-1000, 0, 999, 1004, 1006, 1015, 2000, 2999, 5000, 65536, 10**20])
def test_an_invalid_code_is_named(code: int) -> None:
    assert valid_close(code, "") == f"{code} is not a close code: use 1000, or 3000 to 4999"


@pytest.mark.parametrize(
    ("reason", "problem"),
    [
        ("", None),
        ("x" * 123, None),
        ("x" * 124, "the reason has 124 bytes of UTF-8; at most 123 fit"),
        ("é" * 61, None),
        ("é" * 62, "the reason has 124 bytes of UTF-8; at most 123 fit"),
        ("\U0001f600" * 30, None),
        ("\U0001f600" * 31, "the reason has 124 bytes of UTF-8; at most 123 fit"),
        ("\0\x1e\x7f\u2028", None),
        ("\ud800", "the reason has a lone surrogate, which UTF-8 cannot carry"),
        ("a\udfff", "the reason has a lone surrogate, which UTF-8 cannot carry"),
    ],
)
def test_the_reason_must_fit_a_close_frame(reason: str, problem: str | None) -> None:
    assert valid_close(1000, reason) == problem


def test_no_code_comes_without_a_reason() -> None:
    assert valid_close(1005, "why") == "1005 says that no code was given, and takes no reason"


@pytest.mark.parametrize(("code", "reason"), [("bye", ""), (4001.0, ""), (4001, None), (1005, 0)])
def test_what_is_no_code_or_no_reason_is_shown(code: object, reason: object) -> None:
    problem = valid_close(code, reason)
    assert problem is not None
    assert problem.endswith(f"as its code, and then a text: {code!r}, {reason!r}")


def test_the_code_is_looked_at_before_the_reason() -> None:
    assert "not a close code" in (valid_close(0, "x" * 200) or "")


def test_a_close_frame_has_room_for_the_reason() -> None:
    # RFC 6455: control frames carry at most 125 bytes, the code takes 2.
    assert MAX_REASON_BYTES == 125 - 2


@pytest.mark.parametrize("code", CloseCode)
def test_every_code_of_ours_can_go_over_the_wire(code: CloseCode) -> None:
    assert valid_close(code, "") is None


def test_the_protocol_lists_exactly_these_codes() -> None:
    section = PROTOCOL.read_text(encoding="utf-8").split("| code | what |")[1].split("\n\n")[0]
    listed = [int(code) for code in re.findall(r"^\| (\d{4}) \|", section, re.MULTILINE)]
    assert listed == sorted(CloseCode)
