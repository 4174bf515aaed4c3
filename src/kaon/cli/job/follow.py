"""Follows a job or an array until it has ended."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kaon.cli.job.pages import progress_text
from kaon.cli.shared.notes import note
from kaon.cli.shared.output import put
from kaon.cli.shared.progress import ProgressLine
from kaon.cli.shared.remote import Remote
from kaon.cli.shared.text import plain
from kaon.types.job import JobMetrics, JobNames, JobState, Progress
from kaon.types.kinds import KINDS

_POLL_S = 1.0
_LAST_LINES = 10


def follow_job(remote: Remote, name: str) -> int:
    """Show the state, progress and metrics of a job until it ends, then its result. Returns the exit code."""
    job: Any = None
    progress, metrics = Progress(), ""
    with _goes_on(name), ProgressLine() as line:
        for event in remote.job_events(name):
            match event.name:
                case "job":
                    job = KINDS["job"].view.model_validate_json(event.data)
                case "progress":
                    progress = Progress.model_validate_json(event.data)
                case "metrics":
                    metrics = _metrics_text(JobMetrics.model_validate_json(event.data)) or metrics
            if job is not None:
                shown = (job.status.reason or progress_text(progress), metrics)
                line.show(f"{name} {job.status.state}", "  ".join(part for part in shown if part))
    if job is None or not job.status.state.ended:
        job = remote.resource(KINDS["job"], name)
    return _ended(remote, job)


def follow_array(remote: Remote, queued: JobNames) -> int:
    """Show how many jobs of an array are in each state until all have ended. Returns the exit code."""
    with _goes_on(queued.name), ProgressLine() as line:
        while True:
            jobs = remote.resources(KINDS["job"], array=queued.name)
            states = Counter(str(job.status.state) for job in jobs)
            line.show(queued.name, ", ".join(f"{count} {state}" for state, count in sorted(states.items())))
            if all(job.status.state.ended for job in jobs):
                break
            time.sleep(_POLL_S)
    bad = [job for job in jobs if job.status.state is not JobState.SUCCEEDED]
    for job in bad[:_LAST_LINES]:
        note(f"{job.name} {job.status.state}: {job.status.reason}")
    put(f"{len(jobs) - len(bad)} of {len(jobs)} jobs succeeded.")
    return 1 if bad else 0


def _ended(remote: Remote, job: Any) -> int:
    """Print the result of a job, or why it has none. Returns the exit code."""
    if job.status.state is not JobState.SUCCEEDED:
        last = job.status.attempts[-1].last_lines[-_LAST_LINES:] if job.status.attempts else ()
        for line in last:
            note(f"  {line}")
        note(f"{job.name} {job.status.state}: {job.status.reason}")
        note(f"hint:  See: kaon job logs {job.name}. Run it again: kaon job retry {job.name}")
        return 1
    result = remote.job_result(job.name)
    for parameter, version in (result.outputs if result else {}).items():
        note(f"{parameter}: {version.text}")
    put(plain(json.dumps(result.result if result else None, ensure_ascii=False, indent=2), keep="\n"))
    return 0


def _metrics_text(metrics: JobMetrics) -> str:
    last = metrics.points[-1].values if metrics.points else {}
    return " ".join(f"{name}={value:g}" for name, value in last.items())


@contextmanager
def _goes_on(name: str) -> Iterator[None]:
    """Say what goes on after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"{name} goes on. Follow it: kaon job logs -f {name}. Stop it: kaon job cancel {name}")
        raise
