"""Proxies that the browser is told of: squid, tinyproxy and Privoxy."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from . import addresses
from .entry import Entry, Hop, Kind
from .program import CONFIGS, Program, running

#: Of the proxy that demands some; configs/squid-credentials.sh knows them.
CREDENTIALS = ("user", "secret")


def _forward(
    program: Program,
    name: str,
    title: str,
    *,
    findings: str,
    credentials: tuple[str, str] | None = None,
) -> Entry:
    @contextmanager
    def run(upstream: int) -> Iterator[Hop]:
        with running(program) as proxy:
            yield Hop(
                f"http://{addresses.origin_address()}:{upstream}",
                proxy=f"http://127.0.0.1:{proxy.port}",
                credentials=credentials,
                pids=(proxy.pid,),
            )

    return Entry(name, title, Kind.FORWARD, findings=findings, run=run, needs=(program.name,))


def _squid(part: str, files: Sequence[Path] = ()) -> Program:
    # Told to end, it waits for a second at least; it has nothing to put in order.
    return Program(
        "squid",
        ["-N", "-f", "@{folder}/config"],
        "squid.conf",
        part,
        files,
        end=signal.SIGKILL,
    )


def _tinyproxy(part: str) -> Program:
    return Program("tinyproxy", ["-d", "-c", "@{folder}/config"], "tinyproxy.conf", part)


FORWARD = (
    _forward(
        _squid("squid-default.conf"),
        "squid-default",
        "squid as Debian sets it up: CONNECT to port 443 only",
        findings="ws-tunnel-refused poll-ok proxied",
    ),
    _forward(
        _squid("squid-no-connect.conf"),
        "squid-no-connect",
        "squid, no CONNECT",
        findings="ws-tunnel-refused poll-ok proxied",
    ),
    _forward(
        _squid("squid-open.conf"),
        "squid-open",
        "squid, CONNECT to any port",
        findings="ws-ok poll-ok proxied",
    ),
    _forward(
        _squid("squid-credentials.conf", [CONFIGS / "squid-credentials.sh"]),
        "squid-credentials",
        "squid, 407 without credentials, CONNECT to any port",
        findings="ws-ok poll-ok proxied",
        credentials=CREDENTIALS,
    ),
    _forward(
        _tinyproxy("tinyproxy-443.conf"),
        "tinyproxy-443",
        "tinyproxy, `ConnectPort 443`",
        findings="ws-tunnel-refused poll-ok proxied",
    ),
    _forward(
        _tinyproxy("tinyproxy-open.conf"),
        "tinyproxy-open",
        "tinyproxy, CONNECT to any port",
        findings="ws-ok poll-ok proxied",
    ),
    _forward(
        Program("privoxy", ["--no-daemon", "@{folder}/config"], "privoxy.conf"),
        "privoxy",
        "Privoxy",
        findings="ws-ok poll-ok",
    ),
)
