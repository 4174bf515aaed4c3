"""Waking from zero: sets what the activator holds, from the plan and the statuses of replicas.

A caller is checked as a replica would check it, with the same access list. The page `/docs`, which needs no key, is
answered here and wakes nothing.

Held calls are refused early when waiting is useless: when every replica has failed for good, for long enough that the
control plane could have rolled back.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence

from kaon import log
from kaon.clock import Clock
from kaon.edge.activator import Activator
from kaon.edge.answers import ActivatorResponse, StartFailed, hint
from kaon.edge.heads import Head
from kaon.edge.layout import Layout
from kaon.edge.waiting import HoldTerms
from kaon.errors import KaonError, NotFound
from kaon.runtime.access_list import AccessList
from kaon.runtime.handshake import check_origin, with_key
from kaon.sdk.docs_page import docs_page
from kaon.types.key import Access
from kaon.types.names import DeploymentKey
from kaon.types.plan import Plan
from kaon.types.replica import Phase, ReplicaStatus
from kaon.types.route import ReplicaEndpoint, Route

HOPELESS_RESTARTS = 2
"""A replica that crashed at its start and at so many restarts is not waited for."""

HOPELESS_S = 1.0
"""For how long all replicas must have failed."""

OPEN_AGAIN_S = 5.0
"""How long after a socket could not be opened it is tried again."""

CONFIG_RETRY_S, CRASH_RETRY_S = 30.0, 10.0
"""The Retry-After of callers: about when the agent repeats the start."""

_FAILED = (Phase.CONFIG_ERROR, Phase.CRASHED, Phase.NO_CAPACITY)
_REASON_LENGTH = 200

_log = log.get("agent.waking")


class HeldRoute:
    """Checks callers as a replica of the deployment would."""

    def __init__(self, access: Access, clock: Clock) -> None:
        self.access = AccessList(access, clock)

    def admit(self, head: Head) -> ActivatorResponse | None:
        """See `CallerCheck`."""
        if head.path == b"/docs" and head.method in (b"GET", b"HEAD"):
            page = docs_page()
            return ActivatorResponse(200, dict(page.headers), page.html)
        fields = head.fields
        if fields.get(b"upgrade", b"").lower() == b"websocket":
            check_origin(fields)
            fields = with_key(fields)
        self.access.check(fields.get(b"authorization"))
        return None


class Waking:
    """Configures the activator."""

    def __init__(self, layout: Layout, clock: Clock) -> None:
        """`layout` has the paths of the activator's sockets."""
        self._layout = layout
        self._clock = clock
        self._activator = Activator(clock)
        self._routes: dict[DeploymentKey, HeldRoute] = {}
        self._plan: Plan | None = None
        self._again_at = math.inf
        """When to retry sockets that could not be opened."""
        self._weighted: dict[DeploymentKey, set[int]] = {}

    async def run(self, changed: Callable[[], None]) -> None:
        """Work until cancelled. `changed` is called when the first call waits, and when none does any more."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._activator.run())
            group.create_task(self._pass_on(changed))

    async def _pass_on(self, changed: Callable[[], None]) -> None:
        while True:
            await self._activator.changed()
            changed()

    @property
    def held(self) -> dict[str, int]:
        """'workspace/deployment' -> calls that wait for a replica; without those that have none."""
        return {"/".join(key): count for key, count in self._activator.held.items()}

    @property
    def turned_away(self) -> dict[DeploymentKey, dict[str, int]]:
        """See `Activator.turned_away`."""
        return self._activator.turned_away

    async def follow(self, plan: Plan) -> None:
        """Hold calls of the routes whose plan has `hold_s`."""
        if plan is self._plan and self._clock.monotonic() < self._again_at:
            return
        self._again_at = math.inf
        routes = {(route.workspace, route.deployment): route for route in plan.routes if route.hold_s > 0}
        for key, route in routes.items():
            await self._open(key, route, plan.access.get("/".join(key), Access()))
        for key in self._activator.rooms - routes.keys():
            self._activator.close(key, _closed_because(key, plan))
        self._weighted = {
            (r.workspace, r.deployment): {b.revision for b in r.backends if b.weight} for r in plan.routes
        }
        self._plan = plan

    async def _open(self, key: DeploymentKey, route: Route, access: Access) -> None:
        held = self._routes.setdefault(key, HeldRoute(access, self._clock))
        if held.access.version != access.version:
            held.access.put(access)
        try:
            await self._activator.open(key, self._layout.activator(*key), HoldTerms(held, route.hold_s))
        except OSError as error:
            self._again_at = self._clock.monotonic() + OPEN_AGAIN_S
            _log.error("calls cannot be held", deployment="/".join(key), error=str(error))

    def update(
        self, endpoints: Mapping[DeploymentKey, Sequence[ReplicaEndpoint]], statuses: Sequence[ReplicaStatus]
    ) -> None:
        """Set the ready replicas, and the statuses of all."""
        for key in self._routes.keys() - self._activator.rooms:
            del self._routes[key]
        for key, route in self._routes.items():
            ready = [endpoint.address for endpoint in self._chosen(key, endpoints.get(key, ()))]
            replicas = [s for s in statuses if (s.workspace, s.deployment) == key and s.phase is not Phase.DRAINING]
            reason = waiting_reason(replicas, public=route.access.public)
            self._activator.set_replicas(key, ready, reason, refusal(key, replicas, reason, self._clock.now()))

    def _chosen(self, key: DeploymentKey, ready: Sequence[ReplicaEndpoint]) -> Sequence[ReplicaEndpoint]:
        """The ready replicas of revisions that get a share of the traffic; all ready ones when those have none."""
        weighted = self._weighted.get(key, set())
        return [endpoint for endpoint in ready if endpoint.revision in weighted] or ready


def _closed_because(key: DeploymentKey, plan: Plan) -> KaonError | None:
    """The refusal of waiting calls whose route holds none any more; None when the plan still has replicas."""
    if any((replica.workspace, replica.deployment) == key for replica in plan.replicas):
        return None
    if any((route.workspace, route.deployment) == key for route in plan.routes):
        return StartFailed(f"The deployment {key[1]} was switched off.", hint=f"kaon scale {key[1]} 1")
    return NotFound("The deployment at this path was deleted.", hint="List the deployments: kaon ps")


def waiting_reason(replicas: Sequence[ReplicaStatus], *, public: bool) -> str:
    """Why no replica is ready, by the one in the worst state; empty when there is none.

    Texts of the service are shown to callers with a key only, and those of a crash to none: they are lines of its log,
    which callers may not read.
    """
    if not replicas:
        return ""
    worst = max(replicas, key=lambda r: (r.phase in _FAILED, r.restarts, r.since))
    match worst.phase:
        case Phase.CONFIG_ERROR if not public and worst.reason:
            first = log.blot(worst.reason.splitlines()[0])[:_REASON_LENGTH]
            return f"The service cannot start as configured: {first}"
        case Phase.CONFIG_ERROR:
            return "The service cannot start as configured."
        case Phase.CRASHED:
            return _crash_reason(worst.exit_code, worst.restarts + 1)
        case Phase.NO_CAPACITY:
            return "The cloud has no capacity for another replica."
        case _:
            return f"A replica is {worst.phase.value.lower()}."


def _crash_reason(code: int | None, times: int) -> str:
    if code is None:
        return f"The service ends at its start, {times} times." if times > 1 else "The service ends at its start."
    if times > 1:
        return f"The service ends at its start with exit code {code}, {times} times."
    return f"The service ends at its start with exit code {code}."


def refusal(key: DeploymentKey, replicas: Sequence[ReplicaStatus], reason: str, now: float) -> KaonError | None:
    """The refusal of calls that wait in vain; None while a replica may become ready. `now`: epoch seconds."""
    if not replicas or not all(_hopeless(replica, now) for replica in replicas):
        return None
    config = any(replica.phase is Phase.CONFIG_ERROR for replica in replicas)
    return StartFailed(reason, hint=hint(key), retry_after_s=CONFIG_RETRY_S if config else CRASH_RETRY_S)


def _hopeless(replica: ReplicaStatus, now: float) -> bool:
    crashes = replica.phase is Phase.CRASHED and replica.restarts >= HOPELESS_RESTARTS
    return (crashes or replica.phase is Phase.CONFIG_ERROR) and now - replica.since >= HOPELESS_S
