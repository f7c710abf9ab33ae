"""`make chaos MINUTES=10 [BROKER=apache|embedded] [SEED=n]`: faults on real processes; ends with one line and an exit code."""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys


def main() -> int:
    """0 when everything came right."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long faults strike")
    parser.add_argument(
        "--seed", type=int, default=None, help="which faults, when, and which events; drawn when absent"
    )
    parser.add_argument("--broker", choices=("auto", "apache", "embedded"), default="auto")
    parser.add_argument("--rate", type=float, default=300.0, help="events a second")
    parser.add_argument("--keep", action="store_true", help="keep the logs of the workers")
    options = parser.parse_args()
    os.environ["PARCOURS_TEST_BROKER"] = options.broker
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # that the broker is gone is no news here
    from chaos.run import in_folder

    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    result = in_folder(seed, options.minutes, rate=options.rate, keep=options.keep)
    print(result.line())
    return 0 if result.good else 1


if __name__ == "__main__":
    sys.exit(main())
