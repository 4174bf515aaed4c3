"""`GET /metrics`: one scrape covers every deployment that its key may see."""

from __future__ import annotations

from fastapi import Response

from kaon.api.context import WithCaller, WithContext
from kaon.api.meters import platform_text
from kaon.api.router import AuthorizedRouter
from kaon.types.key import Right

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

router = AuthorizedRouter("", tag="platform")


@router.get("/metrics", right=Right.READ, responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
async def get_metrics(context: WithContext, caller: WithCaller) -> Response:
    """Metrics of every deployment that the key may see, for Prometheus."""
    context.meters.update()
    context.meters.reset_replaced(context.snapshot.list("deployment"))
    lines = context.meters.text(caller)
    if caller.rights.whole_platform:
        lines += platform_text(context.snapshot, context.live_status.failures)
    return Response(lines, media_type=PROMETHEUS)
