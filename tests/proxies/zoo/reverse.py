"""Proxies before the server: nginx, haproxy, Apache and Varnish; and none at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from . import addresses
from .entry import Entry, Hop, Kind
from .program import Program, running

DIRECT = Entry(
    "direct",
    "no proxy",
    Kind.DIRECT,
    findings="ws-ok poll-ok",
    run=lambda upstream: nullcontext(Hop(f"http://{addresses.open_address()}:{upstream}")),
)


def before(program: Program) -> Callable[[int], AbstractContextManager[Hop]]:
    """How an entry with this program is run."""

    @contextmanager
    def run(upstream: int) -> Iterator[Hop]:
        address = addresses.open_address()
        with running(program, address=address, upstream=upstream) as proxy:
            yield Hop(f"http://{address}:{proxy.port}", pids=(proxy.pid,))

    return run


def nginx(part: str) -> Program:
    """nginx with this server block."""
    return Program("nginx", ["-p", "@{folder}", "-c", "@{folder}/config"], "nginx.conf", part)


def _reverse(
    program: Program, name: str, title: str, *, findings: str, needs: tuple[str, ...] = ()
) -> Entry:
    return Entry(
        name,
        title,
        Kind.REVERSE,
        findings=findings,
        run=before(program),
        needs=needs or (program.name,),
    )


def _nginx(name: str, title: str, *, findings: str) -> Entry:
    return _reverse(nginx(f"{name}.conf"), name, title, findings=findings)


def _haproxy(name: str, title: str, *, findings: str) -> Entry:
    program = Program("haproxy", ["-db", "-f", "@{folder}/config"], "haproxy.cfg", f"{name}.cfg")
    return _reverse(program, name, title, findings=findings)


def _apache(name: str, title: str, *, findings: str) -> Entry:
    arguments = ["-DFOREGROUND", "-f", "@{folder}/config"]
    program = Program("apache", arguments, "apache.conf", f"{name}.conf")
    return _reverse(program, name, title, findings=findings)


def _varnish(name: str, title: str, *, findings: str) -> Entry:
    # Its own folder with -n; no jail, which needs root; no cache to speak of.
    place = ["-F", "-n", "@{folder}/run", "-a", "@{address}:@{port}", "-f", "@{folder}/config"]
    program = Program("varnish", [*place, "-s", "malloc,16m", "-j", "none"], f"{name}.vcl")
    return _reverse(program, name, title, findings=findings)


REVERSE = (
    _nginx(
        "nginx-no-upgrade",
        "nginx, no upgrade headers",
        findings="ws-stripped poll-ok poll-buffered",
    ),
    _nginx("nginx-upgrade", "nginx, upgrade headers", findings="ws-ok poll-ok"),
    _nginx(
        "nginx-buffering",
        "nginx, upgrade headers, buffering and gzip on",
        findings="ws-ok poll-ok poll-buffered compressed",
    ),
    _nginx(
        "nginx-timeout-5s",
        "nginx, upgrade headers, `proxy_read_timeout 5s`",
        findings="ws-ok ws-cut-idle poll-ok poll-cut",
    ),
    _nginx(
        "nginx-body-1k",
        "nginx, no upgrade headers, `client_max_body_size 1k`",
        findings="ws-stripped poll-ok poll-buffered body-limit",
    ),
    _haproxy(
        "haproxy-server-5s",
        "HAProxy, `timeout server 5s`",
        findings="ws-ok ws-cut-idle poll-ok poll-cut",
    ),
    _haproxy(
        "haproxy-tunnel-5s", "HAProxy, `timeout tunnel 5s`", findings="ws-ok ws-cut-idle poll-ok"
    ),
    _apache(
        "apache-no-upgrade",
        "Apache, no `upgrade=websocket`",
        findings="ws-stripped poll-ok proxied",
    ),
    _apache("apache-upgrade", "Apache, `upgrade=websocket`", findings="ws-ok poll-ok proxied"),
    _varnish("varnish-pass", "Varnish, `pass`", findings="ws-stripped poll-ok proxied"),
    _varnish("varnish-pipe", "Varnish, `pipe` for upgrades", findings="ws-ok poll-ok proxied"),
)
