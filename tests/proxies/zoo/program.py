"""One proxy program, running: in a folder of its own, on a free port, as nobody.

It is told to end with its parent: a test run that was killed leaves no proxy behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import string
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.served import free_port
from tests.needs import find

CONFIGS = Path(__file__).with_name("configs")
#: Nobody and its group, as every Linux numbers them.
NOBODY = 65534
#: Seconds for a program to listen, on a slow and busy machine.
START_WAIT = 20.0
#: Seconds for it to end when it is told to; then it is killed.
END_WAIT = 4.0


class ProxyFailed(RuntimeError):
    """A proxy program did not start."""


class _Template(string.Template):
    # nginx has its own use for the dollar.
    delimiter = "@"


@dataclass(frozen=True, slots=True)
class Program:
    """How a program is started.

    In `arguments` and in the files, ``@{folder}`` is the folder that it runs in, ``@{address}``
    and ``@{port}`` are where it is to listen; the rest comes from `running`.

    Args:
        name: what ``tests/needs.py`` calls it.
        arguments: behind its path.
        config: the file of ``configs/`` that it reads, as ``@{folder}/config``.
        part: another one, which is put in the first at ``@{part}``.
        files: others that it finds in its folder.
        own_files: whether it lies in this repository, in folders that perhaps nobody else may
            enter; then it only changes its group.
        end: the signal that ends it.
    """

    name: str
    arguments: Sequence[str]
    config: str | None = None
    part: str | None = None
    files: Sequence[Path] = ()
    own_files: bool = False
    end: signal.Signals = signal.SIGTERM


@dataclass(frozen=True, slots=True)
class Running:
    """A program that listens."""

    port: int
    pid: int
    folder: Path


@contextmanager
def running(
    program: Program, *, address: str = "127.0.0.1", **settings: object
) -> Iterator[Running]:
    """Start a program, and end it.

    Raises:
        MissingError: it is not installed.
        ProxyFailed: it did not start; the text has what it said.
    """
    path = find(program.name)
    with (
        tempfile.TemporaryDirectory(prefix=f"{program.name}-") as name,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(name)
        values = {"folder": name, "address": address, "port": free_port(), **settings}
        _write(program, folder, values)
        log = stack.enter_context((folder / "output").open("wb"))
        process = subprocess.Popen(
            [*_as_nobody(program, folder), path, *_filled(program.arguments, values)],
            cwd=folder,
            env={**os.environ, "HOME": name, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # A group of its own, with which its workers are ended, too.
            start_new_session=True,
        )
        stack.callback(_end, process, program.end)
        port = int(str(values["port"]))
        _wait(process, address, port, folder)
        yield Running(port, process.pid, folder)


def _write(program: Program, folder: Path, values: Mapping[str, object]) -> None:
    for file in program.files:
        shutil.copy(file, folder)
    if program.config is None:
        return
    part = ""
    if program.part is not None:
        part = _Template((CONFIGS / program.part).read_text()).substitute(values)
    text = (CONFIGS / program.config).read_text()
    (folder / "config").write_text(_Template(text).substitute(values, part=part))


def _filled(arguments: Sequence[str], values: Mapping[str, object]) -> list[str]:
    return [_Template(argument).substitute(values) for argument in arguments]


def _as_nobody(program: Program, folder: Path) -> list[str]:
    """The command that gives up what is not needed, and ends with us."""
    prefix = ["setpriv", "--pdeathsig", "TERM"]
    if os.getuid() != 0:
        return prefix
    user = 0 if program.own_files else NOBODY
    for path in (folder, *folder.iterdir()):
        os.chown(path, user, NOBODY)
    return [*prefix, f"--reuid={user}", f"--regid={NOBODY}", "--clear-groups"]


def _wait(process: subprocess.Popen[bytes], address: str, port: int, folder: Path) -> None:
    deadline = time.monotonic() + START_WAIT
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((address, port), 1.0):
            return
        time.sleep(0.02)
    said = (folder / "output").read_text(errors="replace")[-2000:]
    raise ProxyFailed(f"{process.args} does not listen; ended: {process.poll()}; it said:\n{said}")


def _end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, how)
    try:
        process.wait(END_WAIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
