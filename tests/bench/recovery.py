"""What becomes of messages when the connection under them is cut."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path

from tests.needs import node

from .generator import GeneratorError, Outcome
from .relay import Relay
from .subject import Running

PROGRAM = Path(__file__).with_suffix(".mjs")
#: The protocols whose libraries connect again by themselves: that of SockJS does not.
PROTOCOLS = ("fallback", "socketio")
#: Seconds before, between and after the cuts: Socket.IO's client waits up to 1.5 s the first time.
BETWEEN = 4.0
#: Seconds for the rest: to start, and to see that nothing more comes.
PATIENCE = 40.0


def recover(running: Running, transport: str, cuts: int, between: float = BETWEEN) -> Outcome:
    """Cut a client's connection; an outcome whose `max` is the longest gap."""
    seconds = between * (cuts + 1)
    protocol = running.subject.protocol
    with Relay(running.port) as relay:
        ports = str(relay.port), str(running.port)
        process = subprocess.Popen(
            [node(), str(PROGRAM), protocol, transport, *ports, str(seconds)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None, "a pipe"
        watchdog = threading.Timer(seconds + PATIENCE, process.kill)
        watchdog.start()
        try:
            if process.stdout.readline() == "ready\n":
                for _ in range(cuts):
                    time.sleep(between)
                    relay.cut()
            out, complaints = process.communicate()
        finally:
            watchdog.cancel()
    try:
        found = json.loads(out)
    except ValueError:
        raise GeneratorError(f"{running.subject.name}: {complaints or 'no end'}") from None
    zeros = dict.fromkeys(Outcome.__dataclass_fields__, 0)
    told = {
        "mode": "recovery",
        "protocol": protocol,
        "transport": transport,
        "clients": 1,
        "ready": 1,
        "seconds": seconds,
        "messages": found["messages"],
        "missing": found["sent"] - found["messages"],
        "mismatched": found["twice"],
        "max": found["gap"],
        "samples": found["messages"],
    }
    return Outcome(**(zeros | told))  # type: ignore[arg-type]
