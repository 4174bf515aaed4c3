"""The secrets of replicas, fetched from the control plane: kept in memory only, and hidden in every log.

Those of a standby replica are fetched ahead, and again when the plan has another version of them, so that callers do
not wait for them. All others are fetched at each start.
"""

from __future__ import annotations

from collections.abc import Iterable

from kaon import log
from kaon.agent.ports import ControlPlane
from kaon.errors import Unavailable
from kaon.types.replica import ReplicaSpec

SecretValues = dict[str, str]
"""Environment variable -> value."""


class Secrets:
    """The secrets of a plan's replicas."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._fetched: dict[str, tuple[str, SecretValues]] = {}

    def keep(self, specs: Iterable[ReplicaSpec]) -> None:
        """Delete the secrets of all other replicas."""
        wanted = {spec.id for spec in specs}
        self._fetched = {id_: fetched for id_, fetched in self._fetched.items() if id_ in wanted}

    def lacks(self, spec: ReplicaSpec) -> bool:
        """Whether the secrets of a replica must be fetched: there are none yet, or those of another version."""
        fetched = self._fetched.get(spec.id)
        return bool(spec.secrets) and (fetched is None or fetched[0] != spec.secrets_version)

    async def of(self, spec: ReplicaSpec) -> SecretValues:
        """The secrets of a replica; those of its last start while the control plane cannot be reached.

        Raises `Unavailable` or `NotFound`.
        """
        if not spec.secrets:
            return {}
        if spec.secrets_version and not self.lacks(spec):
            return self._fetched[spec.id][1]
        try:
            values = await self._control.secrets(spec.id)
        except Unavailable:
            if spec.id not in self._fetched:
                raise
            return self._fetched[spec.id][1]
        for value in values.values():
            log.hide_secret(value)
        self._fetched[spec.id] = (spec.secrets_version, values)
        return values
