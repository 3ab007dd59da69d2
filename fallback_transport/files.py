"""The browser's files, which the gateway serves at each mount."""

from __future__ import annotations

import base64
import contextlib
import functools
import gzip
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Traversable

SCRIPT = "fallback_transport.js"

#: Their types. There is none for TypeScript's; whoever opens those, is to read them.
FILES = {
    SCRIPT: "text/javascript; charset=utf-8",
    "fallback_transport.mjs": "text/javascript; charset=utf-8",
    "fallback_transport.d.ts": "text/plain; charset=utf-8",
    "fallback_transport.d.mts": "text/plain; charset=utf-8",
}

#: Those of the doctor's page.
DOCTOR_FILES = {
    "doctor.html": "text/html; charset=utf-8",
    "doctor.js": "text/javascript; charset=utf-8",
    "doctor.css": "text/css; charset=utf-8",
    "doctor_findings.json": "application/json; charset=utf-8",
}
_KINDS = {**FILES, **DOCTOR_FILES}


def folder() -> Traversable:
    """Where they are: in the wheel's package, also in a zip archive, or beside it in a checkout.

    Raises:
        FileNotFoundError: in neither place; the text names both.
    """
    package = Path(__file__).parent
    for found in (files(__package__) / "static", package.parent / "static"):
        if (found / SCRIPT).is_file():
            return found
    raise FileNotFoundError(
        f"{SCRIPT} is neither in {package}/static nor in {package.parent}/static: "
        "the installation is incomplete"
    )


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is served.

    Args:
        kind: its Content-Type.
        body: its bytes.
        packed: the same, gzipped.
        version: names these bytes and no others.
        integrity: the same for a page's `integrity` (W3C Subresource Integrity).
    """

    kind: str
    body: bytes
    packed: bytes
    version: str
    integrity: str


def keep() -> None:
    """Read all of them now: what is installed over them later is another process's."""
    # Of what cannot be read, whoever asks for it is told.
    with contextlib.suppress(OSError):
        for name in _KINDS:
            _read(name)


@functools.cache
def load(name: str) -> File:
    """One of `FILES`, or of `DOCTOR_FILES`, as it was when it was read."""
    body = _read(name)
    digest = base64.b64encode(hashlib.sha384(body).digest()).decode()
    version = hashlib.sha256(body).hexdigest()[:16]
    # Without a time in it, that each process of a server has the same.
    return File(_KINDS[name], body, gzip.compress(body, mtime=0), version, f"sha384-{digest}")


@functools.cache
def _read(name: str) -> bytes:
    return (folder() / name).read_bytes()
