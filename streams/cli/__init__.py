"""The command line, `parcours`: one module per command."""

from streams.cli.root import main

__all__ = ["main"]
