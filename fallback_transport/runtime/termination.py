"""What SIGTERM does: sessions are told before the process ends."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

from .servers import FAREWELL


class Termination:
    """Listens for the signal in a task of the async mode.

    Args:
        drain: tells the sessions, beside everything else.
        patience: gives, at the signal, the seconds after it at which the process is ended,
            whatever it does.
        socket_pair: makes two connected sockets, on which tasks can wait.
        spawn, sleep: the async mode's.
    """

    def __init__(
        self,
        drain: Callable[[], None],
        patience: Callable[[], float],
        socket_pair: Callable[[], tuple[socket.socket, socket.socket]],
        spawn: Callable[[Callable[[], None]], None],
        sleep: Callable[[float], None],
    ) -> None:
        self._drain = drain
        self._patience = patience
        self._socket_pair = socket_pair
        self._spawn = spawn
        self._sleep = sleep

    def go_first(self) -> None:
        """At the next signal drain, beside everything else; the signal comes again then.

        What it did before it does the second time, and also whenever it comes in between.

        Raises:
            ValueError: this is not the main thread.
            RuntimeError: what handles the signal is not Python's, and could not be put back.
        """
        before = signal.getsignal(signal.SIGTERM)
        if before is None:
            raise RuntimeError("SIGTERM is handled outside of Python: call drain() from there")
        if before is not signal.SIG_IGN:
            self._listen(_terminate, before)

    def then(self, stop: Callable[[], None]) -> None:
        """At the first signal drain, and then `stop`; a second one ends the process at once."""
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            # The application's own, or its parent's wish.
            return
        # Only possible in the main thread; in any other there are no signals to see to.
        with contextlib.suppress(ValueError):
            self._listen(stop, signal.SIG_DFL)

    def _listen(self, stop: Callable[[], None], after: Any) -> None:
        ears, voice = self._socket_pair()
        process = os.getpid()

        def tell(number: int, frame: FrameType | None) -> None:
            # Whatever runs just now is interrupted, the hub itself perhaps: only a byte goes out,
            # which wakes the hub, too.
            signal.signal(signal.SIGTERM, after)
            if os.getpid() != process:
                # A fork, which has no sessions: at the other end of the pair is its parent.
                _terminate()
                return
            _end_after(self._patience())
            voice.send(b"!")

        def listen() -> None:
            if not ears.recv(1):
                # Somebody else has taken the signal, and with that our handler was gone.
                return
            try:
                self._drain()
                self._sleep(FAREWELL)
            finally:
                faulthandler.cancel_dump_traceback_later()
                stop()

        signal.signal(signal.SIGTERM, tell)
        self._spawn(listen)


def _end_after(seconds: float) -> None:
    """Say then where everybody is, and end with status 1; it needs nobody to give way."""
    try:
        faulthandler.dump_traceback_later(seconds, exit=True)
    except Exception:
        # Standard error is closed, or an object of the application's, which may lack whatever a
        # file has. To whom it is said then is of no account, that it ends is.
        with contextlib.suppress(OSError):
            nowhere = open(os.devnull, "w")  # noqa: SIM115 - kept until it is cancelled
            faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
