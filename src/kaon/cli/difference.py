"""What a change would change, as lines that people read. Pure."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from kaon.cli.text import json_safe, plain


def lines(before: BaseModel | None, after: BaseModel | None) -> list[str]:
    """One line for each value that is added (+), removed (-) or another (~), by its place.

    Of something new or gone, only what is not the default.
    """
    whole = before is not None and after is not None
    old, new = _flat(before, whole=whole), _flat(after, whole=whole)
    found = []
    for place in sorted(old.keys() | new.keys()):
        if place not in old:
            found.append(f"+ {place}: {_said(new[place])}")
        elif place not in new:
            found.append(f"- {place}: {_said(old[place])}")
        elif old[place] != new[place]:
            found.append(f"~ {place}: {_said(old[place])} -> {_said(new[place])}")
    return found


def told(kind: str, name: str, before: BaseModel | None, after: BaseModel | None) -> str:
    """The change of one thing under its name."""
    found = lines(before, after)
    verb = "create" if before is None else "delete" if after is None else "change" if found else "no change of"
    return "\n".join(plain(line) for line in [f"{verb} {kind} {name}", *(f"  {line}" for line in found)])


def _flat(model: BaseModel | None, *, whole: bool) -> dict[str, Any]:
    if model is None:
        return {}
    found: dict[str, Any] = {}

    def walk(place: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, below in value.items():
                walk(f"{place}.{name}" if place else name, below)
        else:
            found[place] = value

    walk("", model.model_dump(mode="json", exclude_defaults=not whole))
    return found


def _said(value: Any) -> str:
    return value if isinstance(value, str) and value else json_safe(json.dumps(value, ensure_ascii=False))
