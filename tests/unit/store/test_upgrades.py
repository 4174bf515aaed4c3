"""What an older Kaon stored is brought to the form of now, by functions that are registered in one place."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from pydantic import BaseModel
from tests.samples import PARTS, full

from kaon.errors import UnreadableRow
from kaon.store import open_store
from kaon.store.port import Store
from kaon.store.upgrades import UPGRADES, JsonObject, upgraded, written
from kaon.types.workspace import WorkspaceSpec

DOCUMENT = "workspace.spec"


def named(spec: JsonObject) -> JsonObject:
    """A made-up upgrade: the description was called `about`."""
    return {"description": spec["about"]}


def shouted(spec: JsonObject) -> JsonObject:
    """Another: it is in capitals."""
    return {"description": spec["description"].upper()}


@pytest.fixture
def upgrades(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(UPGRADES, DOCUMENT, (named, shouted))


def stored(path: Path, name: str) -> JsonObject:
    with sqlite3.connect(path) as database:
        ((text,),) = database.execute("SELECT spec FROM resources WHERE name = ?", (name,))
    return dict(json.loads(text))


async def opened(path: Path) -> Store:
    store = open_store(f"sqlite:///{path}")
    await store.open()
    return store


@pytest.mark.parametrize("document", UPGRADES)
def test_every_document_has_its_form_and_is_read_back(document: str) -> None:
    kind, _, part = document.partition(".")
    if kind in PARTS:
        model: type[BaseModel] = PARTS[kind][part == "status"]
        value = full(model)
        text = written(document, value.model_dump_json())
        assert json.loads(text)["schema"] == 1 + len(UPGRADES[document])
        assert model.model_validate_json(upgraded(document, text)) == value
    assert json.loads(written(document, "{}")) == {"schema": 1 + len(UPGRADES[document])}
    assert upgraded(document, written(document, "{}")) == written(document, "{}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"about": "old"}', "OLD"),
        ('{"schema": 1, "about": "old"}', "OLD"),
        ('{"about": "old", "schema": 1}', "OLD"),
        ('{"schema": 2, "description": "older"}', "OLDER"),
        ('{"schema": 3, "description": "now"}', "now"),
        ('{"schema": 4, "description": "of a newer kaon", "more": 1}', "of a newer kaon"),
        ('{"schema": 12, "description": "much newer"}', "much newer"),
    ],
)
@pytest.mark.usefixtures("upgrades")
def test_a_document_of_any_form_is_brought_to_that_of_now(text: str, told: str) -> None:
    assert WorkspaceSpec.model_validate_json(upgraded(DOCUMENT, text)).description == told


@pytest.mark.usefixtures("upgrades")
async def test_an_old_row_is_read_in_its_new_form_and_written_in_it(tmp_path: Path) -> None:
    path = tmp_path / "kaon.db"
    store = await opened(path)
    for name in ("old", "odd"):
        await store.create("workspace", "", name, WorkspaceSpec())
    with sqlite3.connect(path) as database:
        database.execute("UPDATE resources SET spec = ? WHERE name = 'old'", ('{"about": "mine"}',))
        database.execute("UPDATE resources SET spec = ? WHERE name = 'odd'", ('{"no": "such field"}',))
    old = await store.get("workspace", "", "old")
    assert old.spec == WorkspaceSpec(description="MINE")
    changed = await store.update_spec(old, WorkspaceSpec(description="yours"))
    assert stored(path, "old") == {"schema": 3, "description": "yours"}
    assert (await store.get("workspace", "", "old")).spec == changed.spec
    with pytest.raises(UnreadableRow, match="KeyError while reading"):  # what an upgrade raises is that row's matter
        await store.get("workspace", "", "odd")
    assert [w.name for w in await store.list_all("workspace")] == ["old"]
    await store.close()


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"schema": "one"}', '{"schema": 0}', '{"schema": null}'])
@pytest.mark.usefixtures("upgrades")
def test_what_is_no_document_of_a_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|object|number"):
        upgraded(DOCUMENT, text)
