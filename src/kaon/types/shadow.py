"""Comparison of the answers of two revisions to the same calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from kaon.types.model import Model

EXAMPLES = 10
"""Differing calls of each cloud that are kept as examples."""


class Sampling(Model):
    """The calls whose answers a replica keeps: those whose request id's hash is below the share."""

    share: float = Field(ge=0, le=1, description="0: none.")
    for_s: float = Field(default=30.0, gt=0, le=300, description="It ends after this time unless it is sent again.")


class Kept(Model):
    """A kept answer."""

    request_id: str
    endpoint: str
    status: int
    digest: str = Field(description="sha256 of the body.")
    head: str = Field(default="", description="Start of the body, when it is JSON.")
    whole: bool = Field(default=False, description="Whether `head` is all of it.")


class KeptAnswers(Model):
    """The control socket's answer to `GET /answers?after=N`."""

    until: int = Field(description="Number of the newest answer in it: the next `after`.")
    sampled: int = Field(default=0, description="Number of answers ever kept; more than were read: some were lost.")
    answers: tuple[Kept, ...] = ()


class Difference(Model):
    """One place where two answers differ."""

    path: str = Field(description="Like `items[2].score`; `status` and `body` stand for the whole.")
    serving: Any = Field(default=None, description="The caller's value; None: missing.")
    shadow: Any = None


class Example(Model):
    """One call with different answers."""

    request_id: str
    endpoint: str
    at: float = Field(description="When it was found, epoch seconds.")
    differences: tuple[Difference, ...] = ()


class ShadowReport(Model):
    """The comparison of a shadow's answers."""

    revision: int = Field(default=0, ge=0)
    percent: float = Field(default=0.0, ge=0, le=100, description="Share of calls that are copied.")
    since: float = Field(default=0.0, description="Start of the comparison, epoch seconds; 0: not started.")
    matched: int = Field(default=0, ge=0, description="Calls with equal answers.")
    differing: int = Field(default=0, ge=0, description="Calls with different answers.")
    missing: int = Field(default=0, ge=0, description="Answers of the shadow without the caller's answer.")
    paths: dict[str, int] = Field(default_factory=dict, description="Endpoint and place -> calls that differ there.")
    examples: tuple[Example, ...] = ()


def merged(reports: Sequence[ShadowReport], revision: int, percent: float) -> ShadowReport:
    """The sum of the reports of several clouds."""
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
