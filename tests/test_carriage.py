"""`Carriage`: seconds by transport, switches, and the line at the end."""

from __future__ import annotations

import logging

import pytest

from fallback_transport.carriage import Carriage
from fallback_transport.protocol.envelope import Grant
from fallback_transport.protocol.events import SessionClosed, Transport
from fallback_transport.protocol.reliability import Bounds
from fallback_transport.protocol.server import ServerMachine

WEBSOCKET, POLLING = Transport.WEBSOCKET, Transport.POLLING


@pytest.mark.parametrize(("code", "level"), [(1000, "INFO"), (4400, "WARNING")])
def test_the_line_adds_up(code: int, level: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    carriage = Carriage(100.0)
    before, switches = [], []
    for now, to in [(101.0, WEBSOCKET), (103.0, POLLING), (104.0, POLLING), (107.0, WEBSOCKET)]:
        before.append(carriage.switched(to))
        switches.append(carriage.switches)
        carriage.account(to, now)
    # For half a second nothing carries it.
    carriage.account(None, 108.0)
    carriage.account(WEBSOCKET, 108.5)
    assert before == [None, WEBSOCKET, POLLING, POLLING]
    assert switches == [0, 1, 1, 2]
    assert carriage.connections == 4
    machine = ServerMachine(key="key", grant=Grant(), bounds=Bounds(), now=100.0)
    carriage.log_end("id", SessionClosed(code, "bye\n", ()), machine, 110.0)
    [record] = caplog.records
    assert (record.name, record.levelname) == ("fallback_transport.session.end", level)
    assert record.getMessage().startswith(
        f"session id ended after 10.0 s: {code} 'bye\\n'; websocket 4.5 s, polling 4.0 s, "
        "4 connections, 2 switches; 0 messages up"
    )
