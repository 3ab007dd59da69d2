"""An application written for Flask-SocketIO, over our sessions, however it is started.

It stands behind an nginx that strips the upgrade; between that and Chromium, every connection is
reset each two seconds. All servers run at once.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.proxies.fault_process import FaultProxy
from tests.proxies.zoo.program import running
from tests.proxies.zoo.reverse import nginx
from tests.tutorial.change import application, changed_application
from tests.tutorial.launch import LAUNCHES, Launched

pytestmark = pytest.mark.requires("chromium", "nginx")

#: Seconds for what has no deadline: a busy machine may take its time.
PATIENCE = 30.0
#: Resets, and seconds from one to the next.
CUTS, EVERY = 4, 2.0
#: Milliseconds from one message of a page to its next, in the room and in the namespace each.
PACE = 800
#: Seconds from one tick of the application's clock to the next.
TICK = 0.5
#: Bytes of a file, below the 1 MB that nginx takes unless it is told.
FILE = 50_000
PEOPLE = ("ann", "bob")

#: Says and announces numbers, until it is told to stop; then how many.
TALK = """pace => {
  let said = 0;
  const timer = setInterval(() => { say(String(said)); announce(String(said)); said += 1; }, pace);
  window.hush = () => { clearInterval(timer); return said; };
}"""
#: Presses a button, and gives what then appears.
WHO = """patience => new Promise((answered) => {
  const you = document.getElementById("you");
  new MutationObserver((_, observer) => {
    observer.disconnect();
    answered(you.textContent);
  }).observe(you, {childList: true});
  document.getElementById("whoami").click();
  setTimeout(() => answered("null"), patience);
})"""
#: As if its user had chosen a file.
CHOOSE = """([size, number]) => {
  const content = Uint8Array.from({length: size}, (_, place) => (place * place + number) % 251);
  const chosen = new DataTransfer();
  chosen.items.add(new File([content], "file"));
  const input = document.getElementById("file");
  input.files = chosen.files;
  input.dispatchEvent(new Event("change"));
}"""
#: The page as its user sees it.
LOOK = """() => {
  const lists = {};
  for (const list of document.querySelectorAll("ul"))
    lists[list.id] = Array.from(list.children, (item) => item.textContent);
  return {...lists, you: document.getElementById("you").textContent};
}"""
#: Of ours only: the sessions themselves.
SESSIONS = "() => [socket, admin].map(({state, transport}) => ({state, transport}))"


@functools.cache
def sha256(number: int) -> str:
    """Of the file that CHOOSE makes."""
    content = bytes((place * place + number) % 251 for place in range(FILE))
    return hashlib.sha256(content).hexdigest()


@dataclass
class Visitor:
    """A page of somebody's, and what it has done."""

    name: str
    page: Page
    errors: list[str]
    you: dict[str, Any] = field(default_factory=dict)
    said: int = 0
    files: list[str] = field(default_factory=list)

    def look(self) -> dict[str, Any]:
        seen: dict[str, Any] = self.page.evaluate(LOOK)
        return seen

    def ask_who(self) -> dict[str, Any]:
        """What the server says who this is, where, and by what name."""
        you: dict[str, Any] = json.loads(self.page.evaluate(WHO, PATIENCE * 1000))
        return you

    def upload(self) -> None:
        """Choose a file, each time another one."""
        number = len(self.files)
        self.page.evaluate(CHOOSE, [FILE, number])
        self.files.append(f"{FILE} {sha256(number)}")


def enter(context: BrowserContext, url: str, name: str) -> Visitor:
    """Log in, and enter a room."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    page.fill("input[name=name]", name)
    page.click("button")
    page.wait_for_selector("#welcomes li:nth-child(2)", state="attached")
    page.fill("#join input", "den")
    page.press("#join input", "Enter")
    page.wait_for_selector("#room li", state="attached")
    return Visitor(name, page, errors)


def talk(visitors: list[Visitor], cuts: int, cut: Callable[[], object]) -> None:
    """Everybody says, announces and uploads things, while the network is cut."""
    [first, *_] = visitors
    for number in range(cuts):
        sha256(number)
    for each in visitors:
        each.page.evaluate(TALK, PACE)
    for _ in range(cuts):
        first.page.wait_for_timeout(EVERY * 1000)
        # Just before, so that it is under way.
        for each in visitors:
            each.upload()
        cut()
    for each in visitors:
        each.said = each.page.evaluate("hush()")


def check(visitor: Visitor, everybody: list[Visitor], cuts: int) -> None:
    """All that was said, stored and ticked is there: once, and in its order."""
    talkers = {each.name: each.said for each in everybody}
    # Half of what the page and the clock should do in that time.
    assert min(talkers.values()) >= cuts * EVERY * 1000 / PACE / 2

    def complete(seen: dict[str, Any]) -> bool:
        total = sum(talkers.values())
        said = [text for text in seen["room"] if " enters " not in text]
        return (
            len(said) >= total
            and len(seen["announcements"]) >= total
            and len(seen["files"]) >= len(visitor.files)
        )

    deadline = time.monotonic() + PATIENCE
    while not complete(seen := visitor.look()) and time.monotonic() < deadline:
        visitor.page.wait_for_timeout(20)
    for name, said in talkers.items():
        numbers = [str(number) for number in range(said)]
        for place in ("room", "announcements"):
            heard = [text for text in seen[place] if text.startswith(f"{name}: ")]
            assert heard == [f"{name}: {number}" for number in numbers], place
    assert seen["files"] == visitor.files
    ticks = [int(number) for number in seen["ticks"]]
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))
    assert len(ticks) >= cuts * EVERY / TICK / 2
    # One session each, one connect each.
    assert sorted(seen["welcomes"]) == sorted([visitor.name, f"admin {visitor.name}"])
    assert visitor.ask_who() == visitor.you
    assert visitor.errors == []


# -- as it was written -----------------------------------------------------------------


@pytest.mark.requires("npm")
def test_it_runs_with_flask_socketio_as_long_as_nothing_is_cut(
    browser: Browser, tmp_path: Path, need: Callable[[str], str]
) -> None:
    """What is asserted below is what the application does; and the network matters."""
    script = Path(need("npm"), "socket.io-client/dist/socket.io.min.js")
    with ExitStack() as stack:
        server = stack.enter_context(Launched(application(tmp_path), LAUNCHES["python-threading"]))
        server.wait()
        network = stack.enter_context(FaultProxy(server.port))
        people = []
        for name in PEOPLE:
            context = browser.new_context()
            stack.callback(context.close)
            context.route("https://cdn.socket.io/**", lambda route: route.fulfill(path=script))
            people.append(enter(context, network.url, name))
        for each in people:
            each.you = each.ask_who()
            assert each.you["name"] == each.name
        talk(people, 1, cut=lambda: None)
        for each in people:
            check(each, people, cuts=1)
        assert "Traceback" not in server.said()
        assert "has left" not in server.said()
        network.kill()
        for each in people:
            # Connected once more, and out of the room.
            each.page.wait_for_selector("#welcomes li:nth-child(3)", state="attached")
            assert "den" not in each.ask_who()["rooms"]
        assert "has left" in server.said()


# -- after the change ------------------------------------------------------------------


@dataclass
class Visit:
    """One server, and who was there."""

    server: Launched
    people: list[Visitor]


@pytest.fixture(scope="module")
def visits(
    request: pytest.FixtureRequest,
    browser: Browser,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Visit]]:
    """The conversations at all servers whose test was chosen, at the same time."""
    chosen = [
        item.callspec.params["name"]
        for item in request.session.items
        if item.path == request.path and "visits" in getattr(item, "fixturenames", ())
    ]
    skips = request.config.getoption("--skip")
    folder = changed_application(tmp_path_factory.mktemp("tutorial"))
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(Launched(folder, LAUNCHES[name]))
            for name in LAUNCHES
            if name in chosen and LAUNCHES[name].mode not in skips
        }
        for server in servers.values():
            server.wait()
        hosts = "".join(f"    {name}.localhost {it.port};\n" for name, it in servers.items())
        front = stack.enter_context(running(nginx("nginx-hosts.conf"), upstreams=hosts))
        network = stack.enter_context(FaultProxy(front.port))
        found = {}
        contexts = {person: browser.new_context() for person in PEOPLE}
        for context in contexts.values():
            stack.callback(context.close)
        for name, server in servers.items():
            url = f"http://{name}.localhost:{network.port}"
            people = [enter(context, url, person) for person, context in contexts.items()]
            found[name] = Visit(server, people)
        everybody = [person for visit in found.values() for person in visit.people]
        for person in everybody:
            person.you = person.ask_who()
        cut: list[int] = []
        talk(everybody, CUTS, lambda: cut.append(network.kill()))
        print(f"{len(everybody)} pages; connections cut: {cut}")
        # Each page has two sessions, and each of these at least a poll that waits.
        assert min(cut) >= len(everybody)
        yield found


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.requires("gevent")) if it.mode == "gevent" else name
        for name, it in LAUNCHES.items()
    ],
)
def test_nothing_is_lost(name: str, visits: dict[str, Visit]) -> None:
    visit = visits[name]
    for person in visit.people:
        assert person.you["name"] == person.name
        assert "den" in person.you["rooms"]
        check(person, visit.people, CUTS)
        for session in person.page.evaluate(SESSIONS):
            assert session["state"] == "open"
            assert session["transport"] == "polling"
    said = visit.server.said()
    assert "Traceback" not in said
    assert "has left" not in said
    assert "does not work" not in said
