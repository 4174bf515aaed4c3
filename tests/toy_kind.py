"""A kind of the tests' own: this is its whole declaration."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from kaon.errors import Conflict
from kaon.types.key import Right
from kaon.types.kind import READ, Column, Filter, Form, Kind, Verb
from kaon.types.model import Model


class ToySpec(Model):
    """A desired toy."""

    colour: str = Field(default="red", max_length=20)
    maker: str = Field(default="nobody", description="Whom no view names.")


class ToyStatus(Model):
    """Its state."""

    finished: bool = False


def _admit(name: str, spec: Any, current: Any) -> None:
    if current is not None and current.colour == "black" != spec.colour:
        raise Conflict("What is black stays black.", hint="Delete it, and make another.")


KIND = Kind(
    name="toy",
    plural="toys",
    short=("plaything",),
    summary="Something to play with.",
    spec=ToySpec,
    status=ToyStatus,
    rights={**READ, Verb.PUT: Right.WRITE, Verb.DELETE: Right.WRITE},
    hidden=frozenset({"spec.maker"}),
    columns=(
        Column("name", lambda toy: toy.name),
        Column("colour", lambda toy: toy.spec.colour),
        Column("finished", lambda toy: "yes" if toy.status.finished else "no", wide=True),
        Column("age", lambda toy: toy.created_at, Form.AGE),
    ),
    filters=(Filter("colour", lambda toy: toy.spec.colour, "Only of this colour."),),
    most=50,
    admit=_admit,
)
