"""Answers of two revisions to the same calls, and how they compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from kaon.types.model import Model

EXAMPLES = 10
"""Differing calls that are kept to be shown, of each cloud."""


class Sampling(Model):
    """Of which calls a replica is to keep the answers: those whose request id's hash is below the share."""

    share: float = Field(ge=0, le=1, description="0: of none.")
    for_s: float = Field(default=30.0, gt=0, le=300, description="It ends by itself when nobody says it again.")


class Kept(Model):
    """An answer as a replica keeps it for a while."""

    request_id: str
    endpoint: str
    status: int
    digest: str = Field(description="sha256 of the body.")
    head: str = Field(default="", description="The body's beginning, when it is JSON.")
    whole: bool = Field(default=False, description="Whether `head` is all of it.")


class KeptAnswers(Model):
    """The control socket's answer to `GET /answers?after=N`."""

    until: int = Field(description="Number of the newest answer in it: the next `after`.")
    sampled: int = Field(default=0, description="How many were kept ever; more than were read: some were lost.")
    answers: tuple[Kept, ...] = ()


class Difference(Model):
    """One place where two answers differ."""

    path: str = Field(description="Like `items[2].score`; `status` and `body` stand for the whole.")
    serving: Any = Field(default=None, description="What the caller got; None: it is missing there.")
    shadow: Any = None


class Example(Model):
    """One call that was answered differently."""

    request_id: str
    endpoint: str
    at: float = Field(description="Epoch seconds at which it was found.")
    differences: tuple[Difference, ...] = ()


class ShadowReport(Model):
    """How a shadow's answers compare."""

    revision: int = Field(default=0, ge=0)
    percent: float = Field(default=0.0, ge=0, le=100, description="Share of calls that are copied.")
    since: float = Field(default=0.0, description="Epoch seconds from which on calls are compared; 0: not yet.")
    matched: int = Field(default=0, ge=0, description="Calls that both answered alike.")
    differing: int = Field(default=0, ge=0, description="Calls that they answered differently.")
    missing: int = Field(default=0, ge=0, description="Answers of the shadow to which the caller's is not known.")
    paths: dict[str, int] = Field(default_factory=dict, description="Endpoint and place -> calls that differ there.")
    examples: tuple[Example, ...] = ()


def merged(reports: Sequence[ShadowReport], revision: int, percent: float) -> ShadowReport:
    """What the clouds' agents say together."""
    paths: dict[str, int] = {}
    for report in reports:
        for path, count in report.paths.items():
            paths[path] = paths.get(path, 0) + count
    examples = sorted((example for report in reports for example in report.examples), key=lambda e: -e.at)
    return ShadowReport(
        revision=revision,
        percent=percent,
        since=min((report.since for report in reports if report.since), default=0.0),
        matched=sum(report.matched for report in reports),
        differing=sum(report.differing for report in reports),
        missing=sum(report.missing for report in reports),
        paths=paths,
        examples=tuple(examples[:EXAMPLES]),
    )
