"""Benchmarks: recorded results are in bench/RESULTS.md."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn


def command(main: Callable[[], int | None]) -> NoReturn:
    """Exit with what `main` returns, and quietly when the user has had enough."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)
