"""A server that is measured: its name, its program, its process."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from tests.integration.served import ROOT, free_port, listens
from tests.needs import node

from . import compiled

SUBJECTS = Path(__file__).with_name("subjects")
#: Five thousand clients with two connections each, or ten thousand that are idle, and some more.
DESCRIPTORS = 12_000


@dataclass(frozen=True, slots=True)
class Subject:
    """One way to serve messages.

    Args:
        name: on the command line and in tables.
        program: a module of `tests.bench.subjects`, or a file for Node.js there.
        arguments: of the program, before the port.
        protocol: what the generator speaks with it.
        transports: those it has.
        mode: the async mode, of those in Python.
        floor: whether it is only there to show what is possible.
        compiled: whether its package is not that of the sources, but compiled.
    """

    name: str
    program: str
    arguments: tuple[str, ...]
    protocol: str
    transports: tuple[str, ...] = ("websocket", "polling")
    mode: str = ""
    floor: bool = False
    compiled: bool = False

    def command(self) -> list[str]:
        """Its command line, without the port."""
        if self.program.endswith(".mjs"):
            return [node(), str(SUBJECTS / self.program)]
        module = f"tests.bench.subjects.{self.program}"
        # eventlet's deprecation is not what is measured.
        words = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", module]
        return [*words, *self.arguments]

    def place(self) -> tuple[Path, dict[str, str]]:
        """The folder and the environment to start it in."""
        if not self.compiled:
            return ROOT, dict(os.environ)
        # What `python -m` starts in comes first; the tests have no second copy.
        return compiled.package(), {**os.environ, "PYTHONPATH": str(ROOT)}


def _python(name: str, program: str, mode: str, protocol: str) -> Subject:
    return Subject(f"{name} ({mode})", program, (mode,), protocol, mode=mode)


def _floor(name: str, program: str, mode: str, protocol: str, transport: str) -> Subject:
    return Subject(
        f"{name} ({mode})", program, (mode,), protocol, (transport,), mode=mode, floor=True
    )


def _ours(mode: str) -> Subject:
    return _python("fallback_transport", "fallback_transport", mode, "fallback")


ALL = (
    _ours("eventlet"),
    _ours("gevent"),
    _ours("threading"),
    replace(
        _ours("eventlet"),
        name="fallback_transport (eventlet, WSGI)",
        arguments=("eventlet", "wsgi"),
    ),
    replace(_ours("eventlet"), name="fallback_transport (eventlet, compiled)", compiled=True),
    _python("Flask-SocketIO", "flask_socketio", "eventlet", "socketio"),
    _python("Flask-SocketIO", "flask_socketio", "gevent", "socketio"),
    _python("python-socketio", "python_socketio", "eventlet", "socketio"),
    _python("python-socketio", "python_socketio", "gevent", "socketio"),
    _python("python-socketio", "python_socketio", "threading", "socketio"),
    Subject("Socket.IO (Node.js)", "socket_io.mjs", (), "socketio"),
    Subject("sockjs-node", "sockjs.mjs", (), "sockjs"),
    Subject("ws (Node.js)", "ws.mjs", (), "websocket", ("websocket",), floor=True),
    *(
        floor
        for mode in ("eventlet", "gevent", "threading")
        for floor in (
            _floor("socket loop", "socket_loop", mode, "tcp", "websocket"),
            _floor("empty WSGI", "empty_wsgi", mode, "http", "polling"),
        )
    ),
)


class Running:
    """A subject's process, on a free port."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.port = free_port()
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed in end
        folder, environment = subject.place()
        self._process = subprocess.Popen(
            [*subject.command(), str(self.port)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        if listens(self._process, self.port):
            return
        text = self.log()
        self.end()
        raise RuntimeError(f"{subject.name} did not start:\n{text}")

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def log(self) -> str:
        """The end of what it has written."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-4000:]

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._log.close()


def raise_limits() -> int:
    """Let this process, and those that it starts, have `DESCRIPTORS`; how many they may have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        hard = DESCRIPTORS
    for limit in (max(hard, DESCRIPTORS), hard):
        # Beyond the hard limit only root gets any.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return limit
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
