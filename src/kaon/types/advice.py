"""Advice: a possible improvement, by the figures, with its gain and the command for it."""

from __future__ import annotations

from pydantic import Field

from kaon.types.model import Model, OpenEnum


class Finding(OpenEnum, unknown="other"):
    """The subject of an advice."""

    ERRORS = "errors"
    MEMORY = "memory"
    UNDERSIZED = "undersized"
    LATENCY = "latency"
    SLOW = "slow"
    COLD_STARTS = "cold-starts"
    BATCH = "batch"
    KNOBS = "knobs"
    IDLE = "idle"
    OVERSIZED = "oversized"
    ELASTIC = "elastic"
    OTHER = "other"
    """A finding of a newer Kaon."""


class Advice(Model):
    """One recommendation to a user."""

    workspace: str
    deployment: str
    finding: Finding
    since: float = Field(description="Since when the figures show it, epoch seconds.")
    evidence: str = Field(description="The figures, in words.")
    gain: str = Field(description="The expected effect of the command.")
    command: str = Field(description="The command to type.")


class Advised(Model):
    """All advice on the deployments of a workspace, or on one."""

    items: tuple[Advice, ...] = Field(default=(), description="Active advice, by deployment, most urgent first.")
    well: tuple[str, ...] = Field(default=(), description="Deployments with figures and without advice.")
    unknown: tuple[str, ...] = Field(default=(), description="Deployments without figures yet.")
