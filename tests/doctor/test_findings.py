"""`diagnose`: what observations mean; the page's half has the same cases."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fallback_transport.doctor.findings import diagnose, kinds

CASES = json.loads(Path(__file__).with_name("cases.json").read_text())
ROOT = Path(__file__).resolve().parents[2]
DOCTOR_MD = (ROOT / "fallback_transport" / "doctor" / "DOCTOR.md").read_text()


def merged(value: Any, change: Any) -> Any:
    """`change` put over `value`: a JSON merge patch (RFC 7396)."""
    if not isinstance(change, Mapping):
        return change
    result = dict(value) if isinstance(value, Mapping) else {}
    for name, each in change.items():
        if each is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), each)
    return result


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["about"])
def test_what_observations_mean(case: dict[str, Any]) -> None:
    observations = merged(CASES["sound"], case["change"])
    before = copy.deepcopy(observations)
    diagnosis = diagnose(observations)
    assert observations == before
    assert [[each.code, each.text] for each in diagnosis.findings] == case["findings"]
    assert diagnosis.report()["verdict"] == case["verdict"]
    assert diagnosis.codes == [code for code, _ in case["findings"]]


def test_every_code_has_a_case() -> None:
    found = {code for case in CASES["cases"] for code, _ in case["findings"]}
    assert found == set(kinds())


def test_every_code_is_documented() -> None:
    assert set(kinds()) <= set(re.findall(r"`([a-z]+-?[a-z-]+)`", DOCTOR_MD))


def test_what_was_not_observed_is_no_reason_to_fail() -> None:
    assert diagnose({}).codes == ["ws-absent", "poll-blocked"]
    assert diagnose({}).transport == "none"
    assert diagnose({"tls": {"error": None}}).codes == ["ws-absent", "poll-blocked"]


def test_kinds_say_what_they_are_about() -> None:
    for kind in kinds().values():
        assert kind.about in ("websocket", "polling", "network")
        assert kind.severity in ("good", "note", "bad")
        assert kind.text.endswith(".")
