"""What `rollout status`, `promote`, `shadow` and `diff` do; and how a trial looks on a terminal."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

from pydantic import ValidationError

from kaon.cli import shapes
from kaon.cli.notes import note
from kaon.cli.output import Format, TableShape, put, put_list, put_one
from kaon.cli.remote import opened
from kaon.cli.text import plain, since, table, width
from kaon.cli.waiting import awaits_promotion, until_rolled_out
from kaon.errors import InvalidInput, Unavailable
from kaon.types.deployment import Canary, CanaryArm, CanaryGate, DeploymentSpec, RolloutState, Shadow
from kaon.types.model import from_request
from kaon.types.shadow import Difference, ShadowReport

if TYPE_CHECKING:
    from kaon.api.views import DeploymentView
    from kaon.cli.remote import Remote

_PAINT_S = 0.5


def canary(steps: str, step_s: float | None, base: Canary | None) -> Canary | None:
    """The rules that '5,25,50' stands for, 'off' for none; what is not named is as in `base`. Raises `InvalidInput`."""
    if steps == "off":
        return None
    changes: dict[str, object] = {} if step_s is None else {"step_s": step_s}
    try:
        if steps:
            changes["steps"] = [int(part) for part in steps.replace("%", "").split(",")]
        return from_request(Canary, (base or Canary()).model_dump() | changes)
    except (ValueError, ValidationError) as error:
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "its steps are no numbers"
        raise InvalidInput(
            f"--canary {plain(steps)}: {said}.", hint="Per cent of the calls, rising: --canary 5,25,50"
        ) from None


def status(name: str, workspace: str | None, wait_s: float | None, form: Format) -> None:
    """Tell how a rollout is; on a terminal again and again until it has ended, elsewhere once it has."""
    with opened(workspace) as remote:
        view = remote.deployment(name)
        if wait_s is not None:
            watched = _watched(remote, name, wait_s) if sys.stdout.isatty() and form is Format.TABLE else None
            view = watched or until_rolled_out(remote, name, wait_s)
        if form is not Format.TABLE:
            put_one(view, shapes.of("deployment", time.time()), form)
        elif view.status.rollout.canary:
            put(trial(view, time.time()))
        else:
            put_list([view], shapes.of("deployment", time.time()), form)


def _watched(remote: Remote, name: str, wait_s: float) -> DeploymentView | None:
    """Paint a trial over itself until it ends; None when there is none, or it has ended."""
    ends_at, lines = time.monotonic() + wait_s, 0
    while time.monotonic() < ends_at:
        try:
            view = remote.deployment(name)
        except Unavailable:  # the platform restarts: what runs keeps running
            time.sleep(_PAINT_S)
            continue
        if lines:
            sys.stdout.write(f"\x1b[{lines}A\x1b[J")
        if not view.status.rollout.canary or view.state is not RolloutState.PROGRESSING or view.spec.paused:
            return None
        if awaits_promotion(view):
            return view
        text = trial(view, time.time())
        put(text)
        columns = shutil.get_terminal_size().columns
        lines = sum(max(1, -(-width(line) // columns)) for line in text.split("\n"))
        time.sleep(_PAINT_S)
    return None


def trial(view: DeploymentView, now: float) -> str:
    """A trial on a page: its step, both revisions' figures, what the tests make of them; pure."""
    status, rules = view.status.rollout, view.spec.rollout.canary
    canary = status.canary
    assert canary is not None
    steps = len(rules.steps) if rules else 0
    lasts = f", {since(canary.since, now)} of {rules.step_s:g}s" if rules and canary.in_force else ""
    step = f"step {canary.step + 1} of {steps}" if canary.step < steps else "all steps are passed"
    lines = [f"{view.name}: {view.state}, {step}{lasts}", f"  {view.reason}"]
    rows = [
        _row(f"{a.revision} {role}", f"{a.weight} %", f"{a.ready}/{a.replicas}", arm)
        for a in status.assignments
        for revision, role, arm in ((status.stable, "serving", canary.old), (canary.revision, "on trial", canary.new))
        if a.revision == revision
    ]
    slow = f"over {1000 * canary.slow_s:,.0f} ms" if canary.slow_s else "slow"
    lines += ["", table(("revision", "calls to it", "ready", "answered", "failed", slow, "p99"), rows)]
    lines += [""] * bool(canary.gates) + [_gate(gate) for gate in canary.gates]
    return "\n".join(plain(line, keep="\n") for line in lines)


def _row(revision: str, share: str, ready: str, arm: CanaryArm) -> tuple[str, ...]:
    p99 = "-" if arm.p99_s is None else f"{1000 * arm.p99_s:,.0f} ms"
    return revision, share, ready, f"{arm.calls:,}", _of(arm.failed, arm.calls), _of(arm.slow, arm.timed), p99


def _of(part: int, whole: int) -> str:
    if not whole:
        return "-"
    percent = 100 * part / whole
    return f"{part:,} ({percent:.0f} %)" if percent >= 10 else f"{part:,} ({percent:.2g} %)"


def _gate(gate: CanaryGate) -> str:
    leans = f", leans to {gate.leans}" if gate.verdict not in ("worse", "fine") else ""
    odds = f"{gate.odds:,.0f}" if gate.odds < 1e6 else "over a million"
    return f"{gate.name}: {gate.verdict}{leans}; the evidence is {odds} to 1, known from {gate.needed:,.0f} to 1"


def promote(name: str, workspace: str | None, wait_s: float | None) -> None:
    """Let what is on trial take over."""
    with opened(workspace) as remote:
        view = remote.roll(remote.deployment(name), "promote")
        if wait_s is not None:
            view = until_rolled_out(remote, name, wait_s)
        put_list([view], shapes.of("deployment", time.time()), Format.TABLE)


def shadow(name: str, revision: int | None, percent: float, off: bool, workspace: str | None) -> None:
    """Let a revision get copies of calls, or none."""
    if off == (revision is not None):
        raise InvalidInput("Which revision?", hint=f"kaon rollout shadow {plain(name)} --revision N, or --off")
    with opened(workspace) as remote:
        seen = remote.deployment(name)
        if off:
            remote.unshadow(seen)
            note(f"No calls of {name} are copied any more.")
            return
        remote.shadow(seen, Shadow(revision=revision, percent=percent))
        note(f"Revision {revision} gets copies of {percent:g} % of the calls of {name}: kaon rollout diff {name}")


def as_shadow(current: DeploymentSpec | None, wanted: dict[str, object], percent: float) -> dict[str, object]:
    """The members of a spec whose new template runs as a shadow, and whose old one serves. Raises `InvalidInput`."""
    if current is None:
        raise InvalidInput("A shadow needs something that serves.", hint="Deploy it without --shadow first.")
    template = current.template.model_dump()
    return wanted | {"template": template, "shadow": {"template": wanted["template"], "percent": percent}}


def diff(name: str, workspace: str | None, form: Format) -> None:
    """Print how the shadow's answers compare."""
    with opened(workspace) as remote:
        report = remote.shadow_report(name)
    if form is not Format.TABLE:
        put_one(report, _REPORT, form)
        return
    if not report.revision:
        note(f"No revision of {name} gets copies of calls. Let one: kaon rollout shadow {name} --revision N")
        return
    put(compared(name, report, time.time()))


_REPORT: TableShape[ShadowReport] = TableShape(
    ("revision", "matched", "differing", "missing"),
    lambda r: (r.revision, r.matched, r.differing, r.missing),
    lambda r: str(r.revision),
)


def compared(name: str, report: ShadowReport, now: float) -> str:
    """A report on a page; pure."""
    whole = report.matched + report.differing
    ago = f", for {since(report.since, now)}" if report.since else ""
    lines = [
        f"Revision {report.revision} gets copies of {report.percent:g} % of the calls of {name}{ago}.",
        f"  compared {whole:,}: {report.matched:,} alike, {_of(report.differing, whole)} differ"
        f"; {report.missing:,} without the caller's answer",
    ]
    if report.paths:
        most = sorted(report.paths.items(), key=lambda item: -item[1])[:20]
        lines += ["", table(("where they differ", "calls"), [(path, f"{count:,}") for path, count in most])]
    for example in report.examples:
        lines += ["", f"{example.endpoint}, request {example.request_id}, {since(example.at, now)} ago"]
        lines += [f"  {_difference(d)}" for d in example.differences]
    return "\n".join(plain(line, keep="\n") for line in lines)


def _difference(difference: Difference) -> str:
    return f"{difference.path}: {_short(difference.serving)} -> {_short(difference.shadow)}"


def _short(value: object) -> str:
    text = "(missing)" if value is None else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
