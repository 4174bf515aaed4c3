"""`GET /metrics`: one scrape sees every deployment that its key sees."""

from __future__ import annotations

from fastapi import Response

from kaon.api.context import WithCaller, WithContext
from kaon.api.meters import platform_text
from kaon.api.router import AuthorizedRouter
from kaon.types.key import Right

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

doors = AuthorizedRouter("", tag="platform")


@doors.get("/metrics", right=Right.READ, responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
async def get_metrics(parts: WithContext, caller: WithCaller) -> Response:
    """Figures of every deployment that the key sees, for Prometheus."""
    parts.meters.look()
    parts.meters.begin_anew(parts.snapshot.list("deployment"))
    lines = parts.meters.text(caller)
    if caller.standing.workspace is None and caller.standing.deployments is None:
        lines += platform_text(parts.snapshot, parts.opinions.failures)
    return Response(lines, media_type=PROMETHEUS)
