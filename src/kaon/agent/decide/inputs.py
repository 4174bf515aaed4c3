"""What the agent sees, remembers and may do: the values that `kaon.agent.decide.replicas` decides on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from kaon.drivers.port import ReplicaObservation
from kaon.laws.backoff import Backoff, delay_s
from kaon.types.flight import Flight
from kaon.types.key import Access
from kaon.types.knobs import LEASE_S, Knobs
from kaon.types.launch import ReplicaHealth
from kaon.types.names import DeploymentKey
from kaon.types.refusals import Refusals
from kaon.types.replica import Phase, ReplicaSpec

ACTION = Backoff(first_s=0.5, cap_s=30.0)
"""Between two tries of the same action on the same replica, until it is no longer called for."""


@dataclass(frozen=True)
class ProbedHealth:
    """What the probes of one replica found."""

    answer: ReplicaHealth | None = None
    asked_at: float = 0.0  # when the probe was sent that `answer` is the answer to
    zeros: int = 0  # answers in a row that told of nothing in flight
    misses: int = 0  # probes in a row without an answer, since `silent_since`
    silent_since: float | None = None


@dataclass(frozen=True)
class RefusedStart:
    """A start that did not begin."""

    phase: Phase
    reason: str
    final: bool = False  # it is of no use to try it again with this spec


@dataclass(frozen=True)
class Attempts:
    """How often in a row an action was begun, the last time at `at`, and is still called for.

    It does not matter whether it failed, or returned without an effect: both count, so that nothing is done in a hot
    loop. `target` is what the action is to bring about; another target is another action.
    """

    target: str
    count: int
    at: float

    @property
    def again_at(self) -> float:
        """When it may be begun again."""
        return self.at + delay_s(ACTION, self.count)


@dataclass(frozen=True)
class AgentInputs:
    """What the agent sees at one moment."""

    now: float
    wall: float
    observed: Mapping[str, ReplicaObservation]
    health: Mapping[str, ProbedHealth]
    refused: Mapping[str, RefusedStart]
    failures: Mapping[tuple[str, str], str] = field(default_factory=dict)  # replica, kind of action -> why it failed
    flights: Mapping[str, tuple[Flight, ...] | None] = field(default_factory=dict)
    """Calls in flight of those that are silent; None: they cannot be read now."""
    refusals: Mapping[DeploymentKey, Refusals] = field(default_factory=dict)  # see `kaon.agent.decide.poison`
    busy: frozenset[str] = frozenset()  # replicas with an operation under way
    at_edge: frozenset[str] | None = None  # replicas that the edge was last told of; None: it was told nothing yet
    edge_busy: frozenset[str] = frozenset()  # replicas that the edge still has requests open to
    answered_at: float = -math.inf  # when the control plane answered last

    @property
    def lease_s(self) -> float:
        """How long trials are meant, if the control plane says nothing more; below zero: they are not."""
        return self.answered_at + LEASE_S - self.now


@dataclass(frozen=True)
class ReplicaHistory:
    """What the agent remembers of one replica from step to step."""

    spec: ReplicaSpec | None = None
    phase: Phase = Phase.INSTALLING
    reason: str = ""
    since: float = 0.0  # wall
    failures: int = 0
    restarts: int = 0
    retry_at: float = 0.0
    end_counted: bool = False
    begun: bool = True  # the last start was begun, so that another one is a restart
    refused_spec: ReplicaSpec | None = None  # what the place can never run
    exit_code: int | None = None
    last_lines: tuple[str, ...] = ()
    ready_since: float | None = None
    busy_at: float = -math.inf  # when it was last seen to be silent for the sake of a call
    stopping: str = ""  # why this agent is ending it
    retired_at: float | None = None
    left_edge_at: float | None = None
    tuned: str = ""  # version of the knobs that its process was told last
    ended_with: str = ""  # version of the knobs that it was told before it ended
    attempts: Mapping[str, Attempts] = field(default_factory=dict)  # kind of action -> attempts that had no effect yet


@dataclass(frozen=True)
class StartIt:
    """Start a replica."""

    spec: ReplicaSpec


@dataclass(frozen=True)
class StopIt:
    """End a replica, with so much time to drain."""

    replica: str
    grace_s: float
    reason: str
    stacks: bool = False  # have the stacks of its threads written to its log before


@dataclass(frozen=True)
class ForgetIt:
    """Drop what is kept of a replica that has ended."""

    replica: str


@dataclass(frozen=True)
class AdmitIt:
    """Tell a replica who may call it."""

    replica: str
    access: Access


@dataclass(frozen=True)
class TuneIt:
    """Tell a replica its knobs."""

    replica: str
    knobs: Knobs


@dataclass(frozen=True)
class RefuseIt:
    """Tell a replica which requests it shall refuse."""

    replica: str
    refusals: Refusals


Action = StartIt | StopIt | ForgetIt | AdmitIt | TuneIt | RefuseIt


def kind_of(action: Action) -> str:
    """What kind of action it is."""
    return type(action).__name__


def target_of(action: Action) -> str:
    """What an action is to bring about, where actions of its kind differ in that."""
    match action:
        case AdmitIt(_, access):
            return access.version
        case TuneIt(_, knobs):
            return knobs.version
        case RefuseIt(_, refusals):
            return refusals.version
    return ""


def replica_of(action: Action) -> str:
    """Id of the replica that it is about."""
    return action.spec.id if isinstance(action, StartIt) else action.replica
