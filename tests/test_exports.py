"""The public names, and that every `__all__` tells the truth."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import fallback_transport

PUBLIC = ["ConnectionRefused", "FallbackTransport", "Handlers", "RequestFailed", "Session"]
MODULES = [
    "fallback_transport",
    *(
        module.name
        for module in pkgutil.walk_packages(fallback_transport.__path__, "fallback_transport.")
        if not module.name.endswith("__main__")
    ),
]


def test_the_public_names_can_be_imported() -> None:
    from fallback_transport import ConnectionRefused, FallbackTransport, Session

    assert isinstance(FallbackTransport, type)
    assert isinstance(Session, type)
    assert issubclass(ConnectionRefused, Exception)


def test_the_package_exports_exactly_the_public_names() -> None:
    assert sorted(fallback_transport.__all__) == PUBLIC


@pytest.mark.parametrize("name", MODULES)
def test_all_names_resolve(name: str) -> None:
    module = importlib.import_module(name)
    names = getattr(module, "__all__", [])
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(module, name)] == []


def test_an_async_mode_that_is_not_used_is_not_imported() -> None:
    program = """
import sys
from flask import Flask
from fallback_transport import FallbackTransport
FallbackTransport(Flask("app"), async_mode="threading")
print(sorted({"eventlet", "gevent"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
