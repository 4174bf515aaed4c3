"""Every attack that the page on security names has a test, and the test is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/security.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| attack")]


@pytest.mark.parametrize("row", ROWS, ids=[row.split("|")[1].strip()[:60] for row in ROWS])
def test_what_holds_an_attack_is_tested_by_tests_that_are_there(row: str) -> None:
    _, _, holds, tests, _ = re.split(r"(?<!\\)\|", row)
    assert holds.strip()
    for part in tests.split(";"):
        file, *names = re.findall(r"`([^`]+)`", part)
        text = (ROOT / file).read_text(encoding="utf-8")
        for name in names:
            assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), f"{file} has no {name}"
