"""`admission`: whose address counts, and who has to make room."""

from __future__ import annotations

from typing import Any

import pytest

from fallback_transport.admission import Unproven, client_address


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        (0, None, "192.0.2.1"),
        # Nobody is trusted: whoever writes it would choose whom he counts for.
        (0, "198.51.100.1", "192.0.2.1"),
        (1, "198.51.100.1", "198.51.100.1"),
        # The client's own word comes first, the proxy's last.
        (1, "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        (2, "203.0.113.9, 198.51.100.1,10.0.0.1", "198.51.100.1"),
        # Past a proxy.
        (2, "198.51.100.1", "192.0.2.1"),
        (1, None, "192.0.2.1"),
        (1, "unknown", "192.0.2.1"),
        (1, "1" * 10_000, "192.0.2.1"),
        (1, "198.51.100.1\n", "198.51.100.1"),
        # One subscriber has a /64, and the same address in both its forms is one.
        (1, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        (1, "2001:DB8:1:2::9", "2001:db8:1:2::"),
        (1, "::ffff:198.51.100.1", "198.51.100.1"),
        # Some proxies add the port.
        (1, "203.0.113.9, 198.51.100.1:50123", "198.51.100.1"),
        (1, "[2001:db8:1:2::9]:50123", "2001:db8:1:2::"),
        (1, "[2001:db8:1:2::9]", "2001:db8:1:2::"),
        (1, "unknown:50123", "192.0.2.1"),
        (1, "198.51.100.1:", "192.0.2.1"),
    ],
)
def test_the_address_that_counts(trusted: int, forwarded: str | None, address: str) -> None:
    environ = {"REMOTE_ADDR": "192.0.2.1"}
    if forwarded is not None:
        environ["HTTP_X_FORWARDED_FOR"] = forwarded
    assert client_address(environ, trusted) == address


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({"REMOTE_ADDR": "2001:db8::1"}, "2001:db8::"),
        ({"REMOTE_ADDR": "fe80::1%eth0"}, "fe80::"),
        ({"REMOTE_ADDR": "::ffff:192.0.2.1"}, "192.0.2.1"),
        # ProxyFix's, of a proxy that adds the port.
        ({"REMOTE_ADDR": "192.0.2.1:50123"}, "192.0.2.1"),
        ({"REMOTE_ADDR": "[2001:db8::1]:50123"}, "2001:db8::"),
        # A Unix socket.
        ({"REMOTE_ADDR": ""}, ""),
        ({}, ""),
        ({"REMOTE_ADDR": "unix:"}, "unix:"),
    ],
)
def test_the_servers_own_word(environ: dict[str, Any], address: str) -> None:
    assert client_address(environ, 0) == address


def filled(total: int, per_address: int, *addresses: str) -> Unproven[str]:
    waiting = Unproven[str](total, per_address)
    for number, address in enumerate(addresses):
        waiting.add(address, str(number), f"{address}{number}")
    return waiting


def test_there_is_room_up_to_both_limits() -> None:
    waiting = filled(4, 2, "a", "a", "b")
    assert waiting.obstacle("a") == "a0"
    assert waiting.obstacle("b") is None
    assert waiting.obstacle("c") is None


def test_one_address_is_in_its_own_way_alone() -> None:
    waiting = filled(10, 2, "b", "a", "b", "a")
    assert waiting.obstacle("a") == "a1"
    assert waiting.obstacle("b") == "b0"


def test_where_all_is_full_the_address_with_the_most_makes_room() -> None:
    waiting = filled(4, 3, "b", "a", "a", "a")
    assert waiting.obstacle("c") == "a1"
    assert waiting.obstacle("b") == "a1"
    waiting.remove("1")
    assert waiting.obstacle("c") is None


def test_nothing_is_remembered_of_who_is_gone() -> None:
    waiting = Unproven[int](5, 5)
    for number in range(10_000):
        waiting.add(f"10.0.{number >> 8}.{number & 255}", str(number), number)
        waiting.remove(str(number))
        # Proven first and over later: it was removed before.
        waiting.remove(str(number))
    assert len(waiting) == 0
    assert not waiting._addresses
    assert not waiting._by_address
