"""The checks of ``DOCTOR.md`` that are made over a WebSocket."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .client import Ended, WebSocketClient
from .findings import PROOF
from .route import Route, TunnelRefused, Unreachable, Untrusted

#: Seconds for a connection, for the handshake, for the proof, and for a small request.
PATIENCE = 5.0
#: How often a handshake is tried that is not answered but cut, and a small request.
TRIES = 3
#: Bytes a second of the slowest path that is waited for.
SLOWEST = 8000

Tell = Callable[[str, str], None]


class WebSocketExamination:
    """The handshake, the proof of both directions, and silence.

    Args:
        route: the way to the server.
        run: the name of the run that it is a part of.
        idle: seconds of silence.
        headers: further ones of the handshake.
        tell: called with each check's name and what came of it.
    """

    def __init__(
        self, route: Route, run: str, idle: float, headers: dict[str, str], tell: Tell
    ) -> None:
        self._route = route
        self._run = run
        self._idle = idle
        self._headers = headers
        self._tell = tell
        #: Handshakes that were cut before the one that was not.
        self.lost = 0

    def observe(self) -> dict[str, Any]:
        """Make them, and return what was observed."""
        for lost in range(TRIES):
            seen = self._attempt()
            # A network that loses some of all connections refuses none.
            if seen["handshake"] != "failed" or "status" in seen or "tunnel" in seen:
                self.lost = lost
                break
        return seen

    def _attempt(self) -> dict[str, Any]:
        seen: dict[str, Any] = {"present": True, "handshake": "failed", "up": [], "down": []}
        began = time.monotonic()
        try:
            connection, _, _ = self._route.connect(PATIENCE, tunnel=True)
            sock = connection.sock
            if self._route.secure:
                sock = self._route.tls().wrap_socket(sock, server_hostname=self._route.host)
            uri = self._route.url.replace("http", "ws", 1) + f"/doctor/ws?run={self._run}"
            client = WebSocketClient(sock, uri, self._route.origin, self._headers)
        except TunnelRefused as refused:
            seen["tunnel"] = refused.status
            self._tell("handshake", f"the proxy answers CONNECT with {refused.status}")
            return seen
        except (Unreachable, Untrusted, OSError) as error:
            self._tell("handshake", f"no connection: {error}")
            return seen
        try:
            opened = client.open(PATIENCE)
            seen["handshake"] = "open" if opened else "failed"
        except TimeoutError:
            seen["handshake"] = "unanswered"
        except Ended:
            pass
        seen["seconds"] = round(time.monotonic() - began, 2)
        if client.response is not None:
            seen["status"] = client.response.status_code
        self._tell("handshake", f"{seen['handshake']}, status {seen.get('status')}")
        if seen["handshake"] == "open":
            self._prove(client, seen)
        client.close()
        return seen

    def _prove(self, client: WebSocketClient, seen: dict[str, Any]) -> None:
        began = time.monotonic()
        patience = PATIENCE
        try:
            for length in PROOF:
                client.send("x" * length)
            while len(seen["up"]) < len(PROOF) or len(seen["down"]) < len(PROOF):
                text = client.receive(patience - (time.monotonic() - began))
                # Something comes: the rest may take as long as on the slowest line.
                patience = PATIENCE + sum(PROOF) / SLOWEST
                way = "up" if text.startswith("got ") else "down"
                if len(seen[way]) < len(PROOF):
                    seen[way].append(int(text[4:]) if way == "up" else len(text))
                if text == "got 1":
                    seen["ms"] = round((time.monotonic() - began) * 1000, 1)
        except Ended as ended:
            seconds = round(time.monotonic() - began, 2)
            seen["closed"] = {"code": ended.code, "seconds": seconds}
        except (TimeoutError, ValueError):
            pass
        self._tell("proof", f"up {seen['up']}, down {seen['down']}")
        if len(seen["up"]) == len(seen["down"]) == len(PROOF):
            self._idly(client, seen)

    def _idly(self, client: WebSocketClient, seen: dict[str, Any]) -> None:
        began = time.monotonic()
        alive, cut = False, None
        try:
            client.receive(self._idle)
        except TimeoutError:
            try:
                client.send("x")
                alive = client.receive(PATIENCE) == "got 1"
            except (TimeoutError, Ended):
                pass
            cut = self._idle
        except Ended:
            cut = round(time.monotonic() - began, 2)
        seen["idle"] = {"asked": self._idle, "alive": alive, "seconds": cut}
        self._tell("idle", f"{'alive' if alive else 'cut'} after {cut} s")
