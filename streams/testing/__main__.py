"""`python -m streams.testing --seeds 1:100`: seeded trials of the whole pipeline under faults."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence

from streams.embedded import RedisServer
from streams.testing import trial
from streams.testing.faults import FAULTS

# How many trials share a server: its append-only file is read again at each of its restarts.
SHARED = 10
STRIKES = 8


def seeds(text: str) -> list[int]:
    """`7`, `1:100` (ends included) or several of them with commas."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition(":")
        found += range(int(first), int(last or first) + 1)
    return found


def command(seed: int, faults: Sequence[str], strikes: int) -> str:
    """What to type to see this trial again."""
    only = "" if list(faults) == list(FAULTS) else f" --faults {','.join(faults)}"
    often = "" if strikes == STRIKES else f" --strikes {strikes}"
    return f"python -m streams.testing --seeds {seed}{only}{often} --verbose"


def main() -> int:
    """0 when every trial came right."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of what a seed repeats
        os.execve(
            sys.executable,
            [sys.executable, "-m", "streams.testing", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    parser = argparse.ArgumentParser(prog="python -m streams.testing", description=__doc__)
    parser.add_argument("--seeds", type=seeds, default=seeds("1:20"), help="7, 1:100 or 3,5,9:12 (default 1:20)")
    parser.add_argument(
        "--faults", default=",".join(FAULTS), help=f"which may strike (default: all): {', '.join(FAULTS)}"
    )
    parser.add_argument("--strikes", type=int, default=STRIKES, help=f"how many strike in a trial (default {STRIKES})")
    parser.add_argument("--keep-going", action="store_true", help="go on after a seed that failed")
    parser.add_argument("--verbose", action="store_true", help="say what strikes when; show warnings of the workers")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING if options.verbose else logging.CRITICAL, format="%(name)s: %(message)s")
    logging.getLogger("faust.agents.actor").setLevel(logging.CRITICAL)  # a killed worker is no news
    faults = options.faults.split(",")
    struck: Counter[str] = Counter()
    failed = 0
    started = time.monotonic()
    server: RedisServer | None = None
    try:
        for number, seed in enumerate(options.seeds):
            if number % SHARED == 0:
                if server is not None:
                    server.stop()
                server = RedisServer().start()
            assert server is not None
            one = trial.run(seed, server, faults, options.strikes)
            struck.update(name for name, undone in one.strikes if undone)
            if options.verbose:
                print(
                    f"seed {seed}: {one.records} records, {one.seconds:.1f} s simulated, logs {one.digest}; {one.strikes}"
                )
            if one.wrong:
                failed += 1
                print(
                    f"seed {seed} FAILED",
                    *one.wrong,
                    f"  again: {command(seed, faults, options.strikes)}",
                    sep="\n  ",
                    flush=True,
                )
                if not options.keep_going:
                    break
    finally:
        if server is not None:
            server.stop()
    ran = number + 1
    print(
        f"{ran} trials, {failed} failed, {time.monotonic() - started:.1f} s; struck in mid-work: {dict(sorted(struck.items()))}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
