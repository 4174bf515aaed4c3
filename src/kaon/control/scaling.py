"""The desired number of replicas of each deployment, from its traffic.

Every `TICK_S` the scaling law of each deployment with a variable number of replicas (min below max) decides
(`kaon.control.scaler`) from the agents' counts; `kaon.laws.restraint` limits the decision. A changed number is
written to `status.scaling`; the reconciler of deployments assigns the replicas. A write that conflicts with another one
is not repeated: the next tick decides again.

Decisions go to the journal with their figures: each new number, and each new kind of reason. The last decision of every
deployment is in `kaon.store.live_status`.
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
"""Steps that are replayed in one tick: some tenths of a second after a restart."""
PAST_STEPS_IN_ALL = 30_000
"""With many deployments each replays less, so that all decide again within half a minute."""
REPEAT_S = 600.0
"""Least interval of journal entries of the same kind without a change of number."""
ENTRIES = 50
"""Reasons that change no number are journalled at most so many a tick; others wait for the next."""
WEEK_S = 7 * 86_400.0
WOKEN_S = 10.0
"""After this time the figures contain the callers that woke a deployment."""
_YIELD_EVERY = 25
"""After so many deployments the event loop is yielded."""

_UNKNOWN = ServiceSpec(name="unknown", entry="unknown:Unknown")
_TICK = "scaling-tick"
_NUMBERS = re.compile(r"[\d.,]+")


class _Situation(NamedTuple):
    """What a tick reads of a deployment, derived once per version of it."""

    bounds: Bounds
    wanted: int
    ready: int
    starting: int
    rolling: bool
    proven: bool
    shadow: int | None
    created_at: float


@dataclass(slots=True)
class _Scaled:
    """A deployment with a variable number of replicas, and its law."""

    deployment: Deployment
    situation: _Situation
    session: ScalerSession
    journalled: dict[str, float] = field(default_factory=dict)
    """Kinds of reasons in the journal, and when they were written, epoch seconds."""
    decision: ScalingDecision | None = None
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
        live_status: LiveStatus,
        snapshot: Snapshot | None = None,
    ) -> None:
        self._store = store
        self.snapshot = snapshot or Snapshot(store)
        self._clock = clock
        self._traffic = traffic
        self._live_status = live_status
        self._deployments: dict[DeploymentKey, _Scaled] = {}
        self._log = log.get("control.scaling")

    async def keys(self) -> Collection[DeploymentKey]:
        """Every deployment, and deleted ones."""
        await self.snapshot.at_least(self._store.written)
        return {(d.workspace, d.name) for d in self.snapshot.list("deployment")} | self._deployments.keys()

    async def affected(self, changes: Sequence[Change]) -> Collection[DeploymentKey]:
        """The deployments that changed, and those that callers wait for."""
        found = {(change.workspace, change.name) for change in changes if change.kind == "deployment"}
        if any(change.kind == "cloud" for change in changes):
            await self.snapshot.at_least(self._store.written)
            found |= self._held().keys() & self._deployments.keys()
        return found

    def _held(self) -> Counter[DeploymentKey]:
        """How many callers wait for a replica of each deployment, as the clouds report it."""
        held: Counter[DeploymentKey] = Counter()
        for cloud in self.snapshot.list("cloud"):
            for place, callers in cloud.status.report.held.items() if cloud.status.report else ():
                held[deployment_key(place)] += callers
        return held

    async def reconcile(self, key: DeploymentKey) -> Again | None:
        """Take in the deployment's current state; write the number of replicas where it is fixed."""
        await self.snapshot.at_least(self._store.written)
        deployment = self.snapshot.find("deployment", *key)
        scaled = self._deployments.get(key)
        if scaled and (deployment is None or deployment.uid != scaled.deployment.uid or not _elastic(deployment)):
            del self._deployments[key]
            self._live_status.forget(*key)
            scaled = None
        if deployment is None:
            return None
        if not _elastic(deployment):
            await self._write_fixed(deployment)
            return None
        terms = self.terms(deployment)
        if scaled is not None:
            scaled.session.adapt(terms)
        else:
            session = await self._new_session(deployment, terms)
            self._deployments[key] = scaled = _Scaled(deployment, _situation(deployment), session)
            self._live_status.keep(*key, partial(self._entry, scaled), deployment.uid)
        if deployment.version > scaled.deployment.version:
            if _wanted(scaled.deployment) == 0 and _wanted(deployment) > 0:
                scaled.woken_at = self._clock.now()
            scaled.update(deployment)
        await self._wake(scaled)
        ends = next_change(deployment.status.tuning, self._clock.now())
        return None if ends is None else Again(ends - self._clock.now())

    async def _write_fixed(self, deployment: Deployment) -> None:
        fixed = ScalingStatus(wanted=deployment.spec.scaling.min)
        if deployment.status.scaling != fixed:
            await self._store.write([_write_of(deployment, fixed)])

    async def _wake(self, scaled: _Scaled) -> None:
        """Want a replica at once when callers wait at zero replicas; the next tick may be `TICK_S` away."""
        deployment, status = scaled.deployment, scaled.deployment.status
        held = self._held()[scaled.key]
        scaling = rollout.woken(deployment.spec, status.rollout, status.scaling, held)
        if scaling is status.scaling:
            return
        entry = self._journal_entry(deployment, str(scaling.wanted), scaling.reason, {})
        [written] = await self._store.write([_write_of(deployment, scaling), KeepJournal([entry])])
        scaled.update(written)
        scaled.woken_at = self._clock.now()

    def session(self, key: DeploymentKey) -> ScalerSession | None:
        """The session of a deployment's law; None: its number of replicas is fixed."""
        scaled = self._deployments.get(key)
        return scaled.session if scaled else None

    async def next_tick(self) -> None:
        """Run all laws, `TICK_S` from now."""
        await self._clock.sleep(TICK_S)
        await self.tick()

    async def tick(self) -> None:
        """Run all laws once, and write changes."""
        now, left = self._clock.now(), PAST_STEPS
        entries: list[JournalEntry] = []
        writes = []
        for number, scaled in enumerate(list(self._deployments.values()), start=1):
            try:
                decision, taken = self._decide(scaled, now, left)
            except Exception as error:  # a failure of one deployment must not stop the others
                self._log.exception("no decision", deployment=scaled.deployment.name)
                self._live_status.failures.note(_TICK, scaled.key, error)
                continue
            self._live_status.failures.settle(_TICK, scaled.key)
            left -= taken
            if decision is not None:
                before = scaled.deployment.status.scaling.wanted
                if decision.replicas != (scaled.situation.wanted if before is None else before):
                    _is_new_reason(scaled, decision, now)
                    writes.append(self._write(scaled, scaled.deployment, decision))
                elif len(entries) < ENTRIES and _is_new_reason(scaled, decision, now):
                    entries.append(self._entry(scaled, decision))
            if number % _YIELD_EVERY == 0 or taken:
                await asyncio.sleep(0)
        done = await asyncio.gather(*writes, return_exceptions=True)
        if entries:
            await self._store.keep_journal(entries)
        for failure in done:
            if isinstance(failure, BaseException):
                raise failure

    def _decide(self, scaled: _Scaled, now: float, left: int) -> tuple[ScalingDecision | None, int]:
        """The decision on a deployment, and the number of replayed steps of its past."""
        situation, session = scaled.situation, scaled.session
        news, session.count = self._traffic.news(*scaled.key, session.count)
        samples = [s for s in news if s.revision != situation.shadow and s.at_s > situation.created_at]
        observed = session.add_samples(samples, now, max(60, PAST_STEPS_IN_ALL // len(self._deployments)))
        taken = session.replay(left) if session.has_backlog else 0
        decision = session.decide(observed, now, situation.wanted, situation.ready, situation.starting)
        if decision is None:
            return None, taken
        state = RestraintState(
            wanted=situation.wanted,
            informed=session.informed,
            rolling=situation.rolling,
            proven=situation.proven,
            held=max(session.held, int(now - scaled.woken_at < WOKEN_S)),
        )
        scaled.decision = restrain(decision, state, situation.bounds, now)
        return scaled.decision, taken

    async def _write(self, scaled: _Scaled, deployment: Deployment, decision: ScalingDecision) -> None:
        """Write the decided number and the decision; nothing when another writer was faster."""
        scaling = ScalingStatus(wanted=decision.replicas, reason=decision.reason)
        try:
            [written] = await self._store.write(
                [_write_of(deployment, scaling), KeepJournal([self._entry(scaled, decision)])]
            )
        except (Conflict, NotFound):
            return
        if written.version > scaled.deployment.version:
            scaled.update(written)

    def _entry(self, scaled: _Scaled, decision: ScalingDecision | None = None) -> JournalEntry:
        """The journal entry of a decision, by default of the last one."""
        deployment, decision = scaled.deployment, decision or scaled.decision
        after = _wanted(deployment) if decision is None else decision.replicas
        reason = "it is replaying the past" if decision is None else decision.reason
        return self._journal_entry(deployment, str(after), reason, scaled.session.figures())

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

    async def _new_session(self, deployment: Deployment, terms: ScalerTerms) -> ScalerSession:
        session, now = ScalerSession(terms), self._clock.now()
        if terms.scaling.min == 0 and terms.scaling.keep_alive_s is None:
            since = max(deployment.created_at, now - WEEK_S)
            minutes = await self._store.traffic(deployment.workspace, deployment.name, since)
            session.load_history([minute for minute in minutes if minute.at_s <= now - RING_S])
        return session

    def terms(self, deployment: Deployment) -> ScalerTerms:
        """The parameters of a deployment's law. Raises `KaonError` when its artifact cannot be read."""
        artifact = self.snapshot.find("artifact", deployment.workspace, deployment.spec.template.artifact)
        service = _UNKNOWN if artifact is None else artifact.spec.manifest.service
        tuned = in_force(deployment.status.tuning, self._clock.now())
        return ScalerTerms(deployment.spec.scaling, deployment.spec.objective or service.objective, service, tuned)


def _write_of(deployment: Deployment, scaling: ScalingStatus) -> UpdateStatus:
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


def _is_new_reason(scaled: _Scaled, decision: ScalingDecision, now: float) -> bool:
    """Whether a reason of this kind, ignoring numbers, was not recently in the journal; records it."""
    kind = _NUMBERS.sub("#", decision.reason)
    first, at = not scaled.journalled, scaled.journalled.get(kind, -REPEAT_S)
    if now - at < REPEAT_S:
        return False
    recent = {kind_: at_s for kind_, at_s in scaled.journalled.items() if now - at_s < REPEAT_S}
    scaled.journalled = recent | {kind: now}
    return not first
