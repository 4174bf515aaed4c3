"""How each kind of thing looks as a table, and as the page that `describe` shows. Pure: time comes as a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel

from kaon.api.views import (
    ArtifactView,
    CloudView,
    DeploymentView,
    KeyView,
    RevisionState,
    SecretView,
    WorkspaceView,
)
from kaon.cli.output import Shape
from kaon.cli.text import folded, plain, since, size, stamp, table
from kaon.types.cloud import CloudPhase
from kaon.types.deployment import Law, RolloutState, Scaling
from kaon.types.event import Event
from kaon.types.knobs import spelled
from kaon.types.objective import Objective
from kaon.types.replica import ReplicaStatus
from kaon.types.tuning import Mode

T = TypeVar("T", bound=BaseModel)


def at_rest(deployment: DeploymentView) -> str:
    """In a word why a deployment has no replicas when all is well; empty when it has some, or should."""
    if deployment.state is not RolloutState.STABLE or deployment.replicas:
        return ""
    return "Off" if deployment.spec.scaling.max == 0 else "Idle"


def tuned(deployment: DeploymentView) -> str:
    """In a word what its tuner has to say: that it tries something, or knows something better."""
    tuning = deployment.status.tuning
    return "trying" if tuning.trial else "tunable" if tuning.recommended else ""


def left_out(deployment: DeploymentView) -> str:
    """In a word that something of it could not be planned or routed, or that nobody answers for it: `describe` and
    `events` say what."""
    bad = {c.type for c in deployment.status.conditions if c.bad}
    return next((word for name, word in _LEFT_OUT if name in bad), "")


_LEFT_OUT = (
    ("Planned", "not planned"),
    ("Routed", "not routed"),
    ("Unreadable", "unreadable"),
    ("ReconcileFailed", "failing"),
    ("OwnerGone", "owner gone"),
)
_TUNED = {
    "trying": "other values of its knobs are being tried",
    "tunable": "better values of its knobs are recommended",
}
_RESTING = {
    "Idle": "Idle: at zero, wakes on call",
    "Off": "Off: switched off, callers are refused; kaon scale {name} 1 switches it on",
}


def deployments(now: float) -> Shape[DeploymentView]:
    """Deployments."""
    return Shape(
        ("name", "ready", "state", "revision", "age", "url"),
        lambda d: (
            d.name,
            f"{d.ready}/{d.replicas}",
            ", ".join(part for part in (at_rest(d) or d.state, tuned(d), left_out(d)) if part),
            d.revision or "-",
            since(d.created_at, now),
            d.url,
        ),
        lambda d: d.name,
    )


def replicas(now: float) -> Shape[ReplicaStatus]:
    """Replicas."""
    return Shape(
        ("replica", "phase", "since", "restarts", "reason"),
        lambda r: (r.name, r.phase, since(r.since, now), r.restarts, _short(r.reason)),
        lambda r: r.name,
    )


def revisions(now: float) -> Shape[RevisionState]:
    """Revisions of one deployment."""
    return Shape(
        ("revision", "state", "ready", "age", "artifact", "outcome"),
        lambda r: (
            r.number,
            r.state,
            f"{r.ready}/{r.replicas}",
            since(r.created_at, now),
            r.artifact[7:19],
            _short(f"{r.outcome}: {r.reason}" if r.reason else r.outcome),
        ),
        lambda r: str(r.number),
    )


def artifacts(now: float) -> Shape[ArtifactView]:
    """Artifacts."""
    return Shape(
        ("artifact", "service", "size", "age"),
        lambda a: (
            a.name[7:19],
            a.spec.manifest.service.name,
            size(a.spec.size_bytes),
            since(a.created_at, now),
        ),
        lambda a: a.name,
    )


def keys(now: float) -> Shape[KeyView]:
    """Keys."""
    return Shape(
        ("name", "role", "priority", "deployments", "state", "begins with", "age", "expires"),
        lambda k: (
            k.name,
            k.role,
            k.priority,
            ",".join(k.deployments) if k.deployments else "all",
            k.state,
            k.hint,
            since(k.created_at, now),
            stamp(k.expires_at),
        ),
        lambda k: k.name,
    )


def secrets(now: float) -> Shape[SecretView]:
    """Secrets."""
    return Shape(
        ("name", "used by", "changed"),
        lambda s: (s.name, ",".join(s.used_by) or "-", since(s.updated_at, now)),
        lambda s: s.name,
    )


def workspaces(now: float) -> Shape[WorkspaceView]:
    """Workspaces."""
    return Shape(
        ("name", "description", "age"),
        lambda w: (w.name, w.spec.description, since(w.created_at, now)),
        lambda w: w.name,
    )


def clouds(now: float) -> Shape[CloudView]:
    """Clouds."""
    return Shape(
        ("name", "phase", "driver", "seen", "edge", "ready", "edge url"),
        lambda c: (
            c.name,
            c.phase if not (c.cordoned and c.phase is CloudPhase.LOST) else f"{c.phase}, cordoned",
            c.driver,
            since(c.seen_at, now),
            "running" if c.edge.running else "down",
            f"{c.ready}/{c.replicas}",
            c.edge_url or "-",
        ),
        lambda c: c.name,
    )


def events(now: float) -> Shape[Event]:
    """Events."""
    return Shape(
        ("age", "level", "about", "reason", "message"),
        lambda e: (since(e.at, now), e.level, f"{e.kind}/{e.name}", e.reason, e.message),
        lambda e: f"{e.kind}/{e.name}",
    )


def described(
    deployment: DeploymentView,
    revisions_of: Sequence[RevisionState],
    replicas_of: Sequence[ReplicaStatus],
    events_of: Sequence[Event],
    objective: Objective,
    now: float,
    advice: str = "",
    columns: int | None = None,
) -> str:
    """All that there is to say of a deployment, on one page; `objective` is the one that holds, `advice` a line.

    It fits `columns` if they are named.
    """
    template, status = deployment.spec.template, deployment.status
    facts = {
        "name": f"{deployment.name} (workspace {deployment.workspace})",
        "url": deployment.url,
        "state": _RESTING[at_rest(deployment)].format(name=deployment.name)
        if at_rest(deployment)
        else f"{deployment.state}{': ' + deployment.reason if deployment.reason else ''}",
        "ready": f"{deployment.ready} of {deployment.replicas}",
        "scaling": bounded(deployment.spec.scaling),
        "wanted": f"{status.wanted}: {status.wanted_reason}" if status.wanted_reason else "",
        "tuning": _tuning(deployment),
        "objective": aimed(objective) + ("" if deployment.spec.objective else " (as the class says)"),
        "advice": advice,
        "access": "public: no key is needed" if deployment.spec.public else "closed: callers need a key",
        "artifact": template.artifact,
        "paused": "yes" if deployment.spec.paused else "",
        "made": f"{stamp(deployment.created_at)}, changed {since(deployment.updated_at, now)} ago",
    }
    lines = [row for name, text in facts.items() if text for row in _fact(name, plain(text), columns)]
    settings = [f"{name}={value}" for name, value in sorted(template.env.items())]
    settings += [f"{name}=(secret {secret})" for name, secret in sorted(template.secrets.items())]
    parts = ["\n".join(lines), _section("settings", "\n".join(plain(text) for text in settings))]
    parts.append(
        _section("conditions", "\n".join(_condition(c.type, c.holds, c.reason) for c in deployment.status.conditions))
    )
    parts.append(_section("revisions", _rows(revisions(now), revisions_of, columns)))
    parts.append(_section("replicas", _rows(replicas(now), replicas_of, columns)))
    parts += [last_words(replica) for replica in replicas_of]
    parts.append(_section("events", _rows(events(now), events_of, columns)))
    return "\n\n".join(part for part in parts if part)


def _tuning(deployment: DeploymentView) -> str:
    """What the tuner may do and what it has done, where that is not as it begins: recommending, all knobs as usual."""
    mode, values = deployment.spec.tuning.mode, deployment.status.tuning.values
    parts = [f"mode {mode}"] if mode is not Mode.RECOMMEND else []
    parts += [f"in force: {spelled(values)}"] if values else []
    word = tuned(deployment)
    said = "; ".join([*parts, *([_TUNED[word]] if word else [])])
    return f"{said}: kaon tune {deployment.name}" if said else ""


def bounded(scaling: Scaling) -> str:
    """Between how many replicas, and what chooses."""
    if scaling.max == 0:
        return "off: callers are refused"
    if scaling.min == scaling.max:
        return f"{scaling.max} replica{'s' if scaling.max > 1 else ''}"
    parts = [f"{scaling.min} to {scaling.max} replicas"]
    parts += [f"by the law of {scaling.law}"] if scaling.law is not Law.KAON else []
    parts += [f"at least {f.replicas} from {f.start} to {f.end} UTC" for f in scaling.floors]
    if scaling.min == 0:
        kept = "as long as it was learnt" if scaling.keep_alive_s is None else f"{scaling.keep_alive_s:g} s"
        parts.append(f"the last stays {kept} without a call")
    return ", ".join(parts)


def aimed(objective: Objective) -> str:
    """What should be achieved, in a line."""
    low, high = objective.utilisation
    return (
        f"{100 * objective.quantile:g} % of answers within {objective.latency_s:g} s, "
        f"{100 * objective.completion:g} % within {objective.patience_s:g} s, {100 * low:g} to {100 * high:g} % busy"
    )


def last_words(replica: ReplicaStatus) -> str:
    """The last lines of a replica that ended badly."""
    if not replica.last_lines:
        return ""
    code = "" if replica.exit_code is None else f", exit code {replica.exit_code}"
    lines = [f"last lines of {replica.name}{code}", *replica.last_lines[-10:]]
    return "\n  ".join(plain(line, keep="\t") for line in lines)


def _condition(kind: str, holds: bool, reason: str) -> str:
    return plain(f"{kind}: {'yes' if holds else 'no'}{', ' + reason if reason else ''}")


def _fact(name: str, text: str, columns: int | None) -> list[str]:
    """A fact beside its name."""
    rows = [text] if columns is None else folded(text, columns - 11)
    return [f"{name + ':' if n == 0 else '':<11}{row}" for n, row in enumerate(rows)]


def _rows(shape: Shape[T], things: Sequence[T], columns: int | None) -> str:
    """A table, two columns further in."""
    within = None if columns is None else columns - 2
    return table(shape.titles, [shape.row(thing) for thing in things], within) if things else ""


def _section(title: str, body: str) -> str:
    return f"{title}\n" + "\n".join(f"  {line}" for line in body.splitlines()) if body else ""


def _short(reason: str) -> str:
    first = reason.splitlines()[0] if reason else ""
    return first if len(first) <= 80 else first[:79] + "…"
