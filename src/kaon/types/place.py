"""The health and capacity of a place in which workloads run."""

from __future__ import annotations

from pydantic import Field

from kaon.types.model import Model, OpenEnum


class PlaceState(OpenEnum, unknown="degraded"):
    """The state of a place."""

    OK = "ok"
    DEGRADED = "degraded"
    """It works with limitations; the reason names them."""
    UNAVAILABLE = "unavailable"
    """It cannot be reached. Its workloads may go on running."""


class Capacity(Model):
    """An amount of resources."""

    cpus: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    memory_bytes: int = Field(default=0, ge=0)
    gpus: int = Field(default=0, ge=0)


class PlaceHealth(Model):
    """State and use of a place. Both capacities are None where they are unknown."""

    state: PlaceState = PlaceState.OK
    reason: str = ""
    used: Capacity | None = Field(default=None, description="Promised to existing workloads.")
    free: Capacity | None = Field(default=None, description="Available for new workloads.")
    cores: float | None = Field(
        default=None, gt=0, description="CPUs that exist: all jobs together get no more. None: unknown."
    )
