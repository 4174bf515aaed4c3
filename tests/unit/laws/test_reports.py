"""A report tells of its own cloud, or that part of it is dropped."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.replicas import replica_spec

from kaon.laws.reports import HELD_MOST, LINES_MOST, REFUSALS_MOST, TEXT_MOST, accepted, may_count
from kaon.types.place import Capacity, PlaceHealth, PlaceState
from kaon.types.plan import EdgeStatus, Plan, PlanPart, Report
from kaon.types.replica import Phase, ReplicaStatus, replica_id
from kaon.types.traffic import ColdStart, Sample

NAMES = {"id": replica_id("default", "uid", 1, 0), "name": "shop-1-0", "workspace": "default", "deployment": "shop"}
SPEC = replica_spec(**NAMES)
PLAN = Plan(cloud="here", parts={"default/shop": PlanPart(replicas=(SPEC,)), "default/idle": PlanPart()})
EMPTY = Plan(cloud="here")


def status(**changes: Any) -> ReplicaStatus:
    return ReplicaStatus(**{**NAMES, "revision": 1, "phase": Phase.READY, **changes})


def report(*replicas: ReplicaStatus, **fields: Any) -> Report:
    return Report(cloud="here", plan="name", replicas=replicas, **fields)


def test_what_is_of_the_clouds_plan_is_taken_as_it_is() -> None:
    honest = report(
        status(reason="fine", last_lines=("a", "b")),
        held={"default/idle": 3},
        refusals={"default/shop": ("bad",)},
        place=PlaceHealth(
            state=PlaceState.DEGRADED, reason="No disk.", used=Capacity(cpus=1.5), free=Capacity(memory_bytes=1)
        ),
        edge=EdgeStatus(running=True, refused={"default/shop": "no"}, address="http://here"),
    )
    assert honest.model_fields_set == Report.model_fields.keys(), "every field of a report is in this test"
    assert accepted(honest, PLAN, None) == (honest, {})


@pytest.mark.parametrize(
    "lie",
    [{"id": "f" * 12}, {"name": "x-1-0"}, {"workspace": "other"}, {"deployment": "payroll"}, {"revision": 2}],
    ids=lambda lie: next(iter(lie)),
)
def test_a_replica_that_is_not_the_plans_is_dropped_and_the_others_are_taken(lie: dict[str, Any]) -> None:
    taken, dropped = accepted(report(status(), status(**lie)), PLAN, None)
    assert taken.replicas == (status(),)
    assert dropped == {"replicas": 1}


def test_a_replica_that_left_the_plan_is_taken_while_it_drains() -> None:
    before, _ = accepted(report(status()), PLAN, None)
    draining = report(status(phase=Phase.DRAINING))
    assert accepted(draining, EMPTY, before) == (draining, {})
    assert accepted(report(status(deployment="payroll")), EMPTY, before)[0].replicas == ()
    gone, _ = accepted(report(), EMPTY, before)
    assert accepted(draining, EMPTY, gone)[0].replicas == (), "it was not reported any more"


def test_a_replica_is_accepted_once() -> None:
    taken, dropped = accepted(report(status(), status(phase=Phase.CRASHED)), PLAN, None)
    assert (taken.replicas, dropped) == ((status(),), {"replicas": 1})


def test_other_fields_tell_of_the_plans_deployments_only() -> None:
    lies = {"default/shop": 1, "default/payroll": 1, "shop": 1}
    refusals = dict.fromkeys(lies, ("bad",))
    refused = EdgeStatus(refused=dict.fromkeys(lies, "no"))
    taken, dropped = accepted(report(held=lies, refusals=refusals, edge=refused), PLAN, None)
    assert taken.held == {"default/shop": 1}
    assert taken.refusals.keys() == taken.edge.refused.keys() == {"default/shop"}
    assert dropped == {"held": 2, "refusals": 2, "edge.refused": 2}


def test_texts_and_counts_have_bounds() -> None:
    long = "x" * (TEXT_MOST + 1)
    one = status(reason=long, last_lines=(long,) * (LINES_MOST + 1), address=f"unix:/{long}")
    edge = EdgeStatus(rejected=long, address=long, refused={"default/shop": long})
    ids = (*(f"id-{n}" for n in range(REFUSALS_MOST)), "x" * 1000, "")
    held = {"default/shop": 10**30, "default/idle": -1}
    taken, _ = accepted(report(one, edge=edge, refusals={"default/shop": ids[::-1]}, held=held), PLAN, None)
    [replica] = taken.replicas
    assert (len(replica.reason), len(replica.last_lines), replica.address) == (TEXT_MOST, LINES_MOST, None)
    assert {len(line) for line in replica.last_lines} == {TEXT_MOST}
    assert {len(taken.edge.rejected), len(taken.edge.address), len(taken.edge.refused["default/shop"])} == {TEXT_MOST}
    assert (len(taken.refusals["default/shop"]), len(taken.refusals["default/shop"][0])) == (REFUSALS_MOST, 64)
    assert taken.held == {"default/shop": HELD_MOST}


def sample(**changes: Any) -> Sample:
    return Sample(**{"workspace": "default", "deployment": "shop", "revision": 1, "at_s": 1, "span_s": 1, **changes})


def test_traffic_is_of_the_clouds_deployments() -> None:
    assert may_count(sample(), PLAN, None)
    assert may_count(sample(cloud="here", revision=0), PLAN, None)
    assert not may_count(sample(cloud="there"), PLAN, None)
    assert not may_count(sample(deployment="payroll"), PLAN, None)
    assert not may_count(sample(workspace="other"), PLAN, None)
    assert not may_count(sample(), EMPTY, None)
    assert may_count(sample(), EMPTY, report(status())), "its replicas drain"
    assert not may_count(sample(starts=(ColdStart(replica="a"),) * 1001), PLAN, None)
    assert not may_count(sample(codes={f"{n}": 1 for n in range(33)}), PLAN, None)


WORDS = st.sampled_from(["default", "shop", "payroll", "shop-1-0", NAMES["id"], "f" * 12])
PLACES = st.sampled_from(["default/shop", "default/idle", "default/payroll", "shop", ""])
STATUSES = st.builds(
    status, id=WORDS, name=WORDS, workspace=WORDS, deployment=WORDS, revision=st.integers(1, 2), reason=st.text()
)
REPORTS = st.builds(
    report,
    STATUSES,
    STATUSES,
    held=st.dictionaries(PLACES, st.integers()),
    refusals=st.dictionaries(PLACES, st.tuples(st.text())),
    edge=st.builds(EdgeStatus, refused=st.dictionaries(PLACES, st.text())),
)


@given(REPORTS, st.none() | REPORTS)
def test_whatever_an_agent_sends_nothing_of_others_is_taken(sent: Report, earlier: Report | None) -> None:
    before = accepted(earlier, PLAN, None)[0] if earlier else None
    taken, _ = accepted(sent, PLAN, before)
    assert all((r.id, r.workspace, r.deployment) == (SPEC.id, "default", "shop") for r in taken.replicas)
    assert {*taken.held, *taken.refusals, *taken.edge.refused} <= PLAN.parts.keys()
    assert accepted(taken, PLAN, before) == (taken, {}), "what was taken is taken again"
