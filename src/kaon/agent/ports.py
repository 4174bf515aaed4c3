"""The ports of an agent: control plane, edge, traffic, held calls, and replicas."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from kaon.errors import NotFound
from kaon.types.job import AttemptEnd, AttemptNews
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
    """A request of the control plane to an agent."""

    id: str
    call: str = Field(description="What is requested, such as 'logs'.")
    arguments: dict[str, Any] = Field(default_factory=dict)


class ControlPlane(Protocol):
    """The source of plans and the receiver of reports. Every method raises `Unavailable` when it cannot be reached."""

    async def plan(self, after: str, wait_s: float) -> NamedPlan | None:
        """The plan, as soon as its name is not `after`; None when it still is after `wait_s` seconds."""
        ...

    async def report(self, report: Report) -> None:
        """Send what the agent observes."""
        ...

    async def artifact(self, digest: str) -> Path:
        """A new local file with the artifact's bytes, which the caller deletes. Raises `NotFound`."""
        ...

    async def secrets(self, replica: str) -> dict[str, str]:
        """Environment variable -> value, for a replica of the current plan. Raises `NotFound`."""
        ...

    async def next_call(self, wait_s: float) -> AgentCall | None:
        """The next call; None: there was none within `wait_s` seconds."""
        ...

    async def answer(self, call: str, lines: AsyncIterator[bytes]) -> None:
        """Stream the answer to a call as NDJSON lines. Returns early when the caller has left."""
        ...


class AttemptReceiver(Protocol):
    """The receiver of what attempts of jobs report and make. Every method raises `Unavailable` when it cannot be
    reached, and `NotFound` or `Conflict` for an attempt that the control plane does not want any more."""

    async def attempt_secrets(self, attempt: str) -> dict[str, str]:
        """Environment variable -> value, for an attempt of the current plan."""
        ...

    async def attempt_news(self, attempt: str, news: AttemptNews) -> None:
        """Send the progress of a running attempt."""
        ...

    async def missing_files(self, attempt: str, digests: Sequence[str]) -> list[str]:
        """Those of at most 10,000 digests whose files have to be uploaded."""
        ...

    async def upload_file(self, attempt: str, digest: str, file: Path) -> None:
        """Upload a file of an output."""
        ...

    async def attempt_end(self, attempt: str, end: AttemptEnd) -> None:
        """Send the end of an attempt, whose files are uploaded. It may be sent again."""
        ...


class NoAttempts:
    """`AttemptReceiver` of a control plane without jobs."""

    async def attempt_secrets(self, attempt: str) -> dict[str, str]:
        raise NotFound("The control plane has no jobs.")

    async def attempt_news(self, attempt: str, news: AttemptNews) -> None:
        raise NotFound("The control plane has no jobs.")

    async def missing_files(self, attempt: str, digests: Sequence[str]) -> list[str]:
        raise NotFound("The control plane has no jobs.")

    async def upload_file(self, attempt: str, digest: str, file: Path) -> None:
        raise NotFound("The control plane has no jobs.")

    async def attempt_end(self, attempt: str, end: AttemptEnd) -> None:
        raise NotFound("The control plane has no jobs.")


class TrafficWatcher(Protocol):
    """Counts the traffic; see `kaon.agent.traffic.observer`."""

    @property
    def answered_at(self) -> float:
        """When the control plane last took a post, by the monotonic clock; minus infinity: never."""
        ...

    async def run(self) -> None:
        """Work until cancelled."""
        ...

    def update(self, plan: Plan, running: Mapping[str, Address], statuses: Sequence[ReplicaStatus]) -> None:
        """Set what to count: the plan's routes, control addresses of the running replicas, all replicas' statuses."""
        ...


class NoTrafficWatcher:
    """`TrafficWatcher` of a cloud whose traffic is not counted."""

    answered_at = -math.inf

    async def run(self) -> None:
        return None

    def update(self, plan: Plan, running: Mapping[str, Address], statuses: Sequence[ReplicaStatus]) -> None:
        return None


class EdgePort(Protocol):
    """The proxy between callers and replicas."""

    async def apply(
        self, routes: tuple[Route, ...], endpoints: Mapping[DeploymentKey, tuple[ReplicaEndpoint, ...]]
    ) -> None:
        """Set all routes and their replicas, and start the proxy when it is not running.

        Returns when the proxy has been configured; traffic follows within milliseconds. A route without endpoints
        answers 503. Equal arguments cost nothing.
        """
        ...

    async def status(self) -> EdgeStatus:
        """The status of the proxy."""
        ...

    async def in_flight(self) -> Mapping[Address, int]:
        """Open requests of the proxy by the replica's address. Raises `Unavailable` when it does not answer."""
        ...


class CallHolder(Protocol):
    """Where calls wait for a replica; see `kaon.agent.act.waking`."""

    @property
    def held(self) -> dict[str, int]:
        """'workspace/deployment' -> calls that wait for a replica; without those that have none."""
        ...

    async def run(self, changed: Callable[[], None]) -> None:
        """Work until cancelled; calls `changed` when the first call waits, and when none does any more."""
        ...

    async def follow(self, plan: Plan) -> None:
        """Hold calls of the routes whose plan has `hold_s`. Called before the edge is configured."""
        ...

    def update(
        self, endpoints: Mapping[DeploymentKey, Sequence[ReplicaEndpoint]], statuses: Sequence[ReplicaStatus]
    ) -> None:
        """Set the ready replicas, and the statuses of all. Called at every look."""
        ...


class NoCallHolder:
    """`CallHolder` of a cloud whose calls are refused at once."""

    held: dict[str, int] = {}  # noqa: RUF012

    async def run(self, changed: Callable[[], None]) -> None:
        return None

    async def follow(self, plan: Plan) -> None:
        return None

    def update(
        self, endpoints: Mapping[DeploymentKey, Sequence[ReplicaEndpoint]], statuses: Sequence[ReplicaStatus]
    ) -> None:
        return None


class ReplicaControl(Protocol):
    """The replicas, on their control sockets."""

    async def health(self, address: Address) -> ReplicaHealth:
        """The health of the replica at this control address. Raises `Unavailable` when it does not answer."""
        ...

    async def admit(self, address: Address, access: Access) -> None:
        """Set who may call a replica, from its next request on. Raises `Unavailable` when it does not take it."""
        ...

    async def tune(self, address: Address, knobs: Knobs) -> None:
        """Set the knobs of a replica, from its next batch on. Raises `Unavailable` when it does not take them."""
        ...

    async def refuse(self, address: Address, refusals: Refusals) -> None:
        """Set the requests that a replica refuses. Raises `Unavailable` when it does not take them."""
        ...

    def let_go(self, address: Address) -> None:
        """Close the connection to a replica that has ended."""
        ...
