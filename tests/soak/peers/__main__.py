"""``python -m tests.soak.peers``: see README.md, "Measured"."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from demo.process import CHROMIUM_FLAGS
from tests import measured
from tests.integration.served import ROOT, START_WAIT, free_port
from tests.needs import find
from tests.proxies.fault_process import FaultProxy
from tests.soak.records import Record, read

from .plan import CASES, DRAIN, PAUSE, Case, messages, mixed
from .table import Result, figures, summary

HERE = Path(__file__).parent
#: Sessions of each library in each network, each in a profile of its own.
SESSIONS = 2
#: Seconds for the last records to be on the disk.
_SETTLE = 0.5


def _npm(name: str) -> str:
    package = Path(find("npm"), name, "package.json")
    version: str = json.loads(package.read_text())["version"]
    return version


def _pypi(name: str) -> str:
    return importlib.metadata.version(name)


@dataclass(frozen=True)
class Library:
    """One of those compared.

    Args:
        title: as in the table.
        page: its name in page.js.
        server: its name in servers.py or servers.mjs.
        python: whether its server is in servers.py.
        versions: what it is, in words.
    """

    title: str
    page: str
    server: str
    python: bool
    versions: Callable[[], str]


LIBRARIES: tuple[Library, ...] = (
    Library(
        "fallback_transport",
        "fallback_transport",
        "fallback_transport",
        True,
        lambda: f"fallback_transport {_pypi('fallback-transport')} (eventlet)",
    ),
    Library(
        "Flask-SocketIO",
        "socket.io",
        "flask_socketio",
        True,
        lambda: (
            f"Flask-SocketIO {_pypi('flask-socketio')} (python-socketio "
            f"{_pypi('python-socketio')}, python-engineio {_pypi('python-engineio')}, eventlet "
            f"{_pypi('eventlet')}) with socket.io-client {_npm('socket.io-client')}"
        ),
    ),
    Library(
        "Socket.IO",
        "socket.io",
        "socket.io",
        False,
        lambda: (
            f"Socket.IO {_npm('socket.io')} on Node.js with connection state recovery, and "
            f"socket.io-client {_npm('socket.io-client')}; both Socket.IO clients with "
            '`transports: ["websocket", "polling"]` and `tryAllTransports`'
        ),
    ),
    Library(
        "SockJS",
        "sockjs",
        "sockjs",
        False,
        lambda: (
            f"sockjs {_npm('sockjs')} on Node.js and sockjs-client {_npm('sockjs-client')}, "
            "connected again 1 s after each close, what is sent meanwhile kept by the page"
        ),
    ),
)


class Peer:
    """A library's server and its network, for the whole run."""

    def __init__(self, library: Library, port: int, proxy: FaultProxy, folder: Path) -> None:
        self.library = library
        self.port = port
        self.proxy = proxy
        self.pages: list[Page] = []
        self.files = [folder / f"{library.server}-{end}" for end in ("server", "page")]

    def ask(self, door: str) -> None:
        """Ask the server itself, past the proxy."""
        urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{door}", timeout=10).close()

    def drain(self) -> None:
        """Keep what the pages have written down."""
        with self.files[1].open("a", encoding="utf-8") as file:
            for page in self.pages:
                file.write(page.evaluate("soak.drain()"))

    def records(self, case: str) -> list[Record]:
        """Of both ends, of one case."""
        every = chain.from_iterable(map(read, self.files))
        return [record for record in every if record.session.startswith(f"{case}.")]


@contextmanager
def _serving(library: Library, folder: Path, plan: Path) -> Iterator[Peer]:
    port = free_port()
    with ExitStack() as stack:
        proxy = stack.enter_context(FaultProxy(port, seed=0))
        peer = Peer(library, port, proxy, folder)
        for file in peer.files:
            file.touch()
        options = {"records": str(peer.files[0]), "plan": str(plan), "pause": PAUSE}
        module = [sys.executable, "-W", "ignore", "-m", "tests.soak.peers.servers"]
        node = [find("node"), str(HERE / "servers.mjs")]
        command = module if library.python else node
        log = stack.enter_context((folder / f"{library.server}.log").open("wb"))
        process = subprocess.Popen(
            [*command, library.server, str(port), json.dumps(options)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            deadline = time.monotonic() + START_WAIT
            while True:
                try:
                    peer.ask("stop")
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
            yield peer
        finally:
            process.terminate()
            process.wait(10)


def _run(case: Case, name: str, peers: list[Peer], browser: Browser, texts: Any) -> dict[str, Any]:
    """One network, all libraries at the same time."""
    contexts = []
    sessions = [f"{name}.{number}" for number in range(SESSIONS)]
    for peer in peers:
        peer.proxy.clear()
        peer.pages = []
        for _ in sessions:
            contexts.append(browser.new_context())
            page = contexts[-1].new_page()
            page.add_init_script(path=HERE.parent / "sessions.js")
            page.add_init_script(path=HERE / "page.js")
            page.goto(f"{peer.proxy.url}/page")
            peer.pages.append(page)
    steps = list(case.steps)
    while steps and steps[0].at == 0:
        _take(steps.pop(0), peers)
    for peer in peers:
        peer.ask("start")
    began = time.monotonic()

    def wait(until: float) -> None:
        while (left := began + until - time.monotonic()) > 0:
            peers[0].pages[0].wait_for_timeout(min(left, 0.5) * 1000)

    for number, session in enumerate(sessions):
        for peer in peers:
            plan = {"library": peer.library.page, "name": session, "texts": texts, "pause": PAUSE}
            peer.pages[number].evaluate("plan => peer.start(plan)", plan)
    for step in steps:
        wait(step.at)
        _take(step, peers)
    wait(case.seconds)
    stopped = time.time()
    for peer in peers:
        for page in peer.pages:
            page.evaluate("peer.stop()")
        peer.ask("stop")
        peer.proxy.clear()

    def results() -> dict[str, Result]:
        wait(time.monotonic() - began + _SETTLE)
        made = {}
        for peer in peers:
            peer.drain()
            made[peer.library.title] = Result.of(peer.records(name), sessions, stopped)
        return made

    # Nobody is hurried, but nobody has to wait where all has come.
    ends = time.monotonic() + DRAIN
    wait(case.seconds + 2)
    found = results()
    while any(result.lost for result in found.values()) and time.monotonic() < ends:
        wait(time.monotonic() - began + 2)
        found = results()
    for context in contexts:
        context.close()
    return found


def _take(step: Any, peers: list[Peer]) -> None:
    for peer in peers:
        if step.rules is not None:
            peer.proxy.rules(*step.rules)
        if step.kill is not None:
            peer.proxy.kill(step.kill)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak.peers",
        description="Other libraries in the networks of the soak; prints tables in Markdown.",
    )
    parser.add_argument("--seed", help="of the messages and the mixed network; default: random")
    parser.add_argument("--only", metavar="TEXT", help="only the networks with TEXT in their name")
    parser.add_argument(
        "--write-readme", action="store_true", help="put them into README.md and MEASURED.md"
    )
    given = parser.parse_args()
    seed = given.seed or str(random.SystemRandom().randrange(2**32))
    print(f"seed {seed}", file=sys.stderr, flush=True)
    cases = [case for case in (*CASES, mixed(seed)) if (given.only or "") in case.title]
    texts = messages(seed)
    results: dict[str, dict[str, Result]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peers-")))
        plan = folder / "plan.json"
        plan.write_text(json.dumps(texts))
        peers = [stack.enter_context(_serving(library, folder, plan)) for library in LIBRARIES]
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=find("chromium"), args=CHROMIUM_FLAGS)
        stack.callback(browser.close)
        for number, case in enumerate(cases):
            results[case.title] = _run(case, f"c{number}", peers, browser, texts["up"])
            for title, result in results[case.title].items():
                print(f"{case.title}: {title}: {result}", file=sys.stderr, flush=True)
    versions = "; ".join(library.versions() for library in LIBRARIES)
    about = (
        f"{SESSIONS} sessions each in Chromium {browser_version()}, all libraries at the same "
        f"time, a text of 1 byte to 50 kB each {PAUSE} s and way, both ways; what has not come "
        f"{DRAIN:.0f} s after the last trouble is lost. {versions}. Seed {seed}."
    )
    short, long = summary(results, about), figures(results)
    print(short, long, sep="\n")
    if given.write_readme:
        measured.write("peers", short, measured.README)
        measured.write("peers", long, measured.FIGURES)


def browser_version() -> str:
    """The number of the Chromium in use."""
    done = subprocess.run(
        [find("chromium"), "--version"], capture_output=True, text=True, check=True
    )
    return next(word for word in done.stdout.split() if word[0].isdigit())


if __name__ == "__main__":
    main()
