"""One run: the processes, the schedule, the memory; what comes of it is `Figures`."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from tests.integration.served import ROOT, Served
from tests.needs import find
from tests.proxies.fault_process import FaultProxy

from .checker import Clock, Report, check
from .pages import Pages
from .records import read
from .schedule import Step, schedule

#: Paths from pages to server, each with a proxy and a part of the schedule of its own.
PATHS = 5
#: Messages a second, each way, of one session.
RATE = 1.5
#: Seconds for which the sessions live that do not live throughout.
LIFE = (10.0, 60.0)
#: Seconds for everything to arrive, be answered and be closed once the paths are sound: a backoff
#: may have come to 30 s, and what waited in it has to be carried.
DRAIN = 90.0
#: The most seconds that a message may be under way while its path is sound, and the contract's
#: word "stall" is not met: a backoff of 30 s, a request given up after 15 s.
STALL = 50.0
#: From so many minutes on the memory is judged: in shorter runs the server still warms up.
JUDGED_FROM = 30.0
#: And then it is at most so many times what it was after a quarter.
GROWTH = 1.03
_TICK = 0.05


@dataclass(frozen=True)
class Options:
    """What is run."""

    minutes: float
    sessions: int
    seed: str
    mode: str = "eventlet"
    tabs: int = 2
    #: Where the records are to stay; None: they go with the run.
    records: Path | None = None


@dataclass
class Figures:
    """What came of a run."""

    options: Options
    report: Report
    sessions: int
    tabs: int
    kills: int
    faults: Counter[str]
    replayed: int
    dropped: int
    #: The server's resident bytes: at the start, after a quarter, at the end.
    memory: tuple[int, int, int]
    #: What is wrong besides: `report.violations` come first.
    failures: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        """All that the contract does not allow."""
        return [*self.report.violations, *self.failures]

    @property
    def count(self) -> int:
        """How many there are; of very many, not all are told."""
        return self.report.count + len(self.failures)

    def line(self) -> str:
        """All figures, in one line."""
        report, (start, quarter, end) = self.report, self.memory
        switches = report.happened("transport") - report.happened("open")
        return (
            f"{self.options.minutes:g} min, {self.options.mode}, seed {self.options.seed}: "
            f"{self.sessions} sessions ({self.tabs} in Chromium, "
            f"{report.unconfirmed} closed unconfirmed), "
            f"{report.total('sent', 'up'):,} messages up, {report.total('sent', 'down'):,} down, "
            f"{report.total('bytes') / 1e6:.1f} MB, {report.happened('asked'):,} replies; "
            f"{sum(self.faults.values()):,} faults struck of {len(self.faults)} kinds, "
            f"{self.kills} kills of all connections, {report.attempts:,} connections made, "
            f"{max(0, switches)} switches; "
            f"{self.replayed:,} messages sent again, {self.dropped:,} duplicates dropped; "
            f"longest delay on a sound path {report.slowest:.1f} s; "
            f"server {start / 1e6:.1f} MB at start, {quarter / 1e6:.1f} MB at 25 %, "
            f"{end / 1e6:.1f} MB at end, ratio {end / quarter:.3f}; "
            f"{self.count} violations"
        )


class Memory:
    """The resident memory of a process, once a second.

    One sample is as much what happens to wait just then as what stays: each of the figures is
    the median of a twentieth of the run.
    """

    def __init__(self, pid: int) -> None:
        self._path = Path(f"/proc/{pid}/statm")
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._samples: list[int] = []

    def sample(self) -> None:
        """Take one."""
        self._samples.append(int(self._path.read_text().split()[1]) * self._page)

    @property
    def seconds(self) -> int:
        """How many samples there are."""
        return len(self._samples)

    @property
    def last(self) -> int:
        """The last sample."""
        return self._samples[-1]

    def figures(self) -> tuple[int, int, int]:
        """At the start, after a quarter, at the end."""
        samples = self._samples
        width = max(1, len(samples) // 20)
        quarter = max(width, len(samples) // 4)
        return (
            samples[0],
            round(statistics.median(samples[quarter - width : quarter])),
            round(statistics.median(samples[-width:])),
        )


class NodeSessions:
    """The Node.js process with its sessions; a context manager."""

    def __init__(self, options: Options, origins: list[str], records: Path) -> None:
        self._plan = {
            "origins": origins,
            "sessions": options.sessions,
            "seed": options.seed,
            "rate": RATE,
            "records": str(records),
            "life": LIFE,
        }

    def __enter__(self) -> NodeSessions:
        """Start it."""
        find("npm")
        script = Path(__file__).with_name("node_sessions.mjs")
        self._process = subprocess.Popen(
            [find("node"), str(script), json.dumps(self._plan)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    @property
    def ended(self) -> bool:
        """Whether its sessions are closed, or it has failed."""
        return self._process.poll() is not None

    def finish(self) -> None:
        """Tell it to close its sessions."""
        assert self._process.stdin is not None
        self._process.stdin.write("finish\n")
        self._process.stdin.flush()

    def repeats(self) -> dict[str, int]:
        """What was sent again and dropped; nothing if it did not come to its end."""
        assert self._process.stdout is not None
        if self._process.poll() != 0:
            return {}
        told: dict[str, int] = json.loads(self._process.stdout.read())
        return told


class _Broken:
    """When each path was broken."""

    def __init__(self, paths: int) -> None:
        self._began = time.time()
        self._past: list[list[tuple[float, float]]] = [[] for _ in range(paths)]
        self._since: list[float | None] = [None] * paths

    def turn(self, path: int, broken: bool) -> None:
        since = self._since[path]
        if broken:
            self._since[path] = time.time() if since is None else since
        elif since is not None:
            self._past[path].append((since, time.time()))
            self._since[path] = None

    def clock(self, session: str) -> Clock:
        """Of a session, whose name begins with its path: p2.…"""
        return self._clocks[int(session.partition(".")[0][1:])]

    def settle(self) -> None:
        """There is no more trouble."""
        self._clocks = [Clock(self._began, past) for past in self._past]


def run(options: Options, say: Callable[[str], None] = lambda text: None) -> Figures:
    """Run it all, and compare what both ends have written down.

    Args:
        say: told what goes wrong, when.
    """
    with ExitStack() as stack:
        folder = options.records
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / name for name in ("server", "node", "chromium")]
        for file in files:
            file.write_text("")
        server = stack.enter_context(
            Served(options.mode, module="tests.soak.application", records=str(files[0]))
        )
        proxies = [
            stack.enter_context(FaultProxy(server.port, seed=number)) for number in range(PATHS)
        ]
        origins = [proxy.url for proxy in proxies]
        pages = stack.enter_context(Pages(options.tabs, origins, options.seed, RATE, files[2]))
        node = stack.enter_context(NodeSessions(options, origins, files[1]))
        memory = Memory(server.pid)
        broken = _Broken(PATHS)
        kills = 0
        failures: list[str] = []
        began = time.monotonic()
        sampled = 0.0

        def until(at: float, condition: Callable[[], bool] = lambda: False) -> bool:
            """Wait for a time of the run, or a condition; false if that was not met."""
            nonlocal sampled
            while time.monotonic() - began < at:
                if condition():
                    return True
                if time.monotonic() - sampled >= 1:
                    sampled = time.monotonic()
                    memory.sample()
                    if memory.seconds % 60 == 0:
                        say(f"{time.monotonic() - began:7.1f} server {memory.last / 1e6:.1f} MB")
                pages.tick(_TICK)
            return condition()

        seconds = options.minutes * 60
        for step in schedule(options.seed, seconds, PATHS):
            until(step.at)
            say(f"{step.at:7.1f} path {step.path}: {step.title}")
            kills += _take(step, proxies[step.path], broken)
            if node.ended:
                failures.append("Node.js ended")
                break
        until(seconds)
        figures = memory.figures()
        for path, proxy in enumerate(proxies):
            proxy.clear()
            broken.turn(path, False)
        broken.settle()
        ends = time.monotonic() - began
        node.finish()
        pages.finish()
        if not until(ends + DRAIN, lambda: node.ended and pages.ended):
            failures.append(f"not all sessions had ended {DRAIN:.0f} s after the last trouble")
        # The last handlers may still be running.
        until(time.monotonic() - began + 10, lambda: server.get("/state")["open"] == 0)
        pages.drain()
        state = server.get("/state")
        repeats = Counter({name: state[name] for name in ("replayed", "dropped")})
        for told in (node.repeats(), pages.repeats):
            repeats.update(told)
        failures += pages.errors
        failures += [line for line in server.log().splitlines() if _is_trouble(line)][:20]
        faults: Counter[str] = Counter()
        for proxy in proxies:
            faults.update(proxy.statistics().faults)
        report = check(chain.from_iterable(map(read, files)), broken.clock)
        if report.slowest > STALL:
            failures.append(f"{report.slowest_is} was {report.slowest:.1f} s under way")
        if options.minutes >= JUDGED_FROM and figures[2] > GROWTH * figures[1]:
            failures.append(f"the server grew to {figures[2] / figures[1]:.3f} of what it was")
        return Figures(
            options,
            report,
            len(report.events),
            sum(".t" in name for name in report.events),
            kills,
            faults,
            repeats["replayed"],
            repeats["dropped"],
            figures,
            failures,
        )


def _take(step: Step, proxy: FaultProxy, broken: _Broken) -> int:
    """Do what the schedule says; how many kills that were."""
    if step.rules:
        broken.turn(step.path, True)
    if step.rules is not None:
        proxy.rules(*step.rules)
    if step.kill is not None:
        proxy.kill(step.kill)
    if step.rules == ():
        broken.turn(step.path, False)
    return int(step.kill is not None)


def _is_trouble(line: str) -> bool:
    """Whether a line of the server's log tells of something that must not be."""
    return line.startswith(("Traceback", "ERROR", "CRITICAL"))
