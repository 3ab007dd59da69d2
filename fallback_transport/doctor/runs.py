"""What the server saw of each examination: a little, and not for long."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..admission import Unproven
from ..runtime import make_lock

#: Seconds for which a run is known: the longest examination is 5 minutes of silence.
LIFETIME = 600.0
#: How many runs are known, and of one address, which may be a company's; beyond, its oldest
#: makes room.
MAX_RUNS = 500
MAX_RUNS_PER_ADDRESS = 50
#: Requests that one run may make: an examination takes about 40.
MAX_REQUESTS = 300
#: Handshakes of a run that are remembered.
MAX_HANDSHAKES = 8

_NAME = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)
#: By what proxies name themselves.
_PROXY_HEADERS = ("via", "forwarded", "x-forwarded-for", "x-bluecoat-via")
_MAX_ENTRIES = 8
_MAX_ENTRY = 100


@dataclass(slots=True)
class Handshake:
    """A request for the WebSocket, and what came of it, as ``DOCTOR.md`` has it."""

    upgrade: bool
    connection: bool
    key: bool
    status: int = 0
    up: list[int] = field(default_factory=list)
    down: list[int] = field(default_factory=list)
    closed: int | None = None


class Run:
    """One examination, as the server sees it.

    Args:
        until: when it is to be forgotten.
        address: whom it counts for.
    """

    def __init__(self, until: float, address: str) -> None:
        self.until = until
        self.address = address
        # Where several processes answer in turn, each has this run, and no two the same serials.
        self.serial = secrets.randbelow(2**52)
        self.plain = 0
        self.waiting = 0
        self._requests = 0
        self._numbers: Counter[int] = Counter()
        self._handshakes: list[Handshake] = []

    def request(self) -> bool:
        """Count a request; False if there are too many."""
        self._requests += 1
        return self._requests <= MAX_REQUESTS

    def numbered(self, number: int) -> None:
        """Count a request by the number that its client gave it."""
        self._numbers[number] += 1

    def handshake(self, environ: Mapping[str, Any]) -> Handshake:
        """Note a request for the WebSocket."""
        seen = Handshake(
            environ.get("HTTP_UPGRADE", "").lower() == "websocket",
            "upgrade" in environ.get("HTTP_CONNECTION", "").lower(),
            "HTTP_SEC_WEBSOCKET_KEY" in environ,
        )
        if len(self._handshakes) < MAX_HANDSHAKES:
            self._handshakes.append(seen)
        return seen

    def seen(self, environ: Mapping[str, Any], trusted_proxies: int) -> dict[str, Any]:
        """All of it, and what this request tells."""
        return {
            "handshakes": [asdict(each) for each in self._handshakes],
            "plain": self.plain,
            "repeated": max(self._numbers.values(), default=0),
            "proxies": _proxies(environ, trusted_proxies),
            "secure": environ.get("wsgi.url_scheme") == "https",
        }


class Runs:
    """The runs that are known, by name.

    Args:
        now: seconds on a clock that never goes back.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = make_lock()
        self._runs: dict[str, Run] = {}
        self._room = Unproven[str](MAX_RUNS, MAX_RUNS_PER_ADDRESS)
        #: Tells this process from others that answer at its address.
        self.process = ""

    def __len__(self) -> int:
        return len(self._runs)

    def find(self, name: str) -> Run | None:
        """The run of this name, if it has begun."""
        with self._lock:
            self._forget_old()
            return self._runs.get(name)

    def begin(self, name: str, address: str) -> Run:
        """Begin a run; the same one, if it has begun meanwhile."""
        with self._lock:
            # Not sooner: of an application that is loaded first, each fork has another.
            self.process = self.process or secrets.token_hex(3)
            run = self._runs.get(name)
            if run is None:
                while (oldest := self._room.obstacle(address)) is not None:
                    self._drop(oldest)
                run = self._runs[name] = Run(self._now() + LIFETIME, address)
                self._room.add(address, name, name)
            return run

    def _forget_old(self) -> None:
        # They are in the order of their beginnings, and all live as long.
        while self._runs:
            name, run = next(iter(self._runs.items()))
            if run.until > self._now():
                return
            self._drop(name)

    def _drop(self, name: str) -> None:
        del self._runs[name]
        self._room.remove(name)


def valid_name(name: object) -> bool:
    """Whether a run may be called so."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def _proxies(environ: Mapping[str, Any], trusted: int) -> dict[str, list[str]]:
    """What proxies wrote that are not our own ones; the last entries are of the nearest."""
    found = {}
    for name in _PROXY_HEADERS:
        value = environ.get("HTTP_" + name.upper().replace("-", "_"), "")
        entries = [entry.strip()[:_MAX_ENTRY] for entry in value.split(",") if entry.strip()]
        entries = entries[: max(0, len(entries) - trusted)]
        if entries:
            found[name] = entries[-_MAX_ENTRIES:]
    return found
