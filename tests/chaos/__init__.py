"""Real processes under faults: `make chaos`, and the short form that `tests/integration/test_chaos.py` runs."""
