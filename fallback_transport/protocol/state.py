"""The states of a session and the one table of what changes them.

::

                 ┌───────────── attach ────────────┐
                 │                                 ▼
    OPENING ─────┴──────────►  ATTACHED ──detach──► DETACHED
       │                          │  ▲                 │ │
       │                          │  └───── attach ────┘ │
       └──────────── close ───────┴───────── close ──────┘
                                  ▼
                               CLOSING ──── finish ────► CLOSED

Two rules: everything that affects the state lives in this file, and this file
does not know which side it is played on. *Finish* leads to CLOSED from
anywhere: the inactivity time ran out, a bound was reached, the peer is gone.
"""

from __future__ import annotations

from enum import Enum

from .errors import LocalProtocolError


class State(Enum):
    """Where a session is in its life."""

    OPENING = "opening"
    """No connection has carried it yet."""
    ATTACHED = "attached"
    """A committed connection carries it."""
    DETACHED = "detached"
    """None carries it; it waits for a resume, until the inactivity time is over."""
    CLOSING = "closing"
    """A close is on its way, in either direction; nothing more can be sent."""
    CLOSED = "closed"
    """It is over."""

    def __init__(self, value: str) -> None:
        #: Whether the application may still send.
        self.accepts_messages = value not in ("closing", "closed")


#: For what is asked with each message: before Python 3.12 an enum looks its members up through a
#: property, at the price of a call.
CLOSING, CLOSED = State.CLOSING, State.CLOSED


class Input(Enum):
    """What can happen to a session."""

    ATTACH = "attach"
    DETACH = "detach"
    CLOSE = "close"
    FINISH = "finish"


TRANSITIONS: dict[State, dict[Input, State]] = {
    State.OPENING: {
        Input.ATTACH: State.ATTACHED,
        Input.DETACH: State.OPENING,
        Input.CLOSE: State.CLOSING,
        Input.FINISH: State.CLOSED,
    },
    State.ATTACHED: {
        Input.ATTACH: State.ATTACHED,
        Input.DETACH: State.DETACHED,
        Input.CLOSE: State.CLOSING,
        Input.FINISH: State.CLOSED,
    },
    State.DETACHED: {
        Input.ATTACH: State.ATTACHED,
        Input.DETACH: State.DETACHED,
        Input.CLOSE: State.CLOSING,
        Input.FINISH: State.CLOSED,
    },
    State.CLOSING: {
        Input.ATTACH: State.CLOSING,
        Input.DETACH: State.CLOSING,
        Input.CLOSE: State.CLOSING,
        Input.FINISH: State.CLOSED,
    },
    State.CLOSED: {},
}


def transition(state: State, happened: Input) -> State:
    """The state after `happened`.

    Raises:
        LocalProtocolError: nothing can happen to a closed session.
    """
    try:
        return TRANSITIONS[state][happened]
    except KeyError:
        raise LocalProtocolError(f"{happened.value} on a {state.value} session") from None
