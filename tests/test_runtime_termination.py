"""What SIGTERM does in a process whose standard error is no file, or that handles it itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: A process that gets the signal, and whose drain is over or never is.
PROCESS = """
import os, signal, socket, sys, threading
from fallback_transport.runtime.termination import Termination

class Log:
    def write(self, text): ...
    def flush(self): ...

{error}
never = {never}
ended = threading.Event()

def drain():
    print("drained", flush=True)
    if never:
        threading.Event().wait()

def spawn(task):
    threading.Thread(target=task, daemon=True).start()

patience = 0.5 if never else 30
Termination(drain, lambda: patience, socket.socketpair, spawn, lambda seconds: None).then(ended.set)
os.kill(os.getpid(), signal.SIGTERM)
ended.wait(30)
"""


def said_by(program: str) -> subprocess.CompletedProcess[str]:
    """A process that has ended, and what it has said."""
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("never", [False, True], ids=["drain that ends", "drain that never does"])
@pytest.mark.parametrize(
    "error",
    ["sys.stderr = None", "sys.stderr.close()", "sys.stderr = Log()"],
    ids=["none", "closed", "an object"],
)
def test_a_standard_error_that_is_no_file_keeps_nobody_from_being_told(
    error: str, never: bool
) -> None:
    process = said_by(PROCESS.format(error=error, never=never))
    assert (process.stdout, process.returncode) == ("drained\n", int(never)), process.stderr


#: A process that has a handler of its own, and says what happens in which order.
OWN = """
import os, signal, socket, threading
from fallback_transport.runtime.termination import Termination

def own(number, frame):
    print("own", flush=True)
    voice.send(b"!")

def take():
    signal.signal(signal.SIGTERM, own)

def send():
    # In the main thread it returns when the handler has.
    os.kill(os.getpid(), signal.SIGTERM)

def drain():
    print("drained", flush=True)
    if {again}:
        send()
        ears.recv(1)

def spawn(task):
    tasks.append(threading.Thread(target=task, daemon=True))
    tasks[0].start()

def over():
    # In turns: a signal that comes just before a wait does not end it.
    while tasks[0].is_alive():
        tasks[0].join(0.1)

ears, voice = socket.socketpair()
tasks = []
termination = Termination(drain, lambda: 30, socket.socketpair, spawn, lambda seconds: None)
{steps}
"""


@pytest.mark.parametrize(
    ("steps", "again", "seen"),
    [
        ("take(); termination.then(os.abort); send()", False, "own"),
        ("termination.then(os.abort); take(); over(); send()", False, "own"),
        ("take(); termination.go_first(); send(); over(); send()", False, "drained own own"),
        ("take(); termination.go_first(); send(); over()", True, "drained own own"),
    ],
    ids=["run", "it comes later", "it comes next", "it comes amid"],
)
def test_a_handler_of_the_applications_own_stays(steps: str, again: bool, seen: str) -> None:
    process = said_by(OWN.format(again=again, steps=steps))
    assert (process.stdout.split(), process.returncode) == (seen.split(), 0), process.stderr
