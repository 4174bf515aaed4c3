import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from kaon.types.deployment import DeploymentSpec, Scaling, Template, template_hash
from kaon.types.kinds import KINDS
from kaon.types.model import Address, Name, content_hash
from kaon.types.plan import Plan
from kaon.types.replica import replica_id
from kaon.types.route import prefix_of

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize("name", ["a", "a-b", "a1", "x" * 40])
def test_good_names_are_taken(name: str) -> None:
    assert TypeAdapter(Name).validate_python(name) == name


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "-a", "a-", "a_b", "a/b", "../a", "a b", "a\n", "ａ", "x" * 41, "a;rm", "$(a)", "{{a}}"]
)
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)


@pytest.mark.parametrize("address", ["unix:/run/a.sock", "127.0.0.1:80", "host.name:8080", "[::1]:80"])
def test_good_addresses_are_taken(address: str) -> None:
    assert TypeAdapter(Address).validate_python(address) == address


@pytest.mark.parametrize("address", ["", "unix:relative", "host", "http://host:1", "a b:1"])
def test_bad_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Address).validate_python(address)


def test_what_is_stored_is_frozen() -> None:
    for kind in KINDS.values():
        assert kind.spec.model_config["frozen"]
        assert kind.status.model_config["frozen"]


@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), st.text(max_size=5), max_size=4))
def test_equal_values_have_equal_hashes_in_any_order(env: dict[str, str]) -> None:
    backwards = dict(reversed(env.items()))
    one, two = Template(artifact=DIGEST, env=env), Template(artifact=DIGEST, env=backwards)
    assert template_hash(one) == template_hash(two)
    assert content_hash(one) == content_hash(Template.model_validate_json(one.model_dump_json()))


def test_a_plan_is_named_by_its_content() -> None:
    assert content_hash(Plan(cloud="a")) == content_hash(Plan(cloud="a")) != content_hash(Plan(cloud="b"))


def test_scaling_bounds_must_be_ordered() -> None:
    with pytest.raises(ValidationError, match=r"scaling.min \(3\) is above scaling.max \(2\)"):
        DeploymentSpec(template=Template(artifact=DIGEST), scaling=Scaling(min=3, max=2))


def test_paths_of_workspaces_never_meet() -> None:
    assert prefix_of("default", "a") == "/a"
    assert prefix_of("team", "a") == "/~team/a"


def test_a_deployment_made_again_has_other_replicas() -> None:
    assert replica_id("w", "uid-1", 1, 0) != replica_id("w", "uid-2", 1, 0)
