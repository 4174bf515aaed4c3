"""Building and uploading artifacts, with progress."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from kaon.api.views import DeploymentView
from kaon.build import build as builder
from kaon.build import listing
from kaon.build.build import Built
from kaon.build.limits import LOCK, SOURCES, limits_of
from kaon.build.listing import Listing
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
_LARGE_BYTES = 100 * 10**6
"""The largest files of an artifact of this size are listed before it is uploaded."""
_LARGEST_SHOWN = 5
_STEPS = 20
"""Of the progress of an upload."""


def build(
    target: str,
    folder: Path,
    out: Path,
    *,
    env: Mapping[str, str] = MappingProxyType({}),
    include: Sequence[str] = (),
    allow: Sequence[Consent] = (),
    require: Sequence[str] = (),
) -> Built:
    """Build an artifact; list the files that are left out, and a changed lock file."""
    settings = Settings()
    with note_changed_lock(find_target(target, folder)), ProgressLine() as progress:
        artifact = builder.build(
            target,
            folder=folder,
            environments=settings.home / "agent" / "environments",
            out=out,
            env=env,
            include=include,
            allow=allow,
            require=require,
            limits=limits_of(settings),
            on_progress=lambda step: progress.show("Building", step),
        )
    if artifact.left_out:
        note(_left_out(artifact))
    return artifact


def list_files(target: str, folder: Path, *, include: Sequence[str] = (), allow: Sequence[Consent] = ()) -> Listing:
    """What a build would pack."""
    with ProgressLine() as progress:
        return listing.list_files(
            target,
            folder=folder,
            include=include,
            allow=allow,
            limits=limits_of(Settings()),
            on_progress=lambda step: progress.show("Listing", step),
        )


def consents(allow: Sequence[Consent] | None, allow_pickle: bool) -> tuple[Consent, ...]:
    """What the options `--allow` and `--allow-pickle` allow."""
    return (*(allow or ()), *([Consent.PICKLE] if allow_pickle else []))


def required(extras: Sequence[str] | None, groups: Sequence[str] | None) -> tuple[str, ...]:
    """What the options `--extra` and `--group` require, as lines of requirements."""
    return (*(f".[{extra}]" for extra in extras or ()), *(f"--group {group}" for group in groups or ()))


def upload(remote: Remote, artifact: Built) -> None:
    """Upload an artifact, from where an earlier upload of it stopped; show its size before."""
    total = artifact.size_bytes
    if total >= _LARGE_BYTES:
        note(size_text(artifact))

    shown = 0

    def show(sent: int) -> None:
        nonlocal shown
        if (step := sent * _STEPS // total) > shown:  # not a line for each chunk
            shown = step
            progress.show("Uploading", f"{size(sent)} of {size(total)}")

    try:
        with ProgressLine() as progress:
            progress.show("Uploading", size(total))
            remote.upload(artifact.path, artifact.digest, show)
    except KeyboardInterrupt:
        note("The upload was stopped. The same command continues it.")
        raise


def size_text(artifact: Built) -> str:
    """The size of an artifact, and the largest of its files when it is large. Pure."""
    files = artifact.manifest.files
    unpacked = sum(entry.size_bytes for entry in files)
    count = "1 file" if len(files) == 1 else f"{len(files)} files"
    summary = f"{count}, {size(unpacked)}, packed {size(artifact.size_bytes)}"
    if artifact.size_bytes < _LARGE_BYTES:
        return summary
    largest = sorted(files, key=lambda entry: entry.size_bytes, reverse=True)[:_LARGEST_SHOWN]
    return "\n".join([summary, *(f"  {size(e.size_bytes):>9}  {e.path.removeprefix(SOURCES)}" for e in largest)])


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
