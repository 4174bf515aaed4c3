"""The journal: what was decided for a deployment, on which figures, and why."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from kaon.types.model import Model


class JournalEntry(Model):
    """One decision, as it is kept and told."""

    at: float = Field(description="Epoch seconds.")
    workspace: str
    deployment: str
    uid: str = Field(default="", description="The deployment's; of one that was made again it is another.")
    concern: str = Field(description="What was decided on: 'scaling', 'rollout', 'tuning', 'advice'.")
    before: str = Field(default="", description="How it was, in a word or a number.")
    after: str = Field(description="How it should be.")
    reason: str = Field(description="Why, in words.")
    figures: dict[str, Any] = Field(default_factory=dict, description="The numbers behind it, by name.")
