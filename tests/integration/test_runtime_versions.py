"""kaon-runtime in environments of its own: with the lowest and the newest versions that it allows, and with libraries
that a service pins. Packages come from the package index; without one these tests are skipped.

`make test-runtime-lowest` runs all of them, `make test` those that install little.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.runtime.replica_process import Process
from websockets.sync.client import unix_connect

from kaon.build.build import build
from kaon.build.environments import Environments
from kaon.build.installer import run_uv
from kaon.build.runtime_wheel import REQUIRES, write
from kaon.errors import BuildError

ALL = bool(os.environ.get("KAON_CHAOS"))
large = pytest.mark.skipif(not ALL, reason="installs much: run `make test-runtime-lowest`")

SERVICE = """
from __future__ import annotations
from collections.abc import AsyncIterator
from typing import Annotated
import kaon
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

class Item(BaseModel):
    item_id: Annotated[int, Field(alias="itemId", ge=1)]
    score: float | None = None

async def page(request):
    return PlainTextResponse("page")

@kaon.service(mounts={"/pages": Starlette(routes=[Route("/one", page)])})
class Work:
    def __init__(self, base: int = 10) -> None:
        self.base = base

    @kaon.endpoint
    def item(self, item: Item, times: int = 1) -> Item:
        if item.item_id == 404:
            raise kaon.NotFound("no such item")
        return Item(itemId=item.item_id * times + self.base, score=item.score)

    @kaon.endpoint(method="GET", path="/items/{number}")
    async def get(self, number: int, tags: list[str] = ()) -> dict[str, list[str]]:
        return {str(number): list(tags)}

    @kaon.endpoint(batch=kaon.Batch(size=4))
    def doubled(self, numbers: list[int]) -> list[int]:
        return [2 * number for number in numbers]

    @kaon.endpoint
    async def words(self, text: str) -> AsyncIterator[str]:
        for word in text.split():
            yield word

    @kaon.endpoint
    def size(self, picture: kaon.Image) -> int:
        return len(picture.content)

    @kaon.endpoint
    async def echo(self, socket: kaon.WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        assert (await socket.receive())["type"] == "websocket.disconnect"
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[[Path, str], Process]:
    """Starts a replica of the source of a class `Work` with an interpreter."""

    def started(python: Path, source: str) -> Process:
        return Process(tmp_path, source, {}, {}, python=python).ready()

    return started


def or_skip(call: Callable[[], Path]) -> Path:
    """What `call` returns; skips the test when it fails because no package index can be reached."""
    try:
        return call()
    except BuildError as error:
        if any(word in error.cause for word in ("Failed to fetch", "client error", "dns error", "timed out")):
            pytest.skip(f"no package index: {error.cause[:200]}")
        raise


def environment(folder: Path, resolution: str) -> Path:
    """The interpreter of an environment with kaon-runtime and what it requires in the lowest or newest versions."""
    python = folder / "environment/bin/python"
    run_uv(["venv", "--quiet", "--no-project", "--python", sys.executable, str(folder / "environment")], "no venv")
    target = ["pip", "install", "--quiet", "--python", str(python)]
    run_uv([*target, "--resolution", resolution, "--no-build", *REQUIRES], "no packages")
    run_uv([*target, "--no-deps", str(write(folder / "dist"))], "no runtime")
    return python


@pytest.mark.parametrize("resolution", ["lowest-direct", pytest.param("highest", marks=large)])
def test_every_kind_of_endpoint_works_with_the_lowest_and_newest_requirements(
    resolution: str, tmp_path: Path, start: Callable[[Path, str], Process]
) -> None:
    replica = start(or_skip(lambda: environment(tmp_path, resolution)), SERVICE)
    client = replica.client
    assert client.post("/item", json={"item": {"itemId": 2, "score": 0.5}, "times": 3}).json() == {
        "itemId": 16,
        "score": 0.5,
    }
    refused = client.post("/item", json={"item": {"itemId": 0}, "surplus": 1})
    assert refused.status_code == 400
    assert {problem["where"] for problem in refused.json()["errors"]} == {"body.item.itemId", "body.surplus"}
    assert client.post("/item", content=b'{"item": {"itemId": 1, "score": NaN}}').status_code == 400
    assert client.post("/item", json={"item": {"itemId": 404}}).status_code == 404
    assert client.get("/items/7?tags=a&tags=b").json() == {"7": ["a", "b"]}
    assert client.post("/doubled", json={"numbers": [4, 5]}).json() == [8, 10]
    stream = client.post("/words", json={"text": "to be"}, headers={"accept": "text/event-stream"})
    assert [line for line in stream.text.splitlines() if line.startswith("data:")] == ['data: "to"', 'data: "be"']
    assert client.post("/size", files={"picture": ("a.png", b"12345", "image/png")}).json() == 5
    assert client.get("/pages/one").text == "page"
    with unix_connect(str(tmp_path / "s"), "ws://replica/echo") as socket:
        socket.send("hello")
        assert socket.recv() == "hello"
    document = client.get("/openapi.json").json()
    assert document["components"]["schemas"]["Item"]["properties"].keys() == {"itemId", "score"}
    replica.popen.terminate()
    assert replica.end()[0] == 0


TESTED_WITH = "pytest pytest-asyncio pytest-timeout pytest-xdist hypothesis numpy psutil flask django fastapi"
ROOT = Path(__file__).parents[2]


@large
@pytest.mark.timeout(3600)
def test_the_unit_tests_of_runtime_and_sdk_pass_with_the_lowest_requirements(tmp_path: Path) -> None:
    """Those that need a newer version say so (`tests/versions.py`); the client `openai` needs newer ones itself."""
    python = or_skip(lambda: environment(tmp_path, "lowest-direct"))
    target = ["--quiet", "--python", str(python)]
    lowest = tmp_path / "lowest.txt"
    lowest.write_text(run_uv(["pip", "freeze", *target, "--exclude", "kaon-runtime"], "no list"))
    libraries = [*TESTED_WITH.split(), "openapi-spec-validator"]
    run_uv(["pip", "install", *target, "--constraints", str(lowest), *libraries], "no packages")
    folders = ["tests/unit/runtime", "tests/unit/sdk", "--ignore", "tests/unit/runtime/test_openai.py"]
    done = subprocess.run(
        [python, "-m", "pytest", "-n", "2", "--dist", "loadfile", *folders],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]


PINNED = """
import kaon, numpy, fastapi, pydantic

app = fastapi.FastAPI()

@app.get("/version")
def version() -> str:
    return fastapi.__version__

@kaon.service(mounts={"/app": app})
class Work:
    @kaon.endpoint
    def versions(self, values: list[float]) -> dict[str, str]:
        return {"numpy": numpy.__version__, "pydantic": pydantic.VERSION, "sum": str(numpy.sum(values))}
"""
FLASK = """
import kaon
from flask import Flask
from sqlalchemy import create_engine, text
from starlette.middleware.wsgi import WSGIMiddleware

app, engine = Flask("work"), create_engine("sqlite://")

@app.get("/sum")
def sum_of() -> str:
    with engine.connect() as connection:
        return str(connection.execute(text("SELECT 1 + 2")).scalar_one())

@kaon.service(mounts={"/flask": WSGIMiddleware(app)})
class Work:
    @kaon.endpoint
    def one(self) -> int:
        return 1
"""
SKLEARN = """
import joblib, kaon
from pathlib import Path

@kaon.service
class Work:
    def __init__(self) -> None:
        self.model = joblib.load(Path(__file__).parent / "model.joblib")

    @kaon.endpoint
    def predict(self, x: float) -> float:
        return round(float(self.model.predict([[x]])[0]), 6)
"""
TRAIN = """
import joblib, sys
from sklearn.linear_model import LinearRegression
joblib.dump(LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0]), sys.argv[1])
"""


def built(folder: Path, source: str, requirements: str, **other: object) -> Path:
    """The interpreter of a project's environment, after the project was built with it."""
    project = folder / "project"
    project.mkdir(exist_ok=True)
    (project / "work.py").write_text(source)
    (project / "requirements.txt").write_text(requirements)
    environments = folder / "environments"
    build("work.py:Work", folder=project, environments=environments, out=folder / "out", **other)  # type: ignore[arg-type]
    python = Environments(environments).find((project / "requirements.lock").read_text())
    assert python is not None
    return python


def test_a_service_may_pin_old_versions_of_pydantic_fastapi_and_numpy(
    tmp_path: Path, start: Callable[[Path, str], Process]
) -> None:
    python = or_skip(lambda: built(tmp_path, PINNED, "pydantic==2.5.*\nfastapi==0.110.*\nnumpy==1.26.*\n"))
    client = start(python, PINNED).client
    versions = client.post("/versions", json={"values": [1, 2]}).json()
    assert versions["numpy"].startswith("1.26.")
    assert versions["pydantic"].startswith("2.5.")
    assert versions["sum"] == "3.0"
    assert client.get("/app/version").json().startswith("0.110.")


@large
def test_a_service_may_use_flask_and_sqlalchemy(tmp_path: Path, start: Callable[[Path, str], Process]) -> None:
    python = or_skip(lambda: built(tmp_path, FLASK, "flask\nsqlalchemy<2\n"))
    assert start(python, FLASK).client.get("/flask/sum").text == "3"


@large
def test_a_service_may_load_a_scikit_learn_model_from_a_joblib_file(
    tmp_path: Path, start: Callable[[Path, str], Process]
) -> None:
    without_model = "import kaon\n@kaon.service\nclass Work:\n    @kaon.endpoint\n    def one(self) -> int: return 1\n"
    python = or_skip(lambda: built(tmp_path, without_model, "scikit-learn\n"))
    model = tmp_path / "project/model.joblib"
    subprocess.run([python, "-c", TRAIN, str(model)], check=True)
    with pytest.raises(BuildError, match="pickle"):
        built(tmp_path, SKLEARN, "scikit-learn\n")
    assert built(tmp_path, SKLEARN, "scikit-learn\n", allow=["pickle"]) == python
    (tmp_path / "code").mkdir()
    (tmp_path / "code/model.joblib").write_bytes(model.read_bytes())
    assert json.loads(start(python, SKLEARN).client.post("/predict", json={"x": 2.0}).text) == 5.0
