"""How a place is in which workloads run."""

from __future__ import annotations

from pydantic import Field

from kaon.types.model import Model, OpenEnum


class PlaceState(OpenEnum, unknown="degraded"):
    """Whether a place works."""

    OK = "ok"
    DEGRADED = "degraded"
    """It works, but not as it should; the reason says what is wrong."""
    UNAVAILABLE = "unavailable"
    """It cannot be reached. What runs there may run on."""


class Capacity(Model):
    """An amount of what workloads are promised."""

    cpus: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    memory_bytes: int = Field(default=0, ge=0)
    gpus: int = Field(default=0, ge=0)


class PlaceHealth(Model):
    """How a place is, and how much of it is in use. Both capacities are None where a place cannot say."""

    state: PlaceState = PlaceState.OK
    reason: str = ""
    used: Capacity | None = Field(default=None, description="Promised to the workloads that are there.")
    free: Capacity | None = Field(default=None, description="Can still be promised.")
