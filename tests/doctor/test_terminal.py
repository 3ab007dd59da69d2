"""``fallback-transport doctor``: the command, its exit status, and networks that are broken."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fallback_transport.doctor import terminal
from fallback_transport.doctor.door import MAX_WAITING_PER_RUN
from fallback_transport.doctor.examination import Examination, NoDoctor
from fallback_transport.doctor.exchange import Failed
from fallback_transport.doctor.findings import diagnose
from fallback_transport.doctor.route import Route, Unreachable
from fallback_transport.version import __version__
from tests.client.waiting import eventually
from tests.documents import README
from tests.example import serving
from tests.integration.served import MODES, ROOT, Served, free_port
from tests.proxies.fault_process import FaultProxy
from tests.proxies.faults import AcceptClose, Gateway, LoginPage, Refuse
from tests.proxies.rules import Rule
from tests.proxies.zoo import ZOO
from tests.proxies.zoo.intercepting import tls

#: Seconds of silence, where it is not about silence.
IDLE = 0.3


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with Served() as served:
        yield served


def command(
    *arguments: str, stdout: Any = subprocess.PIPE, stderr: Any = subprocess.PIPE, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run it, in an environment without proxies but for those given."""
    clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return subprocess.run(
        [sys.executable, "-m", "fallback_transport", "doctor", "--idle", str(IDLE), *arguments],
        cwd=ROOT,
        env={**clean, **environ},
        stdout=stdout,
        stderr=stderr,
        text=True,
        timeout=60,
        check=False,
    )


def codes(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What a run with --json has found."""
    return [finding["code"] for finding in json.loads(done.stdout)["findings"]]


# -- the command ------------------------------------------------------------------------


@pytest.mark.integration
def test_the_report(server: Served) -> None:
    done = command(server.url + "/fallback/", "--json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert set(report) == {
        *("doctor", "library", "url", "at", "agent", "verdict", "findings", "observations")
    }
    assert report["url"] == server.url + "/fallback"
    assert codes(done) == ["ws-ok", "poll-ok"]
    assert report["verdict"]["transport"] == "websocket"
    [handshake] = report["observations"]["server"]["handshakes"]
    assert handshake == {
        "upgrade": True,
        "connection": True,
        "key": True,
        "status": 101,
        "up": [1, 4096, 65536, 1],
        "down": [1, 4096, 65536],
        "closed": 1000,
    }
    # As it goes, beside the report.
    for check in ("begin", "handshake", "proof", "idle", "round-trip", "stream", "sizes", "hold"):
        assert f"\n{check}:" in "\n" + done.stderr


@pytest.mark.integration
def test_in_words(server: Served) -> None:
    done = command(server.url + "/fallback")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("WebSocket works: ")
    assert "(ws-ok)" in lines[2]


@pytest.mark.integration
@pytest.mark.parametrize("full", ["stderr", "stdout"])
def test_where_a_disk_is_full_its_status_is_not_that_of_a_network(
    server: Served, full: str
) -> None:
    with open("/dev/full", "w") as disk:
        done = command(server.url + "/fallback", **{full: disk})
    if full == "stderr":
        assert done.returncode == 0
        assert "(ws-ok)" in done.stdout
    else:
        assert done.returncode == 4
        assert done.stderr.splitlines()[-1].endswith(
            "cannot be written: [Errno 28] No space left on device"
        )
    assert "Traceback" not in (done.stderr or "")


def test_what_cannot_be_told_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # As Python has it where it is closed.
    monkeypatch.setattr("sys.stderr", None)
    terminal._tell("begin", "works")
    assert terminal.main(["doctor", "no URL"]) == 3


def test_a_report_that_nobody_is_given_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal.Examination, "observe", lambda self: {})
    monkeypatch.setattr(terminal, "diagnose", lambda seen: SimpleNamespace(transport="websocket"))
    monkeypatch.setattr(terminal, "text", lambda *_: "all is well")
    asked = ["doctor", "http://host.test/fallback"]
    assert terminal.main(asked) == 0
    # As Python has it where it is closed.
    monkeypatch.setattr("sys.stdout", None)
    assert terminal.main(asked) == 4
    assert "standard output is closed" in capsys.readouterr().err


def test_characters_that_the_system_cannot_write_are_written_as_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paper = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", paper)
    terminal._print("issued by Bücher")
    assert paper.buffer.getvalue() == rb"issued by B\xfccher" + os.linesep.encode()  # type: ignore[attr-defined]


@pytest.mark.integration
def test_its_status_where_only_long_polling_works(server: Served) -> None:
    with FaultProxy(server.port, [Rule(Refuse(403), on="ws")]) as proxy:
        done = command(proxy.url + "/fallback")
    assert done.returncode == 1
    assert "(ws-refused)" in done.stdout
    assert "Long polling works: " in done.stdout.splitlines()[-1]


@pytest.mark.integration
@pytest.mark.requires("nginx", "squid")
def test_https_goes_through_the_proxys_tunnel(server: Served) -> None:
    with tls(server.port) as (url, _, certificate), ZOO["squid-credentials"].start(1) as hop:
        assert hop.proxy
        asked = (url + "/fallback", "--json", "--ca", str(certificate))
        # HTTP_PROXY is not for it.
        done = command(*asked, HTTPS_PROXY=hop.proxy, HTTP_PROXY="http://127.0.0.1:1")
        assert (done.returncode, codes(done)) == (2, ["ws-tunnel-refused", "proxy-credentials"])
        proxy = hop.proxy.replace("//", "//user:secret@")
        done = command(*asked, https_proxy=proxy)
        assert (done.returncode, codes(done)) == (0, ["ws-ok", "poll-ok", "private-ca"])
        done = command(*asked, HTTPS_PROXY=hop.proxy, NO_PROXY="127.0.0.1")
        assert (done.returncode, codes(done)) == (0, ["ws-ok", "poll-ok", "private-ca"])


@pytest.mark.integration
@pytest.mark.requires("squid")
def test_the_proxies_of_the_environment(server: Served) -> None:
    with ZOO["squid-credentials"].start(server.port) as hop:
        assert hop.proxy
        done = command(hop.url + "/fallback", "--json", HTTP_PROXY=hop.proxy, NO_PROXY="other.test")
        assert (done.returncode, codes(done)) == (2, ["ws-tunnel-refused", "proxy-credentials"])
        proxy = hop.proxy.replace("//", "//user:secret@")
        done = command(hop.url + "/fallback", "--json", http_proxy=proxy)
        assert (done.returncode, codes(done)) == (0, ["ws-ok", "poll-ok", "proxied"])
        done = command(hop.url + "/fallback", "--json", HTTP_PROXY=hop.proxy, NO_PROXY="127.0.0.1")
        assert (done.returncode, codes(done)) == (0, ["ws-ok", "poll-ok"])


@pytest.mark.integration
@pytest.mark.requires("nginx")
def test_certificates(server: Served) -> None:
    with tls(server.port) as (url, _, certificate):
        done = command(url + "/fallback", "--json")
        assert (done.returncode, codes(done)) == (2, ["tls-untrusted"])
        done = command(url + "/fallback", "--json", "--ca", str(certificate))
        assert (done.returncode, codes(done)) == (0, ["ws-ok", "poll-ok", "private-ca"])
        assert json.loads(done.stdout)["observations"]["tls"]["issuer"] == "test"
        done = command(url + "/fallback", "--json", SSL_CERT_FILE=str(certificate))
        assert (done.returncode, codes(done)) == (0, ["ws-ok", "poll-ok"])


@pytest.mark.integration
def test_nobody_is_there() -> None:
    done = command(f"http://127.0.0.1:{free_port()}/fallback")
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1] == "The server cannot be reached: connection refused."


@pytest.mark.integration
def test_there_is_no_doctor(server: Served) -> None:
    with Served(doctor=False) as off:
        # How a path is written is not the network's doing.
        paths = ("/elsewhere", "/p\u00e4th", "/a path")
        for url in (*(server.url + path for path in paths), off.url + "/fallback"):
            done = command(url)
            assert done.returncode == 3
            assert "there is no doctor at this address" in done.stderr


@pytest.mark.integration
@pytest.mark.parametrize("path", ["", "/page.html", "/fallback/doctor"])
def test_there_is_no_doctor_but_a_page_for_every_path(path: str, tmp_path: Path) -> None:
    """The ten lines of README.md have one: their static files are at the root."""
    program = README.block("python", "transport.run(app)")
    with serving(tmp_path, program, "a page") as url:
        done = command(url.removesuffix("/page.html") + path)
    assert done.returncode == 3, done.stdout
    assert "there is no doctor at this address" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["doctor"],
        ["doctor", "host/fallback"],
        ["doctor", "ftp://host/fallback"],
        ["doctor", "http:///fallback"],
        ["doctor", "http://host/fallback?x=1"],
        ["doctor", "http://host/fallback#x"],
        ["doctor", "http://host:99999/fallback"],
        ["doctor", "https://me@host/fallback"],
        ["doctor", "http://a..b/fallback"],
        ["doctor", f"http://{'a' * 64}.test/fallback"],
        ["doctor", "http://a host/fallback"],
        ["doctor", "http://host/", "--idle", "0"],
        ["doctor", "http://host/", "--idle", "301"],
        ["doctor", "http://host/", "--idle", "nan"],
        ["doctor", "http://host/", "--ca", "/nowhere"],
        ["doctor", "http://host/", "--header", "no header"],
        ["doctor", "http://host/", "--header", "A: b\r\nC: d"],
        ["doctor", "http://host/", "--header", "Cookie: a=\u20ac"],
        ["doctor", "http://host/", "--header", "N\u00e4me: x"],
        ["doctor", "http://host/", "--header", "Bad Name: x"],
        ["doctor", "http://host/", "--header", "A: b", "--header", "a: c"],
    ],
    ids=" ".join,
)
def test_wrong_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status: Any
    try:
        status = terminal.main(arguments)
    except SystemExit as left:
        status = left.code
    assert status == 3
    assert "fallback-transport" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--idle", "soon", "at most 300: 'soon'"),
        ("--idle", "301", "at most 300: '301'"),
        ("--ca", "/nowhere", "/nowhere: No such file"),
        ("--ca", __file__, f"{__file__}: "),
    ],
)
def test_a_wrong_value_is_told_with_its_cure(
    option: str, value: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status: Any = terminal.main(["doctor", "http://host.test/", option, value])
    except SystemExit as exit:
        status = exit.code
    assert status == 3
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "idle"), [([], 5), (["--idle", "0.1"], 0.1), (["--idle", "300"], 300)]
)
def test_the_seconds_of_silence(given: list[str], idle: float) -> None:
    assert terminal._parser().parse_args(["doctor", "http://host.test/", *given]).idle == idle


def test_each_header_that_is_given_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def observe(examination: Examination) -> Any:
        seen.append(examination._headers)
        raise KeyboardInterrupt

    monkeypatch.setattr(Examination, "observe", observe)
    asked = ["doctor", "--json", "http://host.test", "--header", "A: b", "--header", "Cookie:c=d:e"]
    assert terminal.main(asked) == 130
    assert seen == [{"A": "b", "Cookie": "c=d:e"}]


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        terminal.main(["--version"])
    assert (left.value.code, capsys.readouterr().out) == (0, f"{__version__}\n")


@pytest.mark.parametrize(
    ("name", "proxy"),
    [
        ("HTTP_PROXY", "socks5://10.0.0.1:1080"),
        ("HTTP_PROXY", "http://127.0.0.1:notaport"),
        ("HTTP_PROXY", "127.0.0.1:99999"),
        ("HTTP_PROXY", "http://a..b:80"),
        ("HTTP_PROXY", "http://[::1:80"),
        # It is asked for the WebSocket's tunnel.
        ("HTTPS_PROXY", "socks5://10.0.0.1:1080"),
    ],
    ids=str,
)
def test_a_proxy_that_is_none_by_http(
    name: str, proxy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv(name, proxy)
    assert terminal.main(["doctor", "http://host.test/fallback"]) == 3
    assert "only proxies by http" in capsys.readouterr().err


def test_what_is_refused_is_printed_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "http://host.test/fallback"
    for place in (
        "http://me:secret@host.test/fallback",
        "me:secret@host.test/fallback",
        "me:sec//ret@host.test/fallback",
        # For Python, `sec` is a port here.
        "http://me:sec/ret@host.test/fallback",
    ):
        assert terminal.main(["doctor", place]) == 3
    for header in ("Cookie a=secret", "Cookie: a=secret\u20ac"):
        assert terminal.main(["doctor", url, "--header", header]) == 3
    monkeypatch.setenv("HTTP_PROXY", "http://me:sec/ret@10.0.0.1:80")
    assert terminal.main(["doctor", url]) == 3
    printed = capsys.readouterr().err
    assert len(printed.splitlines()) == 7
    assert "sec" not in printed
    assert printed.count("***@") == 5


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("HTTP://Host.test/a//", "http://host.test/a"),
        (
            "http://b\u00fccher.test:8080/p\u00e4 th/%41",
            "http://xn--bcher-kva.test:8080/p%C3%A4%20th/%41",
        ),
        ("https://[::1]:8443/fallback", "https://[::1]:8443/fallback"),
    ],
)
def test_a_url_is_sent_as_browsers_send_it(url: str, sent: str) -> None:
    assert Route(url).url == sent


@pytest.mark.integration
def test_a_doctor_that_is_lost_later_on_was_there(server: Served) -> None:
    """Behind a network, or a balancer, that answers a few requests with 404."""
    examination = Examination(Route(server.url + "/fallback"), IDLE)
    examination._begin()
    examination._path = "/elsewhere"
    examination._hold()
    assert examination._polling["hold"]["status"] == 404
    assert examination._small("echo") is None
    assert examination._polling["foreign"] == {"status": 404, "type": "text/html"}


def test_what_a_network_writes_does_not_command_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    evil = "\u001b[2J\u009b1A\nWebSocket works\u202e\ud800 na\u00efve"
    seen = {"polling": {"round_trips": [1]}, "server": {"proxies": {"via": [evil]}}}
    shown = terminal.text(Route("http://host.test"), "now", diagnose(seen))
    terminal._tell("begin", f"version {evil}")
    for printed in (shown, capsys.readouterr().err):
        assert r"\x1b[2J\x9b1A\nWebSocket works\u202e\ud800 na" in printed
        assert "na\u00efve" in printed


@pytest.mark.parametrize(
    ("why", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (NoDoctor("none is there"), 3, "http://host.test/fallback: none is there"),
    ],
)
def test_what_is_not_finished_says_so_and_no_more(
    why: BaseException,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def observe(examination: Examination) -> Any:
        raise why

    monkeypatch.setattr(Examination, "observe", observe)
    assert terminal.main(["doctor", "http://host.test/fallback"]) == status
    assert capsys.readouterr() == ("", f"fallback-transport doctor: {said}\n")


@pytest.mark.parametrize(
    ("url", "tunnel"),
    [("http://host.test", False), ("http://host.test", True), ("https://h.test", False)],
)
def test_a_proxy_that_is_not_there_is_not_the_server(url: str, tunnel: bool) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    route = Route(url, proxies={"http": nobody, "https": nobody})
    with pytest.raises(
        Unreachable, match=r"^the proxy gives no connection \(connection refused\)$"
    ):
        route.connect(5, tunnel=tunnel)


# -- networks ---------------------------------------------------------------------------

_POSTS = "^/fallback/doctor/poll"
BROKEN: dict[str, tuple[str, list[Any]]] = {
    "a login page, and no WebSocket": (
        "ws-refused login-page",
        [Rule(LoginPage(), on="http"), Rule(Refuse(403), on="ws")],
    ),
    "no POST gets through": ("ws-ok poll-blocked", [Rule(Gateway(502), path=_POSTS)]),
    "a WebSocket is closed at once": ("ws-closed poll-ok", [AcceptClose()]),
    # Not every second: two threads that ask in turn would leave one of them all failures.
    "every third request fails": (
        "ws-ok poll-ok poll-unreliable",
        [Rule(Gateway(502), path=_POSTS, every=3)],
    ),
}


@pytest.fixture(scope="module")
def examined(server: Served) -> Iterator[dict[str, list[str]]]:
    """What is found in each, all at once."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(BROKEN)) as threads:
        runs = {}
        for name, (_, rules) in BROKEN.items():
            proxy = stack.enter_context(FaultProxy(server.port, rules))
            runs[name] = threads.submit(Examination(Route(proxy.url + "/fallback"), IDLE).observe)
        yield {name: diagnose(run.result()).codes for name, run in runs.items()}


@pytest.mark.integration
@pytest.mark.parametrize("name", BROKEN)
def test_broken_networks(name: str, examined: dict[str, list[str]]) -> None:
    assert " ".join(examined[name]) == BROKEN[name][0]


@pytest.mark.integration
@pytest.mark.parametrize("mode", [m for m in MODES if m != "eventlet"])
def test_in_every_async_mode(mode: str) -> None:
    with Served(mode) as served:
        observations = Examination(Route(served.url + "/fallback"), IDLE).observe()
        log = served.log()
    assert diagnose(observations).codes == ["ws-ok", "poll-ok"]
    assert "Traceback" not in log


@pytest.mark.integration
def test_what_the_server_refuses_says_nothing_of_the_network(server: Served) -> None:
    examination = Examination(Route(f"{server.url}/fallback"), IDLE)
    examination._ask({"do": "begin"}, 5)
    with ThreadPoolExecutor(MAX_WAITING_PER_RUN) as pool:
        held = [pool.submit(_held, examination) for _ in range(MAX_WAITING_PER_RUN)]
        eventually(lambda: "503" in _status(examination))
        assert examination._spread() is None
        examination._hold()
        assert examination._polling["hold"] is None
        assert all(each.result() == 2 for each in held)
    assert examination._spread() is not None
    examination._hold()
    assert examination._polling["hold"]["alive"]


def _held(examination: Examination) -> Any:
    """What one is told that waits; it comes again while `_status` has its place."""
    while True:
        try:
            return examination._ask({"do": "hold", "seconds": 2}, 5).facts["held"]
        except Failed as failed:
            if "503" not in str(failed):
                raise


def _status(examination: Examination) -> str:
    """What becomes of one more that would wait."""
    try:
        examination._ask({"do": "hold", "seconds": 0}, 5)
    except Failed as failed:
        return str(failed)
    return ""
