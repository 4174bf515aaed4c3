"""The live tuner of all deployments: runs each every 10 s, and writes its decisions to the status.

`kaon.control.tune.session` decides, for one deployment and without a store. It gets the agents' counts and the states
of the deployment and the scaling law; its decision is written by compare-and-set to `status.tuning`, which the plan and
the scaling law read. After a conflict the write is repeated at once: a rollback must not wait for the next tick.

Queries to the twin run beside the ticks, at most one per deployment at a time. Searches of all deployments together use
at most `SHARE` of one processor, and start in the order in which they were due; those that a trial or a person waits
for start first. A twin that fails, or does not answer within `PATIENCE_S`, affects that deployment only.

As a reconciler it keeps track of the deployments; `next_tick` tunes them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

from kaon import log
from kaon.clock import Clock
from kaon.control.loop import Again
from kaon.control.scaler import ScalerTerms
from kaon.control.scaling import ScalingController, rolling
from kaon.control.tune import messages, state
from kaon.control.tune.queries import URGENT, TwinQueryKind
from kaon.control.tune.session import News, Tuner, TunerContext
from kaon.control.tune.twin_port import TwinPort
from kaon.errors import Conflict, KaonError, NotFound
from kaon.laws.tune import board
from kaon.laws.tune import scaling as knobs
from kaon.laws.tune.ask import TwinQuery
from kaon.laws.tune.guard import TICK_S
from kaon.laws.tune.knobs import Space
from kaon.laws.tune.values_in_force import commanded
from kaon.store.live_status import LiveStatus
from kaon.store.port import Change, Store
from kaon.store.traffic import TrafficRing
from kaon.store.writes import KeepJournal, RecordEvents, UpdateStatus, Write
from kaon.types.deployment import RolloutStatus
from kaon.types.journal import JournalEntry
from kaon.types.names import DeploymentKey
from kaon.types.resource import Deployment
from kaon.types.tuning import Tried, TuningState, TuningStatus

SHARE = 0.1
"""Share of one processor for the searches of all deployments."""
LIKELY_S = 2.0
"""Assumed processor seconds of the first search."""
PATIENCE_S = 120.0
HOURS_S = 7200.0
WEEK_S = 7 * 86_400.0
_TRIALS = 50
_JOURNAL = 200
_TRIES = 5
_BREATH = 10
"""After so many deployments the event loop is yielded."""

_TICK = "tuning-tick"
_NO_TWIN = "this control plane has none"


@dataclass(slots=True)
class _Tuned:
    """A deployment, its tuner, and news that are not written yet."""

    deployment: Deployment
    tuner: Tuner
    trials: deque[Tried]
    count: int = 0
    """The number of the last processed sample of the ring."""
    news: list[News] = field(default_factory=list)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    asking: asyncio.Task[None] | None = None
    recalled: bool = False
    """Whether the twin has the last week's minutes."""


class TuningController:
    """The reconciler of tuners; a key is a deployment's workspace and name."""

    name = "tuning"

    def __init__(
        self,
        store: Store,
        clock: Clock,
        traffic: TrafficRing,
        opinions: LiveStatus,
        scaling: ScalingController,
        twin: TwinPort | None = None,
    ) -> None:
        self._store = store
        self._snapshot = scaling.snapshot
        self._clock = clock
        self._traffic = traffic
        self._opinions = opinions
        self._scaling = scaling
        self._twin = twin
        self._tuned: dict[DeploymentKey, _Tuned] = {}
        self._known: set[DeploymentKey] = set()
        self._free_s = 0.0
        """When the next search may start."""
        self._log = log.get("control.tuning")

    async def keys(self) -> Collection[DeploymentKey]:
        """Every deployment, and deleted ones."""
        await self._snapshot.at_least(self._store.written)
        return {(d.workspace, d.name) for d in self._snapshot.list("deployment")} | self._known

    async def affected(self, changes: Sequence[Change]) -> Collection[DeploymentKey]:
        """The deployments that changed."""
        return {(change.workspace, change.name) for change in changes if change.kind == "deployment"}

    async def reconcile(self, key: DeploymentKey) -> Again | None:
        """Take in the deployment's current state; end a trial that is not valid any more."""
        await self._snapshot.at_least(self._store.written)
        deployment = self._snapshot.find("deployment", *key)
        known = self._tuned.get(key)
        if known is not None and (deployment is None or deployment.uid != known.deployment.uid):
            self._forget(key)
            known = None
        if deployment is None:
            self._forget(key)
            return None
        self._known.add(key)
        terms, space = self._terms(deployment)
        if space is None:
            self._forget(key)
            self._known.add(key)
            tuning = commanded(deployment.status.tuning, deployment.spec.tuning.commands)
            told = board.knobs(terms.service, terms.scaling, terms.objective, tuning)
            why = knobs.NOTHING
            self._opinions.keep_tuning(*key, partial(state.idle, deployment, told, why), deployment.uid)
            await self._clear(deployment, tuning)
            return None
        if known is None:
            known = await self._begin(deployment, terms, space)
        self._take_up(known, deployment, terms, space)
        await self._write(known)
        return None

    async def next_tick(self) -> None:
        """Run all tuners, `TICK_S` from now. While the store is unavailable values in force stay; agents end trials."""
        try:
            await self._clock.sleep(TICK_S)
            await self.tick()
        except asyncio.CancelledError:
            for known in self._tuned.values():
                if known.asking is not None:
                    known.asking.cancel()
            raise

    async def tick(self) -> None:
        """Run all tuners once, write changes, and start due queries to the twin."""
        failures: list[KaonError] = []
        for number, (key, known) in enumerate(list(self._tuned.items()), start=1):
            try:
                self._look(known)
                if known.tuner.news or known.tuner.wanted(self._clock.now()) != known.deployment.status.tuning:
                    await self._write(known)
                self._opinions.failures.settle(_TICK, key)
            except KaonError as error:  # what is not written is wanted still, by the next tick too
                failures.append(error)
            except Exception as error:  # one deployment's failure, even a bug's, is not the others'
                self._log.exception("not tuned", deployment=known.deployment.name)
                self._opinions.failures.note(_TICK, key, error)
            if number % _BREATH == 0:
                await asyncio.sleep(0)
        self._ask_what_is_due()
        if failures:
            raise failures[0]

    async def answers(self) -> None:
        """Wait until the twin has answered all running queries."""
        while asking := [known.asking for known in self._tuned.values() if known.asking is not None]:
            await asyncio.wait(asking)

    # One deployment

    def _look(self, known: _Tuned) -> None:
        deployment, now = known.deployment, self._clock.now()
        status: RolloutStatus = deployment.status.rollout
        news, known.count = self._traffic.news(deployment.workspace, deployment.name, known.count)
        known.tuner.world = world = self._world(deployment, now)
        known.tuner.hear([s for s in news if s.revision != status.shadow and s.at_s > deployment.created_at])
        known.tuner.look(world, now)

    def _world(self, deployment: Deployment, now: float) -> TunerContext:
        status: RolloutStatus = deployment.status.rollout
        mind = self._scaling.mind((deployment.workspace, deployment.name))
        serving = [a for a in status.assignments if a.revision != status.shadow]
        ready = sum(a.ready for a in serving)
        coming = [a for a in status.assignments if a.revision == status.shadow and a.ready < a.replicas]
        return TunerContext(
            ready=ready,
            starting=sum(a.replicas for a in serving) - ready,
            deploying=rolling(status) or status.stable is None or bool(coming),
            panicking=mind is not None and mind.state.panic_until_s > now,
            stood=None if mind is None else tuple(mind.stood),
        )

    async def _begin(self, deployment: Deployment, terms: ScalerTerms, space: Space) -> _Tuned:
        key, now = (deployment.workspace, deployment.name), self._clock.now()
        tuner = Tuner(key, deployment.spec, terms, space, deployment.status.tuning, now)
        tuner.questions.word = _NO_TWIN if self._twin is None else self._twin.missing()
        tuner.senses.recall(await self._store.traffic(*key, max(deployment.created_at, now - HOURS_S)))
        entries = await self._store.journal(*key, messages.CONCERN, _JOURNAL)
        told = [messages.tried(e.at, e.figures) for e in entries if e.at >= deployment.created_at]
        known = _Tuned(deployment, tuner, deque((one for one in told if one is not None), maxlen=_TRIALS))
        self._tuned[key] = known
        self._opinions.keep_tuning(*key, partial(self._state, known), deployment.uid)
        return known

    def _take_up(self, known: _Tuned, deployment: Deployment, terms: ScalerTerms, space: Space) -> None:
        """Take in what others wrote."""
        if deployment.version > known.deployment.version:
            known.deployment = deployment
            known.tuner.adapt(deployment.spec, terms, space, deployment.status.tuning, self._clock.now())

    async def _write(self, known: _Tuned) -> None:
        """Write the desired status together with its news."""
        key = known.deployment.workspace, known.deployment.name
        async with known.writing:
            for attempt in range(_TRIES):
                wanted = known.tuner.wanted(self._clock.now())
                deployment = known.deployment
                known.news, known.tuner.news = [*known.news, *known.tuner.news], []
                entries, writes = _records(known, key)
                changes = wanted != deployment.status.tuning
                if changes:
                    status = deployment.status.model_copy(update={"tuning": wanted})
                    writes = [UpdateStatus(deployment, status), *writes]
                try:
                    written = await self._store.write(writes)
                except NotFound:
                    return
                except Conflict:
                    await self._snapshot.current()
                    found = self._snapshot.find("deployment", *key)
                    if attempt == _TRIES - 1 or found is None or found.uid != deployment.uid:
                        return
                    terms, space = self._terms(found)
                    if space is None:
                        return
                    self._take_up(known, found, terms, space)
                    continue
                if changes:
                    known.deployment = written[0]
                    known.tuner.written(wanted)
                known.news = []
                tried = (messages.tried(entry.at, entry.figures) for entry in entries)
                known.trials.extend(one for one in tried if one is not None)
                return

    async def _clear(self, deployment: Deployment, tuning: TuningStatus) -> None:
        """Write the status of a deployment that is not tuned, without a trial."""
        events = []
        if tuning.trial is not None or tuning.asked is not None:
            tried = tuning.asked or (tuning.trial.after if tuning.trial else {})
            tuning = tuning.model_copy(update={"trial": None, "asked": None, "asked_by": ""})
            news = News(self._clock.now(), "refused", knobs.NOTHING, {}, tried)
            event = messages.event(deployment.workspace, deployment.name, news, deployment.uid)
            events = [event] if event else []
        if tuning != deployment.status.tuning:
            status = deployment.status.model_copy(update={"tuning": tuning})
            await self._store.write([UpdateStatus(deployment, status), RecordEvents(events)])

    def _forget(self, key: DeploymentKey) -> None:
        known = self._tuned.pop(key, None)
        if known is not None and known.asking is not None:
            known.asking.cancel()
        self._known.discard(key)
        self._opinions.forget_tuning(*key)

    def _terms(self, deployment: Deployment) -> tuple[ScalerTerms, Space | None]:
        terms = self._scaling.terms(deployment)._replace(tuned={})
        return terms, knobs.space(terms.service, terms.scaling, terms.objective)

    def _state(self, known: _Tuned) -> TuningState:
        return state.state(known.deployment, known.tuner, known.trials, self._clock.now())

    # The twin

    def _ask_what_is_due(self) -> None:
        now = self._clock.now()
        for known in self._tuned.values():
            questions = known.tuner.questions
            if known.asking is not None and now - questions.since_s > PATIENCE_S:
                known.asking.cancel()
                known.asking = None
                known.tuner.failed(f"no answer within {PATIENCE_S:.0f} s")
        waiting = [(q, known) for known in self._tuned.values() if (q := known.tuner.questions.next) is not None]
        waiting.sort(
            key=lambda w: (w[0] not in URGENT, w[0] is TwinQueryKind.CHECK, w[1].tuner.questions.open[w[0]][0])
        )
        for question, known in waiting:
            if known.asking is not None or (question not in URGENT and now < self._free_s):
                continue
            if question not in URGENT:
                self._free_s = now + LIKELY_S / SHARE
            known.asking = asyncio.create_task(self._ask(known, question, now))

    async def _ask(self, known: _Tuned, question: TwinQueryKind, now: float) -> None:
        """Make one query and write its result at once."""
        try:
            await self._recall(known)
            await self._answered(known, question, known.tuner.ask(now), now)
            await self._write(known)
        except KaonError as error:  # the store is away: the next tick writes it
            self._log.warning("an answer is not written yet", cause=error.cause)
        except Exception:
            self._log.exception("not asked", deployment=known.deployment.name)
        finally:
            if known.asking is asyncio.current_task():
                known.asking = None

    async def _answered(self, known: _Tuned, question: TwinQueryKind, ask: TwinQuery, now: float) -> None:
        tuner = known.tuner
        if self._twin is None:
            tuner.failed(_NO_TWIN)
            return
        try:
            answer = await self._twin.ask(ask)
        except KaonError as error:
            tuner.failed(f"{error.cause} {error.hint or ''}".strip())
        except Exception as error:
            self._log.exception("the twin failed", deployment=known.deployment.name)
            tuner.failed(f"it failed: {type(error).__name__}")
        else:
            if question not in URGENT:
                self._free_s = max(now + answer.cpu_s / SHARE, now)
            tuner.answered(answer, self._clock.now())

    async def _recall(self, known: _Tuned) -> None:
        """Load the last week's minutes before the first query."""
        if not known.recalled:
            known.recalled = True
            deployment = known.deployment
            since_s = max(deployment.created_at, self._clock.now() - WEEK_S)
            minutes = await self._store.traffic(deployment.workspace, deployment.name, since_s)
            told = [(minute.at_s, minute.arrivals) for minute in minutes if minute.arrivals is not None]
            known.tuner.senses.past.minutes(told)


def _records(known: _Tuned, key: DeploymentKey) -> tuple[list[JournalEntry], list[Write]]:
    """The journal entries of a tuner's news, and the writes of them and of its events."""
    uid = known.deployment.uid
    entries = [entry for one in known.news if (entry := messages.entry(*key, one, uid)) is not None]
    events = [event for one in known.news if (event := messages.event(*key, one, uid)) is not None]
    return entries, [KeepJournal(entries), RecordEvents(events)] if known.news else []
