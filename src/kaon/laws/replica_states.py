"""The states of replicas, as a rollout reads and reports them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from itertools import count as counting

from kaon.types.model import Model
from kaon.types.replica import INSTALL_LIMIT_S, Phase

CRASHES = 3
"""Restarts after which a new replica counts as one that does not start."""

TROUBLE = frozenset({Phase.CRASHED, Phase.CONFIG_ERROR, Phase.NO_CAPACITY})

_ALIVE = frozenset({Phase.INSTALLING, Phase.STARTING, Phase.LOADING, Phase.READY})

OrdinalsByRevision = dict[int, frozenset[int]]
"""Revision -> ordinals."""


class ReplicaState(Model):
    """The reported state of one replica."""

    revision: int
    ordinal: int
    phase: Phase
    reason: str = ""
    begun_at: float = 0
    """When its process, or else its phase, began, epoch seconds."""
    restarts: int = 0
    exit_code: int | None = None
    last_line: str = ""


class ReplicaStates:
    """The reported replicas, by revision and ordinal."""

    def __init__(self, replicas: Iterable[ReplicaState]) -> None:
        self._by_ordinal = {(s.revision, s.ordinal): s for s in replicas}

    def ready(self, revision: int, ordinals: Iterable[int]) -> set[int]:
        """Those of `ordinals` that are ready."""
        return {o for o in ordinals if (s := self._by_ordinal.get((revision, o))) and s.phase is Phase.READY}

    def free(self, revision: int, ordinals: frozenset[int], count: int) -> frozenset[int]:
        """`count` ordinals besides `ordinals`: the lowest that are not reported.

        Without `ordinals`, those of running replicas come first: for callers that wait at zero, the agent starts a
        replica before a plan has it.
        """
        used = ordinals | {o for r, o in self._by_ordinal if r == revision}
        runs = () if ordinals else sorted(o for o in used if self._by_ordinal[revision, o].phase in _ALIVE)
        return frozenset(islice(chain(runs, (o for o in counting() if o not in used)), max(0, count)))

    def worst(self, revision: int, ordinals: Iterable[int]) -> ReplicaState | None:
        """The replica with the most informative failure."""
        failing = [s for o in ordinals if (s := self._by_ordinal.get((revision, o))) and s.phase is not Phase.READY]
        return max(
            failing,
            key=lambda s: (s.phase is Phase.CONFIG_ERROR, s.phase is Phase.CRASHED, s.restarts, -s.ordinal),
            default=None,
        )

    def failure(self, revision: int, ordinals: Iterable[int], since: float, deadline_s: float, now: float) -> str:
        """Why these new replicas do not become ready; empty: they may.

        One that is not reported is not late: its agent may be.
        """
        for s in (self._by_ordinal.get((revision, o)) for o in sorted(ordinals)):
            if s is None or s.phase is Phase.READY:
                continue
            if s.phase is Phase.CONFIG_ERROR or s.restarts >= CRASHES:
                return f"Revision {revision} does not start: {describe(s)}"
            if now >= late_at(s, since, deadline_s):
                if s.phase is Phase.INSTALLING:
                    return f"Revision {revision} is not installed after {INSTALL_LIMIT_S / 60:g} minutes: {describe(s)}"
                return f"Revision {revision} is not ready after {deadline_s:g} s: {describe(s)}"
        return ""


def late_at(s: ReplicaState, since: float, deadline_s: float) -> float:
    """When a replica that is not ready is late, in epoch seconds; `since` is the start of its revision.

    An installation may be large, and is done once: the deadline is that of the start after it.
    """
    if s.phase is Phase.INSTALLING:
        return since + INSTALL_LIMIT_S
    return max(since, s.begun_at) + deadline_s


def describe(s: ReplicaState) -> str:
    """One line on a replica that is not ready: phase, reason, exit code, last line of its log."""
    parts = [f"replica {s.ordinal} is {s.phase}"]
    if s.reason and s.reason != s.phase:
        parts.append(s.reason.rstrip("."))
    if s.exit_code is not None and "exit code" not in s.reason:
        parts.append(f"exit code {s.exit_code}")
    if s.restarts:
        parts.append(f"{s.restarts} restarts")
    last = s.last_line.strip()[:200]
    if last and not _contains(s.reason, last):
        parts.append(f"last line: {last}")
    return "; ".join(parts) + "."


def _contains(reason: str, last_line: str) -> bool:
    """Whether the reason contains the last line, with or without its error's name."""
    return any(text.rstrip(".") in reason for text in (last_line, last_line.partition(": ")[2]) if text)
