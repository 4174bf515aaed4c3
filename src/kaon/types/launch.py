"""What a replica is told at its start: the file that a driver writes and `python -m kaon.runtime` reads."""

from __future__ import annotations

from pydantic import Field

from kaon.types.key import Access
from kaon.types.knobs import AS_THE_CLASS_SAYS, Knobs
from kaon.types.model import Address, EnvName, Model

EXIT_CONFIG = 78
"""Exit code of a replica that cannot start as configured (EX_CONFIG of sysexits.h): restarts do not help."""

STACKS_SIGNAL = 58
"""Signal that makes a replica write the Python stacks of all its threads to its log, without the interpreter lock.

A real-time signal of Linux, between SIGRTMIN (34) and SIGRTMAX (64), since libraries use all of those with names. A
process that has not registered it yet ends by it: send it only to a replica that has been alive before.
"""


class Launch(Model):
    """One replica's start. Secrets are not in it: they come as one JSON object on standard input."""

    id: str
    name: str
    workspace: str
    deployment: str
    revision: int
    entry: str = Field(description="'module:Class'.")
    code_dir: str = Field(description="Folder put first on sys.path.")
    service_address: Address = Field(description="Where callers' requests come in.")
    control_address: Address = Field(description="Where the agent asks and tells: health, metrics, access.")
    env: dict[EnvName, str] = Field(default_factory=dict)
    access: Access = Access()
    knobs: Knobs = AS_THE_CLASS_SAYS
    prefix: str = Field(default="/", description="Path under which callers see this replica.")
    edge_url: str = Field(default="", description="Where handles of other services are reached.")
    data_dir: str = Field(default="", description="Folder that outlives replicas, one per deployment.")
    log_file: str = Field(default="", description="Standard output and error go here, rotated; empty: left alone.")
    flights_file: str = Field(default="", description="Calls in flight are noted here; see kaon.types.flight.")
    log_max_bytes: int = 10 * 2**20
    cpus: float = 1.0
    gpus: tuple[str, ...] = Field(default=(), description="The GPUs that are its alone, as CUDA names them.")
    memory_bytes: int | None = Field(default=None, description="Hard limit, kept by the driver; None: none.")
    drain_s: float = 30.0


class ReplicaHealth(Model):
    """Answer of the control socket's `/ready`."""

    phase: str
    reason: str = ""
    in_flight: int = 0
    queued: int = 0
    access: str = Field(default="", description="content_hash of the Access in force.")
    knobs: str = Field(default="", description="content_hash of the Knobs in force.")
    refusals: str = Field(default="", description="content_hash of the Refusals in force.")
