"""Advice: something that the figures say could be better, what it would bring, and the command that does it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from kaon.types.model import Model


class Finding(StrEnum):
    """What was found."""

    OVERSIZED = "oversized"
    UNDERSIZED = "undersized"
    MEMORY = "memory"
    BATCH = "batch"
    COLD_STARTS = "cold-starts"
    LATENCY = "latency"
    ERRORS = "errors"


class Advice(Model):
    """One piece of it."""

    deployment: str
    finding: Finding
    since: float = Field(description="Since when the figures say so, epoch seconds.")
    evidence: str = Field(description="The figures, in words.")
    gain: str = Field(description="What is to be expected of the command.")
    command: str = Field(description="What to type.")
