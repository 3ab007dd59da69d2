"""The package as mypyc compiles it is the package: the tests that carry the contract, over it.

They run in a copy of this tree, which has the compiled package. Those that look into what compiled
code does not show are left out by name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.bench.compiled import BuildError, build
from tests.integration.served import ROOT

PACKAGE = "fallback_transport"
#: What a copy of the tree is made of, beside the package.
REST = ("tests", "static", "demo", "pyproject.toml", "README.md")
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
MADE = shutil.ignore_patterns("node_modules", "__pycache__", ".*")

#: Tells where these modules of the package come from.
WHERE = """
import importlib, sys
for name in sys.argv[1:]:
    print(importlib.import_module(name).__file__)
"""

PARTS = {
    "protocol": ("tests/protocol",),
    "sessions": (
        "tests/test_context.py",
        "tests/test_conversation.py",
        "tests/test_dispatcher.py",
        "tests/test_handshake.py",
        "tests/test_inspection.py",
        "tests/test_session.py",
        "tests/test_shortcut.py",
        "tests/test_registry.py",
        "tests/test_engine.py",
        "tests/test_engine_contract.py",
        "tests/test_hub_gateway.py",
        "tests/test_runtime_hub.py",
        "tests/test_session_heads.py",
        "tests/test_websocket.py",
        "tests/testing/test_client.py",
    ),
    # Both transports over real sockets, on eventlet's hub, over WSGI, on gevent, in threads.
    "sockets": (
        "tests/integration/test_sessions.py",
        "tests/integration/test_handlers.py",
    ),
}

#: Tests that look where compiled code does not let them.
INSIDE = (
    # Copies machines by pickling them.
    "tests/protocol/test_model.py::test_every_life_can_be_settled",
    # Replace a function of a module.
    "tests/protocol/test_codec.py::test_what_another_thread_encodes_",
    "tests/protocol/test_codec.py::test_parts_within_parts_",
    # Has a weak reference to a conversation.
    "tests/test_registry.py::test_nothing_is_kept_of_a_session_that_is_over",
    # Replace methods of a class or an object, and a function of a module.
    "tests/test_conversation.py::test_a_defect_",
    "tests/test_hub_gateway.py::test_a_held_poll_is_answered_when_its_time_is_over_whatever_its_session_does",
    "tests/test_session_heads.py::test_remembered_heads_are_bounded",
    "tests/test_websocket.py::test_a_session_that_ends_before_its_welcome_says_just_that",
    "tests/test_websocket.py::test_pings_that_are_counted_while_their_pongs_go_hold_up_nobody",
)

pytestmark = pytest.mark.requires("compiler")


def run(*words: str | Path, cwd: Path, **environment: str) -> str:
    """What a Python says, which is to succeed, without what this test's pytest has set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**kept, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this tree, with the compiled package."""
    tree = tmp_path_factory.mktemp("compiled").resolve()
    build(tree)
    for name in REST:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=MADE)
        else:
            shutil.copy(source, tree)
    return tree


def test_what_is_imported_is_compiled(tree: Path) -> None:
    libraries = sorted((tree / PACKAGE).rglob(f"*{SUFFIX}"))
    names = [
        str(path.relative_to(tree)).removesuffix(SUFFIX).replace("/", ".") for path in libraries
    ]
    assert {f"{PACKAGE}.{name}" for name in ("conversation", "polling", "websocket")} < {*names}
    said = run("-W", "ignore::DeprecationWarning", "-c", WHERE, *names, cwd=tree)
    assert said.split() == [str(path) for path in libraries]


@pytest.mark.requires("gevent")
@pytest.mark.parametrize("part", PARTS)
def test_the_contract_holds(part: str, tree: Path, tmp_path: Path, request: Any) -> None:
    tally = tmp_path / "tally"
    words = ["-m", "pytest", "-q", f"--seed={request.config.option.hypothesis_seed}"]
    # Mostly they wait for one another.
    words += ["-n", "2", "--dist", "loadfile"]
    words += [f"--deselect={name}" for name in INSIDE]
    said = run(*words, *PARTS[part], cwd=tree, FALLBACK_TRANSPORT_TALLY=str(tally))
    counted: Counter[str] = Counter()
    for line in tally.read_text().splitlines():
        word, number = line.split()
        counted[word] += int(number)
    assert counted["passed"] > 100, said
    assert counted["skipped"] == 0, said


@pytest.mark.usefixtures("tree")
def test_the_tree_stays_as_it_is() -> None:
    made = [path for path in (ROOT / PACKAGE).rglob("*") if path.suffix in (".so", ".c", ".o")]
    assert made == []
    assert not (ROOT / "build").exists()


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", str(tmp_path / "none"))
        with pytest.raises(BuildError, match="needs a C compiler and the headers of Python"):
            build(tmp_path / "never")
    assert not (tmp_path / "never").exists()
