"""What the agent observes, remembers and can do: the values of `kaon.agent.decide`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kaon.drivers.port import ReplicaObservation
from kaon.laws.backoff import Backoff, delay_s
from kaon.types.flight import Flight
from kaon.types.job import PlannedAttempt
from kaon.types.key import Access
from kaon.types.knobs import LEASE_S, Knobs
from kaon.types.launch import ReplicaHealth
from kaon.types.names import DeploymentKey
from kaon.types.refusals import Refusals
from kaon.types.replica import Phase, ReplicaSpec

ACTION = Backoff(first_s=0.5, cap_s=30.0)
"""Between two attempts of the same action on the same replica, for as long as it is needed."""


@dataclass(frozen=True)
class ProbedHealth:
    """The results of the probes of one replica."""

    answer: ReplicaHealth | None = None
    asked_at: float = 0.0  # when the probe was sent that `answer` answers
    zeros: int = 0  # answers in a row with nothing in flight
    misses: int = 0  # probes in a row without an answer, since `silent_since`
    silent_since: float | None = None


@dataclass(frozen=True)
class RefusedStart:
    """A start that the driver refused."""

    phase: Phase
    reason: str
    final: bool = False  # not to be repeated with this spec


@dataclass(frozen=True)
class Attempts:
    """How often in a row an action was begun, the last time at `at`, without being done.

    Failures and attempts without effect both count, so that nothing is repeated in a hot loop. `target` is the version
    that the action sends; another target is another action.
    """

    target: str
    count: int
    at: float

    @property
    def again_at(self) -> float:
        """When it may be repeated."""
        return self.at + delay_s(ACTION, self.count)


@dataclass(frozen=True)
class AgentInputs:
    """What the agent observes at one moment."""

    now: float
    wall: float
    observed: Mapping[str, ReplicaObservation]
    health: Mapping[str, ProbedHealth]
    refused: Mapping[str, RefusedStart]
    failures: Mapping[tuple[str, str], str] = field(default_factory=dict)  # replica, kind of action -> why it failed
    flights: Mapping[str, tuple[Flight, ...] | None] = field(default_factory=dict)
    """Calls in flight of silent replicas; None: they cannot be read now."""
    refusals: Mapping[DeploymentKey, Refusals] = field(default_factory=dict)  # see `kaon.agent.decide.poison`
    busy: frozenset[str] = frozenset()  # replicas with an operation in progress
    at_edge: frozenset[str] | None = None  # replicas in the edge's last configuration; None: it had none yet
    edge_busy: frozenset[str] = frozenset()  # replicas with open requests of the edge
    acknowledged: frozenset[str] = frozenset()  # attempts whose end is published, or not wanted
    output_bytes: Mapping[str, int] = field(default_factory=dict)  # attempt -> how much its outputs have
    answered_at: float = -math.inf  # when the control plane last answered

    @property
    def lease_s(self) -> float:
        """How long trials apply if the control plane answers no more; below zero: they do not."""
        return self.answered_at + LEASE_S - self.now


@dataclass(frozen=True)
class ReplicaHistory:
    """What the agent remembers of one replica."""

    spec: ReplicaSpec | None = None
    phase: Phase = Phase.INSTALLING
    reason: str = ""
    since: float = 0.0  # wall
    failures: int = 0
    restarts: int = 0
    retry_at: float = 0.0
    end_counted: bool = False
    begun: bool = True  # the last start was begun: the next one is a restart
    refused_spec: ReplicaSpec | None = None  # the spec that the place refused for good
    exit_code: int | None = None
    last_lines: tuple[str, ...] = ()
    ready_since: float | None = None
    busy_at: float = -math.inf  # when it was last silent because of a call
    stopping: str = ""  # why this agent stops it
    retired_at: float | None = None
    left_edge_at: float | None = None
    tuned: str = ""  # version of the knobs that its process was sent last
    ended_with: str = ""  # version of the knobs that it had when it ended
    attempts: Mapping[str, Attempts] = field(default_factory=dict)  # kind of action -> attempts so far without effect


def in_phase(history: ReplicaHistory, phase: Phase, reason: str, inputs: AgentInputs) -> ReplicaHistory:
    """The history with this phase and reason; a new phase starts now."""
    since = history.since if phase == history.phase else inputs.wall
    return replace(history, phase=phase, reason=reason, since=since)


@dataclass(frozen=True)
class StartIt:
    """Start a replica."""

    spec: ReplicaSpec


@dataclass(frozen=True)
class StopIt:
    """Stop a replica, with so much time to drain."""

    replica: str
    grace_s: float
    reason: str
    stacks: bool = False  # write the stacks of its threads to its log first


@dataclass(frozen=True)
class ForgetIt:
    """Delete what is kept of a replica that has ended."""

    replica: str


@dataclass(frozen=True)
class AdmitIt:
    """Send a replica its access list."""

    replica: str
    access: Access


@dataclass(frozen=True)
class TuneIt:
    """Send a replica its knobs."""

    replica: str
    knobs: Knobs


@dataclass(frozen=True)
class RefuseIt:
    """Send a replica the requests to refuse."""

    replica: str
    refusals: Refusals


@dataclass(frozen=True)
class PublishIt:
    """Publish the end of an attempt, with what it has made if it succeeded."""

    replica: str
    planned: PlannedAttempt
    observation: ReplicaObservation | None
    """None: its process never began."""
    reason: str = ""
    """Why it failed; '': its exit code is 0."""
    timed_out: bool = False


Action = PublishIt | StartIt | StopIt | ForgetIt | AdmitIt | TuneIt | RefuseIt


def kind_of(action: Action) -> str:
    """The kind of an action."""
    return type(action).__name__


def target_of(action: Action) -> str:
    """The version that an action sends; empty for others."""
    match action:
        case AdmitIt(_, access):
            return access.version
        case TuneIt(_, knobs):
            return knobs.version
        case RefuseIt(_, refusals):
            return refusals.version
    return ""


def replica_of(action: Action) -> str:
    """The id of its replica."""
    return action.spec.id if isinstance(action, StartIt) else action.replica
