"""Platforms for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .world import World, world


@pytest.fixture
def platform(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[World]:
    """A platform of its own, with nothing deployed."""
    with world(tmp_path / "home", free_port()) as it:
        yield it


@pytest.fixture
def probe(platform: World) -> World:
    """A platform on which three replicas of the probe serve."""
    platform.kaon("deploy", "probe.py:Probe", "--replicas", "3")
    return platform
