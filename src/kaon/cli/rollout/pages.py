"""A canary's and a shadow's results as pages. Pure."""

from __future__ import annotations

from kaon.api.views import DeploymentView
from kaon.cli.shared.output import TableShape
from kaon.cli.shared.text import fitted, plain, since, table
from kaon.types.deployment import CanaryArm, CanaryGate
from kaon.types.shadow import Difference, ShadowReport

SHADOW_TABLE: TableShape[ShadowReport] = TableShape(
    ("revision", "matched", "differing", "missing"),
    lambda r: (r.revision, r.matched, r.differing, r.missing),
    lambda r: str(r.revision),
)


def canary_page(view: DeploymentView, now: float, columns: int | None = None) -> str:
    """A canary: its step, both revisions' figures, the results of its tests; it fits `columns`, if given."""
    status, rules = view.status.rollout, view.spec.rollout.canary
    canary = status.canary
    assert canary is not None
    steps = len(rules.steps) if rules else 0
    elapsed = f", {since(canary.since, now)} of {rules.step_s:g}s" if rules and canary.in_force else ""
    step = f"step {canary.step + 1} of {steps}" if canary.step < steps else "all steps passed"
    lines = [f"{view.name}: {view.state}, {step}{elapsed}", *fitted(f"  {plain(view.reason)}", columns, 2)]
    rows = [
        _row(f"{a.revision} {role}", f"{a.weight} %", f"{a.ready}/{a.replicas}", arm)
        for a in status.assignments
        for revision, role, arm in ((status.stable, "stable", canary.old), (canary.revision, "canary", canary.new))
        if a.revision == revision
    ]
    slow = f"over {1000 * canary.slow_s:,.0f} ms" if canary.slow_s else "slow"
    lines += ["", table(("revision", "share", "ready", "answered", "failed", slow, "p99"), rows, columns)]
    lines += [""] * bool(canary.gates) + [row for gate in canary.gates for row in fitted(_gate(gate), columns, 2)]
    return "\n".join(plain(line, keep="\n") for line in lines)


def shadow_page(name: str, report: ShadowReport, now: float, columns: int | None = None) -> str:
    """How a shadow's answers compare; sentences fit `columns`, if given."""
    total = report.matched + report.differing
    lines = [
        f"Revision {report.revision} gets copies of {report.percent:g} % of the calls of {name}.",
        f"  compared {total:,}: {report.matched:,} equal, {_share(report.differing, total)} different; "
        f"{report.missing:,} without the caller's answer",
    ]
    lines = [row for line in lines for row in fitted(line, columns, 2)]
    lines += [f"  started {since(report.since, now)} ago"] if report.since else []
    if report.paths:
        paths = sorted(report.paths.items(), key=lambda item: -item[1])[:20]
        lines += ["", table(("different at", "calls"), [(path, f"{count:,}") for path, count in paths])]
    for example in report.examples:
        lines += ["", f"{example.endpoint}, request {example.request_id}, {since(example.at, now)} ago"]
        lines += [row for d in example.differences for row in fitted(f"  {plain(_difference(d))}", columns, 4)]
    return "\n".join(plain(line, keep="\n") for line in lines)


def _row(revision: str, share: str, ready: str, arm: CanaryArm) -> tuple[str, ...]:
    p99 = "-" if arm.p99_s is None else f"{1000 * arm.p99_s:,.0f} ms"
    return revision, share, ready, f"{arm.calls:,}", _share(arm.failed, arm.calls), _share(arm.slow, arm.timed), p99


def _share(part: int, total: int) -> str:
    if not total:
        return "-"
    percent = 100 * part / total
    return f"{part:,} ({percent:.0f} %)" if percent >= 10 else f"{part:,} ({percent:.2g} %)"


def _gate(gate: CanaryGate) -> str:
    odds, needed = f"{gate.odds:,.0f}" if gate.odds < 1e6 else "over a million", f"{gate.needed:,.0f}"
    if gate.verdict in ("worse", "fine"):
        return f"{gate.name}: {gate.verdict}; confidence {odds}:1 (needs {needed}:1)"
    return f"{gate.name}: {gate.verdict}, tends to {gate.leans}; confidence {odds}:1 (needs {needed}:1)"


def _difference(difference: Difference) -> str:
    return f"{difference.path}: {_short(difference.serving)} -> {_short(difference.shadow)}"


def _short(value: object) -> str:
    text = "(missing)" if value is None else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
