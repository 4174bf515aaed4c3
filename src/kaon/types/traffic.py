"""Traffic: an agent's counts of one revision over about a second, and starts of replicas.

A sample holds counts of its own span only, never running totals, so that samples add up: over seconds, over
revisions, over clouds. A missing count is None, which is not zero.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kaon.types.model import Model, Name
from kaon.types.observation import Batches, Count, ObservedSeconds


def _bounds() -> tuple[float, ...]:
    """1 ms to 125 s, each a quarter of a doubling above the one before, in whole milliseconds."""
    return tuple(sorted({round(2 ** (step / 4)) / 1000 for step in range(69)}))


LATENCY_BOUNDS_S = _bounds()
"""Upper bounds of the buckets of a latency histogram; one more bucket is above the last."""

LatencyCounts = dict[Annotated[int, Field(ge=0, le=len(LATENCY_BOUNDS_S))], Annotated[int, Field(ge=0)]]
"""Bucket -> count; buckets without a count are left out."""


class ColdStart(Model):
    """Duration of one replica's start, from order to ready, by part."""

    replica: str = Field(description="The replica's id.")
    install_s: float = Field(default=0.0, ge=0, description="Fetching the artifact, making the environment.")
    start_s: float = Field(default=0.0, ge=0, description="Start of the process, until it answered.")
    load_s: float = Field(default=0.0, ge=0, description="Constructor and on_start: until it was ready.")

    @property
    def total_s(self) -> float:
        """From order to ready, seconds."""
        return self.install_s + self.start_s + self.load_s


class Side(Model):
    """Counts of the replicas with the same knobs during a trial, by the replicas themselves."""

    knobs: str = Field(description="Version of the knobs in force.")
    replicas: int = Field(default=0, ge=0, description="Ready replicas at the end of the span.")
    answered: int = Field(default=0, ge=0)
    failed: int = Field(default=0, ge=0, description="Of these, 5xx or refused for overload.")
    latency: LatencyCounts = Field(default_factory=dict, description="In the replica, including time in queue.")
    busy_s: float = Field(default=0.0, ge=0, description="Replica-seconds of work.")
    ready_s: float = Field(default=0.0, ge=0, description="Replica-seconds of being ready.")
    batches: Batches = Batches()
    ended: int = Field(default=0, ge=0, description="Replicas that ended by themselves in the span.")


class Sample(Model):
    """The traffic of one revision over `span_s` seconds that end at `at_s`, and its replicas then."""

    workspace: Name
    deployment: Name
    revision: int = Field(ge=0, description="0: calls without a replica at the edge, or a sum over revisions.")
    cloud: str = Field(default="", description="Cloud of the counts; empty in sums over clouds.")
    at_s: float = Field(description="End of the span, epoch seconds.")
    span_s: float = Field(gt=0)
    arrivals: Count = Field(
        default=None, description="Calls for this revision at the edge, without those that had no valid key."
    )
    codes: dict[str, int] | None = Field(
        default=None,
        description="Answers as callers got them, by class: '2xx' to '5xx', 'shed' (429, and 503 with "
        "which a replica refuses), 'none' when there was no answer.",
    )
    latency: LatencyCounts | None = Field(default=None, description="Of all answers, at the edge; LATENCY_BOUNDS_S.")
    in_flight: Count = Field(default=None, description="At the end of the span, at the edge.")
    queued: Count = Field(default=None, description="Of these, waiting in a replica for a slot or a batch.")
    queue_s: ObservedSeconds = Field(default=None, description="Time in queue, summed over the calls that began.")
    began: Count = Field(default=None, description="Calls that left the queue.")
    busy_s: ObservedSeconds = Field(default=None, description="Replica-seconds of work: busy slots over slots.")
    batches: Batches = Batches()
    ready: int = Field(default=0, ge=0, description="Replicas at the end of the span.")
    starting: int = Field(default=0, ge=0)
    ready_s: ObservedSeconds = Field(default=None, description="Of sums: replica-seconds of being ready.")
    paid_s: ObservedSeconds = Field(default=None, description="Of sums: replica-seconds of being ready or starting.")
    memory_bytes: Count = Field(default=None, description="The largest replica's memory; of sums: the maximum.")
    held: int = Field(
        default=0, ge=0, description="Callers that wait at the edge for a replica at the end of the span."
    )
    starts: tuple[ColdStart, ...] = Field(default=(), description="Replicas that became ready in the span.")
    sides: tuple[Side, ...] = Field(default=(), description="By knobs; only during trials.")


class Traffic(Model):
    """Samples that an agent sends to the control plane, oldest first."""

    cloud: str
    after_s: float = Field(default=0.0, description="End of the previous sample, epoch seconds; 0: none.")
    samples: tuple[Sample, ...] = ()


class TrafficTaken(Model):
    """The control plane's answer."""

    until_s: float = Field(default=0.0, description="End of the newest sample of this cloud; 0: none.")
