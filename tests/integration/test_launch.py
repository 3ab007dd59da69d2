"""However the application is started, sessions work, or the log and the answers say why not."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fallback_transport.protocol.envelope import End, Envelope
from tests.client.raw import RawPolling, Reply, new_hello, post
from tests.client.session import ClientSession, Ended
from tests.client.waiting import eventually
from tests.documents import DEPLOYING, README
from tests.integration.served import ROOT, START_WAIT, free_port

pytestmark = pytest.mark.integration

APP = "tests.integration.launched_app"
#: Seconds for a process whose clients are all told: gunicorn's workers look once a second.
ENDS = 10.0
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Protocol": "fallback.v1",
}


@dataclass(frozen=True, slots=True)
class Launched:
    """A running application: where it is, and the file of what it says."""

    port: int
    log: Path
    process: subprocess.Popen[bytes]

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """Status and text of a plain GET."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


@contextmanager
def launched(mode: str, command: str, **environment: str) -> Iterator[Launched]:
    """Start the application by a command, in which PORT stands for its port."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                _arguments(command, port),
                cwd=ROOT,
                env={**os.environ, **environment, "ASYNC_MODE": mode, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # Reloaders and gunicorn have processes of their own, which end with the group.
                start_new_session=True,
            )
        try:
            _wait(process, port, log)
            yield Launched(port, log, process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()


def _arguments(command: str, port: int) -> Sequence[str]:
    program, *rest = command.replace("PORT", str(port)).split()
    if program == "python":
        return [sys.executable, "-W", "ignore::DeprecationWarning", *rest]
    return [str(Path(sys.executable).with_name(program)), *rest]


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_WAIT
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    pytest.fail(f"{process.args} does not listen:\n{log.read_text(errors='replace')}")


def gevent(*values: str | dict[str, str]) -> object:
    """A case that needs gevent."""
    return pytest.param(*values, marks=[pytest.mark.requires("gevent")])


@pytest.mark.parametrize(
    ("mode", "command"),
    [
        ("threading", f"flask --app {APP} run -p PORT"),
        ("threading", f"flask --app {APP} run --debug -p PORT"),
        ("threading", f"python -m {APP} flask PORT"),
        ("eventlet", f"python -m {APP} flask PORT"),
        gevent("gevent", f"python -m {APP} flask PORT"),
        ("eventlet", f"python -m {APP} eventlet PORT"),
        gevent("gevent", f"python -m {APP} gevent PORT"),
        gevent("gevent", f"gunicorn -k gevent -b 127.0.0.1:PORT {APP}:app"),
        gevent("threading", f"gunicorn -k gevent -b 127.0.0.1:PORT {APP}:app"),
        ("threading", f"gunicorn -k gthread --threads 8 -b 127.0.0.1:PORT {APP}:app"),
    ],
)
def test_it_works(mode: str, command: str) -> None:
    with launched(mode, command) as server:
        works(server)


@pytest.mark.parametrize("mode", ["eventlet", gevent("gevent")])
def test_it_works_where_nothing_is_patched(mode: str) -> None:
    with launched(mode, f"python -m {APP} run PORT", UNPATCHED="1") as server:
        works(server)


@pytest.mark.requires("gevent")
@pytest.mark.parametrize(
    ("mode", "options", "patches", "cure"),
    [
        ("gevent", "async_mode=mode", "E", 'set async_mode to "eventlet"'),
        ("gevent", "server=socketio.Server(async_mode=mode)", "E", 'set async_mode to "eventlet"'),
        ("eventlet", "async_mode=mode", "G", 'set async_mode to "gevent"'),
        # Who waits, waits in the hub of the last.
        ("eventlet", "async_mode=mode", "GE", None),
        ("threading", "async_mode=mode", "E", None),
    ],
)
def test_where_the_process_is_patched_for_another_mode_its_start_says_so(
    mode: str, options: str, patches: str, cure: str | None
) -> None:
    """As where the mode was changed, and the line that patches was forgotten."""
    lines = {
        "E": "import eventlet; eventlet.monkey_patch()",
        "G": "from gevent import monkey; monkey.patch_all()",
    }
    program = [
        *(lines[each] for each in patches),
        "import flask, socketio, fallback_transport",
        f"app, mode = flask.Flask('app'), {mode!r}",
        f"transport = fallback_transport.FallbackTransport(app, {options})",
        # Who would serve ends at once.
        "transport.run(app, host='256.0.0.1')",
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "\n".join(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_WAIT,
    )
    said = re.findall(f"RuntimeError: async mode '{mode}' does not work after .*", done.stderr)
    if cure is None:
        assert re.search("(gaierror|OSError): ", done.stderr)
        assert said == []
    else:
        [line] = said
        assert line.endswith(f"instead, before any other import, or {cure}")


def works(server: Launched) -> None:
    """Both transports do, and the rest of the application."""
    assert server.get("/") == (200, "an ordinary page")
    for transport in ("websocket", "polling"):
        with ClientSession(server.port) as client, ClientSession(server.port) as other:
            client.open(transport)
            other.open(transport)
            assert client.request("echo", "hello") == "hello"
            client.emit("tell", transport)
            other.wait_for(lambda told=other: told.named("told"))
    assert "Traceback" not in server.said()
    assert "does not work" not in server.said()


def test_the_end_of_a_websocket_is_no_error_to_werkzeugs_debugger() -> None:
    # Under the reloader, which takes SIGTERM for itself, to drain is a wish without effect.
    command = f"flask --app {APP} run --debug -p PORT"
    with launched("threading", command, DRAIN="1") as server:
        with ClientSession(server.port) as client:
            client.open("websocket")
        [status] = eventually(lambda: re.findall(r"/fallback/ws HTTP.*\" (\d+) ", server.said()))
        assert status == "101"
        assert "Traceback" not in server.said()


def test_the_command_flask_imports_a_program_that_serves(tmp_path: Path) -> None:
    """The ten lines of README.md call `transport.run(app)` wherever they are imported."""
    (tmp_path / "app.py").write_text(README.block("python", "transport.run(app)"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "flask", "--app", "app", "routes"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "<path:filename>" in done.stdout
    assert 'put it under  if __name__ == "__main__":' in done.stderr


@pytest.mark.parametrize(
    ("mode", "command", "words"),
    [
        ("eventlet", f"flask --app {APP} run -p PORT", "Werkzeug threads eventlet.wsgi"),
        gevent("gevent", f"flask --app {APP} run -p PORT", "Werkzeug threads gevent.pywsgi"),
        ("threading", f"gunicorn -k sync -b 127.0.0.1:PORT {APP}:app", "gunicorn one gthread"),
        ("threading", f"gunicorn -k gthread -b 127.0.0.1:PORT {APP}:app", "gunicorn one threads"),
        gevent("gevent", f"gunicorn -k gthread --threads 8 -b 127.0.0.1:PORT {APP}:app", "threads"),
        gevent("eventlet", f"gunicorn -k gevent -b 127.0.0.1:PORT {APP}:app", "gevent's greenlets"),
        ("threading", f"python -m {APP} eventlet PORT", "eventlet's greenlets flask"),
        gevent("threading", f"python -m {APP} gevent PORT", "gevent's greenlets flask"),
        ("threading", f"python -m {APP} wsgiref PORT", "WSGIServer one at a time"),
    ],
)
def test_it_says_why_it_cannot_work(mode: str, command: str, words: str) -> None:
    with launched(mode, command) as server:
        # The rest of the application is as it was.
        assert server.get("/") == (200, "an ordinary page")
        status, text = server.get("/fallback/ws", HANDSHAKE)
        assert status == 501
        assert [word for word in (*words.split(), "transport.run(app)") if word not in text] == []
        # Nothing waits for a hub that nobody runs, however often it is asked.
        for _ in range(5):
            with ClientSession(server.port) as client, pytest.raises(Ended) as ended:
                client.open("polling")
            assert ended.value.end.code == 1011
            assert "its log says why" in ended.value.end.reason
            assert server.get("/fallback/doctor")[0] == 200
        # Once, however many clients come.
        assert server.said().count(text.strip()) == 1
        assert "Traceback" not in server.said()


@pytest.mark.parametrize("more", ["", "--preload"])
def test_two_processes_that_share_no_sessions_are_noticed(more: str) -> None:
    command = f"gunicorn -k gthread --threads 8 -w 2 {more} -b 127.0.0.1:PORT {APP}:app"
    with launched("threading", command) as server:
        # They share the port: which of them answers is chance, a hello as well as a poll.
        polling = eventually(lambda: opened(server.port))
        end = eventually(lambda: turned_away(server.port, polling))
        assert (end.code, end.session) == (4421, False)
        assert "another server process's session" in end.reason
        # Each process tells of itself, once.
        lines = eventually(lambda: re.findall(r"gunicorn.* several processes", server.said()))
        assert len(lines) <= 2


@pytest.mark.parametrize("more", ["--max-requests 5000", ""])
def test_a_server_that_is_to_restart_by_itself_is_noticed(more: str) -> None:
    """Its next worker would begin when the last WebSocket of this one is gone."""
    command = f"gunicorn -k gthread --threads 8 {more} -b 127.0.0.1:PORT {APP}:app"
    with launched("threading", command) as server:
        works(server)
        if more:
            # A thread of its own writes the log.
            warned = "gunicorn/.* after 5000 requests .* leave that setting out"
            [_] = eventually(lambda: re.findall(warned, server.said()))
        else:
            assert "leave that setting out" not in server.said()


def opened(port: int) -> RawPolling | None:
    """A session, if the process that welcomes it is the one that answers next."""
    welcome = post(port, new_hello()).welcome()
    polling = RawPolling(port, welcome)
    return polling if isinstance(post(port, polling.waiting(0.0)).unit, Envelope) else None


def turned_away(port: int, polling: RawPolling) -> End | None:
    """What the process says that does not have the session, if it is the one that answers."""
    reply = post(port, polling.waiting(0.0))
    if isinstance(reply.unit, Envelope):
        return None
    assert reply.status == 421
    return reply.end()


@contextmanager
def two_clients(server: Launched) -> Iterator[list[ClientSession]]:
    with ClientSession(server.port) as one, ClientSession(server.port) as other:
        one.open("websocket")
        other.open("polling")
        assert one.request("echo", 1) == other.request("echo", 1) == 1
        yield [one, other]


def tell_to_end(server: Launched) -> None:
    """As a supervisor does: the process that it has started, not those that this has."""
    os.kill(server.process.pid, signal.SIGTERM)


GUNICORN = "gunicorn -b 127.0.0.1:PORT"


@pytest.mark.parametrize(
    ("command", "within"),
    [
        (f"flask --app {APP} run -p PORT", 2.0),
        (f"{GUNICORN} -k gthread --threads 8 --graceful-timeout 1 {APP}:app", ENDS),
    ],
)
def test_without_that_line_nobody_is_told(command: str, within: float) -> None:
    with launched("threading", command) as server, two_clients(server) as clients:
        tell_to_end(server)
        server.process.wait(within)
        assert [client.closure for client in clients] == [None, None]


@pytest.mark.parametrize("environment", [{"DRAIN": "1"}, {}])
def test_what_a_fork_of_it_is_told_is_the_forks(environment: dict[str, str]) -> None:
    server = "flask" if environment else "run"
    with (
        launched("threading", f"python -m {APP} {server} PORT", **environment) as it,
        two_clients(it) as clients,
    ):
        assert clients[0].request("fork") == -signal.SIGTERM
        assert clients[1].request("echo", "still there") == "still there"


@pytest.mark.parametrize(
    ("mode", "command", "environment"),
    [
        ("threading", f"flask --app {APP} run -p PORT", {"DRAIN": "1"}),
        ("eventlet", f"python -m {APP} flask PORT", {"DRAIN": "1"}),
        ("eventlet", f"python -m {APP} eventlet PORT", {"DRAIN": "1"}),
        gevent("gevent", f"python -m {APP} gevent PORT", {"DRAIN": "1"}),
        gevent("gevent", f"{GUNICORN} -k gevent {APP}:app", {"DRAIN": "1"}),
        ("threading", f"{GUNICORN} -k gthread --threads 8 {APP}:app", {"DRAIN": "1"}),
        # The conf.py of below: with --preload the application is imported before the worker is.
        ("threading", f"{GUNICORN} -k gthread --threads 8 --preload -c CONF {APP}:app", {}),
        ("threading", f"python -m {APP} socketio PORT", {"DRAIN": "1", "HANDED_IN": "1"}),
        ("eventlet", f"python -m {APP} socketio PORT", {"DRAIN": "1", "HANDED_IN": "1"}),
        gevent("gevent", f"python -m {APP} socketio PORT", {"DRAIN": "1", "HANDED_IN": "1"}),
        # transport.run needs no such line.
        ("threading", f"python -m {APP} run PORT", {"HANDED_IN": "1"}),
        ("eventlet", f"python -m {APP} run PORT", {"HANDED_IN": "1"}),
        gevent("gevent", f"python -m {APP} run PORT", {"UNPATCHED": "1"}),
    ],
)
def test_sigterm_tells_everybody_and_then_ends_it(
    mode: str, command: str, environment: dict[str, str], tmp_path: Path
) -> None:
    conf = tmp_path / "conf.py"
    program = DEPLOYING.block("python", "post_worker_init")
    conf.write_text(program.replace("from app ", f"from {APP} "))
    command = command.replace("CONF", str(conf))
    with launched(mode, command, **environment) as server, two_clients(server) as clients:
        began = time.monotonic()
        tell_to_end(server)
        for client in clients:
            assert client.wait_closed() == (1012, "the server restarts")
            assert client.unconfirmed == ()
        told = time.monotonic() - began
        code = server.process.wait(ENDS)
        print(f"told after {told:.1f} s, ended after {time.monotonic() - began:.1f} s")
        # gunicorn's master returns, as transport.run does; of others the signal is the end.
        assert code == (0 if "gunicorn" in command or " run PORT" in command else -signal.SIGTERM)
        assert "Traceback" not in server.said()


def test_while_a_reload_drains_nobody_is_turned_away_from_the_next_process() -> None:
    """For a while both answer: a page that heard 4421 each time would give up for ever."""
    command = f"{GUNICORN} -k gthread --threads 8 {APP}:app"
    with launched("threading", command, DRAIN="1") as server:
        with ClientSession(server.port) as slow:
            slow.open().emit("sleep", 60)
            os.kill(server.process.pid, signal.SIGHUP)
            eventually(lambda: isinstance(post(server.port, new_hello()).unit, End), START_WAIT)
            polling = eventually(lambda: welcomed(server.port), START_WAIT)
            reply = eventually(lambda: ended(server.port, polling), START_WAIT)
        end = reply.end()
        assert (reply.status, end.code, end.session) == (503, 1012, False)


def welcomed(port: int) -> RawPolling | None:
    """A session of the process that takes new ones."""
    reply = post(port, new_hello())
    return None if isinstance(reply.unit, End) else RawPolling(port, reply.welcome())


def ended(port: int, polling: RawPolling) -> Reply | None:
    """What the other process says of it, if that is the one that answers."""
    reply = post(port, polling.waiting(0.0))
    return reply if isinstance(reply.unit, End) else None
