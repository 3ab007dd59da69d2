"""Who is in which room, and what is said to whom; whatever carries it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
SUBPROTOCOL = "json"


@dataclass
class Member:
    """Somebody who is connected; without a name, he hears nothing yet."""

    room: str
    send: Callable[[str], Any]
    name: str = ""


class Rooms:
    """All rooms of a server. Nobody in a room has another's name."""

    def __init__(self) -> None:
        self._members: dict[Hashable, Member] = {}
        self._lock = threading.RLock()

    def enter(self, key: Hashable, room: str, send: Callable[[str], Any]) -> None:
        """Somebody has connected."""
        with self._lock:
            self._members[key] = Member(room, send)

    def take(self, key: Hashable, text: str) -> None:
        """Somebody says something: his name first."""
        message = json.loads(text)
        with self._lock:
            member = self._members[key]
            if message["type"] == "name":
                member.name = self._free(member.room, message["name"])
                member.send(json.dumps({"type": "you", "name": member.name}))
                self._tell(member.room, type="join", name=member.name)
                self._tell_users(member.room)
            elif message["type"] == "say":
                self._tell(member.room, type="say", name=member.name, text=message["text"])

    def leave(self, key: Hashable) -> None:
        """Somebody is gone."""
        with self._lock:
            member = self._members.pop(key)
            self._tell(member.room, type="leave", name=member.name)
            self._tell_users(member.room)

    def _in(self, room: str) -> list[Member]:
        return [each for each in self._members.values() if each.room == room and each.name]

    def _free(self, room: str, name: str) -> str:
        taken = {each.name for each in self._in(room)}
        number = 1
        free = name
        while free in taken:
            number += 1
            free = f"{name}{number}"
        return free

    def _tell(self, room: str, **message: Any) -> None:
        for each in self._in(room):
            each.send(json.dumps(message))

    def _tell_users(self, room: str) -> None:
        self._tell(room, type="users", users=[each.name for each in self._in(room)])
