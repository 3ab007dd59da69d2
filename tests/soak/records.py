"""What one end writes down: a line for each thing that happened.

Fields, separated by tabs: time (seconds since 1970), session, event, way,
number, size in bytes, value. The events:

sent, got
    Message `number` of a way ("up" to the server, "down" to the page) was
    handed over by one application, taken by the other one; the value is the
    checksum of its content.
asked, answered, failed
    A reply to `number` was asked for; its callback was called with a value, or
    with an error. Of the ways "up", "down" and "question", which has no order.
heard
    A question came to the page.
connect, disconnect
    On the server, for each session; `number` is the code.
open, close, error, reset
    On the page; `number` is the code.
transport, attempts
    The session has changed to the transport `way`; it has made `number` connections.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Record(NamedTuple):
    """One line."""

    at: float
    session: str
    event: str
    way: str = ""
    number: int = 0
    size: int = 0
    value: str = ""


def encoded(data: str | bytes) -> bytes:
    """The bytes of a content."""
    return data.encode() if isinstance(data, str) else bytes(data)


def checksum(data: str | bytes) -> str:
    """What is written down of a content: text or bytes, and a CRC-32."""
    return f"{'t' if isinstance(data, str) else 'b'}{zlib.crc32(encoded(data)):08x}"


class Recorder:
    """Writes records to a file; they are there as soon as they are written.

    Args:
        path: the file, which is appended to.
    """

    def __init__(self, path: str) -> None:
        # Line-buffered: the process may be ended by a signal.
        self._file = open(path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def write(
        self,
        session: str,
        event: str,
        way: str = "",
        number: int = 0,
        size: int = 0,
        value: object = "",
    ) -> None:
        """Write one down, now."""
        text = " ".join(str(value).split())
        line = f"{time.time():.4f}\t{session}\t{event}\t{way}\t{number}\t{size}\t{text}\n"
        with self._lock:
            self._file.write(line)

    def message(self, session: str, event: str, way: str, number: int, data: str | bytes) -> None:
        """Write down that a message was sent, or got."""
        self.write(session, event, way, number, len(encoded(data)), checksum(data))


def read(path: Path) -> Iterator[Record]:
    """The records of a file, one by one; an hour's are many."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            at, session, event, way, number, size, value = line.rstrip("\n").split("\t")
            yield Record(float(at), session, event, way, int(number), int(size), value)
