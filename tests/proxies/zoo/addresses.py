"""Where pages, proxies and servers find each other: on loopback, or in the zoo's own network."""

from __future__ import annotations

import os

#: Outside of the network there is only loopback.
LOOPBACK = "127.0.0.1"
#: See ``network.py``.
ORIGIN = "10.9.9.9"
OPEN = "10.9.9.8"
#: The variable of the environment that says that this is the network.
MARK = "FALLBACK_TRANSPORT_NETWORK"


def inside() -> bool:
    """Whether this process runs in such a network."""
    return MARK in os.environ


def origin_address() -> str:
    """Where a browser behind a proxy is told that the server is."""
    return ORIGIN if inside() else LOOPBACK


def open_address() -> str:
    """Where everybody reaches what listens there."""
    return OPEN if inside() else LOOPBACK


def server_address() -> str:
    """Where a server is to listen."""
    return "0.0.0.0" if inside() else LOOPBACK
