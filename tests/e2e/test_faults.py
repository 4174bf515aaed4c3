"""Parts of the platform are killed while clients call: QUALITY.md R1 to R4 and R13 on the real processes.

CI runs few kills; `make chaos` sets KAON_CHAOS to a factor for many.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from tests.figures import Stopwatch, at_least, at_most, median
from tests.waiting import eventually

from .traffic import MOST_AT_ONCE, traffic
from .world import World

CHAOS = int(os.environ.get("KAON_CHAOS", "1"))
pytestmark = [pytest.mark.timeout(600 * CHAOS)]


class Writer(threading.Thread):
    """Creates one key after another through the API, and keeps the names of those that were acknowledged."""

    def __init__(self, world: World) -> None:
        super().__init__(daemon=True)
        self.world, self.stopped = world, threading.Event()
        self.acknowledged: list[str] = []
        self.tried = 0

    def run(self) -> None:
        with self.world.api(timeout_s=5) as api:
            while not self.stopped.is_set():
                self.tried += 1
                try:
                    answer = api.post("/workspaces/default/keys", json={"name": f"k{self.tried}", "role": "viewer"})
                except httpx2.HTTPError:
                    self.stopped.wait(0.01)
                    continue
                if answer.status_code == 201:
                    self.acknowledged.append(f"k{self.tried}")
                else:
                    self.stopped.wait(0.01)


def test_r1_killing_the_control_plane_loses_no_acknowledged_write(probe: World) -> None:
    kills = 5 if CHAOS == 1 else 100
    writer = Writer(probe)
    back: list[float] = []
    with traffic(f"{probe.url}/probe", probe.bearer, rps=20) as account:
        writer.start()
        for _ in range(kills):
            before = len(writer.acknowledged)
            eventually(lambda count=before: len(writer.acknowledged) >= count + 5, "writes go on")
            killed = probe.kill("server")
            watch = Stopwatch()
            eventually(lambda dead=killed: probe.pids("server") not in ([], [dead]) and probe.get("/clouds"), "back")
            back.append(watch.seconds)
        writer.stopped.set()
        writer.join(30)
    there = [key["name"] for key in probe.get("/workspaces/default/keys")["items"]]
    assert not set(writer.acknowledged) - set(there)
    assert not [name for name, count in Counter(there).items() if count > 1]
    assert account.outcomes == {"200": len(account.ended)}
    assert len(account.ended) > 50
    at_most("seconds until the control plane is back", median(back), 3)


def test_r2_killing_envoy_fails_only_what_is_in_flight(probe: World) -> None:
    kills: list[float] = []
    back: list[float] = []
    with traffic(f"{probe.url}/probe", probe.bearer, rps=50) as account:
        for _ in range(3 if CHAOS == 1 else 50):
            eventually(lambda: probe.call("/probe").status_code == 200, "the edge answers")
            kills.append(time.monotonic())
            killed = probe.kill("edge")
            eventually(
                lambda dead=killed: probe.pids("edge") not in ([], [dead]) and probe.call("/probe").status_code == 200,
                "the edge is back",
            )
            back.append(time.monotonic() - kills[-1])
    outages = [(killed - 0.05, killed + back_s) for killed, back_s in zip(kills, back, strict=True)]
    assert not [call for call in account.failed if not overlaps(call[0], call[1], outages)]
    at_most("seconds until the edge is back", median(back), 1.0)


def test_r3_killing_replicas_is_hardly_noticed_and_nothing_runs_twice(probe: World) -> None:
    lasting: list[float] = []
    outages: list[tuple[float, float]] = []
    with traffic(f"{probe.url}/probe", probe.bearer, rps=50, marks_url=f"{probe.url}/probe/mark") as account:
        for _ in range(3 if CHAOS == 1 else 24):
            ready = eventually(lambda: three_alive(probe), "three replicas are ready")
            victim = random.choice(ready)
            watch = Stopwatch()
            killed_at = time.monotonic()
            os.kill(victim["pid"], signal.SIGKILL)
            gone = str(victim["pid"])
            eventually(lambda pid=gone: pid not in answering(probe, 12), "the killed replica gets no more calls")
            lasting.append(watch.seconds)
            outages.append((killed_at, time.monotonic()))
        eventually(lambda: len(probe.ready("probe")) == 3, "three replicas are ready again")
    (marks,) = (probe.home / "agent/volumes/default").glob("probe.*/marks")
    written = marks.read_text().split()
    outside = [(begin, end, why) for begin, end, why in account.failed if not overlaps(begin, end, outages)]
    assert not outside, "only what was in flight when a replica was killed may fail"
    assert len(account.failed) <= MOST_AT_ONCE * len(outages), account.outcomes
    at_least("share of calls that were answered", account.share_ok, 0.999)
    at_most("seconds until the dead one is out of rotation", median(lasting), 1.0)
    assert not [text for text, times in Counter(written).items() if times > 1]
    assert len(account.ended) > 100


def three_alive(world: World) -> list[dict[str, Any]]:
    """The ready replicas, if these are three whose processes exist: what is reported may be a moment old."""
    ready = world.ready("probe")
    return ready if len(ready) == 3 and all(pid_runs(one["pid"]) for one in ready) else []


def overlaps(begin: float, end: float, outages: list[tuple[float, float]]) -> bool:
    """Whether a call was under way during one of the outages."""
    return any(begin <= over and end >= since for since, over in outages)


def answering(world: World, calls: int, timeout_s: float = 5.0) -> set[str]:
    """The processes that answer now; raises when a call fails, or takes longer than a try of `eventually` may."""
    answers = [world.call("/probe", timeout_s=timeout_s) for _ in range(calls)]
    assert all(a.status_code == 200 for a in answers)
    return {a.json()["pid"] for a in answers}


def moments(world: World, wanted: int) -> list[Callable[[], object]]:
    """When to kill during a change of the number of replicas: at once, and after each step of it."""
    path = "/workspaces/default/deployments/probe"
    return [
        lambda: True,
        lambda: (d := world.get(path))["status"]["rollout"]["observed_generation"] == d["generation"],
        lambda: len(world.replicas("probe")) == wanted,
        lambda: len(world.ready("probe")) == wanted,
    ]


@pytest.mark.parametrize("role", ["server", "agent", "edge", "replica"])
def test_r4_any_process_may_be_killed_at_any_moment(probe: World, role: str) -> None:
    choose = random.Random(role)
    changes = itertools.cycle([2, 3])
    for _ in range(2 * CHAOS):
        probe.kaon("scale", "probe", str(wanted := next(changes)), "--no-wait")
        eventually(choose.choice(moments(probe, wanted)), "the moment of the kill")
        victim = choose.choice(probe.replicas("probe"))["id"] if role == "replica" else role
        if probe.pids(victim):
            probe.kill(victim)
        eventually(lambda n=wanted: probe.serves("probe", n), f"whole again after the {role}'s end")
        assert [len(probe.pids(part)) for part in ("server", "agent", "edge")] == [1, 1, 1]


def test_r13_rollouts_and_rollbacks_under_load_lose_nothing(probe: World) -> None:
    with traffic(f"{probe.url}/probe", probe.bearer, rps=30, streams_url=f"{probe.url}/probe/ticks") as account:
        for number in range(1 if CHAOS == 1 else 20):
            probe.kaon("deploy", "probe.py:Probe", "--env", f"VERSION={number + 2}")
            assert {r["revision"] for r in probe.ready("probe")} == {max(r["revision"] for r in probe.ready("probe"))}
            probe.kaon("rollout", "undo", "probe", "-y")
    assert account.outcomes == {"200": len(account.ended)}
    assert account.cut_streams == 0
    assert account.whole_streams > 0


@pytest.mark.parametrize("failure", ["crash", "raise"])
def test_a_revision_that_does_not_come_up_leaves_the_old_one_serving(probe: World, failure: str) -> None:
    before = {r["id"] for r in probe.ready("probe")}
    with traffic(f"{probe.url}/probe", probe.bearer, rps=20) as account:
        done = probe.kaon("deploy", "probe.py:Probe", "--env", f"FAIL={failure}", ok=False)
        assert done.returncode == 1
        assert "Crashed" in done.stderr or "ConfigError" in done.stderr
    assert account.outcomes == {"200": len(account.ended)}
    assert {r["id"] for r in probe.ready("probe")} == before
    status = probe.get("/workspaces/default/deployments/probe")["status"]["rollout"]
    assert status["state"] == "Stopped"
    assert "exit" in status["reason"] or "broken" in status["reason"]


def test_a_replica_that_is_frozen_leaves_the_rotation_and_is_replaced(probe: World) -> None:
    victim = probe.ready("probe")[0]
    os.kill(victim["pid"], signal.SIGSTOP)
    eventually(lambda: str(victim["pid"]) not in answering(probe, 12), "the frozen replica gets no more calls")
    eventually(lambda: len(probe.ready("probe")) == 3 and not pid_runs(victim["pid"]), "it is replaced")
    after = answering(probe, 12, timeout_s=60)
    assert after
    assert str(victim["pid"]) not in after


def test_after_kills_of_all_parts_down_leaves_nothing(probe: World) -> None:
    for role in ("server", "edge", "agent", probe.ready("probe")[0]["id"]):
        probe.kill(role)
    probe.down()
    eventually(lambda: not probe.all_processes(), "nothing is left running")
    assert not list(probe.settings.run_dir.rglob("*.sock"))


def pid_runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
