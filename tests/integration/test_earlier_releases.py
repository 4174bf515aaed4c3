"""What earlier releases stored and sent is read by today's code; `tests.fixtures.record` writes it at a release."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import tests.fixtures.record as recorded
from tests.samples import PARTS

from kaon.types.plan import Plan, Report
from kaon.types.resource import Unreadable
from kaon.version import __version__

RELEASES = sorted(path for path in recorded.HERE.iterdir() if (path / "kaon.sql").exists())


def missing(meant: Any, found: Any, at: str = "") -> list[str]:
    """Where `found` differs from what is expected. It may have more."""
    match meant, found:
        case dict(), dict():
            return [p for key in meant for p in missing(meant[key], found.get(key, "nothing"), f"{at}/{key}")]
        case list(), list() if len(meant) == len(found):
            return [p for n, (a, b) in enumerate(zip(meant, found, strict=True)) for p in missing(a, b, f"{at}/{n}")]
        case _:
            return [] if meant == found else [f"{at}: {meant!r} became {found!r}"]


def said(value: Plan | Report) -> dict[str, Any]:
    """What a value says; of a plan also in the form that it had before it was in parts."""
    flat = value.flat().model_dump(mode="json") if isinstance(value, Plan) else {}
    return flat | value.model_dump(mode="json")


def with_flat_form(status: dict[str, Any]) -> dict[str, Any]:
    """A deployment's status, also in the form that it had before each controller had a part of its own."""
    rollout, scaling = status["rollout"], status["scaling"]
    return status | rollout | {"wanted": scaling["wanted"], "wanted_reason": scaling["reason"]}


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
async def test_a_database_of_an_earlier_release_is_read_whole(tmp_path: Path, release: Path) -> None:
    path = tmp_path / "kaon.db"
    with sqlite3.connect(path) as database:
        database.executescript((release / "kaon.sql").read_text("utf-8"))
    meant = json.loads((release / "expected.json").read_text("utf-8"))
    async with recorded.opened(path) as store:
        unreadable: list[Unreadable] = []
        for kind in PARTS:
            await store.list_all(kind, unreadable=unreadable)
        assert unreadable == []
        found = await recorded.contents(store)
        for row, resource in zip(found["plan"], await store.list_all("plan"), strict=True):
            row["spec"]["plan"] = said(resource.spec.plan)
        for row in found["deployment"]:
            row["status"] = with_flat_form(row["status"])
            row["spec"]["scaling"]["law"] = "kaon"  # the only law that is left, and is not named any more
        assert missing(meant, found) == []


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
@pytest.mark.parametrize(("name", "model"), [("plan", Plan), ("report", Report)])
def test_what_an_earlier_release_said_is_understood(release: Path, name: str, model: type[Plan | Report]) -> None:
    text = (release / f"{name}.json").read_text("utf-8")
    assert missing(json.loads(text), said(model.model_validate_json(text))) == []


def test_this_release_is_recorded() -> None:
    assert __version__ in {path.name for path in RELEASES}, "make it: python -m tests.fixtures.record"
