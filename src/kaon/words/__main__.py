"""Writes the catalogue beside this module: `make words`."""

from __future__ import annotations

from pathlib import Path

from kaon.words import CATALOGUE
from kaon.words.catalogue import pot
from kaon.words.extract import extract

HERE = Path(__file__).parent


def sources() -> dict[str, str]:
    """The modules of Kaon by their paths, such as `kaon/api/app.py`."""
    root = HERE.parents[1]
    return {p.relative_to(root).as_posix(): p.read_text(encoding="utf-8") for p in (root / "kaon").rglob("*.py")}


if __name__ == "__main__":
    (HERE / CATALOGUE).write_text(pot(extract(sources())), encoding="utf-8")
