"""`PATH=VALUE`: any field of a deployment's spec, by its path. Pure.

The field's type decides how a value is read: `scaling.keep_alive_s=5m`, `template.resources.memory_bytes=512MiB`,
`rollout.canary.steps=[5, 50]` (JSON for lists and objects), `public=true`, `objective=none`.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from kaon.cli.shared.text import bytes_of, plain, seconds
from kaon.errors import InvalidInput, did_you_mean
from kaon.types.deployment import DeploymentSpec
from kaon.types.model import from_request
from kaon.types.service import ServiceSpec

_SET_BY = {"template.artifact": "the build", "template.restarted_at": "kaon rollout restart"}


def assign(
    members: Mapping[str, Any],
    texts: Iterable[str],
    defaults: Mapping[str, Any] | None = None,
    model: type[BaseModel] = DeploymentSpec,
) -> Any:
    """`members` of a `model` (plain values) with every 'PATH=VALUE' applied. Raises `InvalidInput` that names the path.

    `defaults` (`class_defaults`) are the values of parts that the spec does not have: setting one number of an
    objective keeps the other numbers of the class's objective.
    """
    spec = dict(members)
    for text in texts:
        path, separator, value = text.partition("=")
        names = path.strip().split(".")
        if not separator:
            raise InvalidInput(f"{plain(text)} has no '='.", hint="Write it as PATH=VALUE.")
        if setter := _SET_BY.get(".".join(names)):
            raise InvalidInput(f"{plain(path)} cannot be set by hand: {setter} sets it.")
        spec = _with_value(spec, model, names, value.strip(), path, defaults or {})
    return spec


def check(texts: Iterable[str]) -> None:
    """Raise `InvalidInput` for a 'PATH=VALUE' that no deployment can have."""
    assign({}, texts)


def class_defaults(service: ServiceSpec) -> dict[str, Any]:
    """The values that a class gives to parts of its deployment's spec."""
    return {
        "objective": service.objective.model_dump(),
        "template": {"resources": service.resources.model_dump()},
    }


def _with_value(
    members: Mapping[str, Any],
    model: type[BaseModel],
    names: list[str],
    text: str,
    path: str,
    defaults: Mapping[str, Any],
) -> dict[str, Any]:
    name, *below = names
    field = model.model_fields.get(name)
    if field is None:
        hint = did_you_mean(name, model.model_fields) or f"Fields: {', '.join(model.model_fields)}."
        raise InvalidInput(f"{plain(path)}: field '{plain(name)}' does not exist.", hint=hint.strip())
    annotation = field.rebuild_annotation()
    if not below:
        return {**members, name: _parsed(annotation, name, text, path)}
    part = model_of(annotation)
    current = members.get(name)
    if part is not None:
        base = defaults.get(name, {}) if current is None else current
        return {**members, name: _with_value(base, part, below, text, path, defaults.get(name) or {})}
    if get_origin(annotation) is dict and len(below) == 1:
        key_type, value_type = get_args(annotation)
        key = _parsed(key_type, "", below[0], path)
        return {**members, name: {**(current or {}), key: _parsed(value_type, "", text, path)}}
    raise InvalidInput(f"{plain(path)}: '{plain(name)}' has no fields.", hint=f"Write {name}=VALUE.")


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The model of a field's value, if it is one."""
    choices = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    models = [c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)]
    return models[0] if models else None


def _parsed(annotation: Any, name: str, text: str, path: str) -> Any:
    """The value of a field of this type, as plain values."""
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    reason = ""
    for value in _candidates(name, text):
        try:
            return adapter.dump_python(from_request(adapter, value))
        except ValidationError as error:
            reason = reason or error.errors()[0]["msg"]
    raise InvalidInput(
        f"{plain(path)}: {plain(text)!r} is not valid: {plain(reason)}.",
        hint="See the current values: kaon get deployment NAME -o yaml",
    )


def _candidates(name: str, text: str) -> Iterator[Any]:
    """Values that a text may mean, the likeliest first."""
    for suffix, parse in (("_s", seconds), ("_bytes", bytes_of)):
        if name.endswith(suffix) and text[-1:].isalpha() and text != "none":
            try:
                yield parse(text)
            except InvalidInput:
                pass
    if text == "none":
        yield None
    try:
        yield json.loads(text)
    except (ValueError, RecursionError):
        pass
    yield text
