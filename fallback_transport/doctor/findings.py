"""What observations mean: pure, and in `static/doctor.js`, too. ``DOCTOR.md`` has the rules."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..files import folder

#: The lengths of the messages by which each direction of a WebSocket is proven. One byte, what a
#: network passes in one packet or three, and what it does not.
PROOF = (1, 4096, 65536)
#: Bytes of the largest message of either side.
MAX_MESSAGE = 70_000
#: What either side sends with each request and answer: a network may drop what it does not know.
HEADER = "X-Fallback-Transport-Doctor"
#: Milliseconds of a round trip above which polling is called slow.
SLOW = 1000
#: Milliseconds below which an answer that is written for 1000 has been held back: HAProxy waits
#: for 200, nginx for a page of memory, which is 500 here.
HELD_BACK = 650
#: "Network Authentication Required" (RFC 6585, section 6): a gateway's login, and no failure.
LOGIN_REQUIRED = 511
#: The server refuses the page's origin, and that at both doors.
FORBIDDEN = 403
#: The server takes it for no handshake: something on the way has left out a part.
ALTERED = (400, 426)
#: Seconds by which a clock may be off: beyond, certificates and logins begin to suffer.
SKEW = 60

FILE = "doctor_findings.json"

_OPTIONAL = re.compile(r"\[([^\]]*)\]")
_NAME = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Kind:
    """What there is to say of all findings with one code; see `FILE`."""

    code: str
    about: str
    severity: str
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    Args:
        code, about, severity: as in `FILE`.
        text: a sentence.
        data: the values in it.
    """

    code: str
    about: str
    severity: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was found.

    Args:
        transport: "websocket", "polling" or "none".
        text: the verdict in words.
        findings: in the order of ``DOCTOR.md``.
    """

    transport: str
    text: str
    findings: tuple[Finding, ...]

    @property
    def codes(self) -> list[str]:
        """The findings' codes."""
        return [finding.code for finding in self.findings]

    def report(self) -> dict[str, Any]:
        """The report's members that come of it."""
        verdict = {"transport": self.transport, "text": self.text}
        return {"verdict": verdict, "findings": [asdict(each) for each in self.findings]}


@functools.cache
def kinds() -> Mapping[str, Kind]:
    """Every code that there is."""
    return {each["code"]: Kind(**each) for each in json.loads((folder() / FILE).read_text())}


def diagnose(observations: Mapping[str, Any]) -> Diagnosis:
    """Judge what was observed; see ``DOCTOR.md``."""
    tls = observations.get("tls") or {}
    if (why := observations.get("unreachable")) is not None:
        return _verdict([_finding("unreachable", why=why)])
    if (why := tls.get("error")) is not None:
        return _verdict([_finding("tls-untrusted", why=why)])
    return _verdict(
        [
            *_presence(observations),
            *_websocket(observations, observations.get("websocket") or {}),
            *_polling(observations, observations.get("polling") or {}),
            *_network(observations),
        ]
    )


def _presence(observations: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether requests were answered, and at the end nothing is there any more."""
    polling = observations.get("polling") or {}
    idle = (observations.get("websocket") or {}).get("idle") or {}
    alive = idle.get("alive") or (polling.get("hold") or {}).get("alive")
    if polling.get("round_trips") and observations.get("server") is None and not alive:
        yield _finding("went-away", why=polling.get("why"))


def _verdict(findings: Sequence[Finding]) -> Diagnosis:
    codes = {finding.code for finding in findings}
    transport = "websocket" if "ws-ok" in codes else "polling" if "poll-ok" in codes else "none"
    first = [
        next((each.text for each in findings if each.about == about), "")
        for about in ("websocket", "polling")
    ]
    text = " ".join(filter(None, first)) or findings[0].text
    if findings[0].code == "went-away":
        transport, text = "none", findings[0].text
    return Diagnosis(transport, text, tuple(findings))


def _websocket(observations: Mapping[str, Any], seen: Mapping[str, Any]) -> Iterator[Finding]:
    if not seen.get("present"):
        yield _finding("ws-absent")
        return
    handshakes = (observations.get("server") or {}).get("handshakes") or []
    if seen.get("handshake") == "open":
        yield from _opened(seen, handshakes)
    elif seen.get("handshake") == "unanswered":
        yield _finding("ws-unanswered", seconds=_tenths(seen.get("seconds")))
    elif seen.get("tunnel") is not None:
        yield _finding("ws-tunnel-refused", status=seen["tunnel"])
    elif seen.get("status") == 101 or any(h["status"] in ALTERED for h in handshakes):
        yield _finding("ws-stripped")
    elif refused := [h["status"] for h in handshakes if h["status"] != 101] or _unwelcome(
        observations, seen
    ):
        yield _finding("ws-server-refused", status=refused[0])
    elif observations.get("by") == "terminal" and seen.get("status") is None:
        yield _finding("ws-reset")
    else:
        yield _finding("ws-refused", status=seen.get("status"))


def _unwelcome(observations: Mapping[str, Any], seen: Mapping[str, Any]) -> list[int]:
    """The status by which the server refuses whatever comes from this origin.

    None where somebody else is seen to answer in the WebSocket's place.
    """
    refused = (observations.get("polling") or {}).get("refused") or {}
    others = (seen.get("plain") or {}).get("ours") is False
    reached = seen.get("status") in (None, FORBIDDEN) and not others
    return [FORBIDDEN] if reached and refused.get("status") == FORBIDDEN else []


def _opened(seen: Mapping[str, Any], handshakes: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    up = set(seen.get("up") or ()).union(*(each["up"] for each in handshakes))
    down = set(seen.get("down") or ())
    missing = [length for length in PROOF if length not in up or length not in down]
    closed, idle = seen.get("closed"), seen.get("idle")
    if missing and closed:
        yield _finding("ws-closed", close=closed.get("code"))
    elif not up and not down:
        yield _finding("ws-silent")
    elif not up:
        yield _finding("ws-up-blocked")
    elif not down:
        yield _finding("ws-down-blocked")
    elif missing:
        yield _finding("ws-limit", bytes=missing[0])
    else:
        yield _finding("ws-ok", ms=_whole(seen.get("ms")))
        if idle and not idle.get("alive"):
            yield _finding("ws-cut-idle", seconds=_tenths(idle.get("seconds")))


def _polling(observations: Mapping[str, Any], seen: Mapping[str, Any]) -> Iterator[Finding]:
    trips = sorted(seen.get("round_trips") or ())
    why, foreign = seen.get("why"), seen.get("foreign")
    if not trips:
        if why == "status 407":
            yield _finding("proxy-credentials")
        elif refused := seen.get("refused"):
            yield _finding("poll-refused", status=refused["status"], why=refused["error"])
        elif foreign and (foreign.get("status", 0) < 500 or foreign["status"] == LOGIN_REQUIRED):
            yield _finding("login-page", status=foreign.get("status"))
        else:
            yield _finding("poll-blocked", why=why)
        return
    median = trips[(len(trips) - 1) // 2]
    if (processes := seen.get("processes") or 1) > 1:
        yield _finding("several-processes", processes=processes)
    else:
        yield _finding("poll-ok", ms=_whole(median))
    if seen.get("failed"):
        yield _finding("poll-unreliable", failed=seen["failed"], requests=seen.get("requests"))
    if median > SLOW:
        yield _finding("poll-slow")
    stream, hold = seen.get("stream"), seen.get("hold")
    if stream and stream["spread"] < HELD_BACK:
        yield _finding("poll-buffered")
    if hold and not hold.get("alive"):
        seconds = _tenths(hold.get("seconds"))
        yield _finding("poll-cut", seconds=seconds, status=hold.get("status"))
    body, answer = seen.get("body") or {}, seen.get("answer") or {}
    if body.get("refused"):
        yield _finding("body-limit", bytes=body["refused"], status=body.get("status"))
    if answer.get("refused"):
        yield _finding("answer-limit", bytes=answer["refused"])
    if _headers_dropped(seen):
        yield _finding("headers-dropped")
    if seen.get("cookie") is False:
        yield _finding("cookies-dropped")
    times = (observations.get("server") or {}).get("repeated") or 0
    if times > 1:
        yield _finding("repeated", times=times)
    if seen.get("cached"):
        yield _finding("cached")
    if seen.get("encoded"):
        yield _finding("compressed")


def _network(observations: Mapping[str, Any]) -> Iterator[Finding]:
    tls, server = observations.get("tls"), observations.get("server") or {}
    polling = observations.get("polling") or {}
    own = 1 if tls and not server.get("secure") else 0
    entries = {
        name: values[: len(values) - own] for name, values in (server.get("proxies") or {}).items()
    }
    evidence = [f"{name} ({entries[name][0]})" for name in sorted(entries) if entries[name]]
    if tls:
        evidence += ["headers dropped"] if _headers_dropped(polling) else []
        evidence += ["cookies dropped"] if polling.get("cookie") is False else []
    if evidence:
        yield _finding("intercepted" if tls else "proxied", evidence=", ".join(evidence))
    if tls and tls.get("private"):
        yield _finding("private-ca", issuer=tls.get("issuer"))
    ahead = (observations.get("clock") or {}).get("ahead") or 0
    if abs(ahead) >= SKEW:
        direction = "ahead" if ahead > 0 else "behind"
        yield _finding("clock-skew", seconds=_whole(abs(ahead)), direction=direction)


def _headers_dropped(polling: Mapping[str, Any]) -> bool:
    header = polling.get("header") or {}
    return False in (header.get("up"), header.get("down"))


def _finding(code: str, **data: Any) -> Finding:
    kind = kinds()[code]

    def put(match: re.Match[str]) -> str:
        return str(data.get(match[1]))

    def optional(match: re.Match[str]) -> str:
        known = all(data.get(name) is not None for name in _NAME.findall(match[1]))
        return match[1] if known else ""

    text = _NAME.sub(put, _OPTIONAL.sub(optional, kind.text))
    return Finding(code, kind.about, kind.severity, text, data)


def _whole(number: float | None) -> int | None:
    return None if number is None else math.floor(number + 0.5)


def _tenths(number: float | None) -> float | int | None:
    if number is None:
        return None
    tenths = math.floor(number * 10 + 0.5)
    # As JavaScript writes it.
    return tenths // 10 if tenths % 10 == 0 else tenths / 10
