"""In the network of the zoo, only the proxies reach the server."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.integration.served import ROOT

from . import addresses

pytestmark = pytest.mark.requires("network", "squid", "nginx")

#: What can be reached from inside, by whom; one JSON line.
LOOK = """
import json, os, socket, subprocess, sys
from tests.integration.served import Served
from tests.proxies.zoo import ZOO, addresses
from tests.proxies.zoo.route import NoWebSocket, request, websocket
from dataclasses import replace

def look(hop):
    try:
        status = request(hop, "/page").status
    except OSError as error:
        status = type(error).__name__
    try:
        websocket(hop, "/fallback/ws").close()
        return [status, "works"]
    except NoWebSocket as error:
        return [status, str(error)]

found = {}
with Served(host=addresses.server_address(), module="tests.browser.application") as served:
    for name in ("direct", "nginx-upgrade", "squid-open", "squid-default"):
        with ZOO[name].start(served.port) as hop:
            found[name] = [hop.url.split(":")[1], *look(hop)]
            if hop.proxy:
                found["past " + name] = look(replace(hop, proxy=None))
links = subprocess.run(["ip", "-json", "link"], capture_output=True, check=True).stdout
found["links"] = sorted(link["ifname"] for link in json.loads(links))
print(json.dumps(found))
"""


def inside(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.proxies.zoo.network", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_nobody_gets_past_the_proxies() -> None:
    done = inside(sys.executable, "-W", "ignore", "-c", LOOK)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "direct": [f"//{addresses.OPEN}", 200, "works"],
        "nginx-upgrade": [f"//{addresses.OPEN}", 200, "works"],
        "squid-open": [f"//{addresses.ORIGIN}", 200, "works"],
        "past squid-open": ["ConnectionRefusedError", "reset"],
        "squid-default": [f"//{addresses.ORIGIN}", 200, "CONNECT 403"],
        "past squid-default": ["ConnectionRefusedError", "reset"],
        "links": ["here", "lo", "nowhere"],
    }


def test_the_command_ends_it() -> None:
    assert inside("sh", "-c", "exit 7").returncode == 7


def test_not_within_itself() -> None:
    done = inside(sys.executable, "-m", "tests.proxies.zoo.network", "true")
    assert done.returncode == 1
    assert "already" in done.stderr
