"""`/health`, `/whoami`, `/openapi.json`: about the API and about the key that asks."""

from __future__ import annotations

from fastapi.responses import JSONResponse
from starlette.requests import Request

from kaon.api.doors import Doors
from kaon.api.gate import Open
from kaon.api.parts import WithCaller
from kaon.api.views import Health, Whoami
from kaon.version import __version__

doors = Doors("", tag="platform")


@doors.get("/health", right=Open.TO_ALL)
async def health() -> Health:
    """Whether the API runs."""
    return Health(version=__version__)


@doors.get("/whoami", right=Open.TO_KEYS)
async def whoami(caller: WithCaller) -> Whoami:
    """What the key that asks may do."""
    held = caller.standing
    return Whoami(
        key=caller.name,
        role=caller.role,
        workspace=held.workspace,
        deployments=None if held.deployments is None else sorted(held.deployments),
        cloud=held.cloud,
        expires_at=held.expires_at,
    )


@doors.get("/openapi.json", right=Open.TO_KEYS, include_in_schema=False)
async def openapi(request: Request) -> JSONResponse:
    """This API as an OpenAPI document."""
    return JSONResponse(request.app.openapi())
