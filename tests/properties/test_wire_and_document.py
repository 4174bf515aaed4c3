"""The OpenAPI document agrees with the wire, for every signature that builds.

Types are drawn from all that a hint may be, with values of each. Schemas are read by the library jsonschema.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import inspect
import itertools
import json
import math
import pathlib
import uuid
from collections.abc import Callable
from fnmatch import fnmatch
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, Optional, TypeVar, Union

import numpy as np
import pytest
from annotated_types import Len
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field, create_model
from tests.figures import examples
from typing_extensions import TypedDict

import kaon
from kaon.errors import BadAnswer, ConfigError
from kaon.sdk.service import service_of

often = settings(
    max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

Typed = tuple[Any, st.SearchStrategy[Any]]
"""A type, and its values."""

_numbers = itertools.count()
T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = 7


class Box(BaseModel, Generic[T]):
    content: T
    label: str = Field(default="none", serialization_alias="shownAs", validation_alias="label")


class Root(RootModel[T], Generic[T]):
    model_config = ConfigDict(arbitrary_types_allowed=True)


def fresh(kind: str) -> str:
    return f"{kind}{next(_numbers)}"


texts = st.text(max_size=8)
small = st.integers(-(10**6), 10**6)
finite = st.floats(allow_nan=False, allow_infinity=False)
SCALARS: list[Typed] = [
    (str, texts),
    (int, st.integers()),
    (float, finite),
    (bool, st.booleans()),
    (type(None), st.none()),
    (bytes, st.binary(max_size=8)),
    (Colour, st.sampled_from(Colour)),
    (Literal["a", 1, True], st.sampled_from(["a", 1, True])),
    (datetime.datetime, st.datetimes(timezones=st.none() | st.just(datetime.UTC))),
    (datetime.date, st.dates()),
    (datetime.time, st.times()),
    (datetime.timedelta, st.timedeltas(datetime.timedelta(-9999), datetime.timedelta(9999))),
    (decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (uuid.UUID, st.uuids()),
    (pathlib.Path, st.just(pathlib.Path("a/b"))),
    (Annotated[int, Field(ge=3, le=9)], st.integers(3, 9)),
    (Annotated[int, Field(gt=10, multiple_of=7)], st.integers(2, 9).map(lambda n: 7 * n)),
    (Annotated[float, Field(gt=0, lt=0.25)], st.floats(0.01, 0.2)),
    (Annotated[str, Field(min_length=7, max_length=9)], st.text("abc", min_size=7, max_size=9)),
    (Annotated[str, Field(pattern="^[a-c]+$")], st.text("abc", min_size=1, max_size=5)),
    (float | None, st.none() | finite),
    (Any, st.none() | texts | finite | st.lists(finite, max_size=2) | st.dictionaries(texts, small, max_size=2)),
    (NDArray[np.float32], st.lists(st.floats(-1, 1, width=32), max_size=3).map(lambda r: np.array(r, np.float32))),
    (NDArray[np.int64], st.lists(small, max_size=3).map(lambda r: np.array([r, r], np.int64))),
    (np.ndarray[tuple[int, Literal[2]], np.dtype[np.uint8]], st.just(np.zeros((3, 2), np.uint8))),
    (kaon.File, st.binary(max_size=4).map(kaon.File)),
    (kaon.Image, st.just(kaon.Image(b"\x89PNG\r\n\x1a\n"))),
    (kaon.Audio, st.just(kaon.Audio(b"OggS"))),
]


def scalar_keys() -> st.SearchStrategy[Typed]:
    return st.sampled_from([(str, texts), (int, small), (uuid.UUID, st.uuids()), (datetime.date, st.dates())])


@st.composite
def typed(draw: Callable[..., Any], depth: int = 2) -> Typed:
    """Any type, and its values."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(SCALARS))
    return draw(st.sampled_from(WITHIN))(draw, depth - 1)


def a_list(draw: Any, depth: int) -> Typed:
    hint, values = draw(typed(depth))
    least = draw(st.sampled_from([0, 2]))
    some = st.lists(values, min_size=least, max_size=3)
    return (Annotated[list[hint], Len(least, 5)] if least else list[hint]), some


def a_set(draw: Any, depth: int) -> Typed:
    hint, values = draw(scalar_keys())
    return draw(st.sampled_from([(set[hint], st.sets(values, max_size=3)), (frozenset[hint], st.frozensets(values))]))


def a_tuple(draw: Any, depth: int) -> Typed:
    (one, ones), (two, twos) = draw(typed(depth)), draw(typed(depth))
    if draw(st.booleans()):
        return tuple[one, ...], st.lists(ones, max_size=3).map(tuple)
    return tuple[one, two], st.tuples(ones, twos)


def a_dict(draw: Any, depth: int) -> Typed:
    (key, keys), (hint, values) = draw(scalar_keys()), draw(typed(depth))
    return dict[key, hint], st.dictionaries(keys, values, max_size=2)


def is_root(hint: Any) -> bool:
    return inspect.isclass(hint) and issubclass(hint, RootModel)


def a_union(draw: Any, depth: int) -> Typed:
    (one, ones), (two, twos) = draw(typed(depth)), draw(typed(depth))
    if is_root(one) or is_root(two):  # `float | Root[None]` has null in its schema, though not for a float
        return Optional[one], ones | st.none()  # noqa: UP045
    return draw(st.sampled_from([(Union[one, two], ones | twos), (Optional[one], ones | st.none())]))  # noqa: UP007, UP045


def fields_of(draw: Any, depth: int) -> dict[str, Typed]:
    names = draw(st.sampled_from([("a",), ("a", "b_c"), ("type", "default"), ("pattern", "metadata", "serialization")]))
    return {name: draw(typed(depth)) for name in names}


def a_dataclass(draw: Any, depth: int) -> Typed:
    fields = fields_of(draw, depth)
    made = dataclasses.make_dataclass(fresh("Data"), [(name, hint) for name, (hint, _) in fields.items()])
    return made, st.builds(made, **{name: values for name, (_, values) in fields.items()})


def a_typed_dict(draw: Any, depth: int) -> Typed:
    fields = fields_of(draw, depth)
    last = next(reversed(fields))
    hints = {name: NotRequired[hint] if name == last else hint for name, (hint, _) in fields.items()}
    values = {name: values for name, (_, values) in fields.items()}
    must = {name: each for name, each in values.items() if name != last}
    return TypedDict(fresh("Keys"), hints), st.fixed_dictionaries(must, optional={last: values[last]})


def a_named_tuple(draw: Any, depth: int) -> Typed:
    fields = fields_of(draw, depth)
    made = NamedTuple(fresh("Row"), [(name, hint) for name, (hint, _) in fields.items()])
    return made, st.builds(made, **{name: values for name, (_, values) in fields.items()})


def a_model(draw: Any, depth: int) -> Typed:
    fields = fields_of(draw, depth)
    name, base = fresh("Model"), BaseModel

    class Base(BaseModel):
        model_config = ConfigDict(
            arbitrary_types_allowed=True,
            extra=draw(st.sampled_from(["ignore", "forbid", "allow"])),
            validate_by_name=True,
            serialize_by_alias=draw(st.sampled_from([True, False])),
        )

    class Counted(Base):
        @computed_field
        def size(self) -> int:
            return 3

    aliases = draw(
        st.sampled_from([{}, {"alias": "theA"}, {"serialization_alias": "out-a", "validation_alias": "in-a"}])
    )
    base = draw(st.sampled_from([Base, Counted]))
    described = {field: (hint, Field(**(aliases if field == "a" else {}))) for field, (hint, _) in fields.items()}
    made = create_model(name, __base__=base, **described)
    given = st.fixed_dictionaries({field: values for field, (_, values) in fields.items()})
    return made, given.map(lambda arguments: made(**arguments))


def a_root(draw: Any, depth: int) -> Typed:
    hint, values = draw(typed(depth))
    made = Root[hint]
    return made, values.map(made)


def a_generic(draw: Any, depth: int) -> Typed:
    hint, values = draw(st.sampled_from(SCALARS[:13]))
    made = Box[hint]
    return made, values.map(lambda value: made(content=value))


def a_choice(draw: Any, depth: int) -> Typed:
    arms = []
    for kind in ("cat", "dog"):
        hint, values = draw(st.sampled_from(SCALARS[:13]))
        arm = create_model(fresh("Arm"), kind=(Literal[kind], Field(alias="is")), value=(hint, ...))
        arms.append((arm, st.builds(lambda value, arm=arm, kind=kind: arm(**{"is": kind, "value": value}), values)))
    (one, ones), (two, twos) = arms
    return Annotated[Union[one, two], Field(discriminator="kind")], ones | twos  # noqa: UP007


WITHIN = [a_list, a_set, a_tuple, a_dict, a_union, a_dataclass, a_typed_dict, a_named_tuple, a_model, a_root]
WITHIN += [a_generic, a_choice]


def service_with(parameters: dict[str, Any], answer: Any, method: str) -> Any:
    """A service of one endpoint `call`. The draw is given up when the build refuses its types."""

    def call(self: Any, **given: Any) -> Any: ...

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    own = [inspect.Parameter(name, kind, annotation=hint) for name, hint in parameters.items()]
    call.__signature__ = inspect.Signature([inspect.Parameter("self", kind), *own], return_annotation=answer)
    call.__annotations__ = {**parameters, "return": answer}
    try:
        return service_of(kaon.service(type("Drawn", (), {"call": kaon.endpoint(method=method)(call)})))
    except ConfigError:
        assume(False)


def schema_at(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({"allOf": [schema], "components": document["components"]})


def strictly(text: bytes) -> Any:
    def refuse(word: str) -> Any:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


@often
@given(st.lists(typed(), min_size=1, max_size=3), st.sampled_from(["POST", "GET"]))
def test_every_example_in_the_document_is_accepted(drawn: list[Typed], method: str) -> None:
    service = service_with({f"p{n}": hint for n, (hint, _) in enumerate(drawn)}, str, method)
    document = service.openapi()
    signature = service.endpoints[0].signature
    operation = document["paths"]["/call"][method.lower()]
    strictly(json.dumps(document).encode())
    for parameter in operation.get("parameters", ()):
        if "example" in parameter:
            schema_at(document, parameter["schema"]).validate(parameter["example"])
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    for example in content.get("examples", {}).values():
        schema_at(document, content["schema"]).validate(example["value"])
        signature.from_json(json.dumps(example["value"]).encode())


@often
@given(st.data(), typed())
def test_every_answer_fits_the_documented_schema(data: st.DataObject, drawn: Typed) -> None:
    hint, values = drawn
    service = service_with({}, hint, "POST")
    document = service.openapi()
    answer = data.draw(values)
    media_type, body = service.endpoints[0].signature.to_body(answer)
    content = document["paths"]["/call"]["post"]["responses"]["200"]["content"]
    if media_type == "application/json":
        schema_at(document, content["application/json"]["schema"]).validate(strictly(body))
    else:
        assert any(fnmatch(media_type, kind) for kind in content)


MARK = 0.123456789
"""A number that every float type of these tests allows, and that no array holds, whose numbers have 32 bits."""


def with_floats(value: Any, number: float) -> Any:
    """`value` with `number` in the place of each float."""
    match value:
        case float():
            return number
        case BaseModel():
            held = {name: with_floats(getattr(value, name), number) for name in type(value).model_fields}
            return value.model_copy(update=held)
        case tuple() if hasattr(value, "_fields"):
            return type(value)(*(with_floats(each, number) for each in value))
        case list() | tuple():
            return type(value)(with_floats(each, number) for each in value)
        case dict():
            return {key: with_floats(each, number) for key, each in value.items()}
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, kaon.File):
            return dataclasses.replace(value, **{k: with_floats(v, number) for k, v in vars(value).items()})
        case _:
            return value


def null_for_mark(document: Any) -> Any:
    """A JSON document with null in the place of each `MARK`."""
    match document:
        case list():
            return [null_for_mark(each) for each in document]
        case dict():
            return {key: null_for_mark(each) for key, each in document.items()}
        case _:
            return None if document == MARK else document


def without_names(document: Any) -> Any:
    """A JSON document with its objects as lists: of `Any | Model` either may write a model, under other names."""
    match document:
        case list():
            return [without_names(each) for each in document]
        case dict():
            return [without_names(each) for each in document.values()]
        case _:
            return document


@often
@given(st.data(), typed(), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_a_number_that_is_not_finite_is_null_where_the_schema_allows_it_and_refused_elsewhere(
    data: st.DataObject, drawn: Typed, number: float
) -> None:
    hint, values = drawn
    service = service_with({}, hint, "POST")
    signature, document = service.endpoints[0].signature, service.openapi()
    value = data.draw(values)
    media_type, marked = signature.to_body(with_floats(value, MARK))
    assume(media_type == "application/json")
    expected = null_for_mark(strictly(marked))
    content = document["paths"]["/call"]["post"]["responses"]["200"]["content"]
    answer, schema = with_floats(value, number), schema_at(document, content["application/json"]["schema"])
    if schema.is_valid(expected):
        written = strictly(signature.to_body(answer)[1])
        schema.validate(written)
        assert written == expected or without_names(written) == without_names(expected)
    else:
        with pytest.raises(BadAnswer):
            signature.to_body(answer)


@often
@given(st.data(), typed())
def test_an_answer_can_be_sent_back_where_the_schema_of_the_parameter_takes_it(
    data: st.DataObject, drawn: Typed
) -> None:
    hint, values = drawn
    service = service_with({"value": hint}, hint, "POST")
    signature = service.endpoints[0].signature
    assume(signature.whole_body is None)
    document = service.openapi()
    sent = {"value": strictly(signature.to_json(data.draw(values)))}
    schema = document["paths"]["/call"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assume(schema_at(document, schema).is_valid(sent))
    signature.from_json(json.dumps(sent).encode())
