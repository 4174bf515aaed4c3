"""What the agent does next: a pure function of the plan, of what it observes, and of what it remembers.

    step(plan, inputs, histories) -> AgentDecision: actions, endpoints, statuses, new histories

For each replica on its own:

    wanted, does not exist     start it, once its back-off is over              `wanted`
    wanted, ended by itself    record the failure; start it again after its back-off, if it restarts
    wanted, ready              behind the edge for as long as it answers        `results`
    wanted, silent             out of the edge after two missed probes, unless it is the last of its revision; stopped
                               when it hangs                                    `liveness`
    not wanted, running        out of the edge; stopped once the edge has released it and it is idle   `unwanted`
    not wanted, ended          forgotten
    an attempt of a job        started once, stopped when its time is over, published   `attempts`

A running replica is sent its access list, the requests to refuse, and its knobs, each when the version that it reports
is another one (`messages`). A trial's knobs are a lease: they apply only while the control plane answers, so they end
`LEASE_S` after it has gone. A replica that ended during a trial restarts with safe knobs and does not join that trial
again.

Every action goes through `_first_due`: an action that is still needed after it was begun is repeated after a back-off
that grows with every attempt. So a replica that refuses, hangs, or ignores what it is sent is asked ever more seldom.

A replica with an operation in progress (`AgentInputs.busy`) gets no other action: what was observed of it may be older
than the operation. Times are monotonic, but for `wall`, which stamps what people see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kaon.agent.decide.attempts import follow_attempt
from kaon.agent.decide.inputs import (
    Action,
    AgentInputs,
    Attempts,
    ForgetIt,
    ReplicaHistory,
    StartIt,
    StopIt,
    TuneIt,
    in_phase,
    kind_of,
    target_of,
)
from kaon.agent.decide.messages import messages, reachable
from kaon.agent.decide.results import endpoints_of, status_of
from kaon.agent.decide.unwanted import retire
from kaon.agent.decide.wanted import want
from kaon.types.names import DeploymentKey
from kaon.types.plan import Plan
from kaon.types.replica import Phase, ReplicaStatus
from kaon.types.route import ReplicaEndpoint


@dataclass(frozen=True)
class AgentDecision:
    """What to do now, and what to pass on."""

    actions: tuple[Action, ...]
    endpoints: dict[DeploymentKey, tuple[ReplicaEndpoint, ...]]
    statuses: tuple[ReplicaStatus, ...]
    histories: dict[str, ReplicaHistory]
    again_in_s: float | None  # until the next back-off or lease of a trial ends; None: there is none


def step(plan: Plan, inputs: AgentInputs, histories: Mapping[str, ReplicaHistory]) -> AgentDecision:
    """Decide for every replica in the plan or in the place."""
    attempts = {attempt.replica.id: attempt for attempt in plan.attempts}
    wanted = {spec.id: spec for spec in plan.replicas} | {id_: planned.replica for id_, planned in attempts.items()}
    actions: list[Action] = []
    updated: dict[str, ReplicaHistory] = {}
    waiting: list[float] = []
    for id_ in sorted({*wanted, *inputs.observed}):
        history, observation = histories.get(id_, ReplicaHistory(since=inputs.wall)), inputs.observed.get(id_)
        if id_ in attempts:
            history, action = follow_attempt(history, attempts[id_], observation, inputs)
            needed = [] if action is None else [action]
        elif id_ in wanted:
            history, action = want(replace(history, spec=wanted[id_]), wanted[id_], observation, inputs)
            needed = [] if action is None else [action]
            if action is None and (health := reachable(wanted[id_], observation, history, inputs)):
                history, needed = messages(plan, wanted[id_], health, history, inputs)
        else:
            assert observation is not None
            history, action = retire(history, observation, inputs)
            needed = [] if action is None else [action]
        history, begun = _first_due(history, id_, needed, inputs)
        updated[id_] = history
        if begun:
            actions.append(begun)
        else:
            kinds = map(kind_of, needed)
            waiting += [again_s for kind in kinds if (again_s := history.attempts[kind].again_at - inputs.now) > 0]
    waiting += [m.retry_at - inputs.now for id_, m in updated.items() if id_ in wanted and m.retry_at > inputs.now]
    if inputs.lease_s > 0 and any(planned.trial is not None for planned in plan.knobs.values()):
        waiting.append(inputs.lease_s)
    return AgentDecision(
        actions=tuple(actions),
        endpoints=endpoints_of(plan, inputs, updated),
        statuses=tuple(status_of(m, inputs.observed.get(id_)) for id_, m in updated.items() if m.spec),
        histories=updated,
        again_in_s=min(waiting, default=None),
    )


def _first_due(
    history: ReplicaHistory, id_: str, needed: Sequence[Action], inputs: AgentInputs
) -> tuple[ReplicaHistory, Action | None]:
    """Begin the first of the needed actions whose back-off is over."""
    kinds = {kind_of(action) for action in needed}
    attempts = {
        kind: made
        for kind, made in history.attempts.items()
        if kind in kinds or id_ in inputs.busy or inputs.now < made.again_at
    }
    for action in needed:
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
    """The history after an action was begun."""
    match action:
        case StartIt():  # its phase stays until the driver reports another one
            again = 1 if history.end_counted and history.begun else 0
            history = replace(
                history, end_counted=False, begun=True, refused_spec=None, restarts=history.restarts + again
            )
            return replace(history, stopping="", ready_since=None)
        case TuneIt():
            return replace(history, tuned=target_of(action))
    return history


def _still_there(history: ReplicaHistory, action: Action, inputs: AgentInputs) -> ReplicaHistory:
    """Report a stop that fails: it is the reason why the replica still exists."""
    if isinstance(action, StopIt | ForgetIt) and (cause := inputs.failures.get((action.replica, kind_of(action)))):
        return in_phase(history, Phase.CRASHED, f"It cannot be ended: {cause}", inputs)
    return history
