"""Whether sessions can be served on eventlet's hub, past whatever WSGI middleware there is."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any

from werkzeug.middleware.proxy_fix import ProxyFix

from . import heads
from .gateway import Gateway
from .hub_gateway import HubGateway
from .runtime import Runtime

logger = logging.getLogger("fallback_transport.runtime")


def hub_binding(
    outermost: Any, gateways: Sequence[Gateway], runtime: Runtime, binding: str
) -> HubGateway | None:
    """What serves sessions on the hub; None if they go over WSGI.

    On the hub no middleware sees a session's requests. Of `ProxyFix` all is done that it does;
    of any other we cannot say that sessions do without it.

    Args:
        outermost: the WSGI application that is served, with all that stands in front of it.
        gateways: those that it leads to.
        runtime: the async mode.
        binding: see `Options`.

    Raises:
        RuntimeError: it has to be the hub, and cannot be.
    """
    if binding == "wsgi" or (binding == "auto" and runtime.mode != "eventlet"):
        return None
    each = outermost
    fixes: list[ProxyFix] = []
    while type(each) is ProxyFix:
        fixes.append(each)
        each = each.app
    unseen = list(gateways)
    while each in unseen:
        unseen.remove(each)
        each = each.app
    if runtime.mode != "eventlet":
        obstacle = f"async mode {runtime.mode!r} has no such hub"
    elif not heads.possible():
        obstacle = "the package httptools is not installed"
    elif unseen:
        kind = each if hasattr(each, "__qualname__") else type(each)
        obstacle = (
            f"{kind.__module__}.{kind.__qualname__} stands in front of them; "
            "what wraps app.wsgi_app before FallbackTransport(app) does, stands behind them"
        )
    else:
        hub = [gateway for gateway in gateways if gateway.runtime.mode == "eventlet"]
        return HubGateway(hub, _fixing(fixes), runtime)
    if binding == "hub":
        raise RuntimeError(f"sessions cannot be served on the hub: {obstacle}")
    logger.warning("sessions are served over WSGI: %s", obstacle)
    return None


def _fixing(fixes: list[ProxyFix]) -> Callable[[dict[str, Any]], object] | None:
    """Does to an environ what `fixes` do, the outermost of them first."""
    if not fixes:
        return None
    chain: Any = lambda environ, start_response: ()  # noqa: E731
    for fix in reversed(fixes):
        alike = copy.copy(fix)
        alike.app = chain
        chain = alike
    return lambda environ: chain(environ, None)
