"""The browser file with what tests look at beside what it shows of itself, as tests/js has it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.integration.served import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

SCRIPT = ROOT / "static" / "fallback_transport.js"
INSIDE = ROOT / "tests" / "js" / "inside.json"


def script() -> str:
    """The file, in which library and sessions have `_core`."""
    text = SCRIPT.read_text(encoding="utf-8")
    for before, after in json.loads(INSIDE.read_text(encoding="utf-8")):
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


def show(context: BrowserContext) -> None:
    """Have the pages of a context load it in place of the server's."""
    body = script()
    context.route(
        "**/fallback_transport.js*",
        lambda route: route.fulfill(body=body, content_type="text/javascript"),
    )
