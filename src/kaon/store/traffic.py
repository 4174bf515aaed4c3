"""The last half hour of traffic: in memory, bounded, and refilled by the agents after a restart.

The API, which gets samples from agents, and the controllers, which use them, share one ring. It is a cache: an agent
has a ring of its own and sends missing samples again.

The last two minutes are kept by the second, older ones in sums over ten seconds: 300 moments instead of 1,800.
They are kept as JSON, 0.1 to 0.5 kB for a revision's second, a seventh of what it takes as an object.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from kaon.laws.traffic import merge
from kaon.types.names import DeploymentKey
from kaon.types.traffic import Sample, Traffic

RING_S = 1800.0
"""Length of the ring."""
SECONDS_S = 120.0
"""Length of the part with single seconds."""
STEP_S = 10.0
"""Span of the sums of older seconds."""
MOST_BYTES = 64 * 2**20
"""Limit for one cloud; above it the oldest samples are dropped."""

_AHEAD_S = 5.0
"""How far another clock may be ahead; later samples are of a wrong clock."""
_OVERLAP_S = 0.25
_AS_OBJECTS = 4
"""Newest moments that are kept as objects too: those of the last two ticks."""


@dataclass(slots=True)
class Moment:
    """The samples of a cloud's agent that end at one moment."""

    at_s: float
    number: int = 0
    """In order of arrival."""
    samples: dict[DeploymentKey, list[bytes]] = field(default_factory=dict)
    """As JSON."""
    objects: dict[DeploymentKey, list[Sample]] = field(default_factory=dict)
    """The same as objects, for the newest moments, which are read most."""
    size_bytes: int = 0

    def add(self, sample: Sample) -> None:
        """Add a sample."""
        key, text = (sample.workspace, sample.deployment), sample.model_dump_json(exclude_defaults=True).encode()
        self.samples.setdefault(key, []).append(text)
        self.objects.setdefault(key, []).append(sample)
        self.size_bytes += len(text)

    def of(self, key: DeploymentKey) -> Iterator[Sample]:
        """The samples of a deployment."""
        found = self.objects.get(key)
        return iter(found) if found else map(Sample.model_validate_json, self.samples.get(key, ()))


@dataclass(slots=True)
class _Cloud:
    """One cloud's moments, oldest first: sums, then seconds."""

    until: float = 0.0
    size_bytes: int = 0
    cut: float = 0.0
    """No sum has moments from both sides of it."""
    sums: deque[Moment] = field(default_factory=deque)
    seconds: deque[Moment] = field(default_factory=deque)

    def newest(self, wanted: Callable[[Moment], bool]) -> list[Moment]:
        """The newest moments for which `wanted` holds, oldest first."""
        newest_first = itertools.chain(reversed(self.seconds), reversed(self.sums))
        return list(itertools.takewhile(wanted, newest_first))[::-1]

    def after(self, at_s: float) -> list[Moment]:
        """The moments after `at_s`."""
        return self.newest(lambda moment: moment.at_s > at_s)

    def step(self) -> list[Moment]:
        """Take out the seconds of the oldest step, if the step is over; else nothing."""
        step = self._step_of(self.seconds[0]) if self.seconds else (0.0, False)
        if not self.seconds or (step[0] + 1) * STEP_S > self.until - SECONDS_S:
            return []
        size = sum(1 for _ in itertools.takewhile(lambda moment: self._step_of(moment) == step, self.seconds))
        return [self.seconds.popleft() for _ in range(size)]

    def _step_of(self, moment: Moment) -> tuple[float, bool]:
        return moment.at_s // STEP_S, moment.at_s <= self.cut


class TrafficRing:
    """Samples by deployment, of all revisions and clouds."""

    def __init__(self, span_s: float = RING_S, most_bytes: int = MOST_BYTES) -> None:
        self._span_s = span_s
        self._most_bytes = most_bytes
        self._clouds: dict[str, _Cloud] = {}
        self._present: Counter[DeploymentKey] = Counter()
        self._number = 0
        self._arrived: tuple[int, list[Moment]] = (-1, [])
        """The last result of `arrived` and its argument: in a tick, all deployments ask for the same."""

    def add(
        self, traffic: Traffic, now_s: float | None = None, wanted: Callable[[Sample], bool] | None = None
    ) -> float:
        """Add new samples; returns the end of the cloud's newest sample.

        Adds nothing when earlier samples are missing (`Traffic.after_s`): the agent sends them again. `now_s` is the
        current time: later samples are not added, or dropped when this clock went back. Samples that are not `wanted`
        are dropped, and not requested again.
        """
        self._arrived = -1, []
        cloud = self._clouds.setdefault(traffic.cloud, _Cloud())
        latest = float("inf") if now_s is None else now_s + _AHEAD_S
        if cloud.until > latest:
            self._forget_after(cloud, latest)
        until = cloud.until
        if traffic.after_s > until + _OVERLAP_S:
            return until
        fresh = [
            sample
            for sample in traffic.samples
            if until < sample.at_s <= latest and sample.at_s - sample.span_s >= until - _OVERLAP_S
        ]
        for at_s, samples in itertools.groupby(sorted(fresh, key=_end), key=_end):
            self._number += 1
            moment = Moment(at_s, self._number)
            for sample in samples:
                if wanted is None or wanted(sample):
                    moment.add(sample)
            cloud.seconds.append(moment)
            if len(cloud.seconds) > _AS_OBJECTS:
                cloud.seconds[-1 - _AS_OBJECTS].objects.clear()
            cloud.until = at_s
            self._count(cloud, moment)
        self._sum_up(cloud)
        self._forget(cloud)
        return cloud.until

    def until(self, cloud: str) -> float:
        """The end of the newest sample of a cloud; 0: none."""
        return self._clouds[cloud].until if cloud in self._clouds else 0.0

    def deployments(self) -> list[DeploymentKey]:
        """The deployments with samples."""
        return sorted(self._present)

    def since(self, workspace: str, deployment: str, after_s: float) -> list[Sample]:
        """A deployment's samples that end after `after_s`, oldest first."""
        key = (workspace, deployment)
        moments = (moment for cloud in self._clouds.values() for moment in cloud.after(after_s))
        found = [sample for moment in moments for sample in moment.of(key) if sample.at_s > after_s]
        return sorted(found, key=lambda sample: (sample.at_s, sample.cloud, sample.revision))

    def news(self, workspace: str, deployment: str, after: int) -> tuple[list[Sample], int]:
        """Samples of a deployment after moment `after` in order of arrival, as far as they are kept; the last moment.

        Start with 0. With calls within two minutes of each other each sample is returned once.
        """
        moments, number = self.arrived(after)
        return [sample for moment in moments for sample in moment.of((workspace, deployment))], number

    def arrived(self, after: int) -> tuple[list[Moment], int]:
        """Moments after `after` in order of arrival; the number of the last one."""
        if self._arrived[0] != after:
            found = [m for cloud in self._clouds.values() for m in cloud.newest(lambda moment: moment.number > after)]
            self._arrived = after, sorted(found, key=lambda moment: moment.number)
        return self._arrived[1], self._number

    def part_at(self, cloud: str, at_s: float) -> None:
        """Let no sum contain moments from both sides of `at_s`, so that one can read what is after it."""
        if cloud in self._clouds:
            self._clouds[cloud].cut = at_s

    def moments(self, cloud: str, after_s: float) -> list[Moment]:
        """A cloud's moments after `after_s`, oldest first."""
        return self._clouds[cloud].after(after_s) if cloud in self._clouds else []

    def _sum_up(self, cloud: _Cloud) -> None:
        while run := cloud.step():
            for moment in run:
                self._uncount(cloud, moment)
            whole = _sum(run)
            whole.objects.clear()
            cloud.sums.append(whole)
            self._count(cloud, whole)

    def _forget(self, cloud: _Cloud) -> None:
        for kept in (cloud.sums, cloud.seconds):
            while kept and (kept[0].at_s <= cloud.until - self._span_s or cloud.size_bytes > self._most_bytes):
                self._uncount(cloud, kept.popleft())

    def _forget_after(self, cloud: _Cloud, latest_s: float) -> None:
        for kept in (cloud.seconds, cloud.sums):
            while kept and kept[-1].at_s > latest_s:
                self._uncount(cloud, kept.pop())
        left = cloud.seconds or cloud.sums
        cloud.until = left[-1].at_s if left else 0.0

    def _count(self, cloud: _Cloud, moment: Moment) -> None:
        cloud.size_bytes += moment.size_bytes
        self._present.update(moment.samples.keys())

    def _uncount(self, cloud: _Cloud, moment: Moment) -> None:
        cloud.size_bytes -= moment.size_bytes
        self._present.subtract(moment.samples.keys())
        for key in moment.samples:
            if not self._present[key]:
                del self._present[key]


def _end(sample: Sample) -> float:
    return sample.at_s


def _sum(moments: list[Moment]) -> Moment:
    """The sum of several moments."""
    whole = Moment(moments[-1].at_s, moments[-1].number)
    for key in dict.fromkeys(key for moment in moments for key in moment.samples):
        by_revision: dict[int, list[Sample]] = {}
        for moment in moments:
            for sample in moment.of(key):
                by_revision.setdefault(sample.revision, []).append(sample)
        for samples in by_revision.values():
            whole.add(merge(samples))
    return whole
