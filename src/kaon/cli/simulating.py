"""What `simulate` does: what is known of a deployment, what was asked, and both answers side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from kaon.cli import charts
from kaon.cli.assigning import assigned
from kaon.cli.notes import note
from kaon.cli.output import Format, document, put
from kaon.cli.progress import Progress
from kaon.cli.remote import Remote, opened
from kaon.cli.text import plain, table
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

_POINTS = 70
"""Columns of a chart, and points of a series in JSON."""
_ASSUMED_START_S = 20.0
_SEEN_S = 60.0
_RECORDED_S = 6 * 3600.0
"""How far back a deployment's own traffic is replayed."""
_NOW = "as it is set"


class PredictedFigures(Model):
    """What a replica takes, as `--set service.` names it."""

    row_s: float = Field(ge=0, le=3600)
    call_s: float = Field(gt=0, le=3600)
    max_batch: int = Field(ge=1, le=4096)
    start_s: float = Field(gt=0, le=3600)


class SimulationRequest(Model):
    """All that a replay depends on beside the traffic."""

    scaling: Scaling
    objective: Objective
    service: PredictedFigures


def simulate(
    name: str,
    file: Path | None,
    changes: Sequence[str],
    *,
    from_s: float,
    span_s: float | None,
    times: float,
    seed: int,
    svg: Path | None,
    workspace: str | None,
    form: Format,
) -> None:
    """Replay, and print what would have happened."""
    with opened(workspace) as remote:
        base, assumed = _as_it_is(remote, name)
        traffic = _traffic(remote, name, file)
    traffic = traffic.part(from_s, span_s).times(times)
    _bound(traffic)
    questions = asked(base, changes)
    answers = {title: _replayed(title, question, traffic, seed) for title, question in questions.items()}
    now = questions[_NOW]
    assumed = [place for place in assumed if not any(text.partition("=")[0].strip() == place for text in changes)]
    if assumed:
        values = ", ".join(f"{place}={getattr(now.service, place.partition('.')[2]):g}" for place in assumed)
        note(f"Not known yet, so assumed: {values}. Say better ones with --set.")
    if svg is not None:
        svg.write_text(drawn(name, now, answers), encoding="utf-8")
        note(f"Drew {svg}.")
    if form in (Format.JSON, Format.YAML):
        put(document(told(name, traffic, assumed, questions, answers), form))
    else:
        put(shown(questions, answers))


def asked(base: SimulationRequest, changes: Sequence[str]) -> dict[str, SimulationRequest]:
    """The questions under their titles: as it is set, and with `changes`. What a replica takes is no wish, but how it
    is: it holds for both. Pure."""
    facts = [text for text in changes if text.strip().startswith("service.")]
    wishes = [text for text in changes if text not in facts]
    now = changed(base, facts)
    return {_NOW: now} | ({f"with {', '.join(wishes)}": changed(now, wishes)} if wishes else {})


def _as_it_is(remote: Remote, name: str) -> tuple[SimulationRequest, list[str]]:
    """The deployment as it is set, and which of its figures had to be assumed."""
    view = remote.deployment(name)
    service = remote.artifact(view.spec.template.artifact).spec.manifest.service
    objective = view.spec.objective or service.objective
    figures = {
        "row_s": round(objective.latency_s / 50, 6),
        "call_s": round(objective.latency_s / 5, 6),
        "start_s": _ASSUMED_START_S,
    }
    assumed = [f"service.{figure}" for figure in figures]
    starts = [window.start_s for window in remote.stats(name, _SEEN_S).windows if window.start_s]
    if starts:
        figures["start_s"] = starts[-1]
        assumed.remove("service.start_s")
    figures["max_batch"] = choice.max_batch(service)
    return SimulationRequest(
        scaling=view.spec.scaling, objective=objective, service=PredictedFigures(**figures)
    ), assumed


def _traffic(remote: Remote, name: str, file: Path | None) -> Trace:
    """The trace in the file, or what the deployment got itself."""
    return recorded(name, remote.stats(name, _RECORDED_S)) if file is None else trace.read(file)


def recorded(name: str, stats: Stats) -> Trace:
    """A deployment's own traffic, from the first step of which something is known. Raises `InvalidInput`; pure."""
    rates = [point.rps for point in stats.series]
    known = [place for place, rps in enumerate(rates) if rps is not None]
    if not any(rates):
        raise InvalidInput(
            f"No calls of '{plain(name)}' are recorded in the last {_RECORDED_S / 3600:g} h.",
            hint="Give a file of seconds and counts: --trace FILE",
        )
    return Trace(name, tuple(rps or 0.0 for rps in rates[known[0] : known[-1] + 1]), stats.step_s)


def _bound(traffic: Trace) -> None:
    most = MOST_CALLS[available()]
    if traffic.calls > most:
        part = f"--for {int(traffic.span_s * most / traffic.calls)}s"
        faster = "" if available() else " With kaon[sim] installed it can be several times as many."
        raise InvalidInput(
            f"{traffic.calls:,.0f} calls are too many to be replayed: {most:,.0f} at most.{faster}",
            hint=f"Take a part: {part}, or fewer calls: --times {most / traffic.calls:.2g}",
        )


def changed(base: SimulationRequest, texts: Sequence[str]) -> SimulationRequest:
    """`base` with other values at some places, as 'scaling.max=5'. Raises `InvalidInput`; pure."""
    try:
        return from_request(SimulationRequest, assigned(base.model_dump(), texts, model=SimulationRequest))
    except ValidationError as error:
        wrong = [{"where": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in error.errors()]
        raise InvalidInput("What is set is not valid.", errors=wrong) from None


def _replayed(title: str, question: SimulationRequest, traffic: Trace, seed: int) -> ReplayResult:
    with Progress() as progress:
        tenth = -1

        def say(share: float) -> None:
            nonlocal tenth
            if int(10 * share) > tenth:
                tenth = int(10 * share)
                progress.say("Simulating", f"{title}, {10 * tenth} %")

        figures = question.service
        service = ReplayedService(figures.row_s, figures.call_s, figures.max_batch, figures.start_s)
        return replay(ReplayOptions(question.scaling, question.objective), service, traffic, seed=seed, on_progress=say)


def shown(questions: Mapping[str, SimulationRequest], answers: Mapping[str, ReplayResult]) -> str:
    """A table with a column for each answer, and charts. Pure."""
    deadlines = " / ".join(dict.fromkeys(f"{q.objective.patience_s:g} s" for q in questions.values()))
    rows = [
        (f"answered within {deadlines}", *(f"{100 * a.attainment:.2f} %" for a in answers.values())),
        ("worst five minutes", *(f"{100 * a.worst_5min:.2f} %" for a in answers.values())),
        ("p50", *(f"{a.p50_s:.3f} s" for a in answers.values())),
        ("p90", *(f"{a.p90_s:.3f} s" for a in answers.values())),
        ("p99", *(f"{a.p99_s:.3f} s" for a in answers.values())),
        ("replica-seconds", *(f"{a.replica_seconds:.0f}" for a in answers.values())),
        ("replicas on average", *(f"{a.replica_seconds / a.span_s:.2f}" for a in answers.values())),
        ("replicas at most", *(str(a.most_replicas) for a in answers.values())),
    ]
    first = next(iter(answers.values()))
    heading = f"{first.calls} calls in {first.span_s:.0f} s"
    found = [table((heading, *answers), rows), charts.chart("calls per second", thin(first.load))]
    most = max(a.most_replicas for a in answers.values())
    for title, answer in answers.items():
        found.append(charts.chart(f"replicas {plain(title)}", thin(answer.replicas), most=most))
    return "\n\n".join(found)


def thin(values: Sequence[float]) -> list[float]:
    """A series as long as a chart is wide: the highest of each part."""
    return picture.thinned(values, _POINTS)


def told(
    name: str,
    traffic: Trace,
    assumed: Sequence[str],
    questions: Mapping[str, SimulationRequest],
    answers: Mapping[str, ReplayResult],
) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "deployment": name,
        "trace": traffic.name,
        "assumed": list(assumed),
        "answers": [
            {
                "title": title,
                **questions[title].model_dump(mode="json"),
                "calls": answer.calls,
                "span_s": answer.span_s,
                "attainment": answer.attainment,
                "worst_5min": answer.worst_5min,
                "p50_s": answer.p50_s,
                "p90_s": answer.p90_s,
                "p99_s": answer.p99_s,
                "replica_seconds": answer.replica_seconds,
                "most_replicas": answer.most_replicas,
                "load_rps": thin(answer.load),
                "replicas": thin(answer.replicas),
            }
            for title, answer in answers.items()
        ],
    }


def drawn(name: str, now: SimulationRequest, answers: Mapping[str, ReplayResult]) -> str:
    """The same as SVG: replicas that full batches would need, and those of each answer."""
    figures = now.service
    serves = ReplayedService(figures.row_s, figures.call_s, figures.max_batch, figures.start_s).serves_rps
    first = next(iter(answers.values()))
    series: dict[str, tuple[Sequence[float], str]] = {
        "needed at full batches": ([rps / serves for rps in first.load], picture.GREY)
    }
    for (title, answer), colour in zip(answers.items(), (picture.BLUE, picture.ORANGE), strict=False):
        mean = answer.replica_seconds / answer.span_s
        series[f"{title}: {100 * answer.attainment:.1f} % in time, {mean:.1f}"] = (answer.replicas, colour)
    return picture.picture(name, series, TICK_S * len(first.load))
