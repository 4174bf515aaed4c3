"""The command line: everything that a person asks of Kaon, over the same API as everybody else."""

from kaon.cli.root import app, main

__all__ = ["app", "main"]
