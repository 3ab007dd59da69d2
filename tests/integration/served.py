"""A server process for a test: started on a free port, ended by its pid."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODES = ("eventlet", "gevent", "threading")
#: eventlet's sessions are on its hub, unless they are told not to be.
OVER_WSGI = "eventlet over WSGI"
#: Seconds for a server to listen, on a slow and busy machine.
START_WAIT = 30.0


#: Whoever was given one may not listen on it yet.
_given: set[int] = set()


def free_port() -> int:
    """A loopback port that nobody listens on, and that this process was not given before."""
    while True:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port: int = sock.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


def listens(process: subprocess.Popen[bytes], port: int, host: str = "127.0.0.1") -> bool:
    """Wait until it does; False if it ends, or has not begun after `START_WAIT`."""
    deadline = time.monotonic() + START_WAIT
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((host, port)):
            return True
        time.sleep(0.02)
    return False


class Served:
    """``tests.integration.application`` (or another module like it) in its own process.

    Args:
        mode: the async mode, or `OVER_WSGI`.
        options: `FallbackTransport`'s options.
        module: what to run with ``python -m``; it takes the same arguments.
    """

    def __init__(
        self,
        mode: str = "eventlet",
        *,
        module: str = "tests.integration.application",
        **options: Any,
    ) -> None:
        self.mode = "eventlet" if mode == OVER_WSGI else mode
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._module = module
        #: What it was started with.
        self.options = {**options, "binding": "wsgi"} if mode == OVER_WSGI else options
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed in __exit__
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Served:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._log.close()

    def start(self) -> None:
        """Start it (again), on the same port."""
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-W",
                "ignore::DeprecationWarning",
                "-m",
                self._module,
                self.mode,
                str(self.port),
                json.dumps(self.options),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        host = "::1" if self.options.get("host", "").startswith("::1") else "127.0.0.1"
        if listens(self._process, self.port, host):
            return
        self.end()
        raise RuntimeError(f"the server did not start:\n{self.log()}")

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None, "started"
        return self._process.pid

    def end(self, how: int = signal.SIGKILL) -> None:
        """End it, with a signal; after SIGTERM it would say goodbye to everybody first."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, how)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self) -> str:
        """All that it has logged."""
        self._log.flush()
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def get(self, path: str) -> Any:
        """The JSON that a plain GET gives."""
        with urllib.request.urlopen(self.url + path, timeout=10) as response:
            return json.loads(response.read())

    def seen(self, session_id: str) -> list[list[Any]]:
        """What the handlers saw of a session, in order."""
        events: list[list[Any]] = self.get(f"/seen?session={session_id}")
        return events
