"""The demo as a process, for its test and its screenshot, and how to start a Chromium quietly."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Seconds for the demo to listen, on a slow and busy machine.
START_WAIT = 30.0

#: What Chromium is to do without: all that Playwright says, as of two such lists it obeys the last.
CHROMIUM_WITHOUT = (
    *("AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose"),
    *("DialMediaRouteProvider", "GlobalMediaControls", "HttpsUpgrades", "LensOverlay"),
    *("MediaRouter", "PaintHolding", "ThirdPartyStoragePartitioning"),
    *("BlockOriginHeaderModificationOnRedirect", "AvoidCorsURLLoaderRestartOnRedirect"),
    *("Translate", "AutoDeElevate", "OptimizationHints", "NetworkTimeServiceQuerying"),
    *("AimEnabled", "msForceBrowserSignIn", "msEdgeUpdateLaunchServicesPreferredVersion"),
    # Two pages behind the address bar of every window, which nobody sees: half of the work of
    # opening one.
    *("WebUIOmniboxPopup", "WebUIOmniboxAimPopup"),
)
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Chromium looks for these whatever the flags above say; here nobody answers.
    "--gaia-url=http://127.0.0.1:1",
    "--google-base-url=http://127.0.0.1:1",
    "--component-updater=url-source=http://127.0.0.1:1/x,disable-background-downloads",
    f"--disable-features={','.join(CHROMIUM_WITHOUT)}",
]


class DemoProcess:
    """``python -m demo`` on a free port; a context manager.

    Args:
        mode: the async mode.
        port: 0 for a free one.

    Raises:
        RuntimeError: on entering: it did not start; the text has what it said.
    """

    url: str

    def __init__(self, mode: str = "eventlet", port: int = 0) -> None:
        self._mode = mode
        self._port = port
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed in __exit__

    def __enter__(self) -> DemoProcess:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "demo"),
                *("--port", str(self._port), "--async-mode", self._mode),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + START_WAIT
        while self._process.poll() is None and time.monotonic() < deadline:
            address = self.log().rpartition("The demo is at ")[2]
            if address.endswith("\n"):
                self.url = address.strip()
                if self._answers():
                    return self
            time.sleep(0.05)
        said = self.log()
        self.__exit__()
        raise RuntimeError(f"the demo did not start:\n{said}")

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def kill(self) -> None:
        """End it without a word."""
        self._process.kill()
        self._process.wait()

    def log(self) -> str:
        """All that it has printed."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.url, timeout=5).close()
        except OSError:
            return False
        return True
