"""The desired number of replicas of each deployment, from its traffic.

Every `TICK_S` the scaling law of each deployment with a variable number of replicas (min below max) decides
(`kaon.control.scaler`) on what the agents counted; `kaon.laws.restraint` has the last word. When the number is another
one it is written, as `status.scaling`, and nothing else is done: the reconciler of deployments alone assigns
replicas. A write that meets another's is not repeated: the next tick sees the world anew.

What is decided goes to the journal with the figures behind it: each new number, and each new kind of reason. What
is not written is always there for whoever asks (`kaon.store.live_status`).
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from kaon import log
from kaon.clock import Clock
from kaon.control.loop import Again
from kaon.control.scaler import ScalerSession, ScalerTerms
from kaon.errors import Conflict, NotFound
from kaon.laws import choice, rollout
from kaon.laws.restraint import RestraintState, restrain
from kaon.laws.scaling import Bounds, ScalingDecision
from kaon.laws.tune.values_in_force import in_force, next_change
from kaon.store.live_status import LiveStatus
from kaon.store.port import Change, Store
from kaon.store.snapshot import Snapshot
from kaon.store.traffic import RING_S, TrafficRing
from kaon.store.writes import KeepJournal, UpdateStatus
from kaon.types.deployment import RolloutState, RolloutStatus, ScalingStatus
from kaon.types.journal import JournalEntry
from kaon.types.names import DeploymentKey, deployment_key
from kaon.types.resource import Deployment
from kaon.types.service import ServiceSpec

TICK_S = 2.0
PAST_STEPS = 2000
"""Steps of the past that laws are taken through in one tick: some tenths of a second after a restart."""
PAST_STEPS_IN_ALL = 30_000
"""With many deployments each replays less, so that all decide again within half a minute."""
RETELL_S = 600.0
"""Least interval of journal entries of the same kind without a change of number."""
ENTRIES = 50
"""Reasons that change no number are journalled at most so many a tick; others wait for the next."""
WEEK_S = 7 * 86_400.0
WOKEN_S = 10.0
"""By then callers that woke a deployment are in the figures."""
_BREATH = 25
"""After so many deployments the event loop is yielded."""

_UNKNOWN = ServiceSpec(name="unknown", entry="unknown:Unknown")
_TICK = "scaling-tick"
_NUMBERS = re.compile(r"[\d.,]+")


class _Situation(NamedTuple):
    """What a tick needs to know of a deployment, which changes only with it."""

    bounds: Bounds
    wanted: int
    ready: int
    starting: int
    rolling: bool
    proven: bool
    shadow: int | None
    created_at: float


@dataclass(slots=True)
class _Judged:
    """A deployment with a variable number of replicas, and its law."""

    deployment: Deployment
    situation: _Situation
    mind: ScalerSession
    told: dict[str, float] = field(default_factory=dict)
    """Kinds of reasons in the journal, and when they were written, epoch seconds."""
    said: ScalingDecision | None = None
    """The last decision, also if it changed nothing."""
    woken_at: float = float("-inf")

    @property
    def key(self) -> DeploymentKey:
        return self.deployment.workspace, self.deployment.name

    def update(self, deployment: Deployment) -> None:
        """Replace the deployment by a newer version of it."""
        self.deployment, self.situation = deployment, _situation(deployment)


class ScalingController:
    """The reconciler of desired numbers of replicas; a key is a deployment's workspace and name.

    As a reconciler it keeps track of the deployments; `next_tick` runs their scaling laws.
    """

    name = "scaling"

    def __init__(
        self,
        store: Store,
        clock: Clock,
        traffic: TrafficRing,
        opinions: LiveStatus,
        snapshot: Snapshot | None = None,
    ) -> None:
        self._store = store
        self.snapshot = snapshot or Snapshot(store)
        self._clock = clock
        self._traffic = traffic
        self._opinions = opinions
        self._judged: dict[DeploymentKey, _Judged] = {}
        self._log = log.get("control.scaling")

    async def keys(self) -> Collection[DeploymentKey]:
        """Every deployment, and deleted ones."""
        await self.snapshot.at_least(self._store.written)
        return {(d.workspace, d.name) for d in self.snapshot.list("deployment")} | self._judged.keys()

    async def affected(self, changes: Sequence[Change]) -> Collection[DeploymentKey]:
        """The deployments that changed, and those that callers wait for."""
        found = {(change.workspace, change.name) for change in changes if change.kind == "deployment"}
        if any(change.kind == "cloud" for change in changes):
            await self.snapshot.at_least(self._store.written)
            found |= self._held().keys() & self._judged.keys()
        return found

    def _held(self) -> Counter[DeploymentKey]:
        """How many callers wait for a replica of each deployment, as the clouds report it."""
        held: Counter[DeploymentKey] = Counter()
        for cloud in self.snapshot.list("cloud"):
            for place, callers in cloud.status.report.held.items() if cloud.status.report else ():
                held[deployment_key(place)] += callers
        return held

    async def reconcile(self, key: DeploymentKey) -> Again | None:
        """Take in the deployment's current state; write what is wanted where that is not for the law to decide."""
        await self.snapshot.at_least(self._store.written)
        deployment = self.snapshot.find("deployment", *key)
        known = self._judged.get(key)
        if known and (deployment is None or deployment.uid != known.deployment.uid or not _elastic(deployment)):
            del self._judged[key]
            self._opinions.forget(*key)
            known = None
        if deployment is None:
            return None
        if not _elastic(deployment):
            await self._write_fixed(deployment)
            return None
        terms = self.terms(deployment)
        if known is not None:
            known.mind.adapt(terms)
        else:
            self._judged[key] = known = _Judged(deployment, _situation(deployment), await self._mind(deployment, terms))
            self._opinions.keep(*key, partial(self._entry, known), deployment.uid)
        if deployment.version > known.deployment.version:
            if _wanted(known.deployment) == 0 and _wanted(deployment) > 0:
                known.woken_at = self._clock.now()
            known.update(deployment)
        await self._wake(known)
        ends = next_change(deployment.status.tuning, self._clock.now())
        return None if ends is None else Again(ends - self._clock.now())

    async def _write_fixed(self, deployment: Deployment) -> None:
        fixed = ScalingStatus(wanted=deployment.spec.scaling.min)
        if deployment.status.scaling != fixed:
            await self._store.write([_scaled(deployment, fixed)])

    async def _wake(self, judged: _Judged) -> None:
        """Want a replica at once where there is none and callers wait: the next tick may be `TICK_S` away."""
        deployment, status = judged.deployment, judged.deployment.status
        held = self._held()[judged.key]
        scaling = rollout.woken(deployment.spec, status.rollout, status.scaling, held)
        if scaling is status.scaling:
            return
        entry = self._journal_entry(deployment, str(scaling.wanted), scaling.reason, {})
        [written] = await self._store.write([_scaled(deployment, scaling), KeepJournal([entry])])
        judged.update(written)
        judged.woken_at = self._clock.now()

    def mind(self, key: DeploymentKey) -> ScalerSession | None:
        """The session of a deployment's law; None where nothing is to be decided."""
        judged = self._judged.get(key)
        return judged.mind if judged else None

    async def next_tick(self) -> None:
        """Run all laws, `TICK_S` from now."""
        await self._clock.sleep(TICK_S)
        await self.tick()

    async def tick(self) -> None:
        """Run all laws once, and write changes."""
        now, left = self._clock.now(), PAST_STEPS
        entries: list[JournalEntry] = []
        writes = []
        for number, judged in enumerate(list(self._judged.values()), start=1):
            try:
                decision, taken = self._judge(judged, now, left)
            except Exception as error:  # a failure of one deployment must not stop the others
                self._log.exception("no decision", deployment=judged.deployment.name)
                self._opinions.failures.note(_TICK, judged.key, error)
                continue
            self._opinions.failures.settle(_TICK, judged.key)
            left -= taken
            if decision is not None:
                before = judged.deployment.status.scaling.wanted
                if decision.replicas != (judged.situation.wanted if before is None else before):
                    _is_news(judged, decision, now)
                    writes.append(self._write(judged, judged.deployment, decision))
                elif len(entries) < ENTRIES and _is_news(judged, decision, now):
                    entries.append(self._entry(judged, decision))
            if number % _BREATH == 0 or taken:
                await asyncio.sleep(0)
        done = await asyncio.gather(*writes, return_exceptions=True)
        if entries:
            await self._store.keep_journal(entries)
        for failure in done:
            if isinstance(failure, BaseException):
                raise failure

    def _judge(self, judged: _Judged, now: float, left: int) -> tuple[ScalingDecision | None, int]:
        """The decision on a deployment, and the number of replayed steps of its past."""
        situation, mind = judged.situation, judged.mind
        news, mind.count = self._traffic.news(*judged.key, mind.count)
        fresh = [s for s in news if s.revision != situation.shadow and s.at_s > situation.created_at]
        heard = mind.hear(fresh, now, max(60, PAST_STEPS_IN_ALL // len(self._judged)))
        taken = mind.relive(left) if mind.behind else 0
        said = mind.decide(heard, now, situation.wanted, situation.ready, situation.starting)
        if said is None:
            return None, taken
        standing = RestraintState(
            wanted=situation.wanted,
            informed=mind.informed,
            rolling=situation.rolling,
            proven=situation.proven,
            held=max(mind.held, int(now - judged.woken_at < WOKEN_S)),
        )
        judged.said = restrain(said, standing, situation.bounds, now)
        return judged.said, taken

    async def _write(self, judged: _Judged, deployment: Deployment, decision: ScalingDecision) -> None:
        """Write the decided number and the decision; nothing when another writer was faster."""
        scaling = ScalingStatus(wanted=decision.replicas, reason=decision.reason)
        try:
            [written] = await self._store.write(
                [_scaled(deployment, scaling), KeepJournal([self._entry(judged, decision)])]
            )
        except (Conflict, NotFound):
            return
        if written.version > judged.deployment.version:
            judged.update(written)

    def _entry(self, judged: _Judged, decision: ScalingDecision | None = None) -> JournalEntry:
        """The journal entry of a decision, by default of the last one."""
        deployment, said = judged.deployment, decision or judged.said
        after = _wanted(deployment) if said is None else said.replicas
        reason = "it is replaying the past" if said is None else said.reason
        return self._journal_entry(deployment, str(after), reason, judged.mind.figures())

    def _journal_entry(self, deployment: Deployment, after: str, reason: str, figures: dict[str, Any]) -> JournalEntry:
        return JournalEntry(
            at=self._clock.now(),
            workspace=deployment.workspace,
            deployment=deployment.name,
            uid=deployment.uid,
            concern="scaling",
            before=str(_wanted(deployment)),
            after=after,
            reason=reason,
            figures=figures,
        )

    async def _mind(self, deployment: Deployment, terms: ScalerTerms) -> ScalerSession:
        mind, now = ScalerSession(terms), self._clock.now()
        if terms.scaling.min == 0 and terms.scaling.keep_alive_s is None:
            since = max(deployment.created_at, now - WEEK_S)
            minutes = await self._store.traffic(deployment.workspace, deployment.name, since)
            mind.recall([minute for minute in minutes if minute.at_s <= now - RING_S])
        return mind

    def terms(self, deployment: Deployment) -> ScalerTerms:
        """The parameters of a deployment's law. Raises `KaonError` when its artifact cannot be read."""
        artifact = self.snapshot.find("artifact", deployment.workspace, deployment.spec.template.artifact)
        service = _UNKNOWN if artifact is None else artifact.spec.manifest.service
        tuned = in_force(deployment.status.tuning, self._clock.now())
        return ScalerTerms(deployment.spec.scaling, deployment.spec.objective or service.objective, service, tuned)


def _scaled(deployment: Deployment, scaling: ScalingStatus) -> UpdateStatus:
    return UpdateStatus(deployment, deployment.status.model_copy(update={"scaling": scaling}))


def _situation(deployment: Deployment) -> _Situation:
    status: RolloutStatus = deployment.status.rollout
    serving = [a for a in status.assignments if a.revision != status.shadow]
    ready = sum(a.ready for a in serving)
    return _Situation(
        bounds=choice.bounds(deployment.spec.scaling),
        wanted=_wanted(deployment),
        ready=ready,
        starting=sum(a.replicas for a in serving) - ready,
        rolling=rolling(status),
        proven=status.stable is not None,
        shadow=status.shadow,
        created_at=deployment.created_at,
    )


def _elastic(deployment: Deployment) -> bool:
    scaling = deployment.spec.scaling
    return bool(scaling.min < scaling.max)


def _wanted(deployment: Deployment) -> int:
    status = deployment.status
    return rollout.desired_replicas(deployment.spec, status.rollout, status.scaling)


def rolling(status: RolloutStatus) -> bool:
    """Whether a rollout from one revision to another is going on."""
    serving = {a.revision for a in status.assignments if a.revision != status.shadow}
    coming = status.state is RolloutState.PROGRESSING and status.stable is not None and status.stable != status.target
    return len(serving) > 1 or coming


def _is_news(judged: _Judged, decision: ScalingDecision, now: float) -> bool:
    """Whether a reason of this kind, ignoring numbers, was not recently in the journal; records it."""
    kind = _NUMBERS.sub("#", decision.reason)
    first, at = not judged.told, judged.told.get(kind, -RETELL_S)
    if now - at < RETELL_S:
        return False
    judged.told = {told: when for told, when in judged.told.items() if now - when < RETELL_S} | {kind: now}
    return not first
