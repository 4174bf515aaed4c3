"""Names of resources within a process: tuples, which are keys of dictionaries."""

from __future__ import annotations

DeploymentKey = tuple[str, str]
"""Workspace and name of a deployment."""

RevisionKey = tuple[str, str, int]
"""Workspace, name of the deployment, and number of the revision."""

ResourceKey = tuple[str, str, str]
"""Kind, workspace and name of a resource."""


def deployment_key(text: str) -> DeploymentKey:
    """The key that reports and plans write as `WORKSPACE/NAME`."""
    workspace, _, name = text.partition("/")
    return workspace, name
