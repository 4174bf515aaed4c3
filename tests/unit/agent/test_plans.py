"""Plans as an agent reads and keeps them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.replicas import replica_spec

from kaon.agent.plan_file import PlanFile, PlanReader
from kaon.types.key import Access
from kaon.types.knobs import Knobs, PlannedKnobs
from kaon.types.plan import NamedPlan, Plan


def plan(public: bool = False) -> Plan:
    replicas = replica_spec(deployment="blog"), replica_spec(deployment="shop")
    access = {"default/blog": Access(), "default/shop": Access(public=public)}
    tried = {"default/shop": PlannedKnobs(trial=Knobs(max_batch=2))}
    return Plan(cloud="local", replicas=replicas, access=access, knobs=tried)


def test_a_plan_is_kept_under_its_name(tmp_path: Path) -> None:
    file = PlanFile(tmp_path / "agent" / "plan.json")
    assert file.load() is None
    file.keep(NamedPlan(name="a name", plan=plan()))
    assert file.load() == NamedPlan(name="a name", plan=plan())


def test_the_plan_that_the_release_before_kept_is_read_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(plan().flat().text())
    found = PlanFile(tmp_path / "plan.json").load()
    assert found is not None
    assert (found.name, found.plan) == ("", plan())


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"plan": 7}', '{"cloud": 7}'])
def test_a_file_that_is_no_plan_is_as_good_as_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(text)
    assert PlanFile(tmp_path / "plan.json").load() is None


def test_a_part_that_says_what_it_said_before_is_not_made_again() -> None:
    reader = PlanReader()
    first = reader.read(plan().model_dump_json().encode())
    second = reader.read(plan(public=True).model_dump_json().encode())
    assert (first, second) == (plan(), plan(public=True))
    assert second.parts["default/blog"] is first.parts["default/blog"]
    assert second.access["default/shop"].public
    assert reader.read(plan().flat().text().encode()) == plan(), "of a server of the release before"


@pytest.mark.parametrize("document", [[], 7, {"parts": {"default/shop": 7}}, {"cloud": "local", "parts": {"a": []}}])
def test_what_is_no_plan_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="validation error"):
        PlanReader().read(json.dumps(document).encode())
