"""Kaon turns a Python class into a managed AI service."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kaon.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    ItemError,
    JobFailed,
    KaonError,
    NotFound,
    TooManyRequests,
    Unavailable,
)
from kaon.sdk.dataset import Dataset
from kaon.sdk.endpoint import endpoint
from kaon.sdk.folder import data_dir
from kaon.sdk.handle import local, plug, use
from kaon.sdk.job import job
from kaon.sdk.link import ServiceLink
from kaon.sdk.output import Output
from kaon.sdk.progress import progress
from kaon.sdk.request import Request
from kaon.sdk.response import Response
from kaon.sdk.service import on_start, on_stop, service
from kaon.sdk.submission import JobHandle, SubmissionPort, plug_platform, submit, submitted
from kaon.types.media import Audio, File, Image
from kaon.types.objective import Objective
from kaon.types.service import Batch, Resources
from kaon.version import __version__ as __version__

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

    from kaon.client.client import AsyncClient, Client


__all__ = [
    "AsyncClient",
    "Audio",
    "Batch",
    "Client",
    "Conflict",
    "Dataset",
    "File",
    "Forbidden",
    "Image",
    "InvalidInput",
    "ItemError",
    "JobFailed",
    "JobHandle",
    "KaonError",
    "NotFound",
    "Objective",
    "Output",
    "Request",
    "Resources",
    "Response",
    "TooManyRequests",
    "Unavailable",
    "WebSocket",
    "data_dir",
    "endpoint",
    "job",
    "local",
    "on_start",
    "on_stop",
    "progress",
    "service",
    "submit",
    "submitted",
    "use",
]

_LAZY = {
    "AsyncClient": "kaon.client.client",
    "Client": "kaon.client.client",
    "WebSocket": "starlette.websockets",
}
"""Names whose modules are heavy: loaded when first asked for."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'kaon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _deployment(name: str) -> ServiceLink:
    link: ServiceLink = importlib.import_module("kaon.client.link").NetworkLink(name)
    return link


def _platform() -> SubmissionPort:
    platform: SubmissionPort = importlib.import_module("kaon.client.jobs").JobPlatform.in_use()
    return platform


plug(_deployment)
plug_platform(_platform)
