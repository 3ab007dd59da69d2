"""demo/deployment: what is in front of a server, as its files say, and what keeps it running."""

from __future__ import annotations

import configparser
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path

import pytest

from fallback_transport.options import Options
from fallback_transport.protocol.machine import CLOSE_WAIT
from tests.client.fixtures import TRANSPORTS
from tests.client.raw import TIMEOUT, RawPolling, new_hello, post
from tests.client.session import ClientSession
from tests.client.waiting import eventually
from tests.documents import DEPLOYING
from tests.integration.served import ROOT, Served
from tests.needs import find

from .zoo.program import Program, running

DEPLOYMENT = ROOT / "demo" / "deployment"
UNIT = DEPLOYMENT / "app.service"
#: Seconds that a time-out is to be above what goes on by itself: for a slow network.
MARGIN = 15


@dataclass(frozen=True, slots=True)
class Front:
    """A program, how it is started, and what its file says for a public server.

    Args:
        listens: replaced with where the test listens.
        timeouts: the time-outs of what waits: of a poll's, the first.
    """

    file: str
    arguments: tuple[str, ...]
    config: str
    listens: tuple[str, str]
    timeouts: str | None

    def program(self, name: str, folder: Path, changed: dict[str, str]) -> Program:
        text = (DEPLOYMENT / self.file).read_text()
        there = {self.listens[0]: self.listens[1], "127.0.0.1:5000": "127.0.0.1:@{upstream}"}
        for old, new in {**there, **changed}.items():
            assert old in text, f"{self.file} has no {old}"
            # What is in comments, too.
            text = text.replace(old, new)
        (folder / "part").write_text(text)
        config = self.config
        if not config.endswith((".conf", ".cfg")):
            (folder / "config").write_text(config)
            config = str(folder / "config")
        return Program(name, self.arguments, config, str(folder / "part"))


CONFIG = "@{folder}/config"
FRONTS = {
    "nginx": Front(
        "nginx.conf",
        ("-p", "@{folder}", "-c", CONFIG),
        "nginx.conf",
        ("listen 80;", "listen 127.0.0.1:@{port};"),
        r"proxy_read_timeout (\d+)s;",
    ),
    "haproxy": Front(
        "haproxy.cfg",
        ("-db", "-f", CONFIG),
        "@{part}",
        ("bind :80", "bind 127.0.0.1:@{port}"),
        r"timeout (?:server|tunnel|client) (\d+)s",
    ),
    "apache": Front(
        "apache.conf",
        ("-DFOREGROUND", "-f", CONFIG),
        "apache.conf",
        ("*:80", "127.0.0.1:@{port}"),
        r"ProxyTimeout (\d+)",
    ),
    "caddy": Front(
        "Caddyfile",
        ("run", "--adapter", "caddyfile", "--config", CONFIG),
        "{\n\tadmin off\n\tdefault_bind 127.0.0.1\n}\n@{part}",
        ("example.org", "http://127.0.0.1:@{port}"),
        None,
    ),
}


@dataclass(frozen=True, slots=True)
class Deployed:
    """A server, and the port of what is in front of it."""

    name: str
    server: Served
    port: int
    folder: Path


@contextmanager
def deployed(
    name: str, server: Served, folder: Path, changed: dict[str, str] | None = None
) -> Iterator[Deployed]:
    program = FRONTS[name].program(name, folder, changed or {})
    with running(program, upstream=server.port) as proxy:
        yield Deployed(name, server, proxy.port, proxy.folder)


EACH = [pytest.param(name, marks=pytest.mark.requires(name)) for name in FRONTS]


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with Served("eventlet", trusted_proxies=1, max_ungreeted_per_address=1) as served:
        yield served


@pytest.fixture(scope="module", params=EACH)
def front(
    request: pytest.FixtureRequest, server: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    with deployed(request.param, server, tmp_path_factory.mktemp("deployment")) as it:
        yield it


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_both_transports_work_with_the_pages_origin(front: Deployed, transport: str) -> None:
    headers = {"Origin": f"http://127.0.0.1:{front.port}"}
    with ClientSession(front.port, headers=headers).open(transport) as client:
        assert client.transport == transport
        assert client.request("echo", "hello") == "hello"
        assert client.losses == client.breaches == []


@pytest.mark.parametrize("origin", ["http://elsewhere.example", "http://127.0.0.1:1"])
def test_another_origin_is_refused(front: Deployed, origin: str) -> None:
    """Also one that differs in its port only: it is not the Host's that came."""
    assert post(front.port, new_hello(), {"Origin": origin}).status == HTTPStatus.FORBIDDEN


def test_the_server_knows_the_clients_address(front: Deployed) -> None:
    """Not the proxy's, and not what the client has written: by the limit of one address."""
    lines = [
        "GET /fallback/ws HTTP/1.1",
        f"Host: 127.0.0.1:{front.port}",
        "X-Forwarded-For: 203.0.113.9",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: fallback.v1",
    ]
    request = "\r\n".join([*lines, "", ""]).encode()

    def ask() -> socket.socket:
        address = ("127.0.0.1", front.port)
        sock = socket.create_connection(address, TIMEOUT, source_address=("127.0.0.7", 0))
        sock.sendall(request)
        return sock

    with ask() as first:
        assert first.recv(4096).startswith(b"HTTP/1.1 101")
        with ask() as second:
            said = b""
            while b"hello" not in said and (data := second.recv(4096)):
                said += data
        assert said.startswith(b"HTTP/1.1 503")
        assert b"too many WebSockets from 127.0.0.7 wait for their hello" in said
        with ClientSession(front.port).open("websocket") as client:
            assert client.request("echo", "another address") == "another address"


@pytest.mark.parametrize(
    ("name", "before", "site"),
    [
        pytest.param(name, before, site, id=name, marks=pytest.mark.requires(name))
        for name, before, site in (
            (
                "nginx",
                "server {\n",
                "server { listen 127.0.0.1:@{port} default_server; }",
            ),
            ("apache", "<VirtualHost ", "<VirtualHost 127.0.0.1:@{port}>\n</VirtualHost>"),
        )
    ],
)
def test_it_has_its_place_beside_the_systems_default_site(
    name: str, before: str, site: str, server: Served, tmp_path: Path
) -> None:
    """Which Debian has, and puts in front of it."""
    with deployed(name, server, tmp_path, {before: f"{site}\n{before}"}) as front:
        page = HTTPConnection("127.0.0.1", front.port, timeout=TIMEOUT)
        page.request("GET", "/fallback/fallback_transport.js", headers={"Host": "example.org"})
        assert page.getresponse().status == HTTPStatus.OK
        page.close()


@pytest.mark.parametrize("name", EACH)
def test_nothing_that_waits_is_cut(name: str, tmp_path: Path) -> None:
    text = (DEPLOYMENT / FRONTS[name].file).read_text()
    pattern = FRONTS[name].timeouts
    if pattern is None:
        # What it makes of the file is to have no time-out at all.
        command = [find(name), "adapt", "--adapter", "caddyfile", "--config"]
        done = subprocess.run(
            [*command, str(DEPLOYMENT / "Caddyfile")],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "HOME": str(tmp_path)},
        )
        assert "reverse_proxy" in done.stdout
        assert "timeout" not in done.stdout
        return
    seconds = [int(number) for number in re.findall(pattern, text)]
    assert seconds
    options = Options()
    assert min(seconds) >= max(options.wait, options.keepalive) + MARGIN


@pytest.mark.parametrize(
    ("name", "line"),
    [
        pytest.param(name, line, marks=pytest.mark.requires(name))
        for name, line in {
            "nginx": "proxy_read_timeout 60s",
            "haproxy": "timeout server 60s",
            "apache": "ProxyTimeout 60",
        }.items()
    ],
)
def test_it_is_this_time_out_that_cuts_what_waits(
    name: str, line: str, server: Served, tmp_path: Path
) -> None:
    with deployed(name, server, tmp_path, {line: line.replace("60", "1")}) as front:
        polling = RawPolling.open(server.port)
        with pytest.raises(AssertionError, match=r"status=50[24]"):
            # A gateway's error has not the headers of an answer of ours.
            post(front.port, polling.waiting(20.0))


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(names, id="+".join(names), marks=pytest.mark.requires(*names))
        for names in (("nginx", "haproxy"), ("apache", "caddy"))
    ],
)
def test_sigterm_drains_behind_it(names: tuple[str, ...], tmp_path: Path) -> None:
    with Served("eventlet", drain=2) as server, ExitStack() as stack:
        clients = []
        for name in names:
            folder = tmp_path / name
            folder.mkdir()
            front = stack.enter_context(deployed(name, server, folder))
            clients += [ClientSession(front.port).open(transport) for transport in TRANSPORTS]
        questions = [client.ask_for("sleep", 0.5) for client in clients]
        for client in clients:
            stack.callback(client.stop)
        eventually(lambda: all(client.machine.outbox.received >= 2 for client in clients))
        process = server._process
        assert process is not None
        os.kill(server.pid, signal.SIGTERM)
        for client, question in zip(clients, questions, strict=True):
            assert client.wait_closed() == (1012, "the server restarts")
            assert client.reply_to(question) == 0.5
            assert client.unconfirmed == ()
        assert process.wait(TIMEOUT) == 0


def test_the_document_has_nginxs_file_and_leads_to_the_others() -> None:
    assert DEPLOYING.blocks("nginx") == [(DEPLOYMENT / "nginx.conf").read_text()]
    for path in DEPLOYMENT.iterdir():
        assert f"(../demo/deployment/{path.name})" in DEPLOYING.text


def test_the_unit_waits_for_the_drain() -> None:
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign] # systemd's are not lower case
    unit.read(UNIT)
    service = unit["Service"]
    assert service.getfloat("TimeoutStopSec") >= Options().drain + CLOSE_WAIT + 2
    assert service["KillMode"] == "mixed"
    assert service.getint("LimitNOFILE") > 2 * Options().max_sessions


@pytest.mark.requires("systemd")
def test_systemd_has_nothing_against_the_unit(tmp_path: Path, need: Callable[[str], str]) -> None:
    """Nor would it be silent about what is wrong."""

    def verify(text: str) -> str:
        program = "/srv/app/.venv/bin/python"
        assert program in text
        copy = tmp_path / "app.service"
        copy.write_text(text.replace(program, sys.executable))
        command = [need("systemd"), "verify", "--man=no", str(copy)]
        done = subprocess.run(command, capture_output=True, text=True)
        said = done.stdout + done.stderr
        return "\n".join(line for line in said.splitlines() if "app.service" in line)

    assert verify(UNIT.read_text()) == ""
    assert "KillMod" in verify(UNIT.read_text().replace("KillMode", "KillMod"))
