"""Whatever an agent does to a replica, and however that goes wrong: it is done ever more seldom."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.replicas import replica_spec
from tests.waiting import turns

from kaon.agent.agent import Agent
from kaon.agent.decide.inputs import Action, PublishIt
from kaon.agent.ports import AgentCall
from kaon.clock import FakeClock
from kaon.drivers.fake import FakeDriver, FakePlace, FakeReplicas
from kaon.drivers.port import Workload
from kaon.errors import Unavailable
from kaon.types.key import Access, Grant
from kaon.types.knobs import Knobs, PlannedKnobs
from kaon.types.model import Address
from kaon.types.plan import EdgeStatus, NamedPlan, Plan, Report
from kaon.types.refusals import Refusals

SECONDS = 60
MOST = 10
"""Half a second, doubling to thirty: seven attempts in a minute."""

SPEC = replica_spec()
OPEN, CLOSED = Access(public=True), Access(grants=(Grant(hash="0" * 64, key="k"),))
RUNNING = Plan(cloud="local", replicas=(SPEC,), access={"default/shop": OPEN})
EMPTY = Plan(cloud="local")

CALLED_FOR_BY: dict[str, Plan] = {
    "StartIt": RUNNING,
    "StopIt": EMPTY,
    "ForgetIt": EMPTY,
    "AdmitIt": Plan(cloud="local", replicas=(SPEC,), access={"default/shop": CLOSED}),
    "TuneIt": Plan(
        cloud="local",
        replicas=(SPEC,),
        access={"default/shop": OPEN},
        knobs={"default/shop": PlannedKnobs(force=Knobs(max_batch=2))},
    ),
    "RefuseIt": RUNNING,
}
"""Kind of action -> the plan that calls for it, once a replica of `RUNNING` runs."""


async def fails(clock: FakeClock) -> None:
    raise Unavailable("status 500")


async def breaks(clock: FakeClock) -> None:
    raise RuntimeError("a bug")


async def hangs(clock: FakeClock) -> None:
    await clock.sleep(0.5)
    raise Unavailable("Nothing answers.")


async def does_nothing(clock: FakeClock) -> None:
    """As a replica of the release before, which takes what it is sent and reports a name of its own."""


class Broken:
    """What goes wrong, and how often each kind of action was begun."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.ways: dict[str, Callable[[FakeClock], Coroutine[Any, Any, None]]] = {}
        self.count: Counter[str] = Counter()

    async def do(self, kind: str, done: Coroutine[Any, Any, None]) -> None:
        self.count[kind] += 1
        if kind in self.ways:
            done.close()
            await self.ways[kind](self.clock)
        else:
            await done


class BrokenDriver(FakeDriver):
    """A place with which one kind of action goes wrong from some time on."""

    def __init__(self, place: FakePlace, broken: Broken) -> None:
        super().__init__(place)
        self.broken = broken

    async def start(self, workload: Workload) -> None:
        await self.broken.do("StartIt", super().start(workload))

    async def stop(self, replica: str, grace_s: float) -> None:
        await self.broken.do("StopIt", super().stop(replica, grace_s))

    async def forget(self, replica: str) -> None:
        await self.broken.do("ForgetIt", super().forget(replica))


class BrokenReplicas(FakeReplicas):
    """Replicas of that place."""

    def __init__(self, place: FakePlace, broken: Broken) -> None:
        super().__init__(place)
        self.broken = broken

    async def admit(self, address: Address, access: Access) -> None:
        await self.broken.do("AdmitIt", super().admit(address, access))

    async def tune(self, address: Address, knobs: Knobs) -> None:
        await self.broken.do("TuneIt", super().tune(address, knobs))

    async def refuse(self, address: Address, refusals: Refusals) -> None:
        await self.broken.do("RefuseIt", super().refuse(address, refusals))


class ControlPlane:
    """A control plane with one plan, and an edge that serves nothing."""

    def __init__(self, clock: FakeClock, answer: Callable[[str], NamedPlan | None] | None = None) -> None:
        self.clock = clock
        self.name, self.wanted = "first", RUNNING
        self.answer = answer
        self.asked = self.asked_for_calls = 0
        self.calls_wait = True

    async def plan(self, after: str, wait_s: float) -> NamedPlan | None:
        self.asked += 1
        if self.answer is not None:
            return self.answer(after)
        while after == self.name:
            await self.clock.sleep(1.0)
        return NamedPlan(name=self.name, plan=self.wanted)

    async def report(self, report: Report) -> None:
        return None

    async def artifact(self, digest: str) -> Path:
        raise AssertionError

    async def secrets(self, replica: str) -> dict[str, str]:
        return {}

    async def next_call(self, wait_s: float) -> AgentCall | None:
        self.asked_for_calls += 1
        if self.calls_wait:
            await self.clock.sleep(wait_s)
        return None

    async def apply(self, routes: Any, endpoints: Any) -> None:
        return None

    async def status(self) -> EdgeStatus:
        return EdgeStatus(running=True)

    async def in_flight(self) -> dict[Address, int]:
        return {}


async def pass_time(clock: FakeClock, seconds: float, step_s: float = 0.05) -> None:
    for _ in range(round(seconds / step_s)):
        await clock.advance(step_s)
        await turns(10)


class Running:
    """An agent at work."""

    def __init__(self, folder: Path, answer: Callable[[str], NamedPlan | None] | None = None) -> None:
        self.clock = FakeClock()
        self.place, self.broken = FakePlace(self.clock), Broken(self.clock)
        self.control = ControlPlane(self.clock, answer)
        control: Any = self.control
        driver, replicas = BrokenDriver(self.place, self.broken), BrokenReplicas(self.place, self.broken)
        self.agent = Agent("local", control, driver, control, self.clock, folder, "", replicas=replicas)

    async def __aenter__(self) -> Running:
        self._task = asyncio.create_task(self.agent.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert not self._task.done(), "the agent ended"
        self._task.cancel()
        await asyncio.wait([self._task])


KINDS = [kind.__name__ for kind in get_args(Action) if kind is not PublishIt]
"""What is published has its effect elsewhere: see `test_attempts`."""


def test_every_kind_of_action_is_tried_here() -> None:
    assert set(KINDS) == set(CALLED_FOR_BY)


@pytest.mark.parametrize("wrong", [fails, breaks, hangs, does_nothing], ids=lambda way: way.__name__)
@pytest.mark.parametrize("kind", KINDS)
async def test_an_action_that_does_not_help_is_repeated_ever_more_seldom(
    kind: str, wrong: Callable[[FakeClock], Coroutine[Any, Any, None]], tmp_path: Path
) -> None:
    async with Running(tmp_path) as running:
        if kind != "StartIt":
            await pass_time(running.clock, 3)
        running.broken.ways[kind] = wrong
        before = running.broken.count[kind]
        running.control.name, running.control.wanted = "second", CALLED_FOR_BY[kind]
        if kind == "RefuseIt":  # a replica that names refusals by itself
            running.place.replicas[SPEC.id].refusals = Refusals(version="another")
        await pass_time(running.clock, SECONDS)
        assert 1 < running.broken.count[kind] - before <= MOST
        running.broken.ways.clear()
        await pass_time(running.clock, 61)
        done = running.broken.count[kind]
        await pass_time(running.clock, 30)
        assert running.broken.count[kind] == done, "what had its effect is not repeated"


async def test_an_action_that_fails_keeps_no_other_from_being_done(tmp_path: Path) -> None:
    async with Running(tmp_path) as running:
        await pass_time(running.clock, 3)
        running.broken.ways["AdmitIt"] = fails
        both = CALLED_FOR_BY["TuneIt"].flat().model_copy(update={"access": {"default/shop": CLOSED}})
        running.control.name, running.control.wanted = "second", Plan.model_validate(both.model_dump())
        await pass_time(running.clock, 3)
        assert running.place.replicas[SPEC.id].knobs.max_batch == 2


ODD_SERVERS: dict[str, Callable[[str], NamedPlan | None]] = {
    "gives the same plan without a name": lambda _: NamedPlan(plan=RUNNING),
    "gives the same plan under the name that it was asked with": lambda after: NamedPlan(name=after, plan=RUNNING),
    "gives the same plan under one name": lambda _: NamedPlan(name="first", plan=RUNNING),
    "gives the same plan under ever new names": lambda after: NamedPlan(name=f"{after}x", plan=RUNNING),
    "says at once that nothing is new": lambda _: None,
}


@pytest.mark.parametrize("server", ODD_SERVERS)
async def test_a_server_that_answers_nothing_new_at_once_is_asked_ever_more_seldom(server: str, tmp_path: Path) -> None:
    async with Running(tmp_path, ODD_SERVERS[server]) as running:
        await pass_time(running.clock, SECONDS)
        assert 1 < running.control.asked <= 25  # 0.2 s, doubling to 5 s, less up to a fifth


async def test_a_server_that_says_at_once_that_it_has_no_calls_is_asked_ever_more_seldom(tmp_path: Path) -> None:
    async with Running(tmp_path) as running:
        running.control.calls_wait = False
        await pass_time(running.clock, SECONDS)
        assert 1 < running.control.asked_for_calls <= 25
