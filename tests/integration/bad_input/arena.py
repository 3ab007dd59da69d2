"""The server that bad input is sent to, and what a case of it is."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..outcomes import Bystander, over_http, over_websocket
from ..raw import SEPARATOR, Session, WebSocket, Wire, poll
from ..served import Served

#: A session's id.
ID = r"[0-9a-f]{12}\.[\w-]{16}"
FRIEND = "http://friend.test"
#: Of the host that requests state.
OWN = "http://server.test"
POST = b"POST /fallback/poll HTTP/1.1\r\nHost: server.test\r\n"
LENGTH = b"Content-Length: 100\r\n\r\nabc"


class Arena:
    """A server, its bystander, and what the case of just now has opened."""

    def __init__(self, server: Served) -> None:
        self.server = server
        self.port = server.port
        self.bystander = Bystander(server.port)
        self.sessions: list[Session] = []
        self._open: list[Wire] = []
        self._logged = 0
        self._old: set[str] = set()
        #: Open through all cases: a WebSocket without a hello, and requests without an end.
        self.silent = WebSocket(server.port)
        self.half_open = [Wire(server.port) for _ in range(4)]
        for wire, data in zip(
            self.half_open, (b"", b"POST /fallb", POST, POST + LENGTH), strict=True
        ):
            wire.send(data)

    def close(self) -> None:
        self.tidy()
        self.bystander.close()
        for wire in (self.silent, *self.half_open):
            wire.close()

    def wire(self, **options: Any) -> Wire:
        """A connection that is closed after the case."""
        self._open.append(Wire(self.port, **options))
        return self._open[-1]

    def websocket(self, headers: dict[str, str] | None = None, **options: Any) -> WebSocket:
        """A WebSocket that is closed after the case."""
        websocket = WebSocket(self.port, headers, **options)
        self._open.append(websocket)
        return websocket

    def session(self, transport: str = "websocket", **options: Any) -> Session:
        """A session whose handlers are looked at after the case."""
        session = Session(self.port, transport, **options)
        self.sessions.append(session)
        if session.ws is not None:
            self._open.append(session.ws)
        return session

    def begin(self) -> None:
        """From here on the log is the case's."""
        log = self.server.log()
        self._logged = len(log)
        self._old.update(re.findall(ID, log))

    def lines(self, least: int) -> list[str]:
        """What was logged, but for other cases' sessions; waits for so many lines."""
        until = time.monotonic() + 5
        while len(self._lines()) < least and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(0.01)
        return self._lines()

    def _lines(self) -> list[str]:
        log = self.server.log()
        assert "Traceback" not in log, log[self._logged :]
        lines = [line for line in log[self._logged :].split("\n") if line]
        # What is logged of former cases' sessions, or when one has waited in vain, is not ours.
        lines = [line for line in lines if " 4408 " not in line]
        return [line for line in lines if not self._old & set(re.findall(ID, line))]

    def check_handlers(self) -> None:
        """No handler ran twice for one message."""
        for session in self.sessions:
            seen = self.server.seen(session.id)
            kinds = [event[0] for event in seen]
            assert kinds.count("connect") == 1, seen
            assert kinds.count("disconnect") <= 1, seen
            counted = [json.dumps(event[1]) for event in seen if event[0] == "count"]
            assert len(set(counted)) == len(counted), seen

    def tidy(self) -> None:
        """Close what the case has opened."""
        for wire in self._open:
            wire.close()
        self._open.clear()
        self._old.update(session.id for session in self.sessions)
        self.sessions.clear()


@dataclass(frozen=True)
class Case:
    """What is done, how it must end, and how many lines it is worth in the log."""

    name: str
    act: Callable[[Arena], str]
    want: str
    lines: int = 1


def case(name: str, want: str, lines: int = 1) -> Callable[[Callable[[Arena], str]], None]:
    """A case that is a function of its own."""

    def add(act: Callable[[Arena], str]) -> None:
        CASES.append(Case(name, act, want, lines))

    return add


CASES: list[Case] = []


def both(name: str, websocket: str, polling: str, head: str, *segments: str) -> None:
    """An envelope on a session, on either transport; afterwards the session is as it was."""

    def on_websocket(arena: Arena) -> str:
        session = arena.session()
        session.socket.text(SEPARATOR.join([head, *segments]))
        return over_websocket(session.socket)

    def on_polling(arena: Arena) -> str:
        session = arena.session("polling")
        # `head` comes last, or what is no head would not be looked at.
        line = session.line("").replace("  ", " ") + " " + head
        return over_http(poll(arena.port, SEPARATOR.join([line, *segments])))

    CASES.append(Case(f"{name}, on a WebSocket", on_websocket, websocket))
    CASES.append(Case(f"{name}, polled", on_polling, polling))


def first(name: str, websocket: str, polling: str, text: str | bytes) -> None:
    """The first text of a connection, on either transport."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text

    def on_websocket(arena: Arena) -> str:
        websocket = arena.websocket()
        websocket.text(data)
        return over_websocket(websocket, ask=False)

    CASES.append(Case(f"{name}, on a WebSocket", on_websocket, websocket))
    # The same nonce would be the same session.
    own = b'"nonce": "' + secrets.token_urlsafe(16).encode() + b'"'
    body = re.sub(rb'"nonce": "[\w-]{22}"', own, data) + b"\x1e."
    CASES.append(Case(f"{name}, polled", lambda a: over_http(poll(a.port, body)), polling))
