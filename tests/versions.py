"""Marks for tests of what kaon-runtime does only with newer versions of its requirements than the lowest."""

from __future__ import annotations

from importlib.metadata import version

import pytest


def newer(package: str, least: str, why: str) -> pytest.MarkDecorator:
    """Skips a test where `package` is older than `least`."""
    return pytest.mark.skipif(_parts(version(package)) < _parts(least), reason=f"{package} < {least}: {why}")


def _parts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])
