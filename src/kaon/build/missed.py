"""Says of a file that a service misses that it was left out when the artifact was built, and by which rule.

The manifest carries the rules that were obeyed, and not the names of what they left out: an ignored file on somebody's
disk must not make another artifact of equal sources.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from kaon.build import ignore
from kaon.build.limits import MANIFEST
from kaon.types.artifact import IgnoreFile, Manifest

_NAMES = re.compile(r"'([^'\n]{1,400})'|\"([^\"\n]{1,400})\"|([\w./~+-]{1,400}\.\w{1,20})\b")
_NAMES_MAX, _CAUSES_MAX, _TEXT_MAX = 20, 10, 4_000


def reason(path: str, ignored: Sequence[IgnoreFile]) -> str:
    """Why `path`, which is relative to the sources, was left out; empty: it was not. Innermost rules decide; pure."""
    parts = path.split("/")
    for count in range(1, len(parts) + 1):
        here, is_folder = "/".join(parts[:count]), count < len(parts)
        if parts[count - 1].startswith("."):
            return "it is hidden"
        for file in sorted(ignored, key=lambda file: len(file.folder) - len(file.below), reverse=True):
            if not here.startswith(file.folder):
                continue
            rules = [rule for line, text in file.lines if (rule := ignore.rule(text.encode(), line))]
            found = ignore.deciding(rules, file.relative(here).encode(errors="surrogateescape"), is_folder)
            if found is not None and not found.includes:
                return f"{file.name} line {found.line}: {found.text}"
            if found is not None:
                break
    return ""


def explanation(error: BaseException, code_dir: Path) -> str:
    """A sentence on what `error` misses among the sources in `code_dir`; empty when it misses nothing that is known."""
    manifest = _manifest(code_dir)
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and len(causes) < _CAUSES_MAX:
        causes.append(cause)
    if manifest is None:
        return ""
    return explained("\n".join(_said(cause) for cause in causes), code_dir, manifest.ignored)


def explained(text: str, code_dir: Path, ignored: Sequence[IgnoreFile]) -> str:
    """The same for the text of an error: of each name in it that could be a file that is not there."""
    for path in _paths(text[:_TEXT_MAX], code_dir):
        why = "" if (code_dir / path).exists() else reason(path, ignored)
        if why:
            return f"{path} was left out of the artifact when it was built ({why}). Pack it: --include {path}"
    return ""


def _said(error: BaseException) -> str:
    if isinstance(error, OSError) and isinstance(error.filename, (str, os.PathLike)):
        return f"'{os.fspath(error.filename)}'"
    return str(error)[:_TEXT_MAX]


def _paths(text: str, code_dir: Path) -> Iterator[str]:
    """What may be paths in a text, relative to `code_dir`; names of modules as their files."""
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
    """Of the artifact that `code_dir` is the sources of; None when they are a folder of somebody who develops."""
    try:
        return Manifest.model_validate_json((code_dir.parent / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
