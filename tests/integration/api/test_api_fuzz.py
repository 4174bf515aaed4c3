"""S10: whatever is sent that the OpenAPI document describes, or nearly, nothing answers 5xx or leaks.

A small fuzzer over the committed document: for every operation it draws values for parameters and bodies
from their schemas, then spoils some of them.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.figures import examples

from kaon.store import open_store
from kaon.types.key import Role

from .test_api_security import PUSH, RUNNING, jobs_of, plan_spare, push_spare
from .world import DIGEST, REPLICA, World, populate, world_of

DOCUMENT = json.loads((Path(__file__).parents[3] / "docs/reference/openapi.json").read_text(encoding="utf-8"))
OPERATIONS = sorted(
    (method.upper(), path, json.dumps(operation))
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
)
KNOWN = ["default", "web", "other", "token", "local", DIGEST, REPLICA, "0" * 32, "root", "identity-web"]
THERE = {"ws": "default", "deployment": "web", "cloud": "local", "manifest": PUSH, "digest": DIGEST}
AGENT_S = [operation for operation in OPERATIONS if "/clouds/{cloud}/" in operation[1]]
CASES = examples(200)


def anything() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
    )


def of_schema(schema: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    """Values that fit the schema, more or less."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return of_schema(DOCUMENT["components"]["schemas"][name], depth + 1)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return st.one_of([of_schema(s, depth + 1) for s in schema[several]])
    match schema.get("type"):
        case "object" if depth < 6:
            return _object(schema, depth)
        case "array" if depth < 6:
            return st.lists(of_schema(schema.get("items", {}), depth + 1), max_size=3)
        case "integer":
            return st.integers(schema.get("minimum"), schema.get("maximum")) | st.integers()
        case "number":
            return st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0, 1e308, -1, 0.5])
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case "string":
            matching = [st.from_regex(schema["pattern"], fullmatch=True)] if "pattern" in schema else []
            return st.one_of(st.sampled_from(KNOWN), st.text(max_size=40), *matching)
        case _:
            return anything()


def _object(schema: dict[str, Any], depth: int) -> st.SearchStrategy[dict[str, Any]]:
    properties = {name: of_schema(s, depth + 1) for name, s in schema.get("properties", {}).items()}
    required = {n: s for n, s in properties.items() if n in schema.get("required", ())}
    optional = {n: s for n, s in properties.items() if n not in required}
    fixed = st.fixed_dictionaries(required, optional=optional)
    extra = schema.get("additionalProperties")
    if not isinstance(extra, dict):
        return fixed
    names = st.sampled_from(["A", "TOKEN", "KAON_KEY", "x y"])
    more = st.dictionaries(names, of_schema(extra, depth + 1), max_size=2)
    return st.builds(lambda a, b: a | b, fixed, more)


@st.composite
def requests(draw: st.DrawFn, role: Role) -> dict[str, Any]:
    """One request to one operation: any, and an agent's three times as often to one that is made for it."""
    more = AGENT_S * (3 * len(OPERATIONS) // len(AGENT_S)) if role is Role.AGENT else []
    method, path, text = draw(st.sampled_from([*OPERATIONS, *more]))
    operation = json.loads(text)
    params: dict[str, str] = {}
    headers: dict[str, str] = {}
    for parameter in operation.get("parameters", ()):
        schema = parameter["schema"]
        if parameter["in"] == "path":
            ids = {"id": RUNNING if "/attempts/" in path else REPLICA}
            there = [st.just((THERE | ids).get(parameter["name"], "default")) for _ in range(3)]
            value = draw(st.one_of(*there, st.sampled_from(KNOWN), of_schema(schema)))
            path = path.replace("{" + parameter["name"] + "}", quote(str(value), safe="", errors="replace") or "x")
        elif draw(st.booleans()):
            value = str(draw(of_schema(schema) | anything()))
            if parameter["in"] == "query":
                params[parameter["name"]] = value.encode(errors="replace").decode()
            else:
                headers[parameter["name"]] = "".join(c for c in value if " " <= c <= "~")
    if "wait_s" in path or any(p["name"] == "wait_s" for p in operation.get("parameters", ())):
        params["wait_s"] = draw(st.sampled_from(["0", "0.01", "-1", "nan", "inf", "x"]))
    for endless in ("follow", "watch"):
        params.pop(endless, None)
    content = draw(_bodies(operation))
    return {"method": method, "path": path, "params": params, "headers": headers, "content": content}


def _bodies(operation: dict[str, Any]) -> st.SearchStrategy[bytes]:
    described = operation.get("requestBody", {}).get("content", {})
    schema = described.get("application/json", {}).get("schema")
    if schema is None:
        return st.binary(max_size=200)
    fitting = of_schema(schema).map(lambda value: json.dumps(value).encode())
    odd = anything().map(lambda value: json.dumps(value).encode())
    return st.one_of(fitting, fitting, fitting, odd, st.binary(max_size=100))


@pytest.fixture(scope="module")
def loop() -> Any:
    with asyncio.Runner() as runner:
        yield runner


async def with_data(world: World) -> None:
    """A running job, and a dataset that a planned replica has."""
    await jobs_of(world)
    async with world.client(world.keys["root"]) as root:
        await push_spare(root)
    await plan_spare(world)


@pytest.mark.parametrize("role", [Role.ADMIN, Role.AGENT])
def test_nothing_that_is_sent_is_a_5xx(loop: asyncio.Runner, role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaon.api.broker.PICKUP_S", 0.01)
    monkeypatch.setattr("kaon.api.keyring.STORE_PATIENCE_S", 30.0)  # a busy machine is no store that is away
    statuses: Counter[int] = Counter()
    exits: Any = None

    async def begin() -> Any:
        nonlocal exits
        home = Path(tempfile.mkdtemp())
        exits = world_of(home, open_store(f"sqlite:///{home / 'kaon.db'}"))
        world = await exits.__aenter__()
        await populate(world)
        await with_data(world)
        scope = {"cloud": "local"} if role is Role.AGENT else {}
        return world, await world.key("fuzz", role, **scope)

    world, key = loop.run(begin())

    async def send(request: dict[str, Any]) -> None:
        headers = {"content-type": "application/json", **request["headers"]}
        async with world.client(key) as client:
            answer = await client.request(
                request["method"],
                f"http://localhost{request['path']}",
                params=request["params"],
                headers=headers,
                content=request["content"],
            )
        statuses[answer.status_code] += 1
        is_away = answer.status_code == 503 and request["path"].endswith("/logs")  # no agent runs here
        assert answer.status_code < 500 or is_away, answer.text
        assert "Traceback" not in answer.text
        if answer.status_code >= 400:
            assert answer.json()["request_id"]

    @settings(max_examples=CASES, derandomize=True, deadline=None)
    @given(requests(role))
    def fuzz(request: dict[str, Any]) -> None:
        loop.run(send(request))

    try:
        fuzz()
    finally:
        loop.run(exits.__aexit__(None, None, None))
    assert statuses.total() >= CASES
    assert sum(n for status, n in statuses.items() if status < 400) >= 10, statuses
