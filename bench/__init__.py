"""Benchmarks: recorded results are in bench/RESULTS.md."""
