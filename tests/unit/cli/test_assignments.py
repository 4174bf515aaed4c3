"""What the command line says of scale and spec, before anything is asked of a platform."""

from __future__ import annotations

from typing import Any

import pytest

from kaon.cli.shared.assignments import assign, class_defaults
from kaon.cli.shared.replica_bounds import ReplicaBounds, with_bounds
from kaon.errors import InvalidInput
from kaon.types.deployment import DeploymentSpec, Floor, Scaling, Template
from kaon.types.objective import Objective
from kaon.types.service import Resources, ServiceSpec

DAY = Floor(replicas=8, start="09:00", end="18:00")
ELASTIC = Scaling(min=1, max=5, floors=(DAY,), keep_alive_s=60)
SPEC = DeploymentSpec(template=Template(artifact=f"sha256:{'0' * 64}", env={"A": "1"}))


@pytest.mark.parametrize(
    ("wishes", "changes"),
    [
        (ReplicaBounds(3), {"min": 3, "max": 3}),
        (ReplicaBounds(0), {"min": 0, "max": 0}),
        (ReplicaBounds(low=0), {"min": 0}),
        (ReplicaBounds(low=7), {"min": 7, "max": 7}),
        (ReplicaBounds(high=9), {"max": 9}),
        (ReplicaBounds(high=0), {"min": 0, "max": 0}),
        (ReplicaBounds(low=2, high=4), {"min": 2, "max": 4}),
        (ReplicaBounds(keep_alive="10m"), {"keep_alive_s": 600}),
        (ReplicaBounds(keep_alive="learnt"), {"keep_alive_s": None}),
        (ReplicaBounds(floors=["none"]), {"floors": ()}),
        (ReplicaBounds(floors=["2@22:00-06:00"]), {"floors": (Floor(replicas=2, start="22:00", end="06:00"),)}),
    ],
)
def test_what_is_not_named_of_a_scale_stays(wishes: ReplicaBounds, changes: dict[str, Any]) -> None:
    assert with_bounds(ELASTIC, wishes) == ELASTIC.model_copy(update=changes)


def test_a_deployment_that_is_off_is_switched_on_by_a_minimum_of_zero() -> None:
    assert (with_bounds(Scaling(min=0, max=0), ReplicaBounds(low=0)).max) == 1


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        (ReplicaBounds(3, low=1), "exclude each other"),
        (ReplicaBounds(low=5, high=2), "above"),
        (ReplicaBounds(keep_alive="soon"), "not a duration"),
        (ReplicaBounds(keep_alive="2d"), "less than or equal to 86400"),
        (ReplicaBounds(floors=["9-18"]), "not a floor"),
        (ReplicaBounds(floors=["3@25:00-26:00"]), "not a floor"),
    ],
)
def test_a_scale_that_makes_no_sense_is_refused(wishes: ReplicaBounds, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        with_bounds(ELASTIC, wishes)
    assert said in str([refused.value.cause, refused.value.errors])


@pytest.mark.parametrize(
    ("text", "place", "value"),
    [
        ("public=true", ["public"], True),
        ("drain_s=2m", ["drain_s"], 120.0),
        ("scaling.max=20", ["scaling", "max"], 20),
        ("scaling.keep_alive_s=none", ["scaling", "keep_alive_s"], None),
        ("rollout.canary.steps=[10, 50]", ["rollout", "canary", "steps"], (10, 50)),
        ("rollout.canary={}", ["rollout", "canary", "step_s"], 60.0),
        ("template.env.B=2", ["template", "env"], {"A": "1", "B": "2"}),
        ("template.env.URL=http://x/?a=b", ["template", "env", "URL"], "http://x/?a=b"),
        ("objective=none", ["objective"], None),
        ("template.resources.memory_bytes=512MiB", ["template", "resources", "memory_bytes"], 2**29),
        ("template.resources.memory_bytes=1.5GB", ["template", "resources", "memory_bytes"], 1_500_000_000),
        ("template.resources.memory_bytes=none", ["template", "resources", "memory_bytes"], None),
    ],
)
def test_any_field_is_set_by_its_place_and_read_by_its_type(text: str, place: list[str], value: object) -> None:
    found = assign(SPEC.model_dump(), [text])
    DeploymentSpec.model_validate(found)
    for name in place:
        found = found[name]
    assert found == value


def test_an_objective_changed_in_one_number_keeps_the_others_of_the_class() -> None:
    of_class = Objective(latency_s=1, completion=0.999)
    texts = ["objective.latency_s=0.2", "objective.deadline_s=3"]
    found = DeploymentSpec.model_validate(
        assign(SPEC.model_dump(), texts, {"objective": of_class.model_dump()})
    ).objective
    assert found == Objective(latency_s=0.2, completion=0.999, deadline_s=3)


def test_resources_changed_in_one_number_keep_the_others_of_the_class() -> None:
    of_class = ServiceSpec(name="s", entry="s:S", resources=Resources(cpus=4, gpus=1))
    text = "template.resources.memory_bytes=512MiB"
    found = DeploymentSpec.model_validate(assign(SPEC.model_dump(), [text], class_defaults(of_class)))
    assert found.template.resources == Resources(cpus=4, gpus=1, memory_bytes=2**29)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scaling.max", "no '='"),
        ("=1", "field '' does not exist"),
        ("scaling.maxx=3", "Did you mean max?"),
        ("objectiv.latency_s=1", "Did you mean objective?"),
        ("scaling.max=many", "valid integer"),
        ("tuning.mode=wild", "kaon get deployment NAME -o yaml"),
        ("scaling.max=-1", "greater than or equal to 0"),
        ("objective.latency_s=NaN", "than"),
        ("objective.utilisation=[0.9, 0.5]", ""),
        ("public.deep=1", "has no fields"),
        ("template.env.lower=1", "pattern"),
        ("template.artifact=sha256:0", "the build"),
        ("scaling.floors=[[[[", "valid"),
        ("template.resources.memory_bytes=512iB", "is not valid"),
        ("template.resources.memory_bytes=1e9MiB", "is not valid"),
    ],
)
def test_what_cannot_be_set_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises((InvalidInput, ValueError)) as refused:
        DeploymentSpec.model_validate(assign(SPEC.model_dump(), [text]))
    if said:
        assert isinstance(refused.value, InvalidInput)
        assert said in f"{refused.value.cause} {refused.value.hint}"
