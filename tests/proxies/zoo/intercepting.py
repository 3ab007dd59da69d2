"""Proxies that open TLS: mitmproxy, told to do what such products do to WebSocket and to polls."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import addresses
from .entry import Entry, Hop, Kind
from .program import Program, running
from .reverse import nginx

ADDONS = Path(__file__).with_name("addons")


@contextmanager
def tls(upstream: int) -> Iterator[tuple[str, int, Path]]:
    """The server, by https: its URL, nginx's pid, and its certificate, which nobody trusts."""
    address = addresses.origin_address()
    with tempfile.TemporaryDirectory(prefix="certificate-") as name:
        folder = Path(name)
        _certificate(folder, address)
        program = nginx("nginx-tls.conf")
        program = Program(
            program.name,
            program.arguments,
            program.config,
            program.part,
            [folder / "certificate.pem", folder / "key.pem"],
        )
        with running(program, address=addresses.server_address(), upstream=upstream) as terminator:
            yield f"https://{address}:{terminator.port}", terminator.pid, folder / "certificate.pem"


def _certificate(folder: Path, address: str) -> None:
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=test", "-addext"),
            f"subjectAltName=IP:{address}",
            *("-keyout", folder / "key.pem", "-out", folder / "certificate.pem"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr


def _intercepting(name: str, title: str, *addons: str, findings: str) -> Entry:
    program = Program(
        "mitmproxy",
        [
            *("--quiet", "--mode", "regular", "--listen-host", "@{address}"),
            *("--listen-port", "@{port}", "--set", "confdir=@{folder}"),
            # The server's certificate is nobody's business here, and it is asked only when needed.
            *("--set", "ssl_insecure=true", "--set", "connection_strategy=lazy"),
            *(each for addon in addons for each in ("--scripts", addon)),
        ],
        files=[ADDONS / addon for addon in addons],
        own_files=True,
    )

    @contextmanager
    def run(upstream: int) -> Iterator[Hop]:
        with tls(upstream) as (url, terminator, _), running(program) as proxy:
            yield Hop(
                url,
                proxy=f"http://127.0.0.1:{proxy.port}",
                insecure=True,
                ca=str(proxy.folder / "mitmproxy-ca-cert.pem"),
                pids=(proxy.pid, terminator),
            )

    return Entry(
        name,
        f"mitmproxy opens TLS, {title}",
        Kind.FORWARD,
        findings=findings,
        run=run,
        needs=("mitmproxy", "nginx"),
    )


INTERCEPTING = (
    _intercepting(
        "mitmproxy-strip",
        "strips `Upgrade`",
        "strip_upgrade.py",
        findings="ws-stripped poll-ok poll-buffered private-ca",
    ),
    _intercepting(
        "mitmproxy-swallow",
        "accepts WebSocket and swallows it",
        "swallow.py",
        findings="ws-silent poll-ok poll-buffered private-ca",
    ),
    _intercepting(
        "mitmproxy-truncate",
        "strips `Upgrade`, cuts every second answer short",
        "strip_upgrade.py",
        "truncate.py",
        findings="ws-stripped poll-ok poll-unreliable poll-buffered private-ca",
    ),
    _intercepting(
        "mitmproxy-twice",
        "strips `Upgrade`, sends every POST twice",
        "strip_upgrade.py",
        "twice.py",
        findings="ws-stripped poll-ok poll-buffered repeated private-ca",
    ),
    _intercepting(
        "mitmproxy-headers",
        "drops custom headers and cookies",
        "well_known_headers.py",
        findings="ws-stripped poll-ok poll-buffered headers-dropped cookies-dropped "
        "intercepted private-ca",
    ),
)
