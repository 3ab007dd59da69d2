"""What is built is what is shipped: the wheel, the sdist, and an installed copy."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from fallback_transport.files import DOCTOR_FILES, FILES

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "fallback_transport"
SCRIPT = f"static/{PACKAGE}.js"
#: What a compiled wheel is built by; it is in none.
HOOK = f"{PACKAGE}/hatch_build.py"

# Serves the browser file as an application does, from the package that is
# first on the path, and prints where that package is.
SERVE = """
import sys
sys.path.insert(0, sys.argv[1])
from flask import Flask
import fallback_transport
app = Flask(__name__)
fallback_transport.FallbackTransport(app)
answer = app.test_client().get("/fallback/fallback_transport.js")
assert answer.status_code == 200, answer.status
assert answer.data == open(sys.argv[2], "rb").read(), "another file was served"
print(fallback_transport.__path__[0])
"""


def run(*arguments: str | Path, cwd: Path) -> str:
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def sources() -> set[str]:
    """The files of the package in the repository."""
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel, built from the sdist as for a release, and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    [path] = built.glob("*.whl")
    return path


def test_the_wheel_holds_the_package_and_the_browser_files_and_no_more(wheel: Path) -> None:
    assert wheel.name == f"{PACKAGE}-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = Parser().parsestr(archive.read(f"{PACKAGE}-0.1.0.dist-info/METADATA").decode())
        assert archive.read(f"{PACKAGE}/{SCRIPT}") == (ROOT / SCRIPT).read_bytes()
    scripts = {f"{PACKAGE}/static/{path.name}" for path in (ROOT / "static").iterdir()}
    assert scripts <= {f"{PACKAGE}/static/{name}" for name in (*FILES, *DOCTOR_FILES)}
    info = {name for name in names if ".dist-info/" in name}
    assert {f"{PACKAGE}/py.typed", f"{PACKAGE}/PROTOCOL.md"} <= names
    assert names - info == (sources() - {HOOK}) | scripts
    assert f"{PACKAGE}-0.1.0.dist-info/licenses/LICENSE" in info
    assert f"{PACKAGE}-0.1.0.dist-info/entry_points.txt" in info
    assert metadata["Name"] == "fallback-transport"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.10"


def test_the_sdist_holds_what_it_takes_to_test_and_nothing_made_by_tests(built: Path) -> None:
    [path] = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        modes = {member.name.partition("/")[2]: member.mode for member in archive.getmembers()}
    assert sources() <= modes.keys()
    assert {SCRIPT, "README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml"} <= modes.keys()
    assert {"tests/conftest.py", "tests/package-lock.json", "tests/venv.sh"} <= modes.keys()
    assert HOOK in modes, "a compiled wheel is built from the sdist, too"
    for script in ("tests/run", "demo/run"):
        assert modes[script] & 0o111, f"{script} is not executable"
    made = ("node_modules", "__pycache__", ".venv", ".hypothesis", ".pytest_cache", ".coverage")
    assert [name for name in modes if any(part in made for part in Path(name).parts)] == []


def test_an_installed_wheel_finds_its_browser_file(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    run(*pip, "--no-deps", "--no-index", "--target", target, wheel, cwd=tmp_path)
    where = run(sys.executable, "-c", SERVE, target, ROOT / SCRIPT, cwd=tmp_path)
    assert where == str(target / PACKAGE)


def test_a_wheel_that_is_imported_as_it_is_finds_its_browser_file(
    wheel: Path, tmp_path: Path
) -> None:
    """As in a zip application: Python reads the modules from the archive."""
    where = run(sys.executable, "-c", SERVE, wheel, ROOT / SCRIPT, cwd=tmp_path)
    assert where == str(wheel / PACKAGE)


def test_the_repository_finds_its_browser_file(tmp_path: Path) -> None:
    where = run(sys.executable, "-c", SERVE, ROOT, ROOT / SCRIPT, cwd=tmp_path)
    assert where == str(ROOT / PACKAGE)
