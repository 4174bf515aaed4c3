"""The whole loop without a stand-in: the real tuner, scaling and agent's steps over replicas of the event simulator,
and the real twin. Nobody asks for anything; what is set badly is found, tried and kept.
"""

from __future__ import annotations

import json
from itertools import groupby

import pytest

from kaon.laws.tune import record
from kaon.sim import engine
from kaon.sim.engine import Truth
from kaon.sim.platform import SimulatedPlatform
from kaon.sim.search import ThreadedTwin
from kaon.sim.served import Served
from kaon.types.deployment import DeploymentSpec, Scaling, Template
from kaon.types.journal import JournalEntry
from kaon.types.objective import Objective
from kaon.types.service import Batch, EndpointSpec, ServiceSpec
from kaon.types.tuning import TuningMode, TuningSpec, TuningState, TuningStatus

DIGEST = f"sha256:{'a' * 64}"
OBJECTIVE = Objective(latency_s=0.2, deadline_s=1.5)
TRUTH = Truth(a=0.005, b=0.05, max_batch=32, noise=0.2)
"""One at a time, a replica serves 18 calls a second; in batches of two, 33."""
RPS = 15.0


async def begun() -> SimulatedPlatform:
    """A deployment in mode `auto` whose batches somebody set to one row."""
    from kaon.sim.traffic import arrivals

    endpoint = EndpointSpec(name="call", method="POST", path="/", batch=Batch(max_size=32))
    service = ServiceSpec(name="shop", entry="m:C", endpoints=(endpoint,), objective=OBJECTIVE)
    platform = SimulatedPlatform(1, twin=ThreadedTwin())
    await platform.begin()
    spec = DeploymentSpec(
        template=Template(artifact=DIGEST), scaling=Scaling(min=1, max=4), tuning=TuningSpec(mode=TuningMode.AUTO)
    )
    await platform.deploy("shop", spec, service)
    platform.loads["shop"].served = Served(TRUTH, OBJECTIVE, arrivals([RPS] * 5400, 3), 1)
    found = await platform.store.get("deployment", "default", "shop")
    badly = found.status.model_copy(update={"tuning": TuningStatus(values={"max_batch": 1})})
    await platform.store.update_status(found, badly)
    return platform


async def journal(platform: SimulatedPlatform) -> list[JournalEntry]:
    return await platform.store.journal("default", "shop", "tuning")


def state(platform: SimulatedPlatform) -> TuningState:
    found = platform.live_status.tuning("default", "shop")
    assert found is not None
    return found


@pytest.mark.skipif(not engine.available(), reason="an hour of calls in plain Python takes minutes")
async def test_a_badly_set_deployment_is_improved_from_start_to_promotion() -> None:
    platform = await begun()
    words, turns = [], []
    for _ in range(60 * 6):
        await platform.live(10)
        words.append(state(platform).state)
        status = (await platform.status("shop")).tuning
        turns.append(status.trial is not None and status.trial.trying)
        if status.values != {"max_batch": 1}:
            break
    assert (await platform.status("shop")).tuning.values["max_batch"] > 1
    assert [word for word, _ in groupby(words)][:2] == ["learning", "trying"]
    assert True in turns
    epoch, trial = await journal(platform)
    assert [epoch.figures["kind"], trial.figures["kind"]] == ["epoch", "trial"]
    for entry in (epoch, trial):
        text = json.dumps(entry.figures)
        assert record.replays(json.loads(text))
        assert len(text) < 15_000
    predicted, realised = trial.figures["predicted"], trial.figures["realised"]
    assert realised == pytest.approx(predicted, rel=0.5)  # the twin was right
    await platform.live(240)
    losses = [point.loss.total for point in state(platform).losses if point.loss]
    assert sum(losses[-3:]) / 3 < 0.85 * sum(losses[5:25]) / 20
