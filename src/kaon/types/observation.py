"""The observed traffic of a deployment in a span of time.

Missing, stale and zero are different, and all are allowed. A missing count is None; a stale one has an old
`at_s`; zero is a number like any other. NaN, which some sources send for "nothing to divide by", is read as missing.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from kaon.types.model import Model


def _number(value: object) -> object:
    return None if isinstance(value, float) and value != value else value


Count = Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(_number)]
"""A count; None: unknown."""
ObservedSeconds = Annotated[Annotated[float, Field(ge=0)] | None, BeforeValidator(_number)]
"""A duration; None: unknown."""


class Batches(Model):
    """The batches that ended: sums from which s(n) = a n + b is fitted. Seconds and rows."""

    count: int = Field(default=0, ge=0)
    rows: float = Field(default=0.0, ge=0)
    seconds: float = Field(default=0.0, ge=0)
    rows_squared: float = Field(default=0.0, ge=0)
    rows_seconds: float = Field(default=0.0, ge=0)
    seconds_squared: float = Field(
        default=0.0, ge=0, description="For the variance of batches that n alone does not explain; 0: unknown."
    )


class Observation(Model):
    """A deployment's traffic over `span_s` seconds that end at `at_s`, and its replicas then."""

    at_s: float = Field(description="End of the span, seconds of the clock that the law is given.")
    span_s: float = Field(gt=0)
    arrivals: Count = None
    answered: Count = Field(default=None, description="Calls that ended in the span, well or badly.")
    missed: Count = Field(default=None, description="Of these, failed, refused, or later than their deadline.")
    in_flight: Count = Field(default=None, description="Calls in flight at the end of the span, waiting ones included.")
    queued: Count = Field(default=None, description="Of these, waiting.")
    busy_s: ObservedSeconds = Field(default=None, description="Replica-seconds of work.")
    batches: Batches = Batches()
    began: Count = Field(
        default=None, description="Calls whose rows are or will be in `batches`: a call may have many rows."
    )
    ready: int = Field(default=0, ge=0)
    starting: int = Field(default=0, ge=0)
    cold_start_s: ObservedSeconds = Field(default=None, description="Duration of recent starts, from order to ready.")
