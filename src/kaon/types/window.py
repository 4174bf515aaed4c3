"""Aggregated traffic: rates, shares and quantiles, and the loss with its parts."""

from __future__ import annotations

from pydantic import Field

from kaon.types.model import Model
from kaon.types.objective import Objective
from kaon.types.observation import Count, ObservedSeconds


class LossParts(Model):
    """The loss of a window, the parts of its weighted sum, and the shares behind them."""

    total: float
    latency: float
    completion: float
    utilisation: float
    cost: float
    completed: float = Field(description="Share of calls answered well and in time.")
    price: float = Field(description="Price of a unit of `completion`: it rises while the error budget burns.")


class Window(Model):
    """The traffic of a deployment, or of one of its revisions, over a span. Missing counts are None."""

    at_s: float = Field(description="End of its newest sample, epoch seconds; 0: none.")
    span_s: float = Field(gt=0)
    covered_s: float = Field(default=0.0, ge=0, description="Seconds of the span with samples.")
    arrivals: Count = None
    rps: ObservedSeconds = Field(default=None, description="Arrivals per covered second.")
    codes: dict[str, int] | None = Field(default=None, description="Answers by class, as in a sample.")
    failed: float | None = Field(default=None, description="Share of answers of class '5xx', 'shed' and 'none'.")
    p50_s: ObservedSeconds = None
    p90_s: ObservedSeconds = None
    p99_s: ObservedSeconds = None
    queue_s: ObservedSeconds = Field(default=None, description="Mean time in queue.")
    in_flight: Count = None
    queued: Count = None
    held: int = 0
    ready: int = 0
    starting: int = 0
    busy: float | None = Field(default=None, description="Share of ready replicas' time spent on work.")
    batch_rows: float | None = Field(default=None, description="Mean rows of a batch.")
    start_s: ObservedSeconds = Field(default=None, description="Mean duration of its starts, from order to ready.")
    memory_bytes: Count = Field(default=None, description="The largest replica's maximum.")
    loss: LossParts | None = None


class SeriesPoint(Model):
    """One step of a chart. Missing counts are None."""

    at_s: float = Field(description="End of the step, epoch seconds.")
    rps: ObservedSeconds = Field(default=None, description="Arrivals per second.")
    failed_rps: ObservedSeconds = Field(default=None, description="Failed calls per second.")
    p50_s: ObservedSeconds = None
    p90_s: ObservedSeconds = None
    p99_s: ObservedSeconds = None
    in_flight: Count = None
    queued: Count = None
    held: int = 0
    ready: int | None = Field(default=None, description="None: no sample.")
    starting: int | None = None
    busy: float | None = None
    loss: float | None = Field(default=None, description="Of steps of a minute and more.")


class RevisionStats(Model):
    """One revision's windows, shortest first."""

    revision: int = Field(description="0: calls without a replica at the edge.")
    shadow: bool = Field(default=False, description="It gets copies, which are in no sum.")
    windows: tuple[Window, ...]


class Stats(Model):
    """Statistics of a deployment."""

    workspace: str
    deployment: str
    now_s: float = Field(description="The control plane's time, epoch seconds.")
    objective: Objective
    memory_limit_bytes: int | None = Field(default=None, description="Of a replica; None: no limit.")
    windows: tuple[Window, ...] = Field(description="Over all revisions: the last 12 s, 60 s and 30 min.")
    revisions: tuple[RevisionStats, ...] = ()
    step_s: float = Field(description="Of the series.")
    series: tuple[SeriesPoint, ...] = Field(default=(), description="Oldest first, including steps without a sample.")
