"""Socket.IO protocol 5 packets of the default namespace, with attachments."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR, BINARY_EVENT, BINARY_ACK, ERROR = range(8)

_HEAD = re.compile(r"([0-7])(?:([0-9]+)-)?([0-9]*)")


@dataclass(frozen=True, slots=True)
class Packet:
    """A whole packet: the binary kinds are told as their plain ones."""

    kind: int
    data: Any = None
    id: int | None = None


def encode(packet: Packet) -> list[str | bytes]:
    """The packet's text, and its attachments behind it."""
    attachments: list[bytes] = []
    data = _taken_out(packet.data, attachments)
    kind, count = packet.kind, ""
    if attachments:
        kind, count = kind + (BINARY_EVENT - EVENT), f"{len(attachments)}-"
    number = "" if packet.id is None else str(packet.id)
    text = "" if data is None else _json(data)
    return [f"{kind}{count}{number}{text}", *attachments]


class PacketReader:
    """Puts packets together from messages."""

    def __init__(self) -> None:
        self._head: Packet | None = None
        self._missing = 0
        self._attachments: list[bytes] = []

    def feed(self, message: str | bytes) -> Packet | None:
        """Take the next message; the packet, once it is whole.

        Raises:
            ValueError: it is no packet, or not in its place.
        """
        if isinstance(message, bytes):
            if self._head is None:
                raise ValueError("an attachment without its packet")
            self._attachments.append(message)
        elif self._head is not None:
            raise ValueError(f"{message!r} where an attachment was announced")
        else:
            self._begin(message)
        if self._head is None or len(self._attachments) < self._missing:
            return None
        head, self._head = self._head, None
        data = _put_back(head.data, self._attachments)
        kind = head.kind if head.kind < BINARY_EVENT or head.kind == ERROR else head.kind - 3
        return Packet(kind, data, head.id)

    def _begin(self, text: str) -> None:
        found = _HEAD.match(text)
        if found is None:
            raise ValueError(f"no packet: {text!r}")
        kind, count, number = found.groups()
        rest = text[found.end() :]
        data = json.loads(rest) if rest else None
        self._head = Packet(int(kind), data, int(number) if number else None)
        self._missing, self._attachments = int(count or 0), []


def _json(value: Any) -> str:
    """As a browser writes it: only lone surrogates are escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return text


def _taken_out(value: Any, attachments: list[bytes]) -> Any:
    if isinstance(value, bytes):
        attachments.append(value)
        return {"_placeholder": True, "num": len(attachments) - 1}
    if isinstance(value, (list, tuple)):
        return [_taken_out(each, attachments) for each in value]
    if isinstance(value, dict):
        return {name: _taken_out(each, attachments) for name, each in value.items()}
    return value


def _put_back(value: Any, attachments: list[bytes]) -> Any:
    if isinstance(value, list):
        return [_put_back(each, attachments) for each in value]
    if isinstance(value, dict):
        if value.get("_placeholder") is True:
            return attachments[value["num"]]
        return {name: _put_back(each, attachments) for name, each in value.items()}
    return value
