"""What answers under `kaon dev` answers alike when it is deployed, and what runs in one's own process as well.

They differ in what the edge adds: keys, HTTP/2, and the marks of a connection of its own.
"""

from __future__ import annotations

import importlib.util
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from tests.waiting import eventually

import kaon
from kaon.errors import InvalidInput

from .world import BIN, SERVICES, World, world

pytestmark = pytest.mark.timeout(600)

JSON = {"content-type": "application/json"}
CASES: dict[str, tuple[int, str, str, dict[str, Any]]] = {
    "a call": (200, "POST", "/echo", {"json": {"text": "a"}}),
    "a path": (200, "GET", "/items/3", {}),
    "a slash at the end": (200, "GET", "/items/3/", {}),
    "an unknown query parameter": (200, "GET", "/items/3?more=1", {}),
    "where it runs": (200, "GET", "/where", {}),
    "a stream": (200, "GET", "/ticks", {}),
    "the head": (200, "HEAD", "/items/3", {}),
    "the head of a stream": (200, "HEAD", "/ticks", {}),
    "the head of nothing": (404, "HEAD", "/nothing", {}),
    "the allowed methods": (200, "OPTIONS", "/echo", {}),
    "a page": (200, "GET", "/docs", {}),
    "a mounted app": (200, "GET", "/ui/links", {}),
    "nothing in a mounted app": (404, "GET", "/ui/nothing", {}),
    "another method in a mounted app": (405, "POST", "/ui/links", {}),
    "a path of another type": (400, "GET", "/items/x", {}),
    "an escaped slash": (400, "GET", "/items/a%2Fb", {}),
    "bytes that are no UTF-8": (400, "GET", "/items/%ff", {}),
    "nothing": (404, "GET", "/nothing", {}),
    "nothing at the root": (404, "GET", "/", {}),
    "another method": (405, "GET", "/echo", {}),
    "another method of a path": (405, "DELETE", "/items/3", {}),
    "a value of another type": (400, "POST", "/echo", {"json": {"text": 1}}),
    "a value that is missing": (400, "POST", "/echo", {"json": {}}),
    "a value outside an enum": (400, "POST", "/echo", {"json": {"text": "a", "tone": "x"}}),
    "invalid JSON": (400, "POST", "/echo", {"content": b"{", "headers": JSON}),
    "another media type": (415, "POST", "/echo", {"content": b"a", "headers": {"content-type": "text/csv"}}),
    "another content encoding": (415, "POST", "/echo", {"content": b"x", "headers": JSON | {"content-encoding": "br"}}),
    "more than the endpoint takes": (413, "POST", "/small", {"json": {"text": "x" * 200}}),
    "more than any endpoint takes": (413, "POST", "/echo", {"content": bytes(65 * 2**20), "headers": JSON}),
    "a refusal": (500, "POST", "/refuses", {"json": {}}),
    "a failure": (500, "POST", "/breaks", {"json": {}}),
    "too late": (504, "POST", "/late", {"json": {}}),
}
OF_A_CONNECTION = {"connection", "transfer-encoding", "content-length", "date", "x-request-id"}


@dataclass
class Places:
    """The same class under `kaon dev`, and deployed behind the edge."""

    dev: httpx2.Client
    deployed: httpx2.Client


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    with world(tmp_path_factory.mktemp("alike") / "home", port()) as platform, under_dev(platform) as dev:
        platform.kaon("deploy", "alike.py:Alike")
        eventually(lambda: dev.get("/items/3").status_code == 200, "kaon dev answers")
        with httpx2.Client(base_url=f"{platform.url}/alike", headers=platform.bearer, timeout=60) as deployed:
            yield Places(dev, deployed)


class under_dev:
    """A client of `kaon dev` while the block runs."""

    def __init__(self, platform: World) -> None:
        at = port()
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{at}", timeout=60)
        self.process = subprocess.Popen(
            [BIN / "kaon", "dev", "alike.py:Alike", "--port", str(at), "--no-reload"],
            cwd=SERVICES,
            env=platform.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> httpx2.Client:
        return self.client

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def shown(client: httpx2.Client, method: str, path: str, options: dict[str, Any]) -> dict[str, Any]:
    """An answer without what belongs to its connection, its moment and its place."""
    answer = client.request(method, path, **options)
    text = answer.text.replace(str(client.base_url).rstrip("/"), "")
    text = re.sub(r'within [0-9.]+ s|"request_id": ?"[^"]+"', "", text)
    headers = {name: value for name, value in answer.headers.items() if name not in OF_A_CONNECTION}
    if "x-kaon-description" in headers:
        headers["x-kaon-description"] = "the version of a document that has the place's URL"
    if "allow" in headers:
        headers["allow"] = ", ".join(sorted(headers["allow"].split(", ")))
    return {"status": answer.status_code, "version": answer.http_version, "body": text} | headers


@pytest.mark.parametrize("case", CASES)
def test_dev_and_deployed_answer_alike(places: Places, case: str) -> None:
    status, method, path, options = CASES[case]
    dev, deployed = (shown(client, method, path, options) for client in (places.dev, places.deployed))
    assert dev == deployed
    assert dev["status"] == status


def test_over_http_2_the_edge_answers_as_over_http_1(places: Places) -> None:
    with httpx2.Client(
        base_url=places.deployed.base_url, headers=places.deployed.headers, http1=False, http2=True, timeout=60
    ) as client:
        for case in ("a call", "where it runs", "a mounted app", "nothing", "another method"):
            _, method, path, options = CASES[case]
            over_2, over_1 = (shown(one, method, path, options) for one in (client, places.deployed))
            assert over_2.pop("version") == "HTTP/2"
            assert over_1.pop("version") == "HTTP/1.1"
            assert over_2 == over_1


def test_in_ones_own_process_contexts_and_errors_are_those_of_the_deployed(places: Places) -> None:
    spec = importlib.util.spec_from_file_location("alike", SERVICES / "alike.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    here = kaon.use(module.Alike)
    assert here.where()["tone"] == places.deployed.get("/where").json()["tone"] == "of the module"
    assert here.echo(text="a") == places.deployed.post("/echo", json={"text": "a"}).json()
    with pytest.raises(InvalidInput) as invalid:
        here.echo(text=1)
    assert invalid.value.code == places.deployed.post("/echo", json={"text": 1}).json()["code"]
    with pytest.raises(kaon.KaonError, match="There is no such thing") as refused:
        here.refuses()
    assert refused.value.hint == places.deployed.post("/refuses", json={}).json()["hint"]
