"""A million records of poison through one worker: `python -m tests.poison --events 1000000 [--redis-delay 0.001]`.

Prints one line of JSON; exit code 1 unless every record has its one dead letter, the neighbours' attributions are those of
a replay, and the worker's memory stayed below the limit.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from integration.conftest import TOML, world
from integration.proxy import Proxy
from integration.stack import Stack
from poison import corpus, run

LIMIT_MEGABYTES = 300


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.poison", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--redis-delay", type=float, default=0.0, help="seconds added to each call")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1800.0, help="the longest that the worker may take")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="parcours-poison-") as folder:
        good = world(40, 300, 5, Path(folder))
        neighbours = [record for record in good.records if record.good]
        with Stack(Path(folder), TOML) as stack, Proxy(stack.redis_server.port, delay=args.redis_delay) as proxy:
            began = time.monotonic()
            every = max(1, args.events // len(neighbours))
            account = run.publish(stack, corpus.poison(args.seed, args.events), neighbours, every)
            published = time.monotonic()
            worker = stack.worker(PARCOURS_REDIS_URL=f"redis://{proxy.address}/0")
            stack.settle(args.seconds)
            settled = time.monotonic()
            peak = run.peak_megabytes(worker)
            run.collect(stack, account)
            same = stack.attributions() == good.expected
    said = {
        "poison": account.published.total(),
        "neighbours": account.good,
        "dead_letters": account.found.total(),
        "unaccounted": len(account.owed),
        "wrong": account.wrong[:5],
        "neighbours_equal_replay": same,
        "worker_peak_megabytes": round(peak, 1),
        "redis_delay_seconds": args.redis_delay,
        "redis_chunks": proxy.chunks["up"],
        "publish_seconds": round(published - began, 1),
        "worker_seconds": round(settled - published, 1),
        "by_code": dict(sorted(_by_code(account).items())),
    }
    print(json.dumps(said))
    return 0 if account.exact and same and peak < LIMIT_MEGABYTES else 1


def _by_code(account: run.Account) -> dict[str, int]:
    codes: dict[str, int] = {}
    for (_, code), n in account.found.items():
        codes[code] = codes.get(code, 0) + n
    return codes


if __name__ == "__main__":
    sys.exit(main())
