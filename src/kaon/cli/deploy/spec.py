"""A deployment's spec from the options of `deploy`. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from kaon.build.build import Built
from kaon.cli.shared import assignments
from kaon.cli.shared.replica_bounds import ReplicaBounds, with_bounds
from kaon.cli.shared.settings import check_settings, without
from kaon.cli.shared.spec_changes import valid_spec
from kaon.cli.shared.text import plain
from kaon.errors import InvalidInput
from kaon.laws.datasets import reference
from kaon.types.deployment import Canary, DeploymentSpec, Scaling, Template
from kaon.types.model import from_request


@dataclass(frozen=True)
class DeployOptions:
    """The options of `deploy`; None: unchanged."""

    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    scale: ReplicaBounds = field(default_factory=ReplicaBounds)
    datasets: Mapping[str, str] = field(default_factory=dict)
    """Name in the service -> reference, like 'shop-model@prod'; empty: removed."""
    public: bool | None = None
    unset: Sequence[str] = ()
    """Names of settings and secrets to remove."""
    sets: Sequence[str] = ()
    canary: str = ""
    step_s: float | None = None
    shadow: float | None = None


def check(current: DeploymentSpec | None, options: DeployOptions) -> None:
    """Raise `InvalidInput` for options that are wrong whatever the build gives."""
    assignments.check(options.sets)
    if options.canary or options.step_s is not None:
        canary_rules(options.canary, options.step_s, current.rollout.canary if current else None)
    with_bounds(current.scaling if current else Scaling(), options.scale)
    without({"env": {}, "secrets": {}} if current is None else current.template.model_dump(), options.unset)
    if options.shadow is not None and current is None:
        raise InvalidInput("--shadow needs an existing deployment.", hint="Deploy without --shadow first.")


def merged(
    current: DeploymentSpec | None, artifact: Built, options: DeployOptions, *, base: DeploymentSpec | None = None
) -> DeploymentSpec:
    """The spec `base`, by default the current one, with the given options. Raises `InvalidInput`."""
    base = base or current or DeploymentSpec(template=Template(artifact=artifact.digest))
    changes: dict[str, Any] = {
        "template": with_variables(base.template.model_dump(), options)
        | {"artifact": artifact.digest, "datasets": _mounts(base.template, options.datasets)},
        "scaling": with_bounds(base.scaling, options.scale).model_dump(),
    }
    if options.public is not None:
        changes["public"] = options.public
    if options.canary or options.step_s is not None:
        rules = canary_rules(options.canary, options.step_s, base.rollout.canary)
        changes["rollout"] = base.rollout.model_dump() | {"canary": rules.model_dump() if rules else None}
    if options.shadow is not None:
        changes = as_shadow(current, changes, options.shadow)
    defaults = assignments.class_defaults(artifact.manifest.service)
    after = valid_spec(assignments.assign(base.model_dump() | changes, options.sets, defaults))
    check_settings(artifact.manifest.service, after.shadow.template if after.shadow else after.template)
    return after


def _mounts(template: Template, given: Mapping[str, str]) -> dict[str, Any]:
    """The datasets of a template, with the given ones set or removed. Raises `InvalidInput`."""
    found = {name: mount.model_dump() for name, mount in template.datasets.items()}
    for name, ref in given.items():
        own = name.lower().replace("_", "-")
        if ref:
            found[own] = {"ref": str(reference(ref))}
        elif found.pop(own, None) is None:
            raise InvalidInput(
                f"--dataset {plain(name)}=: it has no such dataset.",
                hint=f"It has: {', '.join(found) or 'none'}.",
            )
    return found


def with_variables(template: Mapping[str, Any], options: DeployOptions) -> dict[str, Any]:
    """A template's members with the settings and secrets of the options. Raises `InvalidInput`."""
    left = without(template, options.unset)
    env = {name: value for name, value in left["env"].items() if name not in options.secrets}
    secrets = {name: value for name, value in left["secrets"].items() if name not in options.env}
    return left | {"env": env | dict(options.env), "secrets": secrets | dict(options.secrets)}


def canary_rules(steps: str, step_s: float | None, base: Canary | None) -> Canary | None:
    """The rules of '5,25,50', None for 'off'; `base` has values that are not given. Raises `InvalidInput`."""
    if steps == "off":
        return None
    changes: dict[str, object] = {} if step_s is None else {"step_s": step_s}
    try:
        if steps:
            changes["steps"] = [int(part) for part in steps.replace("%", "").split(",")]
        return from_request(Canary, (base or Canary()).model_dump() | changes)
    except (ValueError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "the steps are not numbers"
        raise InvalidInput(
            f"--canary {plain(steps)}: {reason}.", hint="Per cent of the calls, rising: --canary 5,25,50"
        ) from None


def as_shadow(current: DeploymentSpec | None, changes: dict[str, Any], percent: float) -> dict[str, Any]:
    """The changes with the new template as a shadow; the current one still serves. Raises `InvalidInput`."""
    if current is None:
        raise InvalidInput("--shadow needs an existing deployment.", hint="Deploy without --shadow first.")
    template = current.template.model_dump()
    return changes | {"template": template, "shadow": {"template": changes["template"], "percent": percent}}
