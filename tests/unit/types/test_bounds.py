"""Every field of a manifest has bounds, and says so by its name; no model holds an infinity or NaN."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from pydantic import ValidationError
from tests.bad_manifests import BAD, Place, good, named, spoilt

from kaon.types.artifact import Manifest
from kaon.types.deployment import Canary, DeploymentSpec, Rollout, Scaling
from kaon.types.objective import Objective
from kaon.types.route import Mirror, Route
from kaon.types.service import EndpointSpec, Resources, ServiceSpec


def test_the_good_manifest_is_taken() -> None:
    assert Manifest.model_validate(good()).service.name == "shop"


@pytest.mark.parametrize(("place", "value"), BAD, ids=map(named, BAD))
def test_what_is_out_of_bounds_is_refused_by_the_name_of_its_field(place: Place, value: Any) -> None:
    for read in (
        lambda m: Manifest.model_validate(m),
        lambda m: Manifest.model_validate_json(json.dumps(m)),  # with NaN and Infinity, as Python writes them
    ):
        with pytest.raises(ValidationError) as refused:
            read(spoilt(place, value))
        named_fields = {error["loc"][: len(place)] for error in refused.value.errors()}
        # What two fields say together is told of the model that holds them.
        assert named_fields & {place, place[:-1]}


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "make",
    [
        lambda x: Route(workspace="default", deployment="a", prefix="/a", timeout_s=x),
        lambda x: Route(workspace="default", deployment="a", prefix="/a", hedges={"/a": x}),
        lambda x: Mirror(revision=1, percent=x),
        lambda x: Scaling(hold_s=x),
        lambda x: Rollout(progress_deadline_s=x),
        lambda x: Canary(step_s=x),
        lambda x: Objective(latency_s=x),
        lambda x: Resources(cpus=x),
    ],
)
def test_no_model_holds_an_infinity_or_nan(make: Any, odd: float) -> None:
    with pytest.raises(ValidationError):
        make(odd)


def test_every_text_and_every_number_of_a_service_has_bounds() -> None:
    """A field that is added without them shows here."""
    boundless = []
    for model in (EndpointSpec, ServiceSpec, Resources):
        schema = model.model_json_schema()
        for where, found in [(model.__name__, schema), *schema.get("$defs", {}).items()]:
            for field, of in found.get("properties", {}).items():
                for kind in of.get("anyOf", [of]):
                    match kind.get("type"):
                        case "string" if not kind.keys() & {"pattern", "maxLength", "enum", "const"}:
                            boundless.append(f"{where}.{field}")
                        case "number" | "integer" if not kind.keys() & {"maximum", "exclusiveMaximum"}:
                            boundless.append(f"{where}.{field}")
                        case "array" if "maxItems" not in kind:
                            boundless.append(f"{where}.{field}")
    assert boundless == []


def test_deployments_are_bounded_by_their_own_limits() -> None:
    with pytest.raises(ValidationError):
        DeploymentSpec.model_validate({"template": {"artifact": "x"}, "drain_s": math.inf})
