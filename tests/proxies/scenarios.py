"""Well-known ways to break a network, by name: for tests, and for the switches of the demo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .faults import (
    AcceptClose,
    AcceptSilent,
    Blackhole,
    Cut,
    Delay,
    DropDown,
    DropUp,
    Duplicate,
    Gateway,
    Hang,
    Latency,
    LoginPage,
    LostReply,
    Pause,
    Refuse,
    Reset,
    Strip,
)
from .rules import Rule


@dataclass(frozen=True)
class Scenario:
    """A named state of the network.

    Args:
        title: what a switch would be labelled.
        rules: in force while it lasts.
        cuts: whether entering it ends the live connections. A fault of the
            handshake would otherwise not show while a WebSocket is open.
    """

    title: str
    rules: tuple[Rule, ...] = ()
    cuts: bool = False


def _websocket(title: str, rule: Rule) -> Scenario:
    return Scenario(title, (replace(rule, on="ws"),), cuts=True)


def _http(title: str, rule: Rule) -> Scenario:
    return Scenario(title, (replace(rule, on="http"),))


SCENARIOS: Mapping[str, Scenario] = {
    "clear": Scenario("nothing is wrong"),
    "refuse_upgrade": _websocket("refuse the upgrade", Rule(Refuse(403))),
    "strip_upgrade": _websocket("strip the upgrade headers", Rule(Strip())),
    "swallow_upgrade": _websocket("swallow the upgrade", Rule(Blackhole())),
    "reset_upgrade": _websocket("reset the upgrade", Rule(Reset())),
    "slow_upgrade": _websocket("answer the upgrade 1.5 s late", Rule(Delay(down=1.5))),
    "accept_silent": _websocket("accept and stay silent", Rule(AcceptSilent())),
    "accept_close": _websocket("accept and close", Rule(AcceptClose())),
    "drop_up": _websocket("drop what the client sends", Rule(DropUp())),
    "drop_down": _websocket("drop what the server sends", Rule(DropDown())),
    "half_open": _websocket("go silent after 5 s", Rule(AcceptSilent(after=5.0))),
    "cut_websockets": _websocket("cut each WebSocket after 5 s", Rule(Cut(after=5.0))),
    "cut_now": Scenario("cut every connection now", cuts=True),
    "drop_responses": _http("drop one response in five", Rule(LostReply(), every=5)),
    "duplicate_posts": _http("send every POST twice", Rule(Duplicate(), method="POST")),
    "gateway_timeout": _http("a gateway that waits 5 s", Rule(Gateway(504, after=5.0))),
    "too_many_requests": _http(
        "one request in five is too many", Rule(Gateway(429, retry_after=1), every=5)
    ),
    "login_page": _http("a login page", Rule(LoginPage())),
    "latency": Scenario("add 300 ms each way", (Rule(Latency(0.3)),)),
    "hang": Scenario("accept, and do nothing", (Rule(Hang()),), cuts=True),
    "offline": Scenario("refuse every connection", (Rule(Pause("refuse")),), cuts=True),
}


def scenario_rules(*names: str, path: str | None = None) -> list[Rule]:
    """Return the rules of all these scenarios together.

    Args:
        names: keys of ``SCENARIOS``.
        path: a regular expression; requests elsewhere are spared. Latency,
            hang and offline concern connections, and spare nothing.
    """
    rules = [rule for name in names for rule in SCENARIOS[name].rules]
    return [
        rule if path is None or "connection" in rule.fault.acts_on else replace(rule, path=path)
        for rule in rules
    ]
