"""The live tuner: every 10 seconds each deployment is looked at, and what should be tried, kept or taken back is
written into its status.

As a reconciler it only knows the deployments; `run` tunes them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from kaon import log
from kaon.clock import Clock
from kaon.control.loop import Again, Key
from kaon.control.scaling import Scaling
from kaon.errors import KaonError
from kaon.laws.tune.guard import TICK_S
from kaon.store.opinions import Opinions
from kaon.store.port import Change, Store
from kaon.store.traffic import TrafficRing
from kaon.types.resource import Deployment
from kaon.types.tuning import Mode, TuningState


@dataclass(slots=True)
class _Tuned:
    """A deployment as the store has it."""

    deployment: Deployment


class Tuning:
    """The reconciler of what is tuned; a key is a deployment's workspace and name."""

    name = "tuning"

    def __init__(
        self,
        store: Store,
        clock: Clock,
        traffic: TrafficRing,
        opinions: Opinions,
        scaling: Scaling,
        twin: object = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._traffic = traffic
        self._opinions = opinions
        self._scaling = scaling
        self._tuned: dict[Key, _Tuned] = {}
        self._log = log.get("control.tuning")

    async def keys(self) -> Collection[Key]:
        """Every deployment, and those that are gone."""
        return {(d.workspace, d.name) for d in await self._store.list_all("deployment")} | self._tuned.keys()

    async def affected(self, changes: Sequence[Change]) -> Collection[Key]:
        """The deployments that changed."""
        return {(change.workspace, change.name) for change in changes if change.kind == "deployment"}

    async def reconcile(self, key: Key) -> Again | None:
        """Know the deployment as it is now."""
        deployment = await self._store.find("deployment", *key)
        known = self._tuned.get(key)
        if known and (deployment is None or deployment.uid != known.deployment.uid):
            del self._tuned[key]
            self._opinions.forget_tuning(*key)
            known = None
        if deployment is None:
            return None
        if known is None:
            self._tuned[key] = known = _Tuned(deployment)
            self._opinions.keep_tuning(*key, partial(self._state, known))
        elif deployment.version > known.deployment.version:
            known.deployment = deployment
        return None

    async def run(self) -> None:
        """Look at all, every `TICK_S`, until cancelled."""
        while True:
            await self._clock.sleep(TICK_S)
            try:
                await self.tick()
            except KaonError as error:  # the store is away: what is in force stays, and agents end trials themselves
                self._log.warning("nothing is tuned", cause=error.cause)
            except Exception:  # a bug must not end the platform that it is in
                self._log.exception("nothing is tuned")

    async def tick(self) -> None:
        """Look at all once."""

    def _state(self, tuned: _Tuned) -> TuningState:
        """All that there is to see of a deployment's tuner."""
        deployment = tuned.deployment
        mode, status = deployment.spec.tuning.mode, deployment.status.tuning
        return TuningState(
            workspace=deployment.workspace,
            deployment=deployment.name,
            mode=mode,
            state="off" if mode is Mode.OFF else "learning",
            reason="nothing is tuned by itself" if mode is Mode.OFF else "it learns what is usual",
            trial=status.trial,
            recommended=status.recommended,
            off_until=status.off_until,
        )
