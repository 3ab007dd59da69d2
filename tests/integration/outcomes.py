"""How bad input ended, in the words of the tables, and whether others noticed."""

from __future__ import annotations

import json
import struct
import threading
import time

from .raw import CLOSE, SEPARATOR, TEXT, Closed, Reply, Session, WebSocket

#: Seconds within which the bystander has its echo, whatever else is going on.
UNNOTICED = 2.0


def over_http(reply: Reply) -> str:
    """``400``, ``400 4400`` with an end, ``200 4404 session`` with one of the session."""
    end = reply.end
    if end is None:
        return str(reply.status)
    return f"{reply.status} {end['end']}" + (" session" if end["session"] else "")


def over_websocket(websocket: WebSocket, *, ask: bool = True) -> str:
    """``1002``, the connection's end; ``4400 session``, the session's; ``lives``, it answers."""
    if ask:
        websocket.text("a0 q77")
    end = None
    try:
        while True:
            opcode, payload = websocket.next_frame()
            if opcode == TEXT and payload.startswith(b'{"end"'):
                end = json.loads(payload)
            elif opcode == TEXT and b"p77" in payload.split(b"\x1e")[0].split(b" "):
                return "lives"
            elif opcode == CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if payload else None
                break
    except Closed:
        return "cut"
    if end is None:
        return str(code)
    if end["session"]:
        assert code == 1000
        return f"{end['end']} session"
    assert code == end["end"]
    return str(code)


class Bystander:
    """A session on a WebSocket whose echoes come back, all the time."""

    def __init__(self, port: int) -> None:
        self.session = Session(port)
        self.echoes = 0
        self.worst = 0.0
        self.last = time.monotonic()
        self.failure: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def check(self) -> None:
        """It is still served, and always was."""
        assert self.failure is None, self.failure
        silent = time.monotonic() - self.last
        assert max(self.worst, silent) < UNNOTICED

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self.session.socket.close()

    def _run(self) -> None:
        while not self._over.wait(0.03):
            number = self.echoes + 1
            began = time.monotonic()
            packet = f'm2{number}["echo",{number}]'
            self.session.socket.text(SEPARATOR.join([f"a{number} s{number + 1}", packet]))
            try:
                answer = self.session.socket.next_text()
                while SEPARATOR not in answer:
                    answer = self.session.socket.next_text()
            except (Closed, OSError) as error:
                self.failure = f"echo {number}: {error!r}"
                return
            if not answer.endswith(f"m3{number}[{number}]"):
                self.failure = f"echo {number}: {answer!r}"
                return
            self.last = time.monotonic()
            self.worst = max(self.worst, self.last - began)
            self.echoes = number
