"""Building and uploading artifacts, with progress."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from kaon.api.views import DeploymentView
from kaon.build import build as builder
from kaon.build.build import Built
from kaon.build.limits import LOCK
from kaon.build.marks import name_of_service
from kaon.build.sources import Target, find_target
from kaon.cli.shared.notes import note
from kaon.cli.shared.progress import ProgressLine
from kaon.cli.shared.remote import Remote
from kaon.cli.shared.text import size
from kaon.settings import Settings
from kaon.types.artifact import Consent

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_LEFT_OUT_SHOWN = 10


def build(
    target: str,
    folder: Path,
    out: Path,
    *,
    env: Mapping[str, str] = MappingProxyType({}),
    include: Sequence[str] = (),
    allow: Sequence[Consent] = (),
) -> Built:
    """Build an artifact; list the files that are left out, and a changed lock file."""
    environments = Settings().home / "agent" / "environments"
    with note_changed_lock(find_target(target, folder)), ProgressLine() as progress:
        artifact = builder.build(
            target,
            folder=folder,
            environments=environments,
            out=out,
            env=env,
            include=include,
            allow=allow,
            on_progress=lambda step: progress.show("Building", step),
        )
    if artifact.left_out:
        note(_left_out(artifact))
    return artifact


def upload(remote: Remote, artifact: Built) -> None:
    """Upload an artifact."""
    with ProgressLine() as progress:
        progress.show("Uploading", size(artifact.size_bytes))
        remote.upload(artifact.path, lambda _: None)


def current_deployment(remote: Remote, target: str, name: str) -> DeploymentView | None:
    """The deployment of a class before its build, by `name` or, when that is empty, the name of the class."""
    name = name or name_of_service(find_target(target, Path.cwd()))
    return remote.find_deployment(name) if _NAME.fullmatch(name) else None


@contextmanager
def note_changed_lock(target: Target) -> Iterator[None]:
    """Print a note when the project's lock file changes."""
    lock = target.project / LOCK
    before = lock.read_bytes() if lock.is_file() else b""
    try:
        yield
    finally:
        after = lock.read_bytes() if lock.is_file() else b""
        if after != before:
            note(f"Wrote {lock}: commit it, so that every build gets the same versions.")


def _left_out(artifact: Built) -> str:
    """The first files that a build left out, with reasons."""
    shown = [f"left out: {left.path} ({left.reason})" for left in artifact.left_out[:_LEFT_OUT_SHOWN]]
    more = len(artifact.left_out) - len(shown)
    shown += [f"left out: {more} more"] if more else []
    return "\n".join([*shown, "          To pack a file that the service needs: --include PATH"])
