"""This package as ``HATCH_BUILD_HOOK_ENABLE_CUSTOM=true`` builds it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path

from tests.integration.served import ROOT

from .generator import cache

PACKAGE = "fallback_transport"


class BuildError(Exception):
    """It could not be built; the text is what was said of that."""


def build(folder: Path, root: Path = ROOT) -> None:
    """Put what an installation would have into `folder`: the package, and what it loads.

    It is built from the sdist, as a release is.
    """
    with tempfile.TemporaryDirectory() as wheels:
        words = ["-m", "build", "--no-isolation", "--outdir", wheels, str(root)]
        done = subprocess.run(
            [sys.executable, *words],
            env={**os.environ, "HATCH_BUILD_HOOK_ENABLE_CUSTOM": "true"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BuildError(done.stdout)
        [wheel] = Path(wheels).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)


def package() -> Path:
    """The folder that has it, built at first use for these sources, this Python and this user."""
    digest = hashlib.sha256(f"{sys.version} {version('mypy')}".encode())
    sources = [*ROOT.glob(f"{PACKAGE}/**/*.py"), ROOT / "pyproject.toml"]
    for path in sorted(sources):
        digest.update(path.read_bytes())
    folder = cache() / f"compiled-{digest.hexdigest()[:16]}"
    if not folder.exists():
        fresh = Path(tempfile.mkdtemp(dir=cache()))
        try:
            build(fresh)
            fresh.rename(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return folder
