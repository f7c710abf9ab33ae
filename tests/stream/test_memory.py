"""Memory that was large and is not needed goes back to the system, although what is small and stands between stays; and cycles are looked for by the clock."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref

import pytest

from streams import memory

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


class Cycle:
    """Something that only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


async def test_cycles_are_collected_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "COLLECT_SECONDS", 0.0)
    task = asyncio.create_task(memory.collect_cycles())
    try:
        await asyncio.sleep(0)
        assert not gc.isenabled()
        freed = asyncio.Event()
        cycle = weakref.ref(Cycle(), lambda _: freed.set())
        assert cycle() is not None
        await asyncio.wait_for(freed.wait(), 30)
    finally:
        task.cancel()
        await asyncio.wait({task})
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
