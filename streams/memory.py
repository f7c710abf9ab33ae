"""How a worker's process takes memory and gives it back."""

from __future__ import annotations

import asyncio
import ctypes
import gc

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGE = 128 << 10
"""Bytes. glibc's own threshold at first; it raises it to 32 MB when such a piece is freed, unless it is told one."""
COLLECT_SECONDS = 60.0
"""A look takes about 0.1 s for 200 000 objects: too long to be taken often, and short enough for nobody to notice."""


async def collect_cycles() -> None:
    """Look for cycles by the clock, once all is imported, until cancelled; then as Python does by itself.

    By itself Python looks after so many allocations, and the caches hold hundreds of thousands of tuples that live on: on a backlog that took 7 % of the
    time, to find some dozens of objects a second.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        while True:
            await asyncio.sleep(COLLECT_SECONDS)
            gc.collect()
    finally:
        gc.unfreeze()
        gc.enable()


def tune_allocator() -> None:
    """Have glibc give back what was large: tables, fetches and pages of metrics, made anew all the time, left holes in an arena of each thread.

    Before the first thread starts, which fixes how many arenas there may be. After a demo's 75 days a worker had 334 MB with glibc's
    defaults and 265 MB so. Threads that share an arena would wait for each other, but these have the interpreter's lock. Another C
    library has no mallopt, or takes no notice.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for parameter, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, _LARGE)):
        mallopt(parameter, value)
