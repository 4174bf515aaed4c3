"""From sources to a deployment that answers: build, bring, put, wait, and say how to call it."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from kaon.api.views import DeploymentView
from kaon.build.build import Built, build
from kaon.build.limits import LOCK
from kaon.build.marks import name_of_service
from kaon.build.sources import Target, find_target
from kaon.cli import assigning, bounds, contexts, difference, rollouts, shapes
from kaon.cli.notes import note
from kaon.cli.output import Format, put, put_one
from kaon.cli.progress import Progress
from kaon.cli.remote import Remote
from kaon.cli.text import plain, size
from kaon.cli.waiting import awaits_promotion, until_rolled_out
from kaon.errors import InvalidInput
from kaon.settings import Settings
from kaon.types.artifact import Consent, Manifest
from kaon.types.deployment import DeploymentSpec, Template
from kaon.types.model import from_request

SpecChange = Callable[[DeploymentSpec | None], DeploymentSpec]
"""From a spec as it is, or none, to the one that is wanted."""

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_LEFT_OUT_SHOWN = 10
_LEFT_OUT_HINT = "          What the service needs of it: --include PATH"
_SHELL_SAFE_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]/~-]+")


@dataclass(frozen=True)
class DeployOptions:
    """What the command line names of a deployment; None: as it is."""

    env: Mapping[str, str]
    secrets: Mapping[str, str]
    scale: bounds.ReplicaBounds
    public: bool | None = None
    sets: Sequence[str] = ()
    canary: str = ""
    step_s: float | None = None
    shadow: float | None = None


def merged(current: DeploymentSpec | None, artifact: Built, wishes: DeployOptions) -> DeploymentSpec:
    """The spec that keeps what was not named. Raises `InvalidInput`; pure."""
    base = current or DeploymentSpec(template=Template(artifact=artifact.digest))
    env = {name: value for name, value in base.template.env.items() if name not in wishes.secrets}
    secrets = {name: value for name, value in base.template.secrets.items() if name not in wishes.env}
    template = base.template.model_dump() | {
        "artifact": artifact.digest,
        "env": env | dict(wishes.env),
        "secrets": secrets | dict(wishes.secrets),
    }
    changes: dict[str, Any] = {"template": template, "scaling": bounds.wished(base.scaling, wishes.scale).model_dump()}
    if wishes.public is not None:
        changes["public"] = wishes.public
    if wishes.canary or wishes.step_s is not None:
        rules = rollouts.canary(wishes.canary, wishes.step_s, base.rollout.canary)
        changes["rollout"] = base.rollout.model_dump() | {"canary": rules.model_dump() if rules else None}
    if wishes.shadow is not None:
        changes = rollouts.as_shadow(current, changes, wishes.shadow)
    inherited = assigning.as_the_class_says(artifact.manifest.service)
    return valid_spec(assigning.assigned(base.model_dump() | changes, wishes.sets, inherited))


def valid_spec(members: Mapping[str, Any]) -> DeploymentSpec:
    """A spec from plain values. Raises `InvalidInput` that names every place."""
    try:
        return from_request(DeploymentSpec, members)
    except ValidationError as error:
        raise InvalidInput(
            "The deployment is not valid.",
            errors=[
                {"where": ".".join(map(str, e["loc"])), "message": e["msg"].removeprefix("Value error, ")}
                for e in error.errors()
            ],
        ) from None


def built(
    target: str,
    folder: Path,
    out: Path,
    *,
    env: Mapping[str, str] = MappingProxyType({}),
    include: Sequence[str] = (),
    allow: Sequence[Consent] = (),
) -> Built:
    """Build with progress, telling of a lock that it leaves in the project, and of what is left out."""
    environments = Settings().home / "agent" / "environments"
    with telling_of_a_lock(find_target(target, folder)), Progress() as progress:
        artifact = build(
            target,
            folder=folder,
            environments=environments,
            out=out,
            env=env,
            include=include,
            allow=allow,
            on_progress=lambda what: progress.say("Building", what),
        )
    if artifact.left_out:
        note(left_out(artifact))
    return artifact


def variables(remote: Remote, target: str, name: str, env: Mapping[str, str]) -> dict[str, str]:
    """The variables that a deployment will have, for the module to see while it is read: those that it has, and `env`.

    `name` is the deployment's; empty: as the class says.
    """
    name = name or name_of_service(find_target(target, Path.cwd()))
    current = remote.find_deployment(name) if _NAME.fullmatch(name) else None
    return (current.spec.template.env if current else {}) | dict(env)


def left_out(artifact: Built) -> str:
    """What a build left out, with reasons, a few of many; pure."""
    shown = [f"left out: {left.path} ({left.reason})" for left in artifact.left_out[:_LEFT_OUT_SHOWN]]
    more = len(artifact.left_out) - len(shown)
    return "\n".join([*shown, *([f"left out: {more} more"] if more else []), _LEFT_OUT_HINT])


@contextmanager
def telling_of_a_lock(target: Target) -> Iterator[None]:
    """Say so when the project's lock is another at the end."""
    lock = target.project / LOCK
    before = lock.read_bytes() if lock.is_file() else b""
    try:
        yield
    finally:
        after = lock.read_bytes() if lock.is_file() else b""
        if after != before:
            note(f"Wrote {lock}: keep it with the sources, and every build gets the same versions.")


def bring(remote: Remote, artifact: Built) -> None:
    """Upload an artifact, with progress."""
    with Progress() as progress:
        progress.say("Uploading", size(artifact.size_bytes))
        remote.upload(artifact.path, lambda _: None)


def preview(remote: Remote, name: str, change: SpecChange) -> None:
    """Print what would change."""
    current = remote.find_deployment(name)
    before = current.spec if current else None
    put(difference.told("deployment", name, before, change(before)))


def put_told(remote: Remote, name: str, current: DeploymentView | None, after: DeploymentSpec) -> DeploymentView:
    """Put a deployment in place of the `current` one, telling what changes. Raises `Conflict` when that is another."""
    note(difference.told("deployment", name, current.spec if current else None, after))
    return remote.put_deployment(name, after, current)


def finish(remote: Remote, view: DeploymentView, manifest: Manifest, wait_s: float | None, form: Format) -> None:
    """Wait for the rollout, unless `wait_s` is None, and print the deployment as it is then."""
    if wait_s is not None:
        view = until_rolled_out(remote, view.name, wait_s)
    if form is not Format.TABLE:
        put_one(view, shapes.of("deployment", time.time()), form)
    elif wait_s is None:
        put(f"{plain(view.name)}: {view.state}. Watch it: kaon rollout status {plain(view.name)}")
    else:
        put(how_to_call(view, manifest))
    if view.spec.shadow:
        note(
            f"A new revision gets copies of {view.spec.shadow.percent:g} % of the calls: kaon rollout diff {view.name}"
        )
    if awaits_promotion(view):
        note(f"Its canary has passed all steps and waits: kaon rollout promote {view.name}")
    if view.spec.paused:
        note(f"Its rollouts are held: what serves, serves on. Let them go on: kaon rollout resume {view.name}")


def how_to_call(view: DeploymentView, manifest: Manifest) -> str:
    """Where it answers, and a curl line that works when pasted; pure but for the name of the key's file."""
    lines = [f"{view.name} answers at {view.url}"]
    sample = _curl(manifest.service.openapi)
    if sample and _SHELL_SAFE_URL.fullmatch(view.url):
        sample = sample.replace("$KAON_URL", view.url).replace("$KAON_KEY", _key_text())
        lines += ["", plain(sample, keep="\n")]
    if not view.spec.public:
        lines += ["", f"It is closed: callers need a key. Make one: {_key_command(view)}"]
    return "\n".join(lines)


def _curl(openapi: Mapping[str, Any]) -> str:
    """The curl sample of the first endpoint that has one."""
    for path in openapi.get("paths", {}).values():
        for operation in path.values():
            for code in operation.get("x-codeSamples", []):
                if code.get("label") == "curl":
                    return str(code["source"])
    return ""


def _key_text() -> str:
    """What stands for the key in a shell: never the key itself, which would stay in the shell's history."""
    if os.environ.get("KAON_KEY"):
        return "$KAON_KEY"
    file = contexts.in_use().key_file or str(Settings().admin_key_file)
    return f"$(cat {shlex.quote(file)})"


def _key_command(view: DeploymentView) -> str:
    apart = "" if view.workspace == contexts.in_use().workspace else f" -w {view.workspace}"
    return f"kaon key create NAME --role caller --deployment {view.name}{apart}"
