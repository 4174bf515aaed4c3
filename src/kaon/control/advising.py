"""Advice on every deployment: each minute of its traffic is judged, and what stands is there for whoever asks.

The minutes are those that the store keeps (`kaon.control.minutes`), some seconds after they are over. So nothing of
what is known here needs to be kept: after a restart a deployment's last day is gone through again, in silence. Many
deployments have shorter days, so that all know what is usual within a minute.

As a reconciler it knows the deployments as they are now: what the command of a piece of advice has changed is dropped
at once. What begins to stand or is dropped goes to the journal and the events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

from kaon import log
from kaon.clock import Clock
from kaon.control.loop import Again
from kaon.control.scaling import ScalingController
from kaon.laws import advise, choice
from kaon.laws.advise import AdviceMinute, AdviceState, AdviceTerms
from kaon.laws.traffic import MINUTE_S, merge, window
from kaon.store.live_status import LiveStatus
from kaon.store.port import Change, Store
from kaon.store.writes import KeepJournal, RecordEvents
from kaon.types.advice import Advice, Finding
from kaon.types.event import Event, EventLevel
from kaon.types.journal import JournalEntry
from kaon.types.names import DeploymentKey
from kaon.types.resource import Deployment
from kaon.types.traffic import Sample

CONCERN = "advice"
SETTLED_S = 20.0
"""After its end, when a minute is in the store."""
FIRST_S = 3.0
"""After a start, when the deployments are known."""
DAY_S, LEAST_PAST_S, PAST_IN_ALL_S = 86_400.0, 7200.0, 600 * 3600.0
"""How far back a deployment is judged again after a restart: a day, or less where there are many."""
_TICK = "advising-tick"
_BREATH = 20
"""After so many minutes others may use the loop."""
_ALARMING = {Finding.ERRORS, Finding.MEMORY, Finding.UNDERSIZED, Finding.LATENCY}


@dataclass(slots=True)
class _Advised:
    """A deployment, what is known of it, and the minute up to which."""

    deployment: Deployment
    state: AdviceState
    until_s: float | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Minutes and changes are taken in one after the other."""


class AdviceController:
    """The reconciler of advice; a key is a deployment's workspace and name."""

    name = "advising"

    def __init__(self, store: Store, clock: Clock, live_status: LiveStatus, scaling: ScalingController) -> None:
        self._store = store
        self._snapshot = scaling.snapshot
        self._clock = clock
        self._live_status = live_status
        self._scaling = scaling
        self._advised: dict[DeploymentKey, _Advised] = {}
        self._wait_s = FIRST_S
        self._log = log.get("control.advising")

    async def keys(self) -> Collection[DeploymentKey]:
        """Every deployment, and those that are gone."""
        await self._snapshot.at_least(self._store.written)
        return {(d.workspace, d.name) for d in self._snapshot.list("deployment")} | self._advised.keys()

    async def affected(self, changes: Sequence[Change]) -> Collection[DeploymentKey]:
        """The deployments that changed."""
        return {(change.workspace, change.name) for change in changes if change.kind == "deployment"}

    async def reconcile(self, key: DeploymentKey) -> Again | None:
        """Know the deployment as it is now, and drop what is not so any more."""
        await self._snapshot.at_least(self._store.written)
        deployment = self._snapshot.find("deployment", *key)
        known = self._advised.get(key)
        if known and (deployment is None or deployment.uid != known.deployment.uid):
            del self._advised[key]
            self._live_status.forget_advice(*key)
            known = None
        if deployment is None:
            return None
        terms = self._terms(deployment)
        if known is None:
            self._advised[key] = known = _Advised(deployment, advise.begin(terms))
            self._live_status.keep_advice(*key, partial(_standing, known), deployment.uid)
        elif deployment.version > known.deployment.version:
            async with known.lock:
                known.deployment = deployment
                before = advise.advice(known.state)
                known.state = advise.adapt(known.state, terms, self._clock.now())
                await self._tell(known, before, "what it is about was changed")
        return None

    async def next_tick(self) -> None:
        """Judge each minute of all once it is settled; the first time, soon, what there is from before."""
        await self._clock.sleep(self._wait_s)
        self._wait_s = (SETTLED_S - self._clock.now()) % MINUTE_S or MINUTE_S
        await self.tick()

    async def tick(self) -> None:
        """Judge what minutes there are that were not judged yet; of what fails, the next time does what is left."""
        for key, known in list(self._advised.items()):
            try:
                async with known.lock:
                    await self._judge(known)
                self._live_status.failures.settle(_TICK, key)
            except Exception as error:  # one deployment's failure, even a bug's, is not the others'
                self._log.warning("no advice", deployment=known.deployment.name, exc_info=error)
                self._live_status.failures.note(_TICK, key, error)

    async def _judge(self, known: _Advised) -> None:
        deployment, now = known.deployment, self._clock.now()
        relives = known.until_s is None
        past_s = min(DAY_S, max(LEAST_PAST_S, PAST_IN_ALL_S / len(self._advised)))
        since = max(deployment.created_at, now - past_s) if known.until_s is None else known.until_s
        terms, before = self._terms(deployment), advise.advice(known.state)
        minutes = await self._store.traffic(deployment.workspace, deployment.name, since)
        known.until_s = max([since, *(minute.at_s for minute in minutes)])
        for number, seen in enumerate(_seen(terms, minutes, deployment.status.rollout.shadow)):
            if number % _BREATH == 0:
                await asyncio.sleep(0)
            known.state = advise.step(known.state, seen)
        if not relives:
            await self._tell(known, before, "it is well again")

    def _terms(self, deployment: Deployment) -> AdviceTerms:
        scaling, objective, service, _ = self._scaling.terms(deployment)
        status, largest = deployment.status, choice.max_batch(service)
        tuner = self._live_status.tuning(deployment.workspace, deployment.name, deployment.uid) if largest > 1 else None
        return AdviceTerms(
            workspace=deployment.workspace,
            deployment=deployment.name,
            objective=objective,
            least=scaling.min,
            most=scaling.max,
            largest_batch=largest,
            memory_limit_bytes=(deployment.spec.template.resources or service.resources).memory_bytes,
            revision=status.rollout.stable,
            mode=deployment.spec.tuning.mode,
            tuned=status.tuning.values,
            recommended=status.tuning.recommended,
            knobs={knob.name: knob for knob in tuner.knobs} if tuner else {},
        )

    async def _tell(self, known: _Advised, before: Sequence[Advice], settled: str) -> None:
        """Write down what has begun to stand, and what does not any more, which is because of `settled`."""
        after, now = advise.advice(known.state), self._clock.now()
        was, is_ = {a.finding for a in before}, {a.finding for a in after}
        begun, gone = [a for a in after if a.finding not in was], [a for a in before if a.finding not in is_]
        entries = [_entry(a, now, "", a.finding, a.evidence) for a in begun]
        entries += [_entry(a, now, a.finding, "settled", settled) for a in gone]
        if entries:
            told = [_begun(a, now) for a in begun] + [_gone(a, now, settled) for a in gone]
            whose = {"uid": known.deployment.uid}
            journal = KeepJournal([entry.model_copy(update=whose) for entry in entries])
            await self._store.write([journal, RecordEvents([event.model_copy(update=whose) for event in told])])


def _standing(known: _Advised) -> tuple[Advice, ...] | None:
    """What stands; None: there are no figures yet."""
    return advise.advice(known.state) if known.state.day else None


def _seen(terms: AdviceTerms, minutes: Sequence[Sample], shadow: int | None) -> Iterator[AdviceMinute]:
    """Each minute of all revisions that serve."""
    serving = (minute for minute in minutes if minute.revision != shadow)
    for at_s, group in groupby(serving, key=lambda minute: minute.at_s):
        parts = list(group)
        held = [minute.arrivals for minute in parts if minute.revision == 0 and minute.arrivals is not None]
        yield AdviceMinute(terms, window(parts, at_s, MINUTE_S, terms.objective), sum(held), merge(parts).batches)


def _entry(advice: Advice, now: float, before: str, after: str, reason: str) -> JournalEntry:
    return JournalEntry(
        at=now,
        workspace=advice.workspace,
        deployment=advice.deployment,
        concern=CONCERN,
        before=before,
        after=after,
        reason=reason,
        figures={"gain": advice.gain, "command": advice.command},
    )


def _begun(advice: Advice, now: float) -> Event:
    level = EventLevel.WARNING if advice.finding in _ALARMING else EventLevel.NORMAL
    return _event(advice, now, "Advice", f"{advice.finding}: {advice.evidence}. Try: {advice.command}", level)


def _gone(advice: Advice, now: float, settled: str) -> Event:
    return _event(advice, now, "AdviceSettled", f"{advice.finding}: {settled}.", EventLevel.NORMAL)


def _event(advice: Advice, now: float, reason: str, message: str, level: EventLevel) -> Event:
    return Event(
        at=now,
        workspace=advice.workspace,
        kind="deployment",
        name=advice.deployment,
        level=level,
        reason=reason,
        message=message,
    )
