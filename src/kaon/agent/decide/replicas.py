"""What an agent does next: a pure function of the plan, of what it sees, and of what it remembers.

    step(plan, inputs, histories) -> Step: actions, endpoints for the edge, statuses for the report, new histories

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

A replica with an operation under way (`AgentInputs.busy`) is left to that: what is inputs of it may be older than what
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
    histories: dict[str, ReplicaHistory]
    again_in_s: float | None  # when a back-off ends, or the lease of a trial; None: nothing waits for time


def step(plan: Plan, inputs: AgentInputs, histories: Mapping[str, ReplicaHistory]) -> AgentDecision:
    """Decide for every replica that the plan wants or the driver sees."""
    wanted = {spec.id: spec for spec in plan.replicas}
    actions: list[Action] = []
    remembered: dict[str, ReplicaHistory] = {}
    waiting: list[float] = []
    for id_ in sorted({*wanted, *inputs.observed}):
        history, observation = histories.get(id_, ReplicaHistory(since=inputs.wall)), inputs.observed.get(id_)
        if id_ in wanted:
            history, action = _want(replace(history, spec=wanted[id_]), wanted[id_], observation, inputs)
            called_for = [] if action is None else [action]
            if action is None and (health := _listens(wanted[id_], observation, history, inputs)):
                history, called_for = _messages(plan, wanted[id_], health, history, inputs)
        else:
            assert observation is not None
            history, action = _retire(history, observation, inputs)
            called_for = [] if action is None else [action]
        history, begun = _first_due(history, id_, called_for, inputs)
        remembered[id_] = history
        if begun:
            actions.append(begun)
        else:
            kinds = map(kind_of, called_for)
            waiting += [again_s for kind in kinds if (again_s := history.attempts[kind].again_at - inputs.now) > 0]
    waiting += [m.retry_at - inputs.now for id_, m in remembered.items() if id_ in wanted and m.retry_at > inputs.now]
    if inputs.lease_s > 0 and any(planned.trial is not None for planned in plan.knobs.values()):
        waiting.append(inputs.lease_s)
    return AgentDecision(
        actions=tuple(actions),
        endpoints=_endpoints(plan, inputs, remembered),
        statuses=tuple(_status(m, inputs.observed.get(id_)) for id_, m in remembered.items() if m.spec),
        histories=remembered,
        again_in_s=min(waiting, default=None),
    )


def _first_due(
    history: ReplicaHistory, id_: str, called_for: Sequence[Action], inputs: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    """The first of the actions that are called for whose back-off is over, as the one that is begun now."""
    kinds = {kind_of(action) for action in called_for}
    attempts = {
        kind: made
        for kind, made in history.attempts.items()
        if kind in kinds or id_ in inputs.busy or inputs.now < made.again_at
    }
    for action in called_for:
        kind, target = kind_of(action), target_of(action)
        before = attempts.get(kind)
        again = before is not None and before.target == target
        if before and again and inputs.now < before.again_at:
            history = _still_there(history, action, inputs)
            continue
        attempts[kind] = Attempts(target, before.count + 1 if before and again else 1, inputs.now)
        return _begun(replace(history, attempts=attempts), action), action
    return replace(history, attempts=attempts), None


def _begun(history: ReplicaHistory, action: Action) -> ReplicaHistory:
    """What is to be remembered of an action that is begun now."""
    match action:
        case StartIt():  # its phase stays what it was until the driver tells another
            again = 1 if history.end_counted and history.begun else 0
            history = replace(
                history, end_counted=False, begun=True, refused_spec=None, restarts=history.restarts + again
            )
            return replace(history, stopping="", ready_since=None)
        case TuneIt():
            return replace(history, tuned=target_of(action))
    return history


def _still_there(history: ReplicaHistory, action: Action, inputs: AgentInputs) -> ReplicaHistory:
    """An end that fails is told: whoever looks must see why the replica is still there."""
    if isinstance(action, StopIt | ForgetIt) and (cause := inputs.failures.get((action.replica, kind_of(action)))):
        return _in_phase(history, Phase.CRASHED, f"It cannot be ended: {cause}", inputs)
    return history


# A replica that the plan wants


def _want(
    history: ReplicaHistory, spec: ReplicaSpec, observation: ReplicaObservation | None, inputs: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    history = replace(history, retired_at=None, left_edge_at=None)
    if spec.id in inputs.refused:
        return _not_begun(history, spec, inputs.refused[spec.id], inputs), None
    if observation is None or observation.stage == Stage.EXITED:
        return _start_when_due(history, spec, observation, inputs)
    if observation.stage == Stage.WAITING:
        return _in_phase(history, Phase.NO_CAPACITY, observation.reason, inputs), None
    if observation.stage == Stage.INSTALLING:
        return _in_phase(history, Phase.INSTALLING, observation.reason, inputs), None
    return _watch(history, observation, inputs)


def _not_begun(
    history: ReplicaHistory, spec: ReplicaSpec, refused: RefusedStart, inputs: AgentInputs
) -> ReplicaHistory:
    """A start that was refused is tried again after a back-off, unless that is of no use. It is no restart."""
    begun = refused.phase == Phase.CRASHED  # by a mistake of the driver's, which counts as a crash
    history = replace(history, end_counted=True, begun=begun, refused_spec=spec if refused.final else None)
    return _failed(history, refused.phase, refused.reason, inputs)


def _start_when_due(
    history: ReplicaHistory, spec: ReplicaSpec, observation: ReplicaObservation | None, inputs: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    if spec.id in inputs.busy:
        return history, None
    if observation and not history.end_counted:
        history = _count_end(history, observation, inputs)
    over = observation is not None and spec.restart is Restart.NEVER and history.stopping != _NOT_WANTED
    if over or history.refused_spec == spec or inputs.now < history.retry_at:
        return history, None
    return history, StartIt(spec)


def _count_end(history: ReplicaHistory, observation: ReplicaObservation, inputs: AgentInputs) -> ReplicaHistory:
    """Remember how it ended: as a failure, unless this agent stopped it because it was not wanted for a while."""
    if history.stopping == _NOT_WANTED:
        return replace(history, end_counted=True, retry_at=0.0)
    phase = Phase.CONFIG_ERROR if observation.exit_code == EXIT_CONFIG else Phase.CRASHED
    steady = history.ready_since is not None and inputs.now - history.ready_since >= STEADY_S
    history = replace(
        history,
        end_counted=True,
        failures=0 if steady else history.failures,
        exit_code=observation.exit_code,
        last_lines=observation.last_lines,
        tuned="",
        ended_with=history.tuned or history.ended_with,
    )
    if observation.exit_code == 0 and not history.stopping and history.spec and history.spec.restart is Restart.NEVER:
        return _in_phase(replace(history, failures=0), Phase.COMPLETED, observation.reason, inputs)
    return _failed(history, phase, history.stopping or observation.reason, inputs)


def _failed(history: ReplicaHistory, phase: Phase, reason: str, inputs: AgentInputs) -> ReplicaHistory:
    backoff = CONFIG if phase == Phase.CONFIG_ERROR else CRASH
    failures = history.failures + 1
    history = replace(history, failures=failures, retry_at=inputs.now + delay_s(backoff, failures))
    return _in_phase(history, phase, reason, inputs)


def _watch(
    history: ReplicaHistory, observation: ReplicaObservation, inputs: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    """Its process runs: follow what it says, and end it when it is frozen."""
    if history.stopping:  # again, when the stop before did not get through
        return history, None if observation.id in inputs.busy else StopIt(observation.id, 0.0, history.stopping)
    health = inputs.health.get(observation.id, ProbedHealth())
    silence = _silence(history, health, inputs)
    if silence and silence.hung and observation.id not in inputs.busy:
        return replace(history, stopping=silence.reason), StopIt(observation.id, 0.0, silence.reason, stacks=True)
    if health.answer is None:
        return _in_phase(history, Phase.STARTING, observation.reason, inputs), None
    if silence:
        history = replace(history, busy_at=inputs.now if silence.busy else history.busy_at)
        return _in_phase(history, Phase.STARTING, silence.reason, inputs), None
    phase = _PHASES.get(health.answer.phase, Phase.STARTING)
    if phase == Phase.READY and history.ready_since is None:
        history = replace(history, ready_since=inputs.now)
    return _in_phase(history, phase, health.answer.reason, inputs), None


def _silence(history: ReplicaHistory, health: ProbedHealth, inputs: AgentInputs) -> Silence | None:
    """What is to be thought of a replica that does not answer; None: it does."""
    if health.silent_since is None or health.misses < MISSES:
        return None
    assert history.spec is not None
    flights = inputs.flights.get(history.spec.id, ())
    if flights is None:
        return Silence("It does not answer, and what it has in flight cannot be read.", busy=True)
    start_s = None if history.ready_since is not None else history.spec.start_s
    # A call that has just ended is no reason to end the replica before it can answer the next probe.
    since = health.silent_since if flights else max(health.silent_since, history.busy_at)
    return judge(inputs.now - since, flights, start_s)


def _listens(
    spec: ReplicaSpec, observation: ReplicaObservation | None, history: ReplicaHistory, inputs: AgentInputs
) -> ReplicaHealth | None:
    """What a replica said last, if it can be told something now."""
    runs = observation is not None and observation.stage == Stage.STARTING
    health = inputs.health.get(spec.id, ProbedHealth())
    if not runs or history.stopping or spec.id in inputs.busy or health.misses >= MISSES:
        return None
    return health.answer


def _messages(
    plan: Plan, spec: ReplicaSpec, said: ReplicaHealth, history: ReplicaHistory, inputs: AgentInputs
) -> tuple[ReplicaHistory, list[Action]]:
    """What a replica is to be sent, most urgent first."""
    history, tune = _tune(plan, spec, said, history, inputs)
    found = (_admit(plan, spec, said), _refuse(spec, said, inputs), tune)
    return history, [action for action in found if action]


def _admit(plan: Plan, spec: ReplicaSpec, said: ReplicaHealth) -> Action | None:
    """Who may call it has changed since it was told."""
    access = plan.access.get(f"{spec.workspace}/{spec.deployment}", NOBODY)
    return AdmitIt(spec.id, access) if said.access != access.version else None


def _refuse(spec: ReplicaSpec, said: ReplicaHealth, inputs: AgentInputs) -> Action | None:
    """It refuses other requests than it should. One that tells of none is older than refusals, and is left alone."""
    wanted = inputs.refusals.get((spec.workspace, spec.deployment), NOTHING_REFUSED)
    return RefuseIt(spec.id, wanted) if said.refusals not in ("", wanted.version) else None


def _tune(
    plan: Plan, spec: ReplicaSpec, said: ReplicaHealth, history: ReplicaHistory, inputs: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    """Other knobs are in force than should be. One that tells of none is older than knobs, and is left alone."""
    planned = plan.knobs.get(f"{spec.workspace}/{spec.deployment}", _NO_KNOBS)
    if history.ended_with and (planned.trial is None or planned.trial.version != history.ended_with):
        history = replace(history, ended_with="")
    knobs = planned.of(spec.id, trying=inputs.lease_s > 0 and not history.ended_with)
    return history, TuneIt(spec.id, knobs) if said.knobs not in ("", knobs.version) else None


# A replica that the plan does not want

_NOT_WANTED = "It is not wanted any more."


def _retire(
    history: ReplicaHistory, observation: ReplicaObservation, inputs: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    if observation.id in inputs.busy:
        return history, None
    if observation.stage == Stage.EXITED:
        return history, ForgetIt(observation.id)
    retired_at = inputs.now if history.retired_at is None else history.retired_at
    left_at = history.left_edge_at
    if left_at is None and inputs.at_edge is not None and observation.id not in inputs.at_edge:
        left_at = inputs.now
    history = replace(history, retired_at=retired_at, left_edge_at=left_at)
    health = inputs.health.get(observation.id, ProbedHealth())
    history = _in_phase(history, Phase.DRAINING, _draining(health), inputs)
    drain_s = history.spec.drain_s if history.spec else ReplicaSpec.model_fields["drain_s"].default
    left_s = drain_s - (inputs.now - retired_at)
    silence = _silence(history, health, inputs) if history.spec else None
    history = replace(history, busy_at=inputs.now if silence and silence.busy else history.busy_at)
    if silence and silence.hung:
        reason = silence.reason
        return replace(history, stopping=_NOT_WANTED), StopIt(observation.id, 0.0, reason, stacks=True)
    if observation.stage in (Stage.WAITING, Stage.INSTALLING):
        grace_s = 0.0
    elif _quiet(observation.id, health, left_at, inputs) or left_s <= (-EDGE_PATIENCE_S if left_at is None else 0.0):
        grace_s = max(left_s, LAST_GRACE_S)
    else:
        return history, None
    return replace(history, stopping=_NOT_WANTED), StopIt(observation.id, grace_s, _NOT_WANTED)


def _draining(health: ProbedHealth) -> str:
    count = health.answer.in_flight if health.answer else 0
    return f"{_NOT_WANTED} {count} call{'' if count == 1 else 's'} in flight." if count else _NOT_WANTED


def _quiet(replica: str, health: ProbedHealth, left_edge_at: float | None, inputs: AgentInputs) -> bool:
    """Whether nobody uses it: the edge let go of it, and it was twice found with nothing in flight after that."""
    if left_edge_at is None or replica in inputs.edge_busy:
        return False
    if health.answer is None:
        return True  # it never got as far as to be asked anything
    return health.zeros >= MISSES and health.asked_at >= left_edge_at + EDGE_SETTLE_S


# What is told


def _endpoints(
    plan: Plan, inputs: AgentInputs, histories: Mapping[str, ReplicaHistory]
) -> dict[DeploymentKey, tuple[ReplicaEndpoint, ...]]:
    """The replicas behind each route: those that are ready; of a revision without any, those that are busy.

    Whoever calls a service whose only replica is busy waits in its socket, and is answered when it is done.
    """
    found: dict[DeploymentKey, tuple[ReplicaEndpoint, ...]] = {(r.workspace, r.deployment): () for r in plan.routes}
    served = {(s.workspace, s.deployment, s.revision) for s in plan.replicas if histories[s.id].phase is Phase.READY}
    for spec in sorted(plan.replicas, key=lambda s: s.id):
        observation, history = inputs.observed.get(spec.id), histories[spec.id]
        alone = (spec.workspace, spec.deployment, spec.revision) not in served
        serves = history.phase is Phase.READY or (alone and _busy(history, inputs))
        if serves and not history.stopping and observation and observation.stage == Stage.STARTING:
            key = (spec.workspace, spec.deployment)
            found[key] = (*found.get(key, ()), *_endpoint(spec, observation))
    return found


def _busy(history: ReplicaHistory, inputs: AgentInputs) -> bool:
    """Whether a replica that was ready is only kept from answering by calls that are in time."""
    assert history.spec is not None
    health = inputs.health.get(history.spec.id, ProbedHealth())
    silence = _silence(history, health, inputs)
    return silence is not None and silence.busy and health.answer is not None and health.answer.phase == Phase.READY


def _endpoint(spec: ReplicaSpec, observation: ReplicaObservation) -> tuple[ReplicaEndpoint, ...]:
    if not observation.service_address:
        return ()
    return (
        ReplicaEndpoint(
            replica=spec.id,
            revision=spec.revision,
            address=observation.service_address,
            control_address=observation.control_address,
        ),
    )


def _status(history: ReplicaHistory, observation: ReplicaObservation | None) -> ReplicaStatus:
    assert history.spec is not None
    return ReplicaStatus(
        id=history.spec.id,
        name=history.spec.name,
        workspace=history.spec.workspace,
        deployment=history.spec.deployment,
        revision=history.spec.revision,
        phase=history.phase,
        reason=history.reason,
        since=history.since,
        started_at=observation.started_at if observation else None,
        restarts=history.restarts,
        exit_code=history.exit_code,
        last_lines=history.last_lines,
        address=observation.service_address if observation else None,
        pid=observation.pid if observation and observation.stage == Stage.STARTING else None,
    )


def _in_phase(history: ReplicaHistory, phase: Phase, reason: str, inputs: AgentInputs) -> ReplicaHistory:
    since = history.since if phase == history.phase else inputs.wall
    return replace(history, phase=phase, reason=reason, since=since)
