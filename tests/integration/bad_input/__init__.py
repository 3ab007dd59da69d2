"""Bad input: what is sent, and how it must end, in the words of `over_http` and `over_websocket`.

Each module has a table, and adds it to `CASES`.
"""

from __future__ import annotations

from . import envelopes, http, sessions, websocket
from .arena import CASES, FRIEND, LENGTH, POST, Arena, Case

__all__ = [
    "CASES",
    "FRIEND",
    "LENGTH",
    "POST",
    "Arena",
    "Case",
    "envelopes",
    "http",
    "sessions",
    "websocket",
]
