"""The secrets of replicas, as the control plane told them: in memory only, and out of every log.

Those of a replica that stands by are fetched ahead, and again when the plan says that they have another version, so
that callers who wait for it do not wait for them. All others are asked for at each start.
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
    """What is known of the secrets of a plan's replicas."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._known: dict[str, tuple[str, SecretValues]] = {}

    def keep(self, specs: Iterable[ReplicaSpec]) -> None:
        """Forget those of all other replicas."""
        wanted = {spec.id for spec in specs}
        self._known = {id_: known for id_, known in self._known.items() if id_ in wanted}

    def lacks(self, spec: ReplicaSpec) -> bool:
        """Whether nothing is known of a replica's, or only an older version."""
        known = self._known.get(spec.id)
        return bool(spec.secrets) and (known is None or known[0] != spec.secrets_version)

    async def of(self, spec: ReplicaSpec) -> SecretValues:
        """Fresh ones, or those of its last start when the control plane is away. Raises `Unavailable`, `NotFound`."""
        if not spec.secrets:
            return {}
        if spec.secrets_version and not self.lacks(spec):
            return self._known[spec.id][1]
        try:
            values = await self._control.secrets(spec.id)
        except Unavailable:
            if spec.id not in self._known:
                raise
            return self._known[spec.id][1]
        for value in values.values():
            log.hide_secret(value)
        self._known[spec.id] = (spec.secrets_version, values)
        return values
