"""How a new revision takes over from the one that serves.

A rollout is one kind of move, repeated in every pass: towards a *goal*, the revision that should serve, replicas of all
*others* are removed as those of the goal become ready. The goal is the target, the revision of the newest template.
When the target does not start, the rollout stops and the goal is the stable revision again, so that going back is the
same move in the other direction. Without a stable revision a stopped rollout keeps trying.

With a canary the target is first on *trial*: besides all replicas of the stable revision there are as many of the
target as its share of the calls needs. When the trial is passed, the move above follows; when the target answers worse,
the rollout stops. See `kaon.laws.canary` for the decision, and `kaon.laws.moves` for the invariants of replicas and
shares.

A *shadow* revision runs besides, with no share of the calls.

A stopped rollout is tried again when a part of the spec changes that decides whether the target starts; bounds of
replicas or callers are no such part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kaon.laws import canary as trials
from kaon.laws import moves
from kaon.laws.replica_states import TROUBLE, OrdinalsByRevision, ReplicaState, ReplicaStates, describe, late_at
from kaon.types.deployment import (
    Assignment,
    CanaryStatus,
    DeploymentSpec,
    Rollout,
    RolloutState,
    RolloutStatus,
    ScalingStatus,
    Template,
)
from kaon.types.model import Model, content_hash
from kaon.types.replica import Phase
from kaon.types.traffic import Sample

__all__ = ["ReplicaState", "describe", "desired_replicas", "next_look_at", "step"]


@dataclass(frozen=True)
class _RolloutInputs:
    """The inputs of one pass."""

    spec: DeploymentSpec
    status: RolloutStatus
    target: int
    restarted: bool
    count: int
    before: OrdinalsByRevision
    states: ReplicaStates
    now: float
    running: frozenset[tuple[int, int]] | None = None
    """Revision and ordinal of every replica that is reported, where at most one may run; None: any number may."""


@dataclass(frozen=True)
class _Move:
    """The decision of one pass: replicas, shares of the calls, and whether the goal is reached."""

    after: OrdinalsByRevision
    weights: dict[int, int]
    canary: CanaryStatus | None
    arrived: bool = False
    degraded: bool = False
    held: bool = False
    on_trial: bool = False


class _Tried(Model):
    """The part of a spec that decides whether a revision starts."""

    template: Template
    rollout: Rollout
    paused: bool


def desired_replicas(spec: DeploymentSpec, status: RolloutStatus, scaling: ScalingStatus) -> int:
    """The desired number of ready replicas: the scaling law's decision, within the bounds of the spec.

    Before its first decision, and while a new revision takes over, it is at least one: a revision must become ready
    once before it goes to zero, not when the first caller waits.
    """
    low, high = spec.scaling.min, spec.scaling.max
    failed = status.state is RolloutState.STOPPED and status.stable is not None
    proved = scaling.wanted is not None and (status.stable == status.target or failed)
    return min(max(scaling.wanted or 0, low if proved else max(1, low)), high)


def woken(spec: DeploymentSpec, status: RolloutStatus, scaling: ScalingStatus, held: int) -> ScalingStatus:
    """`scaling`, with one replica wanted when there is none and `held` callers wait for one."""
    if not held or spec.scaling.max == 0 or desired_replicas(spec, status, scaling) > 0:
        return scaling
    callers = "a caller waits" if held == 1 else f"{held} callers wait"
    return ScalingStatus(wanted=1, reason=f"{callers} for a replica")


def step(
    spec: DeploymentSpec,
    generation: int,
    status: RolloutStatus,
    scaling: ScalingStatus,
    target: int,
    replicas: Sequence[ReplicaState],
    now: float,
    samples: Sequence[Sample] = (),
    shadow: int | None = None,
    *,
    alone: bool = False,
) -> RolloutStatus:
    """The next status.

    `generation` is that of `spec`, `target` the number of the revision of its template, `status` the last
    decision, `now` epoch seconds, `samples` the newest ten minutes of the deployment's traffic, for canaries,
    `shadow` the number of the spec's shadow, `scaling` what the scaling law decided last. `alone`: its state is in a
    folder, so at most one replica runs at once: the old one ends before the new one starts.
    """
    new_target = {} if target == status.target else {"target": target, "state": RolloutState.PROGRESSING}
    states, count = ReplicaStates(replicas), desired_replicas(spec, status.model_copy(update=new_target), scaling)
    before, shadows = _split_shadow(
        {a.revision: frozenset(a.ordinals) for a in status.assignments}, status.shadow, target
    )
    tried = _tried(spec)
    restarted = target != status.target or tried != status.tried
    since = now if restarted else status.since
    if status.stable is None:
        status = status.model_copy(update={"stable": _proved(before, target, states)})
    running = frozenset((r.revision, r.ordinal) for r in replicas) if alone else None
    count = min(count, 1) if alone else count
    inputs = _RolloutInputs(spec, status, target, restarted, count, before, states, now, running)

    trial = trials.follow(spec, status, target, restarted, samples, now)
    stopped = _stop_reason(inputs, since, trial)
    goal = target if status.stable is None or not stopped else status.stable
    rules = spec.rollout.canary
    on_trial = trial and rules and not stopped and not trials.passed(rules, trial)
    move = _try_out(inputs, trial) if trial and on_trial else _take_over(inputs, goal, trial)

    # A revision that never ran has not proved itself, so one that takes over with zero replicas is not stable.
    stable = goal if move.arrived and count and not on_trial else status.stable
    if stopped and not (move.arrived and goal == target):
        state = RolloutState.STOPPED
    elif move.arrived:
        state = RolloutState.STABLE
    else:
        state = RolloutState.DEGRADED if move.degraded else RolloutState.PROGRESSING
    stop_changed = (state is RolloutState.STOPPED) != (status.state is RolloutState.STOPPED)
    shadow = None if shadow in {stable, target, *move.after} else shadow
    shadows = _shadows(inputs, shadow, shadows if shadow == status.shadow else frozenset())
    return status.model_copy(
        update={
            "observed_generation": generation,
            "tried": tried,
            "target": target,
            "stable": stable,
            "since": now if move.after != before or stop_changed else since,
            "state": state,
            "reason": stopped if state is RolloutState.STOPPED else _reason(inputs, goal, move),
            "canary": move.canary,
            "shadow": shadow,
            "assignments": _assignments(move, states, {shadow: shadows} if shadow and shadows else {}),
        }
    )


def _tried(spec: DeploymentSpec) -> str:
    """16 hex digits that identify that part of the spec."""
    return content_hash(_Tried(template=spec.template, rollout=spec.rollout, paused=spec.paused))[:16]


def next_look_at(
    spec: DeploymentSpec, status: RolloutStatus, replicas: Sequence[ReplicaState], now: float
) -> float | None:
    """Epoch seconds at which a deadline passes or more calls are counted, so that `step` may decide otherwise."""
    if status.state is not RolloutState.PROGRESSING:
        return None
    looks = [now + trials.LOOK_S] if status.canary else []
    if not spec.paused:
        coming = (s for s in replicas if s.revision == status.target and s.phase is not Phase.READY)
        looks += [late_at(s, status.since, spec.rollout.progress_deadline_s) for s in coming]
    return min((at for at in looks if at > now), default=None)


def _try_out(inputs: _RolloutInputs, trial: CanaryStatus) -> _Move:
    """The next move of a trial, with its progress. A paused one keeps its share."""
    spec, status, count, target, states = inputs.spec, inputs.status, inputs.count, trial.revision, inputs.states
    rules, stable = spec.rollout.canary, status.stable
    assert rules is not None
    assert stable is not None
    has = next((a.weight for a in status.assignments if a.revision == target), 0)
    percent = min(has, trials.share(rules, trial)) if spec.paused else trials.share(rules, trial)
    needed = target, trials.needs(percent, count)
    after = moves.try_out(inputs.before, stable, needed, count, spec.rollout.max_surge, states, held=spec.paused)
    ready = _ready(after, states)
    rest = {r: n for r, n in ready.items() if r != target and (r == stable or not ready.get(stable))}
    given = trials.weight(percent, ready.get(target, 0), count) if rest else 100
    first = stable if stable in rest else max(rest, default=stable)
    weights = {target: given, **moves.shares(rest, first, 100 - given)}
    if count and not spec.paused:
        trial = trials.moved(rules, trial, given, inputs.now)
    return _Move(after, weights, trial, arrived=not after, held=spec.paused, on_trial=True)


def _take_over(inputs: _RolloutInputs, goal: int, trial: CanaryStatus | None) -> _Move:
    """The next move towards `goal`."""
    spec, status, before, states = inputs.spec, inputs.status, inputs.before, inputs.states
    held = spec.paused and (status.stable != goal or bool(before.keys() - {goal}))
    surge, hopeless = spec.rollout.max_surge, goal != inputs.target
    move = moves.take_over(before, goal, inputs.count, surge, states, hopeless=hopeless)
    after = _held_replicas(inputs, goal) if held else move
    if inputs.running is not None and not held:
        after = _one_after_the_other(inputs, goal, inputs.running)
    ready = _ready(after, states)
    settled = not held and after.keys() <= {goal}
    arrived = settled and ready.get(goal, 0) >= inputs.count
    # A trial that was stopped is kept until none of its replicas run: its revision is not proved.
    canary = trial or (None if settled else status.canary)
    proved = {r: n for r, n in ready.items() if not _unproved(inputs, goal, r, canary)}
    weights = moves.shares(proved if any(proved.values()) else ready, goal)
    grew = len(after.get(goal, ())) > len(before.get(goal, ()))
    failing = states.worst(goal, after.get(goal, ()))
    degraded = settled and status.stable == goal and not inputs.restarted and not grew and _degraded(status, failing)
    return _Move(after, weights, None if arrived and goal == inputs.target else canary, arrived, degraded, held)


def _one_after_the_other(inputs: _RolloutInputs, goal: int, running: frozenset[tuple[int, int]]) -> OrdinalsByRevision:
    """One replica of the goal, as soon as no other one is left: neither planned before nor reported now.

    The one that runs already stays, whatever its ordinal: a caller that waited may have started it.
    """
    planned = {(revision, ordinal) for revision, ordinals in inputs.before.items() for ordinal in ordinals}
    own = min(((r, o) for r, o in planned & running if r == goal), default=None)
    own = own or min(((r, o) for r, o in planned | running if r == goal), default=(goal, 0))
    others = (planned | running) - {own}
    if not inputs.count or (others and own not in planned & running):
        return {}
    return {goal: frozenset({own[1]})}


def _held_replicas(inputs: _RolloutInputs, goal: int) -> OrdinalsByRevision:
    """The replicas of a held rollout: none are moved, but more desired ones start, of the serving revision."""
    revision = inputs.status.stable if inputs.status.stable in inputs.before else goal
    ordinals = inputs.before.get(revision, frozenset())
    missing = inputs.count - sum(len(of_each) for of_each in inputs.before.values())
    if missing <= 0:
        return inputs.before
    return {**inputs.before, revision: ordinals | inputs.states.free(revision, ordinals, missing)}


def _unproved(inputs: _RolloutInputs, goal: int, revision: int, canary: CanaryStatus | None) -> bool:
    """Whether a revision was on trial, and did not pass."""
    rules = inputs.spec.rollout.canary
    return bool(canary and canary.revision == revision != goal and not (rules and trials.passed(rules, canary)))


def _split_shadow(
    replicas: OrdinalsByRevision, shadow: int | None, target: int
) -> tuple[OrdinalsByRevision, frozenset[int]]:
    """The serving replicas, and those of the shadow; a shadow that is the target now is none any more."""
    serving = {revision: ordinals for revision, ordinals in replicas.items() if ordinals}
    if shadow is None or shadow == target:
        return serving, frozenset()
    return {r: o for r, o in serving.items() if r != shadow}, serving.get(shadow, frozenset())


def _shadows(inputs: _RolloutInputs, shadow: int | None, ordinals: frozenset[int]) -> frozenset[int]:
    """Replicas of the shadow: as many as its share of copies needs."""
    if shadow is None or inputs.spec.shadow is None:
        return frozenset()
    needed = math.ceil(inputs.count * inputs.spec.shadow.percent / 100)
    kept = frozenset(sorted(ordinals)[:needed])
    return kept | inputs.states.free(shadow, kept, needed - len(kept))


def _proved(replicas: OrdinalsByRevision, target: int, states: ReplicaStates) -> int | None:
    """The earlier revision that serves although it never became stable: the one with most ready replicas."""
    ready = {r: len(states.ready(r, ordinals)) for r, ordinals in replicas.items() if r != target}
    return max((r for r in ready if ready[r]), key=lambda r: (ready[r], r), default=None)


def _stop_reason(inputs: _RolloutInputs, since: float, trial: CanaryStatus | None) -> str:
    """Why the target cannot take over; empty: it can, or it has. A stopped rollout stays stopped until it restarts."""
    status = inputs.status
    if status.stable == inputs.target:
        return ""
    if status.state is RolloutState.STOPPED and not inputs.restarted:
        return _failure(inputs, since) or status.reason
    if trial and status.stable is not None and (bad := trials.worse(trial, status.stable)):
        return bad
    return _failure(inputs, since)


def _failure(inputs: _RolloutInputs, since: float) -> str:
    """Why the target does not start; empty while paused."""
    if inputs.spec.paused:
        return ""
    ordinals = inputs.before.get(inputs.target, frozenset())
    return inputs.states.failure(inputs.target, ordinals, since, inputs.spec.rollout.progress_deadline_s, inputs.now)


def _degraded(status: RolloutStatus, failing: ReplicaState | None) -> bool:
    """Whether too few are ready because some failed, not because more are desired since a moment ago."""
    broke = failing is not None and (failing.phase in TROUBLE or failing.restarts > 0)
    return broke or status.state is not RolloutState.PROGRESSING


def _ready(replicas: OrdinalsByRevision, states: ReplicaStates) -> dict[int, int]:
    return {revision: len(states.ready(revision, ordinals)) for revision, ordinals in replicas.items()}


def _reason(inputs: _RolloutInputs, goal: int, move: _Move) -> str:
    if move.arrived:
        return "No replicas are wanted." if inputs.count == 0 else ""
    if move.held:
        return f"Paused, with {move.weights.get(goal, 0)} % of the calls." if move.on_trial else "Paused."
    if move.on_trial and move.canary and move.canary.reason:
        return move.canary.reason
    ordinals = move.after.get(goal, frozenset())
    needed = len(ordinals) if move.on_trial else inputs.count
    text = f"{len(inputs.states.ready(goal, ordinals))} of {needed} replicas of revision {goal} are ready"
    failing = inputs.states.worst(goal, ordinals)
    return f"{text}: {describe(failing)}" if failing else f"{text}."


def _assignments(move: _Move, states: ReplicaStates, shadows: OrdinalsByRevision) -> tuple[Assignment, ...]:
    replicas = {**move.after, **shadows}
    ready = _ready(replicas, states)
    return tuple(
        Assignment(
            revision=revision,
            replicas=len(ordinals),
            ordinals=tuple(sorted(ordinals)),
            ready=ready[revision],
            weight=move.weights.get(revision, 0),
        )
        for revision, ordinals in sorted(replicas.items())
    )
