"""`kaon simulate`: a replay of traffic through the scaling law, as the deployment is and with other settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field, ValidationError

from kaon.cli.shared import charts
from kaon.cli.shared.assignments import assign
from kaon.cli.shared.notes import note
from kaon.cli.shared.options import DeploymentArgument, OutputOption, WorkspaceOption, verb, verbs
from kaon.cli.shared.output import Format, document, put
from kaon.cli.shared.progress import ProgressLine
from kaon.cli.shared.remote import Remote, opened
from kaon.cli.shared.spec_changes import field_errors
from kaon.cli.shared.text import plain, seconds, table
from kaon.errors import InvalidInput
from kaon.laws import choice
from kaon.sim import picture, trace
from kaon.sim.engine import available
from kaon.sim.replay import MOST_CALLS, TICK_S, ReplayedService, ReplayOptions, ReplayResult, replay
from kaon.sim.trace import Trace
from kaon.types.deployment import Scaling
from kaon.types.model import Model, from_request
from kaon.types.objective import Objective
from kaon.types.window import Stats

app = verbs()
_POINTS = 70
"""Columns of a chart, and points of a series in JSON."""
_DEFAULT_START_S = 20.0
_RECENT_S = 60.0
_RECORDED_S = 6 * 3600.0
"""How much of a deployment's own traffic is replayed."""
_CURRENT = "current settings"


class PredictedFigures(Model):
    """A replica's figures, as `--set service.` names them."""

    row_s: float = Field(ge=0, le=3600)
    call_s: float = Field(gt=0, le=3600)
    max_batch: int = Field(ge=1, le=4096)
    start_s: float = Field(gt=0, le=3600)


class SimulationRequest(Model):
    """The settings of a replay."""

    scaling: Scaling
    objective: Objective
    service: PredictedFigures


@verb(
    app,
    "kaon simulate greeter --set scaling.max=5",
    "kaon simulate greeter --trace day.csv",
    "kaon simulate greeter --trace day.csv --set scaling.max=5 --svg day.svg",
    "kaon simulate greeter --trace day.csv --set scaling.max=4",
    "kaon simulate greeter --trace day.csv --set service.call_s=0.08 -o json",
)
def simulate(
    name: DeploymentArgument,
    file: Annotated[Path | None, typer.Option("--trace", metavar="FILE", help="Calls per second, as CSV.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="K=V", help="Another value of scaling., objective. or service.; repeatable."),
    ] = None,
    start: Annotated[str, typer.Option("--from", help="Skip the beginning of the traffic, like 2h.")] = "0s",
    span: Annotated[str, typer.Option("--for", help="Length of the replay, like 30m; default: all.")] = "",
    times: Annotated[float, typer.Option("--times", min=0.0, help="Multiply the number of calls.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the random numbers.")] = 0,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Draw a picture into this file.")] = None,
    output: OutputOption = Format.TABLE,
    workspace: WorkspaceOption = None,
) -> None:
    """Replay traffic through the scaling law, on this machine; nothing is changed.

    Without --trace it replays the deployment's traffic of the last 6 h. FILE is CSV that begins with 'second,count',
    't_s,rate_rps' or 'timestamp,value'. With --set the result is shown beside that of the current settings.
    """
    assignments = changes or []
    with opened(workspace) as remote:
        base, defaults = _current(remote, name)
        traffic = recorded(name, remote.stats(name, _RECORDED_S)) if file is None else trace.read(file)
    traffic = traffic.part(seconds(start), seconds(span) if span else None).times(times)
    _check_size(traffic)
    requests = _requests(base, assignments)
    results = {title: _replay(title, request, traffic, seed) for title, request in requests.items()}
    current = requests[_CURRENT]
    defaults = [path for path in defaults if not any(text.partition("=")[0].strip() == path for text in assignments)]
    if defaults:
        values = ", ".join(f"{path}={getattr(current.service, path.partition('.')[2]):g}" for path in defaults)
        note(f"Not measured yet, so assumed: {values}. Set other values with --set.")
    if svg is not None:
        svg.write_text(_picture(name, current, results), encoding="utf-8")
        note(f"Drew {svg}.")
    if output in (Format.JSON, Format.YAML):
        put(document(_as_values(name, traffic, defaults, requests, results), output))
    else:
        put(_report(requests, results))


def _requests(base: SimulationRequest, assignments: Sequence[str]) -> dict[str, SimulationRequest]:
    """The requests by title: current settings, and with `assignments`. Figures of the service hold for both. Pure."""
    figures = [text for text in assignments if text.strip().startswith("service.")]
    settings = [text for text in assignments if text not in figures]
    current = _with(base, figures)
    changed = {f"with {', '.join(settings)}": _with(current, settings)} if settings else {}
    return {_CURRENT: current} | changed


def _current(remote: Remote, name: str) -> tuple[SimulationRequest, list[str]]:
    """The deployment's settings, and the paths of figures that were assumed."""
    view = remote.deployment(name)
    service = remote.artifact(view.spec.template.artifact).spec.manifest.service
    objective = view.spec.objective or service.objective
    figures = {
        "row_s": round(objective.latency_s / 50, 6),
        "call_s": round(objective.latency_s / 5, 6),
        "start_s": _DEFAULT_START_S,
    }
    assumed = [f"service.{figure}" for figure in figures]
    starts = [window.start_s for window in remote.stats(name, _RECENT_S).windows if window.start_s]
    if starts:
        figures["start_s"] = starts[-1]
        assumed.remove("service.start_s")
    figures["max_batch"] = choice.max_batch(service)
    return SimulationRequest(
        scaling=view.spec.scaling, objective=objective, service=PredictedFigures(**figures)
    ), assumed


def recorded(name: str, stats: Stats) -> Trace:
    """A deployment's traffic, from its first known step to its last. Raises `InvalidInput`; pure."""
    rates = [point.rps for point in stats.series]
    steps = [step for step, rps in enumerate(rates) if rps is not None]
    if not any(rates):
        raise InvalidInput(
            f"No calls of '{plain(name)}' are recorded in the last {_RECORDED_S / 3600:g} h.",
            hint="Give a file of seconds and counts: --trace FILE",
        )
    return Trace(name, tuple(rps or 0.0 for rps in rates[steps[0] : steps[-1] + 1]), stats.step_s)


def _check_size(traffic: Trace) -> None:
    limit = MOST_CALLS[available()]
    if traffic.calls > limit:
        faster = "" if available() else " With kaon[sim] installed it can be several times as many."
        raise InvalidInput(
            f"{traffic.calls:,.0f} calls are too many for a replay: {limit:,.0f} at most.{faster}",
            hint=f"Take a part: --for {int(traffic.span_s * limit / traffic.calls)}s, or fewer calls: "
            f"--times {limit / traffic.calls:.2g}",
        )


def _with(base: SimulationRequest, texts: Sequence[str]) -> SimulationRequest:
    """`base` with 'PATH=VALUE' texts applied, such as 'scaling.max=5'. Raises `InvalidInput`; pure."""
    try:
        return from_request(SimulationRequest, assign(base.model_dump(), texts, model=SimulationRequest))
    except ValidationError as error:
        raise InvalidInput("--set is not valid.", errors=field_errors(error)) from None


def _replay(title: str, request: SimulationRequest, traffic: Trace, seed: int) -> ReplayResult:
    with ProgressLine() as progress:
        tenth = -1

        def show(share: float) -> None:
            nonlocal tenth
            if int(10 * share) > tenth:
                tenth = int(10 * share)
                progress.show("Simulating", f"{title}, {10 * tenth} %")

        figures = request.service
        service = ReplayedService(figures.row_s, figures.call_s, figures.max_batch, figures.start_s)
        return replay(ReplayOptions(request.scaling, request.objective), service, traffic, seed=seed, on_progress=show)


def _report(requests: Mapping[str, SimulationRequest], results: Mapping[str, ReplayResult]) -> str:
    """A table with a column for each result, and charts. Pure."""
    deadlines = " / ".join(dict.fromkeys(f"{q.objective.patience_s:g} s" for q in requests.values()))
    rows = [
        (f"answered within {deadlines}", *(f"{100 * a.attainment:.2f} %" for a in results.values())),
        ("worst five minutes", *(f"{100 * a.worst_5min:.2f} %" for a in results.values())),
        ("p50", *(f"{a.p50_s:.3f} s" for a in results.values())),
        ("p90", *(f"{a.p90_s:.3f} s" for a in results.values())),
        ("p99", *(f"{a.p99_s:.3f} s" for a in results.values())),
        ("replica-seconds", *(f"{a.replica_seconds:.0f}" for a in results.values())),
        ("replicas on average", *(f"{a.replica_seconds / a.span_s:.2f}" for a in results.values())),
        ("replicas at most", *(str(a.most_replicas) for a in results.values())),
    ]
    first = next(iter(results.values()))
    heading = f"{first.calls} calls in {first.span_s:.0f} s"
    found = [table((heading, *results), rows), _chart("calls per second", first.load, max(first.load))]
    top = max(a.most_replicas for a in results.values())
    for title, result in results.items():
        found.append(_chart(f"replicas, {plain(title)}", result.replicas, top))
    return "\n\n".join(found)


def _chart(title: str, values: Sequence[float], top: float) -> str:
    points = _thinned(values)
    return charts.text(charts.chart([("", title)], points, len(points), 3, top=top))


def _thinned(values: Sequence[float]) -> list[float]:
    """The maxima of as many parts as a chart has columns."""
    return picture.thinned(values, _POINTS)


def _as_values(
    name: str,
    traffic: Trace,
    assumed: Sequence[str],
    requests: Mapping[str, SimulationRequest],
    results: Mapping[str, ReplayResult],
) -> dict[str, Any]:
    """The report as plain values."""
    return {
        "deployment": name,
        "trace": traffic.name,
        "assumed": list(assumed),
        "answers": [
            {
                "title": title,
                **requests[title].model_dump(mode="json"),
                "calls": result.calls,
                "span_s": result.span_s,
                "attainment": result.attainment,
                "worst_5min": result.worst_5min,
                "p50_s": result.p50_s,
                "p90_s": result.p90_s,
                "p99_s": result.p99_s,
                "replica_seconds": result.replica_seconds,
                "most_replicas": result.most_replicas,
                "load_rps": _thinned(result.load),
                "replicas": _thinned(result.replicas),
            }
            for title, result in results.items()
        ],
    }


def _picture(name: str, current: SimulationRequest, results: Mapping[str, ReplayResult]) -> str:
    """SVG: the replicas that full batches would need, and those of each result."""
    figures = current.service
    serves = ReplayedService(figures.row_s, figures.call_s, figures.max_batch, figures.start_s).serves_rps
    first = next(iter(results.values()))
    series: dict[str, tuple[Sequence[float], str]] = {
        "needed at full batches": ([rps / serves for rps in first.load], picture.GREY)
    }
    for (title, result), colour in zip(results.items(), (picture.BLUE, picture.ORANGE), strict=False):
        mean = result.replica_seconds / result.span_s
        series[f"{title}: {100 * result.attainment:.1f} % in time, {mean:.1f}"] = (result.replicas, colour)
    return picture.picture(name, series, TICK_S * len(first.load))
