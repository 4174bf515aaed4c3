"""`/stats` of a deployment: windows and a series for charts, from the ring and, beyond half an hour, the store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import Query

from kaon.api.context import ApiContext, DeploymentParam, WithContext, WorkspaceParam
from kaon.api.deployment_edit import deployment_of
from kaon.api.router import AuthorizedRouter
from kaon.laws.traffic import MINUTE_S, price, series, window
from kaon.store.traffic import RING_S, SECONDS_S, STEP_S
from kaon.types.key import Right
from kaon.types.resource import Deployment
from kaon.types.service import ServiceSpec
from kaon.types.traffic import Sample
from kaon.types.window import RevisionStats, Stats

WINDOWS_S = (12.0, 60.0, RING_S)
WEEK_S = 7 * 86_400.0
_PRICED_S = 3600.0
_POINTS = 1500

router = AuthorizedRouter("/workspaces/{ws}/deployments", tag="deployments")
SpanParam = Annotated[
    float, Query(gt=0, le=WEEK_S, allow_inf_nan=False, description="How far back the series goes, s.")
]


@router.get("/{deployment}/stats", right=Right.READ)
async def get_stats(
    ws: WorkspaceParam, name: DeploymentParam, context: WithContext, span_s: SpanParam = SECONDS_S
) -> Stats:
    """Statistics of the last 12 s, 60 s and 30 min, in total and by revision; and a series over the last `span_s`.

    The series has steps of one second within two minutes, of ten seconds within half an hour, else of minutes.
    """
    deployment = await deployment_of(context, ws, name)
    service = _service(context, deployment)
    now = context.clock.now()
    minutes = await context.store.traffic(ws, name, now - max(_PRICED_S, span_s if span_s > RING_S else 0.0))
    recent = context.traffic.since(ws, name, max(now - RING_S, deployment.created_at))
    return await asyncio.to_thread(_stats, deployment, service, now, span_s, recent, minutes)


def _stats(
    deployment: Deployment,
    service: ServiceSpec,
    now: float,
    span_s: float,
    recent: Sequence[Sample],
    minutes: Sequence[Sample],
) -> Stats:
    shadow, objective = deployment.status.rollout.shadow, deployment.spec.objective or service.objective
    minutes = [m for m in minutes if m.revision != shadow and m.at_s > deployment.created_at]
    calls = [sample for sample in recent if sample.revision != shadow]
    worth = price([m for m in minutes if m.at_s > now - _PRICED_S], objective)
    revisions = sorted({sample.revision for sample in recent})
    step_s = _step_s(span_s)
    return Stats(
        workspace=deployment.workspace,
        deployment=deployment.name,
        now_s=now,
        objective=objective,
        memory_limit_bytes=(deployment.spec.template.resources or service.resources).memory_bytes,
        windows=tuple(window(calls, now, long_s, objective, worth) for long_s in WINDOWS_S),
        revisions=tuple(
            RevisionStats(
                revision=revision,
                shadow=revision == shadow,
                windows=tuple(
                    window([s for s in recent if s.revision == revision], now, long_s, objective, worth)
                    for long_s in WINDOWS_S
                ),
            )
            for revision in revisions
        ),
        step_s=step_s,
        series=series(calls if span_s <= RING_S else minutes, now, span_s, step_s, objective),
    )


def _step_s(span_s: float) -> float:
    """Seconds, ten seconds, or as many minutes as make a chart of bounded size."""
    if span_s <= SECONDS_S:
        return 1.0
    if span_s <= RING_S:
        return STEP_S
    return MINUTE_S * max(1, -(-span_s // (MINUTE_S * _POINTS)))


def _service(context: ApiContext, deployment: Deployment) -> ServiceSpec:
    """The service of its artifact; an unknown one when that was deleted."""
    artifact = context.snapshot.find("artifact", deployment.workspace, deployment.spec.template.artifact)
    return ServiceSpec(name="unknown", entry="unknown:Unknown") if artifact is None else artifact.spec.manifest.service
