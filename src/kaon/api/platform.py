"""`/health`, `/whoami`, `/openapi.json`: the API itself, and the key of the request."""

from __future__ import annotations

from fastapi.responses import JSONResponse
from starlette.requests import Request

from kaon.api.authorizer import Open
from kaon.api.context import WithCaller
from kaon.api.router import AuthorizedRouter
from kaon.api.views import PlatformHealth, Whoami
from kaon.version import __version__

router = AuthorizedRouter("", tag="platform")


@router.get("/health", right=Open.TO_ALL)
async def health() -> PlatformHealth:
    """Whether the API runs."""
    return PlatformHealth(version=__version__)


@router.get("/whoami", right=Open.TO_KEYS)
async def whoami(caller: WithCaller) -> Whoami:
    """The key of the request and its rights."""
    rights = caller.rights
    return Whoami(
        key=caller.name,
        role=caller.role,
        workspace=rights.workspace,
        deployments=None if rights.deployments is None else sorted(rights.deployments),
        cloud=rights.cloud,
        expires_at=rights.expires_at,
    )


@router.get("/openapi.json", right=Open.TO_KEYS, include_in_schema=False)
async def openapi(request: Request) -> JSONResponse:
    """This API as an OpenAPI document."""
    return JSONResponse(request.app.openapi())
