"""Counters of a replica since its start: running sums; a rate is the difference of two readings."""

from __future__ import annotations

from pydantic import Field

from kaon.types.model import Model
from kaon.types.observation import Batches


class ReplicaFigures(Model):
    """Sums over a replica's endpoints.

    Seconds of work are *replica-seconds*: a call that held one of an endpoint's 16 slots for a second was a
    sixteenth of a second of the replica's work. When knobs change the number of slots, each second counts by
    the number of slots at that time.
    """

    began_at: float = Field(description="Start of the process, epoch seconds: another value is another process.")
    at_s: float = Field(description="Time of the reading, by the replica's monotonic clock.")
    codes: dict[str, int] = Field(
        default_factory=dict,
        description="Answers to calls by class: '2xx' to '5xx'; '429' and '503' are counted apart.",
    )
    not_calls: dict[str, int] = Field(
        default_factory=dict,
        description="Answers to requests that are no calls, by class: refused for their key or origin, documents.",
    )
    knobs: str = Field(default="", description="Version of the Knobs in force.")
    in_flight: int = Field(default=0, ge=0)
    queued: int = Field(default=0, ge=0, description="Of these, waiting for a slot or a batch.")
    queue_s: float = Field(default=0.0, ge=0, description="Time in queue of all calls that left it.")
    began: int = Field(default=0, ge=0, description="Calls that got a slot or a place in a batch.")
    busy_s: float = Field(default=0.0, ge=0, description="Work: busy time of slots divided by the number of slots.")
    cpu_s: float = Field(default=0.0, ge=0, description="Processor time divided by the replica's number of processors.")
    calls: int = Field(default=0, ge=0, description="Calls that ended at endpoints without batching.")
    calls_s: float = Field(default=0.0, ge=0, description="Their work.")
    latency: dict[int, int] = Field(
        default_factory=dict, description="Answers by time since arrival, in the buckets of `kaon.types.traffic`."
    )
    memory_bytes: int = Field(
        default=0,
        ge=0,
        description="Of the process and its children, without the file cache; some seconds old. 0: unknown.",
    )
    batches: Batches = Field(default=Batches(), description="Batches that ended.")
