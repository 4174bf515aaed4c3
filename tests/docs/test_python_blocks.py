"""Every Python block of README, tutorials and guides runs, page by page, as a reader would type it."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .blocks import ROOT, blocks, pages

PAGES = pages("README.md", "docs/tutorial/*.md", "docs/how-to/*.md", "docs/explanation/*.md")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_of_the_page_runs(page: Path, folder: Path) -> None:
    for block in (b for b in blocks(page) if b.language == "python" and not b.needs_platform):
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
            importlib.invalidate_caches()
        code = compile("\n" * (block.line - 1) + block.text, str(page), "exec", dont_inherit=True)
        namespace = {"__name__": f"block_at_line_{block.line}"}
        module = type(sys)(namespace["__name__"])
        sys.modules[module.__name__] = module  # classes look their module up for type hints
        try:
            exec(code, module.__dict__)
        finally:
            del sys.modules[module.__name__]


def test_the_pages_have_python_to_run() -> None:
    assert sum(b.language == "python" for page in PAGES for b in blocks(page)) >= 8
