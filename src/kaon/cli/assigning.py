"""`PATH=VALUE`: any field of a deployment's spec, by its place. Pure.

The field's type decides how a value is read: `scaling.keep_alive_s=5m`, `template.resources.memory_bytes=512MiB`,
`rollout.canary.steps=[5, 50]` (JSON for what has parts), `public=true`, `objective=none`.
"""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterable, Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from kaon.cli.text import bytes_of, plain, seconds
from kaon.errors import InvalidInput
from kaon.types.deployment import DeploymentSpec
from kaon.types.model import from_request
from kaon.types.service import ServiceSpec

_MADE_BY = {"template.artifact": "the build", "template.restarted_at": "kaon rollout restart"}

_AS_IT_IS = "See the fields as they are: kaon get deployment NAME -o yaml"


def assigned(
    members: Mapping[str, Any],
    texts: Iterable[str],
    inherited: Mapping[str, Any] | None = None,
    model: type[BaseModel] = DeploymentSpec,
) -> Any:
    """`members` of a `model` (plain values) with every 'PATH=VALUE' put in. Raises `InvalidInput` that names the place.

    `inherited` has what a part begins from where the spec has none (`as_the_class_says`): an objective changed in
    one number keeps the class's others.
    """
    spec = dict(members)
    for text in texts:
        path, separator, value = text.partition("=")
        names = path.strip().split(".")
        if not separator:
            raise InvalidInput(f"{plain(text)} has no '='.", hint="Write it as PATH=VALUE.")
        if maker := _MADE_BY.get(".".join(names)):
            raise InvalidInput(f"{plain(path)} is not set by hand: {maker} does it.")
        spec = _put(spec, model, names, value.strip(), path, inherited or {})
    return spec


def as_the_class_says(service: ServiceSpec) -> dict[str, Any]:
    """What parts of a deployment's spec begin from where it has none."""
    return {
        "objective": service.objective.model_dump(),
        "template": {"resources": service.resources.model_dump()},
    }


def _put(
    members: Mapping[str, Any],
    model: type[BaseModel],
    names: list[str],
    text: str,
    path: str,
    inherited: Mapping[str, Any],
) -> dict[str, Any]:
    name, *below = names
    field = model.model_fields.get(name)
    if field is None:
        near = difflib.get_close_matches(name, model.model_fields, 1)
        hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(model.model_fields)}."
        raise InvalidInput(f"{plain(path)}: there is no '{plain(name)}'.", hint=hint)
    annotation = field.rebuild_annotation()
    if not below:
        return {**members, name: _read(annotation, name, text, path)}
    part = _part(annotation)
    current = members.get(name)
    if part is not None:
        begun = inherited.get(name, {}) if current is None else current
        return {**members, name: _put(begun, part, below, text, path, inherited.get(name) or {})}
    if get_origin(annotation) is dict and len(below) == 1:
        key_type, value_type = get_args(annotation)
        key = _read(key_type, "", below[0], path)
        return {**members, name: {**(current or {}), key: _read(value_type, "", text, path)}}
    raise InvalidInput(f"{plain(path)}: '{plain(name)}' has no parts.", hint=f"Write {name}=VALUE.")


def _part(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, if it holds one."""
    choices = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    models = [c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)]
    return models[0] if models else None


def _read(annotation: Any, name: str, text: str, path: str) -> Any:
    """The value that `text` stands for in a field of this type, as plain values."""
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    said = ""
    for value in _readings(name, text):
        try:
            return adapter.dump_python(from_request(adapter, value))
        except ValidationError as error:
            said = said or error.errors()[0]["msg"]
    raise InvalidInput(f"{plain(path)}: {plain(text)!r} will not do: {plain(said)}.", hint=_AS_IT_IS)


def _readings(name: str, text: str) -> Iterable[Any]:
    """What a text may stand for, the likeliest first."""
    if name.endswith("_s") and text[-1:].isalpha() and text != "none":
        try:
            yield seconds(text)
        except InvalidInput:
            pass
    if name.endswith("_bytes") and text[-1:].isalpha() and text != "none":
        try:
            yield bytes_of(text)
        except InvalidInput:
            pass
    if text == "none":
        yield None
    try:
        yield json.loads(text)
    except (ValueError, RecursionError):
        pass
    yield text
