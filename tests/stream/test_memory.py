"""Memory that was large and is not needed goes back to the system, although what is small and stands between stays."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys
from pathlib import Path
from streams import memory
try:
    ctypes.CDLL(None).gnu_get_libc_version
except AttributeError:
    sys.exit("not glibc")
if sys.argv[1] == "tuned":
    memory.tune_allocator()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
# Freed once, a piece of this size makes glibc take the like of it from its heap from then on.
del (lambda: bytearray(16 << 20))()[:]
large = bytearray(16 << 20)
del large
before = resident()
pieces, between = [], []
for _ in range(100):
    pieces.append(bytearray(b"x") * (1 << 20))
    between.append(bytearray(b"x") * 2000)
pieces.clear()
print((resident() - before) >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc, and is about glibc")
def test_what_was_large_goes_back() -> None:
    held = {}
    for how in ("plain", "tuned"):
        done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=False)
        if done.stderr.strip() == "not glibc":
            pytest.skip("the C library is not glibc")
        assert done.returncode == 0, done.stderr
        held[how] = int(done.stdout)
    assert held["plain"] > 80
    assert held["tuned"] < 20
