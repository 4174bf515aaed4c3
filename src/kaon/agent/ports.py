"""What an agent asks of its neighbours: the control plane above it, the edge beside it, the replicas below it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from kaon.types.key import Access
from kaon.types.knobs import Knobs
from kaon.types.launch import ReplicaHealth
from kaon.types.model import Address, Model
from kaon.types.names import DeploymentKey
from kaon.types.plan import EdgeStatus, NamedPlan, Plan, Report
from kaon.types.refusals import Refusals
from kaon.types.replica import ReplicaStatus
from kaon.types.route import ReplicaEndpoint, Route


class AgentCall(Model):
    """Something that the control plane asks of an agent."""

    id: str
    call: str = Field(description="What is asked: 'logs'.")
    arguments: dict[str, Any] = Field(default_factory=dict)


class ControlPlane(Protocol):
    """Where plans come from and reports go. Every method raises `Unavailable` when it cannot be reached."""

    async def plan(self, after: str, wait_s: float) -> NamedPlan | None:
        """The plan, as soon as its name is not `after`; None when it still is after `wait_s` seconds."""
        ...

    async def report(self, report: Report) -> None:
        """Tell what the agent sees."""
        ...

    async def artifact(self, digest: str) -> Path:
        """A new local file with the artifact's bytes; whoever asked deletes it. Raises `NotFound`."""
        ...

    async def secrets(self, replica: str) -> dict[str, str]:
        """Environment variable -> value, for a replica of the current plan. Raises `NotFound`."""
        ...

    async def next_call(self, wait_s: float) -> AgentCall | None:
        """What is asked next; None when nothing was within `wait_s` seconds."""
        ...

    async def answer(self, call: str, lines: AsyncIterator[bytes]) -> None:
        """Stream the answer to a call as NDJSON lines. Returns early when nobody listens any more."""
        ...


class TrafficWatcher(Protocol):
    """Counts the traffic; see `kaon.agent.traffic.observer`."""

    @property
    def answered_at(self) -> float:
        """When the control plane took a post last, by the clock that never goes back; minus infinity: never."""
        ...

    async def run(self) -> None:
        """Work until cancelled."""
        ...

    def tell(self, plan: Plan, running: Mapping[str, Address], statuses: Sequence[ReplicaStatus]) -> None:
        """What there is to count: routes, control addresses of the replicas that run, how replicas are."""
        ...


class NoTrafficWatcher:
    """`TrafficWatcher` of a cloud whose traffic nobody asks for."""

    answered_at = -math.inf

    async def run(self) -> None:
        return None

    def tell(self, plan: Plan, running: Mapping[str, Address], statuses: Sequence[ReplicaStatus]) -> None:
        return None


class EdgePort(Protocol):
    """The proxy between callers and replicas."""

    async def apply(
        self, routes: tuple[Route, ...], endpoints: Mapping[DeploymentKey, tuple[ReplicaEndpoint, ...]]
    ) -> None:
        """Let exactly these routes lead to exactly these replicas, and start the proxy when it is not running.

        It returns when the proxy was told; traffic follows within milliseconds. A route without endpoints is
        kept and answers 503. Equal arguments cost nothing.
        """
        ...

    async def status(self) -> EdgeStatus:
        """How the proxy is."""
        ...

    async def in_flight(self) -> Mapping[Address, int]:
        """Requests that the proxy has open, by the replica's address. Raises `Unavailable` when it does not answer."""
        ...


class CallHolder(Protocol):
    """Where calls wait for a replica; see `kaon.agent.act.waking`."""

    @property
    def held(self) -> dict[str, int]:
        """'workspace/deployment' -> callers that wait for a replica, where any do."""
        ...

    async def run(self, told: Callable[[], None]) -> None:
        """Work until cancelled, calling `told` when callers have begun to wait, or nobody does any more."""
        ...

    async def follow(self, plan: Plan) -> None:
        """Let calls wait where the plan says so. Called before the edge hears of the plan."""
        ...

    def tell(
        self, endpoints: Mapping[DeploymentKey, Sequence[ReplicaEndpoint]], statuses: Sequence[ReplicaStatus]
    ) -> None:
        """Who is ready, and how those are that are not. Called at every look."""
        ...


class NoCallHolder:
    """`CallHolder` of a cloud whose calls are refused at once."""

    held: dict[str, int] = {}  # noqa: RUF012

    async def run(self, told: Callable[[], None]) -> None:
        return None

    async def follow(self, plan: Plan) -> None:
        return None

    def tell(
        self, endpoints: Mapping[DeploymentKey, Sequence[ReplicaEndpoint]], statuses: Sequence[ReplicaStatus]
    ) -> None:
        return None


class ReplicaControl(Protocol):
    """The replicas themselves, on their control sockets."""

    async def health(self, address: Address) -> ReplicaHealth:
        """What the replica at this control address says of itself. Raises `Unavailable` when it says nothing."""
        ...

    async def admit(self, address: Address, access: Access) -> None:
        """Tell a replica who may call it, from its next request on. Raises `Unavailable` when it does not listen."""
        ...

    async def tune(self, address: Address, knobs: Knobs) -> None:
        """Tell a replica its knobs, from its next batch on. Raises `Unavailable` when it does not listen."""
        ...

    async def refuse(self, address: Address, refusals: Refusals) -> None:
        """Tell a replica which requests it shall refuse. Raises `Unavailable` when it does not listen."""
        ...

    def let_go(self, address: Address) -> None:
        """Drop what is kept for a replica that has ended."""
        ...
