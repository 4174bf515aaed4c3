"""The platform's settings: read once, from the environment (`KAON_*`), with defaults that work.

A service's own settings are its constructor's parameters, see `kaon.sdk`; these are the platform's.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_SOCKET_PATH_BYTES = 107  # sun_path in Linux, less the closing zero
_HOST = re.compile(r"[^\s\[\]@/\\?#%:]+|\[[0-9A-Fa-f:.]+\]")
_LONGEST_SOCKET = "/replicas/0123456789ab/control.sock"


class Settings(BaseSettings):
    """Where things live and on which port they answer."""

    model_config = SettingsConfigDict(env_prefix="KAON_", frozen=True, extra="ignore")

    home: Path = Field(default=Path.home() / ".kaon", description="Everything that Kaon keeps on this machine.")
    host: str = Field(default="127.0.0.1", description="The address that the edge listens on.")
    port: int = Field(default=8080, ge=1, le=65535, description="The port that the edge listens on.")
    database_url: str = Field(default="", description="PostgreSQL URL; empty: SQLite under the home directory.")
    secret_key: SecretStr | None = Field(
        default=None, description="Key that encrypts secrets, 32 bytes in base64; unset: a file under the home."
    )
    cloud: str = Field(default="local", description="The name of the cloud that this machine's agent serves.")
    log_level: str = Field(default="info", description="debug, info, warning or error.")
    allowed_hosts: tuple[str, ...] = Field(
        default=("127.0.0.1", "localhost", "[::1]"),
        description="Host names under which the API answers; others are refused.",
    )
    routes_bytes: int = Field(
        default=2**20,
        ge=2**10,
        description="How many bytes of routes a workspace may have.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Networks of proxies before the edge, as 10.0.0.0/8,192.0.2.7; their X-Forwarded-For, -Proto and "
        "-Host are believed.",
    )
    proxy_protocol: bool = Field(
        default=False,
        description="Trusted proxies begin connections by the PROXY protocol; others cannot connect any more.",
    )

    most_artifacts: int = Field(default=1000, ge=1, le=100_000, description="Artifacts that a workspace may have.")
    most_artifact_bytes: int = Field(
        default=256 * 2**30, ge=2**20, description="Bytes that the artifacts of a workspace may have together."
    )
    largest_artifact_bytes: int = Field(
        default=64 * 2**30, ge=2**20, le=2**50, description="Bytes that the files of one artifact may have together."
    )
    most_uploads: int = Field(
        default=20_000, ge=10, le=1_000_000, description="Uploads of a workspace that nothing uses yet."
    )
    most_upload_bytes: int = Field(
        default=256 * 2**30, ge=2**20, description="Bytes that these uploads may have together."
    )
    most_datasets: int = Field(default=500, ge=1, le=100_000, description="Datasets that a workspace may have.")
    most_dataset_files: int = Field(
        default=100_000, ge=1, le=1_000_000, description="Files that one version of a dataset may have."
    )
    most_dataset_bytes: int = Field(
        default=200 * 2**30, ge=2**20, description="Bytes that the datasets of a workspace may have together."
    )
    most_deployments: int = Field(default=500, ge=1, le=100_000, description="Deployments that a workspace may have.")
    most_jobs: int = Field(
        default=100_000, ge=10, le=10_000_000, description="Jobs that a workspace may have, ended ones included."
    )
    most_keys: int = Field(default=1000, ge=10, le=100_000, description="Keys that a workspace may have.")
    most_secrets: int = Field(default=1000, ge=10, le=100_000, description="Secrets that a workspace may have.")
    audit_records: int = Field(
        default=100_000, ge=100, le=100_000_000, description="Audit records that are kept; the oldest go first."
    )
    audit_days: float = Field(default=400, ge=1, le=36_500, description="Days that audit records are kept.")

    keep_artifacts_s: float = Field(
        default=7 * 86_400, ge=600, description="How long an artifact stays that nothing is made of, in seconds."
    )
    keep_uploads_s: float = Field(
        default=86_400, ge=600, description="How long an interrupted upload can be continued, in seconds."
    )
    keep_events_s: float = Field(default=30 * 86_400, ge=3600, description="How long events stay, in seconds.")
    keep_gone_s: float = Field(
        default=7 * 86_400, ge=0, description="How long events of what was deleted stay, in seconds."
    )
    keep_keys_s: float = Field(
        default=30 * 86_400, ge=0, description="How long a key stays in lists after its end, in seconds."
    )
    keep_jobs_s: float = Field(default=30 * 86_400, ge=0, description="How long a job stays after its end, in seconds.")
    keep_jobs: int = Field(
        default=10_000, ge=0, le=1_000_000, description="Ended jobs that stay in a workspace; the oldest go first."
    )
    keep_job_bytes: int = Field(
        default=256 * 2**20, ge=2**20, description="Bytes of results of ended jobs that stay in a workspace."
    )
    keep_logs_s: float = Field(
        default=7 * 86_400, ge=0, description="How long the logs of a replica that is gone stay, in seconds."
    )
    keep_unpacked: int = Field(
        default=5, ge=0, le=10_000, description="Unused artifacts that stay unpacked, with their environments."
    )

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, given: object) -> object:
        named = given.split(",") if isinstance(given, str) else given
        if not isinstance(named, (list, tuple)):
            return named
        # Each once: a network that is named twice is none that Envoy takes.
        return tuple(dict.fromkeys(str(ip_network(name.strip(), strict=False)) for name in named if name.strip()))

    @model_validator(mode="after")
    def _from_somewhere(self) -> Settings:
        if self.proxy_protocol and not self.trusted_proxies:
            raise ValueError("KAON_PROXY_PROTOCOL needs KAON_TRUSTED_PROXIES: the networks whose word is taken")
        return self

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        if bad := [host for host in hosts if not _HOST.fullmatch(host)]:
            raise ValueError(f"{bad[0]!r} is not the name of a host; an IPv6 address stands in brackets")
        return hosts

    @property
    def database(self) -> str:
        """The store's URL."""
        return self.database_url or f"sqlite:///{self.home / 'server' / 'kaon.db'}"

    @property
    def run_dir(self) -> Path:
        """Sockets and locks: `home/run`, or a short private folder when that would be too long for a socket."""
        under_home = self.home.absolute() / "run"
        if len(os.fsencode(f"{under_home}{_LONGEST_SOCKET}")) <= _SOCKET_PATH_BYTES:
            return under_home
        name = hashlib.sha256(os.fsencode(self.home.absolute())).hexdigest()[:10]
        return Path(tempfile.gettempdir()) / f"kaon-{os.getuid()}-{name}"

    @property
    def api_socket(self) -> Path:
        """The unix socket on which the control plane's API answers."""
        return self.run_dir / "api.sock"

    @property
    def url(self) -> str:
        """The edge's URL on this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104
        return f"http://{host}:{self.port}"

    @property
    def own_hosts(self) -> frozenset[str]:
        """The platform's own host names, in lower case and without ports."""
        return frozenset(host.lower().partition(":")[0] for host in (self.host, *self.allowed_hosts))

    @property
    def admin_key_file(self) -> Path:
        """The first admin key, mode 0600."""
        return self.home / "admin.key"
