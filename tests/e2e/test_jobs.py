"""Jobs on a whole platform: from a pushed dataset to a model, submitted by people and by services."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import eventually

from .world import World

JOBS = "/workspaces/default/jobs"


def artifact(platform: World, folder: Path) -> str:
    """Build and upload the artifact with the jobs; its digest."""
    platform.kaon("build", "rows.py:clean", "--out", str(folder))
    (file,) = folder.glob("*.tar.gz")
    with platform.api() as api:
        answer = api.post("/workspaces/default/artifacts", content=file.read_bytes())
        assert answer.is_success, answer.text
        return str(answer.json()["name"])


def submit(platform: World, body: dict[str, Any]) -> str:
    with platform.api() as api:
        answer = api.post(JOBS, json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["name"])


def ended(platform: World, job: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        status: dict[str, Any] = platform.get(f"{JOBS}/{job}")["status"]
        return status if status["state"] in ("Succeeded", "Failed", "Cancelled", "TimedOut") else None

    status: dict[str, Any] = eventually(look, f"job {job} has ended")
    return status


@pytest.fixture
def digest(platform: World, tmp_path: Path) -> str:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows.txt").write_text("1\n2\nthree\n4\n")
    platform.kaon("dataset", "push", "raw", str(tmp_path / "data"))
    return artifact(platform, tmp_path / "out")


def test_outputs_of_a_job_are_the_inputs_of_the_next(platform: World, digest: str, tmp_path: Path) -> None:
    first = submit(
        platform,
        {"artifact": digest, "function": "clean", "inputs": {"raw": "raw@latest"}, "outputs": {"rows": "rows"}},
    )
    status = ended(platform, first)
    assert (status["state"], status["reason"]) == ("Succeeded", "")
    assert platform.get(f"{JOBS}/{first}/result")["result"] == 3
    second = submit(
        platform,
        {"artifact": digest, "function": "train", "inputs": {"rows": "rows"}, "outputs": {"model": "rows-model"}},
    )
    assert ended(platform, second)["state"] == "Succeeded"
    assert platform.get(f"{JOBS}/{second}/result")["result"] == {"total": 7}
    metrics = platform.get(f"{JOBS}/{second}/metrics")
    assert [point["values"]["loss"] for point in metrics["points"]] == [1.0, 0.5]
    platform.kaon("dataset", "pull", "rows-model", str(tmp_path / "model"))
    assert json.loads((tmp_path / "model/model.json").read_text())["total"] == 7
    failing = submit(
        platform,
        {
            "artifact": digest,
            "function": "clean",
            "inputs": {"raw": "raw"},
            "outputs": {"rows": "rows"},
            "parameters": {"strict": True},
        },
    )
    status = ended(platform, failing)
    assert (status["state"], status["outputs"]) == ("Failed", {})
    assert "ValueError: 1 rows are broken" in status["reason"]


def test_a_service_submits_a_job_and_its_client_follows_it(platform: World, digest: str) -> None:
    first = submit(
        platform, {"artifact": digest, "function": "clean", "inputs": {"raw": "raw"}, "outputs": {"rows": "rows"}}
    )
    assert ended(platform, first)["state"] == "Succeeded"
    platform.kaon("deploy", "rows.py:Rows")
    accepted = platform.post("/rows/submit", {"epochs": 2})
    assert accepted.status_code == 202, accepted.text
    name = accepted.json()["operation"]

    def succeeded() -> bool:
        answer = platform.call(f"/rows/operations/{name}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["state"] in ("Queued", "Preparing", "Running", "Succeeded"), answer.text
        return bool(answer.json()["state"] == "Succeeded")

    eventually(succeeded, "the operation is done")


def test_a_kill_of_server_and_agent_loses_no_job_and_runs_none_twice(
    platform: World, digest: str, tmp_path: Path
) -> None:
    jobs = [
        submit(
            platform,
            {
                "artifact": digest,
                "function": "slow",
                "parameters": {"seconds": 0.3 * n, "seen": str(tmp_path / f"seen-{n}")},
                "once": n % 2 == 0,
                "retries": 0,
            },
        )
        for n in range(8)
    ]
    for role in ("agent", "server", "agent", "server"):
        killed = platform.kill(role)
        eventually(lambda k=killed: k not in platform.pids("agent") + platform.pids("server"), "it is gone")
        eventually(lambda: all(platform.pids(one) for one in ("agent", "server", "edge")), "all run again")
        eventually(lambda: platform.get("/whoami"), "the API answers")
    for job in jobs:
        assert ended(platform, job)["state"] == "Succeeded", platform.get(f"{JOBS}/{job}")
    starts = [len((tmp_path / f"seen-{n}").read_text().splitlines()) for n in range(8)]
    assert starts == [1] * 8
