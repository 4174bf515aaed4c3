"""Owners of the folders that agents keep."""

from __future__ import annotations

from pydantic import Field

from kaon.types.model import Model


class FolderOwners(Model):
    """Everything that may have a folder on some machine."""

    uids: tuple[str, ...] = Field(description="Of deployments and jobs that exist.")
