"""Waiting for a rollout to end, with the phase and reason of the replica that it waits for."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kaon.api.views import DeploymentView
from kaon.cli.progress import Progress
from kaon.cli.remote import Remote
from kaon.cli.shapes import last_words
from kaon.errors import DeadlineExceeded, KaonError, Unavailable
from kaon.types.deployment import RolloutState
from kaon.types.replica import Phase, ReplicaStatus

TIMEOUT_S = 600.0
_LOOK_S = 0.25
_ORDER = list(Phase)


QUIET_S = 10.0
"""Without a new call for so long a canary may wait for ever."""


class Quiet:
    """How long a canary that must have calls has had none; says once what a person can do about it."""

    def __init__(self) -> None:
        self._calls: tuple[int, int, int] | None = None
        self._since = 0.0
        self._told = False

    def said(self, view: DeploymentView, now: float) -> str:
        """What to tell at `now`, seconds of a clock that never goes back; mostly nothing."""
        canary = view.status.rollout.canary
        calls = (canary.revision, canary.step, canary.new.calls) if canary and canary.in_force else None
        if calls is None or calls != self._calls:
            self._calls, self._since = calls, now
        if calls is None or self._told or now - self._since < QUIET_S:
            return ""
        self._told = True
        return (
            f"It waits for calls: revision {calls[0]} has had none for {QUIET_S:.0f} s. Ctrl-C ends the waiting, not "
            f"the rollout: kaon rollout status {view.name}. Without more proof: kaon rollout promote {view.name}"
        )


class RolloutStopped(KaonError):
    """The new revision did not come up."""

    code = "rollout-stopped"


def until_rolled_out(remote: Remote, name: str, timeout_s: float = TIMEOUT_S) -> DeploymentView:
    """Wait until what is wanted of a deployment is what is, or the rollout is held; return how it is then.

    Raises `RolloutStopped` with the replica's last words, `DeadlineExceeded` after `timeout_s` seconds.
    """
    ends_at, quiet = time.monotonic() + timeout_s, Quiet()
    with Progress() as progress:
        while time.monotonic() < ends_at:
            try:
                view = remote.deployment(name)
                replicas = remote.replicas(name)
            except Unavailable as error:  # the platform restarts: what runs keeps running
                progress.say("Waiting", error.cause)
                time.sleep(_LOOK_S)
                continue
            if view.state is RolloutState.STOPPED:
                raise _stopped(view, replicas)
            if view.state is RolloutState.STABLE or view.spec.paused or awaits_promotion(view):
                return view
            progress.say(*doing(view, replicas))
            if said := quiet.said(view, time.monotonic()):
                progress.tell(said)
            time.sleep(_LOOK_S)
    raise DeadlineExceeded(
        f"'{name}' is not rolled out after {timeout_s:.0f} s; it goes on.",
        hint=f"Watch it: kaon rollout status {name}",
    )


def awaits_promotion(view: DeploymentView) -> bool:
    """Whether a canary has passed all steps and goes on only when somebody says so."""
    canary, rules = view.status.rollout.canary, view.spec.rollout.canary
    passed = canary is not None and rules is not None and canary.step >= len(rules.steps)
    return passed and rules is not None and rules.hold and canary is not None and not canary.promoted


def doing(view: DeploymentView, replicas: Sequence[ReplicaStatus]) -> tuple[str, str]:
    """(phase, reason) of the replica that is furthest from being ready, among those of the newest revision; pure."""
    newest = max((r.revision for r in replicas), default=0)
    coming = [r for r in replicas if r.revision == newest and r.phase not in (Phase.READY, Phase.DRAINING)]
    if not coming or newest == view.revision:
        return str(view.state), view.reason or f"{view.ready} of {view.replicas} replicas are ready"
    behind = min(coming, key=lambda r: (_ORDER.index(r.phase), r.name))
    return str(behind.phase), f"{behind.name}{': ' + behind.reason if behind.reason else ''}"


def _stopped(view: DeploymentView, replicas: Sequence[ReplicaStatus]) -> RolloutStopped:
    serving = f"revision {view.revision} serves on" if view.revision else "nothing serves"
    words = [line for replica in replicas for line in last_words(replica).splitlines()]
    return RolloutStopped(
        f"The rollout of '{view.name}' stopped; {serving}. {view.reason}".rstrip(),
        hint=f"See why: kaon logs {view.name}; then deploy again, or: kaon rollout undo {view.name}",
        errors=[{"line": line} for line in words[:15]],
    )
