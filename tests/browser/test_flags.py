"""How Chromium is started: what Playwright has it do without stays so."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser

pytestmark = pytest.mark.requires("chromium")


def test_nothing_that_playwright_switches_off_comes_back(browser: Browser) -> None:
    """Of several lists Chromium takes the last."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto("chrome://version")
        line = page.inner_text("#command_line")
    *others, last = [{*names.split(",")} for names in re.findall(r"--disable-features=(\S+)", line)]
    assert others
    assert last >= set().union(*others)
