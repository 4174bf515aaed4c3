"""Routes and endpoints become a table; what makes no sense is left out and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from kaon.edge import files, resources
from kaon.edge.layout import Layout
from kaon.edge.table import RULES, RouteTable, build, differing, mixed
from kaon.types.route import Backend, ReplicaEndpoint, Route


def route(**fields: Any) -> Route:
    given = {
        "workspace": "default",
        "deployment": "shop",
        "prefix": "/shop",
        "backends": (Backend(revision=1, weight=100),),
    }
    return Route.model_construct(**(Route.model_construct().__dict__ | given | fields))


def endpoint(name: str = "a", revision: int = 1, **fields: Any) -> ReplicaEndpoint:
    return ReplicaEndpoint.model_construct(
        **({"replica": name, "revision": revision, "address": f"unix:/r/{name}", "control_address": None} | fields)
    )


KEY = ("default", "shop")


def test_a_route_becomes_a_rule_and_a_revision_a_cluster() -> None:
    table = build([route()], {KEY: [endpoint()]})
    assert table.rules[0].weights == (("default~shop~1", 100),)
    assert table.clusters == {"default~shop~1": (endpoint(),)}
    assert table.refused == ()


def test_a_revision_without_replicas_gets_no_traffic_while_another_has_some() -> None:
    both = (Backend(revision=1, weight=90), Backend(revision=2, weight=10))
    assert build([route(backends=both)], {KEY: [endpoint()]}).rules[0].weights == (("default~shop~1", 90),)
    assert len(build([route(backends=both)], {}).rules[0].weights) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"prefix": "/api"},
        {"prefix": "/console/x"},
        {"prefix": "/shop/"},
        {"prefix": "//"},
        {"prefix": "shop"},
        {"prefix": None},
        {"timeout_s": float("inf")},
        {"timeout_s": float("nan")},
        {"timeout_s": -1},
        {"hedges": {"no-slash": 0.1}},
        {"hedges": {"/a": 0.0}},
        {"hedges": {"/a": 1e-9}},
        {"hedges": {"/a": float("inf")}},
        {"hedges": {"/a": "soon"}},
        {"stream_paths": ("no-slash",)},
        {"stream_paths": ("/a\nb",)},
        {"stream_paths": ("/a?b",)},
        {"retry_paths": ("/" + "x" * 2000,)},
        {"backends": (Backend(revision=1, weight=1), Backend(revision=1, weight=2))},
        {"backends": (Backend(revision=0, weight=1),)},
        {"backends": (Backend(revision=10**30, weight=1),)},
        {"workspace": "../etc"},
        {"deployment": "a/b"},
        {"backends": "x"},
    ],
)
def test_a_route_that_makes_no_sense_is_left_out_and_the_others_serve(fields: dict[str, Any]) -> None:
    good = route(deployment="good", prefix="/good")
    table = build([route(**fields), good], {})
    assert [rule.prefix for rule in table.rules] == ["/good"]
    assert len(table.refused) == 1


def test_a_route_that_was_good_keeps_its_last_form() -> None:
    last = build([route(timeout_s=7)], {})
    table = build([route(timeout_s=-1)], {}, last)
    assert table.rules == last.rules
    assert table.refused


def test_two_deployments_cannot_have_one_prefix() -> None:
    table = build([route(), route(deployment="other")], {})
    assert [rule.key for rule in table.rules] == [KEY]
    assert table.refused[0].key[1] == "other"


@pytest.mark.parametrize(
    "address",
    [
        "unix:" + "/x" * 80,
        "localhost:80",
        "1.2.3.4:0",
        "1.2.3.4:99999",
        "unix:/a\x00b",
        "unix:relative",
        "",
        "evil",
        None,
    ],
)
def test_an_address_that_cannot_be_reached_is_left_out(address: Any) -> None:
    table = build([route()], {KEY: [endpoint(), endpoint("bad", address=address)]})
    assert table.clusters == {"default~shop~1": (endpoint(),)}
    assert len(table.refused) == 1


@pytest.mark.parametrize("address", ["10.0.0.1:80", "[::1]:8080", "unix:/r/a.sock"])
def test_addresses_are_read_back_as_they_were_written(address: str) -> None:
    both = (endpoint(address=address, control_address=address), endpoint("b"))
    document = resources.endpoints("default~shop~1", both, [endpoint("c")])
    stay, leave = resources.members(document, 1)
    assert [e.address for e in stay] == [address, "unix:/r/b"]
    assert stay[0].control_address == address
    assert [e.address for e in leave] == ["unix:/r/c"]


def test_everyday_changes_touch_endpoint_files_only(tmp_path: Any) -> None:
    layout = Layout(tmp_path, tmp_path / "admin", tmp_path / "lock")
    one = build([route()], {KEY: [endpoint()]})
    two = build([route()], {KEY: [endpoint(), endpoint("b")]})
    assert resources.clusters(one, layout) == resources.clusters(two, layout)
    assert resources.routes(one) == resources.routes(two)


def test_a_file_is_replaced_in_one_move_and_left_alone_when_equal(tmp_path: Any) -> None:
    path = tmp_path / "new" / "x.json"
    assert files.put(path, {"a": 1})
    inode = path.stat().st_ino
    assert not files.put(path, {"a": 1})
    assert path.stat().st_ino == inode
    assert files.put(path, {"a": 2})
    assert path.stat().st_ino != inode
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


# Whatever comes in, nothing is raised, and what comes out is what Envoy's own checks want.

anything = st.one_of(
    st.none(), st.integers(), st.floats(), st.text(max_size=30), st.lists(st.text(max_size=5), max_size=3)
)
texts = st.text(max_size=40)
garbage_routes = st.builds(
    lambda **fields: Route.model_construct(**fields),
    workspace=st.one_of(st.just("default"), texts, anything),
    deployment=st.one_of(st.sampled_from(["a", "b"]), texts, anything),
    prefix=st.one_of(st.sampled_from(["/a", "/b", "/a/b"]), texts, anything),
    backends=st.one_of(
        st.just(()),
        st.lists(st.builds(Backend.model_construct, revision=st.integers(), weight=st.integers()), max_size=3),
        anything,
    ),
    retry_paths=st.one_of(st.just(()), st.lists(texts, max_size=3), anything),
    stream_paths=st.one_of(st.just(()), st.lists(st.builds(lambda t: "/" + t, texts), max_size=3), anything),
    timeout_s=st.one_of(st.floats(), anything),
)
garbage_endpoints = st.builds(
    lambda **fields: ReplicaEndpoint.model_construct(**fields),
    replica=anything,
    revision=st.one_of(st.integers(), anything),
    address=st.one_of(
        texts, st.builds(lambda t: f"unix:/{t}", texts), st.builds(lambda n: f"1.1.1.1:{n}", st.integers())
    ),
    control_address=st.one_of(st.none(), texts),
)


@given(st.lists(garbage_routes, max_size=4), st.lists(garbage_endpoints, max_size=4))
def test_garbage_never_raises_and_never_touches_the_good(routes: list[Route], endpoints: list[ReplicaEndpoint]) -> None:
    good, replica = route(deployment="good", prefix="/good"), endpoint()
    last = build([good], {("default", "good"): [replica]})
    table = build([good, *routes], {("default", "good"): [replica], KEY: endpoints}, last)
    assert last.rules[0] in table.rules
    assert table.clusters["default~good~1"] == (replica,)
    assert_sound(table)


def assert_sound(table: RouteTable) -> None:
    """What Envoy's own checks require of a configuration, as far as a test without Envoy can check."""
    for rule in table.rules:
        assert rule.prefix.startswith("/")
        assert not rule.prefix.endswith("/")
        assert {name for name, _ in rule.weights} <= set(table.clusters)
        assert all(weight > 0 for _, weight in rule.weights)
        assert 0 < rule.timeout_s <= 86400
    for name in table.clusters:
        assert "/" not in name
        assert len(name) < 200
    layout = Layout(Path("/x"), Path("/x/admin.sock"), Path("/x/lock"))
    for document in (resources.routes(table), resources.clusters(table, layout)):
        json.loads(json.dumps(document, allow_nan=False))


def test_models_are_what_the_edge_thinks_they_are() -> None:
    """The table checks copies made around the validators, so it must know every field."""
    assert issubclass(Route, BaseModel)
    assert set(Route.model_fields) == {
        "workspace",
        "deployment",
        "prefix",
        "backends",
        "retry_paths",
        "stream_paths",
        "timeout_s",
        "hold_s",
        "mirror",
        "hedges",
        "closed",
        "cors_origins",
        "cors_credentials",
        "cors_headers",
        "hosts",
        "sandbox",
    }


# --- parts of two tables ---

OTHER = ("default", "other")


def test_deployments_that_say_other_things_differ_and_no_others() -> None:
    before = build([route(), route(deployment="other", prefix="/other")], {KEY: [endpoint()]})
    after = build([route(timeout_s=5), route(deployment="other", prefix="/other")], {KEY: [endpoint()]})
    assert differing(before, after) == (KEY,)
    assert differing(before, before) == ()
    assert differing(before, build([route()], {KEY: [endpoint()]})) == (OTHER,)
    assert differing(before, build([route(), route(deployment="other", prefix="/other")], {})) == (KEY,)


def test_whoever_is_not_taken_keeps_its_rule_and_gets_the_replicas_of_now() -> None:
    before = build([route(timeout_s=1)], {KEY: [endpoint(address="unix:/old")]})
    after = build(
        [route(timeout_s=2), route(deployment="other", prefix="/other")], {KEY: [endpoint(address="unix:/new")]}
    )
    table = mixed(before, after, {OTHER}, replicas=False)
    assert {rule.key: rule.timeout_s for rule in table.rules} == {KEY: 1, OTHER: 60}
    assert [e.address for e in table.clusters["default~shop~1"]] == ["unix:/new"]
    kept = mixed(before, after, {OTHER}, replicas=True)
    assert [e.address for e in kept.clusters["default~shop~1"]] == ["unix:/old"]


def test_all_that_differs_taken_is_the_new_table_and_none_of_it_the_old_one() -> None:
    before = build([route(timeout_s=1)], {KEY: [endpoint()]})
    after = build([route(deployment="other", prefix="/other")], {})
    assert mixed(before, after, differing(before, after), replicas=True) == after
    assert mixed(before, after, (), replicas=True) == before


def test_rules_are_kept_on_disk_as_they_are() -> None:
    rules = build([route(hedges={"/a": 0.5}, retry_paths=("/a",), stream_paths=("/s",))], {}).rules
    assert RULES.validate_python(RULES.dump_python(rules, mode="json")) == rules
