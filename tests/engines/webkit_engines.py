"""Engines of their day: WebKit as of 2011 (Qt 4), 2013 (PhantomJS) and 2016 (Qt 5); edbrowse."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

from tests.engines.engine import REPORTED, Engine, EngineError, Visit, run_program
from tests.needs import find

HERE = Path(__file__).parent


def _phantomjs(visit: Visit, websocket: bool) -> None:
    options = []
    if visit.proxy:
        options += [f"--proxy={visit.proxy_address}", "--proxy-type=http"]
        if visit.credentials:
            options.append(f"--proxy-auth={':'.join(visit.credentials)}")
    if visit.insecure:
        options.append("--ignore-ssl-errors=true")
    run_program(
        [
            *(find("phantomjs"), *options, HERE / "phantom.js", visit.url),
            *([] if websocket else ["without-websocket"]),
        ],
        visit,
        # Its OpenSSL cannot read the configuration of today.
        environment={"OPENSSL_CONF": "/dev/null"},
    )


def _wkhtmltopdf(visit: Visit) -> None:
    """It prints the page once `window.status` says so."""
    options = ["--debug-javascript", "--window-status", REPORTED]
    if visit.proxy:
        user = f"{':'.join(visit.credentials)}@" if visit.credentials else ""
        options += ["--proxy", f"http://{user}{visit.proxy_address}"]
    # 1: a request failed somewhere on the way, as networks make them here.
    run_program([find("wkhtmltopdf"), *options, visit.url, "page.pdf"], visit, statuses=(0, 1))


def _qtwebkit(visit: Visit) -> None:
    proxy = [visit.proxy_address] if visit.proxy else []
    if visit.credentials:
        proxy.append(":".join(visit.credentials))
    run_program(
        [find("qtwebkit"), HERE / "qtwebkit.py", visit.url, *proxy],
        visit,
        environment={"QT_QPA_PLATFORM": "offscreen"},
    )


def _edbrowse(visit: Visit) -> None:
    """A line editor for web pages: it runs a page's timers while it waits for a command."""
    with tempfile.TemporaryDirectory() as home:
        settings = []
        if visit.proxy:
            user = f"{':'.join(visit.credentials)}@" if visit.credentials else ""
            settings.append(f"proxy = http|https * {user}{visit.proxy_address}")
        Path(home, ".ebrc").write_text("\n".join([*settings, ""]))
        process = subprocess.Popen(
            [find("edbrowse")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HOME": home},
            cwd=home,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        said = b""
        deadline = time.monotonic() + visit.timeout
        try:
            insecure = "vs-\n" if visit.insecure else ""
            process.stdin.write(f"{insecure}b {visit.url}\n".encode())
            while time.monotonic() < deadline and process.poll() is None:
                # Render the page again, which it would do every 20 s, and print it.
                process.stdin.write(b"rr\n,p\n")
                process.stdin.flush()
                time.sleep(0.25)
                said += process.stdout.read() or b""
                if REPORTED.encode() in said:
                    return
        except BrokenPipeError:
            said += process.stdout.read() or b""
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
    text = said[-2000:].decode(errors="replace")
    raise EngineError(f"no report within {visit.timeout} s: {text}")


PHANTOMJS = Engine(
    "phantomjs", "PhantomJS", ("phantomjs",), True, lambda visit: _phantomjs(visit, True)
)
PHANTOMJS_WITHOUT = Engine(
    "phantomjs-without-websocket",
    "PhantomJS without WebSocket",
    ("phantomjs",),
    False,
    lambda visit: _phantomjs(visit, False),
)
QT4_WEBKIT = Engine("qt4-webkit", "Qt 4 WebKit", ("wkhtmltopdf",), False, _wkhtmltopdf)
QTWEBKIT = Engine("qtwebkit", "QtWebKit", ("qtwebkit",), True, _qtwebkit)
EDBROWSE = Engine("edbrowse", "edbrowse", ("edbrowse",), False, _edbrowse)
