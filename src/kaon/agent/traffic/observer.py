"""Counts the traffic once a second, keeps half an hour of it, and sends the control plane what it lacks.

A shell around `kaon.agent.traffic.sampling`. It never delays the agent's loops: it has connections of its own, its
waits are bounded, and what fails is repeated a second later. The answer to each post has the time up to which the
control plane has samples; the next post continues there, which closes gaps and outlives restarts of either side.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from kaon import log
from kaon.agent.observe import starts
from kaon.agent.observe.probes import ControlSockets
from kaon.agent.traffic import sampling
from kaon.agent.traffic.reading import TrafficReading
from kaon.agent.traffic.sampling import TrafficHistory
from kaon.agent.traffic.sides import with_sides
from kaon.clock import Clock
from kaon.edge.counts import EdgeCounts
from kaon.errors import KaonError
from kaon.laws.backoff import Backoff, delay_s
from kaon.store.traffic import Moment, TrafficRing
from kaon.types.figures import ReplicaFigures
from kaon.types.knobs import PlannedKnobs
from kaon.types.model import Address
from kaon.types.names import DeploymentKey, RevisionKey
from kaon.types.plan import Plan
from kaon.types.replica import ReplicaStatus
from kaon.types.route import Route
from kaon.types.traffic import ColdStart, Traffic, TrafficTaken

EVERY_S = 1.0
POST_BYTES = 512 * 1024
"""The most bytes of a post, unless a single moment has more."""
_AWAY = Backoff(first_s=0.5, cap_s=5.0)

_log = log.get("agent.observer")

Held = Callable[[], Mapping[str, int]]
"""'workspace/deployment' -> callers that wait at the edge for a replica."""


TurnedAway = Callable[[], Mapping[DeploymentKey, Mapping[str, int]]]
"""Answers of the activator to requests that are no calls, by class: running totals."""


class TrafficCounter(Protocol):
    """An edge that counts."""

    async def counts(self) -> EdgeCounts:
        """Totals of all clusters. Raises `Unavailable`."""
        ...


class TrafficReceiver(Protocol):
    """Replicas that report their figures."""

    async def figures(self, address: Address) -> ReplicaFigures:
        """The running sums of the replica at this control address. Raises `Unavailable`."""
        ...

    def let_go(self, address: Address) -> None:
        """Close the connection to a replica that has ended."""
        ...


class Post(Protocol):
    """The way to the control plane."""

    async def traffic(self, body: bytes) -> TrafficTaken:
        """Send `Traffic` as JSON; returns what the control plane has now. Raises `KaonError`."""
        ...


class Observer:
    """The samples of one cloud. `run` until cancelled; `update` sets what to count."""

    def __init__(
        self,
        cloud: str,
        post: Post,
        edge: TrafficCounter,
        clock: Clock,
        *,
        replicas: TrafficReceiver | None = None,
        held: Held = dict,
        turned_away: TurnedAway = dict,
    ) -> None:
        self._cloud = cloud
        self._post = post
        self._edge = edge
        self._clock = clock
        self._replicas: TrafficReceiver = replicas or ControlSockets()
        self._held = held
        self._turned_away = turned_away
        self._plan: Plan | None = None
        self._served: frozenset[RevisionKey] = frozenset()
        self._trials: dict[tuple[str, str], PlannedKnobs] = {}
        self._running: dict[str, Address] = {}
        self._statuses: tuple[ReplicaStatus, ...] = ()
        self._starting: starts.Starts = {}
        self._started: dict[str, ColdStart] = {}
        self._memory: TrafficHistory | None = None
        self._fresh = asyncio.Event()
        self.ring = TrafficRing()
        self.answered_at = -math.inf
        self._taken_s = 0.0

    def update(self, plan: Plan, running: Mapping[str, Address], statuses: Sequence[ReplicaStatus]) -> None:
        """Set what to count: the plan's routes, control addresses of the running replicas, all replicas' statuses."""
        if plan is not self._plan:
            self._plan = plan
            self._served = frozenset(key for route in plan.routes for key in _served(route))
            self._trials = {_split(name): planned for name, planned in plan.knobs.items() if planned.trial}
        for replica, address in self._running.items():
            if running.get(replica) != address:
                self._replicas.let_go(address)
        self._running, self._statuses = dict(running), tuple(statuses)
        self._starting, over = starts.follow(self._starting, statuses)
        self._started |= over

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sample())
            group.create_task(self._send())

    async def _sample(self) -> None:
        failing = False
        while True:
            # In the middle of a second of the wall clock, so that charts in whole seconds have each second once.
            wait_s = (EVERY_S / 2 - self._clock.now()) % EVERY_S
            await self._clock.sleep(wait_s if wait_s >= EVERY_S / 4 else wait_s + EVERY_S)
            try:
                if self._plan is not None:
                    await self.sample()
                failing = False
            except Exception:  # the agent works without traffic counts
                if not failing:
                    _log.exception("the traffic was not counted")
                failing = True

    async def sample(self) -> None:
        """Read once, and store the samples since the last reading."""
        look = await self._look()
        before = self._memory
        memory, samples = sampling.step(self._cloud, before, look)
        if samples or memory is not self._memory:
            self._started = {id_: start for id_, start in self._started.items() if id_ not in look.starts}
        self._memory = memory
        if samples:
            samples = with_sides(samples, before.reading, look) if before and look.trials else samples
            self.ring.add(Traffic(cloud=self._cloud, samples=tuple(samples)), look.at_s)
            self._fresh.set()

    async def _look(self) -> TrafficReading:
        running, statuses, over = self._running, self._statuses, self._started
        edge = await self._counts()  # before the replicas: see `sampling`
        answers = await asyncio.gather(*(self._figures(address) for address in running.values()))
        return TrafficReading(
            at_s=self._clock.now(),
            now=self._clock.monotonic(),
            edge=edge,
            figures={id_: figures for id_, figures in zip(running, answers, strict=True) if figures is not None},
            replicas=statuses,
            served=self._served,
            held={_split(name): count for name, count in self._held().items()},
            turned_away=self._turned_away(),
            starts=over,
            trials=self._trials,
        )

    async def _counts(self) -> EdgeCounts | None:
        try:
            return await self._edge.counts()
        except KaonError:
            return None

    async def _figures(self, address: Address) -> ReplicaFigures | None:
        try:
            return await self._replicas.figures(address)
        except KaonError:
            return None

    async def _send(self) -> None:
        failures = 0
        while True:
            await self._fresh.wait()
            self._fresh.clear()
            try:
                while await self.send():
                    pass
                failures = 0
            except KaonError as error:
                if failures == 0:
                    _log.warning("no traffic to the control plane", error=error.cause)
                failures += 1
                await self._clock.sleep(delay_s(_AWAY, failures, random.random()))  # noqa: S311

    async def send(self) -> bool:
        """Post some of the samples that the control plane lacks; returns whether it lacks more."""
        lacking = self.ring.moments(self._cloud, self._taken_s)
        if not lacking:
            return False
        part = _part(lacking)
        earlier = [m.at_s for m in self.ring.moments(self._cloud, 0.0)[: -len(lacking)]]
        taken = (await self._post.traffic(body(self._cloud, max(earlier, default=0.0), part))).until_s
        self.answered_at = self._clock.monotonic()
        moved = taken != self._taken_s
        self._taken_s = taken
        self.ring.part_at(self._cloud, taken)
        return moved and taken < lacking[-1].at_s


def _part(moments: Sequence[Moment]) -> list[Moment]:
    """As many as fit into a post, at least one."""
    part, size = [moments[0]], moments[0].size_bytes
    for moment in moments[1:]:
        size += moment.size_bytes
        if size > POST_BYTES:
            break
        part.append(moment)
    return part


def body(cloud: str, after_s: float, moments: Sequence[Moment]) -> bytes:
    """The moments as `Traffic` in JSON; `after_s` is the end of the one before them."""
    texts = (text for moment in moments for samples in moment.samples.values() for text in samples)
    head = f'{{"cloud":{json.dumps(cloud)},"after_s":{after_s!r},"samples":['
    return head.encode() + b",".join(texts) + b"]}"


def _served(route: Route) -> list[RevisionKey]:
    """The revisions that get a share of the calls; revision 0 when there are none."""
    revisions = [backend.revision for backend in route.backends if backend.weight]
    return [(route.workspace, route.deployment, revision) for revision in revisions or [0]]


def _split(name: str) -> tuple[str, str]:
    workspace, _, deployment = name.partition("/")
    return workspace, deployment
