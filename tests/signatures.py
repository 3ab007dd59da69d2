"""What a document says that a function takes, and what it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from fallback_transport.protocol.codes import CloseCode


def parameters(text: str) -> list[str]:
    """The parameters of `"name=None, *, other=1)"`."""
    return [part.strip() for part in text.rstrip(")").split(",") if part.strip()]


def signature(function: Callable[..., Any]) -> list[str]:
    """The same, of a method: without `self`."""
    found = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind is parameter.KEYWORD_ONLY and not any(p[0] == "*" for p in found):
            found.append("*")
        if parameter.kind is parameter.VAR_KEYWORD:
            found.append(f"**{parameter.name}")
        elif parameter.kind is parameter.VAR_POSITIONAL:
            found.append(f"*{parameter.name}")
        elif parameter.default is parameter.empty:
            found.append(parameter.name)
        else:
            default = parameter.default
            text = str(int(default)) if isinstance(default, CloseCode) else f"{default!r}"
            found.append(f"{parameter.name}={text}".replace("'", '"'))
    return found
