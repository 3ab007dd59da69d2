"""Behind each proxy, the doctor's page finds what the doctor in a terminal does, if a page can."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from demo.process import CHROMIUM_FLAGS
from tests.integration.served import Served
from tests.needs import find

from . import ZOO, Hop, addresses
from .test_doctor import IDLE

pytestmark = [pytest.mark.zoo, pytest.mark.integration]

#: What a page cannot tell: why a handshake failed that never reached the server, and who has
#: vouched for the server.
UNSEEN = {"ws-tunnel-refused": "ws-refused", "ws-reset": "ws-refused", "private-ca": None}
#: Where the browser is in the way, too: it sends a POST again by itself, when the answer is lost on
#: a connection that was used before.
IN_CHROMIUM = {"fault-drop-responses": {"poll-unreliable": "repeated"}}
#: Seconds for an examination, when many run at once.
PATIENCE = 90.0
#: How many run at once.
ABREAST = 8


def visible(name: str) -> list[str]:
    """What of an entry's findings a page is to find."""
    different = {**UNSEEN, **IN_CHROMIUM.get(name, {})}
    codes = [different.get(code, code) for code in ZOO[name].findings.split()]
    return [code for code in codes if code is not None]


def opened(browser: Browser, hop: Hop, stack: ExitStack) -> Page:
    """The doctor's page, behind this hop."""
    options: dict[str, Any] = {"ignore_https_errors": hop.insecure or hop.ca is not None}
    if hop.proxy:
        options["proxy"] = {"server": hop.proxy}
        if hop.credentials:
            options["proxy"].update(username=hop.credentials[0], password=hop.credentials[1])
    context = browser.new_context(**options)
    stack.callback(context.close)
    page = context.new_page()
    page.goto(f"{hop.url}/fallback/doctor?idle={IDLE:g}")
    return page


def finish(page: Page) -> dict[str, Any]:
    """The report, once there is one."""
    page.wait_for_selector("body[data-state=finished]", timeout=PATIENCE * 1000)
    # Not by the clipboard, which pages of http have not.
    page.evaluate("document.execCommand = () => false; delete Navigator.prototype.clipboard")
    page.click("#copy-json")
    report: dict[str, Any] = json.loads(page.text_content("#report") or "")
    return report


@pytest.fixture(scope="module")
def reports(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """What is found behind each proxy whose test was chosen and that is installed."""
    chosen = [
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and "reports" in item.fixturenames
    ]
    found: dict[str, Any] = {}
    with Served(host=addresses.server_address()) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find("chromium"), args=CHROMIUM_FLAGS)
        while chosen:
            names, chosen = chosen[:ABREAST], chosen[ABREAST:]
            with ExitStack() as stack:
                pages = {}
                for name in names:
                    try:
                        hop = stack.enter_context(ZOO[name].start(server.port))
                        pages[name] = opened(browser, hop, stack)
                    except Exception as error:  # of this proxy, which its own test is to tell
                        found[name] = error
                for name, page in pages.items():
                    try:
                        found[name] = finish(page)
                    except Exception as error:
                        found[name] = error
        browser.close()
    return found


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.requires("chromium", *ZOO[name].needs))
        for name in ZOO
        if ZOO[name].impossible is None
    ],
)
def test_what_the_page_finds(name: str, reports: Mapping[str, Any]) -> None:
    report = reports[name]
    if isinstance(report, Exception):
        raise report
    print(json.dumps(report))
    assert [each["code"] for each in report["findings"]] == visible(name)
