"""Which replicas run next, and what share of the traffic each revision gets: single moves of a rollout.

With `count` replicas wanted and a surge of s, what always holds:
- a replica that is ready is only taken away when `count` others are ready, or when fewer are wanted now;
- at most count + s replicas are assigned, or as many as were when fewer became wanted; while a new revision is on
  trial, at most count and as many as its share needs;
- more replicas start only as others make room, so only when started ones are ready;
- a replica that is dead and of no use never blocks a move: what takes its place is a ready one.

Replicas are chosen by ordinal, not counted, so that of three the dead one goes, not the third. A new replica gets an
ordinal that nobody reports, so that it is never a dying one of the same name.
"""

from __future__ import annotations

from kaon.laws.replica_states import OrdinalsByRevision, ReplicaStates


def take_over(
    before: OrdinalsByRevision, goal: int, count: int, surge: int, world: ReplicaStates, *, hopeless: bool
) -> OrdinalsByRevision:
    """One move towards `count` replicas of `goal` and none of others; `hopeless` others that are dead just go."""
    goal_now = _shrink(before.get(goal, frozenset()), count, goal, world)
    others = {revision: ordinals for revision, ordinals in before.items() if revision != goal}
    others = _replace(others, len(world.ready(goal, goal_now)), count, world, hopeless=hopeless)
    room = count + surge - len(goal_now) - sum(map(len, others.values()))
    more = min(count - len(goal_now), max(0, room))
    goal_now |= world.free(goal, goal_now, more)
    return _some({**others, goal: goal_now})


def try_out(
    before: OrdinalsByRevision,
    stable: int,
    trial: tuple[int, int],
    count: int,
    surge: int,
    world: ReplicaStates,
    *,
    held: bool,
) -> OrdinalsByRevision:
    """One move towards `count` replicas of `stable` beside those of a revision on trial, and none of others.

    `trial` is that revision and how many replicas its share needs. When the trial is `held`, none of it go.
    """
    revision, needed = trial
    stable_now = _shrink(before.get(stable, frozenset()), count, stable, world)
    ready = len(world.ready(stable, stable_now))
    trial_now = before.get(revision, frozenset())
    needed = max(needed, len(trial_now)) if held and count else needed
    trial_now = _shrink(trial_now, max(needed, count - ready), revision, world)
    others = {r: ordinals for r, ordinals in before.items() if r not in (stable, revision)}
    others = _replace(others, ready, count, world, hopeless=True)
    room = count + max(surge, needed) - len(stable_now) - len(trial_now) - sum(map(len, others.values()))
    more = max(0, min(count - len(stable_now), room))
    stable_now |= world.free(stable, stable_now, more)
    trial_now |= world.free(revision, trial_now, min(needed - len(trial_now), room - more))
    return _some({**others, stable: stable_now, revision: trial_now})


def shares(ready: dict[int, int], goal: int, whole: int = 100) -> dict[int, int]:
    """Per cent of the traffic for each revision: its share of the ready replicas; the goal's all when none is.

    An edge that balances over all ready replicas alike does just this; one that splits by weight does as well.
    They add up to `whole`.
    """
    total = sum(ready.values())
    if not total:
        return {goal: whole}
    weights = {revision: whole * number // total for revision, number in ready.items()}
    most = max(ready, key=lambda revision: (ready[revision], revision))
    return {**weights, most: weights[most] + whole - sum(weights.values())}


def _some(replicas: OrdinalsByRevision) -> OrdinalsByRevision:
    return {revision: ordinals for revision, ordinals in replicas.items() if ordinals}


def _shrink(ordinals: frozenset[int], count: int, revision: int, world: ReplicaStates) -> frozenset[int]:
    """At most `count` of `ordinals`: ready ones stay first, then low ones."""
    ready = world.ready(revision, ordinals)
    return frozenset(sorted(ordinals, key=lambda o: (o not in ready, o))[: max(0, count)])


def _replace(
    others: OrdinalsByRevision, ready_goal: int, count: int, world: ReplicaStates, *, hopeless: bool
) -> OrdinalsByRevision:
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
