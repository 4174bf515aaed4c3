"""A service with an endpoint of every kind; each notes that it was reached."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

import kaon

calls: list[str] = []


def touched(name: str) -> str:
    calls.append(name)
    return "touched"


async def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse(touched("mounted page"))


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(touched("mounted socket"))
    await socket.close()


@kaon.service(mounts={"/inner": Starlette(routes=[Route("/page", page), WebSocketRoute("/talk", talk)])})
class Kinds:
    @kaon.endpoint(method="GET", path="/")
    async def root(self, user: int = 0) -> str:
        return touched("root")

    @kaon.endpoint
    async def instant(self, text: str) -> str:
        return touched("instant")

    @kaon.endpoint
    def threaded(self, text: str) -> str:
        return touched("threaded")

    @kaon.endpoint(batch=kaon.Batch(max_size=4))
    async def batched(self, texts: list[str]) -> list[str]:
        return [touched("batched") for _ in texts]

    @kaon.endpoint
    def upload(self, file: kaon.File) -> str:
        return touched("upload")

    @kaon.endpoint
    async def tokens(self, text: str) -> AsyncIterator[str]:
        yield touched("tokens")

    @kaon.endpoint
    def slow_tokens(self, text: str) -> Iterator[str]:
        yield touched("slow_tokens")

    @kaon.endpoint
    async def chat(self, socket: kaon.WebSocket) -> None:
        await socket.accept()
        await socket.send_text(touched("chat"))
        await socket.close()

    @kaon.endpoint(method="GET", path="/count")
    async def count(self) -> int:
        return len(calls)
