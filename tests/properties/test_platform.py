"""The real controllers and the agent's real steps in simulated time, whatever callers, failures and people do."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.figures import examples

from kaon.drivers.fake import Behaviour
from kaon.sim.platform import SimulatedPlatform
from kaon.types.deployment import DeploymentSpec, Rollout, RolloutState, Scaling, Template

SOUND, BROKEN, NEVER = (f"sha256:{digit * 64}" for digit in "abc")
BEHAVIOURS = {
    SOUND: Behaviour(ready_after_s=5.0),
    BROKEN: Behaviour(ready_after_s=None, ends_after_s=1.0),
    NEVER: Behaviour(ready_after_s=None),
}


def spec(artifact: str = SOUND, low: int = 1, high: int = 10, number: int = 0) -> DeploymentSpec:
    return DeploymentSpec(
        template=Template(artifact=artifact, env={"NUMBER": str(number)}),
        scaling=Scaling(min=low, max=high),
        rollout=Rollout(progress_deadline_s=30),
        drain_s=5,
    )


async def started(low: int = 1, high: int = 10, seed: int = 0) -> SimulatedPlatform:
    platform = SimulatedPlatform(seed, behaviours=dict(BEHAVIOURS))
    await platform.begin()
    await platform.deploy("shop", spec(low=low, high=high))
    await platform.live(30)
    return platform


async def test_replicas_follow_the_load_up_and_down_and_to_zero() -> None:
    platform = await started(low=0, high=20)
    platform.loads["shop"].rps = 50
    await platform.live(300)
    assert 5 <= platform.ready("shop") <= 15
    platform.loads["shop"].rps = 0
    await platform.live(3600)
    assert platform.running("shop") == 0
    assert platform.loads["shop"].in_flight == 0


async def test_new_versions_that_fail_never_end_the_healthy_one_under_load() -> None:
    platform = await started(low=2)
    platform.loads["shop"].rps = 30
    await platform.live(120)
    for number, artifact in enumerate((BROKEN, NEVER), start=1):
        await platform.deploy("shop", spec(artifact, 2, number=number))
        before = platform.loads["shop"].missed
        for _ in range(120):
            await platform.live(1)
            assert platform.ready("shop") >= 2
        assert platform.loads["shop"].missed == before
        status = await platform.status("shop")
        assert (status.rollout.state, status.rollout.stable) == (RolloutState.STOPPED, 1)


async def test_a_replica_that_dies_again_and_again_leaves_the_service_up() -> None:
    platform = await started(low=3)
    platform.loads["shop"].rps = 10
    for _ in range(30):
        platform.kill("shop")
        await platform.live(10)
        assert platform.ready("shop") >= 1
    await platform.live(60)
    assert platform.ready("shop") >= 3


async def test_both_sides_started_anew_take_nothing_away() -> None:
    platform = await started(low=2)
    platform.loads["shop"].rps = 30
    await platform.live(120)
    up, began = platform.ready("shop"), platform.place.pids
    platform.restart_control()
    platform.restart_agent()
    for _ in range(20):
        await platform.live(1)
        assert platform.running("shop") >= up
    assert platform.place.pids == began


actions = st.one_of(
    st.tuples(st.just("load"), st.sampled_from([0.0, 0.3, 5.0, 25.0, 80.0])),
    st.tuples(st.just("kill"), st.none()),
    st.tuples(st.just("deploy"), st.sampled_from([SOUND, BROKEN, NEVER])),
    st.tuples(st.just("bounds"), st.sampled_from([(0, 5), (1, 1), (1, 4), (2, 9), (3, 3)])),
    st.tuples(st.just("restart control"), st.none()),
    st.tuples(st.just("restart agent"), st.none()),
    st.tuples(st.just("live"), st.integers(1, 60)),
)


class Story:
    """A platform to which things happen, and what must hold after every second of it."""

    def __init__(self, platform: SimulatedPlatform) -> None:
        self.platform, self.number = platform, 0
        self.wish = spec()
        self.decided: list[tuple[object, ...]] = []

    async def tell(self, what: str, value: Any) -> None:
        platform = self.platform
        killed = what == "kill"
        match what:
            case "load":
                platform.loads["shop"].rps = value
            case "kill":
                platform.kill("shop")
            case "deploy":
                self.number += 1
                scaling = self.wish.scaling
                self.wish = spec(value, scaling.min, scaling.max, self.number)
                await platform.deploy("shop", self.wish)
            case "bounds":
                scaling = Scaling(min=value[0], max=value[1])
                self.wish = self.wish.model_copy(update={"scaling": scaling})
                await platform.deploy("shop", self.wish)
            case "restart control":
                platform.restart_control()
            case "restart agent":
                platform.restart_agent()
        for _ in range(value if what == "live" else 3):
            before = platform.ready("shop")
            await platform.live(1)
            await self.check(before, killed=killed, agent_new=what == "restart agent")

    async def check(self, before: int, *, killed: bool, agent_new: bool) -> None:
        platform, scaling = self.platform, self.wish.scaling
        status = await platform.status("shop")
        wanted = status.scaling.wanted
        assert wanted is None or wanted >= 0
        assigned = sum(a.replicas for a in status.rollout.assignments)
        limit = max(scaling.max, 1) + self.wish.rollout.max_surge
        assert assigned <= max(limit, before + self.wish.rollout.max_surge)
        if not killed and not agent_new:
            # What was ready and is still to be had is not taken below the least that must serve.
            assert platform.ready("shop") >= min(scaling.min, before)
        load = platform.loads["shop"]
        assert 0 <= load.in_flight == load.waiting
        self.decided.append((wanted, status.rollout.state, assigned, platform.ready("shop")))

    async def rest(self) -> None:
        """Quiet, and a sound revision: everything comes to rest."""
        platform = self.platform
        self.number += 1
        self.wish = spec(SOUND, 0, 5, self.number)
        await platform.deploy("shop", self.wish)
        platform.loads["shop"].rps = 0
        for _ in range(60):
            await platform.live(120)
            if platform.running("shop") == 0:
                break
        assert platform.running("shop") == 0
        assert platform.loads["shop"].in_flight == 0


async def history_of(seed: int, story: list[tuple[str, Any]], *, to_rest: bool) -> list[tuple[object, ...]]:
    teller = Story(await started(seed=seed))
    for what, value in story:
        await teller.tell(what, value)
    if to_rest:
        await teller.rest()
    return teller.decided


@settings(max_examples=examples(6), deadline=None)
@given(st.integers(0, 1000), st.lists(actions, max_size=12))
def test_bounds_and_floor_hold_whatever_happens_and_quiet_ends_all(seed: int, story: list[tuple[str, Any]]) -> None:
    asyncio.run(history_of(seed, story, to_rest=True))


@settings(max_examples=examples(5), deadline=None)
@given(st.integers(0, 1000), st.lists(actions, max_size=8))
def test_the_same_story_is_decided_the_same_way(seed: int, story: list[tuple[str, Any]]) -> None:
    first, again = (asyncio.run(history_of(seed, story, to_rest=False)) for _ in range(2))
    assert first == again
