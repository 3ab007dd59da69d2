"""What every browser engine of the tests has in common."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: What page.js writes into `document.title` and `window.status` once it has reported.
REPORTED = "reported"


class EngineError(RuntimeError):
    """The page has not reported; the text has what the engine said."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One page to be opened.

    Args:
        url: of the page.
        proxy: the HTTP proxy's URL, which is to be used also for loopback; None: none.
        credentials: user and password for the proxy.
        insecure: accept any certificate.
        timeout: seconds for all of it.
    """

    url: str
    proxy: str | None
    credentials: tuple[str, str] | None
    insecure: bool
    timeout: float

    @property
    def proxy_address(self) -> str:
        """The proxy as HOST:PORT; empty for none."""
        return (self.proxy or "").partition("://")[2].rstrip("/")


@dataclass(frozen=True, slots=True)
class Engine:
    """A browser engine, perhaps robbed of something.

    Args:
        name: a word for command lines.
        title: for people.
        needs: names of tests/needs.py.
        websocket: whether its own WebSocket can work.
        drive: opens a page and returns once it has reported.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    websocket: bool
    drive: Callable[[Visit], None]

    def run(
        self,
        url: str,
        *,
        proxy: str | None = None,
        credentials: tuple[str, str] | None = None,
        insecure: bool = False,
        timeout: float = 60.0,
    ) -> None:
        """Open the page in a fresh profile, and return once it has reported.

        Raises:
            EngineError: it has not, in time.
        """
        self.drive(Visit(url, proxy, credentials, insecure, timeout))


def run_program(
    command: Sequence[str | Path],
    visit: Visit,
    *,
    environment: Mapping[str, str] | None = None,
    statuses: Sequence[int] = (0,),
) -> str:
    """Run an engine that is a program, with a home of its own, and return what it printed.

    It ends by itself when the page has reported, with one of these statuses.

    Raises:
        EngineError: it failed, or did not end in time.
    """
    with tempfile.TemporaryDirectory() as home:
        variables = {**os.environ, "HOME": home, "XDG_RUNTIME_DIR": home, **(environment or {})}
        try:
            done = subprocess.run(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                env=variables,
                cwd=home,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=visit.timeout,
            )
        except subprocess.TimeoutExpired as expired:
            said = expired.stdout or b""
            text = said.decode(errors="replace") if isinstance(said, bytes) else said
            raise EngineError(f"no report within {visit.timeout} s: {text[-2000:]}") from None
    if done.returncode not in statuses:
        raise EngineError(f"ended with {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout
