"""The server is killed, or told to restart: each page hears of it, and has a new session soon.

Pages on either transport at once, without a proxy: what they meet is a closed
port, and then another process on it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.browser.tabs import Status, Tab, View
from tests.integration.served import Served

pytestmark = pytest.mark.requires("chromium")

TRANSPORTS = ("websocket", "polling")
#: Seconds that a busy machine may add.
SLACK = 2.0


def opened(tab: Callable[..., Tab], server: Served) -> list[View]:
    """A page on each transport."""
    views = [tab(server.url).connect({"transports": [each]}) for each in TRANSPORTS]
    for view in views:
        view.until(lambda now: now.state == "open", "open")
        assert view.ask("echo", "before") == "before"
    return views


def reset(view: View, within: float) -> Status:
    """Wait until a new session is open; the status then."""
    status = view.until(lambda now: now.count("open") == 2, "a new session", within)
    assert (status.state, status.count("reset"), status.count("close")) == ("open", 1, 0)
    return status


@pytest.mark.parametrize(("away", "within"), [(1.0, 3.0), (5.0, 9.0)])
def test_the_server_is_killed_and_another_takes_its_place(
    away: float, within: float, tab: Callable[..., Tab]
) -> None:
    """How soon the page hears of it depends on its own retries alone: after 1 s, 2 s, 4 s, …, each
    less a random half, which is the `within`; one answer is enough."""
    with Served("eventlet", module="tests.browser.application") as server:
        views = opened(tab, server)
        first = [view.status().id for view in views]
        for view in views:
            view.do("session => session.emit('sleep', 1e6)")
        time.sleep(0.3)
        server.end(signal.SIGKILL)
        down = time.monotonic()
        for view in views:
            view.do("session => session.emit('count', 7)")
        time.sleep(max(0.0, away - (time.monotonic() - down)))
        server.start()
        up = time.monotonic()
        for view, transport, id in zip(views, TRANSPORTS, first, strict=True):
            status = reset(view, within + SLACK)
            told = status.event("reset")
            assert told is not None
            took = status.started + told.at - time.time() + time.monotonic() - up
            print(f"{transport}: away for {away} s, told after {took:.1f} s: {told.reason}")
            assert (told.code, told.reason) == (4404, "the server was restarted")
            assert told.unconfirmed is not None
            assert [each["event"] for each in told.unconfirmed] == ["sleep", "count"]
            assert status.transport == transport
            assert status.id != id
            assert view.ask("echo", "after") == "after"


def test_the_server_is_told_to_restart(tab: Callable[..., Tab]) -> None:
    with Served("eventlet", module="tests.browser.application", drain=3) as server:
        views = opened(tab, server)
        for view in views:
            view.do(
                """session => {
                  session.replies = [];
                  session.emit("sleep", 1, (error, reply) => session.replies.push(error || reply));
                }"""
            )
        time.sleep(0.3)
        process = server._process
        assert process is not None
        os.kill(server.pid, signal.SIGTERM)
        assert process.wait(3 + 6 + SLACK) == 0
        for view in views:
            told = view.until(lambda now: now.event("reset"), "reset").event("reset")
            assert told is not None
            assert (told.code, told.reason) == (1012, "the server restarts")
            # What ran was finished, and its page has the reply.
            assert told.unconfirmed == []
            assert view.do("session => session.replies") == [1]
            view.do("session => session.emit('count', 1)")
        server.start()
        for view in views:
            # Within 5 s at random, and where the server was not there yet, some retries later.
            status = reset(view, 15.0)
            assert status.id is not None
            view.ask("echo", "after")
            assert server.seen(status.id) == [["connect", None], ["count", 1]]
