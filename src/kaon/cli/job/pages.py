"""A job on a page, and its progress in a line. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from kaon.cli.shared import tables
from kaon.cli.shared.output import TableShape
from kaon.cli.shared.text import age, plain, since, stamp, table
from kaon.types.event import Event
from kaon.types.job import Attempt, JobMetrics, JobResult, JobState, Progress

_LINES = 10
_RESULT_COLUMNS = 2000


def job_page(job: Any, metrics: JobMetrics, result: JobResult | None, events: Sequence[Event], now: float) -> str:
    """A job: what it is, its attempts, result, last metrics and events."""
    spec, status = job.spec, job.status
    facts = [
        ("job", job.name),
        ("state", f"{status.state}: {status.reason}" if status.reason else str(status.state)),
        ("function", spec.function or " ".join(spec.command)),
        ("progress", progress_text(metrics.progress)),
        ("parameters", ", ".join(f"{name}={json.dumps(value)}" for name, value in spec.parameters.items())),
        ("inputs", ", ".join(f"{name}={ref.text}" for name, ref in spec.inputs.items())),
        ("outputs", ", ".join(f"{name}={_output(status, name, dataset)}" for name, dataset in spec.outputs.items())),
        ("limits", _limits(spec)),
        ("array", spec.array),
        ("artifact", spec.artifact[7:19]),
        ("submitted", f"{since(job.created_at, now)} ago by {spec.owner or '-'}"),
        ("metrics", _last_metrics(metrics)),
        ("result", "" if result is None else json.dumps(result.result, ensure_ascii=False)[:_RESULT_COLUMNS]),
    ]
    width = max(len(name) for name, _ in facts) + 2
    parts = ["\n".join(f"{name:<{width}}{plain(text)}" for name, text in facts if text)]
    if status.attempts:
        parts.append("attempts\n" + _rows(_attempts(now), status.attempts))
    if status.attempts and (lines := status.attempts[-1].last_lines) and status.state is not JobState.SUCCEEDED:
        parts.append("\n  ".join(["last lines", *(plain(line, keep="\t") for line in lines[-_LINES:])]))
    if events:
        parts.append("events\n" + _rows(tables.of("event", now), events))
    return "\n\n".join(parts)


def progress_text(progress: Progress) -> str:
    """Like '40%: epoch 2'."""
    fraction = "" if progress.fraction is None else f"{progress.fraction:.0%}"
    return ": ".join(part for part in (fraction, progress.text) if part)


def _rows(shape: TableShape[Any], items: Sequence[Any]) -> str:
    return "\n".join(f"  {line}" for line in table(shape.titles, map(shape.row, items)).splitlines())


def _attempts(now: float) -> TableShape[Attempt]:
    return TableShape(
        ("attempt", "state", "cloud", "began", "took", "reason"),
        lambda a: (
            a.number,
            a.state,
            a.cloud,
            stamp(a.created_at),
            age((a.ended_at or now) - (a.started_at or a.created_at)),
            a.reason or "-",
        ),
        lambda a: str(a.number),
    )


def _output(status: Any, name: str, dataset: str) -> str:
    made = status.outputs.get(name)
    return made.text if made else dataset


def _limits(spec: Any) -> str:
    retries = "once only" if spec.once else f"{spec.retries} retries"
    return f"{age(spec.timeout_s)} a run, {retries}, priority {spec.priority}"


def _last_metrics(metrics: JobMetrics) -> str:
    last: dict[str, float] = {}
    for point in metrics.points:
        last |= point.values
    return ", ".join(f"{name}={value:g}" for name, value in last.items())
