"""OpenAPI 3.1 from a compiled service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kaon.sdk.service import Service


def document(service: Service) -> dict[str, Any]:
    """The deployment's OpenAPI document."""
    return {"openapi": "3.1.0", "info": {"title": service.name, "version": "1"}, "paths": {}}
