"""`kaon.submit`: on a platform, and within `kaon.local(...)`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import kaon
from kaon.errors import ConfigError, DeadlineExceeded, InvalidInput, JobFailed


class Metrics(BaseModel):
    ndcg: float


@kaon.job
def train(purchases: kaon.Dataset, model: kaon.Output, epochs: int = 1) -> Metrics:
    kaon.progress(0.5, "half")
    if epochs == 13:
        raise ValueError("an unlucky number")
    (model.path / "weights").write_text((purchases.path / "rows").read_text() * epochs)
    return Metrics(ndcg=epochs / 10)


@kaon.job
async def wait_for(event: str) -> str:
    assert EVENTS[event].wait(30)
    return event


EVENTS: dict[str, threading.Event] = {}


# In this process


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows").write_text("12")
    return {"purchases": kaon.Dataset.local(tmp_path / "data"), "model": kaon.Output.local(tmp_path / "model")}


def test_a_job_runs_here_within_local(folders: dict[str, Any], tmp_path: Path) -> None:
    with kaon.local():
        handle = kaon.submit(train, **folders, epochs=3)
        assert handle.result(30) == {"ndcg": 0.3}
        assert handle.status().progress.text == "half"
        assert [progress.fraction for progress in handle.progress()] == [0.5]
    assert (tmp_path / "model/weights").read_text() == "121212"


def test_its_failure_is_raised_to_who_waits(folders: dict[str, Any]) -> None:
    with kaon.local():
        handle = kaon.submit(train, **folders, epochs=13)
        with pytest.raises(JobFailed, match="ended as Failed: ValueError: an unlucky number"):
            handle.result(30)


async def test_it_is_followed_by_coroutines_too() -> None:
    EVENTS["go"] = threading.Event()
    with kaon.local():
        handle = kaon.submit(wait_for, event="go")
        with pytest.raises(DeadlineExceeded, match="has not ended"):
            await handle.aio.result(0.2)
        EVENTS["go"].set()
        assert await handle.aio.result(30) == "go"
        assert [one async for one in handle.aio.progress()]


def test_wrong_arguments_are_refused_before_anything_is_sent(folders: dict[str, Any]) -> None:
    with kaon.local():
        for wrong in ({"epochs": "many"}, {"epoch": 1}):
            with pytest.raises(InvalidInput):
                kaon.submit(train, **folders, **wrong)
        with pytest.raises(InvalidInput, match="needs purchases"):
            kaon.submit(train, model=folders["model"])
        with pytest.raises(ConfigError, match="is the name of a dataset"):
            kaon.submit(train, purchases="purchases", model=folders["model"])
    with pytest.raises(InvalidInput, match="is a folder of this machine"):
        kaon.submit(train, **folders | {"model": "shop-model"})
    with pytest.raises(ConfigError, match="is not a job"):
        kaon.submit(print)


# On a platform


class FakePlatform:
    """The routes of jobs, with one job whose states are given."""

    def __init__(self, states: list[dict[str, Any]]) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self.states = states
        platform = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                assert self.headers["authorization"] == "Bearer kaon_own"
                platform.requests.append((self.command, self.path, json.loads(body) if body else None))
                status, members = platform.members(self.command, self.path)
                content = json.dumps(members).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = answer

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def members(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        match method, path.removeprefix("/api/v1"):
            case "GET", "/whoami":
                return 200, {"workspace": "shop"}
            case "POST", "/workspaces/shop/jobs":
                return 201, {"name": "train-abc", "jobs": ["train-abc"]}
            case "GET", "/workspaces/shop/jobs/train-abc":
                status = self.states.pop(0) if len(self.states) > 1 else self.states[0]
                return 200, {"name": "train-abc", "status": status}
            case "GET", "/workspaces/shop/jobs/train-abc/result":
                return 200, {"result": {"ndcg": 0.5}, "outputs": {}}
            case "POST", "/workspaces/shop/jobs/train-abc/cancel":
                return 200, {"name": "train-abc", "jobs": ["train-abc"]}
        return 404, {"code": "not-found", "detail": f"There is no {path}."}


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePlatform]:
    running = {"state": "Running", "progress": {"fraction": 0.5, "text": "epoch 1"}}
    platform = FakePlatform([{"state": "Queued"}, running, {**running, "state": "Succeeded"}])
    monkeypatch.setenv("KAON_EDGE_URL", f"http://127.0.0.1:{platform.server.server_port}")
    monkeypatch.setenv("KAON_KEY", "kaon_own")
    yield platform
    platform.server.shutdown()
    platform.server.server_close()


def test_a_service_submits_a_job_of_its_own_artifact_and_waits_for_it(platform: FakePlatform) -> None:
    handle = kaon.submit(train, purchases="purchases@latest", model="shop-model", epochs=8, priority=5)
    assert handle.name == "train-abc"
    assert platform.requests[-1][2] == {
        "function": "train",
        "parameters": {"epochs": 8},
        "inputs": {"purchases": "purchases@latest"},
        "outputs": {"model": "shop-model"},
        "priority": 5,
    }
    assert handle.result(30) == {"ndcg": 0.5}
    handle.cancel()
    assert platform.requests[-1][:2] == ("POST", "/api/v1/workspaces/shop/jobs/train-abc/cancel")


def test_progress_is_followed_to_the_end_by_name(platform: FakePlatform) -> None:
    handle = kaon.submitted("train-abc")
    assert [(one.fraction, one.text) for one in handle.progress()] == [(None, ""), (0.5, "epoch 1")]


def test_a_mounted_dataset_is_passed_on_by_its_version(platform: FakePlatform) -> None:
    kaon.submit(train, purchases=kaon.Dataset(Path("/data"), "purchases", 3), model="shop-model")
    assert platform.requests[-1][2]["inputs"] == {"purchases": "purchases@3"}


def test_a_job_that_failed_or_does_not_exist_is_an_error(platform: FakePlatform) -> None:
    platform.states[:] = [{"state": "TimedOut", "reason": "It took longer than its time limit of 5 s."}]
    with pytest.raises(JobFailed, match=r"ended as TimedOut: It took longer"):
        kaon.submitted("train-abc").result()
    with pytest.raises(kaon.NotFound):
        kaon.submitted("other").status()


def test_a_name_that_no_dataset_can_have_is_refused_here(platform: FakePlatform) -> None:
    with pytest.raises(InvalidInput, match="cannot be submitted so"):
        kaon.submit(train, purchases="../purchases", model="shop-model")
