"""The command line: a client of the platform's API. A module or folder for each verb; common parts in `shared`."""

from kaon.cli.root import app, main

__all__ = ["app", "main"]
