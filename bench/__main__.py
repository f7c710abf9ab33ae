"""`python -m bench` runs the throughput benchmark."""

from bench import command
from bench.throughput import main

command(main)
