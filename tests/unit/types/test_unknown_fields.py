"""What a newer Kaon has more of is left out where rows and wire documents are read, and refused in requests."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from pydantic import BaseModel, ValidationError
from tests.samples import PARTS, full, places, with_more

from kaon.agent import ports
from kaon.agent.act import calls
from kaon.api.app import ROUTES
from kaon.types import journal, traffic
from kaon.types.advice import Advice, Finding
from kaon.types.cloud import CloudPhase
from kaon.types.deployment import DeploymentSpec, RolloutState, Scaling
from kaon.types.event import Event, EventLevel
from kaon.types.figures import ReplicaFigures
from kaon.types.key import Access, KeySpec, Priority, Right
from kaon.types.knobs import Knobs
from kaon.types.launch import Launch, ReplicaHealth
from kaon.types.model import Model, OpenEnum, from_request
from kaon.types.plan import Plan, Report
from kaon.types.refusals import Refusals
from kaon.types.replica import Phase
from kaon.types.shadow import KeptAnswers, Sampling, ShadowReport
from kaon.types.tuning import Reach, TuningMode

STORED = [*(part for parts in PARTS.values() for part in parts), Event, journal.JournalEntry, traffic.Sample]
WIRE = [
    *(Plan, Report, Access, Knobs, Refusals, Sampling, KeptAnswers, ShadowReport, Launch, ReplicaHealth),
    *(ReplicaFigures, traffic.Traffic, traffic.TrafficTaken, ports.AgentCall, calls.LogsCall, calls.ShadowCall),
]
REQUESTS = [
    route.body_field.field_info.annotation
    for route in ROUTES
    if route.body_field is not None and route.right is not Right.AGENT
]


def models(root: type[BaseModel] = Model) -> Iterator[type[BaseModel]]:
    for model in root.__subclasses__():
        yield model
        yield from models(model)


@pytest.mark.parametrize("model", [*STORED, *WIRE], ids=lambda model: model.__name__)
def test_a_row_or_wire_document_with_more_fields_is_read(model: type[BaseModel]) -> None:
    value = full(model)
    document = with_more(value.model_dump(mode="json"), *places(value))
    assert model.model_validate_json(json.dumps(document)) == value


def test_no_model_refuses_unknown_fields_by_itself() -> None:
    """Whether a document is a request is known where it is read, so no type may decide it."""
    assert [m.__name__ for m in models() if m.model_config.get("extra") != "ignore"] == []


@pytest.mark.parametrize("model", [*STORED, *WIRE], ids=lambda model: model.__name__)
def test_a_request_with_one_more_field_is_refused_at_every_place(model: type[BaseModel]) -> None:
    value = full(model)
    for place in places(value):
        document = with_more(value.model_dump(mode="json"), place)
        for given, is_json in ((document, False), (json.dumps(document), True)):
            with pytest.raises(ValidationError) as raised:
                from_request(model, given, is_json=is_json)
            (error,) = raised.value.errors()
            assert (error["type"], error["loc"][-1]) == ("extra_forbidden", "of_a_newer_kaon")


@pytest.mark.parametrize("choice", OpenEnum.__subclasses__(), ids=lambda choice: choice.__name__)
def test_an_unknown_choice_is_a_safe_one_but_for_requests(choice: type[OpenEnum]) -> None:
    assert choice("of a newer kaon") is choice(choice.taken_as)
    assert choice.taken_as in list(choice)
    for known in choice:
        assert choice(known.value) is known


SAFE = [
    (Report, ("replicas", 0, "phase"), Phase.STARTING),
    (PARTS["deployment"][0], ("tuning", "mode"), TuningMode.OFF),
    (PARTS["deployment"][1], ("rollout", "state"), RolloutState.PENDING),
    (PARTS["deployment"][1], ("tuning", "trial", "reach"), Reach.REPLICA),
    (Advice, ("finding",), Finding.OTHER),
    (PARTS["cloud"][1], ("phase",), CloudPhase.CORDONED),
    (KeySpec, ("priority",), Priority.NORMAL),
    (Access, ("grants", 0, "priority"), Priority.NORMAL),
    (Event, ("level",), EventLevel.WARNING),
]


@pytest.mark.parametrize(("model", "place", "safe"), SAFE, ids=[f"{m.__name__}.{p[-1]}" for m, p, _ in SAFE])
def test_an_unknown_choice_in_a_row_or_wire_document_is_a_safe_one(
    model: type[BaseModel], place: tuple[str | int, ...], safe: OpenEnum
) -> None:
    document = full(model).model_dump(mode="json")
    here = document
    for step in place[:-1]:
        here = here[step]
    here[place[-1]] = "of a newer kaon"
    found = model.model_validate_json(json.dumps(document))
    for step in place:
        found = found[step] if isinstance(step, int) else getattr(found, step)  # type: ignore[index]
    assert found is safe
    with pytest.raises(ValidationError):
        from_request(model, document)


def test_a_key_of_an_unknown_role_has_no_rights() -> None:
    """It is not read at all: to take it for another role could give it rights."""
    document = full(KeySpec).model_dump(mode="json") | {"role": "of a newer kaon"}
    with pytest.raises(ValidationError):
        KeySpec.model_validate(document)


def test_every_body_of_a_request_is_listed_here() -> None:
    assert DeploymentSpec in REQUESTS
    assert len(REQUESTS) >= 7


def test_a_scaling_law_that_was_stored_is_read_over_and_in_a_request_only_kaons_is_accepted() -> None:
    assert Scaling.model_validate_json('{"max": 3, "law": "knative"}') == Scaling(max=3)
    assert from_request(Scaling, '{"max": 3, "law": "kaon"}', is_json=True) == Scaling(max=3)
    with pytest.raises(ValidationError, match="'knative' is not available any more; remove it"):
        from_request(Scaling, {"max": 3, "law": "knative"})
