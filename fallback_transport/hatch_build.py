"""Builds the wheel with some of its modules compiled by mypyc, where that is asked for.

The plain wheel is pure Python; ``HATCH_BUILD_HOOK_ENABLE_CUSTOM=true pip install .`` turns this
on. The modules and what it takes to compile them are in pyproject.toml.

hatch-mypyc would do this too. But it leaves the libraries beside their sources, where an
editable install finds them when the sources have long changed, and while it runs it moves
pyproject.toml away. Here a copy is compiled, and the tree stays as it is.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "fallback_transport"
# mypyc names its shared library by what is compiled; another package's must not have the name.
# It does without the types of the dependencies, which are not there where a build is isolated: what
# is compiled is the same everywhere. What follows of that in other modules is not reported; in
# those compiled, a class that has a dependency's for its base, which would crash, is an error.
SETUP = """
from mypyc.build import mypycify
from setuptools import setup

options = ["--config-file=", "--no-site-packages", "--ignore-missing-imports"]
options += ["--follow-imports=silent", "--disallow-subclassing-any"]
extensions = mypycify(options + {paths!r}, debug_level="0", group_name={group!r})
setup(name={group!r}, packages=[], ext_modules=extensions)
"""


class CompiledBuildHook(BuildHookInterface[Any]):
    """Compiles the modules that its table in pyproject.toml names."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and add what comes of it to the wheel."""
        if version == "editable":
            # Its sources are there to be changed.
            return
        require_compiler()
        self._folder = TemporaryDirectory(prefix=f"{PACKAGE}-")
        folder = Path(self._folder.name)
        shutil.copytree(Path(self.root, PACKAGE), folder / PACKAGE)
        setup = SETUP.format(paths=self.config["modules"], group=PACKAGE)
        command = [sys.executable, "-c", setup, "-q", "build_ext", "--build-lib", "compiled"]
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{PACKAGE} could not be compiled:\n{done.stdout}")
        compiled = folder / "compiled"
        for path in compiled.rglob("*" + sysconfig.get_config_var("EXT_SUFFIX")):
            build_data["force_include"][str(path)] = str(path.relative_to(compiled))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what the wheel now has."""
        if version != "editable":
            self._folder.cleanup()


def require_compiler() -> None:
    """See that there is what setuptools is going to call, and what that reads.

    Raises:
        RuntimeError: what to install.
    """
    words = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    includes = {sysconfig.get_path(name) for name in ("include", "platinclude")}
    options = [f"-I{path}" for path in sorted(includes)]
    command = [words[0], *options, "-E", "-include", "Python.h", "-x", "c", os.devnull]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(
            "a compiled build needs a C compiler and the headers of Python: install them (Debian: "
            "gcc, libc6-dev, python3-dev), or name the compiler in CC; or build in pure Python, "
            "without HATCH_BUILD_HOOK_ENABLE_CUSTOM\n"
            f"{getattr(error, 'stderr', None) or error}"
        ) from None
