"""The load generator: C sources in generator/, compiled at first use."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).with_name("generator")
#: Share of a core beyond which it may be the generator that was measured: of the time for which
#: it had one, as on a busy machine others may have it.
BOUND = 0.8
#: Seconds beyond those measured: to start ten thousand clients, to warm up, to drain.
PATIENCE = 180
#: Seconds without any message, while the server does nothing, after which the generator goes on
#: without what has not come.
SILENCE = 5


class GeneratorError(Exception):
    """It could not be compiled, or did not come to an end as it should."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients do; the names are those of the generator's options."""

    protocol: str
    port: int
    pid: int
    transport: str = "websocket"
    mode: str = "echo"
    clients: int = 1
    window: int = 1
    size: int = 32
    seconds: float = 2.0
    warm: float = 0.5
    burst: int = 1
    ramp: int = 50
    interval: float = 0.0
    event: str | None = None
    path: str | None = None
    #: Seconds without any message, while the server does nothing, after which what has not come
    #: is missing.
    lost_after: float = SILENCE

    def arguments(self) -> list[str]:
        """The command line, without the program."""
        words = []
        for name in self.__dataclass_fields__:
            if (value := getattr(self, name)) is not None:
                words += ["--" + name.replace("_", "-"), str(value)]
        return words


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the generator counted in the measured time.

    Args:
        messages: echoes, or deliveries of a fan-out.
        server_cpu, generator_cpu: seconds of user and system time.
        generator_waited: seconds for which the generator waited for a core.
        p50, p90, p99, max: milliseconds, of `samples` latencies.
        missing: sent, and not come back.
        uss_before, uss, pss_before, pss: kB of the server, before the clients and at the end.
    """

    mode: str
    protocol: str
    transport: str
    clients: int
    ready: int
    seconds: float
    messages: int
    connects: int
    requests: int
    bytes_in: int
    bytes_out: int
    server_cpu: float
    generator_cpu: float
    generator_waited: float
    p50: float
    p90: float
    p99: float
    max: float
    samples: int
    errors: int
    mismatched: int
    missing: int
    starting: float
    starting_cpu: float
    uss_before: int
    pss_before: int
    uss: int
    pss: int

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds

    @property
    def cpu(self) -> float | None:
        """The server's microseconds for each message; None where there was none."""
        return self.server_cpu / self.messages * 1e6 if self.messages else None

    @property
    def share(self) -> float:
        """How busy the generator was, while nobody kept it waiting for a core."""
        return self.generator_cpu / max(self.seconds - self.generator_waited, self.generator_cpu)

    @property
    def bound(self) -> bool:
        """Whether the generator, not the server, may have been the limit."""
        return self.share > BOUND

    @property
    def failed(self) -> int:
        """How many clients came to an end before the load did, or never were there."""
        return max(self.errors, self.clients - self.ready)

    @property
    def sound(self) -> bool:
        """Whether every client came up, and every message came, as it was sent."""
        return not (self.failed or self.mismatched or self.missing)


def cache() -> Path:
    """The folder for what this user has compiled."""
    folder = Path(tempfile.gettempdir(), f"fallback-transport-bench-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise GeneratorError(f"{folder} is somebody else's")
    return folder


def program() -> Path:
    """The compiled generator, for these sources and this user."""
    sources = sorted(SOURCES.glob("*.[ch]"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    path = cache() / f"generator-{digest}"
    if not path.exists():
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise GeneratorError("a C compiler is missing: install gcc or clang")
        fresh = path.with_suffix(f".{os.getpid()}")
        words = [compiler, "-O2", "-o", str(fresh), *map(str, SOURCES.glob("*.c"))]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise GeneratorError(done.stderr)
        fresh.rename(path)
    return path


def start(load: Load) -> subprocess.Popen[str]:
    """Let it begin; `finish` has the outcome."""
    return subprocess.Popen(
        [str(program()), *load.arguments()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], load: Load) -> Outcome:
    """Wait for its end."""
    try:
        out, complaints = process.communicate(timeout=load.seconds + load.warm + PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise GeneratorError(f"no end: {load}") from None
    try:
        found: dict[str, Any] = json.loads(out)
    except ValueError:
        raise GeneratorError(f"{load}: {complaints or out}") from None
    return Outcome(**found)


def generate(load: Load) -> Outcome:
    """Run it to its end."""
    return finish(start(load), load)
