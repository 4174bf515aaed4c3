"""The same by hand on ASGI: nothing but the work. No key, no metrics, no routes beyond these."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import uvicorn
from pydantic import BaseModel, TypeAdapter


class Item(BaseModel):
    text: str
    n: int = 1


item = TypeAdapter(Item)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/noop":
        await noop(receive, send)
    else:
        await stream(send, paced=scope["path"] == "/paced")


async def noop(receive: Any, send: Any) -> None:
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            break
    answer = item.dump_json(item.validate_json(body))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def stream(send: Any, *, paced: bool) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for _ in range(200):
        if paced:
            await asyncio.sleep(0)
        token = b"data: %b\n\n" % json.dumps("token").encode()
        await send({"type": "http.response.body", "body": token, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    place = {"uds": sys.argv[1]} if "/" in sys.argv[1] else {"port": int(sys.argv[1])}
    uvicorn.run(app, **place, loop="uvloop", http="httptools", access_log=False, log_level="warning", lifespan="off")
