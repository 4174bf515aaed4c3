"""Readers, writers and documents of types, where pydantic alone would let them disagree."""

from __future__ import annotations

import decimal
import json
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, RootModel, field_serializer
from tests.versions import newer
from typing_extensions import TypedDict

import kaon
from kaon.errors import BadAnswer, ConfigError, InvalidInput
from kaon.sdk.codec import codec_of
from kaon.sdk.pydantic_versions import MISREADS_DATACLASSES
from kaon.sdk.service import service_of
from kaon.sdk.signature import Signature


class Item(BaseModel):
    item_id: int = Field(alias="itemId")
    raw: bytes = b""


class Both(BaseModel):
    first: int = Field(validation_alias="in", serialization_alias="out")


@dataclass
class Batch:
    vector: NDArray[np.float32]
    raw: bytes
    count: Annotated[int, Field(ge=1)] = 1


class Row(NamedTuple):
    name: str
    pixels: NDArray[np.uint8]


class Keys(TypedDict):
    vectors: list[NDArray[np.int16]]


class Holder(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    vector: NDArray[np.float64]
    other: NDArray[np.int8] | None = None


class Tags(RootModel[list[str]]):
    pass


class Open(BaseModel, extra="allow"):
    n: int = 0


class Writing(BaseModel):
    n: int = 0

    @field_serializer("n")
    def said(self, n: int) -> float:
        return math.nan


class Odd(BaseModel):
    n: int

    @field_serializer("n")
    def said(self, n: int):  # type: ignore[no-untyped-def]
        return f"number {n}"


def signature_of(answer: Any, **parameters: Any) -> Signature:
    return service_with(answer, **parameters).endpoints[0].signature


def service_with(answer: Any, **parameters: Any) -> Any:
    text = ", ".join(["self", *parameters])
    scope: dict[str, Any] = {}
    exec(f"def call({text}): ...", scope)
    scope["call"].__annotations__ = {**parameters, "return": answer}
    return service_of(kaon.service(type("Made", (), {"call": kaon.endpoint(scope["call"])})))


def answered(service: Any) -> dict[str, Any]:
    document = service.openapi()
    schema = document["paths"]["/call"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    if "$ref" in schema:
        return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]  # type: ignore[no-any-return]
    return schema  # type: ignore[no-any-return]


def test_aliases_are_the_names_on_the_wire_both_ways() -> None:
    signature = signature_of(Item, item=Item)
    assert signature.from_json(b'{"itemId": 3, "raw": "/w=="}')["item"] == Item(itemId=3, raw=b"\xff")
    assert json.loads(signature.to_json(Item(itemId=3, raw=b"\xff"))) == {"itemId": 3, "raw": "/w=="}
    assert answered(service_with(Item))["properties"].keys() == {"itemId", "raw"}
    assert json.loads(signature_of(list[Both]).to_json([Both(**{"in": 1})])) == [{"out": 1}]
    assert signature_of(None, both=Both).fields == {"in"}


@pytest.mark.parametrize(
    ("hint", "value", "said"),
    [
        (Batch, Batch(np.ones(2, np.float32), b"\xff", 2), {"vector": [1.0, 1.0], "raw": "/w==", "count": 2}),
        pytest.param(
            *(Row, Row("a", np.array([[1]], np.uint8)), ["a", [[1]]]),
            marks=newer("pydantic", "2.6", "writes no arrays in named tuples"),
        ),
        (Keys, {"vectors": [np.array([1], np.int16)]}, {"vectors": [[1]]}),
        (Holder, Holder(vector=np.zeros(1), other=np.ones(1, np.int8)), {"vector": [0.0], "other": [1]}),
        (dict[str, NDArray[np.bool_]], {"a": np.array([True])}, {"a": [True]}),
    ],
)
def test_arrays_and_bytes_stand_wherever_a_type_can(hint: Any, value: Any, said: Any) -> None:
    signature = signature_of(hint, value=hint)
    assert json.loads(signature.to_json(value)) == said
    body = said if signature.whole_body else {"value": said}
    assert json.loads(signature.to_json(signature.from_json(json.dumps(body).encode())["value"])) == said


def test_the_element_type_of_an_array_is_kept_within_other_types() -> None:
    assert signature_of(None, value=Batch).from_json(b'{"vector": [1], "raw": ""}')["value"].vector.dtype == np.float32
    assert signature_of(None, value=Row).from_json(b'{"value": ["a", [1]]}')["value"].pixels.dtype == np.uint8
    with pytest.raises(InvalidInput, match="uint8"):
        signature_of(None, value=Row).from_json(b'{"value": ["a", [256]]}')


@pytest.mark.parametrize("hint", [NDArray[np.complex64], NDArray[np.datetime64], NDArray[np.object_]])
def test_an_array_that_json_cannot_say_is_refused_at_the_build(hint: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be sent as JSON"):
        service_with(hint)


HOLES = pytest.mark.parametrize("hole", [math.nan, math.inf, -math.inf])


@HOLES
@pytest.mark.parametrize(
    ("hint", "make"),
    [
        (float, lambda hole: hole),
        (list[float], lambda hole: [0.5, hole]),
        (NDArray[np.float32], lambda hole: np.array([hole], np.float32)),
        (dict[str, list[float]], lambda hole: {"NaN": [hole]}),
        (decimal.Decimal, lambda hole: decimal.Decimal(hole)),
    ],
)
def test_a_number_that_is_not_finite_is_refused_where_the_type_does_not_allow_null(
    hole: float, hint: Any, make: Any
) -> None:
    with pytest.raises(BadAnswer):
        signature_of(hint).to_body(make(hole))


@HOLES
def test_such_a_number_is_null_where_the_type_allows_it(hole: float) -> None:
    assert signature_of(list[float | None]).to_json([1.5, hole]) == b"[1.5,null]"
    assert json.loads(signature_of(dict[str, Any]).to_json({"a": [hole], "NaN": "Infinity"})) == {
        "a": [None],
        "NaN": "Infinity",
    }
    with pytest.raises(BadAnswer, match="NaN or infinite"):
        signature_of(tuple[float | None, float]).to_json((1.0, hole))


@pytest.mark.parametrize(("hint", "value"), [(dict, {"a": math.nan}), (list, [math.inf])])
def test_such_a_number_is_null_where_any_value_is_allowed(hint: Any, value: Any) -> None:
    assert b"null" in signature_of(hint).to_json(value)


@pytest.mark.parametrize("value", [Writing(), Open(x=math.nan), Open(x=[math.inf])])
def test_what_pydantic_writes_by_other_ways_is_looked_at_too(value: Any) -> None:
    with pytest.raises(BadAnswer):
        signature_of(type(value)).to_json(value)


def test_nan_is_not_taken_where_anything_else_is() -> None:
    for hint in (dict, list, Open):
        with pytest.raises(InvalidInput):
            signature_of(None, value=hint, other=int).from_json(b'{"value": {"a": NaN}, "other": 1}')


@HOLES
def test_such_a_number_is_not_taken(hole: float) -> None:
    body = json.dumps({"value": hole}).encode()
    for hint in (float, float | None, Any, NDArray[np.float16], decimal.Decimal):
        with pytest.raises(InvalidInput):
            signature_of(None, value=hint).from_json(body)
    for large in (b'{"value": 1e400}', b'{"value": [1e6]}'):
        with pytest.raises(InvalidInput):
            signature_of(None, value=float | NDArray[np.float16]).from_json(large)


def test_a_word_in_a_text_is_no_number() -> None:
    for text in ("NaN", "Infinity", "Naïve Indian"):
        assert json.loads(signature_of(dict[str, float | str]).to_json({text: text, "n": 1.5}))[text] == text


def test_limits_of_an_answer_are_kept() -> None:
    limited = Annotated[list[int], Field(max_length=2)]
    assert signature_of(limited).to_json([1, 2]) == b"[1,2]"
    for hint, value in ((limited, [1, 2, 3]), (Batch, Batch(np.ones(1, np.float32), b"", 0))):
        with pytest.raises(BadAnswer):
            signature_of(hint).to_json(value)


@pytest.mark.parametrize("text", ["1E+5", "-0.10", "1E-7", "0"])
def test_a_decimal_is_text_as_its_documented_pattern_says(text: str) -> None:
    value = decimal.Decimal(text)
    assert json.loads(signature_of(decimal.Decimal).to_json(value)) == str(value)


def test_a_serializer_without_a_return_hint_is_documented_as_anything() -> None:
    assert answered(service_with(Odd))["properties"]["n"] in ({}, {"title": "N"})


def test_a_root_model_is_the_whole_body() -> None:
    service = service_with(int, tags=Tags)
    assert service.endpoints[0].signature.from_json(b'["a"]')["tags"] == Tags(["a"])
    content = service.openapi()["paths"]["/call"]["post"]["requestBody"]["content"]["application/json"]
    assert content["examples"]["1"]["value"] == ["hello"]


def test_samples_keep_to_limits_and_are_left_out_where_none_can_be_made_up() -> None:
    limits = {
        "at_least": Annotated[int, Field(ge=5, multiple_of=3)],
        "between": Annotated[float, Field(gt=0, lt=0.1)],
        "below": Annotated[int, Field(lt=-3)],
        "some": Annotated[dict[str, int], Field(min_length=2)],
        "long": Annotated[str, Field(min_length=9)],
        "choice": Literal["b", "a"],
    }
    service = service_with(None, **limits)
    content = service.openapi()["paths"]["/call"]["post"]["requestBody"]["content"]["application/json"]
    service.endpoints[0].signature.from_json(json.dumps(content["examples"]["1"]["value"]).encode())
    odd = service_with(None, code=Annotated[str, Field(pattern="^[A-Z]{3}-[0-9]+$")])
    operation = odd.openapi()["paths"]["/call"]["post"]
    assert "examples" not in operation["requestBody"]["content"]["application/json"]
    assert "x-codeSamples" not in operation


@pytest.mark.parametrize("hint", [type("Lock", (), {}), type])
def test_a_type_without_a_form_in_json_is_refused_at_the_build(hint: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be sent as JSON"):
        service_with(hint)


def test_a_codec_is_the_same_for_prebuilt_models() -> None:
    """Pydantic reuses what a model class was built with; then a nested model would keep its own settings."""
    codec = codec_of(list[Holder], reads=False)
    assert codec.serializer.to_json([Holder(vector=np.zeros(1))]) == b'[{"vector":[0.0],"other":null}]'


@dataclass
class Outer:
    """Refers by postponed annotations to classes defined after it and to itself."""

    inner: list[Inner]
    next: Outer | None = None


@dataclass
class Inner:
    vector: NDArray[np.float32]


@pytest.mark.skipif(not MISREADS_DATACLASSES, reason="newer versions of pydantic read them")
def test_annotations_that_pydantic_cannot_read_are_refused_with_the_version_that_can() -> None:
    @dataclass
    class Part:
        number: int

    @dataclass
    class Whole:
        part: Part

    with pytest.raises(ConfigError, match=r"cannot read the annotations of .*Whole.*pydantic>=2.6"):
        codec_of(Whole)


def test_postponed_annotations_of_dataclasses_are_found_where_they_are_defined() -> None:
    read = codec_of(Outer).validate_json(b'{"inner": [{"vector": [1]}], "next": {"inner": []}}')
    assert (read.inner[0].vector.dtype, read.next) == (np.float32, Outer([]))
