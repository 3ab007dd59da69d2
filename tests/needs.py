"""What the tests need beside Python packages, and where it is.

``python tests/needs.py NAME`` prints where NAME is, or says what is missing
and exits with 1. tests/run installs by this, tests/conftest.py fails by this.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).resolve().parent


class MissingError(Exception):
    """Something the tests need is not there; the text says what to do."""


def chromium() -> str:
    """The browser, which Playwright starts and never downloads."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    for name in (os.environ.get("CHROMIUM"), *names):
        path = name and shutil.which(name)
        if path and _answer(path, "--version"):
            return path
    raise MissingError(
        "chromium is missing: install the package chromium (or Google Chrome), "
        "or name an executable in CHROMIUM"
    )


def node() -> str:
    """Node.js 18 or newer; tests/run may have put one beside .venv's Python."""
    folders = [str(Path(sys.prefix, "bin")), *os.environ.get("PATH", "").split(os.pathsep)]
    for folder in folders:
        path = shutil.which("node", path=folder)
        if path and int(_answer(path, "-p", "parseInt(process.versions.node)") or 0) >= 18:
            return path
    raise MissingError("node is missing: install Node.js 18 or newer")


def npm() -> str:
    """The folder of the packages that tests/package.json names."""
    node()
    wanted = json.loads((TESTS / "package.json").read_text())["devDependencies"]
    for name, version in wanted.items():
        installed = TESTS / "node_modules" / name / "package.json"
        if not installed.exists() or json.loads(installed.read_text())["version"] != version:
            raise MissingError(f"npm's {name} {version} is missing: run `npm ci --prefix tests`")
    return str(TESTS / "node_modules")


def gevent() -> str:
    """The Python package."""
    spec = importlib.util.find_spec("gevent")
    if spec is None or spec.origin is None:
        raise MissingError("gevent is missing: run `pip install -e .[gevent]`")
    return spec.origin


NEEDS: dict[str, Callable[[], str]] = {
    "chromium": chromium,
    "node": node,
    "npm": npm,
    "gevent": gevent,
}


@functools.cache
def find(name: str) -> str:
    """Where `name` is; raises MissingError."""
    return NEEDS[name]()


def _answer(*command: str) -> str:
    """What a command prints, or nothing where it does not run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


if __name__ == "__main__":
    try:
        print(find(sys.argv[1]))
    except MissingError as error:
        sys.exit(str(error))
