from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from . import shop_world

SHOP = Path(__file__).resolve().parents[3] / "examples" / "shop"
SERVICES = ("catalog", "events", "trainer", "recommendation")


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import a module of the shop, as its replicas do, with a small world in the place of the real data."""
    monkeypatch.syspath_prepend(str(SHOP))
    history = importlib.import_module("shop.history")
    monkeypatch.setitem(sys.modules, "shop.journey", shop_world.journey(history.Purchases))
    package = sys.modules["shop"]
    monkeypatch.setattr(package, "journey", sys.modules["shop.journey"], raising=False)
    yield importlib.import_module
    for name in [n for n in sys.modules if n in SERVICES or n.split(".")[0] == "shop"]:
        del sys.modules[name]
