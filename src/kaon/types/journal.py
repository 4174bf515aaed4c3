"""The journal: decisions on a deployment, with their figures and reasons."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from kaon.types.model import Model


class JournalEntry(Model):
    """One decision."""

    at: float = Field(description="Epoch seconds.")
    workspace: str
    deployment: str
    uid: str = Field(default="", description="The deployment's uid.")
    concern: str = Field(description="What it is about: 'scaling', 'rollout', 'tuning', 'advice'.")
    before: str = Field(default="", description="The state before, in a word or a number.")
    after: str = Field(description="The desired state.")
    reason: str = Field(description="The reason, in words.")
    figures: dict[str, Any] = Field(default_factory=dict, description="The figures that it was based on, by name.")
