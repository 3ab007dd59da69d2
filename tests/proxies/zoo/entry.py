"""What the zoo has to say of a proxy, and what a test gets when it has started one."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class Kind(enum.Enum):
    """Where a proxy stands."""

    DIRECT = "direct"
    #: Before the server: the page is opened at the proxy.
    REVERSE = "reverse"
    #: Before the browser, which is told of it: the page is opened at the server.
    FORWARD = "forward"


@dataclass(frozen=True, slots=True)
class Hop:
    """A way to the server that is open now.

    Args:
        url: what pages are opened at, without a slash at the end.
        proxy: what is to be set in the browser, if anything.
        credentials: user and password, which that proxy demands.
        insecure: whether the server's certificate is one that nobody trusts.
        ca: a file with who vouches for it, where that is known.
        pids: the proxy's processes, as far as they were started here.
    """

    url: str
    proxy: str | None = None
    credentials: tuple[str, str] | None = None
    insecure: bool = False
    ca: str | None = None
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """A proxy, set up in one way.

    Args:
        name: its key in ``ZOO``.
        title: what a reader of a table is shown.
        needs: names of ``tests/needs.py``.
        findings: the codes of what the doctor in a terminal finds, in their order.
        run: gives the way to the server on a loopback port; see `start`.
        impossible: why no HTTP at all gets through, where that is so.
        slow: seconds that the proxy itself may take before it answers.
    """

    name: str
    title: str
    kind: Kind
    findings: str
    run: Callable[[int], AbstractContextManager[Hop]]
    needs: tuple[str, ...] = ()
    impossible: str | None = None
    slow: float = 0.0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no name")
        if not self.title:
            raise ValueError(f"{self.name} has no title")
        if self.slow < 0:
            raise ValueError(f"{self.name}: {self.slow} seconds")

    @property
    def websocket(self) -> bool:
        """Whether a modern browser's WebSocket gets through."""
        return "ws-ok" in self.findings.split()

    def start(self, upstream_port: int) -> AbstractContextManager[Hop]:
        """Start it before the server on this loopback port, and end it with the context.

        It ends with this process, too, and with the thread that called: that is how the
        kernel counts parents.

        Raises:
            MissingError: something that it needs is not installed.
            ProxyFailed: it did not start; the text has what it said.
        """
        return self.run(upstream_port)
