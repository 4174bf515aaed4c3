"""One attempt of a job as a process: `python -m kaon.runtime` of the kind `job`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kaon.runtime.job import ProgressFile
from kaon.sdk.progress import ProgressReport
from kaon.types.dataset import DatasetVersionRef
from kaon.types.job import JobCall
from kaon.types.launch import EXIT_CONFIG, Launch
from kaon.types.replica import WorkloadKind

SOURCE = """
import asyncio, os, sys, time
import kaon

@kaon.job
def train(
    purchases: kaon.Dataset, model: kaon.Output, before: kaon.Dataset | None = None, epochs: int = 1
) -> dict[str, str]:
    kaon.progress(0.5, "half", loss=0.25)
    (model.path / "weights").write_text((purchases.path / "rows").read_text() * epochs)
    return {"data": f"{purchases.name}@{purchases.version}", "output": model.name, "before": str(before)}

@kaon.job
async def later(rows: int) -> int:
    await asyncio.sleep(0)
    return rows * 2

@kaon.job
def fails(rows: int = 0) -> int:
    return parts(rows)

def parts(rows):
    return 1 // rows

@kaon.job
def large(size: int) -> str:
    return "x" * size

@kaon.job
def wrong() -> int:
    return "many"

@kaon.job
def leaves(code: int) -> None:
    sys.exit(code or None)

@kaon.job
def waits() -> None:
    try:
        print("waiting", flush=True)
        time.sleep(600)
    finally:
        print("cleaned up", flush=True)

@kaon.job
async def awaits() -> None:
    try:
        print("waiting", flush=True)
        await asyncio.sleep(600)
    finally:
        print("cleaned up", flush=True)

@kaon.service
class Shop:
    def __init__(self, k: int) -> None:
        self.k = k

    @kaon.job
    def count(self, times: int) -> int:
        return self.k * times
"""


class JobProcess:
    """The folders of an attempt, and its process."""

    def __init__(self, folder: Path, source: str = SOURCE) -> None:
        self.code = folder / "code"
        self.job = folder / "job"
        self.data = folder / "data"
        for made in (self.code, self.job, self.data):
            made.mkdir()
        (self.data / "rows").write_text("12")
        (self.code / "shop.py").write_text(source)

    def begin(self, function: str, env: dict[str, str] | None = None, **call: Any) -> subprocess.Popen[str]:
        inputs = {name: str(self.data) for name in call.get("inputs", {})}
        launch = Launch(
            id="0123456789ab",
            name="train-1",
            workspace="default",
            deployment="train",
            revision=1,
            kind=WorkloadKind.JOB,
            entry="shop:Shop",
            env=env or {},
            code_dir=str(self.code),
            service_address="unix:/none",
            control_address="unix:/none",
            job_dir=str(self.job),
            inputs=inputs,
            call=JobCall(entry=f"shop:{function}" if function else "", **call),
        )
        file = self.job.parent / "launch.json"
        file.write_text(launch.model_dump_json())
        command = [sys.executable, "-m", "kaon.runtime", "--launch", str(file)]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": os.defpath, **(env or {})},
        )

    def run(self, function: str, env: dict[str, str] | None = None, **call: Any) -> tuple[int, str]:
        process = self.begin(function, env, **call)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output

    @property
    def result(self) -> Any:
        return json.loads((self.job / "result.json").read_text())


@pytest.fixture
def attempt(tmp_path: Path) -> JobProcess:
    return JobProcess(tmp_path)


PURCHASES = {"purchases": DatasetVersionRef(dataset="purchases", number=3, manifest="sha256:" + "0" * 64)}


def test_a_job_gets_its_inputs_and_outputs_and_its_result_is_kept(attempt: JobProcess) -> None:
    code, output = attempt.run("train", inputs=PURCHASES, outputs=("model",), parameters={"epochs": 2})
    assert (code, output) == (0, "")
    assert attempt.result == {"data": "purchases@3", "output": "model", "before": "None"}
    assert (attempt.job / "outputs/model/weights").read_text() == "1212"
    (line,) = (attempt.job / "progress.jsonl").read_text().splitlines()
    assert json.loads(line).items() >= {"step": 1, "fraction": 0.5, "text": "half", "values": {"loss": 0.25}}.items()


def test_a_coroutine_and_a_method_are_jobs_too(attempt: JobProcess) -> None:
    assert attempt.run("later", parameters={"rows": 4}) == (0, "")
    assert attempt.result == 8
    assert attempt.run("Shop.count", {"K": "5"}, parameters={"times": 2}) == (0, "")
    assert attempt.result == 10


def test_the_traceback_of_a_failure_has_the_frames_of_the_job_alone(attempt: JobProcess) -> None:
    code, output = attempt.run("fails")
    assert code == 1
    lines = output.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert [line.rpartition("in ")[2] for line in lines if line.startswith("  File ")] == ["fails", "parts"]
    assert lines[-1].startswith("ZeroDivisionError: ")
    assert not (attempt.job / "result.json").exists()


@pytest.mark.parametrize(
    ("function", "call", "text"),
    [
        ("train", {"outputs": ("model",)}, "Input `purchases` of `train` is missing"),
        ("train", {"inputs": PURCHASES}, "Output `model` of `train` is missing"),
        (
            "later",
            {"parameters": {"rows": "many"}},
            "The parameters of `later` are wrong: rows should be a valid integer",
        ),
        ("later", {"parameters": {"row": 1}}, "rows is required; row is not a parameter."),
        ("other", {}, "There is no function `other`"),
        ("parts", {}, "`parts` is not a job"),
        ("Shop.count", {"parameters": {"times": 1}}, "K (int) is missing"),
    ],
)
def test_what_cannot_run_as_configured_has_an_exit_code_of_its_own(
    attempt: JobProcess, function: str, call: dict[str, Any], text: str
) -> None:
    code, output = attempt.run(function, **call)
    assert code == EXIT_CONFIG
    assert output.splitlines()[-1].startswith("ConfigError: ")
    assert text in output


def test_a_module_that_cannot_be_imported_shows_where(tmp_path: Path) -> None:
    code, output = JobProcess(tmp_path, "import kaon\nraise RuntimeError('no data')\n").run("train")
    assert code == EXIT_CONFIG
    assert "shop.py" in output
    assert output.splitlines()[-1] == "ConfigError: shop:train cannot be imported: RuntimeError: no data"


def test_a_result_that_is_too_large_or_of_another_type_fails_the_job(attempt: JobProcess) -> None:
    code, output = attempt.run("large", parameters={"size": 2**20})
    assert code == 1
    assert "at most 1,048,576 are kept. Write large results to a kaon.Output." in output
    code, output = attempt.run("wrong")
    assert code == 1
    assert "The answer of `wrong` does not match its hint" in output
    assert not (attempt.job / "result.json").exists()


def test_a_job_may_choose_its_exit_code(attempt: JobProcess) -> None:
    assert attempt.run("leaves", parameters={"code": 0}) == (0, "")
    assert attempt.run("leaves", parameters={"code": 7}) == (7, "")
    assert not (attempt.job / "result.json").exists()


@pytest.mark.parametrize("function", ["waits", "awaits"])
def test_a_job_that_is_stopped_cleans_up(attempt: JobProcess, function: str) -> None:
    process = attempt.begin(function)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert output.splitlines() == ["cleaned up", "The job was stopped."]


def test_a_command_gets_everything_by_its_environment(attempt: JobProcess) -> None:
    script = "import os, json; names = sorted(n for n in os.environ if n.startswith('KAON_')); "
    script += "json.dump({n: os.environ[n] for n in names}, open(os.environ['KAON_RESULT'], 'w'))"
    command = ("python", "-c", script)
    call = {"inputs": PURCHASES, "outputs": ("model",), "parameters": {"epochs": 8, "mode": "fast", "lr": [0.1]}}
    assert attempt.run("", command=command, **call) == (0, "")
    assert attempt.result == {
        "KAON_INPUT_PURCHASES": str(attempt.data),
        "KAON_OUTPUT_MODEL": str(attempt.job / "outputs/model"),
        "KAON_PARAM_EPOCHS": "8",
        "KAON_PARAM_LR": "[0.1]",
        "KAON_PARAM_MODE": "fast",
        "KAON_PROGRESS": str(attempt.job / "progress.jsonl"),
        "KAON_RESULT": str(attempt.job / "result.json"),
    }


def test_a_command_that_does_not_exist_is_a_configuration_error(attempt: JobProcess) -> None:
    code, output = attempt.run("", command=("no-such-program",))
    assert code == EXIT_CONFIG
    assert output == "ConfigError: The program 'no-such-program' cannot be started: No such file or directory.\n"


def test_progress_is_bounded_on_disk(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path / "progress.jsonl")
    for step in range(1, 30_001):
        file.write(ProgressReport(step, 1.0, 0.5, "x" * 400))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 9 * 2**20
    newest = (tmp_path / "progress.jsonl").read_bytes().splitlines()[-1]
    assert json.loads(newest)["step"] == 30_000


def test_progress_on_a_full_disk_fails_nothing() -> None:
    ProgressFile(Path("/dev/full")).write(ProgressReport(1, 1.0))
