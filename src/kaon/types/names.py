"""How things are named in one process: as tuples, which are keys of dictionaries."""

from __future__ import annotations

DeploymentKey = tuple[str, str]
"""Workspace and name of a deployment."""

RevisionKey = tuple[str, str, int]
"""Workspace, name of the deployment, and number of the revision."""

ResourceKey = tuple[str, str, str]
"""Kind, workspace and name of a resource."""
