"""The browser's files, which the gateway serves at each mount."""

from __future__ import annotations

from pathlib import Path

SCRIPT = "fallback_transport.js"

#: Their types. There is none for TypeScript's; whoever opens those, is to read them.
FILES = {
    SCRIPT: "text/javascript; charset=utf-8",
    "fallback_transport.mjs": "text/javascript; charset=utf-8",
    "fallback_transport.d.ts": "text/plain; charset=utf-8",
    "fallback_transport.d.mts": "text/plain; charset=utf-8",
}


def folder() -> Path:
    """Where they are: in the wheel's package, or beside it in a checkout.

    Raises:
        FileNotFoundError: in neither place; the text names both.
    """
    package = Path(__file__).parent
    for found in (package / "static", package.parent / "static"):
        if (found / SCRIPT).is_file():
            return found
    raise FileNotFoundError(
        f"{SCRIPT} is neither in {package}/static nor in {package.parent}/static: "
        "the installation is incomplete"
    )
