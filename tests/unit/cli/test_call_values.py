"""Arguments of a call, from what is typed."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any, Literal

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kaon
from kaon.cli.call import values
from kaon.client.operation import Operation, operations
from kaon.errors import InvalidInput
from kaon.sdk.service import service_of


class Colour(enum.StrEnum):
    RED = "red"


class Item(pydantic.BaseModel):
    name: str
    count: int = 0


@kaon.service
class Api:
    @kaon.endpoint
    def take(
        self,
        text: str = "",
        maybe: str | None = None,
        colour: Colour = Colour.RED,
        word: Literal["a", "1"] = "a",
        n: int = 0,
        x: float = 0.0,
        flag: bool = False,
        tags: list[str] = [],  # noqa: B006 - never changed
        numbers: list[int] = [],  # noqa: B006
        item: Item | None = None,
        either: int | str = 0,
        anything: Any = None,
        picture: kaon.Image | None = None,
    ) -> str:
        return text

    @kaon.endpoint
    def add(self, item: Item) -> str:
        return item.name

    @kaon.endpoint
    def raw(self, audio: kaon.File) -> int:
        return len(audio)

    @kaon.endpoint(method="GET", path="/items/{item_id}")
    def find(self, item_id: str, deep: bool = False, tag: list[str] = []) -> str:  # noqa: B006
        return item_id


OPERATIONS = operations(service_of(Api).openapi())
TAKE = OPERATIONS["take"]


def read(*texts: str, of: Operation = TAKE, stdin: bytes = b"") -> dict[str, Any]:
    return values.arguments(texts, of.schemas, of.definitions, lambda: stdin)


LOOKS_LIKE_JSON = ["12345", "true", "null", "[1]", "1e5", '{"a": 1}', '"quoted"', "NaN", "hello", "", "a=b", "0123"]


@pytest.mark.parametrize("text", LOOKS_LIKE_JSON)
@pytest.mark.parametrize("name", ["text", "maybe", "colour", "word"])
def test_text_stays_text_whatever_it_looks_like(name: str, text: str) -> None:
    assert read(f"{name}={text}") == {name: text}


@given(st.text().filter(lambda text: not text.startswith("@")))
def test_any_text_arrives_as_it_was_typed(text: str) -> None:
    assert read(f"text={text}") == {"text": text}
    assert read(f"item_id={text}", of=OPERATIONS["find"]) == {"item_id": text}


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("n=5", 5),
        ("x=1e5", 1e5),
        ("x=3", 3),
        ("flag=true", True),
        ("tags=a", ["a"]),
        ("tags=5", ["5"]),
        ('tags=["a","b"]', ["a", "b"]),
        ("numbers=5", [5]),
        ("numbers=[1,2]", [1, 2]),
        ('item={"name": "a"}', {"name": "a"}),
        ("item=null", None),
        ("either=5", 5),
        ("either=five", "five"),
        ("either=true", "true"),
        ("anything=[1]", [1]),
        ("anything=word", "word"),
        ("n=five", "five"),
        ("maybe:=null", None),
        ('text:="@home"', "@home"),
        ("tags:=[1]", [1]),
        ("unknown=5", 5),
    ],
)
def test_other_values_are_read_by_the_schema(typed: str, value: Any) -> None:
    assert list(read(typed).values()) == [value]


def test_a_name_that_is_given_twice_is_a_list() -> None:
    assert read("tags=a", "tags=5") == {"tags": ["a", "5"]}
    assert read("tag=a", "tag=b", of=OPERATIONS["find"]) == {"tag": ["a", "b"]}


def test_a_body_that_is_one_model_is_given_by_fields_or_whole() -> None:
    assert read("name=5", "count=5", of=OPERATIONS["add"]) == {"name": "5", "count": 5}
    assert read('item={"name": "a"}', of=OPERATIONS["add"]) == {"item": {"name": "a"}}


def test_files_and_standard_input_are_what_the_endpoint_takes(tmp_path: Path) -> None:
    picture = b"\x89PNG\r\n\x1a\n"
    (tmp_path / "cat.png").write_bytes(picture)
    (tmp_path / "text.txt").write_text("12345\n")
    (tmp_path / "n.json").write_text("[1, 2]\n")
    assert read(f"picture=@{tmp_path}/cat.png") == {"picture": kaon.File(picture, name="cat.png")}
    assert read(f"picture={tmp_path}/cat.png") == {"picture": kaon.File(picture, name="cat.png")}, "a path is enough"
    assert read(f"audio={tmp_path}/cat.png", of=OPERATIONS["raw"]) == {"audio": kaon.File(picture, name="cat.png")}
    assert read("picture=null") == {"picture": None}
    assert read(f"text=@{tmp_path}/text.txt") == {"text": "12345\n"}
    assert read(f"numbers=@{tmp_path}/n.json") == {"numbers": [1, 2]}
    assert read("audio=@-", of=OPERATIONS["raw"], stdin=picture) == {"audio": kaon.File(picture)}
    assert read("text=@-", stdin=b"from a pipe") == {"text": "from a pipe"}


@pytest.mark.parametrize("typed", ["n", "=5", ":=5", "n:=five", "text=@/not/there", "text:={", "picture=not-there"])
def test_what_cannot_be_read_says_so(typed: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(typed)
    assert refused.value.hint


def test_bytes_that_are_no_text_are_refused_where_text_is_taken() -> None:
    with pytest.raises(InvalidInput, match="not UTF-8 text"):
        read("text=@-", stdin=b"\xff\xfe")
