"""How a new revision takes over from the one that serves.

Everything is one move, made again at every look at the world: towards a *goal*, the revision that should
serve, replicas of all *others* are taken away as those of the goal become ready. The goal is the target,
the newest template; when the target does not come up, the rollout stops and the goal is the stable
revision again, so that going back is the same careful move in the other direction. Without a stable one
a stopped rollout says so and is tried on: there is nothing to go back to.

With a canary the target is first on *trial*: beside all replicas of the stable revision it has as many as its
share of the calls needs. Once the trial is passed, the move above is made; when it answers worse, the rollout stops.
See `kaon.laws.canary` for when, and `kaon.laws.moves` for what always holds of replicas and shares.

A *shadow* revision runs beside all that, with a share of nothing.

When what decides whether the target comes up changes in a stopped rollout's spec, it is tried again; how many
replicas there may be, or who may call, is no such thing.
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
class _Look:
    """What one look decides by."""

    spec: DeploymentSpec
    status: RolloutStatus
    target: int
    anew: bool
    count: int
    before: OrdinalsByRevision
    world: ReplicaStates
    now: float


@dataclass(frozen=True)
class _Move:
    """What one look decides: who runs, who gets what share, and whether all is as it should be."""

    after: OrdinalsByRevision
    weights: dict[int, int]
    canary: CanaryStatus | None
    arrived: bool = False
    fell: bool = False
    held: bool = False
    on_trial: bool = False


class _Tried(Model):
    """The part of a spec by which a revision comes up or does not."""

    template: Template
    rollout: Rollout
    paused: bool


def desired_replicas(spec: DeploymentSpec, status: RolloutStatus, scaling: ScalingStatus) -> int:
    """How many ready replicas there should be: what the scaling law decided, within the bounds of the spec.

    Before its first decision, and while a new revision takes over, there is at least one: a revision proves itself
    before it goes to zero, rather than before its first caller.
    """
    low, high = spec.scaling.min, spec.scaling.max
    failed = status.state is RolloutState.STOPPED and status.stable is not None
    proved = scaling.wanted is not None and (status.stable == status.target or failed)
    return min(max(scaling.wanted or 0, low if proved else max(1, low)), high)


def woken(spec: DeploymentSpec, status: RolloutStatus, scaling: ScalingStatus, held: int) -> ScalingStatus:
    """`scaling` itself, or one replica wanted where there is none and `held` callers wait for one."""
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
    seen: Sequence[ReplicaState],
    now: float,
    samples: Sequence[Sample] = (),
    shadow: int | None = None,
) -> RolloutStatus:
    """The next status.

    `generation` is that of `spec`, `target` the number of the revision of its template, `status` the last
    decision, `now` epoch seconds, `samples` the newest ten minutes of the deployment's traffic, for canaries,
    `shadow` the number of the spec's shadow, `scaling` what the scaling law decided last.
    """
    come = {} if target == status.target else {"target": target, "state": RolloutState.PROGRESSING}
    world, count = ReplicaStates(seen), desired_replicas(spec, status.model_copy(update=come), scaling)
    before, shadows = _apart({a.revision: frozenset(a.ordinals) for a in status.assignments}, status.shadow, target)
    tried = _tried(spec)
    anew = target != status.target or tried != status.tried
    since = now if anew else status.since
    if status.stable is None:
        status = status.model_copy(update={"stable": _proved(before, target, world)})
    look = _Look(spec, status, target, anew, count, before, world, now)

    trial = trials.follow(spec, status, target, anew, samples, now)
    why = _why_stopped(look, since, trial)
    goal = target if status.stable is None or not why else status.stable
    rules = spec.rollout.canary
    on_trial = trial and rules and not why and not trials.passed(rules, trial)
    move = _try_out(look, trial) if trial and on_trial else _take_over(look, goal, trial)

    # Nothing is known of a revision that never ran, so one that arrives at zero replicas has not proved itself.
    stable = goal if move.arrived and count and not on_trial else status.stable
    if why and not (move.arrived and goal == target):
        state = RolloutState.STOPPED
    elif move.arrived:
        state = RolloutState.STABLE
    else:
        state = RolloutState.DEGRADED if move.fell else RolloutState.PROGRESSING
    turned = (state is RolloutState.STOPPED) != (status.state is RolloutState.STOPPED)
    shadow = None if shadow in {stable, target, *move.after} else shadow
    shadows = _shadows(look, shadow, shadows if shadow == status.shadow else frozenset())
    return status.model_copy(
        update={
            "observed_generation": generation,
            "tried": tried,
            "target": target,
            "stable": stable,
            "since": now if move.after != before or turned else since,
            "state": state,
            "reason": why if state is RolloutState.STOPPED else _reason(look, goal, move),
            "canary": move.canary,
            "shadow": shadow,
            "assignments": _assignments(move, world, {shadow: shadows} if shadow and shadows else {}),
        }
    )


def _tried(spec: DeploymentSpec) -> str:
    """16 hex digits that name that part of the spec."""
    return content_hash(_Tried(template=spec.template, rollout=spec.rollout, paused=spec.paused))[:16]


def next_look_at(spec: DeploymentSpec, status: RolloutStatus, seen: Sequence[ReplicaState], now: float) -> float | None:
    """Epoch seconds at which a deadline passes or more calls are counted, so that `step` may decide otherwise."""
    if status.state is not RolloutState.PROGRESSING:
        return None
    looks = [now + trials.LOOK_S] if status.canary else []
    if not spec.paused:
        coming = (s for s in seen if s.revision == status.target and s.phase is not Phase.READY)
        looks += [late_at(s, status.since, spec.rollout.progress_deadline_s) for s in coming]
    return min((at for at in looks if at > now), default=None)


def _try_out(look: _Look, trial: CanaryStatus) -> _Move:
    """The next move of a trial, and how far it is then. Paused, it keeps the share that it has."""
    spec, status, count, target, world = look.spec, look.status, look.count, trial.revision, look.world
    rules, stable = spec.rollout.canary, status.stable
    assert rules is not None
    assert stable is not None
    has = next((a.weight for a in status.assignments if a.revision == target), 0)
    percent = min(has, trials.share(rules, trial)) if spec.paused else trials.share(rules, trial)
    needed = target, trials.needs(percent, count)
    after = moves.try_out(look.before, stable, needed, count, spec.rollout.max_surge, world, held=spec.paused)
    ready = _ready(after, world)
    rest = {r: n for r, n in ready.items() if r != target and (r == stable or not ready.get(stable))}
    given = trials.weight(percent, ready.get(target, 0), count) if rest else 100
    first = stable if stable in rest else max(rest, default=stable)
    weights = {target: given, **moves.shares(rest, first, 100 - given)}
    if count and not spec.paused:
        trial = trials.moved(rules, trial, given, look.now)
    return _Move(after, weights, trial, arrived=not after, held=spec.paused, on_trial=True)


def _take_over(look: _Look, goal: int, trial: CanaryStatus | None) -> _Move:
    """The next move towards `goal`."""
    spec, status, before, world = look.spec, look.status, look.before, look.world
    held = spec.paused and (status.stable != goal or bool(before.keys() - {goal}))
    surge, hopeless = spec.rollout.max_surge, goal != look.target
    move = moves.take_over(before, goal, look.count, surge, world, hopeless=hopeless)
    after = _grown(look, goal) if held else move
    ready = _ready(after, world)
    settled = not held and after.keys() <= {goal}
    arrived = settled and ready.get(goal, 0) >= look.count
    # A trial that was broken off is remembered until nothing of it runs: its revision has proved nothing.
    canary = trial or (None if settled else status.canary)
    proved = {r: n for r, n in ready.items() if not _unproved(look, goal, r, canary)}
    weights = moves.shares(proved if any(proved.values()) else ready, goal)
    grew = len(after.get(goal, ())) > len(before.get(goal, ()))
    sick = world.worst(goal, after.get(goal, ()))
    fell = settled and status.stable == goal and not look.anew and not grew and _fell(status, sick)
    return _Move(after, weights, None if arrived and goal == look.target else canary, arrived, fell, held)


def _grown(look: _Look, goal: int) -> OrdinalsByRevision:
    """What runs in a held rollout: nobody is moved, but more wanted replicas come, of the revision that serves."""
    revision = look.status.stable if look.status.stable in look.before else goal
    ordinals = look.before.get(revision, frozenset())
    missing = look.count - sum(len(of_each) for of_each in look.before.values())
    if missing <= 0:
        return look.before
    return {**look.before, revision: ordinals | look.world.free(revision, ordinals, missing)}


def _unproved(look: _Look, goal: int, revision: int, canary: CanaryStatus | None) -> bool:
    """Whether a revision was on trial, and did not pass it."""
    rules = look.spec.rollout.canary
    return bool(canary and canary.revision == revision != goal and not (rules and trials.passed(rules, canary)))


def _apart(replicas: OrdinalsByRevision, shadow: int | None, target: int) -> tuple[OrdinalsByRevision, frozenset[int]]:
    """Those that serve, and those of the shadow; one that is to serve now is no shadow any more."""
    serving = {revision: ordinals for revision, ordinals in replicas.items() if ordinals}
    if shadow is None or shadow == target:
        return serving, frozenset()
    return {r: o for r, o in serving.items() if r != shadow}, serving.get(shadow, frozenset())


def _shadows(look: _Look, shadow: int | None, ordinals: frozenset[int]) -> frozenset[int]:
    """Replicas of the shadow: as many as its share of copies needs."""
    if shadow is None or look.spec.shadow is None:
        return frozenset()
    needed = math.ceil(look.count * look.spec.shadow.percent / 100)
    kept = frozenset(sorted(ordinals)[:needed])
    return kept | look.world.free(shadow, kept, needed - len(kept))


def _proved(replicas: OrdinalsByRevision, target: int, world: ReplicaStates) -> int | None:
    """The earlier revision that serves though it was replaced before all of it was up: that with most ready."""
    ready = {r: len(world.ready(r, ordinals)) for r, ordinals in replicas.items() if r != target}
    return max((r for r in ready if ready[r]), key=lambda r: (ready[r], r), default=None)


def _why_stopped(look: _Look, since: float, trial: CanaryStatus | None) -> str:
    """Why the target cannot take over; empty while it may, or once it did. Once stopped it stays so until anew."""
    status = look.status
    if status.stable == look.target:
        return ""
    if status.state is RolloutState.STOPPED and not look.anew:
        return _failure(look, since) or status.reason
    if trial and status.stable is not None and (bad := trials.worse(trial, status.stable)):
        return bad
    return _failure(look, since)


def _failure(look: _Look, since: float) -> str:
    """Why the target does not come up; held, nothing is judged."""
    if look.spec.paused:
        return ""
    ordinals = look.before.get(look.target, frozenset())
    return look.world.failure(look.target, ordinals, since, look.spec.rollout.progress_deadline_s, look.now)


def _fell(status: RolloutStatus, sick: ReplicaState | None) -> bool:
    """Whether too few are ready because some fell, rather than because more are wanted since a moment ago."""
    broke = sick is not None and (sick.phase in TROUBLE or sick.restarts > 0)
    return broke or status.state is not RolloutState.PROGRESSING


def _ready(replicas: OrdinalsByRevision, world: ReplicaStates) -> dict[int, int]:
    return {revision: len(world.ready(revision, ordinals)) for revision, ordinals in replicas.items()}


def _reason(look: _Look, goal: int, move: _Move) -> str:
    if move.arrived:
        return "No replicas are wanted." if look.count == 0 else ""
    if move.held:
        return f"Paused, with {move.weights.get(goal, 0)} % of the calls." if move.on_trial else "Paused."
    if move.on_trial and move.canary and move.canary.reason:
        return move.canary.reason
    ordinals = move.after.get(goal, frozenset())
    needed = len(ordinals) if move.on_trial else look.count
    text = f"{len(look.world.ready(goal, ordinals))} of {needed} replicas of revision {goal} are ready"
    sick = look.world.worst(goal, ordinals)
    return f"{text}: {describe(sick)}" if sick else f"{text}."


def _assignments(move: _Move, world: ReplicaStates, shadows: OrdinalsByRevision) -> tuple[Assignment, ...]:
    replicas = {**move.after, **shadows}
    ready = _ready(replicas, world)
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
