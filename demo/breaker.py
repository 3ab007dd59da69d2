"""The demo's broken network: a fault proxy before the server, and the page's switches.

Who opens the demo's address talks to the proxy of `tests/proxies`, the one that
the tests use, in a process of its own; the Flask server listens behind it. The
switches change the proxy's rules, for everybody. The page and the switches
themselves are spared: only what carries sessions is broken.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from flask import Flask, abort, request

from tests.proxies.fault_process import FaultProxy
from tests.proxies.faults import Latency
from tests.proxies.rules import Rule
from tests.proxies.scenarios import scenario_rules

#: What carries sessions, ours and those of stock Socket.IO clients, and what the doctor examines.
BROKEN = r"^/(fallback/(doctor/)?(ws|poll)|socket\.io/)"
LATENCY = 0.2
#: The answer to a switch is to arrive before the connections are cut.
ANSWER_TIME = 0.15


@dataclass(frozen=True)
class Network:
    """A way in which WebSocket works here, or does not.

    Args:
        title: the switch's label, behind the word "WebSocket".
        scenarios: keys of ``tests.proxies.scenarios.SCENARIOS``.
    """

    title: str
    scenarios: tuple[str, ...] = ()


NETWORKS = {
    "clear": Network("works"),
    "refused": Network("is refused", ("refuse_upgrade",)),
    "swallowed": Network("gets no answer", ("swallow_upgrade",)),
    "silent": Network("is accepted, then silent", ("accept_silent",)),
    "closed": Network("is accepted, then closed", ("accept_close",)),
    "lossy": Network(
        "is refused, and one response in five is lost", ("refuse_upgrade", "drop_responses")
    ),
}

State = dict[str, str | bool | int]


class Breaker:
    """A context manager: the proxy in front of the server, and the switches in `app`.

    Args:
        app: gets the route ``/network``.
        host: the address where the public connects.
        port: its port; 0 for a free one, see `port`.
        upstream: the loopback port that the server listens on.
        announce: called with the state after every change.

    Raises:
        FaultProxyError: on entering: the proxy did not start; on stderr it has said why.
    """

    def __init__(
        self,
        app: Flask,
        host: str,
        port: int,
        upstream: int,
        announce: Callable[[State], None],
    ) -> None:
        elsewhere = {} if host == "127.0.0.1" else {"host": host}
        self._proxy = FaultProxy(upstream, listen=port, **elsewhere)
        self._announce = announce
        self._websocket = "clear"
        self._latency = False
        self._cuts = 0
        app.add_url_rule("/network", "network", self._state)
        app.add_url_rule("/network", "switch", self._switch, methods=["POST"])
        app.jinja_env.globals["networks"] = NETWORKS

    def __enter__(self) -> Breaker:
        """Start the proxy."""
        self._proxy.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._proxy.stop()

    @property
    def port(self) -> int:
        """The public port."""
        return self._proxy.port

    def _state(self) -> State:
        return {"websocket": self._websocket, "latency": self._latency, "cuts": self._cuts}

    def _switch(self) -> State:
        # Only a page of this origin can send JSON unasked.
        wanted = request.get_json()
        if wanted == {"cut": True}:
            self._soon(self._cut)
            return self._state()
        websocket, latency = wanted.get("websocket"), wanted.get("latency")
        if websocket not in NETWORKS or not isinstance(latency, bool):
            abort(400)
        rules = scenario_rules(*NETWORKS[websocket].scenarios, path=BROKEN)
        if latency:
            rules.append(Rule(Latency(LATENCY)))
        self._proxy.rules(*rules)
        entered = websocket != self._websocket
        self._websocket, self._latency = websocket, latency
        self._announce(self._state())
        if entered:
            # What is open belongs to the network before.
            self._soon(self._proxy.kill)
        return self._state()

    def _soon(self, action: Callable[[], object]) -> None:
        timer = threading.Timer(ANSWER_TIME + (2 * LATENCY if self._latency else 0), action)
        timer.daemon = True
        timer.start()

    def _cut(self) -> None:
        self._proxy.kill()
        self._cuts += 1
        # Sent over sessions whose connections are gone: whoever gets it has a new one.
        self._announce(self._state())
