"""What SIGTERM does in a process whose standard error is no file."""

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
Termination(drain, patience, socket.socketpair, spawn, lambda seconds: None).then(ended.set)
os.kill(os.getpid(), signal.SIGTERM)
ended.wait(30)
"""


@pytest.mark.parametrize("never", [False, True], ids=["drain that ends", "drain that never does"])
@pytest.mark.parametrize(
    "error",
    ["sys.stderr = None", "sys.stderr.close()", "sys.stderr = Log()"],
    ids=["none", "closed", "an object"],
)
def test_a_standard_error_that_is_no_file_keeps_nobody_from_being_told(
    error: str, never: bool
) -> None:
    process = subprocess.run(
        [sys.executable, "-c", PROCESS.format(error=error, never=never)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (process.stdout, process.returncode) == ("drained\n", int(never)), process.stderr
