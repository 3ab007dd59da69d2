"""The floors of the house: a module imports only from below.

A new module gets its place in FLOORS; one without a place is a breach, so that
nobody forgets. Imports inside functions and under TYPE_CHECKING count too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fallback_transport

PACKAGE = "fallback_transport"

# From the ground up. Modules on one floor do not import each other; those of
# one subpackage do. "" is the package itself, which imports to export.
FLOORS = [
    {"catch_all", "endings", "failures", "handshake", "packets", "protocol", "rooms", "version"},
    {"runtime"},
    {"application", "backlog", "carriage", "request", "timekeeper"},
    {"emission", "replies"},
    {"application_side"},
    {"admission", "conversation", "files", "origins", "publishing", "stats"},
    {"answers", "client_manager", "inspection", "options", "registry", "shortcut"},
    {"engine"},
    {"engine_client"},
    {"heads", "polling", "websocket"},
    {"drivers"},
    {"doctor", "metrics"},
    {"gateway"},
    {"session_heads"},
    {"hub_gateway"},
    {"binding"},
    {"request_context", "script_tag", "session"},
    {"context"},
    {"handlers"},
    {"dispatcher"},
    {"assembly"},
    {"extension"},
    {"testing"},
    {"", "__main__"},
    {"hatch_build"},
]

# The ground floor is pure: no socket, clock, thread, randomness, logging or
# library. It imports itself and these.
IN_PROTOCOL = {
    "__future__",
    "abc",
    "base64",
    "binascii",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "hmac",
    "itertools",
    "json",
    "math",
    "operator",
    "re",
    "string",
    "struct",
    "types",
    "typing",
}

# What only these modules may import.
ONLY_IN = {
    "eventlet": {"runtime"},
    "gevent": {"runtime"},
    "flask": {"assembly", "context", "extension", "request_context", "script_tag", "testing"},
}


def breaches(package: Path) -> list[str]:
    """Every import below the folder `package` that the tables forbid."""
    found = []
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        # ("protocol", "envelope"), or () for the package itself
        parts = relative.with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        module = parts[0] if parts else ""
        if _floor(module) is None:
            found.append(f"{relative}: has no place in FLOORS")
            continue
        inside = relative.parent.parts
        for line, target in _imports(ast.parse(path.read_bytes()), inside, package):
            if reason := _breach(module, target):
                found.append(f"{relative}:{line}: imports {target}: {reason}")
    # A statement that imports three names from one module is one breach.
    return list(dict.fromkeys(found))


def _floor(module: str) -> int | None:
    return next((n for n, floor in enumerate(FLOORS) if module in floor), None)


def _breach(module: str, target: str) -> str | None:
    top, _, rest = target.partition(".")
    if top != PACKAGE:
        if module == "protocol" and top not in IN_PROTOCOL:
            return "the ground floor is pure"
        if top in ONLY_IN and module not in ONLY_IN[top]:
            return f"only {', '.join(sorted(ONLY_IN[top]))} may"
        return None
    other = rest.partition(".")[0]
    if other == module:
        return None
    here, there = _floor(module), _floor(other)
    assert here is not None
    if there is None:
        return "it has no place in FLOORS"
    if there == here and module != "__main__":
        return "it is on the same floor"
    if there > here:
        return "it is above"
    return None


def _imports(tree: ast.AST, inside: tuple[str, ...], package: Path) -> Iterator[tuple[int, str]]:
    """Each imported module of a file, by its full name, and the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = (PACKAGE, *inside)
            start = above[: len(above) + 1 - node.level] if node.level else ()
            source = ".".join((*start, *filter(None, [node.module])))
            for alias in node.names:
                yield node.lineno, _named(source, alias.name, package)
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith(("import_module", "__import__"))
            and node.args
        ):
            name = node.args[0]
            known = isinstance(name, ast.Constant) and isinstance(name.value, str)
            yield node.lineno, name.value if known else f"{PACKAGE}.<computed>"


def _named(source: str, name: str, package: Path) -> str:
    """`from source import name`: the module `source.name` if there is one, or `source`."""
    if source.partition(".")[0] != PACKAGE:
        return source
    path = package.joinpath(*source.split(".")[1:], name)
    return f"{source}.{name}" if path.is_dir() or path.with_suffix(".py").exists() else source


def test_every_module_imports_only_from_below() -> None:
    assert breaches(Path(fallback_transport.__path__[0])) == []


GOOD = {
    "__init__.py": "from .extension import Extension\nfrom fallback_transport import session",
    "protocol/__init__.py": "from .machine import SessionMachine\nimport dataclasses",
    "protocol/machine.py": "from . import envelope\nfrom .envelope import encode",
    "protocol/envelope.py": "encode = 1",
    "runtime.py": "import eventlet.hubs\nfrom gevent import socket",
    "registry.py": "from . import runtime\nfrom .protocol import machine",
    "engine.py": "import fallback_transport.registry\nimport socketio",
    "polling.py": "from .engine import Engine",
    "websocket.py": "from . import engine\nimport websockets",
    "gateway.py": "from .polling import a\nfrom .websocket import b",
    "session.py": "from . import gateway",
    "extension.py": "import flask\nfrom .session import Session",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / PACKAGE


def test_good_imports_pass(tmp_path: Path) -> None:
    assert breaches(write(tmp_path, GOOD)) == []


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("protocol/envelope.py", "import time", "pure"),
        ("protocol/envelope.py", "from logging import getLogger", "pure"),
        ("protocol/envelope.py", "def f():\n    import socket", "pure"),
        ("protocol/envelope.py", "from concurrent.futures import Future", "pure"),
        ("protocol/envelope.py", "from .. import runtime", "above"),
        ("protocol/envelope.py", "from fallback_transport.runtime import sleep", "above"),
        ("protocol/envelope.py", "from .. import FallbackTransport", "above"),
        ("protocol/deep/er.py", "from ...gateway import x", "above"),
        ("runtime.py", "from .registry import Registry", "above"),
        ("registry.py", "from fallback_transport import engine", "above"),
        ("engine.py", "if TYPE_CHECKING:\n    from .session import Session", "above"),
        ("polling.py", "from .websocket import x", "same floor"),
        ("websocket.py", "from . import polling", "same floor"),
        ("gateway.py", "import fallback_transport", "above"),
        (
            "gateway.py",
            "import importlib\nimportlib.import_module('eventlet.wsgi')",
            "only runtime",
        ),
        ("gateway.py", "__import__(name)", "no place"),
        ("session.py", "import gevent", "only runtime"),
        (
            "session.py",
            "from flask import g",
            "only assembly, context, extension, request_context, script_tag, testing",
        ),
        ("session.py", "from . import newcomer", "no place"),
        ("newcomer.py", "", "no place"),
    ],
)
def test_a_breach_is_seen(tmp_path: Path, name: str, text: str, reason: str) -> None:
    files = {**GOOD, "newcomer.py": ""} if "newcomer" in text else GOOD
    found = breaches(write(tmp_path, {**files, name: text}))
    about = [breach for breach in found if breach.startswith(name)]
    assert len(about) == 1
    assert reason in about[0]
    assert all("newcomer" in breach for breach in found if breach not in about)
