"""What a change of a resource would change, as lines that people read; and a deployment's spec put in place."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kaon.api.views import DeploymentView
from kaon.cli.shared.notes import ask, note
from kaon.cli.shared.remote import Remote
from kaon.cli.shared.text import json_safe, plain
from kaon.errors import InvalidInput
from kaon.types.deployment import DeploymentSpec, Scaling
from kaon.types.model import from_request

M = TypeVar("M", bound=BaseModel)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DIGEST_SHOWN = len("sha256:") + 12


def lines(before: BaseModel | None, after: BaseModel | None) -> list[str]:
    """One line for each value that is added (+), removed (-) or changed (~), by its path. Pure.

    Of a new or deleted resource only values other than the default are listed.
    """
    whole = before is not None and after is not None
    old, new = _flat(before, whole=whole), _flat(after, whole=whole)
    found = []
    for path in sorted(old.keys() | new.keys()):
        if path not in old:
            found.append(f"+ {path}: {_text(new[path])}")
        elif path not in new:
            found.append(f"- {path}: {_text(old[path])}")
        elif old[path] != new[path]:
            found.append(f"~ {path}: {_text(old[path])} -> {_text(new[path])}")
    return found


def summary(kind: str, name: str, before: BaseModel | None, after: BaseModel | None) -> str:
    """The change of one resource under its name. Pure."""
    found = lines(before, after)
    verb = "create" if before is None else "delete" if after is None else "change" if found else "no change of"
    return "\n".join(plain(line) for line in [f"{verb} {kind} {name}", *(f"  {line}" for line in found)])


def valid_spec(members: Mapping[str, Any]) -> DeploymentSpec:
    """A spec from plain values. Raises `InvalidInput` that lists every invalid field."""
    try:
        return from_request(DeploymentSpec, members)
    except ValidationError as error:
        raise InvalidInput("The deployment is not valid.", errors=field_errors(error)) from None


def request_of(model: type[M], **members: object) -> M:
    """A request from a command's options. Raises `InvalidInput` that lists every invalid field."""
    try:
        return from_request(model, members)
    except ValidationError as error:
        raise InvalidInput("The options are not valid.", errors=field_errors(error)) from None


def field_errors(error: ValidationError, *under: str) -> list[dict[str, str]]:
    """The invalid fields with their messages, as `KaonError.errors`; `under` is the path above them."""
    return [
        {
            "where": ".".join(map(str, (*under, *entry["loc"]))),
            "message": entry["msg"].removeprefix("Value error, "),
        }
        for entry in error.errors()
    ]


def put_spec(remote: Remote, name: str, current: DeploymentView | None, after: DeploymentSpec) -> DeploymentView:
    """Replace the `current` deployment, after printing what changes. Raises `Conflict` when it changed meanwhile."""
    note(summary("deployment", name, current.spec if current else None, after))
    return remote.put_deployment(name, after, current)


def ask_before_zero(name: str, before: Scaling, after: Scaling, *, yes: bool) -> None:
    """Ask for a confirmation when the deployment may have no replica from now on."""
    if after.max == 0 and before.max > 0:
        ask(f"Switch '{name}' off, so that all calls are refused?", yes=yes)
    elif after.min == 0 and before.min > 0:
        ask(f"Let '{name}' scale to zero replicas while there are no calls?", yes=yes)


def _flat(model: BaseModel | None, *, whole: bool) -> dict[str, Any]:
    if model is None:
        return {}
    found: dict[str, Any] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, below in value.items():
                walk(f"{path}.{name}" if path else name, below)
        else:
            found[path] = value

    walk("", model.model_dump(mode="json", exclude_defaults=not whole))
    return found


def _text(value: Any) -> str:
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return value[:_DIGEST_SHOWN]
    return value if isinstance(value, str) and value else json_safe(json.dumps(value, ensure_ascii=False))
