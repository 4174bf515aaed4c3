"""Faults while something is being tried, on the real platform: back at what is safe, nothing lost, and no residue.

All trials begin at once, each on a deployment of its own with traffic of its own; each test then does harm to one, or
sees what came of the harm that one did by itself meanwhile. So their order matters: first those who need a trial that
has just begun. Of a trial's own times none is shortened: looks are 10 s apart. Only the minute that the tuner must have
seen before it begins anything is put into its memory, and one of the deployments has a twin that lies.

CI sees the most telling faults. With KAON_CHAOS there are more of them, those that take their time.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from tests.figures import at_most
from tests.waiting import eventually

from kaon.clock import SystemClock
from kaon.laws.tune import record, values_in_force
from kaon.store import open_store
from kaon.types.knobs import Knobs
from kaon.types.traffic import Sample

from . import lying
from .traffic import Account, traffic
from .world import World, world

CHAOS = int(os.environ.get("KAON_CHAOS", "0"))
pytestmark = [pytest.mark.timeout(1500)]

SAFE, TRIED = Knobs(max_batch=1).named().version, Knobs(max_batch=8).named().version
LOOK_S = 10.0
"""Between two looks of the tuner."""
HARMS = {"fails": "fails", "slow": "is slow", "ends": "ends"} | ({"memory": "takes memory"} if CHAOS else {})
ENDED = {
    "undone": ("tune", "undone", "--undo"),
    "rollout": ("deploy", "batcher.py:Batcher", "--name", "rollout", "--env", "PACE_S=0.002", "--replicas", "2"),
} | ({"off": ("tune", "off", "--off")} if CHAOS else {})
"""Who ends a trial, or changes the deployment under it."""
CALM = (*ENDED, "zero", "killed", "control")
PROMOTED = "promoted"
"""This one tries nothing: what does harm was found to be better, and is in force."""
RPS = dict.fromkeys(HARMS, 15) | {"slow": 25, "lied": 25}
"""Calls a second, where eight do not tell enough between two looks: a p99, or that there are enough to try anything."""
ROWS = {"rows": [1, 2, 3, 4]}


@dataclass
class Trials:
    """A platform on which trials are under way: of two replicas each, the first tries batches of 8 rows, not of 1."""

    world: World
    accounts: dict[str, Account]
    begun_at: float = field(default_factory=time.time)

    def path(self, name: str) -> str:
        return f"/workspaces/default/deployments/{name}"

    def status(self, name: str) -> dict[str, Any]:
        return dict(self.world.get(self.path(name))["status"])

    def steer(self, name: str, **wish: Any) -> None:
        with self.world.api() as api:
            answer = api.post(f"{self.path(name)}/tuning", json=wish)
            assert answer.status_code == 200, answer.text

    def minute(self, name: str) -> dict[str, Any]:
        """The last minute, as far as the control plane knows of it."""
        return dict(self.world.get(f"{self.path(name)}/stats")["windows"][1])

    def ready(self, name: str) -> list[dict[str, Any]]:
        return sorted(self.world.ready(name), key=lambda replica: str(replica["name"]))

    def knobs(self, replicas: list[dict[str, Any]]) -> list[str]:
        return [self.world.knobs(replica["id"]) for replica in replicas]

    def safe(self, name: str) -> None:
        """Wait until all replicas go by what is safe: those that do not yet do harm by the first call."""
        eventually(lambda: {*self.knobs(self.ready(name))} == {SAFE}, f"{name} goes by what is safe")

    def begun(self, name: str) -> list[dict[str, Any]]:
        """The two replicas, once the first one tries and the other one does not."""
        return list(eventually(lambda: self._begun(name), f"{name} is tried on its first replica"))

    def _begun(self, name: str) -> list[dict[str, Any]]:
        replicas = self.ready(name)
        return replicas if self.knobs(replicas) == [TRIED, SAFE] and self.status(name)["tuning"]["trial"] else []

    def back(self, name: str) -> None:
        """Wait until nothing of a trial is left, and what was in force is."""
        eventually(lambda: self._back(name), f"{name} is back at what is safe")

    def _back(self, name: str) -> bool:
        tuning = self.status(name)["tuning"]
        assert tuning["values"] == {"max_batch": 1}
        return tuning["trial"] is None and tuning["asked"] is None and {*self.knobs(self.ready(name))} <= {SAFE}

    def ends(self, name: str) -> list[str]:
        """How trials ended, by the journal; each can be taken again from its figures."""
        return [entry["reason"] for entry in self._ended(name)]

    def _ended(self, name: str) -> list[dict[str, Any]]:
        entries = self.world.get(f"{self.path(name)}/decisions?concern=tuning&limit=100")["items"]
        found = [entry for entry in entries if entry["figures"].get("kind") == "trial"]
        assert all(record.replays(entry["figures"]) for entry in found)
        return found

    def others_answered(self, name: str) -> None:
        """While calls failed in a trial, those who tried nothing answered on, and it was soon over.

        What a twin promises again is tried again, a look after it was taken back: up to then, what failed was the doing
        of the trial before.
        """
        account, epoch_s = self.accounts[name], time.time() - time.monotonic()
        again = [entry["at"] - epoch_s + LOOK_S for entry in self._ended(name)[:-1]]
        for begins, until in pairwise((0.0, *again, math.inf)):
            failed = [begin for begin, _, _ in account.failed if begins <= begin < until]
            first, last = min(failed, default=0.0), max(failed, default=0.0)
            at_most("seconds in which calls failed", last - first, 3 * LOOK_S)
            assert len(failed) <= 0.6 * len([begin for begin, _, _ in account.ended if first <= begin <= last]) + 5

    def unharmed(self, name: str) -> None:
        account = self.accounts[name]
        assert account.outcomes == {"200": len(account.ended)}, (name, account.outcomes)


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    """Trials that are about to begin: of all deployments by somebody's wish, but of `lied` by what its twin says."""
    harms = HARMS | dict.fromkeys(CALM, "") | {"lied": "fails", PROMOTED: "fails"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with world(tmp_path_factory.mktemp("tuning") / "home", port) as it, ExitStack() as stack:
        made = Trials(it, {})
        told = {name: ("--env", f"HARM={harm}", "--replicas", "2") for name, harm in harms.items()}
        told["grows"] = ("--min", "2", "--max", "5", "--env", "PACE_S=0.03")
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda name: it.kaon("deploy", "batcher.py:Batcher", "--name", name, *told[name]), told))
        made.steer("lied", mode="off")
        for name in told:
            made.steer(name, set={"max_batch": 1})
        for name in told:
            made.safe(name)
            calls = traffic(f"{it.url}/{name}/work", it.bearer, RPS.get(name, 8), body=ROWS)
            made.accounts[name] = stack.enter_context(calls)
        it.leave_alone()
        asyncio.run(_known(it, list(told)))
        lying.start(it.settings)
        eventually(lambda: made.status("lied"), "the control plane is back")
        for name in told.keys() - {"lied", PROMOTED}:
            made.steer(name, attempt={"max_batch": 8})
        eventually(lambda: (made.minute("lied")["arrivals"] or 0) > 220, "there are enough calls to try anything")
        made.steer("lied", mode="auto")
        yield made


async def _known(it: World, names: list[str]) -> None:
    """Put a minute of each into the store, two rollbacks of one that fails, and a promotion of batches of 8 rows, as
    if they had been.

    More calls came in that minute than will come: nothing begins while the load climbs. As many came in those that are
    there: before there was traffic nobody called, and with a quiet minute among the last ten nothing begins either.
    """
    clock = SystemClock()
    store = open_store(it.settings.database, clock)
    await store.open()
    try:
        calls = 4000
        told = {"arrivals": calls, "codes": {"2xx": calls}, "latency": {12: calls}, "busy_s": 3.0, "ready": 2}
        place = {"workspace": "default", "revision": 1, "span_s": 60.0}
        for name in names:
            ends = {minute.at_s for minute in await store.traffic("default", name, 0.0)} | {clock.now()}
            minutes = [{"deployment": name, "at_s": end_s} | place | told for end_s in ends]
            await store.keep_traffic([Sample.model_validate(minute) for minute in minutes])
        for name, change in {
            "fails": lambda was: was.model_copy(update={"rollbacks": (clock.now() - 60, clock.now() - 30)}),
            PROMOTED: lambda was: values_in_force.promoted(was, {"max_batch": 8}, clock.now()),
        }.items():
            found = await store.get("deployment", "default", name)
            tuning = change(found.status.tuning)
            await store.update_status(found, found.status.model_copy(update={"tuning": tuning}))
    finally:
        await store.close()


@pytest.mark.parametrize("name", ENDED)
def test_who_ends_a_trial_or_changes_the_deployment_leaves_no_residue(trials: Trials, name: str) -> None:
    trials.begun(name)
    trials.world.kaon(*ENDED[name])
    trials.back(name)
    (end,) = trials.ends(name)
    assert end.startswith("trial stopped")
    assert trials.status(name)["tuning"]["rollbacks"] == []
    assert len(trials.ready(name)) == 2
    trials.unharmed(name)


def test_a_deployment_sent_to_zero_wakes_with_what_is_safe(trials: Trials) -> None:
    trials.begun("zero")
    trials.world.kaon("scale", "zero", "0", "-y", "--no-wait")
    eventually(lambda: not trials.world.replicas("zero"), "it is at zero")
    trials.world.kaon("scale", "zero", "1")
    trials.back("zero")
    assert trials.ends("zero")[0].startswith("trial stopped")


def test_traffic_that_triples_during_a_trial_gets_its_replicas(trials: Trials) -> None:
    eventually(lambda: trials.status("grows")["tuning"]["trial"], "it is tried")
    assert trials.status("grows")["scaling"]["wanted"] < 5
    with traffic(f"{trials.world.url}/grows/work", trials.world.bearer, 24, body=ROWS):
        eventually(lambda: trials.status("grows")["scaling"]["wanted"] == 5, "all that it may have is wanted")
        eventually(lambda: len(trials.ready("grows")) == 5, "and serves")
    assert trials.status("grows")["tuning"]["values"] == {"max_batch": 1}


def test_an_agent_that_is_killed_finds_its_trial_again_and_a_replica_that_is_killed_ends_it(trials: Trials) -> None:
    trials.begun("killed")
    trials.world.kill("agent")
    killed_at = time.time()
    eventually(lambda: trials.minute("killed")["at_s"] > killed_at + 2, "the next agent counts")
    tried, _ = trials.begun("killed")
    trials.unharmed("killed")
    os.kill(int(tried["pid"]), signal.SIGKILL)
    trials.back("killed")
    assert "replicas ended" in trials.ends("killed")[-1]
    assert trials.accounts["killed"].share_ok > 0.9


@pytest.mark.parametrize("name", HARMS)
def test_a_bad_canary_is_taken_back_and_harms_nobody_else(trials: Trials, name: str) -> None:
    eventually(lambda: trials.ends(name), "it is taken back")
    trials.back(name)
    (end,) = trials.ends(name)
    assert end.startswith("rolled back")
    trials.others_answered(name)
    _, other = eventually(lambda: both if len(both := trials.ready(name)) == 2 else None, "both serve")
    assert other["restarts"] == 0


def test_the_third_rollback_within_an_hour_switches_it_off_for_six(trials: Trials) -> None:
    off = eventually(lambda: trials.status("fails")["tuning"]["off_until"], "it is off")
    assert trials.begun_at + 6 * 3600 < off <= time.time() + 6 * 3600
    assert trials.status("fails")["tuning"]["trial"] is None


def test_a_twin_that_lies_gets_no_further_than_the_canary(trials: Trials) -> None:
    eventually(lambda: trials.ends("lied"), "what the twin promised was tried and taken back")
    assert all(end.startswith("rolled back") for end in trials.ends("lied"))
    trials.world.kaon("tune", "lied", "--off")
    trials.back("lied")
    trials.others_answered("lied")


def test_what_was_promoted_and_spoils_two_minutes_goes_back_for_all(trials: Trials) -> None:
    eventually(lambda: trials.status(PROMOTED)["tuning"]["probation"] is None, "it is taken back", 600)
    trials.back(PROMOTED)
    entries = trials.world.get(f"{trials.path(PROMOTED)}/decisions?concern=tuning&limit=100")["items"]
    (entry,) = [entry for entry in entries if entry["figures"].get("kind") == "return"]
    assert "on probation" in entry["reason"]
    assert record.replays(entry["figures"])
    last = max(begin for begin, _, _ in trials.accounts[PROMOTED].failed)
    decided = entry["at"] - time.time() + time.monotonic()
    at_most("seconds in which calls fail after it was decided", last - decided, LOOK_S)
    account, until = trials.accounts[PROMOTED], time.monotonic()
    eventually(lambda: account.ended and account.ended[-1][0] > max(last, until), "calls go on")
    assert account.ended[-1][2] == "200"


@pytest.mark.skipif(not CHAOS, reason="it takes its time")
def test_a_store_that_is_away_for_a_while_loses_neither_calls_nor_the_trial(trials: Trials) -> None:
    replicas = trials.begun("control")
    held = sqlite3.connect(trials.world.settings.database.removeprefix("sqlite:///"), isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    for number in range(3):  # each is refused when the store's patience is over: for longer than a look of the tuner
        with trials.world.api(60.0) as api:
            refused = api.post("/workspaces/default/keys", json={"name": f"away-{number}", "role": "caller"})
            assert refused.status_code == 503, refused.text
    held.execute("ROLLBACK")
    held.close()
    assert trials.begun("control") == replicas, "the same processes, one of which tries on"
    assert trials.ends("control") == []
    trials.unharmed("control")


def test_a_control_plane_that_is_killed_takes_its_trials_with_it_and_nothing_else(trials: Trials) -> None:
    replicas = trials.begun("control")
    with trials.world.without_server():
        eventually(lambda: trials.knobs(replicas) == [SAFE, SAFE], "the agent ends the trial by itself")
    trials.back("control")
    (end,) = trials.ends("control")
    assert "the control plane was restarted" in end
    told = trials.world.get(f"{trials.path('control')}/decisions?concern=tuning&limit=100")["items"]
    assert [entry["figures"]["kind"] for entry in told].count("change") <= 1  # what was safe, before
    trials.unharmed("control")
