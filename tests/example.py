"""An example of a document, running: its program, and its page in Chromium."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import sync_playwright

from demo.process import CHROMIUM_FLAGS
from tests.client.waiting import eventually
from tests.documents import ROOT
from tests.integration.served import START_WAIT, free_port


def answers(process: subprocess.Popen[bytes], url: str) -> bool:
    """Whether the program that serves `url` does so by now."""
    assert process.poll() is None, "the example ended"
    with contextlib.suppress(OSError):
        urllib.request.urlopen(url, timeout=5).close()
        return True
    return False


@contextlib.contextmanager
def serving(folder: Path, program: str, page: str) -> Iterator[str]:
    """Run a program that serves on port 5000, with a page, elsewhere; give the page's address."""
    port = free_port()
    (folder / "static").mkdir()
    (folder / "static" / "page.html").write_text(page)
    (folder / "app.py").write_text(program.replace(".run(app", f".run(app, port={port}"))
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "app.py"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    url = f"http://127.0.0.1:{port}/page.html"
    try:
        eventually(lambda: answers(process, url), START_WAIT)
        yield url
    finally:
        # Not by SIGTERM: it would wait for a browser that has gone without a word.
        process.kill()
        process.wait(10)


def console(chromium: str, url: str, wanted: set[str]) -> set[str]:
    """What a page says in the console, until it has said all that is wanted."""
    said: set[str] = set()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        page = browser.new_page()
        page.on("console", lambda message: said.add(message.text))
        page.on("pageerror", lambda error: said.add(f"uncaught: {error}"))
        page.goto(url)
        deadline = time.monotonic() + 10
        while not wanted <= said and time.monotonic() < deadline:
            page.wait_for_timeout(50)
        said.add(page.title())
        browser.close()
    return said
