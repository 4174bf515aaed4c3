"""A service that shows where and how it runs, to compare places in which it does."""

import asyncio
import contextvars
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import kaon

TONE: contextvars.ContextVar[str] = contextvars.ContextVar("tone", default="none")
TONE.set("of the module")


async def links(request: Request) -> JSONResponse:
    """What a mounted app meets."""
    scope = request.scope
    return JSONResponse(
        {
            "path": scope["path"].removeprefix(scope["root_path"]),
            "below": scope["root_path"].removesuffix("/ui") + "/ui" == scope["root_path"],
            "link": str(request.url_for("links")) == str(request.url),
        }
    )


@kaon.service(mounts={"/ui": Starlette(routes=[Route("/links", links)])})
class Alike:
    """Answers in every possible way."""

    @kaon.endpoint
    def echo(self, text: str, tone: Literal["high", "low"] = "low") -> str:
        return text

    @kaon.endpoint(method="GET", path="/items/{number}")
    async def item(self, number: int) -> int:
        return number

    @kaon.endpoint(max_body_bytes=100)
    def small(self, text: str) -> str:
        return text

    @kaon.endpoint
    def refuses(self) -> str:
        raise kaon.KaonError("There is no such thing.", hint="Try another.")

    @kaon.endpoint
    def breaks(self) -> str:
        raise RuntimeError("the password is hunter2")

    @kaon.endpoint(timeout_s=0.1)
    async def late(self) -> str:
        await asyncio.sleep(60)
        return "late"

    @kaon.endpoint(method="GET")
    async def ticks(self) -> AsyncIterator[int]:
        for number in range(3):
            yield number

    @kaon.endpoint(method="GET")
    def where(self) -> dict[str, str | bool]:
        code = Path(__file__).parent
        return {
            "cwd is the code's": Path.cwd().resolve() == code.resolve(),
            "may write to its data": os.access(kaon.data_dir(), os.W_OK),
            "tone": TONE.get(),
        }
