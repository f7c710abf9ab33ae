"""Test driver and deterministic simulation. `python -m streams.testing --help` runs seeded simulations."""

from streams.testing.driver import Driver, Unsettled
from streams.testing.worker import Worker

__all__ = ["Driver", "Unsettled", "Worker"]
