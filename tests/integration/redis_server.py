"""A Redis of a test's own: on a free port, with nothing on the disk, ended by its pid."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator

from tests.client.waiting import eventually
from tests.integration.served import START_WAIT, free_port


class RedisServer:
    """It can be killed, started again on the same port, and stopped for a while.

    Args:
        program: `redis-server`.
        password: what a client must say, if anything.
    """

    def __init__(self, program: str, password: str = "") -> None:
        self._port = free_port()
        login = f":{password}@" if password else ""
        self.url = f"redis://{login}127.0.0.1:{self._port}/0"
        self._command = [program, "--port", str(self._port), "--bind", "127.0.0.1"]
        self._command += ["--save", "", "--appendonly", "no"]
        if password:
            self._command += ["--requirepass", password]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it (again)."""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        eventually(self._listens, START_WAIT)

    def _listens(self) -> bool:
        assert self._process is not None, "started"
        assert self._process.poll() is None, "it ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port)):
            return True
        return False

    def kill(self) -> None:
        """End it, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """It answers nothing for a while; connections to it stay, and new ones are made."""
        assert self._process is not None, "started"
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)


@contextlib.contextmanager
def redis_server(program: str) -> Iterator[str]:
    """Run one; its URL."""
    server = RedisServer(program)
    try:
        server.start()
        yield server.url
    finally:
        server.kill()
