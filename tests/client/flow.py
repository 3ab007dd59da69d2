"""A flow of numbered messages both ways, while something is done to the session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from tests.integration.served import Served

from .session import ClientSession

#: Seconds for a whole flow, whatever is done to it.
FLOW_TIME = 60.0


def _came(client: ClientSession, number: int) -> bool:
    return len(client.named("produced")) >= number


def carry(
    server: Served,
    client: ClientSession,
    number: int,
    moments: Sequence[int] = (),
    act: Callable[[], None] = lambda: None,
) -> None:
    """Let `number` messages come down an open session, each answered by one that goes up.

    At the end each must have been handled once, in order, on either side.

    Args:
        moments: numbers of messages that have come, at which `act` is called.
    """
    client.handlers["produced"] = lambda data: client.emit("count", data[0])
    client.emit("produce", {"number": number, "pause": 0.0005, "size": 20})
    for moment in moments:
        client.wait_for(partial(_came, client, moment), FLOW_TIME)
        act()
    client.wait_for(partial(_came, client, number), FLOW_TIME)
    client.request("nothing", "the last", timeout=FLOW_TIME)
    assert [data[0] for data in client.named("produced")] == list(range(number))
    seen = server.seen(client.id)
    assert [each[1] for each in seen if each[0] == "count"] == list(range(number))
    assert [each[0] for each in seen if each[0] != "count"] == ["connect", "nothing"]
    assert client.breaches == []
