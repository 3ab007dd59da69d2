"""What has happened to the sessions of this process, in numbers that name nobody.

What happens rarely is counted here as it happens. What happens with every message is counted by
the session that it happens to (`protocol/reliability.py`), and added here when that is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from .protocol.codes import CloseCode
from .protocol.machine import SessionMachine

#: Why a client says that it is on long polling (the client's `session.why.reason`).
REASONS = (
    "unavailable",
    "threw",
    "refused",
    "unanswered",
    "silent",
    "closed",
    "unstable",
    "half-open",
    "option",
    "proving",
)
UNKNOWN = "unknown"
#: How many codes are counted that are none of the protocol's, of the 2,000 and more that clients
#: may close with; whatever comes then counts as `OTHER`. Each is a series to Prometheus, for ever.
MAX_CODES = 100
#: No code, and a number as all of them: JSON's writers sort by them.
OTHER = 0
_OWN_CODES = frozenset(map(int, CloseCode))
_TRANSPORTS = ("websocket", "polling")


class Stats:
    """See the module.

    Args:
        lock: the runtime's, for it is taken under that of a session.
    """

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._opened = 0
        self._closed: Counter[int] = Counter()
        self._switches: Counter[str] = Counter()
        self._fallbacks: Counter[str] = Counter()
        #: Of the sessions that are over: messages up and down, replays, duplicates.
        self._past = (0, 0, 0, 0)

    def opened(self) -> None:
        """A session has begun."""
        with self._lock:
            self._opened += 1

    def carried(self, before: str | None, now: str, why: str | None) -> None:
        """A transport begins to carry a session.

        Args:
            before: the one that carried it last, None for the first.
            now: the one that does from now on.
            why: what its client says of the reason, where that is polling.
        """
        if before == now:
            return
        with self._lock:
            if before is not None:
                self._switches[now] += 1
            if now == "polling":
                # What a client may write is not what the numbers may be called.
                self._fallbacks[why if why in REASONS else UNKNOWN] += 1

    def ended(self, machine: SessionMachine) -> None:
        """A session is over."""
        with self._lock:
            code = machine.closure[0]
            closed = self._closed
            if code not in closed and code not in _OWN_CODES:
                code = code if len(closed.keys() - _OWN_CODES) < MAX_CODES else OTHER
            closed[code] += 1
            up, down, replays, duplicates = self._past
            outbox, inbox = machine.outbox, machine.inbox
            self._past = (
                up + inbox.received,
                down + outbox.sent,
                replays + outbox.replays,
                duplicates + inbox.duplicates,
            )

    def to_json(self, machines: Iterable[SessionMachine], weight: int) -> dict[str, Any]:
        """All of it.

        Args:
            machines: of the sessions that there are.
            weight: bytes of answers that are being written.
        """
        carried = dict.fromkeys((*_TRANSPORTS, "none"), 0)
        messages, size = 0, weight
        with self._lock:
            up, down, replays, duplicates = self._past
            for machine in machines:
                transport = machine.transport
                carried[transport.value if transport else "none"] += 1
                outbox, inbox = machine.outbox, machine.inbox
                messages += len(outbox)
                size += outbox.bytes
                up += inbox.received
                down += outbox.sent
                replays += outbox.replays
                duplicates += inbox.duplicates
            return {
                "sessions": carried,
                "queue": {"messages": messages, "bytes": size},
                "opened": self._opened,
                "closed": dict(sorted(self._closed.items())),
                "switches": {name: self._switches[name] for name in _TRANSPORTS},
                "fallbacks": dict(sorted(self._fallbacks.items())),
                "messages": {"up": up, "down": down},
                "replays": replays,
                "duplicates": duplicates,
            }
