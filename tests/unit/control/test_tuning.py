"""The live tuner."""

from __future__ import annotations

from kaon.clock import FakeClock
from kaon.control.scaling import Scaling
from kaon.control.tuning import Tuning
from kaon.store.memory import MemoryStore
from kaon.store.opinions import Opinions
from kaon.store.traffic import TrafficRing
from kaon.types.deployment import DeploymentSpec, Template

DIGEST = f"sha256:{'0' * 64}"


async def test_whoever_asks_is_told_how_the_tuner_stands_while_there_is_a_deployment() -> None:
    clock = FakeClock()
    store, ring, opinions = MemoryStore(clock), TrafficRing(), Opinions()
    tuning = Tuning(store, clock, ring, opinions, Scaling(store, clock, ring, opinions))
    shop = await store.create("deployment", "default", "shop", DeploymentSpec(template=Template(artifact=DIGEST)))
    assert opinions.tuning("default", "shop") is None
    await tuning.reconcile(("default", "shop"))
    state = opinions.tuning("default", "shop")
    assert state is not None
    assert (state.deployment, state.mode) == ("shop", "recommend")
    await store.delete(shop)
    await tuning.reconcile(("default", "shop"))
    assert opinions.tuning("default", "shop") is None
