"""Jobs that go wrong, on real processes: each has a clear end, and nothing is left running or half published.

KAON_CHAOS multiplies the kills.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.waiting import until

from kaon import process_locks, processes
from kaon.testing.places import pack_files
from kaon.types.job import JobCall, PlannedAttempt
from kaon.types.launch import EXIT_CONFIG

from .jobs import JobFiles, agent_over, attempt_of

ROOT = Path(__file__).parents[3]
KILLS = 20 * int(os.environ.get("KAON_CHAOS") or 1)

SHOP = b'''
import os, signal, subprocess, sys, time
import kaon

def mark():
    """A process of this name is one that the job started."""
    return [sys.executable, "-c", "import time; time.sleep(600)", os.environ["JOB"]]

@kaon.job
def good(model: kaon.Output, epochs: int = 1) -> int:
    kaon.progress(0.5, "half", loss=0.5)
    (model.path / "a").mkdir()
    (model.path / "a" / "weights").write_text("12")
    return epochs

@kaon.job
def writes_nothing(model: kaon.Output) -> None: ...

@kaon.job
def deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)

@kaon.job
def leaves_a_child() -> int:
    subprocess.Popen(mark(), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return 1

@kaon.job
def forks() -> None:
    for _ in range(3):
        os.fork()
    subprocess.Popen(mark())
    time.sleep(600)

@kaon.job
def prints(mebibytes: int) -> None:
    for _ in range(mebibytes):
        sys.stdout.write(("x" * 1023 + "\\n") * 1024)

@kaon.job
def disk_full(model: kaon.Output) -> None:
    with open("/dev/full", "w") as file:
        file.write("x")

@kaon.job
def too_much(model: kaon.Output) -> None:
    (model.path / "weights").write_bytes(b"x" * 5000)

@kaon.job
def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)

@kaon.job
def links(model: kaon.Output) -> None:
    (model.path / "secrets").symlink_to("/etc/passwd")
'''


def marked(job: str) -> list[int]:
    """The processes that a job has started."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            if Path(f"/proc/{name}/cmdline").read_bytes().endswith(f"\0{job}\0".encode()):
                found.append(int(name))
    return found


@pytest.fixture
def run_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kaon-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def files(tmp_path: Path, run_dir: Path) -> AsyncIterator[JobFiles]:
    """A control plane, and an agent with the real runtime."""
    files = JobFiles(tmp_path)
    agent, driver = agent_over(files, run_dir)
    running = asyncio.create_task(agent.run())
    yield files
    running.cancel()
    await asyncio.wait([running])
    await driver.close()
    for lock in run_dir.glob("replicas/*/lock"):
        await processes.stop(lock, 0)


OUTPUT = ("model",)
STOPPED = (-signal.SIGTERM, 128 + signal.SIGTERM, -signal.SIGKILL)
"""Exit codes of a job that was stopped, which on a busy machine has not begun to handle signals."""
FAULTS: dict[str, tuple[JobCall, int | None, str]] = {
    "writes-nothing": (JobCall(entry="shop:writes_nothing", outputs=OUTPUT), 0, "It wrote nothing to output 'model'."),
    "deaf": (JobCall(entry="shop:deaf", timeout_s=2), None, "It took longer than its time limit of 2 s."),
    "forks": (JobCall(entry="shop:forks", timeout_s=2), None, "It took longer than its time limit of 2 s."),
    "disk-full": (JobCall(entry="shop:disk_full", outputs=OUTPUT), 1, "No space left on device"),
    "too-much": (
        JobCall(entry="shop:too_much", outputs=OUTPUT, output_bytes_max=4999),
        0,
        "Its outputs have 5,000 bytes; at most 4,999 are allowed.",
    ),
    "killed": (JobCall(entry="shop:killed"), -9, "It was killed by SIGKILL."),
    "links": (JobCall(entry="shop:links", outputs=OUTPUT), 0, "Output 'model' cannot be a version: secrets is a link."),
    "wrong-type": (
        JobCall(entry="shop:good", outputs=OUTPUT, parameters={"epochs": "many"}),
        EXIT_CONFIG,
        "The parameters of `good` are wrong: epochs should be a valid integer",
    ),
    "no-program": (JobCall(command=("no-such-program",)), EXIT_CONFIG, "cannot be started: No such file or directory"),
}


async def test_each_fault_has_a_clear_end_and_leaves_nothing_running(files: JobFiles, run_dir: Path) -> None:
    artifact, _ = pack_files(files.home, "shop:Shop", {"shop.py": SHOP})
    good = attempt_of("good", 1, artifact, JobCall(entry="shop:good", outputs=OUTPUT, parameters={"epochs": 7}))
    child = attempt_of("leaves-a-child", 1, artifact, JobCall(entry="shop:leaves_a_child"))
    prints = attempt_of("prints", 1, artifact, JobCall(entry="shop:prints", parameters={"mebibytes": 100}))
    faulty = {name: attempt_of(name, 1, artifact, call) for name, (call, _, _) in FAULTS.items()}
    attempts = {"good": good, "leaves-a-child": child, "prints": prints, **faulty}
    files.plan_attempts(*attempts.values())

    def all_ended() -> bool:
        return all(files.end(attempt.replica.id) for attempt in attempts.values())

    await until(all_ended, "all attempts have ended", within_s=120)
    ends = {name: end for name, attempt in attempts.items() if (end := files.end(attempt.replica.id))}
    for name, (_, code, reason) in FAULTS.items():
        assert ends[name].exit_code in (STOPPED if code is None else (code,)), (name, ends[name])
        assert reason in ends[name].reason, (name, ends[name].reason)
        assert ends[name].outputs == {}
    assert {name for name, end in ends.items() if end.timed_out} == {"deaf", "forks"}
    assert (ends["good"].reason, ends["good"].result) == ("", 7)
    assert [file.path for file in ends["good"].outputs["model"].files] == ["a/weights"]
    assert (files.home / "files" / ends["good"].outputs["model"].files[0].digest).read_text() == "12"
    assert (ends["leaves-a-child"].reason, ends["prints"].reason) == ("", "")
    logs = list((files.home / "agent/replicas" / prints.replica.id).glob("replica.log*"))
    assert sum(log.stat().st_size for log in logs) < 45 * 2**20
    assert {name: pids for name in attempts if (pids := marked(name))} == {}
    files.plan_attempts()
    await until(lambda: not any((files.home / "agent/jobs").glob("*")), "their folders are removed", within_s=60)
    assert not [lock for lock in run_dir.glob("replicas/*/lock") if process_locks.is_held(lock)]


async def test_a_job_that_is_cancelled_while_it_ignores_signals_leaves_nothing(files: JobFiles) -> None:
    artifact, _ = pack_files(files.home, "shop:Shop", {"shop.py": SHOP})
    attempt = attempt_of("cancelled-forks", 1, artifact, JobCall(entry="shop:forks"))
    files.plan_attempts(attempt)
    await until(lambda: marked("cancelled-forks"), "it has started a child", within_s=60)
    files.plan_attempts(attempt.model_copy(update={"cancelled": "Cancelled"}))
    end = await until(lambda: files.end(attempt.replica.id), "its end", within_s=60)
    assert (end.reason, end.timed_out) == ("It was cancelled.", False)
    assert marked("cancelled-forks") == []


# Kills at random moments

JOB = """
import fcntl, json, os, pathlib, random, sys, time
launch = json.loads(pathlib.Path(sys.argv[sys.argv.index("--launch") + 1]).read_text())
job, attempt, folder = launch["env"]["JOB"], launch["env"]["ATTEMPT"], pathlib.Path(launch["job_dir"])
home = pathlib.Path(__file__).parent
with open(home / "starts", "a") as starts:
    starts.write(f"{job} {attempt}\\n")
alone = open(home / f"alone-{job}", "w")
try:
    fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    (home / "twice-at-once").write_text(f"{job} {attempt}")
time.sleep(random.uniform(0.05, 0.6))
(folder / "outputs/model").mkdir(parents=True)
(folder / "outputs/model/who").write_text(f"{job} {attempt}")
(folder / "result.json").write_text(attempt)
"""


class Planner:
    """The part of a control plane that decides on attempts: a job is repeated until it succeeds, unless it is once."""

    def __init__(self, files: JobFiles, artifact: str, jobs: int) -> None:
        self._files = files
        call = JobCall(command=("none",), outputs=("model",), timeout_s=60)
        self._calls = {f"job-{n}{'-once' if n % 4 == 0 else ''}": call for n in range(jobs)}
        self._artifact = artifact
        self.numbers = dict.fromkeys(self._calls, 1)
        self.succeeded: dict[str, int] = {}
        self.failed: dict[str, str] = {}

    @property
    def open(self) -> list[str]:
        return [job for job in self._calls if job not in self.succeeded and job not in self.failed]

    def attempt(self, job: str) -> PlannedAttempt:
        return attempt_of(job, self.numbers[job], self._artifact, self._calls[job])

    def plan(self) -> None:
        """Take over the ends of attempts, and plan the current ones of four jobs."""
        for job in self.open:
            end = self._files.end(self.attempt(job).replica.id)
            if end is None:
                continue
            if not end.reason:
                self.succeeded[job] = self.numbers[job]
                assert end.result == self.numbers[job]
                assert [file.path for file in end.outputs["model"].files] == ["who"]
            elif job.endswith("-once"):
                self.failed[job] = end.reason
            else:
                self.numbers[job] += 1
        self._files.plan_attempts(*(self.attempt(job) for job in self.open[:4]))


async def test_kills_at_random_moments_lose_no_job_and_run_none_twice(tmp_path: Path, run_dir: Path) -> None:
    (tmp_path / "job.py").write_text(JOB)
    artifact, _ = pack_files(tmp_path, "echo:Echo", {"echo.py": b"class Echo:\n    pass\n"})
    files = JobFiles(tmp_path)
    planner = Planner(files, artifact, 2 * KILLS)
    chance = random.Random(7)
    planner.plan()
    agent = await _agent(tmp_path, run_dir)
    try:
        for kill in range(KILLS):
            looks = iter(range(chance.randrange(1, 12)))

            def is_last(looks: Iterator[int] = looks) -> bool:
                planner.plan()
                return next(looks, None) is None

            await until(is_last, "a random number of looks")
            if kill % 2:
                _kill_one_job(run_dir, chance)
            else:
                agent.kill()
                await agent.wait()
                agent = await _agent(tmp_path, run_dir)

        def all_done() -> bool:
            assert agent.returncode is None, "the agent ended"
            planner.plan()
            return not planner.open

        await until(all_done, "all jobs are done", within_s=240)
    finally:
        agent.kill()
        await agent.wait()
        for lock in run_dir.glob("replicas/*/lock"):
            await processes.stop(lock, 0)
    starts = (tmp_path / "starts").read_text().splitlines()
    assert sorted(set(starts)) == sorted(starts), "no attempt begins twice"
    once = [line.split()[0] for line in starts if "-once" in line]
    assert len(once) == len(set(once)), "a job with once=True begins once"
    assert not (tmp_path / "twice-at-once").exists()
    assert planner.succeeded.keys() | planner.failed.keys() == planner.numbers.keys()
    assert all(job.endswith("-once") for job in planner.failed)


async def _agent(home: Path, run_dir: Path) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "tests.integration.agent.jobs", str(home), str(run_dir))
    return await asyncio.create_subprocess_exec(*command, cwd=ROOT)


def _kill_one_job(run_dir: Path, chance: random.Random) -> None:
    locks = sorted(run_dir.glob("replicas/*/lock"))
    pids = [pid for lock in locks if (pid := process_locks.leader(lock)) is not None]
    if pids:
        with suppress(ProcessLookupError):
            os.kill(chance.choice(pids), signal.SIGKILL)
