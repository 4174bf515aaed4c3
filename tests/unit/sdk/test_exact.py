"""The cheap look at answers: it may say no to what is right, never yes to what is wrong."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, TypeAdapter, computed_field

from kaon.sdk.exact import exact_check


class Item(BaseModel):
    text: str
    n: int = 1


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int


class Counted(BaseModel):
    n: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return "not a number"  # type: ignore[return-value]


class Written(BaseModel):
    n: Annotated[int, PlainSerializer(lambda _: "not a number", return_type=int)]


def changed(**fields: Any) -> Item:
    item = Item(text="a")
    for name, value in fields.items():
        setattr(item, name, value)
    return item


@pytest.mark.parametrize(
    ("hint", "answer", "exact"),
    [
        (str, "a", True),
        (str, 1, False),
        (int, True, False),
        (Annotated[int, Field(gt=0)], 3, True),
        (Item, Item(text="a"), True),
        (Item, changed(n="two"), False),
        (Item, changed(n=True), False),
        (Item, {"text": "a", "n": 1}, False),
        (Item, Item.model_construct(text="a"), True),
        (Item, Item.model_construct(n=1), False),
    ],
)
def test_only_what_is_surely_right_passes(hint: Any, answer: Any, exact: bool) -> None:
    check = exact_check(TypeAdapter(hint).core_schema)
    assert check is not None
    assert check(answer) is exact


@pytest.mark.parametrize("hint", [Open, Counted, Written, list[int], dict[str, int], int | None, Any, None])
def test_what_types_do_not_prove_is_left_to_the_serializer(hint: Any) -> None:
    assert exact_check(TypeAdapter(hint).core_schema) is None
