"""Whatever module, class or file of Kaon the documentation names exists."""

import importlib
import re
from pathlib import Path

import pytest

import kaon

ROOT = Path(kaon.__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGES = {path.name for path in Path(kaon.__file__).parent.iterdir() if (path / "__init__.py").exists()}
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts and "decisions" not in page.parts),
    *sorted((DOCS / "explanation").glob("structure*.svg")),
]
"""All but decisions, which name what there was."""
_NAME = re.compile(r"(?<![\w/.@-])((?:kaon\.)?(?:[a-z_]+\.)+\w+)(?![\w/-])")
_NOT_MODULES = {"kaon.yaml", "kaon.db", "kaon.pot", "kaon.toml", "agent.key", "agent.lock", "agent.log", "edge.lock"}
_NOT_MODULES |= {"control.sock", "control.key", "client.py"}


def exists(name: str) -> bool:
    """Whether `kaon.a.b.C.d` can be imported or is an attribute of what can."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[end:]:
            if attribute in getattr(found, "model_fields", {}) or attribute in getattr(found, "__annotations__", {}):
                return True
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


def named(text: str) -> set[str]:
    """Dotted names of Kaon's own modules, with or without `kaon.` before them; code blocks are tests of their own."""
    prose = re.sub(r"(?ms)^ *```(?!\{).*?^ *```$", "", text)
    names = {match.group(1).rstrip(".") for match in _NAME.finditer(prose)} - _NOT_MODULES
    names = {name for name in names if not re.search(r"\.(md|json|toml|yaml|txt|py|sock|log|key)$", name)}
    whole = {name for name in names if name.startswith("kaon.")}
    return whole | {f"kaon.{name}" for name in names if name.split(".")[0] in PACKAGES - {"build", "client", "api"}}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    assert sorted(name for name in named(page.read_text(encoding="utf-8")) if not exists(name)) == []


def test_a_module_that_is_gone_would_be_found() -> None:
    assert named("`control.minds` and `kaon.laws.scale`") == {"kaon.control.minds", "kaon.laws.scale"}
    assert not exists("kaon.control.minds")
    assert exists("kaon.laws.scale")
