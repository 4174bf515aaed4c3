"""Writes the API's OpenAPI document: `python -m kaon.api [FILE]`, else to standard output.

It is committed as docs/reference/openapi.json; a test says when it is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

from kaon.api.app import ROUTES
from kaon.api.openapi import text

if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text(ROUTES), encoding="utf-8")
    else:
        sys.stdout.write(text(ROUTES))
