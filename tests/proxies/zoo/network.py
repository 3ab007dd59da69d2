"""A network in which nobody gets past the proxies.

``python -m tests.proxies.zoo.network COMMAND…`` runs COMMAND in a network namespace of its own,
which has no way out, and these two addresses, both of them this machine:

* ``ORIGIN`` is the server, as a browser behind a proxy is told of it. Only the proxies may
  open connections to it; everybody else gets a reset.
* ``OPEN`` is where the page is opened without a proxy, or at one before the server.

They are no loopback addresses: several browsers never ask a proxy for those, whatever they were
told. And some WebSockets ask none for anything: here they end in the reset. A server for this
network listens on 0.0.0.0; the tests themselves reach it by 127.0.0.1.

It takes root (a namespace of an unprivileged user has only one user in it), ``ip`` and ``nft``.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.needs import MissingError, find

from .addresses import MARK, OPEN, ORIGIN, inside

#: What the proxies run as, and nobody else does; `program.NOBODY`.
_GROUP = 65534

# With lo alone, browsers say that they are offline: the pair of devices, and a route that leads
# to it, are what they look for.
_COMMANDS = (
    "ip link set lo up",
    "ip link add here type veth peer name nowhere",
    f"ip address add {ORIGIN}/24 dev here",
    f"ip address add {OPEN}/24 dev here",
    "ip link set here up",
    "ip link set nowhere up",
    "ip route add default dev here",
)
# The server's answers go the same way: only what opens a connection is looked at.
_RULES = f"""
table inet proxies {{
    chain output {{
        type filter hook output priority 0; policy accept;
        tcp flags & (syn | ack) != syn accept
        ip daddr {ORIGIN} meta skgid != {_GROUP} reject with tcp reset
    }}
}}
"""


def enter() -> None:
    """Set up the namespace that this process is in."""
    for command in _COMMANDS:
        subprocess.run(command.split(), check=True)
    subprocess.run(["nft", "-f", "-"], input=_RULES, text=True, check=True)
    os.environ[MARK] = "1"


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--inside"]:
        enter()
        os.execvp(arguments[1], arguments[1:])
    if not arguments:
        sys.exit(__doc__)
    if inside():
        sys.exit("this is such a network already")
    try:
        find("network")
    except MissingError as error:
        sys.exit(str(error))
    again = [sys.executable, "-m", __spec__.name, "--inside"]
    os.execvp("unshare", ["unshare", "--net", *again, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
