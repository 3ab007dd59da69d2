"""What the servers of all modes begin with; that they serve is for tests/integration."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from fallback_transport.runtime.servers import HEAP_BLOCK

#: Takes and gives back what a message of 1 MB takes, and counts the pages that had to be asked for.
_PROGRAM = """
import resource, sys
from fallback_transport.runtime.servers import keep_heap

def large():
    parts = ["x" * 64_000 for _ in range(16)]
    text = "".join(parts)
    del parts
    return text[1:]

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "kept":
    keep_heap()
for _ in range(5):
    large()
before = faults()
for _ in range(20):
    large()
print((faults() - before) / 20)
"""


def _faults(how: str) -> float:
    program = [sys.executable, "-W", "ignore", "-c", _PROGRAM, how]
    return float(subprocess.run(program, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other heaps have other ways")
def test_what_a_large_message_takes_is_there_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    # Of the 4 kB pages of one such block.
    assert _faults("kept") < HEAP_BLOCK / 4096 / 20
