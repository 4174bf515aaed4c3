"""What a page in a browser calls."""

from collections.abc import AsyncIterator

import kaon


@kaon.service
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
