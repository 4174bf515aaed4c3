"""The cloud of a deployment, and the phases of clouds.

A deployment stays in its cloud for as long as that exists: a move ends replicas, so neither a new cloud nor a name nor
a silent agent causes one. A deployment without a cloud is placed where its replicas are reported to run, else in the
cloud that joined first of those that take new deployments.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kaon.types.cloud import CloudPhase

LOST_AFTER_S = 30.0
"""An agent reports every 5 s, and within a second of every change: after six missed reports it is lost."""

_PREFERENCE = (CloudPhase.READY, CloudPhase.JOINING)
"""The phases in which a cloud takes new deployments, the better one first."""


@dataclass(frozen=True, slots=True)
class CloudState:
    """The state of a cloud that placement depends on."""

    name: str
    phase: CloudPhase
    joined_at: float
    """Epoch seconds."""


@dataclass(frozen=True, slots=True)
class PlacementDecision:
    """The cloud of a deployment, and the reason. `cloud` is empty when no cloud takes it."""

    cloud: str
    reason: str


@dataclass(frozen=True, slots=True)
class PhaseDecision:
    """The phase of a cloud, and the reason. `changes_at`: when it changes without a report, epoch seconds."""

    phase: CloudPhase
    reason: str
    changes_at: float | None = None


def phase(*, cordoned: bool, seen_at: float, watched_since: float, now: float) -> PhaseDecision:
    """The phase of a cloud whose agent reported last at `seen_at`, 0: never. All times are epoch seconds.

    Silence counts from `watched_since` on, when this control plane began to accept reports.
    """
    if not seen_at:
        return PhaseDecision(CloudPhase.JOINING, "Its agent has not reported yet.")
    lost_at = max(seen_at, watched_since) + LOST_AFTER_S
    if now >= lost_at:
        reason = f"Its agent has not reported for more than {LOST_AFTER_S:g} s; see `kaon status` there."
        return PhaseDecision(CloudPhase.LOST, reason)
    if cordoned:
        return PhaseDecision(CloudPhase.CORDONED, "An admin has cordoned it: it takes no new deployments.", lost_at)
    return PhaseDecision(CloudPhase.READY, "", lost_at)


def place(current: str, running_in: Collection[str], clouds: Sequence[CloudState]) -> PlacementDecision:
    """The cloud of a deployment that was placed in `current` ('': nowhere), and whose replicas these clouds report."""
    by_name = {cloud.name: cloud for cloud in clouds}
    if current in by_name:
        return PlacementDecision(current, _stays(by_name[current]))
    reported = min((by_name[name] for name in running_in if name in by_name), key=_order, default=None)
    if reported is not None:
        return PlacementDecision(reported.name, "Its replicas run there.")
    chosen = min((cloud for cloud in clouds if cloud.phase in _PREFERENCE), key=_order, default=None)
    deleted = f"Cloud '{current}' was deleted. " if current else ""
    if chosen is None:
        phases = ", ".join(f"'{cloud.name}' is {cloud.phase}" for cloud in sorted(clouds, key=_order))
        return PlacementDecision("", f"{deleted}No cloud takes it: {phases or 'none has joined'}.")
    if len(by_name) == 1:
        return PlacementDecision(chosen.name, f"{deleted}It is the only cloud.")
    return PlacementDecision(chosen.name, f"{deleted}Of the clouds that take deployments it joined first.")


def _stays(cloud: CloudState) -> str:
    match cloud.phase:
        case CloudPhase.LOST:
            return "It runs there. The cloud is lost; it stays until the cloud is back, or deleted."
        case CloudPhase.CORDONED:
            return "It runs there. The cloud is cordoned: only new deployments are kept out."
        case _:
            return "It runs there."


def _order(cloud: CloudState) -> tuple[int, float, str]:
    preferred = _PREFERENCE.index(cloud.phase) if cloud.phase in _PREFERENCE else len(_PREFERENCE)
    return preferred, cloud.joined_at, cloud.name
