"""A real Envoy for each test."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .world import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """An edge that runs, with nothing behind it yet."""
    with tempfile.TemporaryDirectory(prefix="kaon-edge-") as folder:
        w = World(Path(folder))
        w.supervise()
        try:
            await w.edge.apply((), {})
            yield w
        finally:
            await w.close()
