"""What goes wrong, and when: every fault of the proxy, in an order that follows from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.proxies.faults import (
    FAULTS,
    AcceptClose,
    AcceptSilent,
    Blackhole,
    Buffer,
    Cut,
    CutIdle,
    Delay,
    DropDown,
    DropUp,
    Duplicate,
    Fault,
    Gateway,
    HalfClose,
    Hang,
    How,
    Latency,
    LoginPage,
    LostReply,
    Pause,
    Refuse,
    Reset,
    Strip,
    Throttle,
    Truncate,
)
from tests.proxies.rules import Rule

#: How much goes wrong at a time on one path: seconds, far below `inactivity`.
FAULTY = (3.0, 7.0)
#: And for how long nothing does, in between.
SOUND = (2.0, 6.0)
#: One sound time in so many is as long as a backoff may have become.
LONG_EVERY = 8
LONG = (15.0, 25.0)


@dataclass(frozen=True)
class Trouble:
    """A kind of trouble.

    Args:
        title: for the diary.
        rules: in force while it lasts.
        cuts: whether live connections are ended when it begins; a fault of the handshake, or of
            polling, would otherwise not be met.
    """

    title: str
    rules: tuple[Rule, ...] = ()
    cuts: bool = False


def _of_websocket(*faults: Fault) -> list[Trouble]:
    return [
        Trouble(f"{fault.name} (WebSocket)", (Rule(fault, on="ws"),), cuts=True) for fault in faults
    ]


def _of_polling(*faults: Fault | Rule) -> list[Trouble]:
    made = []
    for fault in faults:
        rule = fault if isinstance(fault, Rule) else Rule(fault)
        # Not the page itself, which has no retries.
        rule = replace(rule, on="http", path="/poll$")
        made.append(Trouble(f"{rule.fault.name} (polling)", (rule,)))
    return made


TROUBLES: tuple[Trouble, ...] = (
    *_of_websocket(
        *(Refuse(403), Refuse(502), Blackhole(), Reset(), Reset(0.3), Strip()),
        *(AcceptSilent(), AcceptSilent(by="proxy"), AcceptSilent(after=1.5)),
        *(AcceptSilent(after=1.0, relay_end=True), DropUp(), DropUp(after=1.0)),
        *(DropDown(), DropDown(after=1.0), AcceptClose(), AcceptClose(after=0.3, how="rst")),
        *(HalfClose(after=1.0), HalfClose(after=1.0, toward="upstream")),
        *(Cut(after=1.0), Cut(after=2.0, how="fin"), Cut(after_bytes=20_000), Delay(down=1.5)),
        CutIdle(after=0.5),
        *(Throttle(30_000.0, "down"), Throttle(30_000.0, "up")),
    ),
    *_of_polling(
        *(Refuse(503), Rule(Blackhole(), every=4), Reset(), Reset(0.5)),
        *(Cut(after=1.0), Rule(Cut(after_bytes=3_000), every=3), Rule(Delay(up=0.7), every=2)),
        *(Delay(down=0.5), Throttle(50_000.0, "up"), Throttle(50_000.0, "down")),
        *(Gateway(504, after=1.0), Gateway(502), Rule(Gateway(429, retry_after=1), every=3)),
        *(Rule(LostReply(how), every=3) for how in ("rst", "fin", "hang")),
        *(Rule(Truncate(0.5, visible), every=3) for visible in (True, False)),
        *(LoginPage(), Rule(LoginPage(), every=3), Duplicate(), Duplicate(answer="second")),
        *(Duplicate("sequential"), Duplicate("sequential", gap=0.2), Buffer()),
    ),
    Trouble("latency", (Rule(Latency(0.3)),)),
    Trouble("hang", (Rule(Hang()),), cuts=True),
    Trouble("offline", (Rule(Pause("refuse")),), cuts=True),
    Trouble("not accepted", (Rule(Pause("queue")),), cuts=True),
    Trouble("cut now", cuts=True),
)

#: What sends everybody to polling while polling is what suffers.
_NO_WEBSOCKET = Rule(Refuse(403), on="ws")


def kinds() -> set[str]:
    """The names of the faults that the schedule has; all that there are."""
    return {rule.fault.name for trouble in TROUBLES for rule in trouble.rules} & set(FAULTS)


@dataclass(frozen=True)
class Step:
    """A moment of the schedule.

    Args:
        at: seconds since the beginning.
        path: the number of the path, of several.
        title: for the diary.
        rules: in force from now on; None: as before.
        kill: how all live connections are ended now; None: they are not.
    """

    at: float
    path: int
    title: str
    rules: tuple[Rule, ...] | None
    kill: How | None


def schedule(seed: str, seconds: float, paths: int) -> list[Step]:
    """The whole schedule, in order of time; at its end every path is sound.

    All paths draw from one pack, which is used up before any trouble comes again.
    """
    dice = random.Random(f"schedule {seed}")
    pack = _pack(dice)
    clocks = [dice.uniform(1.0, 1.0 + FAULTY[1]) for _ in range(paths)]
    steps = []
    while min(clocks) < seconds:
        path = clocks.index(min(clocks))
        begins = clocks[path]
        ends = min(begins + dice.uniform(*FAULTY), seconds)
        steps += _phase(dice, next(pack), path, begins, ends)
        sound = LONG if dice.randrange(LONG_EVERY) == 0 else SOUND
        clocks[path] = ends + dice.uniform(*sound)
    return sorted((step for step in steps if step.at <= seconds), key=lambda step: step.at)


def _pack(dice: random.Random) -> Iterator[Trouble]:
    while True:
        yield from dice.sample(TROUBLES, len(TROUBLES))


def _phase(
    dice: random.Random, trouble: Trouble, path: int, begins: float, ends: float
) -> Iterator[Step]:
    rules, cuts = trouble.rules, trouble.cuts
    if "polling" in trouble.title and dice.random() < 0.7:
        rules, cuts = (*rules, _NO_WEBSOCKET), True

    def how() -> How:
        return "rst" if dice.random() < 0.5 else "fin"

    yield Step(begins, path, trouble.title, rules, how() if cuts else None)
    # In the middle, too, on half of the occasions.
    if dice.random() < 0.5:
        yield Step(dice.uniform(begins, ends), path, "kill", None, how())
    yield Step(ends, path, "sound", (), None)
    # And one kill in four comes out of a clear sky.
    if dice.random() < 0.25:
        yield Step(ends + dice.uniform(0.5, SOUND[0]), path, "kill", None, how())
