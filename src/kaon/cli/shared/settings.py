"""A deployment's variables against the settings that its class declares. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from kaon.cli.shared.text import plain
from kaon.errors import InvalidInput, did_you_mean
from kaon.types.dataset import variable_of
from kaon.types.deployment import Template
from kaon.types.service import DATABASE_VARIABLE, ServiceSpec, SettingSpec

_SCALARS: dict[str, TypeAdapter[Any]] = {type_.__name__: TypeAdapter(type_) for type_ in (int, float, bool)}


def check_settings(service: ServiceSpec, template: Template | None) -> None:
    """Raise `InvalidInput` that lists settings that are missing, not valid, or nearly have the name of another."""
    if template is None:
        return
    given = template.env.keys() | template.secrets.keys() | {variable_of(name) for name in template.datasets}
    if service.state == "database":
        given |= {DATABASE_VARIABLE}  # by default SQLite in its folder
    problems = {s.name: f"required setting ({s.type}) is missing" for s in service.settings if s.required}
    problems = {name: problem for name, problem in problems.items() if name not in given}
    problems |= {s.name: reason for s in service.settings if (reason := _wrong(s, template.env.get(s.name)))}
    declared = {s.name for s in service.settings}
    for name in sorted(given - declared):
        if near := did_you_mean(name, declared - given):
            problems[name] = f"`{service.name}` has no such setting. {near.strip()}"
    if problems:
        raise InvalidInput(
            f"The settings of `{service.name}` are not valid.",
            hint="Set one: --env NAME=VALUE, --secret NAME=SECRET, or --dataset NAME=DATASET; remove one: --unset NAME",
            errors=[{"where": name, "message": problem} for name, problem in problems.items()],
        )


def without(template: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """A template's members without some settings and secrets. Raises `InvalidInput` for one that is not set."""
    found = {**template, "env": dict(template["env"]), "secrets": dict(template["secrets"])}
    for name in names:
        if name not in found["env"] and name not in found["secrets"]:
            known = [*found["env"], *found["secrets"]]
            hint = did_you_mean(name, known) or f"Set are: {', '.join(known) or 'none'}."
            raise InvalidInput(f"--unset {plain(name)}: it is not set.", hint=hint.strip())
        found["env"].pop(name, None)
        found["secrets"].pop(name, None)
    return found


def _wrong(setting: SettingSpec, text: str | None) -> str:
    """Why the text is not a value of the setting, where its type is a simple one; else empty."""
    if text is None or setting.type not in _SCALARS:
        return ""
    try:
        _SCALARS[setting.type].validate_strings(text)
    except ValidationError as error:
        return f"{text!r} is not valid: {error.errors()[0]['msg']}"
    return ""
