"""What TESTING.md says is so: its examples pass, and its table is the client's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fallback_transport.testing import TestClient
from tests.documents import README, ROOT, TESTING, Document, code, table
from tests.signatures import parameters, signature


def test_the_testing_clients_names_exist_and_take_these_arguments() -> None:
    told = set()
    for row in table(TESTING.section("The client")):
        for text in code(row[0]):
            name, _, arguments = text.partition("(")
            name = name.partition(".")[2] or "__init__"
            told.add(name)
            thing = getattr(TestClient, name)
            if arguments:
                assert parameters(arguments) == signature(thing), text
    assert {name for name in vars(TestClient) if not name.startswith("_")} <= told


@pytest.mark.parametrize("document", [README, TESTING], ids=["README", "TESTING"])
def test_the_tests_of_your_app_pass(document: Document, tmp_path: Path) -> None:
    program = README.block("python", "transport.run(app)")
    serves = 'if __name__ == "__main__":\n    transport.run(app)'
    (tmp_path / "app.py").write_text(program.replace("transport.run(app)", serves))
    example = document.block("python", "import TestClient")
    (tmp_path / "test_app.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert f"{example.count('def test_')} passed" in done.stdout, done.stdout + done.stderr
