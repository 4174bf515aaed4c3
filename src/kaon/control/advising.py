"""Advice on every deployment: each minute of its traffic is judged; active findings are in `kaon.store.live_status`.

The minutes are those of the store (`kaon.control.minutes`), some seconds after their end. So no state is stored: after
a restart a deployment's last day is judged again, without events. With many deployments a shorter time is judged, so
that all are done within a minute.

As a reconciler it takes in changes of deployments: advice that has been followed ends at once. Findings that become
active or end are written to the journal and the events.
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
"""How long after its end a minute is in the store."""
FIRST_S = 3.0
"""How long after a start the first minutes are judged."""
DAY_S, LEAST_PAST_S, PAST_IN_ALL_S = 86_400.0, 7200.0, 600 * 3600.0
"""How far back a deployment is judged again after a restart: a day, or less when there are many."""
_TICK_FAILURE = "advising-tick"
_YIELD_EVERY = 20
"""After so many minutes the event loop is yielded."""
_ALARMING = {Finding.ERRORS, Finding.MEMORY, Finding.UNDERSIZED, Finding.LATENCY}


@dataclass(slots=True)
class _Advised:
    """A deployment, the state of its advice, and the end of the last judged minute."""

    deployment: Deployment
    state: AdviceState
    until_s: float | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while minutes or a change are taken in."""


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
        """Every deployment, and deleted ones."""
        await self._snapshot.at_least(self._store.written)
        return {(d.workspace, d.name) for d in self._snapshot.list("deployment")} | self._advised.keys()

    async def affected(self, changes: Sequence[Change]) -> Collection[DeploymentKey]:
        """The deployments that changed."""
        return {(change.workspace, change.name) for change in changes if change.kind == "deployment"}

    async def reconcile(self, key: DeploymentKey) -> Again | None:
        """Take in the deployment's current state, and end advice that does not apply any more."""
        await self._snapshot.at_least(self._store.written)
        deployment = self._snapshot.find("deployment", *key)
        advised = self._advised.get(key)
        if advised and (deployment is None or deployment.uid != advised.deployment.uid):
            del self._advised[key]
            self._live_status.forget_advice(*key)
            advised = None
        if deployment is None:
            return None
        terms = self._terms(deployment)
        if advised is None:
            self._advised[key] = advised = _Advised(deployment, advise.begin(terms))
            self._live_status.keep_advice(*key, partial(_active, advised), deployment.uid)
        elif deployment.version > advised.deployment.version:
            async with advised.lock:
                advised.deployment = deployment
                before = advise.advice(advised.state)
                advised.state = advise.adapt(advised.state, terms, self._clock.now())
                await self._report(advised, before, "the deployment was changed")
        return None

    async def next_tick(self) -> None:
        """Judge the minutes of all deployments once a minute; the first time soon, with earlier minutes."""
        await self._clock.sleep(self._wait_s)
        self._wait_s = (SETTLED_S - self._clock.now()) % MINUTE_S or MINUTE_S
        await self.tick()

    async def tick(self) -> None:
        """Judge all new minutes; after a failure the next tick continues."""
        for key, advised in list(self._advised.items()):
            try:
                async with advised.lock:
                    await self._judge(advised)
                self._live_status.failures.settle(_TICK_FAILURE, key)
            except Exception as error:  # a failure of one deployment must not stop the others
                self._log.warning("no advice", deployment=advised.deployment.name, exc_info=error)
                self._live_status.failures.note(_TICK_FAILURE, key, error)

    async def _judge(self, advised: _Advised) -> None:
        deployment, now = advised.deployment, self._clock.now()
        first = advised.until_s is None
        past_s = min(DAY_S, max(LEAST_PAST_S, PAST_IN_ALL_S / len(self._advised)))
        since = max(deployment.created_at, now - past_s) if advised.until_s is None else advised.until_s
        terms, before = self._terms(deployment), advise.advice(advised.state)
        minutes = await self._store.traffic(deployment.workspace, deployment.name, since)
        advised.until_s = max([since, *(minute.at_s for minute in minutes)])
        for number, minute in enumerate(_minutes(terms, minutes, deployment.status.rollout.shadow)):
            if number % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
            advised.state = advise.step(advised.state, minute)
        if not first:
            await self._report(advised, before, "it is over")

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

    async def _report(self, advised: _Advised, before: Sequence[Advice], settled: str) -> None:
        """Record findings that have become active, and those that have ended, for the reason `settled`."""
        after, now = advise.advice(advised.state), self._clock.now()
        was, is_ = {a.finding for a in before}, {a.finding for a in after}
        started, ended = [a for a in after if a.finding not in was], [a for a in before if a.finding not in is_]
        entries = [_entry(a, now, "", a.finding, a.evidence) for a in started]
        entries += [_entry(a, now, a.finding, "settled", settled) for a in ended]
        if entries:
            events = [_started_event(a, now) for a in started] + [_settled_event(a, now, settled) for a in ended]
            owner = {"uid": advised.deployment.uid}
            journal = KeepJournal([entry.model_copy(update=owner) for entry in entries])
            await self._store.write([journal, RecordEvents([event.model_copy(update=owner) for event in events])])


def _active(advised: _Advised) -> tuple[Advice, ...] | None:
    """The active advice; None: there are no figures yet."""
    return advise.advice(advised.state) if advised.state.day else None


def _minutes(terms: AdviceTerms, minutes: Sequence[Sample], shadow: int | None) -> Iterator[AdviceMinute]:
    """Each minute of all serving revisions together."""
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


def _started_event(advice: Advice, now: float) -> Event:
    level = EventLevel.WARNING if advice.finding in _ALARMING else EventLevel.NORMAL
    return _event(advice, now, "Advice", f"{advice.finding}: {advice.evidence}. Try: {advice.command}", level)


def _settled_event(advice: Advice, now: float, settled: str) -> Event:
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
