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
_YIELD_EVERY = 10
"""After so many deployments the event loop is yielded."""

_TICK_FAILURE = "tuning-tick"
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
    query: asyncio.Task[None] | None = None
    week_loaded: bool = False
    """Whether the twin has the last week's minutes."""


class TuningController:
    """The reconciler of tuners; a key is a deployment's workspace and name."""

    name = "tuning"

    def __init__(
        self,
        store: Store,
        clock: Clock,
        traffic: TrafficRing,
        live_status: LiveStatus,
        scaling: ScalingController,
        twin: TwinPort | None = None,
    ) -> None:
        self._store = store
        self._snapshot = scaling.snapshot
        self._clock = clock
        self._traffic = traffic
        self._live_status = live_status
        self._scaling = scaling
        self._twin = twin
        self._tuned: dict[DeploymentKey, _Tuned] = {}
        self._seen_keys: set[DeploymentKey] = set()
        self._free_s = 0.0
        """When the next search may start."""
        self._log = log.get("control.tuning")

    async def keys(self) -> Collection[DeploymentKey]:
        """Every deployment, and deleted ones."""
        await self._snapshot.at_least(self._store.written)
        return {(d.workspace, d.name) for d in self._snapshot.list("deployment")} | self._seen_keys

    async def affected(self, changes: Sequence[Change]) -> Collection[DeploymentKey]:
        """The deployments that changed."""
        return {(change.workspace, change.name) for change in changes if change.kind == "deployment"}

    async def reconcile(self, key: DeploymentKey) -> Again | None:
        """Take in the deployment's current state; end a trial that is not valid any more."""
        await self._snapshot.at_least(self._store.written)
        deployment = self._snapshot.find("deployment", *key)
        tuned = self._tuned.get(key)
        if tuned is not None and (deployment is None or deployment.uid != tuned.deployment.uid):
            self._remove(key)
            tuned = None
        if deployment is None:
            self._remove(key)
            return None
        self._seen_keys.add(key)
        terms, space = self._terms(deployment)
        if space is None:
            self._remove(key)
            self._seen_keys.add(key)
            tuning = commanded(deployment.status.tuning, deployment.spec.tuning.commands)
            settable = board.knobs(terms.service, terms.scaling, terms.objective, tuning)
            idle = partial(state.idle, deployment, settable, knobs.NOTHING)
            self._live_status.keep_tuning(*key, idle, deployment.uid)
            await self._write_untuned(deployment, tuning)
            return None
        if tuned is None:
            tuned = await self._new_tuner(deployment, terms, space)
        self._update(tuned, deployment, terms, space)
        await self._write(tuned)
        return None

    async def next_tick(self) -> None:
        """Run all tuners, `TICK_S` from now. While the store is unavailable values in force stay; agents end trials."""
        try:
            await self._clock.sleep(TICK_S)
            await self.tick()
        except asyncio.CancelledError:
            for tuned in self._tuned.values():
                if tuned.query is not None:
                    tuned.query.cancel()
            raise

    async def tick(self) -> None:
        """Run all tuners once, write changes, and start due queries to the twin."""
        failures: list[KaonError] = []
        for number, (key, tuned) in enumerate(list(self._tuned.items()), start=1):
            try:
                self._tick(tuned)
                if tuned.tuner.news or tuned.tuner.desired_status(self._clock.now()) != tuned.deployment.status.tuning:
                    await self._write(tuned)
                self._live_status.failures.settle(_TICK_FAILURE, key)
            except KaonError as error:  # the next tick tries to write it again
                failures.append(error)
            except Exception as error:  # a failure of one deployment must not stop the others
                self._log.exception("not tuned", deployment=tuned.deployment.name)
                self._live_status.failures.note(_TICK_FAILURE, key, error)
            if number % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
        self._start_queries()
        if failures:
            raise failures[0]

    async def query_results(self) -> None:
        """Wait until no query to the twin runs."""
        while running := [tuned.query for tuned in self._tuned.values() if tuned.query is not None]:
            await asyncio.wait(running)

    # One deployment

    def _tick(self, tuned: _Tuned) -> None:
        deployment, now = tuned.deployment, self._clock.now()
        status: RolloutStatus = deployment.status.rollout
        news, tuned.count = self._traffic.news(deployment.workspace, deployment.name, tuned.count)
        tuned.tuner.context = context = self._context(deployment, now)
        tuned.tuner.add_samples([s for s in news if s.revision != status.shadow and s.at_s > deployment.created_at])
        tuned.tuner.tick(context, now)

    def _context(self, deployment: Deployment, now: float) -> TunerContext:
        status: RolloutStatus = deployment.status.rollout
        session = self._scaling.session((deployment.workspace, deployment.name))
        serving = [a for a in status.assignments if a.revision != status.shadow]
        ready = sum(a.ready for a in serving)
        coming = [a for a in status.assignments if a.revision == status.shadow and a.ready < a.replicas]
        return TunerContext(
            ready=ready,
            starting=sum(a.replicas for a in serving) - ready,
            deploying=rolling(status) or status.stable is None or bool(coming),
            panicking=session is not None and session.state.panic_until_s > now,
            snapshots=None if session is None else tuple(session.snapshots),
        )

    async def _new_tuner(self, deployment: Deployment, terms: ScalerTerms, space: Space) -> _Tuned:
        key, now = (deployment.workspace, deployment.name), self._clock.now()
        tuner = Tuner(key, deployment.spec, terms, space, deployment.status.tuning, now)
        tuner.queries.problem = _NO_TWIN if self._twin is None else self._twin.missing()
        tuner.inputs.load_history(await self._store.traffic(*key, max(deployment.created_at, now - HOURS_S)))
        entries = await self._store.journal(*key, messages.CONCERN, _JOURNAL)
        trials = [messages.tried(e.at, e.figures) for e in entries if e.at >= deployment.created_at]
        tuned = _Tuned(deployment, tuner, deque((one for one in trials if one is not None), maxlen=_TRIALS))
        self._tuned[key] = tuned
        self._live_status.keep_tuning(*key, partial(self._state, tuned), deployment.uid)
        return tuned

    def _update(self, tuned: _Tuned, deployment: Deployment, terms: ScalerTerms, space: Space) -> None:
        """Take in a newer version of the deployment."""
        if deployment.version > tuned.deployment.version:
            tuned.deployment = deployment
            tuned.tuner.update(deployment.spec, terms, space, deployment.status.tuning, self._clock.now())

    async def _write(self, tuned: _Tuned) -> None:
        """Write the desired status together with its news."""
        key = tuned.deployment.workspace, tuned.deployment.name
        async with tuned.writing:
            for attempt in range(_TRIES):
                desired = tuned.tuner.desired_status(self._clock.now())
                deployment = tuned.deployment
                tuned.news, tuned.tuner.news = [*tuned.news, *tuned.tuner.news], []
                entries, writes = _records(tuned, key)
                changes = desired != deployment.status.tuning
                if changes:
                    status = deployment.status.model_copy(update={"tuning": desired})
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
                    self._update(tuned, found, terms, space)
                    continue
                if changes:
                    tuned.deployment = written[0]
                    tuned.tuner.mark_written(desired)
                tuned.news = []
                tried = (messages.tried(entry.at, entry.figures) for entry in entries)
                tuned.trials.extend(one for one in tried if one is not None)
                return

    async def _write_untuned(self, deployment: Deployment, tuning: TuningStatus) -> None:
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

    def _remove(self, key: DeploymentKey) -> None:
        tuned = self._tuned.pop(key, None)
        if tuned is not None and tuned.query is not None:
            tuned.query.cancel()
        self._seen_keys.discard(key)
        self._live_status.forget_tuning(*key)

    def _terms(self, deployment: Deployment) -> tuple[ScalerTerms, Space | None]:
        terms = self._scaling.terms(deployment)._replace(tuned={})
        return terms, knobs.space(terms.service, terms.scaling, terms.objective)

    def _state(self, tuned: _Tuned) -> TuningState:
        return state.state(tuned.deployment, tuned.tuner, tuned.trials, self._clock.now())

    # The twin

    def _start_queries(self) -> None:
        now = self._clock.now()
        for tuned in self._tuned.values():
            queries = tuned.tuner.queries
            if tuned.query is not None and now - queries.since_s > PATIENCE_S:
                tuned.query.cancel()
                tuned.query = None
                tuned.tuner.query_failed(f"no answer within {PATIENCE_S:.0f} s")
        waiting = [(q, tuned) for tuned in self._tuned.values() if (q := tuned.tuner.queries.next) is not None]
        waiting.sort(key=lambda w: (w[0] not in URGENT, w[0] is TwinQueryKind.CHECK, w[1].tuner.queries.due[w[0]][0]))
        for kind, tuned in waiting:
            if tuned.query is not None or (kind not in URGENT and now < self._free_s):
                continue
            if kind not in URGENT:
                self._free_s = now + LIKELY_S / SHARE
            tuned.query = asyncio.create_task(self._query(tuned, kind, now))

    async def _query(self, tuned: _Tuned, kind: TwinQueryKind, now: float) -> None:
        """Make one query and write its result at once."""
        try:
            await self._load_week(tuned)
            await self._run_query(tuned, kind, tuned.tuner.next_query(now), now)
            await self._write(tuned)
        except KaonError as error:  # the store is unavailable: the next tick writes it
            self._log.warning("a result of the twin is not written yet", cause=error.cause)
        except Exception:
            self._log.exception("a query to the twin failed", deployment=tuned.deployment.name)
        finally:
            if tuned.query is asyncio.current_task():
                tuned.query = None

    async def _run_query(self, tuned: _Tuned, kind: TwinQueryKind, query: TwinQuery, now: float) -> None:
        tuner = tuned.tuner
        if self._twin is None:
            tuner.query_failed(_NO_TWIN)
            return
        try:
            result = await self._twin.ask(query)
        except KaonError as error:
            tuner.query_failed(f"{error.cause} {error.hint or ''}".strip())
        except Exception as error:
            self._log.exception("the twin failed", deployment=tuned.deployment.name)
            tuner.query_failed(f"it failed: {type(error).__name__}")
        else:
            if kind not in URGENT:
                self._free_s = max(now + result.cpu_s / SHARE, now)
            tuner.take_result(result, self._clock.now())

    async def _load_week(self, tuned: _Tuned) -> None:
        """Load the last week's minutes before the first query."""
        if not tuned.week_loaded:
            tuned.week_loaded = True
            deployment = tuned.deployment
            since_s = max(deployment.created_at, self._clock.now() - WEEK_S)
            minutes = await self._store.traffic(deployment.workspace, deployment.name, since_s)
            arrivals = [(minute.at_s, minute.arrivals) for minute in minutes if minute.arrivals is not None]
            tuned.tuner.inputs.past.minutes(arrivals)


def _records(tuned: _Tuned, key: DeploymentKey) -> tuple[list[JournalEntry], list[Write]]:
    """The journal entries of a tuner's news, and the writes of them and of its events."""
    uid = tuned.deployment.uid
    entries = [entry for one in tuned.news if (entry := messages.entry(*key, one, uid)) is not None]
    events = [event for one in tuned.news if (event := messages.event(*key, one, uid)) is not None]
    return entries, [KeepJournal(entries), RecordEvents(events)] if tuned.news else []
