"""The checks of ``DOCTOR.md``, made from this machine: what they observe, in its words."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .exchange import Answered, Failed, exchange
from .findings import HEADER, HELD_BACK
from .route import Route, TunnelRefused, Unreachable, Untrusted
from .websocket import PATIENCE, SLOWEST, TRIES, Tell, WebSocketExamination

#: Seconds within which a held request that fails was not cut for being held.
SOON = 1.0
ROUND_TRIPS = 8
#: Bytes of requests, up to the largest that sessions send, and of answers.
BODIES = (1000, 4000, 16_000, 64_000, 256_000)
ANSWERS = (4000, 64_000, 500_000)
#: What of a server's cookies can be sent back, by http.client and by `websockets`.
_COOKIE = re.compile(r"[!-~\xa1-\xff]([ -~\xa0-\xff]*[!-~\xa1-\xff])?")


class NoDoctor(Exception):
    """There is nothing at this address to examine with; the text says what there is."""


class Examination:
    """One run of all checks.

    Args:
        route: the way to the server.
        idle: seconds of silence on the WebSocket, and for which a poll is held.
        headers: further ones of every request, such as a login's cookie.
        tell: called with each check's name and what came of it, from several threads.
    """

    def __init__(
        self,
        route: Route,
        idle: float,
        headers: Mapping[str, str] | None = None,
        tell: Tell = lambda check, result: None,
    ) -> None:
        self._route = route
        self._idle = idle
        self._headers = dict(headers or {})
        self._tell = tell
        self._run = secrets.token_urlsafe(16)
        self._path = route.page.path + "/doctor"
        #: Of a request, in bytes: what the server says once it has answered.
        self._largest: int = max(BODIES)
        self._padding = secrets.token_urlsafe(max(BODIES))
        self._lock = threading.Lock()
        # No other run's: a cache may have kept what that was answered.
        self._number = secrets.randbelow(10**8)
        #: What is observed of polling, as it grows.
        self._polling: dict[str, Any] = {
            "requests": 0,
            "failed": 0,
            "round_trips": [],
            "why": None,
            "foreign": None,
            "refused": None,
            "encoded": False,
        }

    def observe(self) -> dict[str, Any]:
        """Make the checks, and return what was observed.

        Raises:
            NoDoctor: there is nothing to examine.
        """
        seen: dict[str, Any] = {"by": "terminal", "unreachable": None, "tls": None}
        try:
            if self._route.secure:
                seen["tls"] = self._certificate()
            seen["clock"] = self._begin()
        except Untrusted as error:
            seen["tls"] = {"error": str(error)}
            self._tell("begin", f"the certificate cannot be verified: {error}")
            return seen
        except Unreachable as error:
            seen["unreachable"] = str(error)
            self._tell("begin", f"cannot be reached: {error}")
            return seen
        websocket = WebSocketExamination(
            self._route, self._run, self._idle, dict(self._headers), self._tell
        )
        beside = [
            threading.Thread(target=lambda: seen.update(websocket=websocket.observe()), daemon=True)
        ]
        works = seen["clock"] is not None
        if works:
            beside.append(threading.Thread(target=self._hold, daemon=True))
        for thread in beside:
            thread.start()
        if works:
            self._requests()
        for thread in beside:
            thread.join()
        self._polling["requests"] += websocket.lost
        self._polling["failed"] += websocket.lost
        seen["server"] = self._seen() if works else None
        seen["polling"] = self._polling
        return seen

    # -- polling ---------------------------------------------------------------------

    def _certificate(self) -> dict[str, Any]:
        try:
            issuer, private = self._route.issuer(PATIENCE), self._route.private(PATIENCE)
        except (TunnelRefused, Unreachable):
            # The requests will tell; of these, more than one may be lost.
            return {"error": None, "issuer": None, "private": None}
        self._tell("begin", f"the certificate was issued by {issuer}")
        return {"error": None, "issuer": issuer, "private": private}

    def _begin(self) -> dict[str, Any] | None:
        """Begin the run, and compare the clocks; None if no request gets through.

        Raises:
            Unreachable: at every try.
            NoDoctor: the server has none.
        """
        away = 0
        for _ in range(TRIES):
            began = time.time()
            try:
                answered = self._counted("begin")
            except Failed as failed:
                # Only here: a doctor that has answered is there, whatever answers later.
                if (absent := self._absent(failed)) is not None:
                    raise NoDoctor(absent) from failed
                away += failed.away
                continue
            self._largest = answered.facts["body"]
            self._keep(answered.headers.get_all("Set-Cookie", []))
            now = (began + time.time()) / 2
            ahead = round(now - answered.facts["time"] / 1000, 3)
            self._tell("begin", f"version {answered.facts['library']}, clock {ahead:+.1f} s")
            return {"ahead": ahead}
        if away == TRIES:
            raise Unreachable(self._polling["why"])
        self._tell("begin", f"requests get no answer: {self._polling['why']}")
        return None

    def _absent(self, failed: Failed) -> str | None:
        """Why there is no doctor at this address, where that is what an answer says."""
        # 405: of a page for whatever path, as an application with files at its root has one.
        if (failed.foreign or {}).get("status") in (404, 405) and not self._is_there():
            return (
                "there is no doctor at this address, which is to be that of a mount, such as "
                "https://host/fallback; or it is switched off"
            )
        # A login page may be at https, too, but not of the same host.
        host = re.escape(self._route.host)
        location = failed.headers.get("Location", "")
        https = re.match(rf"https://\[?{host}\]?(:[0-9]+)?(?=/|$)", location, re.I)
        if https is not None and not self._route.secure:
            return f"the site is to be asked by https: examine {https[0]}{self._route.page.path}"
        if failed.headers.get(HEADER) == "1":
            return (
                f"the application does not let you in (status {failed.status}): give the cookie "
                "of its login, as --header 'Cookie: name=value'"
            )
        return None

    def _is_there(self) -> bool:
        """Whether the doctor answers a GET: then it is the network that takes no POST."""
        try:
            self._send("GET", f"/ws?run={self._run}&plain", None, PATIENCE)
        except Failed as failed:
            return failed.refused is not None
        return True

    def _keep(self, cookies: Sequence[str]) -> None:
        """Send these from now on, too, as a browser: a balancer may tell its clients by its own."""
        name = next((each for each in self._headers if each.lower() == "cookie"), "Cookie")
        pairs = [*self._headers.get(name, "").split(";"), *(c.partition(";")[0] for c in cookies)]
        # Of each name the newest, and all in one header; but what no header may hold.
        fit = [pair.strip() for pair in pairs if _COOKIE.fullmatch(pair.strip())]
        named = {pair.partition("=")[0].strip(): pair for pair in fit}
        if named:
            self._headers[name] = "; ".join(named.values())

    def _requests(self) -> None:
        polling = self._polling
        echoes = []
        for _ in range(ROUND_TRIPS):
            if (echo := self._small("echo")) is not None:
                polling["round_trips"].append(round(echo.ms, 1))
                echoes.append(echo)
        self._tell("round-trip", f"{polling['round_trips']} ms")
        if echoes:
            polling["header"] = {
                "up": all(echo.facts["header"] for echo in echoes),
                "down": all(echo.headers.get(HEADER) == "1" for echo in echoes),
            }
            polling["cookie"] = all(echo.facts["cookie"] for echo in echoes)
            polling["processes"] = len({echo.facts.get("process") for echo in echoes})
        spread = self._spread()
        if spread is not None and spread < HELD_BACK:
            # The first pieces may have waited for a busy machine: what a network holds back, it
            # holds back again.
            spread = max(spread, self._spread() or 0)
        polling["stream"] = None if spread is None else {"spread": spread}
        self._tell("stream", f"{polling['stream']}")
        one, two = (self._small("serial", numbered=False) for _ in range(2))
        polling["cached"] = one.facts["serial"] == two.facts["serial"] if one and two else None
        self._tell("cache", f"{polling['cached']}")
        polling["body"] = self._bodies()
        polling["answer"] = self._answers()
        self._tell("sizes", f"requests {polling['body']}, answers {polling['answer']}")

    def _spread(self) -> int | None:
        stream = self._small("stream")
        return None if stream is None else round(stream.spread)

    def _bodies(self) -> dict[str, Any]:
        found: dict[str, Any] = {"passed": 0, "refused": None, "status": None}
        for size in BODIES:
            if size > self._largest:
                break
            failed = self._large(size, {"do": "echo"}, size=size)
            if failed is not None:
                found.update(refused=size, status=failed.status)
                break
            found["passed"] = size
        return found

    def _answers(self) -> dict[str, Any]:
        found: dict[str, Any] = {"passed": 0, "refused": None}
        for size in ANSWERS:
            if self._large(size, {"do": "give", "bytes": size}) is not None:
                found["refused"] = size
                break
            found["passed"] = size
        return found

    def _large(self, weight: int, command: dict[str, Any], size: int = 0) -> Failed | None:
        """A request that is tried as often as a small one, unless the answer is clear."""
        left, lost = TRIES, 0
        while True:
            try:
                answered = self._ask(command, PATIENCE + weight / SLOWEST, size=size)
                if not size or answered.facts.get("bytes") == size:
                    # It was not for their size that the others failed.
                    self._polling["requests"] += lost
                    self._polling["failed"] += lost
                    return None
                failed = Failed("the request came cut", 200)
            except Failed as error:
                failed = error
            # What is waited for in vain takes long, and once it may be lost.
            left -= 2 if failed.late else 1
            if left < 1 or failed.status == 413:
                return failed
            lost += 1

    def _hold(self) -> None:
        failed, seconds = None, 0.0
        for _ in range(TRIES):
            failed, began = None, time.monotonic()
            try:
                self._ask({"do": "hold", "seconds": self._idle}, self._idle + PATIENCE)
            except Failed as error:
                failed = error
            seconds = round(time.monotonic() - began, 2)
            if failed is None or seconds >= SOON:
                break
        self._tell("hold", f"{seconds:.1f} s of {self._idle:g} s: {failed or 'answered'}")
        if failed is not None and failed.refused is not None:
            # A refusal of the server's own says nothing of the network.
            self._polling["hold"] = None
            return
        # An answer that was given in time, and lost or cut, was held.
        alive = failed is None or (not failed.late and seconds >= self._idle)
        self._polling["hold"] = {
            "asked": self._idle,
            "alive": alive,
            "seconds": seconds,
            "status": failed.status if failed is not None else None,
        }

    def _seen(self) -> Mapping[str, Any] | None:
        answered = self._small("seen")
        return None if answered is None else answered.facts["seen"]

    def _small(self, what: str, *, numbered: bool = True) -> Answered | None:
        """A small request; None if it failed each time."""
        for _ in range(TRIES):
            with contextlib.suppress(Failed):
                return self._counted(what, numbered=numbered)
        return None

    def _counted(self, what: str, *, numbered: bool = True) -> Answered:
        """One try of a small request."""
        self._polling["requests"] += 1
        try:
            return self._ask({"do": what}, PATIENCE, numbered=numbered)
        except Failed as failed:
            self._polling["failed"] += 1
            self._polling["why"] = str(failed)
            self._polling["foreign"] = failed.foreign or self._polling["foreign"]
            raise

    def _ask(
        self, command: dict[str, Any], patience: float, *, size: int = 0, numbered: bool = True
    ) -> Answered:
        """One command.

        Raises:
            Failed: no whole answer of the doctor's.
        """
        with self._lock:
            self._number += 1
            facts = {"run": self._run, **({"number": self._number} if numbered else {}), **command}
        line = json.dumps(facts) + "\n"
        body = (line + self._padding[: max(0, size - len(line))]).encode()
        try:
            answered = self._send("POST", "/poll", body, patience)
        except Failed as failed:
            self._polling["refused"] = failed.refused or self._polling["refused"]
            raise
        if answered.facts.get("number") != facts.get("number"):
            # A cache's, which goes by the address alone.
            raise Failed("the answer to another request came, as from a cache")
        return answered

    def _send(self, method: str, path: str, body: bytes | None, patience: float) -> Answered:
        """One request.

        Raises:
            Failed: no whole answer of the doctor's.
        """
        try:
            answered = exchange(
                self._route, method, self._path + path, body, self._headers, patience
            )
        except Failed as failed:
            self._polling["encoded"] |= failed.encoded
            raise
        self._polling["encoded"] |= answered.encoded
        return answered
