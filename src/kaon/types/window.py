"""What a span of traffic comes to: rates, shares and quantiles, and the loss with its parts."""

from __future__ import annotations

from pydantic import Field

from kaon.types.model import Model
from kaon.types.objective import Objective
from kaon.types.observation import Count, ObservedSeconds


class LossParts(Model):
    """The loss of a window, the parts that it is the weighted sum of, and the shares that they come from."""

    total: float
    latency: float
    completion: float
    utilisation: float
    cost: float
    completed: float = Field(description="Share of calls answered well and in time.")
    price: float = Field(description="What a unit of `completion` costs: it rises while the error budget burns.")


class Window(Model):
    """The traffic of a deployment, or of one of its revisions, over a span. What nobody delivered is None."""

    at_s: float = Field(description="End of the newest sample in it, epoch seconds: how stale it is. 0: none.")
    span_s: float = Field(gt=0)
    covered_s: float = Field(default=0.0, ge=0, description="Seconds of the span of which there are samples.")
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
    busy: float | None = Field(default=None, description="Share of ready replicas' time that was work.")
    batch_rows: float | None = Field(default=None, description="Mean rows of a batch.")
    start_s: ObservedSeconds = Field(default=None, description="Mean of the starts in it, from order to ready.")
    memory_bytes: Count = Field(default=None, description="What the fullest replica used, at most.")
    loss: LossParts | None = None


class SeriesPoint(Model):
    """One step of a chart. What nobody delivered is None."""

    at_s: float = Field(description="End of the step, epoch seconds.")
    rps: ObservedSeconds = Field(default=None, description="Arrivals per second.")
    failed_rps: ObservedSeconds = Field(default=None, description="Failed calls per second.")
    p50_s: ObservedSeconds = None
    p90_s: ObservedSeconds = None
    p99_s: ObservedSeconds = None
    in_flight: Count = None
    queued: Count = None
    held: int = 0
    ready: int | None = Field(default=None, description="None: there is no sample.")
    starting: int | None = None
    busy: float | None = None
    loss: float | None = Field(default=None, description="Of steps of a minute and more.")


class RevisionStats(Model):
    """One revision's windows, shortest first."""

    revision: int = Field(description="0: calls that found no replica at the edge.")
    shadow: bool = Field(default=False, description="It gets copies; its calls are in no sum.")
    windows: tuple[Window, ...]


class Stats(Model):
    """How a deployment does."""

    workspace: str
    deployment: str
    now_s: float = Field(description="The control plane's time, epoch seconds.")
    objective: Objective
    memory_limit_bytes: int | None = Field(default=None, description="Of a replica; None: there is none.")
    windows: tuple[Window, ...] = Field(description="Over all revisions: the last 12 s, 60 s and 30 min.")
    revisions: tuple[RevisionStats, ...] = ()
    step_s: float = Field(description="Of the series.")
    series: tuple[SeriesPoint, ...] = Field(
        default=(), description="Oldest first; steps without a sample are there too."
    )
