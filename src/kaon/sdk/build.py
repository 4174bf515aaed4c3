"""Turns a class and its project into an artifact: collect, lock, stage, inspect, pack, and read back.

The files are copied to a stage first, and both the inspection and the archive are made from the stage: what was
looked at is what is shipped, an edit in between cannot tear it, and a file that was left out is missed now, not
when a replica starts.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kaon.errors import BuildError, InvalidInput, KaonError, TooLarge, from_problem
from kaon.sdk import archive
from kaon.sdk.environments import Environments, lock_hash
from kaon.sdk.limits import DEFAULT_LIMITS, LOCK, SOURCES, Limits
from kaon.sdk.locks import lock_for, stated_requirements
from kaon.sdk.sources import collect, find_target
from kaon.types.artifact import FileEntry, Manifest
from kaon.types.service import ServiceSpec
from kaon.version import __version__

INSPECTION_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Built:
    """An artifact on disk."""

    path: Path
    digest: str
    manifest: Manifest
    size_bytes: int


def build(
    target: str,
    *,
    folder: Path,
    environments: Path,
    out: Path,
    python: Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Built:
    """Build `target`, 'file.py:Class' relative to `folder`, into the folder `out`; equal sources, equal bytes.

    `environments` is where environments are kept, shared with the agent of this machine; `python`, when given, is
    the interpreter that reads the class in place of one from there. `on_progress` is told what goes on, in a few
    words. Raises `BuildError`, and `InvalidInput` or `NotFound` when `target` does not name a class.
    """
    found = find_target(target, folder)
    on_progress("collecting the sources")
    paths = collect(found.root, limits)
    if f"{'/'.join(found.module.split('.'))}.py" not in paths:
        raise BuildError(f"{found.file.name} itself is left out by .gitignore.", hint="Take it out of .gitignore.")
    on_progress("locking the requirements")
    requirements = stated_requirements(found)
    lock = lock_for(found, requirements)
    with tempfile.TemporaryDirectory(prefix="kaon-build-") as work:
        stage = Path(work) / "src"
        files = _stage(found.root, paths, stage, limits)
        if python is None:
            on_progress("installing the requirements")
            python = Environments(environments).ensure(lock)
        on_progress("reading the class")
        service = inspect(found.entry, stage, python).model_copy(update={"requirements": requirements})
        on_progress("packing")
        return _pack(service, files, lock, stage, out, limits)


def inspect(entry: str, folder: Path, python: Path) -> ServiceSpec:
    """What the class `entry` ('module:Class') in `folder` is, read by `python` in a process of its own.

    Raises `BuildError` with the last lines that it said when it cannot be imported.
    """
    command = [str(python), "-B", "-P", "-s", "-m", "kaon.sdk.inspection", entry, str(folder)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd=folder,
            timeout=INSPECTION_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BuildError(
            f"Importing {entry} took more than {INSPECTION_TIMEOUT_S:.0f} s.",
            hint="Load models in the constructor, not while the module is imported.",
        ) from None
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise BuildError(
            f"{entry} cannot be imported: {lines[-1] if lines else f'exit code {done.returncode}'}",
            hint=_import_hint(lines),
            errors=[{"line": line} for line in lines[-15:]],
        )
    members = json.loads(done.stdout)
    if "problem" in members:
        raise _as_build_error(from_problem(500, members["problem"]))
    return ServiceSpec.model_validate(members["service"])


def _import_hint(lines: list[str]) -> str:
    if lines and lines[-1].startswith("ModuleNotFoundError"):
        return "Name its package in @kaon.service(requirements=[...]) or requirements.txt; .gitignore may not name it."
    return "Import the module by itself to see where."


def _as_build_error(error: KaonError) -> KaonError:
    return BuildError(error.cause, hint=error.hint, errors=error.errors)


def _stage(root: Path, paths: list[str], stage: Path, limits: Limits) -> list[FileEntry]:
    """Copy the sources and describe the copies."""
    entries, left = [], limits.unpacked_bytes
    for relative in paths:
        source, copy = root / relative, stage / relative
        left -= source.stat().st_size
        if left < 0:
            raise BuildError(
                f"The sources below {root} have more than {limits.unpacked_bytes} bytes.",
                hint="Leave out what the service does not need, in .gitignore; fetch large weights at start.",
            )
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy, follow_symlinks=False)
        with copy.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        executable = bool(source.stat().st_mode & 0o100)
        size = copy.stat().st_size
        entries.append(FileEntry(path=SOURCES + relative, size_bytes=size, sha256=sha256, executable=executable))
    return entries


def _pack(service: ServiceSpec, files: list[FileEntry], lock: str, stage: Path, out: Path, limits: Limits) -> Built:
    """Write the archive to `out` under its name, which tells its digest, and read it back as a stranger would."""
    sources: dict[str, Path | bytes] = {entry.path: stage / entry.path.removeprefix(SOURCES) for entry in files}
    if lock:
        sources[LOCK] = lock.encode()
        locked = FileEntry(path=LOCK, size_bytes=len(lock.encode()), sha256=lock_hash(lock))
        files = [locked, *files]
    manifest = Manifest(
        kaon=__version__,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        service=service,
        files=tuple(files),
        lock=lock_hash(lock),
    )
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=out, prefix=".kaon-", delete=False) as file:
        beside = Path(file.name)
        try:
            digest = archive.pack(manifest, sources, file, limits)  # type: ignore[arg-type]
            file.flush()
            archive.read_manifest(beside, limits, digest=digest)
            path = out / f"{service.name}-{digest.removeprefix('sha256:')[:12]}.tar.gz"
            beside.chmod(0o644)
            beside.rename(path)
        except (InvalidInput, TooLarge) as error:
            raise _as_build_error(error) from None
        finally:
            beside.unlink(missing_ok=True)
    return Built(path=path, digest=digest, manifest=manifest, size_bytes=path.stat().st_size)
