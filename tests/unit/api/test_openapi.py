from __future__ import annotations

import json
from pathlib import Path

from kaon.api.app import ROUTES
from kaon.api.openapi import text

COMMITTED = Path(__file__).parents[3] / "docs" / "reference" / "openapi.json"
MADE = json.loads(COMMITTED.read_text(encoding="utf-8"))


def test_the_committed_document_is_fresh() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == text(ROUTES), "run: make openapi"


def test_every_operation_has_a_right_and_a_description() -> None:
    for path, item in MADE["paths"].items():
        for method, operation in item.items():
            assert operation["x-kaon-right"], f"{method} {path}"
            assert operation["description"], f"{method} {path}"
            assert bool(operation.get("security")) == (operation["x-kaon-right"] != "all")


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for item in MADE["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))


def test_every_reference_leads_somewhere() -> None:
    names = set(MADE["components"]["schemas"])
    for part in COMMITTED.read_text(encoding="utf-8").split('"#/components/schemas/')[1:]:
        assert part.split('"')[0] in names
