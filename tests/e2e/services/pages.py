"""What a page in a browser calls."""

from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import kaon


async def order(request: Request) -> JSONResponse:
    return JSONResponse({"ordered": await request.json(), "by": request.headers.get("x-buyer")})


class Orders(Starlette):
    """An app that describes itself, as FastAPI's do."""

    title = "Orders"

    def openapi(self) -> dict[str, object]:
        item = {"type": "object", "required": ["article"], "properties": {"article": {"type": "string"}}}
        buyer = {"name": "x-buyer", "in": "header", "schema": {"type": "string"}}
        body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Item"}}}}
        answers = {"200": {"description": "Done."}}
        operation = {"operationId": "order", "parameters": [buyer], "requestBody": body, "responses": answers}
        return {
            "openapi": "3.1.0",
            "info": {"title": "Orders", "version": "1"},
            "paths": {"/order": {"post": {"summary": "Order it", **operation}}},
            "components": {"schemas": {"Item": item}},
        }


@kaon.service(mounts={"/orders": Orders(routes=[Route("/order", order, methods=["POST"])])})
class Pages:
    """What a page calls."""

    @kaon.endpoint
    async def greet(self, name: str, head: kaon.Request, answer: kaon.Response) -> dict[str, str]:
        """Say hello."""
        answer.set_cookie("visits", "1")
        return {
            "greeting": f"hello {name}",
            "own": head.headers.get("x-own", ""),
            "cookie": head.cookies.get("visits", ""),
        }

    @kaon.endpoint(method="PUT", path="/things/{number}")
    async def refuse(self, number: int) -> None:
        raise kaon.NotFound(f"There is no thing {number}.")

    @kaon.endpoint
    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    @kaon.endpoint
    async def talk(self, socket: kaon.WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(f"{text} {socket.headers.get('sec-websocket-protocol')}")
