"""To zero and back on the real processes."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from tests.waiting import eventually

from kaon.clock import SystemClock
from kaon.store import open_store

from .world import World, world

pytestmark = [pytest.mark.timeout(600)]


class Sleeper:
    """A deployment that may be at zero."""

    def __init__(self, platform: World) -> None:
        self.platform = platform
        self.url = f"{platform.url}/sleeper"

    @property
    def folder(self) -> Path:
        """The deployment's own, which has its uid in its name."""
        (folder,) = (self.platform.home / "agent/volumes/default").glob("sleeper.*")
        return folder

    def to_zero(self) -> None:
        """Wait until no call has come for long enough, and no replica is left."""
        eventually(lambda: not self.platform.replicas("sleeper"), "it is at zero")

    def call(self, key: str = "", mark: str = "") -> httpx2.Response:
        headers = {"authorization": f"Bearer {key or self.platform.key}"}
        if mark:
            return httpx2.post(f"{self.url}/mark", json={"text": mark}, headers=headers, timeout=120, verify=False)
        return httpx2.get(self.url, headers=headers, timeout=120, verify=False)

    def held(self) -> int:
        """How many callers wait, as the agent last reported."""
        return sum(held.get("default/sleeper", 0) for held in self.reported())

    def reported(self) -> list[dict[str, int]]:
        async def read() -> list[dict[str, int]]:
            store = open_store(self.platform.settings.database, SystemClock())
            await store.open()
            try:
                clouds = await store.list_all("cloud")
                return [cloud.status.report.held for cloud in clouds if cloud.status.report]
            finally:
                await store.close()

        return asyncio.run(read())


@pytest.fixture(scope="module")
def asleep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sleeper]:
    """A sleeper on a platform of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with world(tmp_path_factory.mktemp("zero") / "home", port) as platform:
        platform.kaon("deploy", "sleeper.py:Sleeper", "--min", "0", "--max", "2", "--set", "scaling.keep_alive_s=1")
        status = platform.get("/workspaces/default/deployments/sleeper")["status"]
        assert status["rollout"]["stable"] == 1  # with one replica, before it may go to zero
        yield Sleeper(platform)


@pytest.fixture
def sleeper(asleep: Sleeper) -> Sleeper:
    """The sleeper, at zero."""
    for name in ("slow", "broken", "marks"):
        (asleep.folder / name).unlink(missing_ok=True)
    asleep.to_zero()
    return asleep


def test_a_stranger_wakes_nothing_and_fifty_who_may_call_are_answered_once(sleeper: Sleeper) -> None:
    assert "Idle" in sleeper.platform.kaon("ps").stdout
    assert "starts on a call" in sleeper.platform.kaon("describe", "sleeper").stdout
    assert sleeper.call(key="kaon_wrong").status_code == 401
    assert httpx2.get(f"{sleeper.url}/docs").status_code == 200
    called_at = time.time()
    eventually(lambda: sleeper.platform.get("/clouds")["items"][0]["seen_at"] > called_at, "the agent reports again")
    assert sleeper.reported() == [{}]
    assert sleeper.platform.get("/workspaces/default/deployments/sleeper")["status"]["scaling"]["wanted"] == 0
    assert sleeper.platform.replicas("sleeper") == []
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda n: sleeper.call(mark=f"m{n}" if n % 2 else ""), range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert sorted((sleeper.folder / "marks").read_text().split()) == sorted(f"m{n}" for n in range(1, 50, 2))
    eventually(lambda: sleeper.reported() == [{}], "nobody waits any more")


def test_a_start_that_fails_is_told_with_its_reason_and_without_the_log(sleeper: Sleeper) -> None:
    (sleeper.folder / "broken").touch()
    answer = sleeper.call()
    assert answer.status_code == 503
    assert answer.json()["code"] == "start-failed"
    assert "exit code 7" in answer.json()["detail"]
    assert "wheel" not in answer.text
    assert "kaon logs sleeper" in answer.json()["hint"]
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("role", ["agent", "server"])
def test_callers_that_wait_outlive_the_platforms_own_processes(sleeper: Sleeper, role: str) -> None:
    (sleeper.folder / "slow").write_text("1.5")
    with ThreadPoolExecutor(10) as pool:
        calls = [pool.submit(sleeper.call) for _ in range(10)]
        eventually(lambda: sleeper.held() > 0, "callers wait")
        sleeper.platform.kill(role)
        assert {call.result().status_code for call in calls} == {200}
    eventually(lambda: sleeper.reported() == [{}], "nobody waits any more")


def test_switched_off_it_refuses_at_once(sleeper: Sleeper) -> None:
    sleeper.platform.kaon("scale", "sleeper", "0", "-y")
    try:
        answer = sleeper.call()
        assert (answer.status_code, answer.json()["code"]) == (503, "no-ready-replica")
        assert "Off" in sleeper.platform.kaon("ps").stdout
    finally:
        sleeper.platform.kaon("scale", "sleeper", "--min", "0", "--max", "2")
