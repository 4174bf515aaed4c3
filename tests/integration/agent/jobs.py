"""A control plane for attempts of jobs that is files in a folder, and agents over it that a test may kill:

python -m tests.integration.agent.jobs HOME RUN_DIR
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from kaon.agent.agent import Agent
from kaon.clock import SystemClock
from kaon.drivers.process import ProcessDriver
from kaon.drivers.process.driver import RUNTIME
from kaon.errors import NotFound
from kaon.types.job import AttemptEnd, AttemptNews, JobCall, PlannedAttempt
from kaon.types.plan import Plan
from kaon.types.replica import ReplicaSpec, Restart, WorkloadKind, replica_id

from .world import Files, put


class JobFiles(Files):
    """The control plane's side of attempts: as the API's, it takes nothing of an attempt that no plan has."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        for folder in ("ends", "files", "news"):
            (home / folder).mkdir(exist_ok=True)

    # what tests say and see

    def plan_attempts(self, *attempts: PlannedAttempt) -> None:
        self.want(Plan(cloud="local", attempts=attempts))

    def end(self, attempt: str) -> AttemptEnd | None:
        file = self.home / "ends" / attempt
        return AttemptEnd.model_validate_json(file.read_bytes()) if file.exists() else None

    # control plane

    def _check(self, attempt: str) -> None:
        self._reach()
        plan = Plan.model_validate_json((self.home / "wanted.json").read_bytes())
        if attempt not in {planned.replica.id for planned in plan.attempts}:
            raise NotFound("The cloud's current plan has no such attempt.")

    async def attempt_secrets(self, attempt: str) -> dict[str, str]:
        self._check(attempt)
        if self.end(attempt):
            raise NotFound("It has ended.")
        return {"KAON_KEY": "kaon_job_key"}

    async def attempt_news(self, attempt: str, news: AttemptNews) -> None:
        self._check(attempt)
        put(self.home / "news" / attempt, news.model_dump_json().encode())

    async def missing_files(self, attempt: str, digests: Sequence[str]) -> list[str]:
        self._check(attempt)
        return [digest for digest in digests if not (self.home / "files" / digest).exists()]

    async def upload_file(self, attempt: str, digest: str, file: Path) -> None:
        self._check(attempt)
        content = file.read_bytes()
        assert digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
        put(self.home / "files" / digest, content)

    async def attempt_end(self, attempt: str, end: AttemptEnd) -> None:
        self._check(attempt)
        missing = [
            f
            for manifest in end.outputs.values()
            for f in await self.missing_files(attempt, [file.digest for file in manifest.files])
        ]
        assert missing == []
        if not self.end(attempt):  # else it was sent again
            put(self.home / "ends" / attempt, end.model_dump_json().encode())


def attempt_of(job: str, number: int, artifact: str, call: JobCall, drain_s: float = 1.0) -> PlannedAttempt:
    spec = ReplicaSpec(
        id=replica_id("default", f"uid-of-{job}", 1, number),
        name=f"{job}-{number}",
        workspace="default",
        deployment=job,
        deployment_uid=f"uid-of-{job}",
        revision=1,
        ordinal=number,
        artifact=artifact,
        kind=WorkloadKind.JOB,
        restart=Restart.NEVER,
        drain_s=drain_s,
        env={"JOB": job, "ATTEMPT": str(number)},
    )
    return PlannedAttempt(replica=spec, call=call)


def agent_over(files: JobFiles, run_dir: Path, runtime: tuple[str, ...] = RUNTIME) -> tuple[Agent, ProcessDriver]:
    driver = ProcessDriver(files.home / "agent", run_dir, files.artifact, SystemClock(), runtime=runtime)
    state = files.home / "agent"
    agent = Agent("local", files, driver, files, SystemClock(), state, "http://127.0.0.1:1", attempts=files)
    return agent, driver


async def main(home: Path, run_dir: Path) -> None:
    agent, _ = agent_over(JobFiles(home), run_dir, (str(home / "job.py"),))
    await agent.run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
