import datetime
import enum
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import BaseModel, Field

import kaon
from kaon.errors import BadAnswer, ConfigError, InvalidInput, UnsupportedMediaType
from kaon.sdk.service import service_of
from kaon.sdk.signature import Signature

NO_UINT8 = "is invalid: must be nested lists of equal lengths, of uint8"
NO_PAIRS = "is invalid: must be an array of shape (any, 2), not (2, 1)"
PNG = b"\x89PNG\r\n\x1a\n...."


class Colour(enum.Enum):
    RED = "red"


class Item(BaseModel):
    name: str
    price: float = 1.0


@dataclass
class Point:
    x: int
    y: int = 0


class Pair(TypedDict):
    left: str
    right: int


@kaon.service
class Everything:
    @kaon.endpoint(method="GET")
    def find(
        self,
        user_id: int,
        k: Annotated[int, Field(ge=1, le=50)] = 10,
        tag: list[str] | None = None,
        colour: Colour = Colour.RED,
        size: Literal[1, 2] = 1,
        since: datetime.date | None = None,
        deep: bool = False,
    ) -> list[Item]: ...

    @kaon.endpoint
    def add(self, item: Item) -> Item: ...

    @kaon.endpoint
    def move(self, point: Point) -> Point: ...

    @kaon.endpoint
    def pair(self, pair: Pair) -> Pair: ...

    @kaon.endpoint
    def mixed(self, item: Item, count: int, when: datetime.datetime | None = None) -> dict[str, Any]: ...

    @kaon.endpoint(method="PUT", path="/items/{item_id}")
    def put(self, item_id: int, item: Item) -> None: ...

    @kaon.endpoint(batch=kaon.Batch())
    def embed(self, texts: list[str], weights: list[float]) -> list[list[float]]: ...

    @kaon.endpoint
    def array(self, pixels: np.ndarray[tuple[int, Literal[2]], np.dtype[np.uint8]]) -> NDArray[np.float32]: ...

    @kaon.endpoint
    def blob(self, content: bytes) -> bytes: ...

    @kaon.endpoint
    def look(self, image: kaon.Image) -> kaon.File: ...

    @kaon.endpoint
    def album(self, images: list[kaon.Image], title: str, sizes: dict[str, int], n: int = 1) -> int: ...

    @kaon.endpoint
    async def tokens(self, prompt: str) -> AsyncIterator[str]:
        yield prompt

    @kaon.endpoint
    def untyped(self, anything): ...  # type: ignore[no-untyped-def]


def signature(name: str) -> Signature:
    return next(e.signature for e in service_of(Everything).endpoints if e.spec.name == name)


def problems(error: pytest.ExceptionInfo[InvalidInput]) -> dict[str, str]:
    return {e["where"]: e["problem"] for e in error.value.errors}


def test_a_query_says_scalars_and_lists_by_repetition() -> None:
    pairs = [("user_id", "1"), ("tag", "a"), ("tag", "b"), ("size", "2"), ("since", "2026-01-31"), ("deep", "true")]
    assert signature("find").from_query(pairs) == {
        "user_id": 1,
        "tag": ["a", "b"],
        "size": 2,
        "since": datetime.date(2026, 1, 31),
        "deep": True,
    }
    assert signature("find").from_query([("user_id", "1"), ("colour", "red")])["colour"] is Colour.RED


def test_every_wrong_query_parameter_is_reported_at_once_without_its_value() -> None:
    pairs = [("k", "999"), ("size", "secret-7"), ("other", "secret-8"), ("deep", "x"), ("since", "1"), ("since", "2")]
    with pytest.raises(InvalidInput) as error:
        signature("find").from_query(pairs, strict=True)
    assert problems(error) == {
        "query.user_id": "is required",
        "query.k": "should be less than or equal to 50",
        "query.size": "should be 1 or 2",
        "query.since": "is given more than once",
        "query.deep": "should be a valid boolean, unable to interpret input",
        "query.other": "is not a parameter of this endpoint",
    }
    assert "secret" not in error.value.problem_json().decode()


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("add", {"name": "a"}, {"item": Item(name="a")}),
        ("move", {"x": 3}, {"point": Point(3)}),
        ("pair", {"left": "a", "right": 1}, {"pair": {"left": "a", "right": 1}}),
        ("mixed", {"item": {"name": "a"}, "count": 2}, {"item": Item(name="a"), "count": 2}),
        ("blob", {"content": "aGk="}, {"content": b"hi"}),
        ("untyped", {"anything": [1, None]}, {"anything": [1, None]}),
    ],
)
def test_a_json_body_is_the_parameters_by_name_or_the_one_model_itself(name: str, body: Any, expected: Any) -> None:
    assert signature(name).from_json(json.dumps(body).encode()) == expected


def test_what_is_left_out_is_left_to_the_handlers_default() -> None:
    assert "when" not in signature("mixed").from_json(b'{"item": {"name": "a"}, "count": 1}')


@pytest.mark.parametrize(
    ("name", "body", "where", "problem"),
    [
        ("mixed", b"{", "body", "is not valid JSON: EOF while parsing an object at line 1 column 1"),
        ("mixed", b"[]", "body", "must be an object"),
        ("mixed", b'{"item": {"name": 1}, "count": 1}', "body.item.name", "should be a valid string"),
        ("mixed", b'{"item": {"name": "a"}, "count": 1, "x": 1}', "body.x", "is not a parameter of this endpoint"),
        ("add", b"{}", "body.name", "is required"),
        ("embed", b"", "body.texts", "is required"),
        ("blob", b'{"content": "%"}', "body.content", "is invalid: text in base64 is needed"),
        ("array", b'{"pixels": [[1], [2]]}', "body.pixels", NO_PAIRS),
        ("array", b'{"pixels": [[1, 999]]}', "body.pixels", NO_UINT8),
        ("array", b'{"pixels": [[1, 2.5]]}', "body.pixels", NO_UINT8),
        ("array", b'{"pixels": [[1, 2], [3]]}', "body.pixels", NO_UINT8),
        ("array", b'{"pixels": [["a", "b"]]}', "body.pixels", NO_UINT8),
    ],
)  # fmt: skip
def test_a_wrong_body_is_refused_with_its_place(name: str, body: bytes, where: str, problem: str) -> None:
    with pytest.raises(InvalidInput) as error:
        signature(name).from_json(body)
    assert problems(error)[where] == problem


def test_path_parameters_join_the_body() -> None:
    assert signature("put").from_json(b'{"name": "a"}', {"item_id": "7"}) == {"item": Item(name="a"), "item_id": 7}
    with pytest.raises(InvalidInput) as error:
        signature("put").from_json(b'{"name": "a"}', {"item_id": "x"})
    assert list(problems(error)) == ["path.item_id"]


def test_an_array_comes_with_its_dtype_and_goes_as_nested_lists() -> None:
    pixels = signature("array").from_json(b'{"pixels": [[1, 2], [3, 4]]}')["pixels"]
    assert pixels.dtype == np.uint8
    assert pixels.tolist() == [[1, 2], [3, 4]]
    assert json.loads(signature("array").to_json(np.array([0.5, 1.0], dtype=np.float32))) == [0.5, 1.0]


def test_files_come_as_a_form_as_a_raw_body_or_inside_json() -> None:
    look = signature("look")
    form = look.from_form([("image", kaon.File(PNG, name="a.png"))])["image"]
    raw = look.from_raw(PNG, "image/png")["image"]
    inside = look.from_json(json.dumps({"image": kaon.File(PNG).wire()}).encode())["image"]
    assert [type(f) for f in (form, raw, inside)] == [kaon.Image] * 3
    assert {f.content for f in (form, raw, inside)} == {PNG}
    assert form.name == "a.png"


def test_a_form_mixes_files_text_and_json() -> None:
    parts: list[tuple[str, str | kaon.File]] = [
        ("images", kaon.File(PNG)), ("images", kaon.File(b"GIF8")), ("title", "t"), ("sizes", '{"a": 1}'), ("n", "3"),
    ]  # fmt: skip
    arguments = signature("album").from_form(parts)
    assert [i.media_type for i in arguments["images"]] == ["image/png", "image/gif"]
    assert {k: arguments[k] for k in ("title", "sizes", "n")} == {"title": "t", "sizes": {"a": 1}, "n": 3}


def test_a_file_of_another_family_is_refused() -> None:
    with pytest.raises(InvalidInput) as error:
        signature("look").from_form([("image", kaon.File(b"OggS"))])
    assert problems(error) == {"form.image": "is invalid: a file of type image/* is needed"}
    with pytest.raises(InvalidInput):
        signature("album").from_form([("title", "t"), ("other", "x")])
    with pytest.raises(UnsupportedMediaType, match="text/plain"):
        signature("add").from_raw(b"x", "text/plain")


def test_answers_are_checked_against_their_hint() -> None:
    assert signature("add").to_json(Item(name="a")) == b'{"name":"a","price":1.0}'
    assert signature("add").to_json({"name": "a"}) == b'{"name":"a","price":1.0}'
    assert signature("embed").to_json(np.ones((1, 2), dtype=np.float32)) == b"[[1.0,1.0]]"
    assert signature("mixed").to_json({"n": np.int64(3), "a": [np.float32(1)]}) == b'{"n":3,"a":[1.0]}'
    assert signature("tokens").to_json("a") == b'"a"'
    for name, wrong in [("add", {"nam": "secret"}), ("embed", ["secret"]), ("tokens", 1), ("mixed", {"a": object()})]:
        with pytest.raises(BadAnswer) as error:
            signature(name).to_json(wrong)
        assert f"Everything.{name}" in error.value.cause
        assert "secret" not in error.value.cause


def test_files_and_bytes_are_answered_as_they_are() -> None:
    assert signature("look").to_body(kaon.Image(PNG)) == ("image/png", PNG)
    assert signature("blob").to_body(b"hi") == ("application/octet-stream", b"hi")
    assert signature("blob").from_raw(b"hi", "application/octet-stream") == {"content": b"hi"}
    assert signature("add").to_body(Item(name="a"))[0] == "application/json"


def test_rows_are_counted_and_must_agree() -> None:
    embed = signature("embed")
    assert embed.rows({"texts": ["a", "b"], "weights": [1.0, 2.0]}) == 2
    with pytest.raises(InvalidInput, match="one length in texts, weights"):
        embed.rows({"texts": ["a"], "weights": []})


ANY_TEXT = st.text(st.characters() | st.sampled_from(["\ud800", "\udfff"]))
NAMES = st.sampled_from(["user_id", "k", "tag", "colour", "size", "since", "deep"])
SCALARS = st.none() | st.integers() | st.text()
ANY_JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(st.lists(st.tuples(NAMES | ANY_TEXT, ANY_TEXT)))
@settings(max_examples=300, deadline=None)
def test_a_query_of_any_text_is_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    try:
        arguments = signature("find").from_query(pairs)
    except InvalidInput as refused:
        arguments = {"user_id": len(refused.errors)}
        refused.problem_json()
    assert isinstance(arguments["user_id"], int)
    assert arguments["user_id"] or ("user_id" in dict(pairs))


@given(st.binary() | ANY_JSON.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=300, deadline=None)
def test_a_body_of_any_bytes_is_read_or_refused(body: bytes) -> None:
    for name in ("mixed", "add", "array", "look", "embed"):
        wanted = {p.name for p in signature(name).parameters if p.required}
        try:
            arguments = signature(name).from_json(body)
        except InvalidInput as refused:
            arguments = dict.fromkeys(wanted if refused.errors else ())
        assert wanted <= arguments.keys()


@given(
    st.builds(Item, name=st.text(st.characters(codec="utf-8")), price=st.floats(allow_nan=False, allow_infinity=False))
)
def test_a_model_survives_the_way_out_and_in(item: Item) -> None:
    add = signature("add")
    assert add.from_json(add.to_json(item)) == {"item": item}
    assert add.from_answer(*add.to_body(item)) == item


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), min_size=1))
def test_an_array_survives_the_way_in(rows: list[tuple[int, int]]) -> None:
    read = signature("array").from_json(json.dumps({"pixels": rows}).encode())["pixels"]
    assert read.tolist() == [list(row) for row in rows]


class Odd:
    pass


def _with(function: Any, **options: Any) -> Any:
    return kaon.service(type("Bad", (), {"f": kaon.endpoint(**options)(function)}))


def test_what_cannot_come_over_the_wire_is_refused_where_it_is_written() -> None:
    def odd(self: Any, value: Odd) -> None: ...
    def model_in_query(self: Any, item: Item) -> None: ...
    def positional(self: Any, *values: int) -> None: ...
    def unresolved(self: Any, value: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
    def no_rows(self: Any, text: str) -> list[str]: ...
    def no_list(self: Any, texts: list[str]) -> int: ...
    def stream(self: Any, texts: list[str]) -> Iterator[str]:
        yield ""

    for function, options, said in [
        (odd, {}, "is Odd, which cannot be sent as JSON"),
        (model_in_query, {"method": "GET"}, "which a query cannot hold"),
        (positional, {}, "which has no name for callers"),
        (unresolved, {}, "cannot be read"),
        (no_rows, {"batch": kaon.Batch()}, "must be a list of rows"),
        (no_list, {"batch": kaon.Batch()}, "one result per row"),
        (stream, {"batch": kaon.Batch()}, "must be a list of rows"),
        (odd, {"method": "FETCH"}, "method='FETCH'"),
        (no_rows, {"path": "nowhere"}, "path='nowhere'"),
        (no_rows, {"path": "/docs"}, "documentation uses"),
        (no_rows, {"path": "/{other}"}, "has other, which is not one of its parameters"),
        (no_rows, {"examples": [{"text": 1}]}, "is invalid: body.text should be a valid string"),
    ]:
        with pytest.raises(ConfigError) as error:
            _with(function, **options)
        assert said in error.value.cause
