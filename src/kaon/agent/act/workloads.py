"""From the plan of a replica to the workload of a driver. Pure, but for the key of the tokens."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from kaon.drivers.port import Addresses, Workload
from kaon.types.key import Access
from kaon.types.knobs import PlannedKnobs
from kaon.types.launch import LaunchSpec
from kaon.types.model import Address
from kaon.types.plan import Plan
from kaon.types.replica import ReplicaSpec
from kaon.types.route import prefix_of

_KEY_BYTES = 32


def workload_of(
    plan: Plan, spec: ReplicaSpec, values: dict[str, str], *, edge_url: str = "", control_token: str = ""
) -> Workload:
    """The workload of a replica of `plan`; `values` are those of its secrets."""
    name = f"{spec.workspace}/{spec.deployment}"
    launch = LaunchSpec(
        id=spec.id,
        name=spec.name,
        workspace=spec.workspace,
        deployment=spec.deployment,
        revision=spec.revision,
        kind=spec.kind,
        env=spec.env,
        access=plan.access.get(name, Access()),
        knobs=plan.knobs.get(name, PlannedKnobs()).force,  # those of a trial are set once it answers
        prefix=prefix_of(spec.workspace, spec.deployment),
        edge_url=edge_url,
        control_token=control_token,
        datasets=spec.datasets,
        cpus=spec.resources.cpus,
        memory_bytes=spec.resources.memory_bytes,
        drain_s=spec.drain_s,
        call=next((attempt.call for attempt in plan.attempts if attempt.replica.id == spec.id), None),
    )
    return Workload(spec=spec, launch=launch, secrets=values)


class ControlTokens:
    """Tokens of control addresses that are ports, one for each replica.

    A token is made of the agent's own key and the replica's id: the next agent over the same folder makes the same one,
    and no list is stored.
    """

    def __init__(self, key: bytes, addresses: Addresses) -> None:
        self._key = key
        self._addresses = addresses
        self._tokens: dict[Address, str] = {}

    @classmethod
    def kept_in(cls, file: Path, addresses: Addresses) -> ControlTokens:
        """Tokens by the key in `file`, which is made when it does not exist. Raises OSError."""
        with contextlib.suppress(FileExistsError):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = file.with_suffix(".new")
            new.unlink(missing_ok=True)
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
                opened.write(secrets.token_bytes(_KEY_BYTES))
            os.link(new, file)
        file.with_suffix(".new").unlink(missing_ok=True)
        return cls(file.read_bytes(), addresses)

    def of(self, replica: str) -> str:
        """The token of a replica; empty: only the owner can open the address."""
        if self._addresses is Addresses.SOCKET:
            return ""
        return hmac.new(self._key, replica.encode(), hashlib.sha256).hexdigest()

    def follow(self, running: Mapping[str, Address]) -> None:
        """Set the running replicas, by their control addresses."""
        if self._addresses is Addresses.TCP:
            self._tokens = {address: self.of(replica) for replica, address in running.items()}

    def at(self, address: Address) -> str:
        """The token for a control address; empty: none."""
        return self._tokens.get(address, "")
