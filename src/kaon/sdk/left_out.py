"""Explains a missing file by the rule that left it out of the artifact.

The manifest holds the rules that applied instead of the names of the files that they excluded: ignored files on a disk
must not change the artifact of equal sources.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from kaon.sdk import ignore
from kaon.types.artifact import MANIFEST, IgnoreFile, Manifest

_NAMES = re.compile(r"'([^'\n]{1,400})'|\"([^\"\n]{1,400})\"|([\w./~+-]{1,400}\.\w{1,20})\b")
_NAMES_MAX, _CAUSES_MAX, _TEXT_MAX = 20, 10, 4_000


def reason(path: str, ignored: Sequence[IgnoreFile]) -> str:
    """Why `path`, relative to the sources, was left out; empty when it was not. The innermost rule decides. Pure."""
    parts = path.split("/")
    for count in range(1, len(parts) + 1):
        here, is_folder = "/".join(parts[:count]), count < len(parts)
        if parts[count - 1].startswith("."):
            return "it is hidden"
        for file in sorted(ignored, key=lambda file: len(file.folder) - len(file.below), reverse=True):
            if not here.startswith(file.folder):
                continue
            rules = [found for line, text in file.lines if (found := ignore.rule(text.encode(), line))]
            rule = ignore.deciding(rules, file.relative(here).encode(errors="surrogateescape"), is_folder)
            if rule is not None and not rule.includes:
                return f"{file.name} line {rule.line}: {rule.text}"
            if rule is not None:
                break
    return ""


def explanation(error: BaseException, code_dir: Path) -> str:
    """A sentence about the file in `code_dir` that `error` lacks because it was left out; empty when there is none."""
    manifest = _manifest(code_dir)
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and len(causes) < _CAUSES_MAX:
        causes.append(cause)
    if manifest is None:
        return ""
    return explain_text("\n".join(_text(cause) for cause in causes), code_dir, manifest.ignored)


def explain_text(text: str, code_dir: Path, ignored: Sequence[IgnoreFile]) -> str:
    """The same for the text of an error, by the names of missing files in it."""
    for path in _paths(text[:_TEXT_MAX], code_dir):
        why = "" if (code_dir / path).exists() else reason(path, ignored)
        if why:
            return f"{path} was left out of the artifact when it was built ({why}). To pack it: --include {path}"
    return ""


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and isinstance(error.filename, (str, os.PathLike)):
        return f"'{os.fspath(error.filename)}'"
    return str(error)[:_TEXT_MAX]


def _paths(text: str, code_dir: Path) -> Iterator[str]:
    """Possible paths in a text, relative to `code_dir`; module names as their files."""
    for match in list(_NAMES.finditer(text))[:_NAMES_MAX]:
        name = next(filter(None, match.groups()))
        path = os.path.relpath(os.path.join(code_dir, name), code_dir)
        if path.startswith("..") or path == ".":
            continue
        yield path
        if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name):
            yield name.replace(".", "/") + ".py"


@lru_cache(maxsize=1)
def _manifest(code_dir: Path) -> Manifest | None:
    """The manifest of the artifact whose sources are `code_dir`; None for a development folder."""
    try:
        return Manifest.model_validate_json((code_dir.parent / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
