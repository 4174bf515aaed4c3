"""Values that no manifest may hold, one field at a time: where, and what."""

from __future__ import annotations

import math
from typing import Any

from kaon.types.artifact import Manifest
from kaon.types.service import Batch, EndpointSpec, ServiceSpec, SettingSpec

Place = tuple[str | int, ...]

_NUMBERS: tuple[Any, ...] = (math.nan, math.inf, -math.inf, -100.0, 1e300, -0.5)
_ENDPOINT: dict[str, tuple[Any, ...]] = {
    "name": ("", "a b", "x" * 200, "a/b"),
    "method": ("", "get", "G" * 40, "GET /"),
    "path": ("", "a", "/a b", "/" + "a" * 600, "/{", "/}", "/a//b", "/.*\n", "/\u00e9", "/{1}", "/a?b", "/%2f"),
    "kind": ("nothing",),
    "summary": ("x" * 20_000,),
    "timeout_s": (*_NUMBERS, 0),
    "concurrency": (0, -1, 10**12),
    "hedge_s": (*_NUMBERS, 0),
    "media_type": ("text/plain\r\nx: y", "x" * 400),
    "max_message_bytes": (0, -1, 10**12),
    "max_body_bytes": (0, -1, 10**12),
}
_BATCH: dict[str, tuple[Any, ...]] = {
    "max_size": (0, -1, 10**12),
    "max_wait_s": _NUMBERS,
    "latency_s": (*_NUMBERS, 0),
}
_SERVICE: dict[str, tuple[Any, ...]] = {
    "name": ("", "a b", "../a", "x" * 200),
    "entry": ("", "module", "a b:C", "m:" + "C" * 2000),
    "summary": ("x" * 20_000,),
    "mounts": (("ui",), ("/ui/",), ("/u{x}",), tuple(f"/{n}" for n in range(100)), ("/" + "a" * 600,)),
    "requirements": (("x" * 2000,), ("x",) * 2000),
    "loop": ("other",),
    "openapi": ({"x": math.nan}, {"x": [{"y": -math.inf}]}),
}
_RESOURCES: dict[str, tuple[Any, ...]] = {
    "cpus": (*_NUMBERS, 0),
    "memory_bytes": (0, -1, 10**30),
    "gpus": (-1, 10**9),
}
_OBJECTIVE: dict[str, tuple[Any, ...]] = {
    "latency_s": (*_NUMBERS, 0),
    "quantile": (math.nan, math.inf, 0, 1, -1),
    "completion": (math.nan, math.inf, 0, 1, -1),
    "deadline_s": (math.nan, math.inf, 0, -1, 1e300),
    "utilisation": ((math.nan, 0.5), (0.5, math.inf), (0.9, 0.1)),
}
_SETTING: dict[str, tuple[Any, ...]] = {
    "name": ("", "A=B", "1A", "x" * 200, "a\nb"),
    "type": ("x" * 20_000,),
    "default": ("x" * 20_000,),
}
_MANIFEST: dict[str, tuple[Any, ...]] = {
    "kaon": ("x" * 100,),
    "python": ("", "three", "3.11.7.1", "../3"),
    "lock": ("x", "0" * 65, "../../lock"),
}

_AT: tuple[tuple[Place, dict[str, tuple[Any, ...]]], ...] = (
    ((), _MANIFEST),
    (("service",), _SERVICE),
    (("service", "endpoints", 0), _ENDPOINT),
    (("service", "endpoints", 0, "batch"), _BATCH),
    (("service", "settings", 0), _SETTING),
    (("service", "resources"), _RESOURCES),
    (("service", "objective"), _OBJECTIVE),
)

BAD: list[tuple[Place, Any]] = [
    ((*place, field), value) for place, fields in _AT for field, values in fields.items() for value in values
]
"""Where in a manifest, and what cannot be there."""

BAD += [
    (("service", "endpoints"), ({"name": "a", "method": "GET", "path": "/a"},) * 300),
    (("service", "settings"), ({"name": "A", "required": True},) * 300),
]


def named(case: tuple[Place, Any]) -> str:
    """A short name of a case, for a test's id."""
    place, value = case
    return f"{'.'.join(map(str, place))}={str(value)[:20]!a}"


def good() -> dict[str, Any]:
    """A manifest with something in each of these places."""
    service = ServiceSpec(
        name="shop",
        entry="shop:Shop",
        endpoints=(EndpointSpec(name="embed", method="POST", path="/embed", idempotent=True, batch=Batch()),),
        settings=(SettingSpec(name="TOKEN", required=True),),
    )
    return Manifest(kaon="0", python="3.11", service=service, files=()).model_dump()


def spoilt(place: Place, value: Any) -> dict[str, Any]:
    """The good manifest but for one value."""
    manifest = good()
    at: Any = manifest
    for part in place[:-1]:
        at[part] = list(at[part]) if isinstance(at[part], tuple) else at[part]
        at = at[part]
    at[place[-1]] = value
    return manifest
