"""The proxy zoo: real proxy programs between a page and a server, by name.

    entry = ZOO["squid-default"]
    with Served() as server, entry.start(server.port) as hop:
        …                                 # open hop.url, with hop.proxy set in the browser

* ``entry.py``: what an entry is, and what it gives.
* ``program.py``: starts one program, as nobody, on a free port, and ends it.
* ``reverse.py``, ``forward.py``, ``intercepting.py``, ``scripted.py``: the entries.
* ``configs/``, ``addons/``: what the programs are told.
* ``network.py``, ``addresses.py``: a network in which nobody gets past the proxies.
* ``route.py``: what a client does with a hop, by hand.
"""

from __future__ import annotations

from collections.abc import Mapping

from .entry import Entry, Hop, Kind
from .forward import FORWARD
from .intercepting import INTERCEPTING
from .reverse import DIRECT, REVERSE
from .scripted import SCRIPTED

__all__ = ["ZOO", "Entry", "Hop", "Kind"]

#: By name, in the order in which a reader is shown them.
ZOO: Mapping[str, Entry] = {
    entry.name: entry for entry in (DIRECT, *REVERSE, *FORWARD, *INTERCEPTING, *SCRIPTED)
}
