"""Releases under traffic on the real platform: canaries good and bad, shadows, specs that make no sense.

QUALITY.md R14 with traffic. CI tries the harms that show soon; KAON_CHAOS=1 or more the slow ones too, and more specs.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from tests.figures import Stopwatch, at_most
from tests.waiting import eventually

from .traffic import Account, traffic
from .world import World

CHAOS = int(os.environ.get("KAON_CHAOS", "0"))
pytestmark = [pytest.mark.timeout(600)]

SCORER = "/workspaces/default/deployments/scorer"
CANARY = ("--canary", "20,50", "--step", "3s", "--set", "rollout.canary.min_calls=20")
HARMS = ("fails", "is slow") + (("crashes", "is never ready", "hangs") if CHAOS else ())


@pytest.fixture
def scorer(platform: World) -> Iterator[tuple[World, Account]]:
    """Two replicas of the scorer serve, with traffic."""
    platform.kaon("deploy", "scorer.py:Scorer", "--replicas", "2")
    with traffic(f"{platform.url}/scorer/score", platform.bearer, rps=60) as account:
        eventually(lambda: len(account.ended) > 200, "there is traffic")
        yield platform, account


def status(world: World) -> dict[str, Any]:
    return dict(world.get(SCORER)["status"]["rollout"])


def test_a_good_canary_takes_over_and_a_bad_one_goes_back_and_neither_harms_who_it_does_not_serve(
    scorer: tuple[World, Account],
) -> None:
    world, account = scorer
    world.kaon("deploy", "scorer.py:Scorer", "--env", "VERSION=good", *CANARY)
    assert status(world)["stable"] == 2
    assert account.outcomes == {"200": len(account.ended)}
    for number, harm in enumerate(HARMS, start=3):
        before, watch = len(account.ended), Stopwatch()
        deadline = ("--set", "rollout.progress_deadline_s=10")
        done = world.kaon("deploy", "scorer.py:Scorer", "--env", f"HARM={harm}", *CANARY, *deadline, ok=False)
        assert done.returncode == 1, done.stdout + done.stderr
        at_most("seconds until a canary that " + harm + " is taken back", watch.seconds, 60)
        assert "revision 2 still serves" in done.stderr
        after = status(world)
        assert (after["state"], after["stable"]) == ("Stopped", 2)
        during = account.ended[before:]
        failed = Counter(outcome for _, _, outcome in during if outcome != "200")
        # It was found out in the first step, of a fifth of the calls.
        assert failed.total() <= (0.3 if harm in ("fails", "hangs") else 0.02) * len(during), (harm, failed)
        outcome = next(r for r in world.get(f"{SCORER}/revisions")["items"] if r["number"] == number)["outcome"]
        assert outcome == ("rolled back" if harm in ("fails", "is slow", "hangs") else "failed")
    eventually(lambda: {r["revision"] for r in world.ready("scorer")} == {2}, "only the good one runs")
    answer = world.call("/scorer/score").json()
    assert answer["version"] == "good"


def test_a_shadow_serves_nobody_and_what_makes_no_sense_changes_nothing(scorer: tuple[World, Account]) -> None:
    world, account = scorer
    world.kaon("deploy", "scorer.py:Scorer", "--env", "HARM=differs", "--env", "VERSION=2", "--shadow", "50")
    report = eventually(lambda: (r := world.get(f"{SCORER}/shadow"))["differing"] >= 10 and r, "answers differ")
    assert report["matched"] == 0
    assert set(report["paths"]) == {"score version", "score scores[]"}
    assert "scores[0]: 1.0" in world.kaon("rollout", "diff", "scorer").stdout
    named = world.bearer | {"x-kaon-revision": "2"}
    assert world.call("/scorer/score").json()["version"] == "1"
    assert world_call(world, named).json()["version"] == "2"
    assert world_call(world, named | {"x-kaon-revision": "9"}).status_code == 404

    dice, serving = random.Random(14), {r["id"] for r in world.ready("scorer")}
    with world.api() as api:
        spec = api.get(SCORER).json()["spec"]
        for _ in range(1000 if CHAOS else 60):
            answer = api.put(SCORER, json=senseless(dice, spec))
            assert 400 <= answer.status_code < 500, answer.text
        assert api.get(SCORER).json()["spec"] == spec

    victim = dice.choice([r for r in world.ready("scorer") if r["revision"] == 1])
    os.kill(victim["pid"], signal.SIGKILL)  # one failed replica never ends the service
    eventually(lambda: world.call("/scorer/score").json()["version"] == "1", "the other replica answers")
    eventually(lambda: {r["id"] for r in world.ready("scorer")} == serving, "it is back")
    world.kaon("rollout", "shadow", "scorer", "--off")
    eventually(lambda: {r["revision"] for r in world.replicas("scorer")} == {1}, "the shadow is gone")
    failed = Counter(outcome for _, _, outcome in account.ended if outcome != "200")
    assert set(failed) <= {"502"}, failed
    assert failed.total() <= 5, failed  # what the killed replica was at: a call that it had is not sent again


def world_call(world: World, headers: dict[str, str]) -> Any:
    import httpx2

    return httpx2.get(f"{world.url}/scorer/score", headers=headers, timeout=60, verify=False)


def senseless(dice: random.Random, spec: dict[str, Any]) -> Any:
    """A spec with one thing in it that cannot be."""
    bad: list[tuple[str, Any]] = [
        ("template", {"artifact": f"sha256:{'0' * 64}"}),
        ("template", {"artifact": "latest"}),
        ("template", {**spec["template"], "env": {"KAON_KEY": "x"}}),
        ("template", {**spec["template"], "secrets": {"T": f"no-{dice.random()}"}}),
        ("template", {**spec["template"], "env": {f"{dice.random()}": "x"}}),
        ("scaling", {"min": dice.randint(2, 9), "max": 1}),
        ("scaling", {"min": -dice.randint(1, 9)}),
        ("rollout", {"max_surge": 0}),
        ("rollout", {"canary": {"steps": [dice.randint(50, 99), dice.randint(1, 49)]}}),
        ("rollout", {"canary": {"steps": []}}),
        ("rollout", {"canary": {"errors": dice.choice([0, 1, -1, 7])}}),
        ("rollout", {"canary": {"step_s": dice.choice([0, -1, 1e12])}}),
        ("shadow", {"revision": dice.choice([0, -1, 99, 10**12])}),
        ("shadow", {"revision": 1, "percent": dice.choice([0, 101, -5])}),
        ("shadow", {"percent": 5}),
        ("objective", {"latency_s": dice.choice([0, -1])}),
        ("drain_s", dice.choice([-1, 1e9, "soon"])),
        (f"field{dice.randint(0, 9)}", dice.random()),
    ]
    field, value = dice.choice(bad)
    return {**spec, field: value}
