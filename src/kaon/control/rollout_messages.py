"""Conditions, events and journal entries of a deployment's rollout. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kaon.laws import canary, rollout
from kaon.store.failures import Failure
from kaon.types.condition import FAILURES, Condition
from kaon.types.deployment import CanaryStatus, DeploymentStatus, RolloutState, RolloutStatus
from kaon.types.event import Event, EventLevel
from kaon.types.journal import JournalEntry
from kaon.types.resource import Deployment

PLACED, REPORTED, PLANNED, ROUTED = "Placed", "Reported", "Planned", "Routed"
OWNER_GONE = "OwnerGone"


def conditions(
    deployment: Deployment,
    status: DeploymentStatus,
    nameless: str,
    now: float,
    *,
    unplaced: str = "",
    lost: str = "",
    unplanned: str = "",
    unrouted: str = "",
    failures: Sequence[Failure] = (),
    owner_gone: str = "",
) -> tuple[Condition, ...]:
    """`Ready`: enough replicas are ready. `Progressing`: the rollout is not stopped. `Identity`: its keys exist.

    `Shadow`, if there is one: its replicas are ready. Only while they do not hold: `Placed`, with why no cloud takes
    it; `Reported`, with why the state of its replicas is unknown; `Planned` and `Routed`, with why it could not be
    planned or routed (the last valid plan and route are in force). Only while they hold: `Unreadable` and
    `ReconcileFailed`, with the error of a controller; `OwnerGone`: the key of its owner has ended, and it goes on until
    an admin adopts or deletes it.
    """
    moved = status.rollout
    ready = sum(a.ready for a in moved.assignments if a.revision != moved.shadow)
    wanted = rollout.desired_replicas(deployment.spec, moved, status.scaling)
    stopped = moved.state is RolloutState.STOPPED
    found = {
        "Ready": (ready >= wanted, f"{ready} of {wanted} replicas are ready."),
        "Progressing": (not stopped, moved.reason if stopped else ""),
        "Identity": (not nameless, nameless),
    }
    failing = {PLACED: unplaced, REPORTED: lost, PLANNED: unplanned, ROUTED: unrouted}
    found |= {name: (False, why) for name, why in failing.items() if why}
    if owner_gone:
        found[OWNER_GONE] = (True, owner_gone)
    for a in moved.assignments:
        if a.revision == moved.shadow:
            found["Shadow"] = (a.ready == a.replicas, f"{a.ready} of {a.replicas} replicas of it are ready.")
    found |= {f.condition: (True, f.reason) for f in reversed(failures)}
    since = {(c.type, c.holds): c.since for c in deployment.status.conditions}
    return tuple(
        Condition(type=type_, holds=holds, reason=reason, since=since.get((type_, holds), now))
        for type_, (holds, reason) in found.items()
    )


def with_failures(deployment: Deployment, failures: Sequence[Failure], now: float) -> DeploymentStatus:
    """The deployment's status with these failures as conditions, otherwise unchanged."""
    status: DeploymentStatus = deployment.status
    since = {c.type: c.since for c in status.conditions}
    failed = {f.condition: f.reason for f in reversed(failures)}
    others = [c for c in status.conditions if c.type not in FAILURES]
    alarms = [Condition(type=t, holds=True, reason=why, since=since.get(t, now)) for t, why in failed.items()]
    return status.model_copy(update={"conditions": (*others, *alarms)})


def events(deployment: Deployment, before: DeploymentStatus, after: DeploymentStatus, now: float) -> Iterable[Event]:
    """The events of a change of status."""

    def event(reason: str, message: str, level: EventLevel = EventLevel.NORMAL) -> Event:
        return Event(
            at=now,
            workspace=deployment.workspace,
            kind="deployment",
            name=deployment.name,
            uid=deployment.uid,
            level=level,
            reason=reason,
            message=message,
        )

    if before.rollout.target != after.rollout.target:
        old = (
            f" from revision {after.rollout.stable}" if after.rollout.stable not in (None, after.rollout.target) else ""
        )
        yield event("RolloutStarted", f"Revision {after.rollout.target} takes over{old}.")
    if before.rollout.shadow != after.rollout.shadow:
        message = (
            f"Revision {after.rollout.shadow} gets copies of calls."
            if after.rollout.shadow
            else "No revision gets copies of calls."
        )
        yield event("Shadow", message)
    for request_id in sorted(set(after.refused) - set(before.refused)):
        message = f"Request {request_id} is refused for ten minutes: replicas crashed twice while it was in flight."
        yield event("PoisonRequest", message, EventLevel.WARNING)
    if (step := _step(before.rollout, after.rollout)) is not None:
        yield event("CanaryStep", step)
    was, now_ = (next((c.reason for c in s.conditions if c.type == OWNER_GONE), "") for s in (before, after))
    if now_ and not was:
        yield event(OWNER_GONE, now_, EventLevel.WARNING)
    elif was and not now_:
        yield event("Adopted", "It has a valid owner again.")
    for name, kept in ((PLANNED, "the last valid plan"), (ROUTED, "the last valid route")):
        was, now_ = _failing(before, name), _failing(after, name)
        if now_ and now_ != was:
            yield event(f"Not{name}", f"{now_} Until then {kept} is in force.", EventLevel.WARNING)
        elif was and not now_:
            yield event(name, f"It is {name.lower()} again.")
    for name in sorted(FAILURES):
        was, now_ = (next((c.reason for c in status.conditions if c.type == name), "") for status in (before, after))
        if now_ and now_ != was:
            yield event(name, now_, EventLevel.WARNING)
        elif was and not now_:
            yield event("Recovered", f"No longer: {was}")
    yield from (event(*moved) for moved in _placed(before, after))
    if before.rollout.state is not after.rollout.state:
        match after.rollout.state:
            case RolloutState.STABLE if before.rollout.stable != after.rollout.stable:
                yield event("RolloutFinished", f"Revision {after.rollout.stable} serves.")
            case RolloutState.STABLE if ready := sum(
                a.ready for a in after.rollout.assignments if a.revision == after.rollout.stable
            ):
                yield event("Stable", f"All {ready} replicas are ready.")
            case RolloutState.STABLE:
                yield event("ScaledToZero", "No replicas are wanted.")
            case RolloutState.STOPPED:
                what = f"Revision {after.rollout.stable} serves." if after.rollout.stable else "Kaon keeps retrying."
                reason = "RolledBack" if sent_back(after.rollout) else "RolloutStopped"
                yield event(reason, f"{after.rollout.reason} {what}", EventLevel.WARNING)
            case RolloutState.DEGRADED:
                yield event("Degraded", after.rollout.reason, EventLevel.WARNING)


def _placed(before: DeploymentStatus, after: DeploymentStatus) -> Iterable[tuple[str, str, EventLevel]]:
    """Reason, message and level of events of its placement."""
    was, now = before.placement, after.placement
    if was is not None and now is not None and was.cloud != now.cloud:
        if now.cloud:
            yield PLACED, f"Placed in cloud '{now.cloud}'. {now.reason}", EventLevel.NORMAL
        else:
            yield f"Not{PLACED}", now.reason, EventLevel.WARNING
    lost_before, lost_now = _failing(before, REPORTED), _failing(after, REPORTED)
    if lost_now and not lost_before:
        yield f"Not{REPORTED}", f"{lost_now} Its replicas may still run; their state is unknown.", EventLevel.WARNING
    elif lost_before and not lost_now:
        yield REPORTED, "Its cloud reports again.", EventLevel.NORMAL


def _failing(status: DeploymentStatus, name: str) -> str:
    """Why a condition does not hold; empty: it holds."""
    return next((c.reason for c in status.conditions if c.type == name and not c.holds), "")


def decisions(
    deployment: Deployment, before: RolloutStatus, after: RolloutStatus, now: float
) -> Iterable[JournalEntry]:
    """The decisions on the rollout, with their figures."""

    def entry(was: str, will_be: str, reason: str, canary: CanaryStatus | None = None) -> JournalEntry:
        return JournalEntry(
            at=now,
            workspace=deployment.workspace,
            deployment=deployment.name,
            uid=deployment.uid,
            concern="rollout",
            before=was,
            after=will_be,
            reason=reason,
            figures=_figures(canary) if canary else {},
        )

    serving = f"revision {after.stable}" if after.stable else ""
    if before.target != after.target:
        yield entry(serving, f"revision {after.target}", "The spec has a new template.")
    if (step := _step(before, after)) is not None:
        assert after.canary is not None
        yield entry(f"step {after.canary.step}", f"step {after.canary.step + 1}", step, after.canary)
    if before.state is after.state:
        return
    if after.state is RolloutState.STOPPED:
        yield entry(f"revision {after.target}", serving, after.reason, after.canary)
    elif before.stable != after.stable:
        reason = "It was promoted." if before.canary and before.canary.promoted else "All its replicas are ready."
        yield entry(f"revision {before.stable}" if before.stable else "", serving, reason)


def sent_back(status: RolloutStatus) -> bool:
    """Whether the rollout stopped because its canary answered worse."""
    tried = status.canary if status.state is RolloutState.STOPPED else None
    return bool(tried and status.stable and canary.worse(tried, status.stable))


def _step(before: RolloutStatus, after: RolloutStatus) -> str | None:
    """The message of a step that a canary has passed."""
    was, now = before.canary, after.canary
    if not was or not now or was.revision != now.revision or now.step <= was.step:
        return None
    failed = next((f"; {gate.reason}" for gate in now.gates if gate.name == "errors"), "")
    return f"Revision {now.revision} passed step {now.step} with {now.new.calls:,} calls{failed}."


def _figures(tried: CanaryStatus) -> dict[str, Any]:
    """Counts of both revisions, and the results of the tests."""
    return {
        "new": tried.new.model_dump(mode="json"),
        "old": tried.old.model_dump(mode="json"),
        "slow_s": tried.slow_s,
        **{gate.name: {"verdict": gate.verdict, "odds": gate.odds, "needed": gate.needed} for gate in tried.gates},
    }
