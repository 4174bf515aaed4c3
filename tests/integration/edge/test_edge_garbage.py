"""QUALITY.md R14 at the edge: odd input leaves what serves alone, and Envoy takes all that the types allow."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaon.edge import resources
from kaon.edge.layout import Layout
from kaon.edge.process import find_binary
from kaon.edge.table import build
from kaon.types.route import Backend, ReplicaEndpoint, Route

from .world import World, route

_ODD_TEXTS = ["", "/", "//", "/api", "/shop", "/a?b", "/a#b", "/\x00", "/" + "a" * 5000, "/{", "/.*", "/ü", "\ud800"]
_ODD_ADDRESSES = ["unix:/x", "unix:", "1.2.3.4:99999", "[::1]:0", "localhost:1"]
_ODD_NUMBERS = [0, -1, 10**400, float("nan"), float("inf"), -0.0, True]
_ODD_TUPLES = [("/a\r\nb",), ("/(?R)",), ("/{x}/[",), (Backend.model_construct(revision=-1, weight=10**9),)]
_ODD: list[Any] = [None, [], {}, object(), *_ODD_TEXTS, *_ODD_ADDRESSES, *_ODD_NUMBERS, *_ODD_TUPLES]


def _odd_route(rng: random.Random) -> Route:
    fields = dict(route("odd"))
    for name in rng.sample(sorted(fields), rng.randint(1, 3)):
        fields[name] = rng.choice(_ODD)
    return Route.model_construct(**fields)


def _odd_endpoint(rng: random.Random) -> ReplicaEndpoint:
    fields: dict[str, Any] = {"replica": "x", "revision": 1, "address": "unix:/nowhere", "control_address": None}
    fields[rng.choice(sorted(fields))] = rng.choice(_ODD)
    return ReplicaEndpoint.model_construct(**fields)


async def test_a_thousand_odd_routes_and_replicas_leave_the_good_one_serving(world: World) -> None:
    rng = random.Random(14)
    good, replica = route("shop"), await world.replica()
    members = {("default", "shop"): (replica.endpoint,)}
    await world.edge.apply((good,), members)
    answers: list[int] = []
    done = asyncio.Event()

    async def client() -> None:
        while not done.is_set():
            answers.append((await world.client.get("/shop")).status_code)

    task = asyncio.create_task(client())
    refused = 0
    for _ in range(1000):
        odd = {("default", "odd"): (_odd_endpoint(rng),)}
        await world.edge.apply((good, _odd_route(rng)), members | odd)
        refused += bool(world.edge.refused)
    done.set()
    await task
    assert set(answers) == {200}
    assert len(answers) > 50
    assert refused > 500
    await world.edge.apply((good,), members)
    assert (await world.edge.status()).rejected == ""


names = st.from_regex(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)
paths = st.tuples(st.text("abz.-_~!$&'()*+,;=:@%{}/09", max_size=20).map("/{}".format))
addresses = st.one_of(st.text("a/.b ", max_size=50).map("unix:/x{}".format), st.ip_addresses(v=4).map("{}:80".format))


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Route], dict[tuple[str, str], list[ReplicaEndpoint]]]:
    """Any routes and replicas that the types admit."""
    routes, endpoints = [], {}
    for _ in range(draw(st.integers(1, 4))):
        key = (draw(names), draw(names))
        revisions = draw(st.lists(st.integers(1, 10**12), max_size=3, unique=True))
        routes.append(
            Route(
                workspace=key[0],
                deployment=key[1],
                prefix=draw(st.from_regex(r"/[a-z0-9~/-]+", fullmatch=True)),
                backends=tuple(Backend(revision=r, weight=draw(st.integers(0, 100))) for r in revisions),
                retry_paths=draw(st.one_of(paths, st.just(()))),
                stream_paths=draw(st.one_of(paths, st.just(()))),
                timeout_s=draw(st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)),
            )
        )
        endpoints[key] = [
            ReplicaEndpoint(replica="r", revision=r, address=draw(addresses), control_address=draw(addresses))
            for r in revisions
        ]
    return routes, endpoints


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(st.lists(worlds(), min_size=20, max_size=20))
def test_envoy_takes_whatever_the_types_admit(drawn: list[Any]) -> None:
    """Twenty tables at once, each as a listener of its own: `--mode validate` looks at static resources only."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(Path(folder), Path("/k/admin.sock"), Path("/k/lock"))
        document = resources.bootstrap(layout, Path("/k/api.sock"))
        del document["dynamic_resources"]
        clusters = {c["name"]: c for c in document["static_resources"]["clusters"]}
        listeners = []
        for number, (routes, endpoints) in enumerate(drawn):
            table = build(routes, endpoints)
            (listener,) = resources.listeners(layout, "127.0.0.1", 10_000 + number)["resources"]
            (routing,) = resources.routes(table)["resources"]
            manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
            del listener["@type"], routing["@type"], manager["rds"]
            listener["name"] = str(number)
            manager["route_config"] = routing
            listeners.append(listener)
            for cluster in resources.clusters(table, layout)["resources"]:
                (members,) = resources.endpoints(cluster["name"], table.clusters[cluster["name"]])["resources"]
                del cluster["@type"], cluster["eds_cluster_config"], members["@type"]
                cluster |= {"type": "STATIC", "load_assignment": members}
                clusters.setdefault(cluster["name"], cluster)
        document["static_resources"] = {"listeners": listeners, "clusters": list(clusters.values())}
        file = Path(folder) / "all.json"
        file.write_text(json.dumps(document))
        argv = [find_binary(), "--mode", "validate", "-c", str(file), "-l", "error"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
