"""How a new revision takes over from the one that serves.

Everything is one move, made again at every look at the world: towards a *goal*, the revision that should
serve, replicas of all *others* are taken away as those of the goal become ready. The goal is the target,
the newest template; when the target does not come up, the rollout stops and the goal is the stable
revision again, so that going back is the same careful move in the other direction. Without a stable one
a stopped rollout says so and is tried on: there is nothing to go back to.

What always holds, with `wanted` replicas and a surge of s:
- a replica that is ready is only taken away when `wanted` others are ready, or when fewer are wanted now;
- at most wanted + s replicas are assigned, or as many as were when fewer became wanted;
- more of the goal's replicas start only as others make room, so only when started ones are ready;
- a replica that is dead and of no use never blocks a move: what takes its place is a ready one.

Replicas are chosen by ordinal, not counted, so that of three the dead one goes, not the third. A new
replica gets an ordinal that nobody reports, so that it is never a dying one of the same name.

When a stopped rollout's spec changes in any way, it is tried again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count as counting
from itertools import islice

from kaon.types.deployment import Assignment, DeploymentSpec, DeploymentStatus, RolloutState
from kaon.types.model import Model
from kaon.types.replica import Phase

CRASHES = 3
"""A new replica that restarted so often does not come up."""

TROUBLE = frozenset({Phase.CRASHED, Phase.CONFIG_ERROR, Phase.NO_CAPACITY})


class Seen(Model):
    """What is known of one replica."""

    revision: int
    ordinal: int
    phase: Phase
    reason: str = ""
    begun_at: float = 0
    """Epoch seconds at which its process, or else its phase, began."""
    restarts: int = 0
    exit_code: int | None = None
    last_line: str = ""


Replicas = dict[int, frozenset[int]]
"""Revision -> ordinals."""


def wanted(spec: DeploymentSpec, status: DeploymentStatus) -> int:
    """How many ready replicas there should be: as the scaling law said, within the bounds.

    Before it said anything there is at least one, so that a new deployment proves itself before it goes to zero.
    """
    low, high = spec.scaling.min, spec.scaling.max
    said = max(1, low) if status.wanted is None else status.wanted
    return min(max(said, low), high)


def step(
    spec: DeploymentSpec,
    generation: int,
    status: DeploymentStatus,
    target: int,
    seen: Sequence[Seen],
    now: float,
) -> DeploymentStatus:
    """The next status; its conditions are left as they were.

    `generation` is that of `spec`, `target` the number of the revision of its template, `status` the last
    decision, `now` epoch seconds. The same arguments give the same answer.
    """
    world = _World(seen)
    before: Replicas = {a.revision: frozenset(a.ordinals) for a in status.assignments if a.ordinals}
    count = wanted(spec, status)
    anew = target != status.target or generation != status.observed_generation
    since = now if anew else status.since
    if status.stable is None:
        status = status.model_copy(update={"stable": _proved(before, target, world)})

    why = _why_stopped(spec, status, target, anew, world, before.get(target, frozenset()), since, now)
    goal = target if status.stable is None or not why else status.stable
    held = spec.paused and (status.stable != goal or bool(before.keys() - {goal}))
    after = before if held else _move(before, goal, count, spec.rollout.max_surge, world, hopeless=goal != target)

    ready = {revision: len(world.ready(revision, ordinals)) for revision, ordinals in after.items()}
    settled = not held and after.keys() <= {goal}
    arrived = settled and ready.get(goal, 0) >= count
    # Nothing is known of a revision that never ran, so one that arrives at zero replicas has not proved itself.
    stable = goal if arrived and count else status.stable
    fell = settled and stable == goal and not anew and _fell(status.state, world.worst(goal, after.get(goal, ())))
    if why and not (arrived and goal == target):
        state = RolloutState.STOPPED
    elif arrived:
        state = RolloutState.STABLE
    else:
        state = RolloutState.DEGRADED if fell else RolloutState.PROGRESSING
    turned = (state is RolloutState.STOPPED) != (status.state is RolloutState.STOPPED)
    return status.model_copy(
        update={
            "observed_generation": generation,
            "wanted": count if spec.scaling.min == spec.scaling.max else status.wanted,
            "target": target,
            "stable": stable,
            "since": now if after != before or turned else since,
            "state": state,
            "reason": why if state is RolloutState.STOPPED else _reason(held, arrived, after, goal, count, world),
            "assignments": _assignments(after, ready, goal),
        }
    )


def _proved(replicas: Replicas, target: int, world: _World) -> int | None:
    """The earlier revision that serves though it was replaced before all of it was up: that with most ready."""
    ready = {r: len(world.ready(r, ordinals)) for r, ordinals in replicas.items() if r != target}
    return max((r for r in ready if ready[r]), key=lambda r: (ready[r], r), default=None)


def _why_stopped(
    spec: DeploymentSpec,
    status: DeploymentStatus,
    target: int,
    anew: bool,
    world: _World,
    ordinals: frozenset[int],
    since: float,
    now: float,
) -> str:
    """Why the target does not come up; empty while it may, or once it did. Once stopped it stays so until anew."""
    if status.stable == target:
        return ""
    fails = "" if spec.paused else world.failure(target, ordinals, since, spec.rollout.progress_deadline_s, now)
    if status.state is RolloutState.STOPPED and not anew:
        return fails or status.reason
    return fails


def _fell(state: RolloutState, sick: Seen | None) -> bool:
    """Whether too few are ready because some fell, rather than because more are wanted since a moment ago."""
    broke = sick is not None and (sick.phase in TROUBLE or sick.restarts > 0)
    return broke or state is not RolloutState.PROGRESSING


def next_look_at(spec: DeploymentSpec, status: DeploymentStatus, seen: Sequence[Seen], now: float) -> float | None:
    """Epoch seconds at which a deadline passes, so that `step` may decide otherwise; None: never."""
    if status.state is not RolloutState.PROGRESSING or spec.paused:
        return None
    begins = (max(s.begun_at, status.since) for s in seen if s.revision == status.target and s.phase is not Phase.READY)
    deadlines = (begun + spec.rollout.progress_deadline_s for begun in begins)
    return min((at for at in deadlines if at > now), default=None)


class _World:
    """The replicas that are seen, by revision and ordinal."""

    def __init__(self, seen: Iterable[Seen]) -> None:
        self._seen = {(s.revision, s.ordinal): s for s in seen}

    def ready(self, revision: int, ordinals: Iterable[int]) -> set[int]:
        return {o for o in ordinals if (s := self._seen.get((revision, o))) and s.phase is Phase.READY}

    def free(self, revision: int, ordinals: frozenset[int], count: int) -> frozenset[int]:
        """The lowest `count` ordinals that are neither in `ordinals` nor seen."""
        used = ordinals | {o for r, o in self._seen if r == revision}
        return frozenset(islice((o for o in counting() if o not in used), count))

    def worst(self, revision: int, ordinals: Iterable[int]) -> Seen | None:
        """The replica whose trouble says most."""
        sick = [s for o in ordinals if (s := self._seen.get((revision, o))) and s.phase is not Phase.READY]
        return max(
            sick,
            key=lambda s: (s.phase is Phase.CONFIG_ERROR, s.phase is Phase.CRASHED, s.restarts, -s.ordinal),
            default=None,
        )

    def failure(self, revision: int, ordinals: Iterable[int], since: float, deadline_s: float, now: float) -> str:
        """Why these new replicas do not come up, or an empty text.

        One that nobody reports is not late: its agent may be.
        """
        for s in (self._seen.get((revision, o)) for o in sorted(ordinals)):
            if s is None or s.phase is Phase.READY:
                continue
            if s.phase is Phase.CONFIG_ERROR or s.restarts >= CRASHES:
                return f"Revision {revision} does not come up: {describe(s)}"
            if now - max(since, s.begun_at) >= deadline_s:
                return f"Revision {revision} is not ready after {deadline_s:g} s: {describe(s)}"
        return ""


def describe(s: Seen) -> str:
    """One line on a replica that is not ready: phase, reason, exit code, last line of its log."""
    parts = [f"replica {s.ordinal} is {s.phase}"]
    if s.reason and s.reason != s.phase:
        parts.append(s.reason.rstrip("."))
    if s.exit_code is not None and "exit code" not in s.reason:
        parts.append(f"exit code {s.exit_code}")
    if s.restarts:
        parts.append(f"{s.restarts} restarts")
    last = s.last_line.strip()[:200]
    if last and not _says(s.reason, last):
        parts.append(f"last line: {last}")
    return "; ".join(parts) + "."


def _says(reason: str, last_line: str) -> bool:
    """Whether the reason holds what the last line says, be it under the error's name."""
    return any(said.rstrip(".") in reason for said in (last_line, last_line.partition(": ")[2]) if said)


def _move(before: Replicas, goal: int, count: int, surge: int, world: _World, *, hopeless: bool) -> Replicas:
    """One move towards `count` replicas of `goal` and none of others; `hopeless` others that are dead just go."""
    goal_now = _shrink(before.get(goal, frozenset()), count, goal, world)
    others = {revision: ordinals for revision, ordinals in before.items() if revision != goal}
    others = _replace(others, len(world.ready(goal, goal_now)), count, world, hopeless=hopeless)
    room = count + surge - len(goal_now) - sum(map(len, others.values()))
    more = min(count - len(goal_now), max(0, room))
    goal_now |= world.free(goal, goal_now, more)
    return {revision: ordinals for revision, ordinals in {**others, goal: goal_now}.items() if ordinals}


def _shrink(ordinals: frozenset[int], count: int, revision: int, world: _World) -> frozenset[int]:
    """At most `count` of `ordinals`: ready ones stay first, then low ones."""
    ready = world.ready(revision, ordinals)
    return frozenset(sorted(ordinals, key=lambda o: (o not in ready, o))[:count])


def _replace(others: Replicas, ready_goal: int, count: int, world: _World, *, hopeless: bool) -> Replicas:
    """`others` without those that the goal's ready replicas stand in for: dead ones, then the oldest revision's."""
    ready = {(r, o) for r, ordinals in others.items() for o in world.ready(r, ordinals)}
    dead = {(r, o) for r, ordinals in others.items() for o in ordinals} - ready
    # A dead one may come back, so it counts as one of `count` until a ready one of the goal takes its place.
    spare_dead = len(dead) if hopeless else len(dead) + len(ready) + ready_goal - count
    spare_ready = len(ready) + ready_goal - count
    leave = _first(dead, spare_dead) | _first(ready, spare_ready)
    return {r: frozenset(o for o in ordinals if (r, o) not in leave) for r, ordinals in others.items()}


def _first(replicas: set[tuple[int, int]], number: int) -> set[tuple[int, int]]:
    return set(sorted(replicas, key=lambda key: (key[0], -key[1]))[: max(0, number)])


def _reason(held: bool, arrived: bool, after: Replicas, goal: int, count: int, world: _World) -> str:
    if arrived:
        return "No replicas are wanted." if count == 0 else ""
    if held:
        return "Paused."
    ordinals = after.get(goal, frozenset())
    text = f"{len(world.ready(goal, ordinals))} of {count} replicas of revision {goal} are ready"
    sick = world.worst(goal, ordinals)
    return f"{text}: {describe(sick)}" if sick else f"{text}."


def _assignments(replicas: Replicas, ready: dict[int, int], goal: int) -> tuple[Assignment, ...]:
    weights = _weights(ready, goal)
    return tuple(
        Assignment(
            revision=revision,
            replicas=len(ordinals),
            ordinals=tuple(sorted(ordinals)),
            ready=ready[revision],
            weight=weights.get(revision, 0),
        )
        for revision, ordinals in sorted(replicas.items())
    )


def _weights(ready: dict[int, int], goal: int) -> dict[int, int]:
    """Per cent of the traffic that each revision gets: its share of the ready replicas; the goal's all when none is.

    An edge that balances over all ready replicas alike does just this; one that splits by weight does as well.
    """
    total = sum(ready.values())
    if not total:
        return {goal: 100}
    weights = {revision: 100 * number // total for revision, number in ready.items()}
    most = max(ready, key=lambda revision: (ready[revision], revision))
    return {**weights, most: weights[most] + 100 - sum(weights.values())}
