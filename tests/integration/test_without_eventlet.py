"""Where eventlet is not installed: the other modes serve, and mode eventlet says what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.fixtures import TRANSPORTS, unexpected
from tests.client.session import ClientSession
from tests.integration.served import ROOT, Served

#: What the interpreter runs first: to it, there is no such package.
HIDE = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec

def find_spec(name, path=None, target=None):
    return None if name in {hidden} else find(name, path, target)

PathFinder.find_spec = find_spec
"""
MODULE = "tests.integration.emitting_app"


#: What a plain installation without eventlet has not: greenlet comes with gevent, too.
LACKS = {
    "threading": ("eventlet", "httptools", "greenlet", "gevent"),
    "gevent": ("eventlet", "httptools"),
}


def hide(packages: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sitecustomize.py").write_text(HIDE.format(hidden=packages))
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.parametrize(
    "mode", [pytest.param("gevent", marks=pytest.mark.requires("gevent")), "threading"]
)
def test_the_other_modes_serve(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(LACKS[mode], tmp_path, monkeypatch)
    with Served(mode, module=MODULE) as server:
        for transport in TRANSPORTS:
            with ClientSession(server.port).open(transport) as client:
                assert client.request("echo", transport) == transport
                client.emit("thread", 1)
                client.wait_for(lambda client=client: client.named("news"))
        assert not unexpected(server.log()), server.log()


def test_mode_eventlet_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(LACKS["threading"], tmp_path, monkeypatch)
    program = "import flask, fallback_transport as f; f.FallbackTransport(flask.Flask('app'))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert last == (
        "RuntimeError: async mode 'eventlet' needs eventlet, which is not installed: "
        'pip install "eventlet>=0.40,<0.42"; or set async_mode to "gevent" or "threading"'
    )
