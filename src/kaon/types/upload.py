"""An upload on its way: bytes by their sha256 that are sent in any number of requests."""

from __future__ import annotations

from pydantic import Field

from kaon.types.model import Digest, Model


class UploadView(Model):
    """How far an upload is."""

    digest: Digest
    received_bytes: int = Field(default=0, description="Continue at this offset.")
    is_complete: bool = Field(default=False, description="All bytes have arrived, and have this digest.")
