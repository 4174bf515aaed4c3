"""The OpenAPI documents of mounted apps (FastAPI), merged into the document of the service that mounts them.

Paths are put below the mount. Names of components and operations get the mount's name in front, since two apps may use
the same one. Each operation says by `x-mount` where it is from: clients take those of endpoints only.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

OpenApi = dict[str, Any]

_REFERENCE = re.compile(r"#/components/([A-Za-z]+)/(.+)")
_VERBS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_KINDS = ("schemas", "responses", "parameters", "examples", "requestBodies", "headers", "securitySchemes", "links")


def own_document(app: Any) -> OpenApi | None:
    """The OpenAPI 3.1 document that an app makes of itself; None without one. Raises what the app raises."""
    make = getattr(app, "openapi", None)
    made = make() if callable(make) else None
    if not isinstance(made, dict) or not isinstance(made.get("paths"), dict):
        return None
    return made if str(made.get("openapi")).startswith("3.1") else None


def merge(document: OpenApi, mount: str, own: Mapping[str, Any]) -> None:
    """Add an app's own document to the service's `document`; the app is mounted at the path `mount`."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", mount.strip("/"))
    own = _renamed(copy.deepcopy(dict(own)), f"{name}.")
    for kind in _KINDS:
        added = {f"{name}.{key}": value for key, value in own.get("components", {}).get(kind, {}).items()}
        if added:
            document["components"].setdefault(kind, {}).update(added)
    for path, item in own["paths"].items():
        for verb in _VERBS:
            if verb in item:
                item[verb] = _operation(item[verb], own.get("security"), mount, name, f"{verb} {path}")
        document["paths"][mount + path] = item


def _operation(operation: OpenApi, security: list[OpenApi] | None, mount: str, name: str, place: str) -> OpenApi:
    """An operation under its new name, which needs the deployment's key beside what the app itself requires."""
    own_id = operation.get("operationId") or re.sub(r"\W+", "_", place).strip("_")
    required = operation.get("security", security)
    return {
        **operation,
        "operationId": f"{name}.{own_id}",
        "x-mount": mount,
        **({"security": [{**each, "key": []} for each in required]} if required else {}),
    }


def _renamed(value: Any, prefix: str) -> Any:
    """The document with `prefix` in front of every name of a component that it refers to."""
    match value:
        case dict():
            changed = {key: _renamed(each, prefix) for key, each in value.items()}
            if isinstance(changed.get("$ref"), str):
                changed["$ref"] = _reference(changed["$ref"], prefix)
            if isinstance(mapping := changed.get("discriminator"), dict) and isinstance(mapping.get("mapping"), dict):
                mapping["mapping"] = {key: _reference(each, prefix) for key, each in mapping["mapping"].items()}
            if isinstance(changed.get("security"), list):
                changed["security"] = [{prefix + key: each[key] for key in each} for each in changed["security"]]
            return changed
        case list():
            return [_renamed(each, prefix) for each in value]
        case _:
            return value


def _reference(reference: str, prefix: str) -> str:
    found = _REFERENCE.fullmatch(reference)
    return f"#/components/{found[1]}/{prefix}{found[2]}" if found else reference
