"""The moves of a rollout: which replicas run next, and the share of the traffic of each revision.

With `count` desired replicas and a surge of s, always:
- a ready replica is removed only when `count` others are ready, or when fewer are desired now;
- at most count + s replicas are assigned, or as many as before when fewer became desired; while a new revision is on
  trial, at most count and as many as its share needs;
- more replicas start only when others make room, so only when started ones are ready;
- a dead replica never blocks a move: a ready one takes its place.

Replicas are chosen by ordinal, so that of three the dead one is removed, not the third. A new replica gets an ordinal
that is not reported, so that it never has the name of one that is still stopping.
"""

from __future__ import annotations

from kaon.laws.replica_states import OrdinalsByRevision, ReplicaStates


def take_over(
    before: OrdinalsByRevision, goal: int, count: int, surge: int, world: ReplicaStates, *, hopeless: bool
) -> OrdinalsByRevision:
    """One move towards `count` replicas of `goal` and none of others; `hopeless`: dead ones of others are removed."""
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

    `trial` is that revision and the number of replicas for its share. While it is `held`, none of them are removed.
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
    """Per cent of the traffic for each revision: its share of the ready replicas; all for the goal when none is ready.

    This is what balancing over all ready replicas does. They add up to `whole`.
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
    """At most `count` of `ordinals`: preferably ready ones, then low ones."""
    ready = world.ready(revision, ordinals)
    return frozenset(sorted(ordinals, key=lambda o: (o not in ready, o))[: max(0, count)])


def _replace(
    others: OrdinalsByRevision, ready_goal: int, count: int, world: ReplicaStates, *, hopeless: bool
) -> OrdinalsByRevision:
    """`others` without those that the goal's ready replicas replace: dead ones, then those of the oldest revision."""
    ready = {(r, o) for r, ordinals in others.items() for o in world.ready(r, ordinals)}
    dead = {(r, o) for r, ordinals in others.items() for o in ordinals} - ready
    # A dead one may recover, so it counts as one of `count` until a ready one of the goal replaces it.
    spare_dead = len(dead) if hopeless else len(dead) + len(ready) + ready_goal - count
    spare_ready = len(ready) + ready_goal - count
    leave = _first(dead, spare_dead) | _first(ready, spare_ready)
    return {r: frozenset(o for o in ordinals if (r, o) not in leave) for r, ordinals in others.items()}


def _first(replicas: set[tuple[int, int]], number: int) -> set[tuple[int, int]]:
    return set(sorted(replicas, key=lambda key: (key[0], -key[1]))[: max(0, number)])
