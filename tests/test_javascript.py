"""What JAVASCRIPT.md says is so: its tables are complete, and its names exist."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

from tests.documents import JAVASCRIPT, README, ROOT, code, table

SCRIPT = ROOT / "static" / "fallback_transport.js"


def evaluate(node: str, expression: str) -> Any:
    """What a JavaScript expression gives; `F` is the library."""
    text = f"const F = require({str(SCRIPT)!r}); console.log(JSON.stringify({expression}))"
    done = subprocess.run([node, "-e", text], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_javascript_names_exist(need: Callable[[str], str]) -> None:
    rows = table(JAVASCRIPT.section("A session")) + table(JAVASCRIPT.section("As a WebSocket"))
    names = [text for row in rows for text in code(row[0])]
    members = {text.partition("(")[0].partition(".")[2] for text in names if "session." in text}
    assert members
    there = evaluate(
        need("node"),
        "Object.getOwnPropertyNames(F.connect('http://host/', {environment: {Date, Math,"
        " setTimeout() {}, clearTimeout() {},"
        " XMLHttpRequest: class {open() {} setRequestHeader() {} send() {}}}}))",
    )
    assert members <= set(there)
    assert {*there} - {"onerror"} <= members, "not all is told"
    library = {
        found[1] for text in names if (found := re.search(r"\bFallbackTransport\.(\w+)", text))
    }
    assert library == set(evaluate(need("node"), "Object.keys(F)"))


def test_what_takes_several_arguments_is_said_to() -> None:
    declared = (ROOT / "static" / "fallback_transport.d.ts").read_text().split("class Session ")[-1]
    several = set(re.findall(r"^  (\w+)\(.*\.\.\.data", declared, re.MULTILINE))
    told = {
        name
        for row in table(JAVASCRIPT.section("A session"))
        for name in re.findall(r"session\.(\w+)\(", row[0])
        if "...data" in row[0] + row[1].partition(";")[0]
    }
    assert several == told == {"on", "off", "emit"}


def test_the_codes_of_what_is_thrown_are_told() -> None:
    codes = set(re.findall(r'failure\("([a-z-]+)"', SCRIPT.read_text(encoding="utf-8")))
    told = {text for row in table(JAVASCRIPT.section("A session")) for text in code(row[1])}
    assert "full" in codes
    assert codes <= told
    declared = (ROOT / "static" / "fallback_transport.d.ts").read_text(encoding="utf-8")
    comment = declared.split("export interface SessionError")[0].rpartition("/**")[2]
    assert codes == set(re.findall(r'`"([a-z-]+)"`', comment))


def test_the_times_of_the_client_are_its_own(need: Callable[[str], str]) -> None:
    told = {code(row[0])[0]: code(row[1])[0] for row in table(JAVASCRIPT.section("Times"))}
    found = re.search(r"var TIMING = (\{.*?\});", SCRIPT.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    times = found[1]
    assert told == evaluate(
        need("node"),
        f"Object.fromEntries(Object.entries({times}).map(([k, v]) => [k, String(v)]))",
    )
    assert re.search(rf"within\s+{told['hedge']} ms", README.text)
