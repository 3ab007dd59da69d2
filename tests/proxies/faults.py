"""What can go wrong: one frozen data class per fault, and their JSON.

A fault says what happens; ``rules.py`` says to which requests. The JSON of a
fault is its name and its fields, flat: ``{"fault": "refuse", "status": 403}``.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeVar, Union

#: How a connection ends: a reset, or an orderly end of the stream.
How = Literal["rst", "fin"]

#: What a fault acts on: WebSocket upgrades, other HTTP requests, TCP connections.
Traffic = Literal["ws", "http", "connection"]

#: Who answers the upgrade: the upstream (relayed), or the proxy, which then never asks it.
By = Literal["upstream", "proxy"]


class RuleError(ValueError):
    """A rule that cannot be meant; the message says what would be right."""


@dataclass(frozen=True)
class Fault:
    """Base of all faults; times are in seconds, sizes in bytes."""

    name: ClassVar[str]
    acts_on: ClassVar[frozenset[Traffic]]

    def __post_init__(self) -> None:
        """Refuse numbers that no network has."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (int, float)) and value < 0:
                raise RuleError(f"{self.name}: {field.name} is negative")


_WS: frozenset[Traffic] = frozenset({"ws"})
_HTTP: frozenset[Traffic] = frozenset({"http"})
_BOTH = _WS | _HTTP
_CONNECTION: frozenset[Traffic] = frozenset({"connection"})


@dataclass(frozen=True)
class Refuse(Fault):
    """Answered with an error status by the proxy; the upstream is not asked."""

    name = "refuse"
    acts_on = _BOTH
    status: int = 403


@dataclass(frozen=True)
class Blackhole(Fault):
    """The request is read, and never answered."""

    name = "blackhole"
    acts_on = _BOTH


@dataclass(frozen=True)
class Reset(Fault):
    """The request is answered with a TCP reset, ``after`` seconds later."""

    name = "reset"
    acts_on = _BOTH
    after: float = 0.0


@dataclass(frozen=True)
class Cut(Fault):
    """The connection dies under the exchange, on both sides.

    After ``after`` seconds, or after ``after_bytes`` bytes of the answer's body
    (or of what comes down a WebSocket), whichever is first. An HTTP exchange
    that is over by then is left alone.
    """

    name = "cut"
    acts_on = _BOTH
    after: float | None = None
    after_bytes: int | None = None
    how: How = "rst"

    def __post_init__(self) -> None:
        """Refuse a cut that would never come."""
        super().__post_init__()
        if self.after is None and self.after_bytes is None:
            raise RuleError("cut: give after (seconds) or after_bytes")


@dataclass(frozen=True)
class Throttle(Fault):
    """At most ``rate`` bytes a second, in one direction or in each."""

    name = "throttle"
    acts_on = _BOTH
    rate: float = 10_000.0
    direction: Literal["up", "down", "both"] = "down"

    def __post_init__(self) -> None:
        """Refuse a rate at which nothing ever arrives: that is a black hole."""
        super().__post_init__()
        if self.rate <= 0:
            raise RuleError("throttle: rate must be above 0")


@dataclass(frozen=True)
class Delay(Fault):
    """One request is late, others overtake it: ``up`` on its way there, ``down`` on the way back.

    A delayed request arrives even if the client has left meanwhile, as a packet
    that is under way does.
    """

    name = "delay"
    acts_on = _BOTH
    up: float = 0.0
    down: float = 0.0


@dataclass(frozen=True)
class Strip(Fault):
    """Upgrade, Connection and Sec-WebSocket-* are removed: the upstream sees a plain GET."""

    name = "strip"
    acts_on = _WS


@dataclass(frozen=True)
class AcceptSilent(Fault):
    """A 101; ``after`` seconds later everything vanishes, both ways.

    The ends of connections vanish too, unless ``relay_end``: then each side
    learns when the other one leaves, and nothing else.
    """

    name = "accept_silent"
    acts_on = _WS
    by: By = "upstream"
    after: float = 0.0
    relay_end: bool = False


@dataclass(frozen=True)
class DropUp(Fault):
    """From ``after`` seconds after the 101, what the client sends vanishes; the rest passes."""

    name = "drop_up"
    acts_on = _WS
    after: float = 0.0
    relay_end: bool = False


@dataclass(frozen=True)
class DropDown(Fault):
    """From ``after`` seconds after the 101, what the server sends vanishes; the rest passes."""

    name = "drop_down"
    acts_on = _WS
    after: float = 0.0
    relay_end: bool = False


@dataclass(frozen=True)
class AcceptClose(Fault):
    """A 101, not a byte more, and the end ``after`` seconds later."""

    name = "accept_close"
    acts_on = _WS
    by: By = "upstream"
    after: float = 0.0
    how: How = "fin"


@dataclass(frozen=True)
class HalfClose(Fault):
    """``after`` seconds after the 101, one side is told that the other has finished sending.

    The other direction goes on.
    """

    name = "halfclose"
    acts_on = _WS
    after: float = 0.0
    toward: Literal["client", "upstream"] = "client"


@dataclass(frozen=True)
class CutIdle(Fault):
    """A WebSocket on which nothing has come from either side for ``after`` seconds ends."""

    name = "cut_idle"
    acts_on = _WS
    after: float = 60.0
    how: How = "fin"


@dataclass(frozen=True)
class Gateway(Fault):
    """A gateway that waits ``after`` seconds for the upstream's answer, then gives its own.

    With ``after`` 0 the upstream is not asked.
    """

    name = "gateway"
    acts_on = _HTTP
    status: int = 504
    after: float = 0.0
    retry_after: int | None = None


@dataclass(frozen=True)
class LostReply(Fault):
    """The upstream has answered, the client never learns it."""

    name = "lost_reply"
    acts_on = _HTTP
    how: Literal["rst", "fin", "hang"] = "rst"


@dataclass(frozen=True)
class Truncate(Fault):
    """Only ``fraction`` of the answer's body arrives.

    Visible: the Content-Length stays and the connection ends (by ``how``).
    Invisible: the Content-Length is that of what is left.
    """

    name = "truncate"
    acts_on = _HTTP
    fraction: float = 0.5
    visible: bool = True
    how: How = "fin"

    def __post_init__(self) -> None:
        """Refuse to truncate nothing."""
        super().__post_init__()
        if self.fraction >= 1:
            raise RuleError("truncate: fraction must be below 1")


@dataclass(frozen=True)
class LoginPage(Fault):
    """A captive portal: status 200 and an HTML form; the upstream is not asked."""

    name = "login_page"
    acts_on = _HTTP


@dataclass(frozen=True)
class Duplicate(Fault):
    """The request reaches the upstream twice, each time on a connection of its own.

    Concurrent: the copy follows ``gap`` seconds after the request. Sequential:
    ``gap`` seconds after the answer; with ``answer`` "first" that is after the
    client has got it. ``answer`` says which of the two answers it gets.
    """

    name = "duplicate"
    acts_on = _HTTP
    mode: Literal["concurrent", "sequential"] = "concurrent"
    answer: Literal["first", "second"] = "first"
    gap: float = 0.0


@dataclass(frozen=True)
class Buffer(Fault):
    """An answer is passed on when it is complete, and not before."""

    name = "buffer"
    acts_on = _HTTP


@dataclass(frozen=True)
class Latency(Fault):
    """Every byte, and every end, is ``seconds`` late in each direction; throughput stays.

    The round trip of the connect is paid by the first request: the kernel has
    accepted the connection before the proxy can delay that.
    """

    name = "latency"
    acts_on = _CONNECTION
    seconds: float = 0.1


@dataclass(frozen=True)
class Hang(Fault):
    """New connections are accepted, and nothing is ever read from them."""

    name = "hang"
    acts_on = _CONNECTION


@dataclass(frozen=True)
class Pause(Fault):
    """No new connections. "queue": they wait to be accepted; "refuse": connection refused."""

    name = "pause"
    acts_on = _CONNECTION
    how: Literal["queue", "refuse"] = "queue"


FAULTS: dict[str, type[Fault]] = {
    fault.name: fault
    for fault in (
        *(Refuse, Blackhole, Reset, Cut, Throttle, Delay),
        *(Strip, AcceptSilent, DropUp, DropDown, AcceptClose, HalfClose, CutIdle),
        *(Gateway, LostReply, Truncate, LoginPage, Duplicate, Buffer),
        *(Latency, Hang, Pause),
    )
}

_T = TypeVar("_T")


def build(kind: type[_T], values: Mapping[str, object], where: str) -> _T:
    """Make a data class from decoded JSON, or say what is wrong with it.

    Raises:
        RuleError: an unknown name, or a value of the wrong type.
    """
    hints = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if unknown := set(values) - set(names):
        known = ", ".join(names) or "none"
        raise RuleError(f"{where}: unknown {', '.join(sorted(unknown))}; there are: {known}")
    checked: dict[str, Any] = {
        name: _checked(value, hints[name], f"{where}: {name}") for name, value in values.items()
    }
    return kind(**checked)


def _checked(value: object, hint: Any, where: str) -> object:
    """Return the value, as a float where one is meant; refuse what the hint does not allow."""
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        (hint,) = (arm for arm in typing.get_args(hint) if arm is not type(None))
        origin = typing.get_origin(hint)
    if origin is Literal:
        allowed = typing.get_args(hint)
        if value not in allowed:
            raise RuleError(f"{where} is {value!r}, and must be one of {allowed}")
        return value
    if hint is float and type(value) is int:
        return float(value)
    # A bool is an int to isinstance; as a status or a count it is a mistake.
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise RuleError(f"{where} is {value!r}, and must be a {hint.__name__}")
    return value
