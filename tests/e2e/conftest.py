"""Platforms for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .world import World, world


@pytest.fixture(scope="module")
def shared_platform(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[World]:
    """One platform for all tests of a file: to start one takes four seconds of processor time."""
    with world(tmp_path_factory.mktemp("platform") / "home", free_port()) as it:
        yield it


@pytest.fixture
def platform(shared_platform: World) -> World:
    """The file's platform, up and with nothing deployed."""
    shared_platform.up()
    shared_platform.clear()
    return shared_platform


@pytest.fixture
def probe(shared_platform: World) -> World:
    """The file's platform, on which three replicas of the probe serve and nothing else is deployed."""
    shared_platform.up()
    shared_platform.clear(keep="probe")
    shared_platform.serve("probe", "probe.py:Probe", replicas=3)
    return shared_platform
