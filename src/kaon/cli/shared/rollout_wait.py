"""Waiting for a rollout to end, with the phase and reason of the replica that is furthest from ready."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from kaon.api.views import DeploymentView
from kaon.cli.shared import tables
from kaon.cli.shared.loading_log import LINES, LoadingLog
from kaon.cli.shared.log_lines import log_text
from kaon.cli.shared.notes import note
from kaon.cli.shared.output import Format, put_list
from kaon.cli.shared.progress import ProgressLine
from kaon.cli.shared.remote import Remote
from kaon.errors import DeadlineExceeded, KaonError, Unavailable
from kaon.types.deployment import RolloutState
from kaon.types.log_level import LogLevel
from kaon.types.replica import Phase, ReplicaStatus

TIMEOUT_S = 600.0
_POLL_S = 0.25
_LAST_LINES = 15
_PHASES = list(Phase)

QUIET_S = 10.0
"""A canary without a new call for so long may wait forever."""


class QuietCanary:
    """Detects a canary that needs calls and gets none; warns once."""

    def __init__(self) -> None:
        self._calls: tuple[int, int, int] | None = None
        self._since = 0.0
        self._warned = False

    def warning(self, view: DeploymentView, now: float) -> str:
        """The warning to print at `now`, in seconds of a monotonic clock; mostly empty."""
        canary = view.status.rollout.canary
        calls = (canary.revision, canary.step, canary.new.calls) if canary and canary.in_force else None
        if calls is None or calls != self._calls:
            self._calls, self._since = calls, now
        if calls is None or self._warned or now - self._since < QUIET_S:
            return ""
        self._warned = True
        return (
            f"Revision {calls[0]} waits for calls: it got none for {QUIET_S:.0f} s. Ctrl-C ends the wait, not the "
            f"rollout: kaon rollout status {view.name}. Skip further tests: kaon rollout promote {view.name}"
        )


class RolloutStopped(KaonError):
    """The new revision did not start."""

    code = "rollout-stopped"


def until_rolled_out(remote: Remote, name: str, timeout_s: float = TIMEOUT_S) -> DeploymentView:
    """Wait until a rollout is complete or paused; return the deployment.

    Raises `RolloutStopped` with the last log lines of the replica, `DeadlineExceeded` after `timeout_s` seconds.
    """
    ends_at, quiet = time.monotonic() + timeout_s, QuietCanary()
    log = LoadingLog(lambda replica: remote.logs(name, replica=replica, tail=LINES))
    with ProgressLine() as progress, _noting_an_interrupt(name):
        while time.monotonic() < ends_at:
            try:
                view = remote.deployment(name)
                replicas = remote.replicas(name)
            except Unavailable as error:  # the platform restarts; replicas keep running
                progress.show("Waiting", error.cause)
                time.sleep(_POLL_S)
                continue
            if view.state is RolloutState.STOPPED or failed_shadow(view, replicas):
                raise _stopped(remote, view, replicas)
            for line in log.new_lines(starting_replica(view, replicas), time.monotonic()):
                progress.print(line)
            if view.spec.paused or awaits_promotion(view):
                return view
            if view.state is RolloutState.STABLE and not starting_shadow(view):
                return view
            progress.show(*current_step(view, replicas))
            if warning := quiet.warning(view, time.monotonic()):
                progress.print(warning)
            time.sleep(_POLL_S)
    raise DeadlineExceeded(
        f"The rollout of '{name}' is not complete after {timeout_s:.0f} s; it continues.",
        hint=f"Watch it: kaon rollout status {name}",
    )


def print_after_rollout(remote: Remote, view: DeploymentView, wait_s: float | None) -> None:
    """Print the deployment as a table, after its rollout unless `wait_s` is None."""
    if wait_s is not None:
        view = until_rolled_out(remote, view.name, wait_s)
    put_list([view], tables.of("deployment", time.time()), Format.TABLE)


def awaits_promotion(view: DeploymentView) -> bool:
    """Whether a canary has passed all steps and must be promoted by hand."""
    canary, rules = view.status.rollout.canary, view.spec.rollout.canary
    if canary is None or rules is None or not rules.hold:
        return False
    return canary.step >= len(rules.steps) and not canary.promoted


def starting_shadow(view: DeploymentView) -> bool:
    """Whether a shadow has no ready replica yet."""
    return any(a.revision == view.status.rollout.shadow and not a.ready for a in view.status.rollout.assignments)


def failed_shadow(view: DeploymentView, replicas: Sequence[ReplicaStatus]) -> bool:
    """Whether a replica of a shadow that is not ready yet has failed."""
    return starting_shadow(view) and any(
        r.revision == view.status.rollout.shadow and r.phase in (Phase.CRASHED, Phase.CONFIG_ERROR) for r in replicas
    )


@contextmanager
def _noting_an_interrupt(name: str) -> Iterator[None]:
    """On Ctrl-C, print what continues and how to stop it."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"The rollout of '{name}' continues.")
        note(f"Watch it: kaon rollout status {name}; undo it: kaon rollout undo {name}")
        raise


def current_step(view: DeploymentView, replicas: Sequence[ReplicaStatus]) -> tuple[str, str]:
    """(phase, reason) of the replica that is furthest from ready, among those of the newest revision; pure."""
    slowest = starting_replica(view, replicas)
    if slowest is None:
        return str(view.state), view.reason or f"{view.ready} of {view.replicas} replicas are ready"
    return str(slowest.phase), f"{slowest.name}{': ' + slowest.reason if slowest.reason else ''}"


def starting_replica(view: DeploymentView, replicas: Sequence[ReplicaStatus]) -> ReplicaStatus | None:
    """The replica of the newest revision that is furthest from ready; None when it serves already. Pure."""
    newest = max((r.revision for r in replicas), default=0)
    starting = [r for r in replicas if r.revision == newest and r.phase not in (Phase.READY, Phase.DRAINING)]
    if newest == view.revision:
        return None
    return min(starting, key=lambda r: (_PHASES.index(r.phase), r.name), default=None)


def _stopped(remote: Remote, view: DeploymentView, replicas: Sequence[ReplicaStatus]) -> RolloutStopped:
    """The error, with the last lines of the replicas that failed, else the last warnings of the failed revision."""
    serving = f"revision {view.revision} still serves" if view.revision else "no revision serves"
    failed = view.status.rollout.canary.revision if view.status.rollout.canary else view.status.rollout.target or 1
    lines = [line for replica in replicas for line in tables.last_lines(replica).splitlines()]
    with suppress(KaonError):  # the reason is worth more than its details
        if failed == view.status.rollout.stable:
            failed = max(revision.number for revision in remote.revisions(view.name))
        if not lines:
            written = remote.logs(view.name, revision=failed, past=True, level=LogLevel.WARNING, tail=_LAST_LINES)
            lines = [text for line in written for text in log_text(line)][-_LAST_LINES:]
    return RolloutStopped(
        f"The rollout of '{view.name}' stopped; {serving}. {view.reason}".rstrip(),
        hint=f"See why: kaon logs {view.name} --revision {failed}; then deploy again or: kaon rollout undo {view.name}",
        errors=[{"line": line} for line in lines[:_LAST_LINES]],
    )
