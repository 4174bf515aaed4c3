"""Kaon turns a Python class into a managed AI service."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kaon.errors import ItemError, KaonError
from kaon.sdk.endpoint import endpoint
from kaon.sdk.folder import data_dir
from kaon.types.media import Audio, File, Image
from kaon.sdk.service import on_start, on_stop, service
from kaon.types.service import Batch, Resources

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

__version__ = "0.1.0"

__all__ = [
    "Audio",
    "Batch",
    "File",
    "Image",
    "ItemError",
    "KaonError",
    "Resources",
    "WebSocket",
    "data_dir",
    "endpoint",
    "on_start",
    "on_stop",
    "service",
]

_LAZY = {"WebSocket": "starlette.websockets"}
"""Names whose modules are heavy: loaded when first asked for."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'kaon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
