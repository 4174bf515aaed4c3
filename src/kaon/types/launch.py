"""The start of a replica: the agent makes a `LaunchSpec`, and a driver adds the replica's place.

The result, a `Launch`, is a file that a driver writes and `python -m kaon.runtime` reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import Field

from kaon.types.dataset import DatasetUse
from kaon.types.job import JobCall
from kaon.types.key import Access
from kaon.types.knobs import AS_THE_CLASS_SAYS, Knobs
from kaon.types.model import Address, EnvName, Model
from kaon.types.replica import WorkloadKind
from kaon.types.service import EventLoopName

EXIT_CONFIG = 78
"""Exit code of a replica that cannot start as configured (EX_CONFIG of sysexits.h): restarts do not help."""

STACKS_SIGNAL = 58
"""Signal that makes a replica write the Python stacks of all its threads to its log, without the interpreter lock.

A real-time signal of Linux, between SIGRTMIN (34) and SIGRTMAX (64), since libraries use all named signals. It ends a
process that has not registered it yet: send it only to a replica that has answered `/live` before.
"""


PASSED_ON = (
    *("PATH", "LANG", "LANGUAGE", "LC_ALL", "TZ", "TMPDIR"),
    *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
    *("LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH"),
)
"""Variables of the machine that a replica's process inherits; no others."""

_THREAD_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class LaunchSpec(Model):
    """One replica's start, wherever it runs. Secrets are not in it: they are one JSON object on standard input."""

    id: str
    name: str
    workspace: str
    deployment: str
    revision: int
    kind: WorkloadKind = WorkloadKind.SERVICE
    env: dict[EnvName, str] = Field(default_factory=dict, description="Variables of the deployment; see `environment`.")
    own_names: tuple[str, ...] = Field(
        default=(), description="Names of other variables of the process that the service's settings may read."
    )
    access: Access = Access()
    knobs: Knobs = AS_THE_CLASS_SAYS
    prefix: str = Field(default="/", description="Path under which callers see this replica.")
    edge_url: str = Field(default="", description="URL at which other services are called.")
    control_token: str = Field(
        default="",
        repr=False,
        description="Bearer token that the control address requires, except for /live and /ready; '': none, as of "
        "a socket that only its owner can open.",
    )
    datasets: tuple[DatasetUse, ...] = Field(default=(), description="Versions of datasets that the service reads.")
    cpus: float = 1.0
    memory_bytes: int | None = Field(default=None, description="Hard limit, kept by the driver; None: none.")
    drain_s: float = 30.0
    call: JobCall | None = Field(default=None, description="Of a job: what it calls.")


class Launch(LaunchSpec):
    """One replica's start in its place."""

    entry: str = Field(description="'module:Class'.")
    code_dir: str = Field(description="Folder put first on sys.path.")
    service_address: Address = Field(description="Address for callers' requests.")
    control_address: Address = Field(description="Address for the agent: health and figures, access and knobs.")
    loop: EventLoopName | None = Field(
        default=None, description="Event loop of the class; None: read from the class after its import."
    )
    data_dir: str = Field(default="", description="The deployment's folder, which outlives replicas.")
    flights_file: str = Field(default="", description="File of calls in flight; see kaon.types.flight.")
    uses_any: bool = Field(
        default=False,
        description="Whether it may call services that its class does not declare, as older artifacts may.",
    )
    gpus: tuple[str, ...] = Field(default=(), description="Its own GPUs, by their CUDA names.")
    without_edge: bool = Field(
        default=False,
        description="Whether what is in front of its unix socket is no edge, as under `kaon dev`: it checks itself "
        "which pages may call.",
    )
    job_dir: str = Field(default="", description="Of a job: the attempt's own folder; see kaon.runtime.job.")
    inputs: dict[str, str] = Field(
        default_factory=dict, description="Parameter of a job, or name of a service's dataset -> its folder."
    )

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """The process's environment: `base`, the deployment's variables, and the platform's own. No secrets."""
        platform = {"KAON_EDGE_URL": self.edge_url, "KAON_DATA_DIR": self.data_dir}
        return {
            "PYTHONUNBUFFERED": "1",
            **dict.fromkeys(_THREAD_COUNTS, str(max(1, math.ceil(self.cpus)))),
            **base,
            **self.env,
            **{name: value for name, value in platform.items() if value},
            **{use.variable: f"{use.version.text}:{self.inputs[use.name]}" for use in self.datasets},
        }


class ReplicaHealth(Model):
    """Answer of the control socket's `/ready`."""

    phase: str
    reason: str = ""
    in_flight: int = 0
    queued: int = 0
    access: str = Field(default="", description="Version of the Access in force.")
    knobs: str = Field(default="", description="Version of the Knobs in force.")
    refusals: str = Field(default="", description="Version of the Refusals in force.")
