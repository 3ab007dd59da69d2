"""The change that MIGRATING.md asks for, made by nobody's hand."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Mapping
from pathlib import Path

APPLICATION = Path(__file__).with_name("application")
PROGRAM, PAGE = "app.py", "templates/index.html"

#: Lines of the program, and what comes in behind each.
NEW: Mapping[str, str] = {
    "from flask import ": "from fallback_transport import FallbackTransport",
    "socketio = SocketIO(app": "FallbackTransport(app, server=socketio)",
}
#: What there is in the page's lines, and what stands there afterwards.
REPLACED: Mapping[str, str] = {
    "https://cdn.socket.io/4.8.4/socket.io.min.js": "/fallback/fallback_transport.js",
    'io("/admin")': 'FallbackTransport.connect("/fallback", {namespace: "/admin"})',
    "io()": "FallbackTransport.connect()",
}


def application(folder: Path) -> Path:
    """A copy of the application in `folder`, as it was written; its folder."""
    bytecode = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(APPLICATION, folder / "application", ignore=bytecode))


def changed_application(folder: Path) -> Path:
    """A copy of the application in `folder`, after the change; its folder."""
    copy = application(folder)
    program = []
    for line in (copy / PROGRAM).read_text().splitlines():
        program.append(line)
        program += [new for start, new in NEW.items() if line.startswith(start)]
    (copy / PROGRAM).write_text("\n".join(program) + "\n")
    page = (copy / PAGE).read_text()
    for old, new in REPLACED.items():
        page = page.replace(old, new)
    (copy / PAGE).write_text(page)
    return copy


def difference(copy: Path, file: str) -> tuple[list[str], list[str]]:
    """The lines of a file that went, and those that came."""
    old, new = ((folder / file).read_text().splitlines() for folder in (APPLICATION, copy))
    lines = list(difflib.ndiff(old, new))
    gone, come = ([line[2:] for line in lines if line[0] == sign] for sign in "-+")
    return gone, come
