"""What is not proven yet, by the address it comes from: one address must not keep others out.

A hello costs its sender nothing, and a WebSocket without one even less. Both
are counted here while they wait, in all and for each address. What is proven
counts no more: thousands of sessions may come from one address, a company's.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: An address with the port that some proxies add to it, as Azure's gateway and IIS do.
_WITH_PORT = re.compile(r"\[(.+)\](?::[0-9]+)?|([^:]+):[0-9]+")


def client_address(environ: dict[str, Any], trusted_proxies: int) -> str:
    """The address that a request counts for.

    Args:
        trusted_proxies: how many proxies in front append to `X-Forwarded-For`; what is
            left of theirs was written by the client, and says nothing.
    """
    remote: str = environ.get("REMOTE_ADDR", "")
    if trusted_proxies:
        stated = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
        # With fewer entries than proxies it has come past one of them.
        if len(stated) >= trusted_proxies:
            remote = _block(stated[-trusted_proxies].strip()) or remote
    # What a server tells of IPv4 is in its one form already.
    return (_block(remote) or remote) if ":" in remote else remote


def _block(text: str) -> str | None:
    """The address, for IPv6 its /64, which is what one subscriber has; None if it is none."""
    if with_port := _WITH_PORT.fullmatch(text):
        text = with_port[1] or with_port[2]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Address(int(address) >> 64 << 64))
    return str(address)


class Unproven(Generic[T]):
    """What waits to be proven, oldest first. It remembers no address that nothing waits for.

    Args:
        total: how many may wait in all.
        per_address: and from one address.
    """

    def __init__(self, total: int, per_address: int) -> None:
        self._total = total
        self._per_address = per_address
        self._by_address: dict[str, dict[str, T]] = {}
        self._addresses: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def add(self, address: str, key: str, item: T) -> None:
        """Count `item`, under a key of its own, until it is removed."""
        self._addresses[key] = address
        self._by_address.setdefault(address, {})[key] = item

    def remove(self, key: str) -> None:
        """It is proven, or gone."""
        address = self._addresses.pop(key, None)
        if address is not None:
            waiting = self._by_address[address]
            del waiting[key]
            if not waiting:
                del self._by_address[address]

    def obstacle(self, address: str) -> T | None:
        """The oldest of those because of which there is no room for another; None if there is.

        Where `address` has too many, it is its own; where there are too many in
        all, of the address that has the most.
        """
        crowd = self._by_address.get(address, {})
        if not self.is_crowded(address):
            if len(self) < self._total:
                return None
            crowd = max(self._by_address.values(), key=len)
        return next(iter(crowd.values()))

    def is_crowded(self, address: str) -> bool:
        """Whether as many are of this address as may be."""
        return len(self._by_address.get(address, ())) >= self._per_address
