"""Compares a shadow's answers with those that callers got: replicas of both keep some, which are read each second.

Replicas are asked to keep answers for a limited time, and asked again before it ends, so that they stop by themselves
when this agent stops. A busy service keeps a smaller share, so that the work stays bounded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kaon.agent.observe.comparison import Comparison
from kaon.clock import Clock
from kaon.errors import Unavailable
from kaon.types.model import Address
from kaon.types.names import DeploymentKey
from kaon.types.route import ReplicaEndpoint, Route
from kaon.types.shadow import KeptAnswers, Sampling, ShadowReport

LOOK_S = 1.0
RENEW_S = 10.0
_MOST_RPS = 300.0
"""Answers that a replica may keep in a second."""


class AnswerSource(Protocol):
    """Replicas that keep answers, on their control sockets. Methods raise `Unavailable` when one does not answer."""

    async def sample(self, address: Address, sampling: Sampling) -> None:
        """Set the share of calls whose answers a replica keeps."""
        ...

    async def answers(self, address: Address, after: int) -> KeptAnswers:
        """The answers kept after number `after`."""
        ...

    def let_go(self, address: Address) -> None:
        """Close the connection to a replica."""
        ...


@dataclass
class _Watch:
    """One deployment's shadow."""

    comparison: Comparison
    serving: tuple[Address, ...] = ()
    shadow: tuple[Address, ...] = ()
    share: float = 1.0
    renewed_at: dict[Address, float] = field(default_factory=dict)
    read: dict[Address, int] = field(default_factory=dict)


class Shadows:
    """The shadows of one cloud."""

    def __init__(self, replicas: AnswerSource, clock: Clock) -> None:
        self._replicas = replicas
        self._clock = clock
        self._watched: dict[DeploymentKey, _Watch] = {}
        self._connected: set[Address] = set()
        """Replicas to which a connection may be open."""

    def follow(self, routes: Iterable[Route], endpoints: Mapping[DeploymentKey, Sequence[ReplicaEndpoint]]) -> None:
        """Set the routes whose shadows are compared, and the replicas behind the edge."""
        found: dict[DeploymentKey, _Watch] = {}
        for route in routes:
            if route.mirror is None:
                continue
            key, number = (route.workspace, route.deployment), route.mirror.revision
            watch = self._watched.get(key)
            if watch is None or watch.comparison.revision != number:
                watch = _Watch(Comparison(number, self._clock.now()))
            reachable = [e for e in endpoints.get(key, ()) if e.control_address]
            watch.serving = tuple(str(e.control_address) for e in reachable if e.revision != number)
            watch.shadow = tuple(str(e.control_address) for e in reachable if e.revision == number)
            found[key] = watch
        self._watched = found

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            for watch in list(self._watched.values()):
                await self._look(watch)
            self._let_go()
            await self._clock.sleep(LOOK_S)

    def report(self, workspace: str, deployment: str) -> ShadowReport:
        """The report of a deployment's shadow; an empty one when it has none."""
        watch = self._watched.get((workspace, deployment))
        return watch.comparison.report() if watch else ShadowReport()

    def _let_go(self) -> None:
        """Close the connections to replicas that are no longer compared."""
        wanted = {address for watch in self._watched.values() for address in (*watch.serving, *watch.shadow)}
        for address in self._connected - wanted:
            self._replicas.let_go(address)
        self._connected &= wanted
        for watch in self._watched.values():
            for by_address in (watch.renewed_at, watch.read):
                for address in by_address.keys() - wanted:
                    del by_address[address]

    async def _look(self, watch: _Watch) -> None:
        if not watch.serving or not watch.shadow:
            return
        busiest = 0
        for address in (*watch.serving, *watch.shadow):
            self._connected.add(address)
            with contextlib.suppress(Unavailable):
                await self._renew(watch, address)
                kept = await self._read(watch, address)
                busiest = max(busiest, kept)
        watch.comparison.expire(self._clock.now())
        share = min(1.0, watch.share * _MOST_RPS * LOOK_S / busiest) if busiest else watch.share
        if share < 0.8 * watch.share or share > 1.5 * watch.share:
            watch.share = share
            watch.renewed_at.clear()

    async def _renew(self, watch: _Watch, address: Address) -> None:
        now = self._clock.monotonic()
        if now - watch.renewed_at.get(address, -RENEW_S) >= RENEW_S:
            await self._replicas.sample(address, Sampling(share=watch.share))
            watch.renewed_at[address] = now

    async def _read(self, watch: _Watch, address: Address) -> int:
        """Compare the answers that a replica kept since the last look; returns how many it sampled."""
        before = watch.read.get(address, 0)
        kept = await self._replicas.answers(address, before)
        watch.read[address] = kept.until
        now, shadow = self._clock.now(), address in watch.shadow
        for answer in kept.answers:
            watch.comparison.add(answer, now, shadow=shadow)
        return max(0, kept.sampled - before)
