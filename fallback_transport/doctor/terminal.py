"""``fallback-transport doctor URL``."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import re
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, NoReturn

from ..version import __version__
from .examination import Examination, NoDoctor
from .findings import Diagnosis, diagnose
from .route import Route

#: The exit status, by the transport that works.
STATUS = {"websocket": 0, "polling": 1, "none": 2}
#: Where there was nothing to examine.
NOTHING = 3
#: Where the report could not be written.
UNWRITTEN = 4
#: Where it was interrupted, as a shell says it.
INTERRUPTED = 130
MAX_IDLE = 300.0

#: RFC 9110, sections 5.6.2 and 5.5.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[ -~\xa0-\xff]*")
_MARKS = {"good": "+", "note": "-", "bad": "!"}


class _Parser(argparse.ArgumentParser):
    """Leaves the status 2 to the doctor."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(NOTHING, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is that of ``DOCTOR.md``."""
    given = _parser().parse_args(arguments)
    try:
        route = Route.of_environment(given.url, given.ca)
        # The file must be there before the checks begin.
        route.tls()
        headers = _headers(given.header)
    except (ValueError, OSError) as error:
        _say(f"fallback-transport doctor: {error}")
        return NOTHING
    at = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        observations = Examination(route, given.idle, headers, _tell).observe()
    except NoDoctor as error:
        _say(f"fallback-transport doctor: {route.url}: {error}")
        return NOTHING
    except KeyboardInterrupt:
        _say("fallback-transport doctor: interrupted")
        return INTERRUPTED
    diagnosis = diagnose(observations)
    if given.json:
        written = json.dumps(report(route, at, diagnosis, observations), indent=2)
    else:
        written = text(route, at, diagnosis)
    try:
        _print(written)
    except OSError as error:
        # Not with what Python would say at its end: that is the status of something else here.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _say(f"fallback-transport doctor: the report cannot be written: {error}")
        return UNWRITTEN
    return STATUS[diagnosis.transport]


def report(
    route: Route, at: str, diagnosis: Diagnosis, observations: dict[str, Any]
) -> dict[str, Any]:
    """The report, as ``DOCTOR.md`` has it."""
    return {
        "doctor": 1,
        "library": __version__,
        "url": route.url,
        "at": at,
        "agent": f"fallback-transport {__version__}, Python {sys.version.split()[0]}",
        **diagnosis.report(),
        "observations": observations,
    }


def text(route: Route, at: str, diagnosis: Diagnosis) -> str:
    """The same for people."""
    lines = [f"{_MARKS[each.severity]} {each.text} ({each.code})" for each in diagnosis.findings]
    return "\n".join(map(_plain, [f"{route.url}, {at}", "", *lines, "", diagnosis.text]))


def _tell(check: str, result: str) -> None:
    _say(f"{check + ':':<12}{_plain(result)}")


def _say(line: str) -> None:
    """Tell by the way; where nobody can be told, what is examined counts all the same."""
    # It may be on a full disk, or closed, which Python has as None.
    with contextlib.suppress(OSError, AttributeError):
        # In one piece, whatever other checks have to tell.
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def _print(report: str) -> None:
    """Write the report, whatever characters the system can write."""
    if sys.stdout is None:
        # As Python has what is closed; to print there is to do nothing.
        raise OSError(errno.EBADF, "standard output is closed")
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(report.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def _plain(line: str) -> str:
    """Without what would command the terminal: the network has written some of it."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in line)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fallback-transport", description="Tools for fallback_transport's sessions."
    )
    parser.add_argument("--version", action="version", version=__version__)
    doctor = parser.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "doctor",
        help="examine the network between here and a server",
        description="Examine the network between here and a server. It honours HTTPS_PROXY, "
        "HTTP_PROXY, NO_PROXY and SSL_CERT_FILE.",
        epilog="exit status: 0 WebSocket works, 1 only long polling, 2 neither, "
        "3 there was nothing to examine, 4 the report could not be written, 130 interrupted",
    )
    doctor.add_argument("url", help="where the sessions are, such as https://host/fallback")
    doctor.add_argument("--json", action="store_true", help="print the whole report as JSON")
    doctor.add_argument("--ca", metavar="FILE", help="certificates to trust beside the system's")
    doctor.add_argument(
        "--idle",
        metavar="SECONDS",
        type=_seconds,
        default=5.0,
        help="for how long to be silent on the WebSocket, and to let a poll be held "
        f"(default 5, at most {MAX_IDLE:g})",
    )
    doctor.add_argument(
        "--header",
        metavar="'NAME: VALUE'",
        action="append",
        default=[],
        help="a header of every request, such as a login's cookie",
    )
    return parser


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) <= MAX_IDLE:
            return seconds
    raise argparse.ArgumentTypeError(f"seconds are above 0 and at most {MAX_IDLE:g}: {text!r}")


def _headers(lines: Sequence[str]) -> dict[str, str]:
    headers = dict(map(_header, lines))
    if len({name.lower() for name in headers}) < len(lines):
        raise ValueError("a header is given once: all cookies in one, as 'Cookie: a=b; c=d'")
    return headers


def _header(line: str) -> tuple[str, str]:
    name, colon, value = (each.strip() for each in line.partition(":"))
    # Values are not printed: they may be secret.
    if not colon:
        raise ValueError("a header is given as 'Cookie: name=value'")
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"no header can have this name: {name!r}")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"no header can have a character in the value of this one: {name!r}")
    return name, value
