"""A workspace: a tenant; every resource belongs to one."""

from __future__ import annotations

from kaon.types.model import Model

DEFAULT_WORKSPACE = "default"


class WorkspaceSpec(Model):
    """A tenant."""

    description: str = ""


class WorkspaceStatus(Model):
    """Workspaces have no status."""
