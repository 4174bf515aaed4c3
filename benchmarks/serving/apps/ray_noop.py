"""The same on Ray Serve in its fast mode: no FastAPI ingress, the throughput-optimised settings."""

import sys
import time

import ray
from pydantic import BaseModel, TypeAdapter
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


class Item(BaseModel):
    text: str
    n: int = 1


item = TypeAdapter(Item)


@serve.deployment(max_ongoing_requests=1000)
class Noop:
    async def __call__(self, request: Request) -> Response:
        answer = item.dump_json(item.validate_json(await request.body()))
        return Response(answer, media_type="application/json")


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config={"enable_access_log": False}
    )
    serve.run(Noop.bind(), route_prefix="/noop")
    while True:
        time.sleep(60)
