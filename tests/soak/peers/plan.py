"""The messages and the networks, the same for everybody."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.proxies.faults import (
    AcceptSilent,
    Blackhole,
    Duplicate,
    Gateway,
    How,
    LostReply,
    Pause,
    Refuse,
)
from tests.proxies.rules import Rule
from tests.soak.contents import LARGEST
from tests.soak.schedule import schedule

#: Seconds for which messages are sent, and for which a network is broken.
SECONDS = 20.0
MIXED_SECONDS = 60.0
#: Seconds for what is still to come; Socket.IO's clients notice a dead connection after 45 s.
DRAIN = 50.0
#: Seconds between two messages, each way, of one session.
PAUSE = 0.2


@dataclass(frozen=True)
class Step:
    """A change of the network: rules from now on (None: as before), and a kill."""

    at: float
    rules: tuple[Rule, ...] | None = None
    kill: How | None = None


@dataclass(frozen=True)
class Case:
    """One network.

    Args:
        title: as in the table.
        steps: what happens to it; those at 0 before anybody connects.
        seconds: for which messages are sent.
    """

    title: str
    steps: tuple[Step, ...] = ()
    seconds: float = SECONDS


def _always(title: str, *rules: Rule) -> Case:
    return Case(title, (Step(0.0, rules),))


_REFUSED = Rule(Refuse(403), on="ws")

CASES: tuple[Case, ...] = (
    Case("sound"),
    _always("WebSocket refused", _REFUSED),
    _always("WebSocket never answered", Rule(Blackhole(), on="ws")),
    _always("WebSocket accepted, then silent", Rule(AcceptSilent(), on="ws")),
    _always("WebSocket silent after 5 s", Rule(AcceptSilent(after=5.0), on="ws")),
    Case("all connections cut every 4 s", tuple(Step(at, kill="rst") for at in (4, 8, 12, 16))),
    _always("polling, one reply in five lost", _REFUSED, Rule(LostReply(), on="http", every=5)),
    _always("polling, each POST sent twice", _REFUSED, Rule(Duplicate(), method="POST")),
    _always("polling, 502 for one request in five", _REFUSED, Rule(Gateway(502), every=5)),
    Case("offline for 8 s", (Step(6.0, (Rule(Pause("refuse")),), "rst"), Step(14.0, ()))),
)


def mixed(seed: str) -> Case:
    """All troubles of the soak, in turn."""
    steps = [
        Step(
            step.at,
            # There they only strike our own polls.
            step.rules and tuple(replace(rule, path=None) for rule in step.rules),
            step.kill,
        )
        for step in schedule(seed, MIXED_SECONDS, 1)
    ]
    return Case("all troubles in turn, for 60 s", tuple(steps), MIXED_SECONDS)


def messages(seed: str) -> dict[str, Sequence[str]]:
    """The texts that everybody sends, up and down: sizes log-uniform, from 1 to 50,000."""
    dice = random.Random(f"messages {seed}")
    block = "".join(chr(32 + byte % 95) for byte in dice.randbytes(3 * LARGEST))
    number = round(MIXED_SECONDS / PAUSE) + 1

    def one() -> str:
        size = round(LARGEST ** dice.random())
        at = dice.randrange(len(block) - size)
        return block[at : at + size]

    return {way: [one() for _ in range(number)] for way in ("up", "down")}
