"""The same service on Ray Serve: `python ray_sleeper.py CONFIG.json`, which has port, settings and load_s."""

import asyncio
import json
import sys
import time
from pathlib import Path

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

A_S, B_S, MAX_BATCH = 0.04, 0.16, 8


@serve.deployment
class Sleeper:
    def __init__(self, load_s: float) -> None:
        time.sleep(load_s)

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0.01)
    async def answer(self, rows: list[int]) -> list[int]:
        await asyncio.sleep(A_S * len(rows) + B_S)
        return rows

    async def __call__(self, request: Request) -> JSONResponse:
        row = (await request.json())["rows"][0]
        return JSONResponse([await self.answer(row)])


if __name__ == "__main__":
    config = json.loads(Path(sys.argv[1]).read_text())
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
        _node_ip_address="127.0.0.1",
    )
    serve.start(http_options={"host": "127.0.0.1", "port": config["port"]}, logging_config={"enable_access_log": False})
    deployment = Sleeper.options(ray_actor_options={"num_cpus": 0.01}, **config["options"])
    serve.run(deployment.bind(config["load_s"]), route_prefix="/sleeper")
    Path(config["ready"]).touch()
    while True:
        time.sleep(60)
