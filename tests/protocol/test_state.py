"""The one table of transitions: every state, every input."""

from __future__ import annotations

import itertools

import pytest

from fallback_transport.protocol import state
from fallback_transport.protocol.errors import LocalProtocolError
from fallback_transport.protocol.state import TRANSITIONS, Input, State, transition

# The whole table once more, as one line for each state; "-" is an error.
#            attach    detach    close    finish
TABLE = """
opening      attached  opening   closing  closed
attached     attached  detached  closing  closed
detached     attached  detached  closing  closed
closing      closing   closing   closing  closed
closed       -         -         -        -
"""
ROWS = [line.split() for line in TABLE.split("\n") if line]
EXPECTED = {
    (State(name), happened): after
    for name, *cells in ROWS
    for happened, after in zip(Input, cells, strict=True)
}


@pytest.mark.parametrize(("before", "happened"), [*itertools.product(State, Input)])
def test_every_input_in_every_state(before: State, happened: Input) -> None:
    after = EXPECTED[before, happened]
    if after == "-":
        with pytest.raises(
            LocalProtocolError, match=f"^{happened.value} on a {before.value} session$"
        ):
            transition(before, happened)
    else:
        assert transition(before, happened) is State(after)


def test_the_table_knows_every_state_and_no_more() -> None:
    assert set(TRANSITIONS) == set(State)
    assert all(set(row) in (set(Input), set()) for row in TRANSITIONS.values())


@pytest.mark.parametrize("before", State)
def test_only_a_session_that_does_not_end_takes_messages(before: State) -> None:
    ending = before in (State.CLOSING, State.CLOSED)
    assert before.accepts_messages is not ending


def test_nothing_leads_back_from_the_end() -> None:
    reachable, found = {State.CLOSING}, {State.CLOSING}
    while found:
        found = {after for one in found for after in TRANSITIONS[one].values()} - reachable
        reachable |= found
    assert reachable == {State.CLOSING, State.CLOSED}


def test_the_drawing_has_every_state() -> None:
    assert all(one.name in (state.__doc__ or "") for one in State)
