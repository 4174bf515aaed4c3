"""What an agent does next: a pure function of the plan, of what it sees, and of what it remembers.

    step(plan, seen, memories) -> Step: actions, endpoints for the edge, statuses for the report, new memories

For each replica, on its own:

    wanted, not there          start it, once its back-off is over
    wanted, ended by itself    remember the failure, start it again when its back-off is over, if it is to be restarted
    wanted, ready              behind the edge, for as long as it answers
    wanted, silent             out of the edge after two misses, unless it is the last of its revision; it is ended
                               when it is hung: see `kaon.agent.decide.liveness`
    not wanted, running        out of the edge; when the edge has let go of it and it is quiet, stop it
    not wanted, ended          forget it

Each is also told who may call it, which requests it shall refuse, and its knobs: an action for each whose version it
does not report. A trial's knobs are a lease: they are only meant while the control
plane answers, so that whatever becomes of it, they are gone `LEASE_S` later. A replica that ended while it tried
something is started with what is safe, and does not try that again.

Every action goes through `_first_due`: one that is still called for after it was begun is begun again after a back-off,
which grows with every attempt. So a replica that refuses, hangs, or takes what it is sent without any effect is asked
ever more seldom, whatever the action is.

A replica with an operation under way (`AgentInputs.busy`) is left to that: what is seen of it may be older than what
is done to it. Times are of the monotonic clock but `wall`, which stamps what people see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kaon.agent.decide.inputs import (
    Action,
    AdmitIt,
    AgentInputs,
    Attempts,
    ForgetIt,
    ProbedHealth,
    RefusedStart,
    RefuseIt,
    ReplicaHistory,
    StartIt,
    StopIt,
    TuneIt,
    kind_of,
    target_of,
)
from kaon.agent.decide.liveness import Silence, judge
from kaon.drivers.port import ReplicaObservation, Stage
from kaon.laws.backoff import Backoff, delay_s
from kaon.types.key import Access
from kaon.types.knobs import PlannedKnobs
from kaon.types.launch import EXIT_CONFIG, ReplicaHealth
from kaon.types.names import DeploymentKey
from kaon.types.plan import Plan
from kaon.types.refusals import Refusals
from kaon.types.replica import Phase, ReplicaSpec, ReplicaStatus, Restart
from kaon.types.route import ReplicaEndpoint

CRASH = Backoff(first_s=1.0, cap_s=60.0)
CONFIG = Backoff(first_s=30.0, cap_s=300.0)
STEADY_S = 10.0
"""After so long a time of being ready, failures before it are forgiven."""

MISSES = 2
"""Probes in a row without an answer after which a replica gets no more requests."""

EDGE_SETTLE_S = 0.1
"""How long the edge may take to follow what it was told; it takes 1.4 to 5 ms."""

LAST_GRACE_S = 1.0
"""Time to end in good order, when the time to drain is used up."""

EDGE_PATIENCE_S = 5.0
"""How long a stop waits for an edge that cannot be told."""

NOBODY = Access().named()
NOTHING_REFUSED = Refusals().named()
_NO_KNOBS = PlannedKnobs().named()
_PHASES = {phase.value: phase for phase in Phase}


@dataclass(frozen=True)
class AgentDecision:
    """What to do, and what is to be told."""

    actions: tuple[Action, ...]
    endpoints: dict[DeploymentKey, tuple[ReplicaEndpoint, ...]]
    statuses: tuple[ReplicaStatus, ...]
    memories: dict[str, ReplicaHistory]
    again_in_s: float | None  # when a back-off ends, or the lease of a trial; None: nothing waits for time


def step(plan: Plan, seen: AgentInputs, memories: Mapping[str, ReplicaHistory]) -> AgentDecision:
    """Decide for every replica that the plan wants or the driver sees."""
    wanted = {spec.id: spec for spec in plan.replicas}
    actions: list[Action] = []
    remembered: dict[str, ReplicaHistory] = {}
    waiting: list[float] = []
    for id_ in sorted({*wanted, *seen.sightings}):
        memory, sighting = memories.get(id_, ReplicaHistory(since=seen.wall)), seen.sightings.get(id_)
        if id_ in wanted:
            memory, action = _want(replace(memory, spec=wanted[id_]), wanted[id_], sighting, seen)
            called_for = [] if action is None else [action]
            if action is None and (health := _listens(wanted[id_], sighting, memory, seen)):
                memory, called_for = _messages(plan, wanted[id_], health, memory, seen)
        else:
            assert sighting is not None
            memory, action = _retire(memory, sighting, seen)
            called_for = [] if action is None else [action]
        memory, begun = _first_due(memory, id_, called_for, seen)
        remembered[id_] = memory
        if begun:
            actions.append(begun)
        else:
            kinds = map(kind_of, called_for)
            waiting += [again_s for kind in kinds if (again_s := memory.attempts[kind].again_at - seen.now) > 0]
    waiting += [m.retry_at - seen.now for id_, m in remembered.items() if id_ in wanted and m.retry_at > seen.now]
    if seen.lease_s > 0 and any(planned.trial is not None for planned in plan.knobs.values()):
        waiting.append(seen.lease_s)
    return AgentDecision(
        actions=tuple(actions),
        endpoints=_endpoints(plan, seen, remembered),
        statuses=tuple(_status(m, seen.sightings.get(id_)) for id_, m in remembered.items() if m.spec),
        memories=remembered,
        again_in_s=min(waiting, default=None),
    )


def _first_due(
    memory: ReplicaHistory, id_: str, called_for: Sequence[Action], seen: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    """The first of the actions that are called for whose back-off is over, as the one that is begun now."""
    kinds = {kind_of(action) for action in called_for}
    attempts = {
        kind: made
        for kind, made in memory.attempts.items()
        if kind in kinds or id_ in seen.busy or seen.now < made.again_at
    }
    for action in called_for:
        kind, target = kind_of(action), target_of(action)
        before = attempts.get(kind)
        again = before is not None and before.target == target
        if before and again and seen.now < before.again_at:
            memory = _still_there(memory, action, seen)
            continue
        attempts[kind] = Attempts(target, before.count + 1 if before and again else 1, seen.now)
        return _begun(replace(memory, attempts=attempts), action), action
    return replace(memory, attempts=attempts), None


def _begun(memory: ReplicaHistory, action: Action) -> ReplicaHistory:
    """What is to be remembered of an action that is begun now."""
    match action:
        case StartIt():  # its phase stays what it was until the driver tells another
            again = 1 if memory.end_counted and memory.begun else 0
            memory = replace(memory, end_counted=False, begun=True, refused_spec=None, restarts=memory.restarts + again)
            return replace(memory, stopping="", ready_since=None)
        case TuneIt():
            return replace(memory, tuned=target_of(action))
    return memory


def _still_there(memory: ReplicaHistory, action: Action, seen: AgentInputs) -> ReplicaHistory:
    """An end that fails is told: whoever looks must see why the replica is still there."""
    if isinstance(action, StopIt | ForgetIt) and (cause := seen.failures.get((action.replica, kind_of(action)))):
        return _in_phase(memory, Phase.CRASHED, f"It cannot be ended: {cause}", seen)
    return memory


# A replica that the plan wants


def _want(
    memory: ReplicaHistory, spec: ReplicaSpec, sighting: ReplicaObservation | None, seen: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    memory = replace(memory, retired_at=None, left_edge_at=None)
    if spec.id in seen.refused:
        return _not_begun(memory, spec, seen.refused[spec.id], seen), None
    if sighting is None or sighting.stage == Stage.EXITED:
        return _start_when_due(memory, spec, sighting, seen)
    if sighting.stage == Stage.WAITING:
        return _in_phase(memory, Phase.NO_CAPACITY, sighting.reason, seen), None
    if sighting.stage == Stage.INSTALLING:
        return _in_phase(memory, Phase.INSTALLING, sighting.reason, seen), None
    return _watch(memory, sighting, seen)


def _not_begun(memory: ReplicaHistory, spec: ReplicaSpec, refused: RefusedStart, seen: AgentInputs) -> ReplicaHistory:
    """A start that was refused is tried again after a back-off, unless that is of no use. It is no restart."""
    begun = refused.phase == Phase.CRASHED  # by a mistake of the driver's, which counts as a crash
    memory = replace(memory, end_counted=True, begun=begun, refused_spec=spec if refused.final else None)
    return _failed(memory, refused.phase, refused.reason, seen)


def _start_when_due(
    memory: ReplicaHistory, spec: ReplicaSpec, sighting: ReplicaObservation | None, seen: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    if spec.id in seen.busy:
        return memory, None
    if sighting and not memory.end_counted:
        memory = _count_end(memory, sighting, seen)
    over = sighting is not None and spec.restart is Restart.NEVER and memory.stopping != _NOT_WANTED
    if over or memory.refused_spec == spec or seen.now < memory.retry_at:
        return memory, None
    return memory, StartIt(spec)


def _count_end(memory: ReplicaHistory, sighting: ReplicaObservation, seen: AgentInputs) -> ReplicaHistory:
    """Remember how it ended: as a failure, unless this agent stopped it because it was not wanted for a while."""
    if memory.stopping == _NOT_WANTED:
        return replace(memory, end_counted=True, retry_at=0.0)
    phase = Phase.CONFIG_ERROR if sighting.exit_code == EXIT_CONFIG else Phase.CRASHED
    steady = memory.ready_since is not None and seen.now - memory.ready_since >= STEADY_S
    memory = replace(
        memory,
        end_counted=True,
        failures=0 if steady else memory.failures,
        exit_code=sighting.exit_code,
        last_lines=sighting.last_lines,
        tuned="",
        ended_with=memory.tuned or memory.ended_with,
    )
    if sighting.exit_code == 0 and not memory.stopping and memory.spec and memory.spec.restart is Restart.NEVER:
        return _in_phase(replace(memory, failures=0), Phase.COMPLETED, sighting.reason, seen)
    return _failed(memory, phase, memory.stopping or sighting.reason, seen)


def _failed(memory: ReplicaHistory, phase: Phase, reason: str, seen: AgentInputs) -> ReplicaHistory:
    backoff = CONFIG if phase == Phase.CONFIG_ERROR else CRASH
    failures = memory.failures + 1
    memory = replace(memory, failures=failures, retry_at=seen.now + delay_s(backoff, failures))
    return _in_phase(memory, phase, reason, seen)


def _watch(
    memory: ReplicaHistory, sighting: ReplicaObservation, seen: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    """Its process runs: follow what it says, and end it when it is frozen."""
    if memory.stopping:  # again, when the stop before did not get through
        return memory, None if sighting.id in seen.busy else StopIt(sighting.id, 0.0, memory.stopping)
    health = seen.health.get(sighting.id, ProbedHealth())
    silence = _silence(memory, health, seen)
    if silence and silence.hung and sighting.id not in seen.busy:
        return replace(memory, stopping=silence.reason), StopIt(sighting.id, 0.0, silence.reason, stacks=True)
    if health.answer is None:
        return _in_phase(memory, Phase.STARTING, sighting.reason, seen), None
    if silence:
        memory = replace(memory, busy_at=seen.now if silence.busy else memory.busy_at)
        return _in_phase(memory, Phase.STARTING, silence.reason, seen), None
    phase = _PHASES.get(health.answer.phase, Phase.STARTING)
    if phase == Phase.READY and memory.ready_since is None:
        memory = replace(memory, ready_since=seen.now)
    return _in_phase(memory, phase, health.answer.reason, seen), None


def _silence(memory: ReplicaHistory, health: ProbedHealth, seen: AgentInputs) -> Silence | None:
    """What is to be thought of a replica that does not answer; None: it does."""
    if health.silent_since is None or health.misses < MISSES:
        return None
    assert memory.spec is not None
    flights = seen.flights.get(memory.spec.id, ())
    if flights is None:
        return Silence("It does not answer, and what it has in flight cannot be read.", busy=True)
    start_s = None if memory.ready_since is not None else memory.spec.start_s
    # A call that has just ended is no reason to end the replica before it can answer the next probe.
    since = health.silent_since if flights else max(health.silent_since, memory.busy_at)
    return judge(seen.now - since, flights, start_s)


def _listens(
    spec: ReplicaSpec, sighting: ReplicaObservation | None, memory: ReplicaHistory, seen: AgentInputs
) -> ReplicaHealth | None:
    """What a replica said last, if it can be told something now."""
    runs = sighting is not None and sighting.stage == Stage.STARTING
    health = seen.health.get(spec.id, ProbedHealth())
    if not runs or memory.stopping or spec.id in seen.busy or health.misses >= MISSES:
        return None
    return health.answer


def _messages(
    plan: Plan, spec: ReplicaSpec, said: ReplicaHealth, memory: ReplicaHistory, seen: AgentInputs
) -> tuple[ReplicaHistory, list[Action]]:
    """What a replica is to be sent, most urgent first."""
    memory, tune = _tune(plan, spec, said, memory, seen)
    found = (_admit(plan, spec, said), _refuse(spec, said, seen), tune)
    return memory, [action for action in found if action]


def _admit(plan: Plan, spec: ReplicaSpec, said: ReplicaHealth) -> Action | None:
    """Who may call it has changed since it was told."""
    access = plan.access.get(f"{spec.workspace}/{spec.deployment}", NOBODY)
    return AdmitIt(spec.id, access) if said.access != access.version else None


def _refuse(spec: ReplicaSpec, said: ReplicaHealth, seen: AgentInputs) -> Action | None:
    """It refuses other requests than it should. One that tells of none is older than refusals, and is left alone."""
    wanted = seen.refusals.get((spec.workspace, spec.deployment), NOTHING_REFUSED)
    return RefuseIt(spec.id, wanted) if said.refusals not in ("", wanted.version) else None


def _tune(
    plan: Plan, spec: ReplicaSpec, said: ReplicaHealth, memory: ReplicaHistory, seen: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    """Other knobs are in force than should be. One that tells of none is older than knobs, and is left alone."""
    planned = plan.knobs.get(f"{spec.workspace}/{spec.deployment}", _NO_KNOBS)
    if memory.ended_with and (planned.trial is None or planned.trial.version != memory.ended_with):
        memory = replace(memory, ended_with="")
    knobs = planned.of(spec.id, trying=seen.lease_s > 0 and not memory.ended_with)
    return memory, TuneIt(spec.id, knobs) if said.knobs not in ("", knobs.version) else None


# A replica that the plan does not want

_NOT_WANTED = "It is not wanted any more."


def _retire(
    memory: ReplicaHistory, sighting: ReplicaObservation, seen: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    if sighting.id in seen.busy:
        return memory, None
    if sighting.stage == Stage.EXITED:
        return memory, ForgetIt(sighting.id)
    retired_at = seen.now if memory.retired_at is None else memory.retired_at
    left_at = memory.left_edge_at
    if left_at is None and seen.at_edge is not None and sighting.id not in seen.at_edge:
        left_at = seen.now
    memory = replace(memory, retired_at=retired_at, left_edge_at=left_at)
    health = seen.health.get(sighting.id, ProbedHealth())
    memory = _in_phase(memory, Phase.DRAINING, _draining(health), seen)
    drain_s = memory.spec.drain_s if memory.spec else ReplicaSpec.model_fields["drain_s"].default
    left_s = drain_s - (seen.now - retired_at)
    silence = _silence(memory, health, seen) if memory.spec else None
    memory = replace(memory, busy_at=seen.now if silence and silence.busy else memory.busy_at)
    if silence and silence.hung:
        reason = silence.reason
        return replace(memory, stopping=_NOT_WANTED), StopIt(sighting.id, 0.0, reason, stacks=True)
    if sighting.stage in (Stage.WAITING, Stage.INSTALLING):
        grace_s = 0.0
    elif _quiet(sighting.id, health, left_at, seen) or left_s <= (-EDGE_PATIENCE_S if left_at is None else 0.0):
        grace_s = max(left_s, LAST_GRACE_S)
    else:
        return memory, None
    return replace(memory, stopping=_NOT_WANTED), StopIt(sighting.id, grace_s, _NOT_WANTED)


def _draining(health: ProbedHealth) -> str:
    count = health.answer.in_flight if health.answer else 0
    return f"{_NOT_WANTED} {count} call{'' if count == 1 else 's'} in flight." if count else _NOT_WANTED


def _quiet(replica: str, health: ProbedHealth, left_edge_at: float | None, seen: AgentInputs) -> bool:
    """Whether nobody uses it: the edge let go of it, and it was twice found with nothing in flight after that."""
    if left_edge_at is None or replica in seen.edge_busy:
        return False
    if health.answer is None:
        return True  # it never got as far as to be asked anything
    return health.zeros >= MISSES and health.asked_at >= left_edge_at + EDGE_SETTLE_S


# What is told


def _endpoints(
    plan: Plan, seen: AgentInputs, memories: Mapping[str, ReplicaHistory]
) -> dict[DeploymentKey, tuple[ReplicaEndpoint, ...]]:
    """The replicas behind each route: those that are ready; of a revision without any, those that are busy.

    Whoever calls a service whose only replica is busy waits in its socket, and is answered when it is done.
    """
    found: dict[DeploymentKey, tuple[ReplicaEndpoint, ...]] = {(r.workspace, r.deployment): () for r in plan.routes}
    served = {(s.workspace, s.deployment, s.revision) for s in plan.replicas if memories[s.id].phase is Phase.READY}
    for spec in sorted(plan.replicas, key=lambda s: s.id):
        sighting, memory = seen.sightings.get(spec.id), memories[spec.id]
        alone = (spec.workspace, spec.deployment, spec.revision) not in served
        serves = memory.phase is Phase.READY or (alone and _busy(memory, seen))
        if serves and not memory.stopping and sighting and sighting.stage == Stage.STARTING:
            key = (spec.workspace, spec.deployment)
            found[key] = (*found.get(key, ()), *_endpoint(spec, sighting))
    return found


def _busy(memory: ReplicaHistory, seen: AgentInputs) -> bool:
    """Whether a replica that was ready is only kept from answering by calls that are in time."""
    assert memory.spec is not None
    health = seen.health.get(memory.spec.id, ProbedHealth())
    silence = _silence(memory, health, seen)
    return silence is not None and silence.busy and health.answer is not None and health.answer.phase == Phase.READY


def _endpoint(spec: ReplicaSpec, sighting: ReplicaObservation) -> tuple[ReplicaEndpoint, ...]:
    if not sighting.service_address:
        return ()
    return (
        ReplicaEndpoint(
            replica=spec.id,
            revision=spec.revision,
            address=sighting.service_address,
            control_address=sighting.control_address,
        ),
    )


def _status(memory: ReplicaHistory, sighting: ReplicaObservation | None) -> ReplicaStatus:
    assert memory.spec is not None
    return ReplicaStatus(
        id=memory.spec.id,
        name=memory.spec.name,
        workspace=memory.spec.workspace,
        deployment=memory.spec.deployment,
        revision=memory.spec.revision,
        phase=memory.phase,
        reason=memory.reason,
        since=memory.since,
        started_at=sighting.started_at if sighting else None,
        restarts=memory.restarts,
        exit_code=memory.exit_code,
        last_lines=memory.last_lines,
        address=sighting.service_address if sighting else None,
        pid=sighting.pid if sighting and sighting.stage == Stage.STARTING else None,
    )


def _in_phase(memory: ReplicaHistory, phase: Phase, reason: str, seen: AgentInputs) -> ReplicaHistory:
    since = memory.since if phase == memory.phase else seen.wall
    return replace(memory, phase=phase, reason=reason, since=since)
